/** The kernel's fault handler: takes records out of the unit's log so that later faults are recorded, and keeps them. */
import type { AmdviUnit } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import { amdFault, vtdFault } from './faults.ts';
import type { LoggedFault } from './snapshot.ts';

/** Most faults that are kept. */
const KEPT = 64;

export class FaultKeeper {
  readonly #unit: VtdUnit | AmdviUnit;
  readonly #taken: LoggedFault[] = [];

  constructor(unit: VtdUnit | AmdviUnit) {
    this.#unit = unit;
  }

  /** What is in the log now. @param step in which it got there */
  #pending(step: number): LoggedFault[] {
    const unit = this.#unit;
    const found = unit instanceof VtdUnit ? unit.pendingFaults().map(vtdFault) : unit.pendingFaults().map(amdFault);
    return found.map((fault) => ({ ...fault, step, isPending: true }));
  }

  all(step: number): LoggedFault[] {
    return [...this.#taken, ...this.#pending(step)];
  }

  /** Empties the log, as the kernel's interrupt handlers do (dmar_fault; amd_iommu_poll_events). @param step that has ended */
  take(step: number): void {
    const unit = this.#unit;
    const found = this.#pending(step);
    if (found.length === 0) return;
    this.#taken.push(...found.map((fault) => ({ ...fault, isPending: false })));
    this.#taken.splice(0, Math.max(0, this.#taken.length - KEPT));
    if (unit instanceof VtdUnit) {
      // CAP.FRO counts 16 bytes; it is 33:24 of the register.
      const records =
        ((unit.read32(vtd.CAP_REG) >>> vtd.CAP_FRO_SHIFT) | ((unit.read32(vtd.CAP_REG + 4) & 3) << 8)) * 16;
      for (const { index } of unit.pendingFaults()) {
        unit.write32(records + index * vtd.FRCD_BYTES + 12, vtd.FRCD_F_W3);
      }
      unit.write32(vtd.FSTS_REG, vtd.FSTS_PFO);
    } else {
      unit.write32(amdvi.EVT_HEAD_REG, unit.read32(amdvi.EVT_TAIL_REG));
      unit.write32(amdvi.STATUS_REG, amdvi.STATUS_EVENT_LOG_INT);
    }
  }
}
