/** The platform that a driver is given: everything goes to the real one, and the sanitizer hears of it. */
import type { PageAllocator, PhysMem, Platform } from '../mem/index.ts';

/** What the sanitizer hears. */
export interface PlatformWatcher {
  written(paddr: number, lo: number, hi: number | null): void;
  read(paddr: number, value: number): void;
  loaded(paddr: number, value: number): void;
  flushed(paddr: number, nrBytes: number): void;
}

export class WatchedPlatform implements Platform {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly #inner: Platform;
  readonly #watcher: PlatformWatcher;

  constructor(inner: Platform, watcher: PlatformWatcher) {
    this.mem = inner.mem;
    this.pages = inner.pages;
    this.#inner = inner;
    this.#watcher = watcher;
  }

  readl(paddr: number): number {
    const value = this.#inner.readl(paddr);
    this.#watcher.read(paddr, value);
    return value;
  }

  // Heard of before it happens: what a doorbell submits is judged by the time of the doorbell.
  writel(paddr: number, value: number): void {
    this.#watcher.written(paddr, value | 0, null);
    this.#inner.writel(paddr, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    this.#watcher.written(paddr, lo | 0, hi | 0);
    this.#inner.writeq(paddr, lo, hi);
  }

  loadShared32(paddr: number): number {
    const value = this.#inner.loadShared32(paddr);
    this.#watcher.loaded(paddr, value | 0);
    return value;
  }

  clflush(paddr: number, nrBytes: number): void {
    this.#watcher.flushed(paddr, nrBytes);
    this.#inner.clflush(paddr, nrBytes);
  }

  relax(): void {
    this.#inner.relax();
  }

  nowNs(): number {
    return this.#inner.nowNs();
  }
}
