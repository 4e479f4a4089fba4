/**
 * Reads the frames of a range of pages, batch by batch, from wherever they are, pinning what nobody holds: struct pfn_reader
 * of Linux 6.12 drivers/iommu/iommufd/pages.c.
 */
import type { IoptPages } from './pages.ts';
import { PAGE_POINTER_BYTES, PfnRuns } from './runs.ts';

export class PfnReader {
  readonly runs: PfnRuns;
  readonly #pages: IoptPages;
  readonly #lastIndex: number;
  /** The batch in `runs` is pages [start, end). */
  #start: number;
  #end: number;
  /** Pages pinned and not in the batch yet: [pinnedFrom, pinnedEnd), frames in `#pinned`. */
  #pinnedFrom: number;
  #pinnedEnd: number;
  #pinned: Float64Array;

  constructor(pages: IoptPages, firstIndex: number, lastIndex: number) {
    const nrPages = lastIndex - firstIndex + 1;
    const limit = pages.environment.memoryLimit;
    this.#pages = pages;
    this.#lastIndex = lastIndex;
    this.#start = this.#end = this.#pinnedFrom = this.#pinnedEnd = firstIndex;
    this.runs = new PfnRuns(nrPages, limit);
    const nrPointers = Math.floor(Math.min(nrPages * PAGE_POINTER_BYTES, limit) / PAGE_POINTER_BYTES);
    this.#pinned = new Float64Array(Math.max(1, nrPointers));
  }

  get start(): number {
    return this.#start;
  }

  get end(): number {
    return this.#end;
  }

  /** True when the batch is empty because everything was read. */
  get done(): boolean {
    return this.#start === this.#lastIndex + 1;
  }

  /** The next batch: until it is full or the range ends. @returns 0 or the errno of a pin */
  next(): number {
    const { runs } = this;
    runs.clear();
    this.#start = this.#end;
    while (this.#end <= this.#lastIndex) {
      const before = this.#end;
      const errno = this.#fill();
      if (errno !== 0) return errno;
      if (this.#end === before) return 0;
    }
    return 0;
  }

  /** Adds what follows from one place; stops early when the batch is full. */
  #fill(): number {
    const { runs } = this;
    const pages = this.#pages;
    if (this.#end < this.#pinnedEnd) {
      while (this.#end < this.#pinnedEnd && runs.add(this.#pinned[this.#end - this.#pinnedFrom])) this.#end += 1;
      return 0;
    }
    const span = pages.spanAt(this.#end, this.#lastIndex);
    if (span.kept === 'process') {
      const wanted = Math.min(span.lastIndex - this.#end + 1, this.#pinned.length);
      const nr = pages.pin(this.#end, wanted, this.#pinned);
      if (nr < 0) return nr;
      this.#pinnedFrom = this.#end;
      this.#pinnedEnd = this.#end + nr;
      return this.#fill();
    }
    const { area } = span;
    for (; this.#end <= span.lastIndex; this.#end++) {
      const pfn = area === null ? (pages.store.get(this.#end) ?? -1) : pages.pfnInDomain(area, this.#end);
      if (!runs.add(pfn)) break;
    }
    return 0;
  }

  /** Unpins those of the batch that nobody holds, and what was pinned ahead. Nothing may lead to them any more. */
  releasePins(): void {
    const pages = this.#pages;
    for (let index = Math.max(this.#end, this.#pinnedFrom); index < this.#pinnedEnd; index++) {
      pages.unpin(this.#pinned[index - this.#pinnedFrom], 1);
    }
    this.#pinnedEnd = this.#pinnedFrom;
    this.releaseBatch();
  }

  /** Unpins those of the batch that nobody holds. */
  releaseBatch(): void {
    if (this.#start === this.#end) return;
    for (const { first, last } of this.#pages.unheld(this.#start, this.#end - 1)) {
      this.#pages.unpinRuns(this.runs, first - this.#start, last - first + 1);
    }
    this.#start = this.#end;
  }
}
