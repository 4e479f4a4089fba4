/**
 * The IOVA allocator: top-down, aligned to the size rounded up to a power of two (drivers/iommu/iova.c, alloc_iova).
 * Correct, not yet fast: ranges stand in one sorted array, the search walks down from the limit. The kernel's cached search
 * start and per-CPU magazines, which change the addresses it picks, come with their own issue.
 *
 * Units here are pages of the granule; ranges are [first, last], inclusive.
 */
import { log2Ceil } from '../base/index.ts';

export class IovaAllocator {
  readonly #startPfn: number;
  #first: Float64Array = new Float64Array(64);
  #last: Float64Array = new Float64Array(64);
  #nr = 0;

  /** @param startPfn lowest page handed out; at least 1 for the DMA API, which never hands out page 0 */
  constructor(startPfn: number) {
    this.#startPfn = startPfn;
  }

  /** Ranges held: allocated and reserved. */
  get nrRanges(): number {
    return this.#nr;
  }

  /**
   * Takes the highest free range of `nrPages` at or below `limitPfn`, aligned to its size rounded up to a power of two.
   * @returns the first page, or -1 when there is none
   */
  alloc(nrPages: number, limitPfn: number): number {
    if (!(nrPages >= 1) || limitPfn < this.#startPfn) return -1;
    const align = 2 ** log2Ceil(nrPages);
    let index = this.#lowerBound(limitPfn + 1) - 1;
    let high = limitPfn + 1;
    for (;;) {
      // A range that reaches into the gap below `high` lowers it to its own start.
      while (index >= 0 && this.#last[index] >= high) {
        high = Math.min(high, this.#first[index]);
        index -= 1;
      }
      const candidate = high - nrPages - ((high - nrPages) % align);
      if (high < nrPages || candidate < this.#startPfn) return -1;
      if (index < 0 || this.#last[index] < candidate) {
        this.#insert(index + 1, candidate, candidate + nrPages - 1);
        return candidate;
      }
      high = this.#first[index];
      index -= 1;
    }
  }

  /** Keeps [first, last] from being handed out. Ranges already held inside it stay; only the gaps are filled. */
  reserve(first: number, last: number): void {
    let at = first;
    let index = this.#lowerBound(first + 1) - 1;
    if (index >= 0 && this.#last[index] >= at) at = this.#last[index] + 1;
    index += 1;
    while (at <= last) {
      const next = index < this.#nr ? this.#first[index] : Infinity;
      if (next > at) {
        this.#insert(index, at, Math.min(last, next - 1));
        index += 1;
      }
      if (next > last) return;
      at = this.#last[index] + 1;
      index += 1;
    }
  }

  /** Gives back the range that starts at a page. @returns false when none does */
  free(firstPfn: number): boolean {
    const index = this.#lowerBound(firstPfn);
    if (index >= this.#nr || this.#first[index] !== firstPfn) return false;
    this.#first.copyWithin(index, index + 1, this.#nr);
    this.#last.copyWithin(index, index + 1, this.#nr);
    this.#nr -= 1;
    return true;
  }

  /** Index of the first range that starts at or above a page. */
  #lowerBound(pfn: number): number {
    let low = 0;
    let high = this.#nr;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#first[middle] < pfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #insert(index: number, first: number, last: number): void {
    if (this.#nr === this.#first.length) {
      this.#first = grown(this.#first);
      this.#last = grown(this.#last);
    }
    this.#first.copyWithin(index + 1, index, this.#nr);
    this.#last.copyWithin(index + 1, index, this.#nr);
    this.#first[index] = first;
    this.#last[index] = last;
    this.#nr += 1;
  }
}

function grown(array: Float64Array): Float64Array {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
