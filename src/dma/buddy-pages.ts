/**
 * Pages for DMA buffers: runs of 2^order pages, aligned to their size, that split and join again as those of alloc_pages()
 * do (mm/page_alloc.c). What `alloc` and `allocNoncontiguous` take their memory from; when large runs are gone they must do
 * with smaller ones, which is the case to have.
 */
import type { PhysMem } from '../mem/index.ts';
import { POISON } from '../mem/index.ts';

/** Largest order (MAX_PAGE_ORDER): 4 MiB. */
export const MAX_PAGE_ORDER = 10;

export class BuddyPages {
  readonly #mem: PhysMem;
  readonly #basePfn: number;
  readonly #nrPages: number;
  /** Free runs of an order, by first page relative to the base. */
  readonly #free: Set<number>[];
  /** Order + 1 of the run that begins at a page, while it is handed out; 0 otherwise. */
  readonly #taken: Uint8Array;
  #nrLive = 0;

  /** @param basePfn and nrPages multiples of 2^MAX_PAGE_ORDER @throws RangeError for others */
  constructor(mem: PhysMem, basePfn: number, nrPages: number) {
    const most = 2 ** MAX_PAGE_ORDER;
    if (basePfn % most !== 0 || !(nrPages > 0) || nrPages % most !== 0) {
      throw new RangeError(`pages for DMA come in multiples of ${most}, got ${nrPages} at frame ${basePfn}`);
    }
    this.#mem = mem;
    this.#basePfn = basePfn;
    this.#nrPages = nrPages;
    this.#free = Array.from({ length: MAX_PAGE_ORDER + 1 }, () => new Set<number>());
    for (let first = 0; first < nrPages; first += most) this.#free[MAX_PAGE_ORDER].add(first);
    this.#taken = new Uint8Array(nrPages);
  }

  /** Pages handed out. */
  get nrLive(): number {
    return this.#nrLive;
  }

  /** Zeroed pages, 2^order of them. @returns the first frame, or -1 */
  alloc(order: number): number {
    let from = order;
    while (from <= MAX_PAGE_ORDER && this.#free[from].size === 0) from += 1;
    if (from > MAX_PAGE_ORDER) return -1;
    const [first] = this.#free[from];
    this.#free[from].delete(first);
    for (let half = from - 1; half >= order; half--) this.#free[half].add(first + 2 ** half);
    this.#taken[first] = order + 1;
    this.#nrLive += 2 ** order;
    for (let page = first; page < first + 2 ** order; page++) this.#mem.fillFrame(this.#basePfn + page, 0);
    return this.#basePfn + first;
  }

  /** Makes single pages of a run, so that each goes back on its own (split_page). */
  split(pfn: number): void {
    const first = pfn - this.#basePfn;
    const order = this.#taken[first] - 1;
    if (!(order >= 0)) throw new RangeError(`split of frame 0x${pfn.toString(16)}, which is not the first of a run`);
    this.#taken.fill(1, first, first + 2 ** order);
  }

  /** Gives a run back and poisons it. @throws RangeError when none begins there */
  free(pfn: number): void {
    let first = pfn - this.#basePfn;
    let order = (this.#taken[first] ?? 0) - 1;
    if (order < 0) throw new RangeError(`free of frame 0x${pfn.toString(16)}, where no allocated run begins`);
    this.#taken[first] = 0;
    this.#nrLive -= 2 ** order;
    for (let page = first; page < first + 2 ** order; page++) this.#mem.fillFrame(this.#basePfn + page, POISON);
    while (order < MAX_PAGE_ORDER) {
      const buddy = first % 2 ** (order + 1) === 0 ? first + 2 ** order : first - 2 ** order;
      if (buddy >= this.#nrPages || !this.#free[order].delete(buddy)) break;
      first = Math.min(first, buddy);
      order += 1;
    }
    this.#free[order].add(first);
  }
}
