/** The system bus as a CPU sees it: register windows of devices by physical address, memory everywhere else. */
import { hex } from '../base/index.ts';
import type { PhysMem } from './physmem.ts';

/** A device with a register window. Offsets are in bytes from the window's start and multiples of 4 (of 8 for 64 bits). */
export interface MmioDevice {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  /** One 64-bit write. Registers that act on a write must act once, after both halves are in. */
  write64(offset: number, lo: number, hi: number): void;
}

interface Window {
  readonly base: number;
  readonly end: number;
  readonly device: MmioDevice;
}

export class Bus {
  readonly #mem: PhysMem;
  readonly #windows: Window[] = [];
  #last: Window | undefined;

  constructor(mem: PhysMem) {
    this.#mem = mem;
  }

  /** Puts a device at [base, base + nrBytes). @throws RangeError when the window overlaps another one. */
  attach(base: number, nrBytes: number, device: MmioDevice): void {
    const end = base + nrBytes;
    const other = this.#windows.find((window) => base < window.end && window.base < end);
    if (other !== undefined) {
      throw new RangeError(`MMIO window ${hex(base)}-${hex(end)} overlaps ${hex(other.base)}-${hex(other.end)}`);
    }
    this.#windows.push({ base, end, device });
  }

  #find(paddr: number): Window | undefined {
    const last = this.#last;
    return last !== undefined && paddr >= last.base && paddr < last.end ? last : this.#search(paddr);
  }

  /** Apart, because a function that holds a closure allocates its variables on every call, taken or not. */
  #search(paddr: number): Window | undefined {
    const found = this.#windows.find((window) => paddr >= window.base && paddr < window.end);
    if (found !== undefined) this.#last = found;
    return found;
  }

  read32(paddr: number): number {
    const window = this.#find(paddr);
    return window === undefined ? this.#mem.load32(paddr) : window.device.read32((paddr - window.base) | 0);
  }

  write32(paddr: number, value: number): void {
    const window = this.#find(paddr);
    if (window === undefined) this.#mem.store32(paddr, value);
    else window.device.write32((paddr - window.base) | 0, value);
  }

  write64(paddr: number, lo: number, hi: number): void {
    const window = this.#find(paddr);
    if (window === undefined) this.#mem.store64(paddr, lo, hi);
    else window.device.write64((paddr - window.base) | 0, lo, hi);
  }
}
