/** Frames on their way from where they are kept to a domain, as runs of contiguous ones: struct pfn_batch of Linux 6.12 iommufd/pages.c. */

/** Bytes of memory that one batch may take (TEMP_MEMORY_LIMIT). */
export const TEMP_MEMORY_LIMIT = 65536;
/** Of which a run takes 12 (a frame number and a count), a pinned page's pointer 8. */
const RUN_BYTES = 12;
export const PAGE_POINTER_BYTES = 8;

export class PfnRuns {
  readonly pfns: number[] = [];
  readonly counts: number[] = [];
  readonly #limit: number;
  #total = 0;

  constructor(nrPages: number, memoryLimit: number) {
    this.#limit = Math.max(1, Math.floor(Math.min(nrPages * RUN_BYTES, memoryLimit) / RUN_BYTES));
  }

  /** Frames in all runs. */
  get total(): number {
    return this.#total;
  }

  /** Adds a frame: to the last run when it follows it. @returns false when that would take one run too many */
  add(pfn: number): boolean {
    const end = this.pfns.length - 1;
    if (end >= 0 && pfn === this.pfns[end] + this.counts[end]) {
      this.counts[end] += 1;
    } else {
      if (this.pfns.length === this.#limit) return false;
      this.pfns.push(pfn);
      this.counts.push(1);
    }
    this.#total += 1;
    return true;
  }

  /** Whether a frame would lengthen the last run. */
  continues(pfn: number): boolean {
    const end = this.pfns.length - 1;
    return end >= 0 && pfn === this.pfns[end] + this.counts[end];
  }

  clear(): void {
    this.pfns.length = 0;
    this.counts.length = 0;
    this.#total = 0;
  }

  /** Calls `visit` with the runs of frames [first, first + nr), counted within the batch. */
  slice(first: number, nr: number, visit: (pfn: number, nrPages: number) => void): void {
    let skip = first;
    let left = nr;
    for (let run = 0; run < this.pfns.length && left > 0; run++) {
      if (skip >= this.counts[run]) {
        skip -= this.counts[run];
        continue;
      }
      const part = Math.min(left, this.counts[run] - skip);
      visit(this.pfns[run] + skip, part);
      left -= part;
      skip = 0;
    }
  }
}
