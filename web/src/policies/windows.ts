/** How long unmapped ranges stayed reachable, as a share of all unmaps that is longer than each of some durations. */
import type { Timeline } from '../../../src/report/index.ts';
import { TimelineKind } from '../../../src/report/index.ts';

/** Steps per tenfold, from 1 µs to 100 s. */
const STEPS = 24;
const TENFOLDS = 8;
const LEAST = 1e-6;

/** Durations in milliseconds at which the shares are taken. */
export const DURATIONS_MS: readonly number[] = Array.from(
  { length: STEPS * TENFOLDS + 1 },
  (_, i) => LEAST * 1e3 * 10 ** (i / STEPS),
);

const UNMAP: number = TimelineKind.unmap;
const known = new WeakMap<Timeline, readonly number[]>();

/** Percent of the unmaps whose window was longer than each duration; all 0 without a window. */
export function longerThan(timeline: Timeline): readonly number[] {
  const before = known.get(timeline);
  if (before !== undefined) return before;
  const { kind, time, windowEnd, length } = timeline;
  // By the largest duration that a window exceeds.
  const counts = new Uint32Array(DURATIONS_MS.length);
  let nrUnmaps = 0;
  for (let i = 0; i < length; i++) {
    if (kind[i] !== UNMAP) continue;
    nrUnmaps += 1;
    const seconds = windowEnd[i] - time[i];
    if (seconds > LEAST) counts[stepOf(seconds)] += 1;
  }
  const shares: number[] = [];
  let longer = 0;
  for (let step = counts.length - 1; step >= 0; step--) {
    longer += counts[step];
    shares[step] = nrUnmaps === 0 ? 0 : (100 * longer) / nrUnmaps;
  }
  known.set(timeline, shares);
  return shares;
}

function stepOf(seconds: number): number {
  return Math.min(DURATIONS_MS.length - 1, Math.max(0, Math.ceil(Math.log10(seconds / LEAST) * STEPS) - 1));
}
