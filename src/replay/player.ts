/**
 * One run: the calls of a plan on one machine under one flush policy.
 *
 * A device is played too. For each page of each call it makes one access before the map (as a prefetching device might; the
 * page is not mapped, and hardware that caches "not present" now does), one after the map (must reach the new page), and one
 * after the unmap (must reach nothing). What hits a cache that should have been flushed counts as a violation.
 */
import type { MapFlush, UnmapFlush } from '../drivers/index.ts';
import { UNMAP_FLUSHES } from '../drivers/index.ts';
import { DmaCookie } from '../dma/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { Device, IommuDomain } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import { Histogram } from './histogram.ts';
import type { HardwareModel } from './machines.ts';
import { commandSet, makeMachine } from './machines.ts';
import { PageSet } from './page-set.ts';
import type { Plan } from './plan.ts';
import { CALL_CPU, CALL_DOMAIN, CALL_DOUBLES, CALL_WINDOW, CallKind, MAX_TRACKED } from './plan.ts';
import type { CommandCounts, PageLog } from './commands.ts';
import { noCommands } from './commands.ts';
import { CommandRecorder } from './recorder.ts';
import type { RecordReader } from './record-log.ts';
import { Renames } from './renames.ts';
import type { RunObserver } from './run-observer.ts';
import { TICK_MS } from './tick.ts';

/** `recorded`: each domain as the trace shows it, strict and from some time on lazy. Needs a plan with `lazyFrom`. */
export type UnmapPolicy = UnmapFlush | 'recorded';

export const UNMAP_POLICIES: readonly UnmapPolicy[] = [...UNMAP_FLUSHES, 'recorded'];

export interface RunOptions {
  /** Default vtd. */
  readonly model?: HardwareModel;
  readonly preset: string;
  readonly mapFlush: MapFlush;
  readonly unmapFlush: UnmapPolicy;
  readonly cachingMode: boolean;
  /** Keeps the sequence of page-selective invalidations, for a comparison. */
  readonly keepPages?: boolean;
  /** Is told of all that happens from the first call on: what powering the machine up takes comes before. */
  readonly observer?: RunObserver;
}

/** State of the command counters where the trace has a mark. */
export interface MarkCounts {
  readonly name: string;
  readonly commands: CommandCounts;
  readonly nrPages: number;
}

export interface RunResult {
  readonly preset: string;
  readonly mapFlush: MapFlush;
  readonly unmapFlush: UnmapPolicy;
  readonly commands: CommandCounts;
  readonly doorbells: number;
  /** Invalidation commands (waits not counted) made by map calls, per map call. */
  readonly perMapCall: number;
  /** Invalidation commands made by unmaps and flush rounds, per unmap. */
  readonly perUnmap: number;
  /** How long unmapped ranges stayed reachable, in milliseconds of the trace's clock; strict waits, so 0. */
  readonly staleWindowMs: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Accesses that hit what should have been flushed. */
  readonly violations: { readonly notPresent: number; readonly stale: number };
  /** Map calls given another IOVA, because a strict recording reused one that still waits in the flush queue. */
  readonly renamed: number;
  /** Pages not accessed because their call is longer than 65,536 pages: of those only every n-th page is. */
  readonly untouchedPages: number;
  /** Calls that the stack refused, which a consistent trace does not have. */
  readonly failed: number;
}

const PAGE = 4096;
const READ = 1;
/** Most steps for removing a mapping whose unmap the trace misses. */
const MAX_FORGET: number = 1 << 20;
/** Most pages of one call that the device accesses. */
const MAX_TOUCHED = 65536;
const LONGEST: number = MAX_TOUCHED * PAGE;
/** Local copies: V8 reloads imported bindings at every use, and these are used for each call. */
const { map: MAP, unmap: UNMAP, direct: DIRECT, attach: ATTACH } = CallKind;
const RECORD: number = CALL_DOUBLES;
const CPU: number = CALL_CPU;
const DOMAIN: number = CALL_DOMAIN;

class DomainState {
  readonly domain: IommuDomain;
  readonly devices: readonly Device[];
  readonly cookie: DmaCookie;
  /** Requester that accesses memory; the first device attached. */
  sid = -1;
  /** Pages that wait in the flush queue. */
  readonly queued: PageSet = new PageSet();
  readonly renames: Renames = new Renames();

  /** The event from which on unmaps are lazy; Infinity when they are as they were at the start. */
  lazyFrom: number;

