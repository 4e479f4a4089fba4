/**
 * Whether a domain unmaps strictly or lazily, and since when, as its addresses show it. Within the flush queue's time a strict
 * domain hands out what was unmapped last, and a lazy one hands out anything else. A domain may go from strict to lazy once
 * (an administrator writes DMA-FQ to its group's type); the way back needs a new domain. Of all such histories the one that
 * contradicts the fewest observations is taken.
 */

/** What a change costs, in observations: one alone may be wrong. */
const CHANGE_COST = 1.5;
/** What an observation counts when the unmap may have been another domain's. */
const UNCERTAIN = 0.25;
/** Observations that count for how sure one is at the moment, and the log odds of one. */
const MOST_SURE = 3;
const LOG_ODDS = 2;

export class UnmapMode {
  /** Observations against: always strict; the best history that is lazy now. */
  #againstStrict = 0;
  #againstLazy = 0;
  /** The first event that the history that is lazy now takes for lazy. */
  #lazyFrom = 0;
  nrObserved = 0;
  /** Of the unmaps since the last observation: the longest time without one, and the event that ended it. */
  #lastNs = -Infinity;
  #pauseNs = -1;
  #pauseEnd = Infinity;

  /** Logarithms of how likely the domain is to be strict and lazy now. */
  logStrict: number = -Math.LN2;
  logLazy: number = -Math.LN2;

  /** Whether lazy is not less likely than strict. */
  get seemsLazy(): boolean {
    return this.#againstLazy <= this.#againstStrict;
  }

  /** The first event at which the domain was lazy: Infinity if it never was; NaN when nothing tells. */
  get lazyFrom(): number {
    if (this.#againstLazy === this.#againstStrict) return NaN;
    return this.#againstLazy < this.#againstStrict ? this.#lazyFrom : Infinity;
  }

  /** Share of the observations that contradict the history taken: those of another domain, when attribution went wrong. */
  get contradicted(): number {
    const against = Math.min(this.#againstStrict, this.#againstLazy - CHANGE_COST);
    return this.nrObserved === 0 ? 0 : Math.max(0, against) / this.nrObserved;
  }

  /** An unmap. */
  unmapped(event: number, timeNs: number): void {
    if (timeNs - this.#lastNs > this.#pauseNs) {
      this.#pauseNs = timeNs - this.#lastNs;
      this.#pauseEnd = event;
    }
    this.#lastNs = timeNs;
  }

  /** What an unmap freed was handed out again before a flush queue would have flushed. @param isCertain see Unmapped */
  reused(event: number, isCertain: boolean): void {
    this.#observe(event, 0, isCertain ? 1 : UNCERTAIN);
  }

  /** What an unmap freed was not handed out although it was next. */
  passedOver(event: number, isCertain: boolean): void {
    this.#observe(event, isCertain ? 1 : UNCERTAIN, 0);
  }

  #observe(event: number, againstStrict: number, againstLazy: number): void {
    if (this.#againstStrict + CHANGE_COST < this.#againstLazy) {
      // The change is as likely to fall into a moment as into another, so most likely into the longest pause.
      this.#againstLazy = this.#againstStrict + CHANGE_COST;
      this.#lazyFrom = Math.min(this.#pauseEnd, event);
    }
    this.#againstStrict += againstStrict;
    this.#againstLazy += againstLazy;
    this.nrObserved += 1;
    this.#pauseNs = -1;
    const sure = Math.max(-MOST_SURE, Math.min(MOST_SURE, this.#againstLazy - this.#againstStrict));
    this.logStrict = -Math.log1p(Math.exp(-LOG_ODDS * sure));
    this.logLazy = -Math.log1p(Math.exp(LOG_ODDS * sure));
  }
}
