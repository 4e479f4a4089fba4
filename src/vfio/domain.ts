/** A domain of a container, and the probe of what kind of superpages it has (Linux 6.12 drivers/vfio/vfio_iommu_type1.c). */
import { alignUp, PAGE_SIZE, paddrOf } from '../base/index.ts';
import type { Iommu, IommuDomain, IommuGroup } from '../iommu/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { PageAllocator } from '../mem/index.ts';
import type { IovaRange } from './iova-ranges.ts';

export interface VfioDomain {
  readonly domain: IommuDomain;
  /** Groups attached to it, the newest first. */
  readonly groups: IommuGroup[];
  /** Fine-grained superpages: the driver makes a leaf of any power of two (AMD), so unmaps need not look for runs. */
  readonly fgsp: boolean;
  /** Where the doorbells of its devices are to be mapped (iommu_get_msi_cookie; `MsiCookie` of dma does it); -1: nowhere. */
  readonly msiBase: number;
}

/**
 * Maps two contiguous pages and unmaps one: when not exactly one came off, a leaf of two pages was made
 * (vfio_test_domain_fgsp). In the first valid range with room; without room or memory the answer is no.
 *
 * Done before anything else is mapped, but with the device attached: what it reads from those addresses in between is zeroes.
 */
export function probeFgsp(
  core: Iommu,
  domain: IommuDomain,
  ranges: readonly IovaRange[],
  pages: PageAllocator | null,
): boolean {
  const twoPages = 2 * PAGE_SIZE;
  const pfn = pages?.allocRun(2) ?? -1;
  if (pages === null || pfn < 0) return false;
  let fgsp = false;
  for (const { start, last } of ranges) {
    const iova = alignUp(start, twoPages);
    if (iova >= last || last - iova < twoPages) continue;
    if (core.map(domain, iova, paddrOf(pfn), twoPages, IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE) === 0) {
      if (core.unmap(domain, iova, PAGE_SIZE) === PAGE_SIZE) core.unmap(domain, iova + PAGE_SIZE, PAGE_SIZE);
      else fgsp = true;
    }
    break;
  }
  pages.free(pfn);
  pages.free(pfn + 1);
  return fgsp;
}
