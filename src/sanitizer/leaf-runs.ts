/** Runs of neighbouring level 1 entries that changed alike in one store, and so are one stale value (stale-values.ts). */
import type { EntryFormat } from './entry-format.ts';
import { LEAF } from './entry-format.ts';

/** Step of a run whose words are all 0. */
export const ALL_ZERO = -1;
/** Step of an entry that is in no run. */
export const ALONE = -2;

/** What the low word of a level 1 entry grows by from entry to entry of a run. */
export function runStep(format: EntryFormat, lo: number, hi: number): number {
  if ((lo | hi) === 0) return ALL_ZERO;
  if (format.kind(lo, hi, 1) !== LEAF) return ALONE;
  return format.leafPages(lo, hi, 1) === 1 ? 4096 : 0;
}

/** Whether the entry some places behind another one goes on with its run. @param at of the entry's low word */
export function goesOn(words: Int32Array, at: number, lo: number, hi: number, step: number, nr: number): boolean {
  if (step === ALL_ZERO) return (words[at] | words[at + 1]) === 0;
  const next = words[at];
  return words[at + 1] === hi && next === ((lo + step * nr) | 0) && next >>> 0 >= lo >>> 0;
}

/**
 * Low word of a level 1 entry that lies some pages behind another one in a run (stale-values.ts): frames go on from entry to
 * entry, while pieces of one leaf, and entries that are not present, are all alike.
 */
export function runLo(format: EntryFormat, lo: number, hi: number, nrPages: number): number {
  if (nrPages === 0 || format.kind(lo, hi, 1) !== LEAF || format.leafPages(lo, hi, 1) > 1) return lo;
  return (lo + nrPages * 4096) | 0;
}
