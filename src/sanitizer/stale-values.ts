/**
 * The stale values of all spaces: what a cache may hold although memory says something else by now. A structure of arrays with
 * a free list; found by space, class, level and place through a hash, and by space through a list, newest first.
 *
 * Two classes. A TLB value is the answer for a range of pages, "not present" included; an invalidation takes the part it
 * covers. A WALK value is a copy of one entry above the leaves; an invalidation that meets its range takes it whole, unless it
 * spares such copies.
 *
 * Neighbouring level 1 entries that change in one store are one TLB value when they gave neighbouring frames, pieces of one
 * leaf, or nothing. Such a run is a power of two long and begins at a multiple of it, so the hash still finds it by page.
 */

export const TLB = 0;
export const WALK = 1;

const NONE = -1;

/** Lg2 of the pages that an entry of a level spans. */
export function orderOf(level: number): number {
  return 9 * (level - 1);
}

/** The orders there are, one by one: runs of level 1, then levels. */
export function orderAfter(order: number): number {
  return order < 9 ? order + 1 : order + 9;
}

export class StaleValues {
  /** Space (its number), -1 for a free slot. */
  space: Int32Array = new Int32Array(0);
  cls: Uint8Array = new Uint8Array(0);
  level: Uint8Array = new Uint8Array(0);
  /** Lg2 of the pages it had at birth. */
  order: Uint8Array = new Uint8Array(0);
  /** First page and number of pages. */
  page: Float64Array = new Float64Array(0);
  pages: Float64Array = new Float64Array(0);
  /** Page that the hash knows it by: the first of its entries, which a partly covered range may no longer begin with. */
  home: Float64Array = new Float64Array(0);
  lo: Int32Array = new Int32Array(0);
  hi: Int32Array = new Int32Array(0);
  /** Rights that the tables above left, 1 read, 2 write. */
  rights: Uint8Array = new Uint8Array(0);
  /** Step of the store that made it stale. */
  step: Float64Array = new Float64Array(0);
  /** Step from which memory shows the new value, not before `step`; Infinity while the store has not been flushed. */
  settled: Float64Array = new Float64Array(0);
  /** 1: a cache may hold it, an invalidation is needed. 0: only memory lags. */
  cached: Uint8Array = new Uint8Array(0);
  /** 1: an unmap that was left to a flush queue made it stale. */
  lazy: Uint8Array = new Uint8Array(0);
  timeNs: Float64Array = new Float64Array(0);
  /** Where the store was and what it wrote. */
  paddr: Float64Array = new Float64Array(0);
  newLo: Int32Array = new Int32Array(0);
  newHi: Int32Array = new Int32Array(0);
  /** Neighbours in the list of the space, and the next in the hash chain or free list. */
  newer: Int32Array = new Int32Array(0);
  older: Int32Array = new Int32Array(0);
  chain: Int32Array = new Int32Array(0);

  #buckets: Int32Array = new Int32Array(1024).fill(NONE);
  #mask = 1023;
  #free = NONE;
  nrLive = 0;
  nrMost = 0;

  constructor() {
    this.#grow(256);
  }

  #grow(length: number): void {
    const before = this.space.length;
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
    const doubles = (from: Float64Array): Float64Array => {
      const to = new Float64Array(length);
      to.set(from);
      return to;
    };
    this.space = ints(this.space);
    this.cls = bytes(this.cls);
    this.level = bytes(this.level);
    this.order = bytes(this.order);
    this.page = doubles(this.page);
    this.pages = doubles(this.pages);
    this.home = doubles(this.home);
    this.lo = ints(this.lo);
    this.hi = ints(this.hi);
    this.rights = bytes(this.rights);
    this.step = doubles(this.step);
    this.settled = doubles(this.settled);
    this.cached = bytes(this.cached);
    this.lazy = bytes(this.lazy);
    this.timeNs = doubles(this.timeNs);
    this.paddr = doubles(this.paddr);
    this.newLo = ints(this.newLo);
    this.newHi = ints(this.newHi);
    this.newer = ints(this.newer);
    this.older = ints(this.older);
    this.chain = ints(this.chain);
    for (let at = length - 1; at >= before; at--) {
      this.space[at] = NONE;
      this.chain[at] = this.#free;
      this.#free = at;
    }
    if (length > this.#mask) this.#rehash(length * 2);
  }

  #rehash(length: number): void {
    this.#buckets = new Int32Array(length).fill(NONE);
    this.#mask = length - 1;
    for (let at = 0; at < this.space.length; at++) {
      if (this.space[at] === NONE) continue;
      const bucket = this.#bucket(this.space[at], this.cls[at], this.order[at], this.home[at]);
      this.chain[at] = this.#buckets[bucket];
      this.#buckets[bucket] = at;
    }
  }

  #bucket(space: number, cls: number, order: number, home: number): number {
    const low = home | 0;
    const high = (home / 4294967296) | 0;
    let hash = Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1);
    hash ^= Math.imul((space << 7) | (order << 1) | cls, 0xc2b2ae35);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }

  /** The first value of a place, -1 for none; `nextAt` gives the others. */
  firstAt(space: number, cls: number, order: number, home: number): number {
    return this.#match(this.#buckets[this.#bucket(space, cls, order, home)], space, cls, order, home);
  }

  nextAt(at: number): number {
    return this.#match(this.chain[at], this.space[at], this.cls[at], this.order[at], this.home[at]);
  }

  #match(from: number, space: number, cls: number, order: number, home: number): number {
    let at = from;
    while (
      at !== NONE &&
      !(this.home[at] === home && this.space[at] === space && this.order[at] === order && this.cls[at] === cls)
    ) {
      at = this.chain[at];
    }
    return at;
  }

  /** A new value, its other fields to be set by the caller. It is in the hash, and in no list. */
  insert(space: number, cls: number, order: number, home: number): number {
    if (this.#free === NONE) this.#grow(this.space.length * 2);
    const at = this.#free;
    this.#free = this.chain[at];
    this.space[at] = space;
    this.cls[at] = cls;
    this.order[at] = order;
    this.home[at] = home;
    const bucket = this.#bucket(space, cls, order, home);
    this.chain[at] = this.#buckets[bucket];
    this.#buckets[bucket] = at;
    this.nrLive += 1;
    if (this.nrLive > this.nrMost) this.nrMost = this.nrLive;
    return at;
  }

  /** Takes a value out of the hash and frees its slot. It must be in no list any more. */
  remove(at: number): void {
    const bucket = this.#bucket(this.space[at], this.cls[at], this.order[at], this.home[at]);
    if (this.#buckets[bucket] === at) this.#buckets[bucket] = this.chain[at];
    else {
      let before = this.#buckets[bucket];
      while (this.chain[before] !== at) before = this.chain[before];
      this.chain[before] = this.chain[at];
    }
    this.space[at] = NONE;
    this.chain[at] = this.#free;
    this.#free = at;
    this.nrLive -= 1;
  }
}
