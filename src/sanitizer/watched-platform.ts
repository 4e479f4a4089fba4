/** The platform that a driver is given: everything goes to the real one, and the units and tables watched hear of it. */
import type { PageAllocator, PhysMem, Platform } from '../mem/index.ts';
import type { Tables } from './tables.ts';
import type { Unit } from './unit.ts';

/** Unit register windows lie this far apart at least; a window is found by this much of its address. */
const WINDOW = 0x4000;

export class WatchedPlatform implements Platform {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly #inner: Platform;
  readonly #tables: Tables;
  readonly #units: readonly Unit[];

  /** @param units those that are watched, now and later */
  constructor(inner: Platform, tables: Tables, units: readonly Unit[]) {
    this.mem = inner.mem;
    this.pages = inner.pages;
    this.#inner = inner;
    this.#tables = tables;
    this.#units = units;
  }

  #unitAt(paddr: number): Unit | null {
    const units = this.#units;
    for (let i = 0; i < units.length; i++) {
      const offset = paddr - units[i].base;
      if (offset >= 0 && offset < WINDOW) return units[i];
    }
    return null;
  }

  readl(paddr: number): number {
    const value = this.#inner.readl(paddr);
    const unit = this.#unitAt(paddr);
    if (unit !== null) unit.read(paddr - unit.base, value | 0);
    return value;
  }

  // Heard of before it happens: what a doorbell submits is judged by the time of the doorbell.
  writel(paddr: number, value: number): void {
    const unit = this.#unitAt(paddr);
    if (unit !== null) {
      this.#tables.step += 1;
      unit.written(paddr - unit.base, value | 0, null);
    }
    this.#inner.writel(paddr, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    const unit = this.#unitAt(paddr);
    if (unit !== null) {
      this.#tables.step += 1;
      unit.written(paddr - unit.base, lo | 0, hi | 0);
    }
    this.#inner.writeq(paddr, lo, hi);
  }

  loadShared32(paddr: number): number {
    const value = this.#inner.loadShared32(paddr);
    const units = this.#units;
    for (let i = 0; i < units.length; i++) units[i].loaded(paddr, value | 0);
    return value;
  }

  clflush(paddr: number, nrBytes: number): void {
    const units = this.#units;
    if (units.some((unit) => unit.storesLag)) {
      this.#tables.flushed(paddr, nrBytes);
      for (let i = 0; i < units.length; i++) units[i].flushed(paddr, nrBytes);
    }
    this.#inner.clflush(paddr, nrBytes);
  }

  relax(): void {
    this.#inner.relax();
  }

  nowNs(): number {
    return this.#inner.nowNs();
  }
}
