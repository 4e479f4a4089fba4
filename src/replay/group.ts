/**
 * From events back to calls. The kernel reports one iommu:map per physically contiguous run, so a map_sg shows as several,
 * and up to v6.11 nothing says where a call begins, where it ends, or in which domain. This is the first pass: it decides
 * for each map event whether it begins and whether it ends a call, and for each unmap event which call it ends.
 *
 * Rules, strongest first:
 * 1. dma:* events (v6.12 and later): the event after the maps names device and extent. Exact.
 * 2. A call is unmapped by one unmap of exactly its extent. Where several live chains of events have a piece of that extent
 *    (domains use the same addresses), the one most likely to be a call is taken, the newest among equals; see Chains.
 *    Where no call has the extent, calls behind each other that fill it are taken (VFIO unmaps several maps at once).
 * 3. What the trace never unmaps is cut into the most likely calls that the allocator could have placed so.
 *    `ambiguous` counts calls found by rules 2 and 3 with a chance of more than 1 in 20 to be cut wrong.
 * 4. A one-to-one mapping followed, in its context, by attach_device_to_domain is a direct mapping (IOMMU_RESV_DIRECT):
 *    made before the domain is attached to anything, so nothing is there to be flushed.
 */
import { alignDown, alignUp, PAGE_SIZE } from '../base/index.ts';
import type { Names, TraceEvent, TraceSink } from '../trace/index.ts';
import { EventKind, IrqContext } from '../trace/index.ts';
import { Chains } from './chains.ts';
import { Contexts } from './contexts.ts';
import type { SpillStore } from './record-log.ts';
import { RecordLog } from './record-log.ts';
import { Topology } from './topology.ts';

/** Kinds of stored events; the first double of their record. */
export const StoredKind = { map: 1, unmap: 2, attach: 3, detach: 4, mark: 5 } as const;
/** Doubles per stored event: kind, CPU and context packed, first byte, bytes, paddr (map) or name number (others), time in ns. */
export const STORED_DOUBLES = 5;
const STORED: number = STORED_DOUBLES;
/** First double: kind + 8 * CPU + 2^32 * (interrupt level + 4 * number of the context). */
export const STORED_CPU = 8;
export const STORED_CONTEXT: number = 2 ** 32;
export const STORED_LEVELS = 4;
/** Contexts with numbers that are kept; those of longer traces share them. */
const KEPT_CONTEXTS = 2 ** 19 - 1;

/** Bits of a decision: a map event begins a call, ends one; the rest is the slot of the call. */
export const DECISION_BEGINS = 1;
export const DECISION_ENDS = 2;
export const DECISION_DIRECT = 4;
export const DECISION_SHIFT = 3;
/** Of an event after which its context shows nothing more. */
export const NEVER: number = 2 ** 31 - 1;
/** Decision of an unmap event that ends no call of this trace. */
export const NO_CALL: number = -1;

/** What the first pass counted. */
export interface GroupingCounts {
  map: number;
  unmap: number;
  dma: number;
  lost: number;
  /** Calls whose extent a dma:* event told. */
  told: number;
  /** Calls found by rule 2 or 3. */
  inferred: number;
  /** Calls whose extent is a guess among alternatives; with `attribute`, also unmaps of which it is one whether they were strict. */
  ambiguous: number;
  unmapWithoutMap: number;
}

/** Local copies: V8 reloads imported and exported bindings at every use, and these are used for each event. */
const { map: EVENT_MAP, unmap: EVENT_UNMAP, qiSubmit: QI_SUBMIT, cacheTag: CACHE_TAG } = EventKind;
const { map: STORED_MAP, unmap: STORED_UNMAP } = StoredKind;
const { task: TASK, softirq: SOFTIRQ } = IrqContext;
const CPU: number = STORED_CPU;
const CONTEXT: number = STORED_CONTEXT;
const LEVELS: number = STORED_LEVELS;
const BEGINS: number = DECISION_BEGINS;
const ENDS: number = DECISION_ENDS;
const SLOT_SHIFT: number = DECISION_SHIFT;
/** Interrupt depths of a CPU, the task's own included. */
const NR_DEPTHS: number = Object.keys(IrqContext).length;

