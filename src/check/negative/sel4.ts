/**
 * seL4 pull request 1729 ("VT-d: Properly invalidate IOMMU caches", August 2026): DMA failed for regions already mapped into
 * the IO space, and a reviewer doubted that a TLB caches unmapped addresses. Two bugs of one driver:
 * mapping a page wrote the entry and flushed the CPU's line, nothing else; clearing a context entry dropped the IOTLB only.
 */
import { Invalidator, IntelIommu } from '../../drivers/index.ts';
import { vtd } from '../../spec/index.ts';
import { ATTACH_SCENARIOS } from '../scenarios/attach.ts';
import { MAP_SCENARIOS } from '../scenarios/map.ts';
import { named } from '../scenarios/named.ts';
import type { NegativeOracle } from './oracle.ts';
import { LINUX_INTEL, intelDriver } from './oracle.ts';

const url = 'https://github.com/seL4/seL4/pull/1729';

/** Sends no context-cache invalidation but the one at start. */
class NoContextFlush extends Invalidator {
  override context(granularity: number, did: number, sid: number): number {
    return granularity === vtd.GRANULARITY_GLOBAL ? super.context(granularity, did, sid) : 0;
  }
}

export const SEL4_ORACLES: readonly NegativeOracle[] = [
  {
    id: 'seL4#1729-map',
    url,
    title: 'a map writes the entry and flushes the line; caching mode may hold "not present"',
    hardware: { npCache: true },
    scenario: named(MAP_SCENARIOS, 'map/one-page'),
    broken: intelDriver((platform, setup) => new IntelIommu(platform, { ...setup, mapFlush: 'none' })),
    fixed: LINUX_INTEL,
    contract: 'C-MAP-VISIBLE',
  },
  {
    id: 'seL4#1729-context',
    url,
    title: 'clearing a context entry drops the IOTLB, and the context cache keeps the entry',
    hardware: { npCache: false },
    scenario: named(ATTACH_SCENARIOS, 'attach/other-space'),
    broken: intelDriver(
      (platform, setup) => new IntelIommu(platform, { ...setup, parts: { Invalidator: NoContextFlush } }),
    ),
    fixed: LINUX_INTEL,
    contract: 'C-ATTACH',
  },
];
