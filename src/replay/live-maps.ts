/**
 * The mappings of a trace that were not unmapped yet, one record per iommu:map event, and the chains they form: events of
 * one context that ascend without gap and could be one call. All state of the grouping grows with this, not with the file.
 *
 * Records are numbers and are reused after `release`. They are found by end address, newest first. What a record holds lies
 * together in two arrays, not in an array for each thing: a record is then two or three cache lines instead of fifteen, and
 * a function that looks at several of its parts fetches two array pointers (grouping took a tenth longer).
 */

/** A constant of this module: V8 turns a division by it into a multiplication, one by an imported binding it divides. */
const PAGE = 4096;
/** Doubles of a record, and where they are. */
const DOUBLES = 5;
const START = 0;
const END = 1;
const PADDR = 2;
const TIME = 3;
const LOWEST = 4;
/** Integers of a record, and where they are. */
const INTS = 10;
const EVENT = 0;
const PREVIOUS = 1;
const NEXT = 2;
const HEAD = 3;
const DOMAIN = 4;
const CONTEXT = 5;
const GAP = 6;
const NOVELTY = 7;
/** Neighbours in the list of records with the same hash, or in the list of free records. */
const OLDER = 8;
const NEWER = 9;

export class LiveMaps {
  #doubles: Float64Array = new Float64Array(1024 * DOUBLES);
  #ints: Int32Array = new Int32Array(1024 * INTS);
  #nrRoom = 1024;
  #buckets: Int32Array = new Int32Array(1024).fill(-1);
  #bucketShift = 22;
  #freeHead = -1;
  #nrEver = 0;
  #nrLive = 0;

  /** First byte of a record, -1 for one that is not in use. */
  start(id: number): number {
    return this.#doubles[id * DOUBLES + START];
  }

  end(id: number): number {
    return this.#doubles[id * DOUBLES + END];
  }

  paddr(id: number): number {
    return this.#doubles[id * DOUBLES + PADDR];
  }

  timeNs(id: number): number {
    return this.#doubles[id * DOUBLES + TIME];
  }

  /** Lowest address that the context had mapped before this chain, Infinity for none. */
  lowest(id: number): number {
    return this.#doubles[id * DOUBLES + LOWEST];
  }

  /** Number of the event that made it. */
  event(id: number): number {
    return this.#ints[id * INTS + EVENT];
  }

  /** Neighbours in the chain, -1 for none. A chain only links undecided records, or those of one decided call. */
  previous(id: number): number {
    return this.#ints[id * INTS + PREVIOUS];
  }

  next(id: number): number {
    return this.#ints[id * INTS + NEXT];
  }

  /** First record of the call this one belongs to, or -1 while that is undecided. */
  head(id: number): number {
    return this.#ints[id * INTS + HEAD];
  }

  /** Domain number, or -1 when the trace does not tell. */
  domain(id: number): number {
    return this.#ints[id * INTS + DOMAIN];
  }

  /** The context that made it. */
  context(id: number): number {
    return this.#ints[id * INTS + CONTEXT];
  }

  /** Of the joint in front of a linked record: how long it took (a step of JointOdds), and how new the address is. */
  gap(id: number): number {
    return this.#ints[id * INTS + GAP];
  }

  novelty(id: number): number {
    return this.#ints[id * INTS + NOVELTY];
  }

  get nrLive(): number {
    return this.#nrLive;
  }

