/**
 * A set of page numbers as sparse bitmaps: which pages of a domain are mapped. Ranges cost a few word operations. Regions that
 * are wholly in the set share one bitmap, so that a guest's memory mapped in one piece costs no memory here.
 */

// Constants of this module: V8 turns a division by one into a multiplication, one by an imported binding it divides.
const PAGE = 4096;
/** Pages per region: 32768, 128 MiB of addresses, 4 KiB of bitmap. */
const REGION_SHIFT = 15;
const REGION_PAGES = 1 << REGION_SHIFT;

/** The bitmap of every full region; never written. */
const FULL: Int32Array = new Int32Array(REGION_PAGES / 32).fill(-1);

export class PageSet {
  readonly #regions = new Map<number, Int32Array>();
  #lastNumber = -1;
  #last: Int32Array = new Int32Array(REGION_PAGES / 32);

  /** The bitmap of a region, to look at or, `toWrite`, to change. */
  #region(number: number, toWrite: boolean): Int32Array {
    if (number === this.#lastNumber && !(toWrite && this.#last === FULL)) return this.#last;
    let region = this.#regions.get(number);
    if (region === undefined || (toWrite && region === FULL)) {
      region = region === undefined ? new Int32Array(REGION_PAGES / 32) : FULL.slice();
      this.#regions.set(number, region);
    }
    this.#lastNumber = number;
    this.#last = region;
    return region;
  }

  /** Puts a whole region in, takes it out, or sees whether anything of it is in (TEST) or missing. */
  #whole(number: number, operation: number): boolean {
    const region = this.#regions.get(number);
    if (operation === MISSING) return region !== FULL && (region === undefined || region.some((word) => word !== -1));
    if (operation === TEST) return region !== undefined && (region === FULL || region.some((word) => word !== 0));
    if (operation === ADD) this.#regions.set(number, FULL);
    else this.#regions.delete(number);
    if (number === this.#lastNumber) this.#lastNumber = -1;
    return false;
  }

  /** Adds the pages of [start, end), byte addresses. */
  add(start: number, end: number): void {
    this.#each(start, end, ADD);
  }

  /** Removes the pages of [start, end). */
  remove(start: number, end: number): void {
    this.#each(start, end, REMOVE);
  }

  /** True when some page of [start, end) is in the set. */
  intersects(start: number, end: number): boolean {
    return this.#each(start, end, TEST);
  }

  /** True when every page of [start, end) is in the set. */
  contains(start: number, end: number): boolean {
    return !this.#each(start, end, MISSING);
  }

  #each(start: number, end: number, operation: number): boolean {
    const page = Math.floor(start / PAGE);
    // Counts of pages may pass 2^31, numbers of regions and places in them do not.
    let left = Math.ceil(end / PAGE) - page;
    let number = (page / REGION_PAGES) | 0;
    let within = page & (REGION_PAGES - 1);
    const shift = within & 31;
    // Nearly all ranges lie in one word of the region used last.
    if (left > 0 && left <= 32 - shift && number === this.#lastNumber && this.#last !== FULL) {
      const mask = (-1 >>> (32 - left)) << shift;
      const region = this.#last;
      const word = region[within >>> 5];
      if (operation === TEST) return (word & mask) !== 0;
      if (operation === MISSING) return (word & mask) !== mask;
      region[within >>> 5] = operation === ADD ? word | mask : word & ~mask;
      return false;
    }
    while (left > 0) {
      let nr = REGION_PAGES - within;
      if (left < nr) nr = left | 0;
      if (nr === REGION_PAGES) {
        if (this.#whole(number, operation)) return true;
      } else if (eachWord(this.#region(number, operation <= REMOVE), within, within + nr, operation)) {
        return true;
      }
      left -= nr;
      number += 1;
      within = 0;
    }
    return false;
  }
}

/** One operation on bits [first, end) of a region. @returns whether it may stop: the answer is known */
function eachWord(region: Int32Array, first: number, end: number, operation: number): boolean {
  for (let bit = first; bit < end;) {
    const shift = bit & 31;
    const nrBits = end - bit < 32 - shift ? end - bit : 32 - shift;
    const mask = nrBits === 32 ? -1 : ((1 << nrBits) - 1) << shift;
    const word = bit >>> 5;
    if (operation === ADD) region[word] |= mask;
    else if (operation === REMOVE) region[word] &= ~mask;
    else if (operation === TEST ? (region[word] & mask) !== 0 : (region[word] & mask) !== mask) return true;
    bit += nrBits;
  }
  return false;
}

const ADD = 0;
const REMOVE = 1;
const TEST = 2;
const MISSING = 3;