  constructor(domain: IommuDomain, devices: readonly Device[], cookie: DmaCookie, lazyFrom: number) {
    this.lazyFrom = lazyFrom;
    this.domain = domain;
    this.devices = devices;
    this.cookie = cookie;
  }
}

export class Player {
  readonly machine: Machine;
  readonly #options: RunOptions;
  readonly #plan: Plan;
  readonly #reader: RecordReader;
  readonly #recorder: CommandRecorder;
  readonly #observer: RunObserver | null;
  readonly #domains: (DomainState | undefined)[] = [];
  readonly #windows = new Histogram();
  readonly #marks: MarkCounts[] = [];
  /** Some domain may have a flush queue. */
  readonly #lazy: boolean;
  /** By domain the event at which its queue starts; null when all are alike. */
  readonly #lazyFrom: readonly number[] | null;
  #chunks: Float64Array = new Float64Array(1024);
  /** Where the accesses of the last `#access` led. */
  #outcomes: Float64Array = new Float64Array(1024);
  /** The kernel boots: all calls so far were attachments. */
  #probing = true;
  #nextDeadlineNs = Infinity;
  #nrDone = 0;
  #mapCalls = 0;
  #unmaps = 0;
  #mapCommands = 0;
  #unmapCommands = 0;
  #notPresent = 0;
  #stale = 0;
  #renamed = 0;
  #failed = 0;
  #untouched = 0;

  constructor(plan: Plan, options: RunOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#lazy = options.unmapFlush !== 'strict';
    this.#lazyFrom = options.unmapFlush === 'recorded' ? plan.lazyFrom : null;
    if (options.unmapFlush === 'recorded' && plan.lazyFrom === null) {
      throw new RangeError('which domains unmap lazily was not asked for when the plan was made; see attribute');
    }
    const model = options.model ?? 'vtd';
    this.#recorder = new CommandRecorder(commandSet(model), options.keepPages ?? false);
    this.machine = makeMachine({ ...options, model }, plan, this.#recorder);
    this.#observer = options.observer ?? null;
    if (this.#observer !== null) this.#recorder.watch(this.#observer, this.machine.clock);
    this.#reader = plan.calls.reader();
  }

  /** Calls played so far. */
  get nrDone(): number {
    return this.#nrDone;
  }

  /** Plays up to `nrCalls` more calls. @returns false when the trace is at its end */
  step(nrCalls: number): boolean {
    const reader = this.#reader;
    const recorder = this.#recorder;
    const { nrRecords } = this.#plan;
    const { clock } = this.machine;
    for (let i = 0; i < nrCalls; i++) {
      if (this.#nrDone === nrRecords) return this.#finish();
      const at = reader.take(RECORD);
      const { data } = reader;
      const packed = data[at];
      const kind = packed & 15;
      const cpu = (packed / CPU) & 0xffff;
      const domain = (packed / DOMAIN) | 0;
      const start = data[at + 1];
      const nrBytes = data[at + 2];
      const timeNs = data[at + 3];
      const nrChunks = data[at + 5] | 0;
      recorder.window = data[at + 4];
      if (this.#nextDeadlineNs <= timeNs) this.#fire(timeNs);
      clock.advanceTo(timeNs);
      recorder.domain = domain;
      this.#nrDone += 1;
      if (this.#probing && kind !== ATTACH && kind !== DIRECT) {
        this.#probing = false;
        this.machine.probed();
      }
      if (kind === MAP || kind === DIRECT) {
        this.#readChunks(nrChunks);
        this.#map(this.#domain(domain, kind === MAP), start, nrBytes, nrChunks);
      } else if (kind === UNMAP) {
        this.#unmap(this.#domain(domain, true), start, nrBytes, cpu);
      } else {
        this.#rare(kind, domain, start, nrBytes);
      }
    }
    return this.#nrDone === nrRecords ? this.#finish() : true;
  }

  /** The trace is at its end: timers that are armed still fire, or the last windows would never close. @returns false */
  #finish(): boolean {
    // Each domain with a queue has its own.
    while (this.#nextDeadlineNs < Infinity) this.#fire(this.#nextDeadlineNs);
    return false;
  }

  #rare(kind: number, domain: number, start: number, nrBytes: number): void {
    if (kind === CallKind.attach) {
      this.#probing = true;
      this.#attach(this.#domain(domain, false), start);
    } else if (kind === CallKind.detach) this.#detach(this.#domain(domain, false), start);
    else if (kind === CallKind.mark) {
      this.#marks.push({
        name: this.#plan.marks[start] ?? '',
        commands: { ...this.#recorder.counts },
        nrPages: this.#recorder.pages?.length ?? 0,
      });
    } else {
      // What the trace does not show is done without counting: a mapping from before its begin, an unmap it lost.
      const state = this.#domain(domain, true);
      this.#recorder.counting = false;
      if (kind === CallKind.adopt) {
        this.#chunks[0] = start;
        this.#chunks[1] = nrBytes;
        state.cookie.mapAt(start, this.#chunks, 1, IOMMU_READ | IOMMU_WRITE);
      } else {
        this.#forget(state, start, nrBytes);
      }
      this.#recorder.counting = true;
    }
  }

  #forget(state: DomainState, start: number, nrBytes: number): void {
    // Page by page through holes; a range too long for that is left, and the map that follows will say so by failing.
    for (let done = 0, tries = 0; done < nrBytes && tries < MAX_FORGET; tries++) {
      const actual = state.renames.end(start + done);
      const removed = this.machine.core.unmap(state.domain, actual < 0 ? start + done : actual, nrBytes - done);
      if (actual >= 0) state.renames.release(actual, removed);
      done += removed === 0 ? 4096 : removed;
    }
  }

  #readChunks(nrChunks: number): void {
    if (this.#chunks.length < 2 * nrChunks) this.#chunks = new Float64Array(4 * nrChunks);
    const chunks = this.#chunks;
    const reader = this.#reader;
    if (2 * nrChunks <= reader.room) {
      // They are parts of their own, but as long as a block goes on they follow each other.
      const at = reader.take(2 * nrChunks);
      const { data } = reader;
      for (let i = 0; i < 2 * nrChunks; i++) chunks[i] = data[at + i];
      return;
    }
    for (let i = 0; i < 2 * nrChunks; i += 2) {
      const at = reader.take(2);
      chunks[i] = reader.data[at];
      chunks[i + 1] = reader.data[at + 1];
    }
  }

  /** Timers of flush queues fire on the way to a time, in order. */
  #fire(timeNs: number): void {
    const { clock } = this.machine;
    while (this.#nextDeadlineNs <= timeNs) {
      clock.advanceTo(this.#nextDeadlineNs);
      const before = this.#invalidations();
      this.#nextDeadlineNs = Infinity;
      for (const [number, state] of this.#domains.entries()) {
        if (state === undefined) continue;
        this.#recorder.domain = number;
        state.cookie.timeout();
        this.#nextDeadlineNs = Math.min(this.#nextDeadlineNs, state.cookie.deadlineNs);
      }
      this.#unmapCommands += this.#invalidations() - before;
    }
  }

  /** Invalidation commands so far: everything but waits. */
  #invalidations(): number {
    const { counts } = this.#recorder;
    return counts.total - counts.wait;
  }

  #domain(number: number, attached: boolean): DomainState {
    let state = this.#domains[number];
    if (state === undefined) {
      state = this.#makeDomain(number);
      this.#domains[number] = state;
    }
    if (attached && state.sid < 0) {
      // The trace begins after the attachment, or the domain is inferred.
      for (const device of state.devices) this.#attach(state, device.sid);
    }
    return state;
  }

