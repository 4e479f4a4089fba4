/**
 * Durations in logarithmic buckets, for percentiles of any number of samples in fixed memory. A percentile is exact to
 * 1/64 of its value; the maximum is exact.
 */
const STEPS = 64;
const OCTAVES = 54;

export class Histogram {
  readonly #counts: Float64Array = new Float64Array(OCTAVES * STEPS);
  #nr = 0;
  #max = 0;

  /** Adds a duration in nanoseconds, >= 0. */
  add(ns: number): void {
    this.#nr += 1;
    if (ns > this.#max) this.#max = ns;
    this.#counts[bucketOf(ns)] += 1;
  }

  get count(): number {
    return this.#nr;
  }

  get max(): number {
    return this.#max;
  }

  /** The value that a share of the samples does not exceed, rounded up to its bucket's end; 0 without samples. */
  percentile(share: number): number {
    let left = Math.ceil(share * this.#nr);
    if (left === 0) return 0;
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      left -= this.#counts[bucket];
      if (left <= 0) return Math.min(this.#max, endOf(bucket));
    }
    return this.#max;
  }
}

function bucketOf(ns: number): number {
  if (ns < STEPS) return Math.floor(ns);
  const octave = Math.floor(Math.log2(ns));
  const base = 2 ** octave;
  return (octave - 5) * STEPS + Math.min(STEPS - 1, Math.floor(((ns - base) / base) * STEPS));
}

function endOf(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const octave = Math.floor(bucket / STEPS) + 5;
  return 2 ** octave * (1 + ((bucket % STEPS) + 1) / STEPS);
}