  #bucket(end: number): number {
    return Math.imul((end / PAGE) | 0, 0x9e3779b1) >>> this.#bucketShift;
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
      this.#freeHead = this.#ints[id * INTS + OLDER];
    } else {
      id = this.#nrEver++;
      if (id === this.#nrRoom) this.#grow();
    }
    const doubles = this.#doubles;
    const at = id * DOUBLES;
    doubles[at + START] = start;
    doubles[at + END] = end;
    doubles[at + PADDR] = paddr;
    doubles[at + TIME] = timeNs;
    doubles[at + LOWEST] = lowest;
    const ints = this.#ints;
    const from = id * INTS;
    ints[from + EVENT] = event;
    ints[from + PREVIOUS] = -1;
    ints[from + NEXT] = -1;
    ints[from + HEAD] = -1;
    ints[from + DOMAIN] = -1;
    ints[from + CONTEXT] = context;
    this.#nrLive += 1;
    this.#hash(id, end);
    return id;
  }

  #hash(id: number, end: number): void {
    const ints = this.#ints;
    const bucket = this.#bucket(end);
    const first = this.#buckets[bucket];
    ints[id * INTS + OLDER] = first;
    ints[id * INTS + NEWER] = -1;
    if (first >= 0) ints[first * INTS + NEWER] = id;
    this.#buckets[bucket] = id;
  }

  /** Makes a record part of a decided call. @param first record of the call */
  decide(id: number, first: number, domain: number): void {
    this.#ints[id * INTS + HEAD] = first;
    this.#ints[id * INTS + DOMAIN] = domain;
  }

  /** Takes a record out of its chain and gives its number back. */
  release(id: number): void {
    const ints = this.#ints;
    const from = id * INTS;
    const before = ints[from + PREVIOUS];
    const after = ints[from + NEXT];
    if (before >= 0) ints[before * INTS + NEXT] = -1;
    if (after >= 0) ints[after * INTS + PREVIOUS] = -1;
    const older = ints[from + OLDER];
    const newer = ints[from + NEWER];
    if (older >= 0) ints[older * INTS + NEWER] = newer;
    if (newer >= 0) ints[newer * INTS + OLDER] = older;
    else this.#buckets[this.#bucket(this.#doubles[id * DOUBLES + END])] = older;
    this.#doubles[id * DOUBLES + START] = -1;
    ints[from + PREVIOUS] = -1;
    ints[from + EVENT] = -1;
    ints[from + OLDER] = this.#freeHead;
    this.#freeHead = id;
    this.#nrLive -= 1;
  }

  /** Makes `id` the successor of `before` in a chain. */
  link(before: number, id: number, gap: number, novelty: number): void {
    const ints = this.#ints;
    ints[id * INTS + PREVIOUS] = before;
    ints[before * INTS + NEXT] = id;
    ints[id * INTS + GAP] = gap;
    ints[id * INTS + NOVELTY] = novelty;
    this.#doubles[id * DOUBLES + LOWEST] = this.#doubles[before * DOUBLES + LOWEST];
  }

  /** Cuts the chain in front of a record. */
  unlinkBefore(id: number): void {
    const before = this.#ints[id * INTS + PREVIOUS];
    if (before < 0) return;
    this.#ints[before * INTS + NEXT] = -1;
    this.#ints[id * INTS + PREVIOUS] = -1;
  }

  /** The newest record that ends at an address, or -1. */
  newestEndingAt(end: number): number {
    return this.#matching(this.#buckets[this.#bucket(end)], end);
  }

  /** The next older record with the same end, or -1. */
  olderEndingAt(id: number): number {
    return this.#matching(this.#ints[id * INTS + OLDER], this.#doubles[id * DOUBLES + END]);
  }

  #matching(id: number, end: number): number {
    const ints = this.#ints;
    const doubles = this.#doubles;
    let at = id;
    while (at >= 0 && doubles[at * DOUBLES + END] !== end) at = ints[at * INTS + OLDER];
    return at;
  }

  /** Calls `visit` for every live record, in the order of their events. For the end of a trace only: it sorts. */
  forEachByEvent(visit: (id: number) => void): void {
    for (const id of this.#byEvent()) visit(id);
  }

  #byEvent(): number[] {
    const ids: number[] = [];
    for (let id = 0; id < this.#nrEver; id++) if (this.start(id) >= 0) ids.push(id);
    return ids.sort((a, b) => this.event(a) - this.event(b));
  }

  #grow(): void {
    // The record that is being added has no contents yet.
    this.#nrEver -= 1;
    const ids = this.#byEvent();
    this.#nrEver += 1;
    this.#nrRoom *= 2;
    const doubles = new Float64Array(this.#nrRoom * DOUBLES);
    doubles.set(this.#doubles);
    this.#doubles = doubles;
    const ints = new Int32Array(this.#nrRoom * INTS);
    ints.set(this.#ints);
    this.#ints = ints;
    // More buckets with more records; rehash oldest first, so that each bucket stays newest first.
    this.#buckets = new Int32Array(this.#nrRoom).fill(-1);
    this.#bucketShift -= 1;
    for (const id of ids) this.#hash(id, this.end(id));
  }
}
