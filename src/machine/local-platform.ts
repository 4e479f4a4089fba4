/** The platform of a machine that lives in this process. */
import type { ManualClock } from '../base/index.ts';
import type { Bus, PageAllocator, PhysMem, Platform } from '../mem/index.ts';

/** Hardware that has work of its own to do as time passes. */
export interface Stepped {
  step(): void;
}

/** One turn of a waiting loop takes this long: about an uncached register read. */
const RELAX_NS = 100;

export class LocalPlatform implements Platform {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly #bus: Bus;
  readonly #clock: ManualClock;
  readonly #hardware: Stepped;

  constructor(mem: PhysMem, pages: PageAllocator, bus: Bus, clock: ManualClock, hardware: Stepped) {
    this.mem = mem;
    this.pages = pages;
    this.#bus = bus;
    this.#clock = clock;
    this.#hardware = hardware;
  }

  readl(paddr: number): number {
    return this.#bus.read32(paddr);
  }

  writel(paddr: number, value: number): void {
    this.#bus.write32(paddr, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    this.#bus.write64(paddr, lo, hi);
  }

  loadShared32(paddr: number): number {
    return this.mem.load32(paddr);
  }

  clflush(paddr: number, nrBytes: number): void {
    this.mem.flush(paddr, nrBytes);
  }

  relax(): void {
    this.#clock.advanceBy(RELAX_NS);
    this.#hardware.step();
  }

  nowNs(): number {
    return this.#clock.nowNs();
  }
}
