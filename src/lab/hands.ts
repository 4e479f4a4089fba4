/** What somebody does who is neither the driver nor a caller of it: invalidations that nobody asked for, a store into a table. */
import { EINVAL, hex } from '../base/index.ts';
import {
  AmdDomain,
  IntelDomain,
  invalidateAll,
  invalidateAllPages,
  invalidateCovering,
  invalidateDevtabEntry,
} from '../drivers/index.ts';
import type { IommuDomain } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import type { Scope } from './action.ts';
import type { EntryView } from './view.ts';

const PAGE = 4096;

/** Sends an invalidation through the driver's own queue and waits for it. @returns 0 or an errno */
export function invalidateByHand(domain: IommuDomain | null, scope: Scope, page: number, sid: number): number {
  if (domain instanceof IntelDomain) {
    const attachment = domain.attachments.at(0);
    if (attachment === undefined) return EINVAL;
    const { unit, did } = attachment;
    if (scope === 'page') return unit.invalidate.iotlbPages(did, page, 1, false);
    if (scope === 'domain') return unit.invalidate.iotlbDomain(did);
    if (scope === 'global') return unit.invalidate.iotlbGlobal();
    return unit.invalidate.context(vtd.GRANULARITY_DEVICE, did, sid);
  }
  if (domain instanceof AmdDomain) {
    const unit = domain.units.at(0);
    if (unit === undefined) return EINVAL;
    const { queue } = unit;
    const { did } = domain;
    let errno: number;
    if (scope === 'page') errno = invalidateCovering(queue, did, page * PAGE, PAGE, true);
    else if (scope === 'domain') errno = invalidateAllPages(queue, did, true);
    else if (scope === 'global') errno = invalidateAll(queue);
    else errno = invalidateDevtabEntry(queue, sid);
    return errno === 0 ? queue.wait() : errno;
  }
  return EINVAL;
}

/** Stores into an entry that maps a page. @param entry of a walk @returns what was stored, in words; null when it maps none */
export function editEntry(
  machine: Machine,
  entry: EntryView | undefined,
  change: 'clear' | 'read-only',
): string | null {
  if (entry?.kind !== 'page') return null;
  const { mem } = machine;
  const { paddr } = entry;
  if (change === 'clear') {
    mem.store64(paddr, 0, 0);
    return `0 was stored at ${hex(paddr)}`;
  }
  const lo = mem.load32(paddr);
  const hi = mem.load32(paddr + 4);
  if (machine.driver.name.startsWith('amd')) mem.store64(paddr, lo, hi & ~amdvi.PTE_IW_HI);
  else mem.store64(paddr, lo & ~vtd.SS_WRITE, hi);
  return `the right to write was taken away at ${hex(paddr)}`;
}
