export type { PtFormat } from './format.ts';
export {
  PROT_CACHE,
  PROT_MMIO,
  PROT_NOEXEC,
  PROT_READ,
  PROT_WRITE,
  TABLE_LG2,
  entryIndex,
  entryLg2,
  levelOfSize,
} from './format.ts';
export { AMD_V1_PGSIZES, AmdV1Format } from './fmt/amdv1.ts';
export type { SnoopRule } from './fmt/vtdss.ts';
export { VtdSsFormat, vtdPgsizeBitmap } from './fmt/vtdss.ts';
export type { PgCount } from './pgsize.ts';
export { iommuPgsize } from './pgsize.ts';
export type { MappedBytes, PageTableHooks, PageTableOptions } from './hooks.ts';
export { PageTable } from './table.ts';
export type { LeafVisitor } from './walk.ts';
export { visitLeaves } from './walk.ts';
