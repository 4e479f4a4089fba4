/** All mutants by number, and the bugs of the catalogue that none stands for. */
import { AMD_RANGE_MUTANTS } from './amd-ranges.ts';
import { ATS_MUTANTS } from './ats.ts';
import { ATTACH_MUTANTS } from './attach.ts';
import { CORE_MUTANTS } from './core.ts';
import { DMA_MUTANTS } from './dma.ts';
import { MAP_FLUSH_MUTANTS } from './map-flush.ts';
import type { Mutant } from './mutant.ts';
import { PSI_MUTANTS } from './psi.ts';
import { QUEUE_MUTANTS } from './queue.ts';
import { TABLE_MUTANTS } from './tables.ts';
import { UNIT_MUTANTS } from './units.ts';

/** Number of a bug in the catalogue: an id without its letter. */
export function bugOf(id: string): number {
  return Number.parseInt(id, 10);
}

export const MUTANTS: readonly Mutant[] = [
  ...MAP_FLUSH_MUTANTS,
  ...AMD_RANGE_MUTANTS,
  ...PSI_MUTANTS,
  ...TABLE_MUTANTS,
  ...CORE_MUTANTS,
  ...ATTACH_MUTANTS,
  ...QUEUE_MUTANTS,
  ...UNIT_MUTANTS,
  ...ATS_MUTANTS,
  ...DMA_MUTANTS,
].sort((a, b) => bugOf(a.id) - bugOf(b.id) || (a.id < b.id ? -1 : 1));

/** Bugs of the catalogue (1 to NR_BUGS) without a mutant. */
export const NR_BUGS = 33;
export const LEFT_OUT: readonly { readonly bug: number; readonly title: string; readonly why: string }[] = [
  {
    bug: 24,
    title: 'qi_batch of a nested parent is NULL: a crash in cache_tag_flush_range_np',
    why: 'no driver here has nested domains, nor a batch that belongs to a domain',
  },
  {
    bug: 27,
    title: 'the teardown of a PASID flushes the wrong cache, and no device TLB of that PASID',
    why: 'no unit or driver here has PASIDs (scalable mode)',
  },
];
