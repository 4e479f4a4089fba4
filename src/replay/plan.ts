/**
 * The second pass: events with their decisions become a log of calls in the order in which their flushes are due, each with
 * its domain. Calls whose domain the trace does not tell go to the lowest one in which their pages are free: that need not
 * be the right device, but no two live mappings ever collide.
 */
import type { GroupingCounts, Grouper } from './group.ts';
import {
  DECISION_BEGINS,
  DECISION_DIRECT,
  DECISION_ENDS,
  DECISION_SHIFT,
  NO_CALL,
  STORED_CPU,
  STORED_DOUBLES,
  StoredKind,
} from './group.ts';
import { PageSet } from './page-set.ts';
import type { RecordReader, SpillStore } from './record-log.ts';
import { RecordLog } from './record-log.ts';
import type { Topology, TraceDomain } from './topology.ts';

/**
 * Kinds of call records. A record is CALL_DOUBLES doubles: kind, domain and CPU packed; first byte; bytes; time in ns; the
 * window of its flush (event number, and how many events later it was certainly done, see Grouper.latest) packed; number of
 * chunks. A map follows with that many pairs (paddr, bytes).
 */
export const CallKind = {
  map: 1,
  unmap: 2,
  /** start = requester id. */
  attach: 3,
  /** start = requester id. */
  detach: 4,
  /** start = number of the mark. */
  mark: 5,
  /** A mapping made before the trace began: the player makes it without counting. */
  adopt: 6,
  /** A mapping whose unmap the trace misses: the player removes it without counting. */
  forget: 7,
  /** A map into a domain that is not attached yet. */
  direct: 8,
} as const;

/** Doubles of a record without its chunks. */
export const CALL_DOUBLES = 6;
/** First double: kind + 16 * (CPU + 65536 * domain). */
export const CALL_CPU: number = 16;
export const CALL_DOMAIN: number = 16 * 65536;
/** Fifth double: event number * 2^21 + events until certainly done, at most 2^21 - 1. */
export const CALL_WINDOW: number = 2 ** 21;

export interface Plan {
  readonly calls: RecordLog;
  readonly domains: readonly TraceDomain[];
  readonly marks: readonly string[];
  readonly counts: GroupingCounts;
  readonly mapCalls: number;
  /** Records in `calls`. */
  readonly nrRecords: number;
  /** Map calls that found their pages mapped in the same domain already; the old mapping is dropped first. */
  readonly overlapping: number;
  /** Unmaps of a part of a live call. */
  readonly partialUnmaps: number;
  /** Domains that the trace does not name but its mappings need. */
  readonly inferredDomains: number;
  /** Which rule told the calls: `dma-events`, `inferred`, or both. */
  readonly rule: string;
  /** By domain the first event at which it unmapped lazily, Infinity for never; null when that was not asked for. */
  readonly lazyFrom: readonly number[] | null;
}

/** More colliding address spaces than this are noise: the rest counts as overlapping. */
const MAX_INFERRED = 64;
/** Domain of a slot without a live call. */
const NOT_LIVE = -1;
/** Longer ranges (16 TiB) are not looked at page by page: no machine maps that at once, only a damaged trace says so. */
export const MAX_TRACKED: number = 2 ** 44;

/** A call whose last event has not come. The object, with its array, serves another call after that. */
class OpenCall {
  start = 0;
  nrBytes = 0;
  nrChunks = 0;
  chunks: Float64Array = new Float64Array(64);

  add(paddr: number, nrBytes: number): void {
    const at = this.nrChunks * 2;
    if (at === this.chunks.length) {
      const larger = new Float64Array(at * 2);
      larger.set(this.chunks);
      this.chunks = larger;
    }
    this.chunks[at] = paddr;
    this.chunks[at + 1] = nrBytes;
    this.nrChunks += 1;
    this.nrBytes += nrBytes;
  }
}

/** Local copies: V8 reloads imported and exported bindings at every use, and these are used for each event. */
const { map: MAP, unmap: UNMAP } = StoredKind;
const { map: CALL_MAP, unmap: CALL_UNMAP, direct: CALL_DIRECT } = CallKind;
const STORED: number = STORED_DOUBLES;
const KIND_MASK: number = STORED_CPU - 1;
const CPU_SHIFT: number = Math.log2(STORED_CPU);
const BEGINS: number = DECISION_BEGINS;
const ENDS: number = DECISION_ENDS;
const WHOLE: number = DECISION_BEGINS | DECISION_ENDS;
const DIRECT: number = DECISION_DIRECT;
const SLOT_SHIFT: number = DECISION_SHIFT;
const RECORD: number = CALL_DOUBLES;
const CPU: number = CALL_CPU;
const DOMAIN: number = CALL_DOMAIN;
const WINDOW: number = CALL_WINDOW;
const TRACKED: number = MAX_TRACKED;
/** Events that are planned at a time. */
const PART = 2048;

/** Builds the plan of a finished first pass. @param lazyFrom what `attribute` returned, if its pass was run */
export function planCalls(
  grouper: Grouper,
  spill: SpillStore | null = null,
  lazyFrom: readonly number[] | null = null,
): Plan {
  return new Planner(grouper, spill, lazyFrom).run();
}