  #makeDomain(number: number): DomainState {
    const { driver, core, clock, pages } = this.machine;
    const domain = driver.domainAlloc('paging');
    if (domain === null) throw new RangeError('the machine has no memory for another domain');
    const cookie = new DmaCookie(core, domain, clock, {
      flushQueue: { tickMs: TICK_MS },
      flushAfterMap: this.#options.mapFlush === 'caller',
      freeTables: (tables) => {
        for (const pfn of tables) pages.free(pfn);
      },
      released: (iova, nrBytes) => this.#released(number, iova, nrBytes),
      windowClosed: (queuedNs, flushedNs, iova, nrBytes) => {
        this.#windows.add(flushedNs - queuedNs);
        this.#observer?.windowClosed(number, iova, nrBytes, queuedNs, flushedNs);
      },
    });
    // Also where the hardware forces strict: the run shows what lazy would do there.
    if (this.#options.unmapFlush === 'lazy') cookie.startQueue();
    const devices = this.#plan.domains[number]?.devices ?? [];
    return new DomainState(domain, devices, cookie, this.#lazyFrom?.[number] ?? Infinity);
  }

  #released(number: number, iova: number, nrBytes: number): void {
    const state = this.#domains[number];
    if (state === undefined) return;
    if (state.renames.owns(iova)) state.renames.release(iova, nrBytes);
    else state.queued.remove(iova, iova + nrBytes);
  }

