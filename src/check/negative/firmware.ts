/**
 * edk2-platforms issue 282 (February 2019): Windows stopped with DRIVER_VERIFIER_DMA_VIOLATION unless firmware's VT-d driver
 * always invalidated context cache and IOTLB when an attribute of a page changed. It did so only on a condition of its own. The
 * issue does not say which; here it is "a table came or went".
 */
import type { IntelDomain } from '../../drivers/index.ts';
import { IntelIommu } from '../../drivers/index.ts';
import { MAP_SCENARIOS } from '../scenarios/map.ts';
import { named } from '../scenarios/named.ts';
import type { NegativeOracle } from './oracle.ts';
import { LINUX_INTEL, intelDriver } from './oracle.ts';

class FlushesOnTables extends IntelIommu {
  protected override flushPages(domain: IntelDomain, iova: number, nrBytes: number, leavesOnly: boolean): void {
    if (!leavesOnly) super.flushPages(domain, iova, nrBytes, leavesOnly);
  }
}

export const FIRMWARE_ORACLES: readonly NegativeOracle[] = [
  {
    id: 'edk2-platforms#282',
    url: 'https://github.com/tianocore/edk2-platforms/issues/282',
    title: 'caches are invalidated only when the driver thinks that it matters',
    hardware: { npCache: false },
    scenario: named(MAP_SCENARIOS, 'map/remap'),
    broken: intelDriver((platform, setup) => new FlushesOnTables(platform, setup)),
    fixed: LINUX_INTEL,
    contract: 'C-UNMAP-GONE',
  },
];
