export type { AmdDevice, AmdEvent, AmdIommuOptions, AmdPreset, AmdUnitScope } from './amd/index.ts';
export {
  AMD_PRESETS,
  AmdDomain,
  AmdIommu,
  AmdUnitDriver,
  CommandQueue,
  DeviceTable,
  amdPreset,
  invalidateCovering,
  invalidateExactly,
  invalidateFullRangeSplit,
} from './amd/index.ts';
export type { MapFlush, UnmapFlush } from './flush-policy.ts';
export { MAP_FLUSHES, UNMAP_FLUSHES } from './flush-policy.ts';
export type { IntelIommuOptions, IntelPreset, UnitScope, VtdCaps } from './intel/index.ts';
export {
  INTEL_PRESETS,
  IntelDomain,
  IntelIommu,
  InvalidationQueue,
  VtdUnitDriver,
  intelPreset,
  psiMask,
  readCaps,
} from './intel/index.ts';
