/** How long unmapped ranges stayed reachable: for each of some durations, the share of all unmaps whose window was that long. */
import type { Timeline } from '../../../src/report/index.ts';
import { TimelineKind } from '../../../src/report/index.ts';

/**
 * Durations are 2^e * (1 + m/8), eight in each doubling: the exponent and the first three bits of the mantissa of a 32-bit float, so
 * that the step of a duration is a shift of its bits. A logarithm per unmap would take ten times as long.
 */
const SHIFT = 20;
const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

function stepOf(seconds: number): number {
  float[0] = seconds;
  return bits[0] >>> SHIFT;
}

function durationOf(step: number): number {
  bits[0] = step << SHIFT;
  return float[0];
}

/** From about 1 µs to about 100 s; what is shorter counts as no window, what is longer as the longest. */
const FIRST: number = stepOf(1e-6);
const LAST: number = stepOf(100);

/** Durations in milliseconds at which the shares are taken. */
export const DURATIONS_MS: readonly number[] = Array.from(
  { length: LAST - FIRST + 1 },
  (_, i) => durationOf(FIRST + i) * 1e3,
);

const UNMAP: number = TimelineKind.unmap;
const known = new WeakMap<Timeline, readonly number[]>();

/** Percent of the unmaps whose window was at least each duration; all 0 without a window. */
export function atLeast(timeline: Timeline): readonly number[] {
  const before = known.get(timeline);
  if (before !== undefined) return before;
  const { kind, time, windowEnd, length } = timeline;
  const counts = new Uint32Array(DURATIONS_MS.length);
  let nrUnmaps = 0;
  for (let i = 0; i < length; i++) {
    if (kind[i] !== UNMAP) continue;
    nrUnmaps += 1;
    const step = stepOf(windowEnd[i] - time[i]);
    if (step >= FIRST) counts[Math.min(step, LAST) - FIRST] += 1;
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
