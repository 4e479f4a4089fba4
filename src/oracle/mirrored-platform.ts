/** A platform that tells a unit of ours every register write that QEMU's unit gets. Reads are QEMU's. */
import type { Platform } from '../mem/index.ts';
import type { MmioDevice, PageAllocator, PhysMem } from '../mem/index.ts';

export class MirroredPlatform implements Platform {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly #platform: Platform;
  readonly #unit: MmioDevice;
  readonly #base: number;

  /** @param unit works on the platform's memory. @param base of the registers */
  constructor(platform: Platform, unit: MmioDevice, base: number) {
    this.mem = platform.mem;
    this.pages = platform.pages;
    this.#platform = platform;
    this.#unit = unit;
    this.#base = base;
  }

  readl(paddr: number): number {
    return this.#platform.readl(paddr);
  }

  writel(paddr: number, value: number): void {
    this.#platform.writel(paddr, value);
    this.#unit.write32(paddr - this.#base, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    this.#platform.writeq(paddr, lo, hi);
    this.#unit.write64(paddr - this.#base, lo, hi);
  }

  loadShared32(paddr: number): number {
    return this.#platform.loadShared32(paddr);
  }

  clflush(paddr: number, nrBytes: number): void {
    this.#platform.clflush(paddr, nrBytes);
  }

  relax(): void {
    this.#platform.relax();
  }

  nowNs(): number {
    return this.#platform.nowNs();
  }
}
