/**
 * The live map events as chains, and where the chains are to be cut into calls. A chain is made of consecutive events of one
 * context, ascending without gap, never physically contiguous (the core would have merged them): it could be one map_sg, or
 * several calls that the allocator put next to each other. JointOdds says how likely each joint is to be inside of a call;
 * here the choices are made that unmap events force, and those that are left at the end.
 */
import { gapOf, JointOdds, Novelty } from './joint-odds.ts';
import { LifeTable } from './life-table.ts';
import { LiveMaps } from './live-maps.ts';
import { PageSet } from './page-set.ts';

// Local copies: V8 reloads imported bindings at every use.
const PAGE = 4096;
const { fresh: FRESH, low: LOW, used: USED, slot: SLOT } = Novelty;
/** A call counts as ambiguous when the chance that it is cut wrong is larger. */
const AMBIGUOUS_CHANCE = 0.05;
/** Candidates for one unmap that are weighed; in as many domains can one range be mapped without being told apart by name. */
const MAX_CANDIDATES = 64;
/** Calls that one unmap may end: a bound on the work that hostile traces can ask for. VFIO pins at least 2 MiB at a time of 1 GiB. */
const MAX_COVER = 4096;
/** Cost of a call that no allocator would have placed so: far more than any odds, but finite, since callers may choose addresses. */
const MISPLACED = 100;

/** Log odds beyond which the exact chance does not matter: 1 in 160,000. */
const CERTAIN = 12;

/** Cost (negative logarithm of the chance) of deciding for something with these odds. */
function costOf(logOdds: number): number {
  if (logOdds > CERTAIN) return 0;
  return logOdds < -CERTAIN ? -logOdds : Math.log1p(Math.exp(-logOdds));
}

/** To how many pages the allocator could have aligned an address: a range starts aligned to its size rounded up to a power of two. */
function alignmentOf(address: number): number {
  const low = ((address / PAGE) % 2 ** 31) | 0;
  return low === 0 ? Infinity : low & -low;
}

export class Chains {
  readonly live: LiveMaps = new LiveMaps();
  /** What `find` found: first and last record, or -1, and whether another choice is nearly as likely and differs. */
  first = -1;
  last = -1;
  ambiguous = false;

  readonly #odds = new JointOdds();
  readonly #lives = new LifeTable();
  /** Pages that some unmap freed. */
  readonly #freed = new PageSet();
  /** The candidates of one `find`: what it costs to take each for a call, and how likely each was unmapped, as a logarithm. */
  readonly #costs: Float64Array = new Float64Array(MAX_CANDIDATES + 1);
  readonly #scores: Float64Array = new Float64Array(MAX_CANDIDATES + 1);

  /** Adds a record to the chain of the context's record before it, if it can continue that. @param before -1 for none, ns apart */
  add(id: number, before: number, ns: number): void {
    const { live } = this;
    const gap = gapOf(ns);
    if (
      before < 0 ||
      live.end(before) !== live.start(id) ||
      live.paddr(before) + (live.end(before) - live.start(before)) === live.paddr(id)
    ) {
      this.#odds.addSeparate(gap);
      return;
    }
    let novelty: number = FRESH;
    if (this.#freed.intersects(live.start(id), live.start(id) + PAGE)) {
      novelty = live.end(id) <= live.lowest(before) ? LOW : USED;
    }
    live.link(before, id, gap, novelty);
  }

  /** Notes that an unmap freed [start, end). */
  free(start: number, end: number): void {
    this.#freed.add(start, end);
  }

  /** Takes first..last out of their chain as one call, and learns from it. */
  cutOut(first: number, last: number): void {
    const { live } = this;
    const after = live.next(last);
    if (live.previous(first) >= 0) this.#learn(first, false);
    if (after >= 0) this.#learn(after, false);
    for (let id = last; id !== first; id = live.previous(id)) this.#learn(id, true);
    live.unlinkBefore(first);
    if (after >= 0) live.unlinkBefore(after);
  }

