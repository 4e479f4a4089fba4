/**
 * Which domain each call belongs to where the trace does not name it, and which domains unmap lazily and since when. A pass of
 * its own between Grouper and plan, for those who ask for it: it costs more than both.
 *
 * Each domain has an IOVA allocator of its own, so an address is evidence: with the calls so far, few of the allocators would
 * hand out just this one next (IovaModel). With it counts whom the calling context talked to before (Affinity). Of the live
 * mappings that an unmap could end the one is taken whose age and whose caller fit best; when a domain is seen to hand out
 * what should still be mapped there, the unmap that could have been its own is given to it after all.
 *
 * Writes domains[] of the grouper for the calls it attributes. What dma:* events named stays.
 */
import { Affinity } from './affinity.ts';
import type { Grouper } from './group.ts';
import {
  DECISION_BEGINS,
  DECISION_ENDS,
  DECISION_SHIFT,
  NO_CALL,
  STORED_CONTEXT,
  STORED_CPU,
  STORED_DOUBLES,
  STORED_LEVELS,
  StoredKind,
} from './group.ts';
import type { Unmapped } from './iova-model.ts';
import { IovaModel } from './iova-model.ts';
import { LifeTable } from './life-table.ts';
import { PageSet } from './page-set.ts';
import { UnmapMode } from './unmap-mode.ts';

const PAGE = 4096;
/** More colliding address spaces than this are noise. */
const MAX_DOMAINS = 1024;
/** Longer calls (16 TiB) come from damaged traces only. */
const MAX_BYTES: number = 2 ** 44;
/** Log likelihood of an address that fits once an unmap is given to another domain, that choice itself not counted. */
const REPAIRED = -1.5;
/** Doubtful unmaps that are remembered, and how long they may be given to another domain. */
const MAX_DOUBTFUL = 64;
const DOUBT_NS = 1e9;
/**
 * An unmap counts as ambiguous when the chance that it was strict where lazy is told, or the other way, is larger (chains.ts);
 * and all unmaps of a domain are when more of what its addresses show contradicts what is told of it.
 */
const DOUBT = 0.05;
/** Calls unmapped last whose successors are looked out for: as many rings may a device have. */
const SEQUENCES = 16;

interface LiveCall {
  readonly nrPages: number;
  readonly timeNs: number;
  /** How many calls its domain had made before. */
  readonly number: number;
}

/** An unmap that more than one live call could have ended. */
interface Doubtful extends Unmapped {
  domain: number;
  ended: LiveCall;
  readonly candidates: readonly Candidate[];
}

/** A domain's call that an unmap could have ended, and the logarithm of how likely that is. */
interface Candidate {
  readonly domain: DomainView;
  readonly call: LiveCall;
  readonly score: number;
}

class DomainView {
  readonly number: number;
  readonly mode: UnmapMode = new UnmapMode();
  readonly model: IovaModel = new IovaModel(this.mode);
  readonly #lives: LifeTable = new LifeTable();
  readonly pages: PageSet = new PageSet();
  /** Live calls by first page. */
  readonly live = new Map<number, LiveCall>();

  nrUnmapped = 0;
  #nrCalls = 0;
  /** Numbers of the calls that ended last. */
  readonly #ended: number[] = Array.from({ length: SEQUENCES }, () => -2);
  #nrEnded = 0;
  #nrInSequence = 0;

  constructor(number: number) {
    this.number = number;
  }

  /** Logarithm of how well it fits that a call is unmapped next: rings complete in the order in which they were filled. */
  fitOfEnd({ timeNs, number }: LiveCall, nowNs: number): number {
    const inSequence = this.#ended.includes(number - 1);
    const nr = inSequence ? this.#nrInSequence : this.#nrEnded - this.#nrInSequence;
    return this.#lives.logRate(Math.max(0, nowNs - timeNs)) + Math.log((nr + 1) / (this.#nrEnded + 2));
  }

