/**
 * The IOVA allocator of one domain as far as its maps and unmaps show it: how well an address fits as its next one. What is
 * free in the tree is known exactly (IovaDomain places as Linux does). What is free in the magazines of CPUs is known as a
 * set, and mostly in order; not known is when and on which CPU a flush queue gave ranges back. The next address tells: a
 * range that is handed out says that those queued before it are in that CPU's magazine too.
 *
 * An unmapped range is free at once in a domain that unmaps strictly, and waits for a flush of the queue in a lazy one. So
 * what is handed out within the flush queue's time also tells which of the two a domain is; see UnmapMode.
 */
import { FQ_TIMEOUT_MS, IovaDomain } from '../dma/index.ts';
import { TICK_MS } from './tick.ts';
import type { UnmapMode } from './unmap-mode.ts';

/** Logarithms of how likely an address is that ... */
const EXACT = -0.1;
/** ... is the next one unless a flush came in between, or because one did. */
const RELEASED = -0.7;
/** ... was given back by a flush, but others after it. */
const OUT_OF_ORDER = -4;
/** ... lies in a magazine below others, or in another CPU's, or comes from the tree although a magazine had some. */
const OTHER = -4;
/** ... is free, but nowhere near the next one. */
const FREE = -7;
/** ... was queued last, and a flush comes earlier than thought. */
const EARLY = -5;
/** ... waits in the flush queue of a lazy domain. */
const QUEUED = -12;
/** ... is part of a range that is not free, or of one that is cached in another size. */
const TAKEN = -16;

/** A domain this likely to be lazy had a flush when what waits is handed out, whenever that is. */
const SURE = -0.01;
const TICK_NS: number = TICK_MS * 1e6;
const TIMEOUT_NS: number = FQ_TIMEOUT_MS * 1e6;
/** A round may come this long after the first range queued that is known of: the one before may have come later than thought. */
const EARLIEST_NS: number = 0.6 * TIMEOUT_NS;
/** By then it has come, interrupts and preempted CPUs allowed for. */
const LATEST_NS: number = 3 * TIMEOUT_NS;
/** Ranges waiting in a CPU's ring when it is flushed at once. */
const RING_ENTRIES = 255;
/** More ranges waiting than all rings take are no flush queue: a clock that stands still. */
const MAX_WAITING = 8192;
/** Largest range that has magazines, in pages, and how many sizes there are. */
const CACHED_PAGES = 32;
const NR_ORDERS = 6;
/** Last page of the first 4 GiB, where Linux looks first. */
const LOW_LAST = 2 ** 20 - 1;
/** x86: addresses that mean an interrupt, which are never handed out. */
const MSI_FIRST = 0xfee00;
const MSI_LAST = 0xfeeff;

/** An unmap event. */
export interface Unmapped {
  readonly event: number;
  readonly pfn: number;
  readonly nrPages: number;
  readonly cpu: number;
  readonly timeNs: number;
  /** Whether no other domain had a call that it could have ended. */
  readonly isCertain: boolean;
}

/** How an address came to be the next one. */
type Source = 'tree' | 'stack' | 'lower' | 'elsewhere' | 'round' | 'queue-top' | 'queue' | 'taken';

function orderOf(nrPages: number): number {
  return 32 - Math.clz32(nrPages - 1);
}

export class IovaModel {
  readonly mode: UnmapMode;
  readonly #tree: IovaDomain = new IovaDomain();
  /** Free ranges by CPU and order, the next one last. */
  readonly #stacks: number[][] = [];
  /** By order, what a round of the flush queue gave back to a CPU that is not known yet; in order. */
  readonly #rounds: number[][][] = Array.from({ length: NR_ORDERS }, () => []);
  /** Unmapped, and not known to be free; oldest first. */
  #queue: Unmapped[] = [];
  /** When the timer of a flush queue would have been armed last. */
  #armedNs = -Infinity;
  /** Sizes of all ranges in stacks, rounds and queue, by first page. */
  readonly #cached = new Map<number, number>();

  // What the last look found, for `take`.
  #source: Source = 'tree';
  #at = 0;
  #in: number[] = [];
  #top = -1;

