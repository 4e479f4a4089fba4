/**
 * Other IOVAs for mappings whose recorded IOVA still waits in the flush queue of the run, where a lazy machine could not have
 * handed it out. They come from a range where Linux puts nothing, above all 32-bit DMA addresses and far below the
 * top from where it hands out longer ones, used round and round: one that only ever moved on would leave a trail of tables.
 */
import { PAGE_SIZE, log2Ceil } from '../base/index.ts';
import { PageSet } from './page-set.ts';

/** 8 GiB, and 512 MiB long: many times what a flush queue can hold, within a 39-bit table. */
const FIRST_PAGE = 2 ** 21;
const NR_PAGES = 2 ** 17;

export class Renames {
  readonly #actual = new Map<number, number>();
  readonly #used = new PageSet();
  #next = FIRST_PAGE;

  /** Whether an actual IOVA is one of these, in use or waiting for its flush. */
  owns(iova: number): boolean {
    return this.#used.intersects(iova, iova + PAGE_SIZE);
  }

  /** How many recorded IOVAs have another one now. */
  get count(): number {
    return this.#actual.size;
  }

  /** Gives a recorded range another place, aligned like the original. @returns its first byte, -1 when there is no room */
  take(recorded: number, nrBytes: number): number {
    const nrPages = nrBytes / PAGE_SIZE;
    const align = 2 ** log2Ceil(nrPages);
    let page = Math.ceil(this.#next / align) * align;
    for (let tries = 0; tries * align <= 2 * NR_PAGES; tries++) {
      if (page + nrPages > FIRST_PAGE + NR_PAGES) page = FIRST_PAGE;
      if (page + nrPages > FIRST_PAGE + NR_PAGES) return -1;
      const start = page * PAGE_SIZE;
      if (!this.#used.intersects(start, start + nrBytes)) {
        this.#used.add(start, start + nrBytes);
        this.#actual.set(recorded, start);
        this.#next = page + nrPages;
        return start;
      }
      page += align;
    }
    return -1;
  }

  /** Where a recorded range is now, forgetting it; -1 when it was not renamed. */
  end(recorded: number): number {
    const actual = this.#actual.get(recorded);
    if (actual === undefined) return -1;
    this.#actual.delete(recorded);
    return actual;
  }

  /** A range left the flush queue and may be used again. */
  release(actual: number, nrBytes: number): void {
    this.#used.remove(actual, actual + nrBytes);
  }
}
