/**
 * The place between a driver and its machine from which a search or a player sees every step: stores, flushed lines, register
 * accesses, loads of what hardware writes, waiting turns, freed pages. While it is not active everything passes.
 */
import type { Platform, StoreObserver } from '../../mem/index.ts';

/** Memory and allocator are patched in place: the driver, the table code and the allocator all hold the same objects. */
export abstract class Tap implements Platform, StoreObserver {
  mem!: Platform['mem'];
  pages!: Platform['pages'];
  protected inner!: Platform;
  /** Copies lines to memory as the machine itself would. */
  protected flushLines!: Platform['mem']['flush'];
  protected active: boolean = false;

  /** @returns the platform for the driver */
  attach(inner: Platform): Platform {
    const { mem, pages } = inner;
    this.inner = inner;
    this.mem = mem;
    this.pages = pages;
    this.flushLines = mem.flush.bind(mem);
    mem.observer = this;
    // Nothing to see on coherent memory.
    mem.flush = (paddr, nrBytes): void => {
      if (this.active && !mem.coherent) this.onFlush(paddr, nrBytes);
      else this.flushLines(paddr, nrBytes);
    };
    const free = pages.free.bind(pages);
    pages.free = (pfn): void => {
      if (this.active) this.onFree(pfn);
      free(pfn);
    };
    return this;
  }

  stored(wordIndex: number, nrWords: number): void {
    if (this.active) this.onStore(wordIndex, nrWords);
  }

  readl(paddr: number): number {
    return this.active ? this.onRead(paddr) : this.inner.readl(paddr);
  }

  writel(paddr: number, value: number): void {
    if (this.active) this.onWrite(paddr, value, 0, false);
    else this.inner.writel(paddr, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    if (this.active) this.onWrite(paddr, lo, hi, true);
    else this.inner.writeq(paddr, lo, hi);
  }

  loadShared32(paddr: number): number {
    return this.active ? this.onLoad(paddr) : this.inner.loadShared32(paddr);
  }

  clflush(paddr: number, nrBytes: number): void {
    this.inner.clflush(paddr, nrBytes);
  }

  relax(): void {
    if (this.active) this.onRelax();
    else this.inner.relax();
  }

  nowNs(): number {
    return this.inner.nowNs();
  }

  protected write(paddr: number, lo: number, hi: number, isWide: boolean): void {
    if (isWide) this.inner.writeq(paddr, lo, hi);
    else this.inner.writel(paddr, lo);
  }

  /** Software stored words; memory holds the new ones already. */
  protected abstract onStore(wordIndex: number, nrWords: number): void;
  /** Software flushes lines: to be done by this method. */
  protected abstract onFlush(paddr: number, nrBytes: number): void;
  protected abstract onRead(paddr: number): number;
  protected abstract onWrite(paddr: number, lo: number, hi: number, isWide: boolean): void;
  protected abstract onLoad(paddr: number): number;
  protected abstract onRelax(): void;
  /** A page is about to be freed; its contents still stand. */
  protected abstract onFree(pfn: number): void;
}

/** Nothing that hardware could do is left and a driver waits all the same: so much time passes that it gives up. */
export const STUCK_NS = 60e9;
/** Words of a frame: a store of so many is an allocator filling it. */
export const FRAME_WORDS = 1024;

/** Thrown through the driver when nothing new can come of going on. */
export class RunOver extends Error {
  override readonly name = 'RunOver';
}
