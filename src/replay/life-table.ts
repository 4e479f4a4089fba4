/**
 * How long mappings live, counted while the trace is read: the rate at which calls of an age are unmapped. Where several calls
 * could be the one that an unmap ends, a block request mapped a millisecond ago is a better guess than a ring of the boot.
 */
import { gapOf, NR_GAPS } from './joint-odds.ts';

export class LifeTable {
  /** Ended calls by age, in the steps of `gapOf`. */
  readonly #ended: Float64Array = new Float64Array(NR_GAPS);
  #nrEnded = 0;
  /** Logarithm of the rate of each step, made anew from time to time. */
  readonly #rate: Float64Array = new Float64Array(NR_GAPS);
  #refreshAt = 1;

  /** A call ended at this age. @param nrLive how many live on */
  add(ageNs: number, nrLive: number): void {
    this.#ended[gapOf(ageNs)] += 1;
    this.#nrEnded += 1;
    if (this.#nrEnded < this.#refreshAt) return;
    this.#refreshAt = this.#nrEnded + Math.max(8, this.#nrEnded >>> 3);
    // Deaths per call that reached the step and per length of the step; steps grow by a factor of 2 in 4.
    let alive = this.#nrEnded + nrLive;
    for (let step = 0; step < NR_GAPS; step++) {
      const ended = this.#ended[step];
      this.#rate[step] = Math.log((ended + BEGIN) / (alive + 1)) - (step * Math.LN2) / 4;
      alive -= ended;
    }
  }

  /** Logarithm of the rate at which calls of this age are unmapped, in a unit of its own. */
  logRate(ageNs: number): number {
    return this.#rate[gapOf(ageNs)];
  }
}

/** What each age counts before the first sample. */
const BEGIN = 0.25;