  /** A call was unmapped. */
  ended({ timeNs, number }: LiveCall, nowNs: number): void {
    this.nrUnmapped += 1;
    this.#lives.add(Math.max(0, nowNs - timeNs), this.live.size);
    if (this.#ended.includes(number - 1)) this.#nrInSequence += 1;
    this.#ended[this.#nrEnded % SEQUENCES] = number;
    this.#nrEnded += 1;
  }

  /** The live call of exactly this range. */
  liveAt(pfn: number, nrPages: number): LiveCall | null {
    const call = this.live.get(pfn);
    return call?.nrPages === nrPages ? call : null;
  }

  mapped(pfn: number, nrPages: number, timeNs: number): void {
    this.live.set(pfn, { nrPages, timeNs, number: this.#nrCalls++ });
    this.pages.add(pfn * PAGE, (pfn + nrPages) * PAGE);
  }

  /** A range is not mapped any more, whatever calls it was part of. */
  forget(pfn: number, nrPages: number): void {
    for (const start of this.live.keys()) if (start >= pfn && start < pfn + nrPages) this.live.delete(start);
    this.pages.remove(pfn * PAGE, (pfn + nrPages) * PAGE);
  }

  unmapped(pfn: number, nrPages: number): void {
    this.live.delete(pfn);
    this.pages.remove(pfn * PAGE, (pfn + nrPages) * PAGE);
  }
}

/**
 * Attributes the calls of a finished first pass. Adds to the grouper's `ambiguous` the unmaps that could as well have been a
 * domain's that unmaps the other way.
 * @returns for each domain the first event at which it unmapped lazily: 0 for always, Infinity for never
 */
export function attribute(grouper: Grouper): readonly number[] {
  return new Attribution(grouper).run();
}

class Attribution {
  readonly #grouper: Grouper;
  readonly #domains: DomainView[];
  readonly #callers = new Affinity();
  /** Of the call that is open in each slot: its first byte and its bytes so far; of the live one: its domain. */
  readonly #starts: number[] = [];
  readonly #bytes: number[] = [];
  readonly #domainOfSlot: number[] = [];
  #doubtful: Doubtful[] = [];
  /** Unmaps that could have been another domain's. */
  readonly #choices: { readonly event: number; readonly candidates: readonly Candidate[] }[] = [];

  constructor(grouper: Grouper) {
    this.#grouper = grouper;
    this.#domains = grouper.topology.domains.map((domain) => new DomainView(domain.number));
  }

  run(): readonly number[] {
    const { log, nrStored, decisions, domains } = this.#grouper;
    const reader = log.reader();
    for (let event = 0; event < nrStored; event++) {
      const at = reader.take(STORED_DOUBLES);
      const { data } = reader;
      const packed = data[at] | 0;
      const kind = packed & (STORED_CPU - 1);
      const nrBytes = data[at + 2];
      const isMap = kind === StoredKind.map;
      if ((!isMap && kind !== StoredKind.unmap) || !isWhole(data[at + 1], nrBytes)) continue;
      const cpu = packed >>> Math.log2(STORED_CPU);
      const context = contextOf(Math.floor(data[at] / STORED_CONTEXT), cpu);
      if (isMap) this.#map(event, data[at + 1], nrBytes, cpu, data[at + 4], context);
      else {
        const call = { event, pfn: data[at + 1] / PAGE, nrPages: nrBytes / PAGE, cpu, timeNs: data[at + 4] };
        domains[event] = this.#unmap(call, decisions[event], domains[event], context);
      }
    }
    const lazyFrom = this.#lazyFrom();
    this.#grouper.counts.ambiguous += this.#countAmbiguous(lazyFrom);
    return lazyFrom;
  }

  /** Unmaps of domains whose addresses contradict what is told of them, and those whose other candidates are too likely. */
  #countAmbiguous(lazyFrom: readonly number[]): number {
    if (lazyFrom.every((from) => from === lazyFrom[0])) return 0;
    const { domains } = this.#grouper;
    const isClear = this.#domains.map(({ mode }) => mode.contradicted <= DOUBT);
    let nr = 0;
    for (const [number, { nrUnmapped }] of this.#domains.entries()) if (!isClear[number]) nr += nrUnmapped;
    for (const { event, candidates } of this.#choices) {
      if (!isClear[domains[event]]) continue;
      const isLazy = event >= lazyFrom[domains[event]];
      const best = candidates[0].score;
      let all = 0;
      let others = 0;
      for (const { domain, score } of candidates) {
        const likelihood = Math.exp(score - best);
        all += likelihood;
        if (event >= lazyFrom[domain.number] !== isLazy) others += likelihood;
      }
      if (others > DOUBT * all) nr += 1;
    }
    return nr;
  }

  /** A domain that shows nothing does as the one that shows most. */
  #lazyFrom(): readonly number[] {
    let clearest = Infinity;
    let most = 0;
    for (const { mode } of this.#domains) {
      if (Number.isNaN(mode.lazyFrom) || mode.nrObserved <= most) continue;
      most = mode.nrObserved;
      clearest = mode.lazyFrom;
    }
    return this.#domains.map(({ mode }) => (Number.isNaN(mode.lazyFrom) ? clearest : mode.lazyFrom));
  }

  #map(event: number, start: number, nrBytes: number, cpu: number, timeNs: number, context: number): void {
    const { decisions, domains } = this.#grouper;
    const decision = decisions[event];
    const slot = decision >> DECISION_SHIFT;
    if ((decision & DECISION_BEGINS) !== 0) {
      this.#starts[slot] = start;
      this.#bytes[slot] = 0;
    }
    this.#bytes[slot] += nrBytes;
    if ((decision & DECISION_ENDS) === 0) return;
    if (!isWhole(this.#starts[slot], this.#bytes[slot])) return;
    const pfn = this.#starts[slot] / PAGE;
    const nrPages = this.#bytes[slot] / PAGE;
    // Calls that one unmap ends share a slot, and so the domain.
    const shared = this.#domainOfSlot[slot] ?? -1;
    const told = domains[event] >= 0 ? domains[event] : shared;
    const domain = this.#domain(told >= 0 ? told : this.#choose(pfn, nrPages, cpu, timeNs, context));
    if (told < 0 && domain.liveAt(pfn, nrPages) !== null) this.#repair(domain, pfn, nrPages);
    domain.model.take(pfn, nrPages, cpu, timeNs);
    domain.mapped(pfn, nrPages, timeNs);
    this.#callers.add(context, domain.number, timeNs);
    this.#domainOfSlot[slot] = domain.number;
    domains[event] = domain.number;
  }

  #domain(number: number): DomainView {
    for (let next = this.#domains.length; next <= number; next++) this.#domains.push(new DomainView(next));
    return this.#domains[number];
  }

  /** The most likely domain of a map; a new one when the range is mapped in all. */
  #choose(pfn: number, nrPages: number, cpu: number, timeNs: number, context: number): number {
    const scores = this.#domains.map((domain) => {
      if (!domain.pages.intersects(pfn * PAGE, (pfn + nrPages) * PAGE)) {
        return domain.model.fit(pfn, nrPages, cpu, timeNs);
      }
      const doubtful = this.#doubtAbout(domain, pfn, nrPages, timeNs);
      return doubtful === null
        ? -Infinity
        : REPAIRED + scoreOf(doubtful, domain) - scoreOf(doubtful, this.#domains[doubtful.domain]);
    });
    this.#callers.addTo(scores, context, timeNs);
    let best = -1;
    for (const [number, score] of scores.entries()) if (score > (scores[best] ?? -Infinity)) best = number;
    if (best >= 0) return best;
    return this.#domains.length < MAX_DOMAINS ? this.#grouper.topology.addInferred().number : 0;
  }

  /** The newest unmap of a range that could have ended the call that lives in a domain, and was given to another. */
  #doubtAbout(domain: DomainView, pfn: number, nrPages: number, timeNs: number): Doubtful | null {
    const call = domain.liveAt(pfn, nrPages);
    if (call === null) return null;
    const found = this.#doubtful.findLast(
      (one) =>
        one.pfn === pfn &&
        one.nrPages === nrPages &&
        one.domain !== domain.number &&
        one.candidates.some((candidate) => candidate.call === call),
    );
    if (found === undefined || timeNs - found.timeNs > DOUBT_NS) return null;
    // What it was given to may have gone on since.
    return this.#domains[found.domain].pages.intersects(pfn * PAGE, (pfn + nrPages) * PAGE) ? null : found;
  }

  /** Gives the doubtful unmap of a range to a domain after all. */
  #repair(domain: DomainView, pfn: number, nrPages: number): void {
    const doubtful = this.#doubtAbout(domain, pfn, nrPages, 0);
    const call = domain.liveAt(pfn, nrPages);
    if (doubtful === null || call === null) return;
    const other = this.#domains[doubtful.domain];
    if (!other.model.remap(doubtful)) return;
    other.mapped(pfn, nrPages, doubtful.ended.timeNs);
    domain.unmapped(pfn, nrPages);
    domain.model.unmapEarlier(doubtful);
    doubtful.domain = domain.number;
    doubtful.ended = call;
    this.#grouper.domains[doubtful.event] = domain.number;
  }

  /** @returns the domain, or -1 */
  #unmap(call: Omit<Unmapped, 'isCertain'>, decision: number, told: number, context: number): number {
    const { pfn, nrPages, timeNs } = call;
    const slotDomain = decision === NO_CALL ? -1 : (this.#domainOfSlot[decision] ?? -1);
    if (decision !== NO_CALL) this.#domainOfSlot[decision] = -1;
    const holders =
      told >= 0 ? [this.#domain(told)] : this.#domains.filter((domain) => domain.liveAt(pfn, nrPages) !== null);
    const unmapped = { ...call, isCertain: holders.length === 1 };
    const candidates = holders.length > 1 ? this.#candidates(holders, unmapped, context) : [];
    const domain = candidates[0]?.domain ?? holders[0];
    const ended = domain?.liveAt(pfn, nrPages) ?? null;
    if (domain === undefined || ended === null) {
      // A part of a call, several calls, or one from before the trace: no allocation that is known of ends here.
      const start = pfn * PAGE;
      const holding = this.#domains.findIndex((view) => view.pages.contains(start, start + nrPages * PAGE));
      const number = told >= 0 ? told : slotDomain >= 0 ? slotDomain : holding;
      if (number >= 0) this.#domain(number).forget(pfn, nrPages);
      return number;
    }
    if (candidates.length > 1) {
      this.#choices.push({ event: unmapped.event, candidates });
      this.#doubtful.push({ ...unmapped, domain: domain.number, ended, candidates });
      if (this.#doubtful.length > 2 * MAX_DOUBTFUL) this.#doubtful = this.#doubtful.slice(-MAX_DOUBTFUL);
    }
    domain.ended(ended, timeNs);
    domain.unmapped(pfn, nrPages);
    domain.mode.unmapped(unmapped.event, timeNs);
    domain.model.unmap(unmapped);
    this.#callers.add(context, domain.number, timeNs);
    return domain.number;
  }

  /** The live calls that an unmap could have ended, the most likely first. */
  #candidates(holders: readonly DomainView[], { pfn, nrPages, timeNs }: Unmapped, context: number): Candidate[] {
    const scores = this.#domains.map(() => 0);
    this.#callers.addTo(scores, context, timeNs);
    const candidates: Candidate[] = [];
    for (const domain of holders) {
      const call = domain.liveAt(pfn, nrPages);
      if (call === null) continue;
      candidates.push({ domain, call, score: scores[domain.number] + domain.fitOfEnd(call, timeNs) });
    }
    return candidates.sort((a, b) => b.score - a.score);
  }
}

/** How likely it is that a doubtful unmap is a domain's, as a logarithm. */
function scoreOf({ candidates }: Doubtful, domain: DomainView): number {
  return candidates.find((candidate) => candidate.domain === domain)?.score ?? -Infinity;
}

/** Whether a range is whole pages, as all are but those of damaged traces. */
function isWhole(start: number, nrBytes: number): boolean {
  return nrBytes >= PAGE && nrBytes <= MAX_BYTES && nrBytes % PAGE === 0 && start % PAGE === 0;
}

/** What makes the calls of a context alike: the task; of an interrupt handler not the task it interrupted, but CPU and level. */
function contextOf(stored: number, cpu: number): number {
  const level = stored % STORED_LEVELS;
  return level === 0 ? stored : -1 - (cpu * STORED_LEVELS + level);
}
