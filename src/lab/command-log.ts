/** Hears the commands of a unit, step by step. */
import type { AmdviListener, VtdListener } from '../hw/index.ts';
import { vtdRegisterCommand } from '../check/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import { amdCommandView, vtdDescriptor } from './commands.ts';
import type { CommandView } from './view.ts';

/** Most commands of a step that are kept: a page shows no more. All are counted. */
const KEPT = 64;

export class CommandLog implements VtdListener, AmdviListener {
  /** Invalidations of the step under way, waits not counted; and its commands, the first ones. */
  nrInStep = 0;
  inStep: CommandView[] = [];
  nrInvalidations = 0;
  readonly #next: VtdListener & AmdviListener;

  /** @param next who listened before */
  constructor(next: VtdListener & AmdviListener) {
    this.#next = next;
  }

  begin(): void {
    this.nrInStep = 0;
    this.inStep = [];
  }

  #enter(isWait: boolean, view: () => CommandView): void {
    if (!isWait) {
      this.nrInStep += 1;
      this.nrInvalidations += 1;
    }
    if (this.inStep.length < KEPT) this.inStep.push(view());
  }

  descriptor(w0: number, w1: number, w2: number, w3: number): void {
    this.#enter((w0 & 15) === vtd.DESC_WAIT, () => vtdDescriptor([w0, w1, w2, w3]));
    this.#next.descriptor(w0, w1, w2, w3);
  }

  registerInvalidation(kind: 'context' | 'iotlb', lo: number, hi: number, ivaLo: number, ivaHi: number): void {
    this.#enter(false, () => ({
      name: kind === 'context' ? 'context command register' : 'IOTLB register',
      words: [],
      fields: [],
      text: vtdRegisterCommand(kind, lo, hi, ivaLo, ivaHi),
      isWait: false,
    }));
    this.#next.registerInvalidation?.(kind, lo, hi, ivaLo, ivaHi);
  }

  command(w0: number, w1: number, w2: number, w3: number): void {
    this.#enter(w1 >>> amdvi.CMD_OP_SHIFT_W1 === amdvi.CMD_COMPLETION_WAIT, () => amdCommandView([w0, w1, w2, w3]));
    this.#next.command(w0, w1, w2, w3);
  }

  doorbell(): void {}
}