  /**
   * The call that an unmap of [start, end) ends: the most likely of the candidates, the newest among equals. A candidate is a
   * decided call of this extent, or a piece of a chain.
   * @param domain only calls of this domain, or undecided ones; -1 for any
   */
  find(start: number, end: number, beforeEvent: number, timeNs: number, domain: number): void {
    const { live } = this;
    let nrWeighed = 0;
    let best = -Infinity;
    let chosen = 0;
    let nrFound = 0;
    this.first = -1;
    this.ambiguous = false;
    for (let last = live.newestEndingAt(end); last >= 0; last = live.olderEndingAt(last)) {
      if (live.event(last) > beforeEvent) continue;
      const told = domain >= 0 && live.domain(last) === domain;
      if (!told && (nrWeighed >= MAX_CANDIDATES || (domain >= 0 && live.domain(last) >= 0))) continue;
      const first = this.#chainStart(last, start);
      if (first < 0) continue;
      if (told) {
        // A told domain leaves no doubt.
        this.first = first;
        this.last = last;
        return;
      }
      // Odds matter only where there is a choice.
      if (nrFound === 1) best = this.#weigh(nrWeighed++, this.first, this.last, timeNs);
      nrFound += 1;
      if (nrFound > 1) {
        const score = this.#weigh(nrWeighed++, first, last, timeNs);
        if (score <= best) continue;
        best = score;
        chosen = nrWeighed - 1;
      }
      this.first = first;
      this.last = last;
    }
    if (nrWeighed > 1) this.ambiguous = this.#isAmbiguous(nrWeighed, chosen);
    if (this.first >= 0) this.#lives.add(timeNs - live.timeNs(this.last), live.nrLive);
  }

