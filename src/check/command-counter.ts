/** Invalidations that a unit executed: how often a driver asks hardware to forget. Waits are not counted. */
import type { AmdviListener, VtdListener } from '../hw/index.ts';
import { amdvi, vtd } from '../spec/index.ts';

export class CommandCounter implements VtdListener, AmdviListener {
  nrInvalidations = 0;

  /** VT-d, queued. */
  descriptor(w0: number): void {
    if ((w0 & 0xf) !== vtd.DESC_WAIT) this.nrInvalidations += 1;
  }

  /** VT-d, register-based. */
  registerInvalidation(): void {
    this.nrInvalidations += 1;
  }

  /** AMD-Vi. */
  command(_w0: number, w1: number): void {
    if (w1 >>> 28 !== amdvi.CMD_COMPLETION_WAIT) this.nrInvalidations += 1;
  }

  doorbell(): void {}

  /** The count since the last call. */
  take(): number {
    const nr = this.nrInvalidations;
    this.nrInvalidations = 0;
    return nr;
  }
}
