export type { IntelIommuOptions, IntelPreset, MapFlush, UnitScope, UnmapFlush, VtdCaps } from './intel/index.ts';
export {
  INTEL_PRESETS,
  IntelDomain,
  IntelIommu,
  InvalidationQueue,
  MAP_FLUSHES,
  UNMAP_FLUSHES,
  VtdUnitDriver,
  intelPreset,
  psiMask,
  readCaps,
} from './intel/index.ts';
