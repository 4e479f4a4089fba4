/**
 * The allocator of table pages and queues. Freed pages are filled with a poison pattern and are handed out last-in
 * first-out, so that a stale pointer into a freed page meets foreign contents soon: that is how a use after free shows.
 */
import type { Pfn } from '../base/index.ts';
import type { PhysMem } from './physmem.ts';

/** Word that fills freed pages. It reads as a present entry (bits 0, 1) to an address that no machine here has memory at. */
export const POISON: number = 0x6b6b6b6b;

export interface PagesOptions {
  /** First frame handed out. Default 0x1000 (16 MiB). */
  readonly basePfn?: number;
  /** Number of frames that can be live at once; more gives -1. Default 2^20 (4 GiB). */
  readonly nrPages?: number;
}

/** Hears what happens to pages, when set. */
export interface PagesObserver {
  /** A page is given back. It still has its contents. */
  freed(pfn: number): void;
}

const FREE = 1;
const LIVE = 2;

export class PageAllocator {
  /** Set by at most one party; null costs one compare per page given back. */
  observer: PagesObserver | null = null;
  readonly #mem: PhysMem;
  readonly #basePfn: number;
  readonly #nrPages: number;
  #state: Uint8Array = new Uint8Array(1024);
  #free: Int32Array = new Int32Array(1024);
  #nrFree = 0;
  #nrEver = 0;
  #nrLive = 0;

  constructor(mem: PhysMem, options: PagesOptions = {}) {
    this.#mem = mem;
    this.#basePfn = options.basePfn ?? 0x1000;
    this.#nrPages = options.nrPages ?? 1 << 20;
  }

  /** Pages handed out and not freed. A test that ends with a number above its start has a leak. */
  get nrLive(): number {
    return this.#nrLive;
  }

  /** A zeroed page, or -1 when none is left (the kernel's NULL; callers return ENOMEM). */
  alloc(): Pfn | -1 {
    let index: number;
    if (this.#nrFree > 0) {
      this.#nrFree -= 1;
      index = this.#free[this.#nrFree];
    } else {
      if (this.#nrEver >= this.#nrPages) return -1;
      index = this.#nrEver++;
      if (index >= this.#state.length) this.#grow();
    }
    this.#state[index] = LIVE;
    this.#nrLive += 1;
    const pfn = this.#basePfn + index;
    this.#mem.fillFrame(pfn, 0);
    // Zeroes must reach memory before the page is linked into a table that a non-snooping walker reads.
    this.#mem.flush(pfn * 4096, 4096);
    return pfn as Pfn;
  }

  /** `count` pages that follow each other, for queues and arrays; the first one, or -1. Never served from the free list. */
  allocRun(count: number): Pfn | -1 {
    if (this.#nrEver + count > this.#nrPages) return -1;
    const first = this.#nrEver;
    for (let index = first; index < first + count; index++) {
      this.#nrEver += 1;
      if (index >= this.#state.length) this.#grow();
      this.#state[index] = LIVE;
      this.#mem.fillFrame(this.#basePfn + index, 0);
      this.#mem.flush((this.#basePfn + index) * 4096, 4096);
    }
    this.#nrLive += count;
    return (this.#basePfn + first) as Pfn;
  }

  /** Gives a page back and poisons it. @throws RangeError when the page is not live (double free, or not from here) */
  free(pfn: number): void {
    const index = pfn - this.#basePfn;
    if (this.#state[index] !== LIVE) {
      throw new RangeError(`free of page frame 0x${pfn.toString(16)}, which is not allocated`);
    }
    if (this.observer !== null) this.observer.freed(pfn);
    this.#state[index] = FREE;
    this.#nrLive -= 1;
    this.#free[this.#nrFree++] = index;
    this.#mem.fillFrame(pfn, POISON);
    this.#mem.flush(pfn * 4096, 4096);
  }

  /** True for a page that was handed out once and has been given back. */
  isFreed(pfn: number): boolean {
    return this.#state[pfn - this.#basePfn] === FREE;
  }

  #grow(): void {
    const state = new Uint8Array(this.#state.length * 2);
    state.set(this.#state);
    this.#state = state;
    const free = new Int32Array(state.length);
    free.set(this.#free);
    this.#free = free;
  }
}
