export { CommandQueue } from './command-queue.ts';
export {
  invalidateAll,
  invalidateAllPages,
  invalidateCovering,
  invalidateDevtabEntry,
  invalidateExactly,
  invalidateFullRangeSplit,
} from './commands.ts';
export { DeviceTable } from './device-table.ts';
export type { AmdDevice } from './domain.ts';
export { AmdDomain } from './domain.ts';
export type { AmdEvent } from './event-log.ts';
export { DomainFlusher } from './flush.ts';
export type { AmdIommuOptions, AmdParts } from './iommu.ts';
export { AmdIommu } from './iommu.ts';
export type { AmdPreset } from './preset.ts';
export { AMD_PRESETS, amdPreset } from './preset.ts';
export type { AmdUnitScope } from './unit.ts';
export { AmdUnitDriver } from './unit.ts';
