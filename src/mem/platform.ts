/**
 * What a driver may do to the machine it runs on: the only door between software and hardware. Synchronous. A driver that
 * needs more than this could not run on another implementation (a QEMU process behind a socket, for one).
 */
import type { PageAllocator } from './pages.ts';
import type { PhysMem } from './physmem.ts';

export interface Platform {
  /** Memory that software owns: its loads return what software stored last. Tables and queues live here. */
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  /** Register reads and writes; `paddr` is an absolute physical address. */
  readl(paddr: number): number;
  writel(paddr: number, value: number): void;
  /** One 64-bit register write. */
  writeq(paddr: number, lo: number, hi: number): void;
  /** Load of a word that hardware may have written since (a status cell). Plain `mem.load32` need not see such stores. */
  loadShared32(paddr: number): number;
  /** Pushes CPU stores of a range to where a non-snooping device reads them. */
  clflush(paddr: number, nrBytes: number): void;
  /** One turn of a waiting loop: lets time and hardware go on. */
  relax(): void;
  nowNs(): number;
}
