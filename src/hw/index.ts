export type { AmdviConfig, FullAmdviConfig } from './amdvi/config.ts';
export { AMDVI_DEFAULT, AMDVI_QEMU } from './amdvi/config.ts';
export type { DeviceEntry } from './amdvi/device-table.ts';
export type { AmdviFaultRecord } from './amdvi/event-log.ts';
export type { AmdviIotlbEntry } from './amdvi/iotlb.ts';
export type { PdeEntry } from './amdvi/pde-cache.ts';
export type { AmdviInterruptKind, AmdviListener } from './amdvi/status.ts';
export { AmdviUnit } from './amdvi/unit.ts';
export type { CacheName, Explorable } from './explorable.ts';
export type { CacheGeometry, Replacement } from './tlb/geometry.ts';
export { checkGeometry } from './tlb/geometry.ts';
export type { EntryTest } from './tlb/set-cache.ts';
export {
  cacheKey,
  ENTRY_DATA,
  ENTRY_KEY,
  ENTRY_PAGE,
  HASH_MULTIPLIER,
  keyClass,
  keyPageHi,
  keyTag,
  SetCache,
  setCacheWords,
  tagSalt,
} from './tlb/set-cache.ts';
export type { FullVtdConfig, VtdConfig } from './vtd/config.ts';
export { VTD_DEFAULT, VTD_QEMU, VTD_QEMU_10 } from './vtd/config.ts';
export type { ContextEntry } from './vtd/context.ts';
export type { InterruptKind, VtdListener } from './vtd/events.ts';
export type { FaultRecord } from './vtd/fault.ts';
export type { IotlbEntry } from './vtd/iotlb.ts';
export type { StructureEntry } from './vtd/page-cache.ts';
export { ACCESS_READ, ACCESS_TRANSLATED, ACCESS_TRANSLATION_REQUEST, ACCESS_WRITE } from './vtd/translation.ts';
export { VtdUnit } from './vtd/unit.ts';
