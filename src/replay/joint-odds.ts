/**
 * How likely two neighbouring map events are to be one map_sg. A joint is the place between two events of one context of
 * which the second begins where the first ends, without being its physical continuation. Nothing in it is measured in advance:
 * all likelihoods are counted while the trace is read, from joints that later events decided.
 *
 * What tells joined from separate:
 * - the time between the two: between two calls lie an allocation, a return to the driver and, in caching mode, a flush;
 * - where it is long all the same (an interrupt, a preempted virtual CPU), whether the joints next to it are tight;
 * - how the context's earlier joints turned out: a task mostly talks to one device, and drivers that map pages one by one do so
 *   always;
 * - novelty of the second address: Linux allocates from the top down and reuses what was freed, so a second call lies above the
 *   first only where something was unmapped before.
 */

/** How new the second event's address is. Later ones are stronger evidence of a join. */
export const Novelty = {
  /** Was unmapped before, and the context has mapped lower addresses: reuse is possible. */
  used: 0,
  /** Was unmapped before, perhaps in another domain: the context has mapped nothing so low. */
  low: 1,
  /** Likewise, and both together lie exactly where the allocator puts a new range below what the context has mapped. */
  slot: 2,
  /** Never was unmapped in this trace. */
  fresh: 3,
} as const;
const NR_NOVELTIES = 4;

/** Durations in steps of a quarter octave, from 16 ns on. */
export const NR_GAPS = 128;
/** Share of separate calls that may be closer than what counts as wide: noise of the recording. */
const CLOSER_SHARE = 0.001;
/** What each duration counts before the first sample. */
const GAP_BEGIN = 0.25;
/** Joints that a context must show to weigh as much as all contexts together. */
const CONTEXT_BEGIN = 4;

/** The step of a duration in nanoseconds. */
export function gapOf(ns: number): number {
  const units = Math.min(0x7fffffff, Math.max(0, ns) / 16) | 0;
  if (units < 4) return units;
  const octave = 31 - Math.clz32(units);
  return Math.min(NR_GAPS - 1, 4 * (octave - 1) + ((units >>> (octave - 2)) & 3));
}

export class JointOdds {
  /** Durations inside of calls, and between neighbours that cannot be one call. */
  readonly #joinedGaps: Float64Array = new Float64Array(NR_GAPS).fill(GAP_BEGIN);
  readonly #separateGaps: Float64Array = new Float64Array(NR_GAPS).fill(GAP_BEGIN);
  #nrJoinedGaps = 0;
  #nrSeparateGaps = 0;
  /** Of wide joints by number of tight neighbours, and by novelty. The first counts say what to expect before any were seen. */
  readonly #joinedCompany: Float64Array = new Float64Array([1, 1, 1]);
  readonly #cutCompany: Float64Array = new Float64Array([1, 1, 1]);
  readonly #joinedNovelty: Float64Array = new Float64Array([1, 1, 1, 1]);
  readonly #cutNovelty: Float64Array = new Float64Array([1, 0.1, 0.01, 0.001]);
  /** Decided joints of each context, and of all. */
  #joinedOf: Int32Array = new Int32Array(64);
  #cutOf: Int32Array = new Int32Array(64);
  #nrJoined = 0;
  #nrCut = 0;

  /** Logarithms of the likelihood ratios above, made anew from time to time. */
  readonly #gapOdds: Float64Array = new Float64Array(NR_GAPS);
  readonly #companyOdds: Float64Array = new Float64Array(3);
  readonly #noveltyOdds: Float64Array = new Float64Array(NR_NOVELTIES);
  #wideFrom = 0;
  #nrSamples = 0;
  #refreshAt = 1;

  /** Whether calls are hardly ever this close. */
  isTight(gap: number): boolean {
    return gap < this.#wideFrom;
  }

  /** Two events of one context that are certainly not one call. */
  addSeparate(gap: number): void {
    this.#separateGaps[gap] += 1;
    this.#nrSeparateGaps += 1;
    this.#sampled();
  }

  /** A joint that was decided. @param company how many of its neighbouring joints are tight */
  addDecided(joined: boolean, gap: number, context: number, company: number, novelty: number): void {
    if (context >= this.#joinedOf.length) this.#grow(context + 1);
    if (joined) {
      this.#joinedGaps[gap] += 1;
      this.#nrJoinedGaps += 1;
      this.#nrJoined += 1;
      this.#joinedOf[context] += 1;
    } else {
      this.#nrCut += 1;
      this.#cutOf[context] += 1;
    }
    if (!this.isTight(gap)) {
      (joined ? this.#joinedCompany : this.#cutCompany)[company] += 1;
      (joined ? this.#joinedNovelty : this.#cutNovelty)[novelty] += 1;
    }
    this.#sampled();
  }

  /** Natural logarithm of the odds that a joint is inside of a call. */
  of(gap: number, context: number, company: number, novelty: number): number {
    const share = (this.#nrJoined + 1) / (this.#nrJoined + this.#nrCut + 2);
    const known = context < this.#joinedOf.length;
    const joined = (known ? this.#joinedOf[context] : 0) + CONTEXT_BEGIN * share;
    const cut = (known ? this.#cutOf[context] : 0) + CONTEXT_BEGIN * (1 - share);
    const odds = Math.log(joined / cut) + this.#gapOdds[gap] + this.#noveltyOdds[novelty];
    return this.isTight(gap) ? odds : odds + this.#companyOdds[company];
  }

  /** Refreshes the tables in steps that grow with the samples: each costs some logarithms. */
  #sampled(): void {
    this.#nrSamples += 1;
    if (this.#nrSamples < this.#refreshAt) return;
    this.#refreshAt = this.#nrSamples + Math.max(8, this.#nrSamples >>> 3);
    const begin = GAP_BEGIN * NR_GAPS;
    let below = 0;
    this.#wideFrom = NR_GAPS;
    for (let gap = 0; gap < NR_GAPS; gap++) {
      const separate = this.#separateGaps[gap];
      below += separate - GAP_BEGIN;
      if (below > this.#nrSeparateGaps * CLOSER_SHARE && gap < this.#wideFrom) this.#wideFrom = gap;
      this.#gapOdds[gap] = Math.log(
        this.#joinedGaps[gap] / (this.#nrJoinedGaps + begin) / (separate / (this.#nrSeparateGaps + begin)),
      );
    }
    logRatios(this.#joinedCompany, this.#cutCompany, this.#companyOdds);
    logRatios(this.#joinedNovelty, this.#cutNovelty, this.#noveltyOdds);
  }

  #grow(nrContexts: number): void {
    const length = Math.max(nrContexts, this.#joinedOf.length * 2);
    const joined = new Int32Array(length);
    joined.set(this.#joinedOf);
    this.#joinedOf = joined;
    const cut = new Int32Array(length);
    cut.set(this.#cutOf);
    this.#cutOf = cut;
  }
}

function logRatios(joined: Float64Array, cut: Float64Array, into: Float64Array): void {
  const sum = (counts: Float64Array): number => counts.reduce((total, count) => total + count, 0);
  const nrJoined = sum(joined);
  const nrCut = sum(cut);
  for (let i = 0; i < into.length; i++) into[i] = Math.log(joined[i] / nrJoined / (cut[i] / nrCut));
}
