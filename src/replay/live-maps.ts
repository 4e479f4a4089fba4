/**
 * The mappings of a trace that were not unmapped yet, one record per iommu:map event, and the chains they form: events of
 * one context that ascend without gap and could be one call. All state of the grouping grows with this, not with the file.
 *
 * Records are numbers into parallel arrays and are reused after `release`. They are found by end address, newest first.
 */
import { PAGE_SIZE } from '../base/index.ts';

export class LiveMaps {
  /** First byte and end of each record. */
  start: Float64Array = new Float64Array(1024);
  end: Float64Array = new Float64Array(1024);
  paddr: Float64Array = new Float64Array(1024);
  /** Number of the event that made it. */
  event: Int32Array = new Int32Array(1024);
  /** Neighbours in the chain, -1 for none. A chain only links undecided records, or those of one decided call. */
  previous: Int32Array = new Int32Array(1024);
  next: Int32Array = new Int32Array(1024);
  /** First record of the call this one belongs to, or -1 while that is undecided. */
  head: Int32Array = new Int32Array(1024);
  /** Domain number, or -1 when the trace does not tell. */
  domain: Int32Array = new Int32Array(1024);
  timeNs: Float64Array = new Float64Array(1024);
  /** The context that made it. */
  context: Int32Array = new Int32Array(1024);
  /** Of the joint in front of a linked record: how long it took (a step of JointOdds), and how new the address is. */
  gap: Uint8Array = new Uint8Array(1024);
  novelty: Uint8Array = new Uint8Array(1024);
  /** Lowest address that the context had mapped before this chain, Infinity for none. */
  lowest: Float64Array = new Float64Array(1024);

  #older: Int32Array = new Int32Array(1024);
  #newer: Int32Array = new Int32Array(1024);
  #buckets: Int32Array = new Int32Array(1024).fill(-1);
  #bucketShift = 22;
  #freeHead = -1;
  #nrEver = 0;
  #nrLive = 0;

  get nrLive(): number {
    return this.#nrLive;
  }

  #bucket(end: number): number {
    return Math.imul((end / PAGE_SIZE) | 0, 0x9e3779b1) >>> this.#bucketShift;
  }

  /** A new record, undecided and unlinked. */
  add(
    start: number,
    end: number,
    paddr: number,
    event: number,
    timeNs: number,
    context: number,
    lowest: number,
  ): number {
    let id = this.#freeHead;
    if (id >= 0) {
      this.#freeHead = this.#older[id];
    } else {
      id = this.#nrEver++;
      if (id === this.start.length) this.#grow();
    }
    this.start[id] = start;
    this.end[id] = end;
    this.paddr[id] = paddr;
    this.event[id] = event;
    this.previous[id] = -1;
    this.next[id] = -1;
    this.head[id] = -1;
    this.domain[id] = -1;
    this.timeNs[id] = timeNs;
    this.context[id] = context;
    this.lowest[id] = lowest;
    this.#nrLive += 1;
    this.#hash(id);
    return id;
  }

  #hash(id: number): void {
    const bucket = this.#bucket(this.end[id]);
    const first = this.#buckets[bucket];
    this.#older[id] = first;
    this.#newer[id] = -1;
    if (first >= 0) this.#newer[first] = id;
    this.#buckets[bucket] = id;
  }

  /** Takes a record out of its chain and gives its number back. */
  release(id: number): void {
    this.unlinkBefore(id);
    const after = this.next[id];
    if (after >= 0) this.unlinkBefore(after);
    const older = this.#older[id];
    const newer = this.#newer[id];
    if (older >= 0) this.#newer[older] = newer;
    if (newer >= 0) this.#older[newer] = older;
    else this.#buckets[this.#bucket(this.end[id])] = older;
    this.start[id] = -1;
    this.event[id] = -1;
    this.#older[id] = this.#freeHead;
    this.#freeHead = id;
    this.#nrLive -= 1;
  }

  /** Makes `id` the successor of `before` in a chain. */
  link(before: number, id: number, gap: number, novelty: number): void {
    this.previous[id] = before;
    this.next[before] = id;
    this.gap[id] = gap;
    this.novelty[id] = novelty;
    this.lowest[id] = this.lowest[before];
  }

  /** Cuts the chain in front of a record. */
  unlinkBefore(id: number): void {
    const before = this.previous[id];
    if (before < 0) return;
    this.next[before] = -1;
    this.previous[id] = -1;
  }

  /** The newest record that ends at an address, or -1. */
  newestEndingAt(end: number): number {
    return this.#matching(this.#buckets[this.#bucket(end)], end);
  }

  /** The next older record with the same end, or -1. */
  olderEndingAt(id: number): number {
    return this.#matching(this.#older[id], this.end[id]);
  }

  #matching(id: number, end: number): number {
    let at = id;
    while (at >= 0 && this.end[at] !== end) at = this.#older[at];
    return at;
  }

  /** Calls `visit` for every live record, in the order of their events. For the end of a trace only: it sorts. */
  forEachByEvent(visit: (id: number) => void): void {
    const ids: number[] = [];
    for (let id = 0; id < this.#nrEver; id++) if (this.start[id] >= 0) ids.push(id);
    ids.sort((a, b) => this.event[a] - this.event[b]);
    for (const id of ids) visit(id);
  }

  #grow(): void {
    const length = this.start.length * 2;
    const doubles = (from: Float64Array): Float64Array => {
      const to = new Float64Array(length);
      to.set(from);
      return to;
    };
    const bytes = (from: Uint8Array): Uint8Array => {
      const to = new Uint8Array(length);
      to.set(from);
      return to;
    };
    const ints = (from: Int32Array): Int32Array => {
      const to = new Int32Array(length);
      to.set(from);
      return to;
    };
    const nrOld = this.start.length;
    this.start = doubles(this.start);
    this.end = doubles(this.end);
    this.paddr = doubles(this.paddr);
    this.lowest = doubles(this.lowest);
    this.timeNs = doubles(this.timeNs);
    this.gap = bytes(this.gap);
    this.novelty = bytes(this.novelty);
    this.context = ints(this.context);
    this.event = ints(this.event);
    this.previous = ints(this.previous);
    this.next = ints(this.next);
    this.head = ints(this.head);
    this.domain = ints(this.domain);
    this.#older = ints(this.#older);
    this.#newer = ints(this.#newer);
    // More buckets with more records; rehash oldest first, so that each bucket stays newest first.
    this.#buckets = new Int32Array(length).fill(-1);
    this.#bucketShift -= 1;
    const ids: number[] = [];
    for (let id = 0; id < nrOld; id++) if (this.start[id] >= 0) ids.push(id);
    ids.sort((a, b) => this.event[a] - this.event[b]);
    for (const id of ids) this.#hash(id);
  }
}
