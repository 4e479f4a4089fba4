/** QEMU's unit under a program: the same steps over qtest. */
import { hex } from '../base/index.ts';
import { AMDVI_BASE, QemuBoard, VTD_BASE } from '../qemu/index.ts';
import type { QemuMachineOptions } from '../qemu/index.ts';
import type { Rig, Step, WatchedRegister } from './program.ts';

export class QemuRig implements Rig {
  readonly board: QemuBoard;
  readonly #base: number;
  readonly #registers: readonly WatchedRegister[];

  /** @param machine a board that runs, or what to start one with. @throws QemuError */
  constructor(machine: QemuBoard | QemuMachineOptions, registers: readonly WatchedRegister[]) {
    this.board = machine instanceof QemuBoard ? machine : new QemuBoard(machine);
    this.#base = machine.arch === 'intel' ? VTD_BASE : AMDVI_BASE;
    this.#registers = registers;
  }

  step(step: Step): void {
    const { qtest, devices } = this.board;
    switch (step.op) {
      case 'store':
        qtest.writeq(step.paddr, step.lo, step.hi);
        break;
      case 'writel':
        qtest.writel(this.#base + step.offset, step.value);
        break;
      case 'writeq':
        qtest.writeq(this.#base + step.offset, step.lo, step.hi);
        break;
      case 'dma-write':
        devices[step.device].writeWord(step.iova, step.value);
        break;
      case 'dma-copy':
        devices[step.device].read(step.from, step.nrBytes);
        devices[step.device].write(step.to, step.nrBytes);
        break;
    }
  }

  /** A register of the unit. */
  readRegister(offset: number): number {
    return this.board.qtest.readl(this.#base + offset);
  }

  observe(cells: readonly number[]): readonly number[] {
    const commands = [
      ...this.#registers.map(({ offset }) => `readl ${hex(this.#base + offset)}`),
      ...cells.map((cell) => `readl ${hex(cell)}`),
    ];
    const registers = this.#registers;
    return this.board.qtest
      .askAll(commands)
      .map((answer, i) => (i < registers.length ? (Number(answer) & registers[i].mask) >>> 0 : Number(answer)));
  }

  close(): void {
    this.board.close();
  }
}
