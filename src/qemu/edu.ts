/**
 * QEMU's `edu` device as a source of DMA (docs/specs/edu.txt): an engine that copies up to 4 KiB between memory and a buffer of
 * its own, and an interrupt message that is a write of 16 bits, padded to 32, to any address. Both go through the IOMMU.
 * It reports no failure: a read that was blocked leaves zeroes in the buffer, a write that was blocked does nothing.
 */
import { hex } from '../base/index.ts';
import type { PciBus } from './pci.ts';
import { QemuError, sleepMs } from './process.ts';
import type { Qtest } from './qtest.ts';

export const EDU_VENDOR = 0x1234;
export const EDU_DEVICE = 0x11e8;
const MSI_CAPABILITY = 5;
const MSI_ENABLE = 1 << 16;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;
const DMA_START = 1;
const DMA_TO_MEMORY = 2;
/** The buffer as the engine addresses it. */
const BUFFER = 0x40000;
/** Bytes of the buffer that can be used: QEMU 7.2 ends itself at a copy that reaches the last one. */
export const EDU_BUFFER_BYTES = 4095;
/** The engine finishes within some polls; a busy host may keep QEMU's own threads from running for longer. */
const NR_EAGER_POLLS = 2000;
const MAX_LAZY_POLLS = 10_000;

const words = (value: number): [number, number] => [value | 0, Math.floor(value / 2 ** 32)];

export class Edu {
  readonly sid: number;
  readonly #qtest: Qtest;
  readonly #pci: PciBus;
  readonly #base: number;
  readonly #msi: number;

  /** Gives the function memory and switches it on. @throws QemuError */
  constructor(qtest: Qtest, pci: PciBus, sid: number) {
    this.sid = sid;
    this.#qtest = qtest;
    this.#pci = pci;
    this.#base = pci.enable(sid);
    this.#msi = pci.capability(sid, MSI_CAPABILITY);
    if (this.#msi === 0) throw new QemuError(`edu at ${hex(sid)} has no MSI capability`);
  }

  /**
   * Writes one word, synchronously. @param iova multiple of 4, not in the interrupt range, whose writes are no DMA
   * @param value 0..65535
   */
  writeWord(iova: number, value: number): void {
    const [lo, hi] = words(iova);
    this.#pci.write(this.sid, this.#msi + 4, lo);
    this.#pci.write(this.sid, this.#msi + 8, hi);
    this.#pci.write(this.sid, this.#msi + 12, value);
    this.#pci.write(this.sid, this.#msi, MSI_ENABLE | 5);
    this.#qtest.writel(this.#base + RAISE, 1);
    this.#qtest.writel(this.#base + ACKNOWLEDGE, 1);
  }

  /** Reads memory into the buffer. @param nrBytes at most EDU_BUFFER_BYTES - offset */
  read(iova: number, nrBytes: number, offset: number = 0): void {
    this.#copy(iova, BUFFER + offset, nrBytes, DMA_START);
  }

  /** Writes the buffer to memory. */
  write(iova: number, nrBytes: number, offset: number = 0): void {
    this.#copy(BUFFER + offset, iova, nrBytes, DMA_START | DMA_TO_MEMORY);
  }

  #copy(source: number, destination: number, nrBytes: number, command: number): void {
    if (!(nrBytes > 0 && nrBytes <= EDU_BUFFER_BYTES)) {
      throw new RangeError(`edu copies 1..${EDU_BUFFER_BYTES} bytes, got ${nrBytes}`);
    }
    this.#qtest.writeq(this.#base + DMA_SOURCE, ...words(source));
    this.#qtest.writeq(this.#base + DMA_DESTINATION, ...words(destination));
    this.#qtest.writeq(this.#base + DMA_COUNT, nrBytes, 0);
    this.#qtest.writeq(this.#base + DMA_COMMAND, command, 0);
    for (let polls = 0; polls < NR_EAGER_POLLS + MAX_LAZY_POLLS; polls++) {
      if ((this.#qtest.readl(this.#base + DMA_COMMAND) & DMA_START) === 0) return;
      if (polls >= NR_EAGER_POLLS) sleepMs(1);
    }
    throw new QemuError('edu does not finish its DMA');
  }
}
