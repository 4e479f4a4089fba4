/**
 * The platform of a machine that is a QEMU process: the same door as the local one's, so the same drivers go through it.
 *
 * Software's memory is kept here, where its loads are answered, and every store is passed on in the order it was made. What
 * hardware stores shows only in `loadShared32`, as the platform's contract says.
 */
import type { ManualClock } from '../base/index.ts';
import { PageAllocator, PhysMem } from '../mem/index.ts';
import type { Platform, StoreObserver } from '../mem/index.ts';
import { QEMU_MEMORY_BYTES } from './process.ts';
import type { Qtest } from './qtest.ts';

/** One turn of a waiting loop. QEMU's IOMMUs work inside the write that asks them to, so hardly any is needed. */
const RELAX_NS = 100;
/** Tables and queues from 16 MiB on, in the lower half of memory; the upper half is the data that DMA reaches. */
const TABLES_PFN = 0x1000;
export const DATA_PFN: number = QEMU_MEMORY_BYTES / 4096 / 2;

export class QemuPlatform implements Platform, StoreObserver {
  readonly mem: PhysMem = new PhysMem();
  readonly pages: PageAllocator;
  readonly #qtest: Qtest;
  readonly #clock: ManualClock;

  constructor(qtest: Qtest, clock: ManualClock) {
    this.#qtest = qtest;
    this.#clock = clock;
    this.pages = new PageAllocator(this.mem, { basePfn: TABLES_PFN, nrPages: DATA_PFN - TABLES_PFN });
    this.mem.observer = this;
  }

  /** Passes a store of software on. */
  stored(wordIndex: number, nrWords: number): void {
    const { mem } = this;
    this.#qtest.writeWords(mem.paddrOfIndex(wordIndex), mem.words.subarray(wordIndex, wordIndex + nrWords));
  }

  readl(paddr: number): number {
    return this.#qtest.readl(paddr);
  }

  writel(paddr: number, value: number): void {
    this.#qtest.writel(paddr, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    this.#qtest.writeq(paddr, lo, hi);
  }

  loadShared32(paddr: number): number {
    return this.#qtest.readl(paddr);
  }

  /** Nothing: QEMU's walkers read memory as it is. */
  clflush(): void {}

  relax(): void {
    this.#clock.advanceBy(RELAX_NS);
  }

  nowNs(): number {
    return this.#clock.nowNs();
  }
}