class Planner {
  readonly #grouper: Grouper;
  readonly #lazyFrom: readonly number[] | null;
  readonly #topology: Topology;
  readonly #calls: RecordLog;
  readonly #mapped: PageSet[] = [];
  /** Domain of the live call in each slot. */
  #domainOfSlot: Int16Array = new Int16Array(1024).fill(NOT_LIVE);
  /** Number of the open call in each slot, -1 for none, and those that serve none. */
  #openOfSlot: Int16Array = new Int16Array(1024).fill(-1);
  readonly #open: OpenCall[] = [];
  readonly #idle: number[] = [];
  /** Domains that may take calls nobody named, in order of preference. */
  readonly #candidates: number[];
  #nrInferred = 0;
  /**
   * The event at hand: its number, the end of its window, CPU, and time; and the range of its call. Fields, since a function
   * that is not inlined boxes every double that it is given.
   */
  #event = 0;
  #latest = 0;
  #cpu = 0;
  #timeNs = 0;
  #start = 0;
  #nrBytes = 0;
  #mapCalls = 0;
  #nrRecords = 0;
  #overlapping = 0;
  #partialUnmaps = 0;

  constructor(grouper: Grouper, spill: SpillStore | null, lazyFrom: readonly number[] | null) {
    this.#grouper = grouper;
    this.#lazyFrom = lazyFrom;
    this.#topology = grouper.topology;
    this.#calls = new RecordLog(spill);
    this.#candidates = this.#topology.domains.map((domain) => domain.number);
    // Those that attribution needed.
    this.#nrInferred = this.#topology.domains.filter((domain) => domain.inferred).length;
  }

  run(): Plan {
    const { log, nrStored, counts, marks } = this.#grouper;
    const reader = log.reader();
    // In parts: V8 compiles what is called often. One loop over all of a trace stayed at 200 ns per event in one process of
    // three, instead of 50.
    for (let event = 0; event < nrStored; event += PART) {
      this.#part(reader, event, Math.min(nrStored, event + PART));
    }
    const rule = counts.told === 0 ? 'inferred' : counts.inferred === 0 ? 'dma-events' : 'dma-events, rest inferred';
    return {
      calls: this.#calls,
      domains: this.#topology.domains,
      marks,
      counts,
      mapCalls: this.#mapCalls,
      nrRecords: this.#nrRecords,
      overlapping: this.#overlapping,
      partialUnmaps: this.#partialUnmaps,
      inferredDomains: this.#nrInferred,
      rule,
      lazyFrom: this.#lazyFrom,
    };
  }

