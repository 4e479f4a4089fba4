/** Time as a parameter. Nothing below `cli/` reads the machine's clock: the same input must give the same bytes out. */
export interface Clock {
  /** Nanoseconds since an arbitrary start; never decreases. Exact below 2^53 ns (104 days). */
  nowNs(): number;
}

/** A clock that stands still until it is told to move. */
export class ManualClock implements Clock {
  #nowNs = 0;

  nowNs(): number {
    return this.#nowNs;
  }

  /** Moves to a time. An earlier time is ignored: recorded time stamps of several CPUs may step back a little. */
  advanceTo(timeNs: number): void {
    if (timeNs > this.#nowNs) this.#nowNs = timeNs;
  }

  /** Moves forward by a duration >= 0. */
  advanceBy(durationNs: number): void {
    this.advanceTo(this.#nowNs + durationNs);
  }
}