  #attach(state: DomainState, sid: number): void {
    const device = state.devices.find((candidate) => candidate.sid === sid) ?? { name: `sid-${sid}`, sid };
    const { driver } = this.machine;
    driver.probeDevice(device);
    if (driver.attachDev(state.domain, device) !== 0) this.#failed += 1;
    else if (state.sid < 0) state.sid = sid;
  }

  #detach(state: DomainState, sid: number): void {
    const device = state.devices.find((candidate) => candidate.sid === sid);
    if (device === undefined) return;
    this.machine.driver.detachDev(state.domain, device);
    if (state.sid === sid) state.sid = -1;
  }

  #map(state: DomainState, start: number, nrBytes: number, nrChunks: number): void {
    this.#mapCalls += 1;
    let iova = start;
    if (this.#lazy && nrBytes <= MAX_TRACKED && state.queued.intersects(start, start + nrBytes)) {
      iova = this.#rename(state, start, nrBytes);
    }
    const { sid } = state;
    if (nrBytes > LONGEST) this.#untouched += untouchedOf(nrBytes);
    if (sid >= 0) this.#access(sid, iova, nrBytes);
    const nrNotPresent = this.#notPresent;
    const nrStale = this.#stale;
    this.#observer?.map(this.#recorder.domain, iova, nrBytes, this.machine.clock.nowNs());
    const before = this.#invalidations();
    const result = state.cookie.mapAt(iova, this.#chunks, nrChunks, IOMMU_READ | IOMMU_WRITE);
    this.#mapCommands += this.#invalidations() - before;
    this.#recorder.renamedBy = 0;
    if (result < 0) {
      this.#failed += 1;
      return;
    }
    if (sid < 0) return;
    if (nrBytes > LONGEST) this.#checkSparsely(sid, iova, nrBytes, nrChunks);
    else this.#checkAll(sid, iova, nrBytes, nrChunks);
    if (this.#observer !== null) this.#showViolations(this.#observer, iova, nrNotPresent, nrStale);
  }

  /** Tells of the violations since there were so many. */
  #showViolations(observer: RunObserver, iova: number, nrNotPresent: number, nrStale: number): void {
    const timeNs = this.machine.clock.nowNs();
    const { domain } = this.#recorder;
    const notPresent = this.#notPresent - nrNotPresent;
    const stale = this.#stale - nrStale;
    if (notPresent > 0) observer.violation(true, domain, iova, notPresent, timeNs);
    if (stale > 0) observer.violation(false, domain, iova, stale, timeNs);
  }

  #checkAll(sid: number, iova: number, nrBytes: number, nrChunks: number): void {
    this.#access(sid, iova, nrBytes);
    const outcomes = this.#outcomes;
    const chunks = this.#chunks;
    let index = 0;
    for (let i = 0; i < nrChunks; i++) {
      const paddr = chunks[2 * i];
      const chunkBytes = chunks[2 * i + 1];
      for (let done = 0; done < chunkBytes; done += PAGE) this.#check(outcomes[index++], paddr + done);
    }
  }

  /** An access after the map: must reach the new page. */
  #check(got: number, expected: number): void {
    if (got === expected) return;
    if (got < 0) this.#notPresent += 1;
    else this.#stale += 1;
  }

  #checkSparsely(sid: number, iova: number, nrBytes: number, nrChunks: number): void {
    const { unit } = this.machine;
    const chunks = this.#chunks;
    const stride = strideOf(nrBytes);
    let start = iova;
    for (let i = 0; i < nrChunks; i++) {
      const chunkBytes = chunks[2 * i + 1];
      for (let done = 0; done < chunkBytes; done += stride) {
        this.#check(unit.translate(sid, start + done, READ), chunks[2 * i] + done);
      }
      start += chunkBytes;
    }
  }

  /** The device accesses the pages of a range: each one, unless there are too many. @returns how many; see `#outcomes` */
  #access(sid: number, iova: number, nrBytes: number): number {
    const { unit } = this.machine;
    if (nrBytes === PAGE) {
      this.#outcomes[0] = unit.translate(sid, iova, READ);
      return 1;
    }
    if (nrBytes > LONGEST) return this.#accessSparsely(sid, iova, nrBytes);
    // Below 2^31 now: an int, which V8 checks anew at every use of a count that comes out of a division.
    const nr = ((nrBytes + PAGE - 1) / PAGE) | 0;
    if (nr > this.#outcomes.length) this.#outcomes = new Float64Array(2 * nr);
    unit.translateRun(sid, iova, nr, READ, this.#outcomes);
    return nr;
  }

  #accessSparsely(sid: number, iova: number, nrBytes: number): number {
    const { unit } = this.machine;
    const stride = strideOf(nrBytes);
    const nr = Math.ceil(nrBytes / stride);
    if (nr > this.#outcomes.length) this.#outcomes = new Float64Array(nr);
    for (let index = 0; index < nr; index++) this.#outcomes[index] = unit.translate(sid, iova + index * stride, READ);
    return nr;
  }

  /** Another IOVA for a range that a lazy machine could not have handed out yet. */
  #rename(state: DomainState, start: number, nrBytes: number): number {
    const iova = state.renames.take(start, nrBytes);
    if (iova < 0) return start;
    this.#renamed += 1;
    this.#recorder.renamedBy = (start - iova) / 4096;
    return iova;
  }

  #unmap(state: DomainState, start: number, nrBytes: number, cpu: number): void {
    this.#unmaps += 1;
    let iova = start;
    if (state.renames.count > 0) {
      const actual = state.renames.end(start);
      if (actual >= 0) {
        iova = actual;
        this.#recorder.renamedBy = (start - iova) / 4096;
      }
    }
    if (state.lazyFrom * CALL_WINDOW <= this.#recorder.window) {
      state.cookie.startQueue();
      state.lazyFrom = Infinity;
    }
    const isLazy = this.#lazy && state.cookie.isLazy;
    const nrStale = this.#stale;
    this.#observer?.unmap(this.#recorder.domain, iova, nrBytes, this.machine.clock.nowNs(), isLazy);
    const before = this.#invalidations();
    // Queued pages are marked before the call: it may flush and release this very range.
    if (isLazy && iova === start && nrBytes <= MAX_TRACKED) state.queued.add(iova, iova + nrBytes);
    state.cookie.unmapAt(iova, nrBytes, isLazy ? cpu : 0);
    this.#unmapCommands += this.#invalidations() - before;
    this.#recorder.renamedBy = 0;
    if (isLazy && state.cookie.deadlineNs < this.#nextDeadlineNs) this.#nextDeadlineNs = state.cookie.deadlineNs;
    if (state.cookie.unmappedBytes < nrBytes) {
      // Something of it was not mapped, so what is reachable now tells nothing about this unmap.
      this.#failed += 1;
      return;
    }
    const { sid } = state;
    if (sid < 0) return;
    if (nrBytes > LONGEST) this.#untouched += untouchedOf(nrBytes);
    const nr = this.#access(sid, iova, nrBytes);
    const outcomes = this.#outcomes;
    for (let index = 0; index < nr; index++) if (outcomes[index] >= 0) this.#stale += 1;
    if (this.#observer !== null) this.#showViolations(this.#observer, iova, this.#notPresent, nrStale);
  }

  /** Page-selective invalidations so far; null unless `keepPages`. */
  get pages(): PageLog | null {
    return this.#recorder.pages;
  }

  /** Counters at each mark of the trace, in order. */
  get marks(): readonly MarkCounts[] {
    return this.#marks;
  }

  /** What the run has shown so far; complete after the last step. */
  result(): RunResult {
    const windows = this.#windows;
    const ms = (ns: number): number => Math.round(ns / 1e3) / 1e3;
    return {
      preset: this.#options.preset,
      mapFlush: this.#options.mapFlush,
      unmapFlush: this.#options.unmapFlush,
      commands: { ...noCommands(), ...this.#recorder.counts },
      doorbells: this.#recorder.doorbells,
      perMapCall: this.#mapCalls === 0 ? 0 : this.#mapCommands / this.#mapCalls,
      perUnmap: this.#unmaps === 0 ? 0 : this.#unmapCommands / this.#unmaps,
      staleWindowMs: { p50: ms(windows.percentile(0.5)), p99: ms(windows.percentile(0.99)), max: ms(windows.max) },
      violations: { notPresent: this.#notPresent, stale: this.#stale },
      renamed: this.#renamed,
      untouchedPages: this.#untouched,
      failed: this.#failed,
    };
  }
}

/** Distance of the pages that a device accesses in a range too long for all of them. */
function strideOf(nrBytes: number): number {
  return Math.ceil(nrBytes / PAGE / MAX_TOUCHED) * PAGE;
}

/** Pages of a range that are not accessed. */
function untouchedOf(nrBytes: number): number {
  return Math.floor(nrBytes / PAGE) - Math.ceil(nrBytes / strideOf(nrBytes));
}