  /** Events [first, end). */
  #part(reader: RecordReader, first: number, end: number): void {
    const { decisions, domains, latest } = this.#grouper;
    for (let event = first; event < end; event++) {
      const at = reader.take(STORED);
      const { data } = reader;
      const packed = data[at] | 0;
      const kind = packed & KIND_MASK;
      const domain = domains[event];
      this.#event = event;
      this.#latest = latest[event];
      this.#cpu = (packed >>> CPU_SHIFT) & 0xffff;
      this.#start = data[at + 1];
      this.#nrBytes = data[at + 2];
      this.#timeNs = data[at + 4];
      if (kind === MAP) this.#map(decisions[event], domain, data, at);
      else if (kind === UNMAP) this.#unmap(decisions[event], domain);
      else if (kind === StoredKind.mark) this.#record(CallKind.mark, 0, 0);
      else if (kind === StoredKind.attach) this.#record(CallKind.attach, domain, 0);
      else this.#record(CallKind.detach, domain, 0);
    }
  }

  /** Writes a record of the call at hand. */
  #record(kind: number, domain: number, nrChunks: number): void {
    this.#nrRecords += 1;
    const calls = this.#calls;
    const at = calls.reserve(RECORD);
    const { data } = calls;
    const delay = this.#latest - this.#event;
    data[at] = kind + CPU * this.#cpu + DOMAIN * (domain < 0 ? 0 : domain);
    data[at + 1] = this.#start;
    data[at + 2] = this.#nrBytes;
    data[at + 3] = this.#timeNs;
    data[at + 4] = this.#event * WINDOW + (delay < WINDOW ? delay : WINDOW - 1);
    data[at + 5] = nrChunks;
  }

  #chunk(paddr: number, nrBytes: number): void {
    const at = this.#calls.reserve(2);
    this.#calls.data[at] = paddr;
    this.#calls.data[at + 1] = nrBytes;
  }

  #pagesOf(domain: number): PageSet {
    let pages = this.#mapped[domain];
    if (pages === undefined) {
      pages = new PageSet();
      this.#mapped[domain] = pages;
    }
    return pages;
  }

  /** The first domain in which a range is free; a new one when it is free nowhere. */
  #freeDomain(start: number, end: number): number {
    for (const candidate of this.#candidates) {
      if (!this.#pagesOf(candidate).intersects(start, end)) return candidate;
    }
    if (this.#nrInferred === MAX_INFERRED) return this.#candidates[0] ?? 0;
    const added = this.#topology.addInferred().number;
    this.#nrInferred += 1;
    this.#candidates.push(added);
    return added;
  }

  /** The first domain in which a whole range is mapped, or -1. */
  #domainHolding(start: number, end: number): number {
    for (const candidate of this.#candidates) if (this.#pagesOf(candidate).contains(start, end)) return candidate;
    return -1;
  }

  /** A map event, whose record is at `at`. */
  #map(decision: number, told: number, data: Float64Array, at: number): void {
    const slot = decision >> SLOT_SHIFT;
    const part = decision & WHOLE;
    if (part === WHOLE) {
      this.#beginCall(decision, slot, told, 1);
      this.#chunk(data[at + 3], data[at + 2]);
      return;
    }
    if (slot >= this.#openOfSlot.length) this.#growOpen(slot);
    let number = this.#openOfSlot[slot];
    if (number < 0) {
      number = this.#idle.pop() ?? this.#open.push(new OpenCall()) - 1;
      this.#openOfSlot[slot] = number;
      this.#openAt(number);
    } else if ((part & BEGINS) !== 0) {
      this.#openAt(number);
    }
    const open = this.#open[number];
    if (open === undefined) return;
    open.add(data[at + 3], data[at + 2]);
    if ((part & ENDS) === 0) return;
    this.#openOfSlot[slot] = -1;
    this.#idle.push(number);
    const { chunks, nrChunks } = open;
    this.#start = open.start;
    this.#nrBytes = open.nrBytes;
    this.#beginCall(decision, slot, told, nrChunks);
    const calls = this.#calls;
    if (2 * nrChunks <= calls.room) {
      // The reader takes them one by one, or at once where they lie in one block.
      const to = calls.reserve(2 * nrChunks);
      const into = calls.data;
      for (let i = 0; i < 2 * nrChunks; i++) into[to + i] = chunks[i];
    } else {
      for (let i = 0; i < nrChunks; i++) this.#chunk(chunks[2 * i], chunks[2 * i + 1]);
    }
  }

  #openAt(number: number): void {
    const open = this.#open[number];
    if (open === undefined) return;
    open.start = this.#start;
    open.nrBytes = 0;
    open.nrChunks = 0;
  }

  #growOpen(slot: number): void {
    const larger = new Int16Array(Math.max(slot + 1, this.#openOfSlot.length * 2)).fill(-1);
    larger.set(this.#openOfSlot);
    this.#openOfSlot = larger;
  }

  #beginCall(decision: number, slot: number, told: number, nrChunks: number): void {
    const start = this.#start;
    const nrBytes = this.#nrBytes;
    const end = start + nrBytes;
    const tracked = nrBytes <= TRACKED;
    const shared = slot < this.#domainOfSlot.length ? this.#domainOfSlot[slot] : NOT_LIVE;
    // Calls that one unmap ends share a slot, and must share the domain.
    const domain = told >= 0 ? told : shared >= 0 ? shared : this.#freeDomain(start, tracked ? end : start + 1);
    if (tracked) {
      const pages = this.#pagesOf(domain);
      if (pages.intersects(start, end)) {
        this.#overlapping += 1;
        this.#record(CallKind.forget, domain, 0);
      }
      pages.add(start, end);
    }
    if (slot >= this.#domainOfSlot.length) {
      const larger = new Int16Array(Math.max(slot + 1, this.#domainOfSlot.length * 2)).fill(NOT_LIVE);
      larger.set(this.#domainOfSlot);
      this.#domainOfSlot = larger;
    }
    this.#domainOfSlot[slot] = domain;
    this.#mapCalls += 1;
    const kind = (decision & DIRECT) === 0 ? CALL_MAP : CALL_DIRECT;
    this.#record(kind, domain, nrChunks);
  }

  #unmap(decision: number, told: number): void {
    const start = this.#start;
    const nrBytes = this.#nrBytes;
    const end = start + nrBytes;
    let domain: number;
    if (decision !== NO_CALL) {
      domain = told >= 0 ? told : this.#domainOfSlot[decision];
      this.#domainOfSlot[decision] = NOT_LIVE;
    } else {
      const tracked = nrBytes <= MAX_TRACKED;
      // A part of a live mapping, or
      domain = told >= 0 || !tracked ? told : this.#domainHolding(start, end);
      if (domain >= 0 && tracked && this.#pagesOf(domain).contains(start, end)) {
        this.#partialUnmaps += 1;
      } else {
        // one made before the trace began, or whose map event was lost.
        if (domain < 0) domain = this.#freeDomain(start, tracked ? end : start + 1);
        if (tracked && this.#pagesOf(domain).intersects(start, end)) {
          this.#record(CallKind.forget, domain, 0);
        }
        this.#record(CallKind.adopt, domain, 0);
      }
    }
    if (nrBytes <= TRACKED) this.#pagesOf(domain).remove(start, end);
    this.#record(CALL_UNMAP, domain, 0);
  }
}
