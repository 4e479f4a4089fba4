/** Bugs that others had, each as a driver that must be caught and one that must pass. */
import { ASTERINAS_ORACLES } from './asterinas.ts';
import { FIRMWARE_ORACLES } from './firmware.ts';
import { NONOS_ORACLES } from './nonos.ts';
import type { NegativeOracle } from './oracle.ts';
import { PKVM_ORACLES } from './pkvm.ts';
import { SEL4_ORACLES } from './sel4.ts';

export const NEGATIVE_ORACLES: readonly NegativeOracle[] = [
  ...SEL4_ORACLES,
  ...ASTERINAS_ORACLES,
  ...FIRMWARE_ORACLES,
  ...PKVM_ORACLES,
  ...NONOS_ORACLES,
];

/** Cases that are no scenarios here, and why. */
export const NEGATIVE_LEFT_OUT: readonly { readonly id: string; readonly why: string }[] = [
  { id: 'asterinas#2645', why: 'the cache of interrupt remapping entries; interrupts are not remapped here' },
  {
    id: 'pKVM-IA#84',
    why: 'device TLBs that were never flushed; no model here has device TLBs (the sanitizer judges their commands)',
  },
  {
    id: 'riscv-iommu#693',
    why: 'a bug of a hardware model of RISC-V, which has caches of process contexts; no driver left anything out',
  },
];
