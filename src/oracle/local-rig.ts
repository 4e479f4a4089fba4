/** Our model under a program: memory and one unit, no driver. */
import { ManualClock } from '../base/index.ts';
import type { MmioDevice } from '../mem/index.ts';
import { PhysMem } from '../mem/index.ts';
import { QEMU_MEMORY_BYTES } from '../qemu/index.ts';
import { tablePages } from './arena.ts';
import type { Rig, Step, WatchedRegister } from './program.ts';

/** Rights of an access as both units take them. */
const READ = 1;
const WRITE = 2;

/** What a rig needs of a unit. */
export interface OracleUnit extends MmioDevice {
  translate(sid: number, iova: number, access: number): number;
}

export interface LocalRigOptions {
  /** Memory that exists already. Default: one with all pages that programs look for tables in. */
  readonly mem?: PhysMem;
  readonly makeUnit: (mem: PhysMem, clock: ManualClock) => OracleUnit;
  /** Requester ids of the devices. */
  readonly sids: readonly number[];
  readonly registers: readonly WatchedRegister[];
}

export class LocalRig implements Rig {
  readonly mem: PhysMem;
  readonly unit: OracleUnit;
  readonly sids: readonly number[];
  readonly #registers: readonly WatchedRegister[];

  constructor(options: LocalRigOptions) {
    this.sids = options.sids;
    this.#registers = options.registers;
    this.mem = options.mem ?? new PhysMem();
    if (options.mem === undefined) for (const pfn of tablePages()) this.mem.ensure(pfn);
    this.unit = options.makeUnit(this.mem, new ManualClock());
  }

  step(step: Step): void {
    switch (step.op) {
      case 'store':
        this.mem.store64(step.paddr, step.lo, step.hi);
        break;
      case 'writel':
        this.unit.write32(step.offset, step.value);
        break;
      case 'writeq':
        this.unit.write64(step.offset, step.lo, step.hi);
        break;
      case 'dma-write':
        this.#storeWord(this.translate(step.device, step.iova, WRITE), step.value);
        break;
      case 'dma-copy': {
        const words: number[] = [];
        for (let at = 0; at < step.nrBytes; at += 4)
          words.push(this.#loadWord(this.translate(step.device, step.from + at, READ)));
        for (let at = 0; at < step.nrBytes; at += 4)
          this.#storeWord(this.translate(step.device, step.to + at, WRITE), words[at / 4]);
        break;
      }
    }
  }

  protected translate(device: number, iova: number, access: number): number {
    return this.unit.translate(this.sids[device], iova, access);
  }

  /** Beyond the end of memory nothing answers. */
  #storeWord(paddr: number, value: number): void {
    if (paddr >= 0 && paddr < QEMU_MEMORY_BYTES) this.mem.deviceStore32(paddr, value);
  }

  #loadWord(paddr: number): number {
    return paddr >= 0 && paddr < QEMU_MEMORY_BYTES ? this.mem.load32(paddr) : 0;
  }

  observe(cells: readonly number[]): readonly number[] {
    return [
      ...this.#registers.map(({ offset, mask }) => (this.unit.read32(offset) & mask) >>> 0),
      ...cells.map((cell) => this.mem.load32(cell) >>> 0),
    ];
  }

  close(): void {}
}