  constructor(mode: UnmapMode) {
    this.mode = mode;
    this.#tree.reserve(MSI_FIRST, MSI_LAST);
  }

  /** Logarithm of how well an address fits as the next one for a size on a CPU. */
  fit(pfn: number, nrPages: number, cpu: number, timeNs: number): number {
    this.#settle(timeNs);
    const strict = this.mode.logStrict;
    const lazy = this.mode.logLazy;
    const order = nrPages <= CACHED_PAGES ? orderOf(nrPages) : -1;
    const size = order < 0 ? nrPages : 1 << order;
    this.#top = this.#newestQueued(order, size, cpu);
    // Without magazines the highest place is taken, whatever was freed last.
    if (order < 0 && this.#top >= 0 && this.#queue[this.#top].pfn < pfn) this.#top = -1;
    const top = this.#top < 0 ? null : this.#queue[this.#top];
    /** Log likelihood of what a strict domain does not do while one of this size was unmapped last on this CPU. */
    const passing = (likely: number): number => (top === null ? likely : Math.max(strict + OTHER, lazy + likely));
    if (this.#cached.get(pfn) !== size)
      return this.#fitOfTree(pfn, size, order < 0 ? [] : this.#stack(cpu, order), passing);
    const due = this.#isDue(timeNs);
    if (top?.pfn === pfn) {
      this.#source = 'queue-top';
      return Math.max(strict + EXACT, lazy + (due ? RELEASED : EARLY));
    }
    if (order >= 0) {
      const stack = this.#stack(cpu, order);
      if (stack.at(-1) === pfn) {
        this.#source = 'stack';
        return passing(EXACT);
      }
      for (let i = this.#rounds[order].length - 1; i >= 0; i--) {
        const round = this.#rounds[order][i];
        const at = round.lastIndexOf(pfn);
        if (at < 0) continue;
        this.#source = 'round';
        this.#in = round;
        this.#at = at;
        return passing(at === round.length - 1 ? RELEASED : OUT_OF_ORDER);
      }
      const below = stack.lastIndexOf(pfn);
      if (below >= 0) {
        this.#source = 'lower';
        this.#at = below;
        return OTHER;
      }
    }
    const queued = this.#queue.findIndex((one) => one.pfn === pfn && sizeOf(one) === size);
    if (queued >= 0) {
      this.#source = 'queue';
      this.#at = queued;
      return Math.max(strict + OTHER, lazy + (due && this.mode.seemsLazy ? RELEASED : QUEUED));
    }
    for (let i = order; i < this.#stacks.length; i += NR_ORDERS) {
      const at = this.#stacks[i]?.lastIndexOf(pfn) ?? -1;
      if (at < 0) continue;
      this.#source = 'elsewhere';
      this.#in = this.#stacks[i];
      this.#at = at;
      return OTHER;
    }
    this.#source = 'taken';
    return TAKEN;
  }

  #fitOfTree(pfn: number, size: number, stack: readonly number[], passing: (likely: number) => number): number {
    this.#source = 'tree';
    if (this.#tree.peek(size, pfn <= LOW_LAST ? LOW_LAST : 2 ** 52 - 1) === pfn) {
      return stack.length === 0 ? passing(EXACT) : OTHER;
    }
    return this.#tree.isFree(pfn, size) ? FREE : TAKEN;
  }

  /** Hands a range out, however unlikely, and learns from it. */
  take(pfn: number, nrPages: number, cpu: number, timeNs: number): void {
    this.fit(pfn, nrPages, cpu, timeNs);
    const top = this.#top < 0 ? null : this.#queue[this.#top];
    if (top !== null && this.#source === 'queue-top') {
      if (timeNs - this.#armedNs < EARLIEST_NS) this.mode.reused(top.event, top.isCertain);
    } else if (top !== null && this.#source !== 'taken' && timeNs - top.timeNs < TIMEOUT_NS) {
      this.mode.passedOver(top.event, top.isCertain);
    }
    const order = nrPages <= CACHED_PAGES ? orderOf(nrPages) : -1;
    switch (this.#source) {
      case 'tree':
        // What the CPU's magazine was thought to hold is in another's.
        if (order >= 0) this.#disown(order, this.#stack(cpu, order));
        this.#tree.allocAt(pfn, order < 0 ? nrPages : 1 << order);
        return;
      case 'stack':
        this.#stack(cpu, order).pop();
        break;
      case 'lower':
        this.#disown(order, this.#stack(cpu, order).splice(this.#at + 1));
        this.#stack(cpu, order).pop();
        break;
      case 'elsewhere': {
        const stack = this.#stack(cpu, order);
        const [, ...later] = this.#in.splice(this.#at);
        this.#disown(order, later);
        this.#disown(order, stack);
        stack.push(...this.#in.splice(0));
        break;
      }
      case 'round':
        this.#own(order, this.#in, this.#at, cpu);
        break;
      case 'queue-top':
      case 'queue':
        this.#takeQueued(this.#source === 'queue' ? this.#at : this.#top, order, cpu, timeNs);
        break;
      case 'taken':
        return;
    }
    this.#cached.delete(pfn);
    // Without magazines it is out of the tree at its flush, and in again.
    if (order < 0) this.#tree.allocAt(pfn, nrPages);
  }

  /** A range was unmapped. */
  unmap(unmapped: Unmapped): void {
    const { timeNs, cpu } = unmapped;
    this.#settle(timeNs);
    if (!this.mode.seemsLazy && unmapped.nrPages > CACHED_PAGES) {
      // Others may be placed there next, so it must not wait until its own place is asked for.
      this.#tree.free(unmapped.pfn);
      return;
    }
    if (timeNs >= timerAfter(this.#armedNs)) this.#armedNs = timeNs;
    this.#queue.push(unmapped);
    this.#cached.set(unmapped.pfn, sizeOf(unmapped));
    if (this.#queue.length <= RING_ENTRIES || !this.mode.seemsLazy) return;
    let nr = 0;
    for (const one of this.#queue) if (one.cpu === cpu) nr += 1;
    if (nr <= RING_ENTRIES) return;
    // The ring is full: it is flushed and emptied on the spot, and takes this one.
    const flushed = this.#queue.filter((one) => one.cpu === cpu && one !== unmapped);
    this.#queue = this.#queue.filter((one) => one.cpu !== cpu || one === unmapped);
    for (const one of flushed) this.#release(one, cpu);
  }

  /** As if an unmap had come in its place, now that it is known to have been this domain's. */
  unmapEarlier(unmapped: Unmapped): void {
    this.#queue.push(unmapped);
    this.#queue.sort((a, b) => a.event - b.event);
    this.#cached.set(unmapped.pfn, sizeOf(unmapped));
  }

  /** Takes `unmap` back. @returns false when the range was handed out again, so that it did happen */
  remap(unmapped: Unmapped): boolean {
    const { pfn } = unmapped;
    const size = sizeOf(unmapped);
    if (this.#cached.get(pfn) !== size) return unmapped.nrPages > CACHED_PAGES && this.#tree.allocAt(pfn, size) === 0;
    this.#cached.delete(pfn);
    const queued = this.#queue.findIndex((one) => one.pfn === pfn);
    if (queued >= 0) {
      this.#queue.splice(queued, 1);
      return true;
    }
    for (const list of [...this.#stacks, ...this.#rounds.flat()]) {
      const at = list?.lastIndexOf(pfn) ?? -1;
      if (at >= 0) list.splice(at, 1);
    }
    return true;
  }

  #stack(cpu: number, order: number): number[] {
    const at = cpu * NR_ORDERS + order;
    let stack = this.#stacks[at];
    if (stack === undefined) {
      stack = [];
      this.#stacks[at] = stack;
    }
    return stack;
  }

  /** The range of a size that was queued last: on a CPU, or anywhere for a size without magazines. */
  #newestQueued(order: number, size: number, cpu: number): number {
    for (let i = this.#queue.length - 1; i >= 0; i--) {
      const one = this.#queue[i];
      if (sizeOf(one) === size && (one.cpu === cpu || order < 0)) return i;
    }
    return -1;
  }

  /** Ranges whose CPU is not known any more. */
  #disown(order: number, ranges: number[]): void {
    if (ranges.length > 0) this.#rounds[order].push(ranges.splice(0));
  }

  /** A round was given back on a CPU: what it held below a range is the CPU's, the range is handed out, the rest stays unknown. */
  #own(order: number, round: number[], at: number, cpu: number): void {
    const rounds = this.#rounds[order];
    rounds.splice(rounds.indexOf(round), 1);
    const stack = this.#stack(cpu, order);
    for (let i = 0; i < at; i++) stack.push(round[i]);
    if (at + 1 < round.length) rounds.push(round.slice(at + 1));
  }

  /** A queued range is handed out: at once if the domain is strict, or since there was a flush. */
  #takeQueued(at: number, order: number, cpu: number, timeNs: number): void {
    const taken = this.#queue[at];
    const first = this.#queue[0];
    if (!this.mode.seemsLazy || !(this.#isDue(timeNs) || this.mode.logLazy > SURE)) {
      this.#queue.splice(at, 1);
      if (order < 0) this.#tree.free(taken.pfn);
      return;
    }
    // The flush came behind this one and in front of the next of its size that would have been given back later.
    let before = timeNs;
    for (let i = at + 1; i < this.#queue.length && before === timeNs; i++) {
      const one = this.#queue[i];
      if (sizeOf(one) === sizeOf(taken) && one.cpu >= taken.cpu) before = one.timeNs - 1;
    }
    this.#flush(
      Math.max(taken.timeNs, Math.min(before, Math.max(first.timeNs + EARLIEST_NS, timerAfter(first.timeNs)))),
    );
    if (order < 0) return;
    const round = this.#rounds[order].at(-1) ?? [];
    this.#own(order, round, round.lastIndexOf(taken.pfn), cpu);
  }

  /** Whether the timer of a flush queue may have fired since the first range came that still waits. */
  #isDue(timeNs: number): boolean {
    return this.#queue.length > 0 && timeNs - this.#queue[0].timeNs >= EARLIEST_NS;
  }

  /** A round of the flush queue: rings are emptied CPU by CPU (fq_flush_timeout), on a CPU that is not known. */
  #flush(timeNs: number): void {
    const flushed = this.#queue.filter((one) => one.timeNs <= timeNs);
    this.#queue = this.#queue.filter((one) => one.timeNs > timeNs);
    this.#armedNs = this.#queue[0]?.timeNs ?? -Infinity;
    flushed.sort((a, b) => a.cpu - b.cpu || a.event - b.event);
    const byOrder: number[][] = Array.from({ length: NR_ORDERS }, () => []);
    for (const one of flushed) {
      if (one.nrPages > CACHED_PAGES) this.#release(one, one.cpu);
      else byOrder[orderOf(one.nrPages)].push(one.pfn);
    }
    for (const [order, round] of byOrder.entries()) this.#disown(order, round);
  }

  #release({ pfn, nrPages }: Unmapped, cpu: number): void {
    if (nrPages <= CACHED_PAGES) {
      this.#stack(cpu, orderOf(nrPages)).push(pfn);
      return;
    }
    this.#cached.delete(pfn);
    this.#tree.free(pfn);
  }

  /** What was unmapped long ago is free in either mode. */
  #settle(timeNs: number): void {
    while (this.#queue.length > 0 && (timeNs - this.#queue[0].timeNs > LATEST_NS || this.#queue.length > MAX_WAITING)) {
      const [first] = this.#queue;
      if (this.mode.seemsLazy) {
        this.#flush(Math.max(first.timeNs, timerAfter(first.timeNs)));
      } else {
        this.#queue.shift();
        this.#release(first, first.cpu);
      }
    }
  }
}

/** When the timer of a flush queue fires whose first range came at a time; see FlushQueue. */
function timerAfter(timeNs: number): number {
  return (Math.floor(timeNs / TICK_NS) + Math.ceil(TIMEOUT_NS / TICK_NS) + 1) * TICK_NS;
}

/** Pages that the allocator takes for a range. */
function sizeOf({ nrPages }: Unmapped): number {
  return nrPages <= CACHED_PAGES ? 1 << orderOf(nrPages) : nrPages;
}
