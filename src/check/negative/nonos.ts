/**
 * NON-OS issues 497 and 498: DMA was unrestricted on every boot and nobody saw it, since the only test machine with an IOMMU
 * asserted nothing. Tables are built, and translation is never turned on.
 */
import { Invalidator, IntelIommu } from '../../drivers/index.ts';
import { vtd } from '../../spec/index.ts';
import { ATTACH_SCENARIOS } from '../scenarios/attach.ts';
import { named } from '../scenarios/named.ts';
import type { NegativeOracle } from './oracle.ts';
import { LINUX_INTEL, intelDriver } from './oracle.ts';

class NeverEnables extends Invalidator {
  override enable(bit: number): number {
    return bit === vtd.GCMD_TE ? 0 : super.enable(bit);
  }
}

export const NONOS_ORACLES: readonly NegativeOracle[] = [
  {
    id: 'NON-OS#498',
    url: 'https://github.com/NON-OS/nonos-micro-kernel/pull/489',
    title: 'translation is never enabled: every device reaches all memory',
    hardware: { npCache: false },
    scenario: named(ATTACH_SCENARIOS, 'attach/detach'),
    broken: intelDriver(
      (platform, setup) => new IntelIommu(platform, { ...setup, parts: { Invalidator: NeverEnables } }),
    ),
    fixed: LINUX_INTEL,
    contract: 'C-ATTACH',
  },
];