interface ContextState {
  readonly id: number;
  /** Its part of the first double of stored events. */
  readonly stored: number;
  /** The live record that a next map event may continue, or -1; its event, since records are reused once released. */
  last: number;
  lastEvent: number;
  lastNs: number;
  /** Lowest address mapped so far. */
  lowest: number;
  /** The stored event whose flush may still be under way, or -1. */
  open: number;
  /** An unmap that waits for its dma_unmap_* event: its event number, -1 for none. */
  unmapEvent: number;
  unmapStart: number;
  unmapEnd: number;
  unmapNs: number;
  /** Domain named by a dma_unmap_sg or dma_free in front of its unmap, -1 for none. */
  hint: number;
}

/** Answers: what a machine flushed is no input to a prediction of it. The reader does not even decode them. */
const ANSWERS: readonly EventKind[] = [EventKind.qiSubmit, EventKind.cacheTag];

export class Grouper implements TraceSink {
  readonly wants: readonly EventKind[] = Object.values(EventKind).filter((kind) => !ANSWERS.includes(kind));
  readonly topology: Topology = new Topology();
  readonly log: RecordLog;
  readonly marks: string[] = [];
  readonly counts: GroupingCounts = {
    map: 0,
    unmap: 0,
    dma: 0,
    lost: 0,
    told: 0,
    inferred: 0,
    ambiguous: 0,
    unmapWithoutMap: 0,
  };
  /** Per stored event: DECISION_* bits and the slot of the call; for unmaps the slot alone, or NO_CALL. */
  decisions: Int32Array = new Int32Array(4096).fill(NO_CALL);
  /** Per stored event: the domain's number, -1 unknown. */
  domains: Int16Array = new Int16Array(4096).fill(-1);
  /**
   * Per stored event: number of the first event before which its flush was certainly done, because the same context went on.
   * Until then flushes of other CPUs may overtake it: which did, the trace does not tell.
   */
  latest: Int32Array = new Int32Array(4096).fill(NEVER);
  /** Malformed lines, told by the reader: first few kept for the report. */
  readonly skips: { line: number; what: string; excerpt: string }[] = [];
  nrSkipped = 0;

  readonly #names: Names;
  readonly #contexts = new Contexts();
  readonly #states: ContextState[] = [];
  /** The event of each interrupt depth of each CPU whose flush may still be under way, -1 for none; how many there are. */
  #openByCpu: Int32Array = new Int32Array(32).fill(-1);
  #nrInterrupts = 0;
  readonly #chains = new Chains();
  readonly #live = this.#chains.live;
  #nrEvents = 0;
  #hasDma = false;

  constructor(names: Names, spill: SpillStore | null = null) {
    this.#names = names;
    this.log = new RecordLog(spill);
  }

  /** Events stored so far. */
  get nrStored(): number {
    return this.#nrEvents;
  }

  skipped(line: number, what: string, excerpt: string): void {
    this.nrSkipped += 1;
    if (this.skips.length < 10) this.skips.push({ line, what, excerpt });
  }

  #store(kind: number, event: TraceEvent, state: ContextState, start: number, nrBytes: number, extra: number): number {
    const number = this.#nrEvents++;
    if (number === this.decisions.length) this.#grow();
    const at = this.log.reserve(STORED);
    const { data } = this.log;
    const { cpu, irqContext } = event;
    data[at] = kind + CPU * cpu + state.stored;
    data[at + 1] = start;
    data[at + 2] = nrBytes;
    data[at + 3] = extra;
    data[at + 4] = event.timeNs;
    if (irqContext === TASK) {
      state.open = number;
    } else {
      if ((cpu + 1) * NR_DEPTHS > this.#openByCpu.length) this.#growOpen(cpu);
      this.#openByCpu[cpu * NR_DEPTHS + irqContext] = number;
      this.#nrInterrupts += 1;
    }
    return number;
  }

