/** Our AMD-Vi unit as QEMU's behaves: the preset, and the requester ids that QEMU gives its devices. */
import type { ManualClock } from '../base/index.ts';
import type { AmdviConfig } from '../hw/index.ts';
import { AMDVI_QEMU, AmdviUnit } from '../hw/index.ts';
import type { PhysMem } from '../mem/index.ts';
import type { OracleUnit } from './local-rig.ts';

export class QemuAmdvi implements OracleUnit {
  readonly unit: AmdviUnit;

  constructor(mem: PhysMem, clock: ManualClock, config: AmdviConfig = AMDVI_QEMU) {
    this.unit = new AmdviUnit(mem, clock, config);
  }

  /** QEMU numbers a device's bus before firmware has: what is behind a bridge asks as if it were on bus 0. */
  translate(sid: number, iova: number, access: number): number {
    return this.unit.translate(sid & 0xff, iova, access);
  }

  read32(offset: number): number {
    return this.unit.read32(offset);
  }

  write32(offset: number, value: number): void {
    this.unit.write32(offset, value);
  }

  write64(offset: number, lo: number, hi: number): void {
    this.unit.write64(offset, lo, hi);
  }
}
