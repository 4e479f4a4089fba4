export type { AmdDevice, AmdEvent, AmdIommuOptions, AmdParts, AmdPreset, AmdUnitScope } from './amd/index.ts';
export {
  AMD_PRESETS,
  AmdDomain,
  AmdIommu,
  AmdUnitDriver,
  CommandQueue,
  DeviceTable,
  DomainFlusher,
  amdPreset,
  invalidateAll,
  invalidateAllPages,
  invalidateCovering,
  invalidateDevtabEntry,
  invalidateExactly,
  invalidateFullRangeSplit,
} from './amd/index.ts';
export type { MapFlush, UnmapFlush } from './flush-policy.ts';
export { MAP_FLUSHES, UNMAP_FLUSHES } from './flush-policy.ts';
export type { IntelIommuOptions, IntelParts, IntelPreset, UnitScope, VtdCaps } from './intel/index.ts';
export {
  ContextTables,
  INTEL_PRESETS,
  IntelDomain,
  IntelIommu,
  InvalidationQueue,
  Invalidator,
  VtdUnitDriver,
  intelPreset,
  psiMask,
  readCaps,
} from './intel/index.ts';