  #grow(): void {
    const decisions = new Int32Array(this.decisions.length * 2).fill(NO_CALL);
    decisions.set(this.decisions);
    this.decisions = decisions;
    const domains = new Int16Array(decisions.length).fill(-1);
    domains.set(this.domains);
    this.domains = domains;
    const latest = new Int32Array(decisions.length).fill(NEVER);
    latest.set(this.latest);
    this.latest = latest;
  }

  #growOpen(cpu: number): void {
    const larger = new Int32Array(Math.max((cpu + 1) * NR_DEPTHS, this.#openByCpu.length * 2)).fill(-1);
    larger.set(this.#openByCpu);
    this.#openByCpu = larger;
  }

  /** A context that shows a new event has ended its last call; so have the interrupts above it on its CPU. */
  #close(event: TraceEvent, state: ContextState): void {
    if (this.#nrInterrupts > 0) this.#closeInterrupts(event);
    if (event.irqContext !== TASK) return;
    if (state.open >= 0) this.latest[state.open] = this.#nrEvents;
    state.open = -1;
  }

  #closeInterrupts(event: TraceEvent): void {
    const begin = event.cpu * NR_DEPTHS;
    for (let depth = Math.max(event.irqContext, SOFTIRQ); depth < NR_DEPTHS; depth++) {
      const ended = begin + depth < this.#openByCpu.length ? this.#openByCpu[begin + depth] : -1;
      if (ended < 0) continue;
      this.latest[ended] = this.#nrEvents;
      this.#openByCpu[begin + depth] = -1;
      this.#nrInterrupts -= 1;
    }
  }

  #state(event: TraceEvent): ContextState {
    const id = this.#contexts.idOf(event.pid, event.cpu, event.irqContext);
    let state = this.#states[id];
    if (state === undefined) {
      state = {
        id,
        stored: CONTEXT * (LEVELS * (id & KEPT_CONTEXTS) + event.irqContext),
        last: -1,
        lastEvent: -1,
        lastNs: 0,
        lowest: Infinity,
        open: -1,
        unmapEvent: -1,
        unmapStart: 0,
        unmapEnd: 0,
        unmapNs: 0,
        hint: -1,
      };
      this.#states[id] = state;
    }
    return state;
  }

  event(event: TraceEvent): void {
    // Answers must not sharpen a prediction, not even by their place in the file.
    if (event.kind === QI_SUBMIT || event.kind === CACHE_TAG) return;
    const state = this.#state(event);
    this.#close(event, state);
    // Nearly all events of most traces; the cases of the switch are looked at one by one.
    if (event.kind === EVENT_MAP) return this.#map(event, state);
    if (event.kind === EVENT_UNMAP) return this.#unmap(event, state);
    switch (event.kind) {
      case EventKind.dmaMap:
      case EventKind.dmaAlloc:
        this.#dma(event);
        this.#claim(event, state, alignDown(event.iova, PAGE_SIZE), alignUp(event.iova + event.nrBytes, PAGE_SIZE));
        return;
      case EventKind.dmaMapSg: {
        this.#dma(event);
        if (event.listLength === 0) return;
        const last = (event.listLength - 1) * 2;
        const end = event.listTruncated
          ? -1
          : alignUp((event.list[last] ?? 0) + (event.list[last + 1] ?? 0), PAGE_SIZE);
        this.#claim(event, state, alignDown(event.list[0] ?? 0, PAGE_SIZE), end);
        return;
      }
      case EventKind.dmaUnmap:
      case EventKind.dmaFree:
      case EventKind.dmaUnmapSg:
        this.#dma(event);
        this.#dmaUnmap(event, state);
        return;
      case EventKind.dmaMapSgError:
      case EventKind.dmaSync:
        this.#dma(event);
        return;
      case EventKind.attach:
        this.#attach(event, state);
        return;
      case EventKind.detach: {
        const name = this.#names.nameOf(event.device);
        const number = this.#store(StoredKind.detach, event, state, this.topology.device(name).sid, 0, event.device);
        this.domains[number] = this.topology.domainOf(name).number;
        return;
      }
      case EventKind.addDevice:
        this.topology.addToGroup(this.#names.nameOf(event.device), event.extra);
        return;
      case EventKind.mark:
        this.marks.push(event.text);
        this.#store(StoredKind.mark, event, state, this.marks.length - 1, 0, 0);
        return;
      case EventKind.lost:
        this.counts.lost += Math.max(event.extra, 1);
        return;
      case EventKind.removeDevice:
      case EventKind.fault:
      case EventKind.other:
        return;
      default:
        event.kind satisfies never;
    }
  }

  #dma(_event: TraceEvent): void {
    this.counts.dma += 1;
    this.#hasDma = true;
  }

  #map(event: TraceEvent, state: ContextState): void {
    this.counts.map += 1;
    if (state.unmapEvent >= 0) this.#settle(state, -1);
    state.hint = -1;
    const { iova, nrBytes, paddr, timeNs } = event;
    const number = this.#store(STORED_MAP, event, state, iova, nrBytes, paddr);
    const id = this.#live.add(iova, iova + nrBytes, paddr, number, timeNs, state.id, state.lowest);
    if (state.last >= 0) this.#chains.add(id, this.#lastOf(state), timeNs - state.lastNs);
    state.last = id;
    state.lastEvent = number;
    state.lastNs = timeNs;
    if (iova < state.lowest) state.lowest = iova;
  }

  /** The record that this context mapped last, if it is still live. */
  #lastOf(state: ContextState): number {
    return state.last >= 0 && this.#live.event(state.last) === state.lastEvent ? state.last : -1;
  }

  /** Makes the records from `first` along the chain to `last` one call. */
  #decide(first: number, last: number, domain: number): void {
    this.#chains.cutOut(first, last);
    this.#assign(first, last, domain, first);
  }

  /** Writes down that first..last are a call of a slot. Calls that one unmap ends share theirs, and so their domain. */
  #assign(first: number, last: number, domain: number, slot: number): void {
    const live = this.#live;
    for (let id = first; ; id = live.next(id)) {
      live.decide(id, first, domain);
      const bits = (id === first ? BEGINS : 0) | (id === last ? ENDS : 0);
      const event = live.event(id);
      this.decisions[event] = (slot << SLOT_SHIFT) | bits;
      this.domains[event] = domain;
      if (id === last) return;
    }
  }

  /** Rule 1: a dma:* event says that this context just mapped [start, end). @param end -1: up to the last map */
  #claim(event: TraceEvent, state: ContextState, start: number, end: number): void {
    if (state.unmapEvent >= 0) this.#settle(state, -1);
    state.hint = -1;
    const last = this.#lastOf(state);
    state.last = -1;
    const live = this.#live;
    // Devices that bypass the IOMMU make dma events without maps.
    if (last < 0 || (end >= 0 && live.end(last) !== end) || live.head(last) >= 0) return;
    let first = last;
    while (live.start(first) > start && live.previous(first) >= 0) first = live.previous(first);
    if (live.start(first) !== start) return;
    this.#decide(first, last, this.topology.domainOf(this.#names.nameOf(event.device)).number);
    this.counts.told += 1;
  }

  #unmap(event: TraceEvent, state: ContextState): void {
    this.counts.unmap += 1;
    if (state.unmapEvent >= 0) this.#settle(state, -1);
    state.last = -1;
    state.unmapStart = event.iova;
    state.unmapEnd = event.iova + event.nrBytes;
    state.unmapNs = event.timeNs;
    state.unmapEvent = this.#store(STORED_UNMAP, event, state, event.iova, event.nrBytes, 0);
    // With dma events around, the next one of this context may name the device; without them nothing more will come.
    if (!this.#hasDma || state.hint >= 0) this.#settle(state, state.hint);
    state.hint = -1;
  }

  #dmaUnmap(event: TraceEvent, state: ContextState): void {
    state.last = -1;
    const domain = this.topology.domainOf(this.#names.nameOf(event.device)).number;
    if (state.unmapEvent >= 0) {
      const ofThis = event.kind !== EventKind.dmaUnmapSg && alignDown(event.iova, PAGE_SIZE) === state.unmapStart;
      this.#settle(state, ofThis ? domain : -1);
      if (ofThis) return;
    }
    state.hint = domain;
  }

  /** Finds the call that the context's pending unmap ends. @param domain -1 when nobody told */
  #settle(state: ContextState, domain: number): void {
    const event = state.unmapEvent;
    state.unmapEvent = -1;
    const live = this.#live;
    const chains = this.#chains;
    chains.find(state.unmapStart, state.unmapEnd, event, state.unmapNs, domain);
    chains.free(state.unmapStart, state.unmapEnd);
    const { first: found, last: foundLast } = chains;
    if (found < 0) {
      this.domains[event] = domain;
      if (!this.#settleSeveral(state, event, domain)) this.counts.unmapWithoutMap += 1;
      return;
    }
    if (live.head(found) < 0) {
      this.#decide(found, foundLast, domain);
      this.counts.inferred += 1;
      if (chains.ambiguous) this.counts.ambiguous += 1;
    }
    this.decisions[event] = found;
    this.domains[event] = live.domain(found);
    this.#release(found, foundLast, event);
  }

  /** Ends a call. @param event the unmap's: it was called after the map had returned, so the map's flush was done by then */
  #release(first: number, last: number, event: number): void {
    const live = this.#live;
    const made = live.event(last);
    if (event < this.latest[made]) this.latest[made] = event;
    for (let id = last; ;) {
      const before = live.previous(id);
      live.release(id);
      if (id === first) return;
      id = before;
    }
  }

  /** An unmap that ends several whole calls. @returns false when there are none to end */
  #settleSeveral(state: ContextState, event: number, told: number): boolean {
    const live = this.#live;
    const calls = this.#chains.cover(state.unmapStart, state.unmapEnd, event, told);
    if (calls === null) return false;
    let domain = told;
    for (const id of calls) if (domain < 0) domain = live.domain(id);
    // The earliest record's number: it is in use from the first of these events to this one, the others' are not.
    const slot = calls.at(-2) ?? -1;
    for (let i = 0; i < calls.length; i += 2) {
      const first = calls[i] ?? -1;
      const last = calls[i + 1] ?? -1;
      if (live.head(last) < 0) {
        this.#chains.cutOut(first, last);
        this.counts.inferred += 1;
      }
      this.#assign(first, last, domain, slot);
      this.#release(first, last, event);
    }
    this.decisions[event] = slot;
    this.domains[event] = domain;
    return true;
  }

  /** Rule 4, and the attachment itself. */
  #attach(event: TraceEvent, state: ContextState): void {
    const name = this.#names.nameOf(event.device);
    const domain = this.topology.domainOf(name).number;
    if (state.unmapEvent >= 0) this.#settle(state, -1);
    const live = this.#live;
    const last = this.#lastOf(state);
    if (last >= 0 && live.head(last) < 0 && live.start(last) === live.paddr(last)) {
      this.#decide(last, last, domain);
      this.decisions[live.event(last)] |= DECISION_DIRECT;
      this.counts.inferred += 1;
    }
    state.last = -1;
    const number = this.#store(StoredKind.attach, event, state, this.topology.device(name).sid, 0, event.device);
    this.domains[number] = domain;
  }

  /** Ends the first pass: settles what waits, and cuts what was never unmapped (rule 3). */
  finish(): void {
    for (const state of this.#states) if (state !== undefined && state.unmapEvent >= 0) this.#settle(state, -1);
    const live = this.#live;
    const calls: number[] = [];
    live.forEachByEvent((id) => {
      if (live.head(id) >= 0 || live.previous(id) >= 0) return;
      this.#chains.cut(id, (first, last, ambiguous) => {
        calls.push(first, last);
        this.counts.inferred += 1;
        if (ambiguous) this.counts.ambiguous += 1;
      });
    });
    for (let i = 0; i < calls.length; i += 2) this.#decide(calls[i] ?? -1, calls[i + 1] ?? -1, -1);
  }
}