  #weigh(candidate: number, first: number, last: number, timeNs: number): number {
    const cost = this.#cost(first, last);
    const score = this.#lives.logRate(timeNs - this.live.timeNs(last)) - cost;
    this.#costs[candidate] = cost;
    this.#scores[candidate] = score;
    return score;
  }

  /**
   * Whether a choice among candidates is doubtful. Where several are calls for certain, it does not matter which one was
   * unmapped. It does where the chosen one may be no call, or another one may be one against what would be made of it otherwise.
   */
  #isAmbiguous(nrWeighed: number, chosen: number): boolean {
    const best = this.#scores[chosen];
    const noCall = this.#costs[chosen] === 0 ? 0 : 1 - Math.exp(-this.#costs[chosen]);
    let total = 1;
    let wrong = 0;
    for (let i = 0; i < nrWeighed; i++) {
      if (i === chosen || this.#scores[i] < best - CERTAIN || (this.#costs[i] === 0 && noCall === 0)) continue;
      const chance = Math.exp(this.#scores[i] - best);
      const call = Math.exp(-this.#costs[i]);
      total += chance;
      wrong += chance * (1 - call + noCall * call);
    }
    return wrong / total > AMBIGUOUS_CHANCE;
  }

  /** First record of the chain that ends at `last` and starts at an address, or -1. Never crosses a decided call. */
  #chainStart(last: number, start: number): number {
    const { live } = this;
    const decided = live.head(last);
    if (decided >= 0) {
      // Only the last record of a decided call ends the call.
      return live.next(last) < 0 && live.start(decided) === start ? decided : -1;
    }
    let id = last;
    while (id >= 0 && live.start(id) > start) id = live.previous(id);
    return id >= 0 && live.start(id) === start ? id : -1;
  }

  /**
   * The calls that an unmap of [start, end) ends when no single call has that extent: calls behind each other that fill it
   * exactly, as VFIO's pinning leaves them (one iommu_map per physically contiguous batch, one unmap for several). Calls
   * that were under way at the same time do not count: their chunks could not be told apart in the plan.
   * @returns first and last record of each, highest address first; null when there are none
   */
  cover(start: number, end: number, beforeEvent: number, domain: number): number[] | null {
    const { live } = this;
    const found: number[] = [];
    let at = end;
    while (at > start) {
      if (found.length > 2 * MAX_COVER) return null;
      let last = live.newestEndingAt(at);
      while (last >= 0 && !this.#isWhole(last, start, beforeEvent, domain)) last = live.olderEndingAt(last);
      if (last < 0) return null;
      const first = this.#pieceStart(last, start);
      const above = found.at(-2);
      if (above !== undefined && live.event(last) > live.event(above)) return null;
      found.push(first, last);
      at = live.start(first);
    }
    return found;
  }

  /** Whether a record ends something that lies in an unmap from `start` on and may belong to its domain. */
  #isWhole(last: number, start: number, beforeEvent: number, domain: number): boolean {
    const { live } = this;
    if (live.event(last) > beforeEvent || live.next(last) >= 0) return false;
    if (domain >= 0 && live.domain(last) >= 0 && live.domain(last) !== domain) return false;
    return live.start(this.#pieceStart(last, start)) >= start;
  }

  /** First record of a decided call, or of a chain as far as it lies above `start`. */
  #pieceStart(last: number, start: number): number {
    const { live } = this;
    if (live.head(last) >= 0) return live.head(last);
    let first = last;
    while (live.previous(first) >= 0 && live.start(live.previous(first)) >= start) first = live.previous(first);
    return first;
  }

  /** How unlikely first..last is to be one call. */
  #cost(first: number, last: number): number {
    const { live } = this;
    if (live.head(last) >= 0) return 0;
    let cost = 0;
    for (let id = last; id !== first; id = live.previous(id)) cost += costOf(this.#joint(id));
    if (live.previous(first) >= 0) cost += costOf(-this.#joint(first));
    const after = live.next(last);
    if (after >= 0) cost += costOf(-this.#joint(after));
    return cost;
  }

  /** Log odds that the joint in front of a linked record is inside of a call. */
  #joint(id: number): number {
    const { live } = this;
    return this.#odds.of(live.gap(id), live.context(id), this.#company(id), this.#novelty(id));
  }

  #learn(id: number, joined: boolean): void {
    const { live } = this;
    const gap = live.gap(id);
    // The rest is looked at only where the time does not tell.
    if (this.#odds.isTight(gap)) this.#odds.addDecided(joined, gap, live.context(id), 0, 0);
    else this.#odds.addDecided(joined, gap, live.context(id), this.#company(id), this.#novelty(id));
  }

  /** How many of the neighbouring joints are tight. */
  #company(id: number): number {
    const after = this.live.next(id);
    return (this.#isTight(this.live.previous(id)) ? 1 : 0) + (after >= 0 && this.#isTight(after) ? 1 : 0);
  }

  /** Whether there is a joint in front of a record and it is tight. */
  #isTight(id: number): boolean {
    return this.live.previous(id) >= 0 && this.#odds.isTight(this.live.gap(id));
  }

  #novelty(id: number): number {
    const { live } = this;
    const novelty = live.novelty(id);
    if (novelty !== LOW) return novelty;
    let first = live.previous(id);
    while (this.#isTight(first)) first = live.previous(first);
    let last = id;
    for (let after = live.next(last); after >= 0 && this.#isTight(after); after = live.next(last)) last = after;
    const nrBytes = live.end(last) - live.start(first);
    const top = live.lowest(id) - nrBytes;
    // The highest address below `lowest` that leaves room and is aligned to the size rounded up to a power of two.
    const aligned = top - (top % (PAGE * 2 ** Math.ceil(Math.log2(nrBytes / PAGE))));
    return aligned === live.start(first) ? SLOT : LOW;
  }

  /**
   * Cuts a chain that nothing more will be known about into the most likely calls that the allocator could have placed so.
   * `visit` is called for each, in order; it must not change the chain.
   */
  cut(begin: number, visit: (first: number, last: number, ambiguous: boolean) => void): void {
    const { live } = this;
    const ids: number[] = [];
    for (let id = begin; id >= 0; id = live.next(id)) ids.push(id);
    const nr = ids.length;
    const odds = new Float64Array(nr + 1);
    for (let i = 1; i < nr; i++) odds[i] = this.#joint(ids[i] ?? -1);
    // best[i]: cost of the records before the i-th; from[i]: where the last call before it begins.
    const best = new Float64Array(nr + 1).fill(Infinity);
    const from = new Int32Array(nr + 1);
    best[0] = 0;
    for (let i = 0; i < nr; i++) {
      const start = live.start(ids[i] ?? -1);
      const end = start + alignmentOf(start) * PAGE;
      let cost = best[i];
      for (let j = i; j < nr; j++) {
        if (j > i) cost += costOf(odds[j]);
        const misplaced = live.end(ids[j] ?? -1) > end;
        if (misplaced && j > i) break;
        const total = cost + (misplaced ? MISPLACED : 0) + (j + 1 < nr ? costOf(-odds[j + 1]) : 0);
        if (total >= best[j + 1]) continue;
        best[j + 1] = total;
        from[j + 1] = i;
      }
    }
    const ends: number[] = [];
    for (let i = nr; i > 0; i = from[i]) ends.push(i);
    let first = 0;
    for (const end of ends.toReversed()) {
      const cost = best[end] - best[first] + (first > 0 ? costOf(-odds[first]) : 0);
      visit(ids[first] ?? -1, ids[end - 1] ?? -1, 1 - Math.exp(-cost) > AMBIGUOUS_CHANCE);
      first = end;
    }
  }
}
