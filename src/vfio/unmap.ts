/**
 * Ending a mapping: vfio_unmap_unpin() of Linux 6.12 drivers/vfio/vfio_iommu_type1.c.
 *
 * The first domain of the container is where the frames are read back from; the others are cleared before. A page may be
 * unpinned only after the invalidation, since the next owner of the frame would share it with the device. One invalidation per
 * run would be slow, so runs are collected: sync, then unpin, every 512 of them.
 */
import { PAGE_SIZE } from '../base/index.ts';
import type { Iommu } from '../iommu/index.ts';
import { IotlbGather } from '../iommu/index.ts';
import type { VfioDma } from './dma.ts';
import type { VfioDomain } from './domain.ts';
import { unpinPages } from './pinning.ts';

/** Runs that wait for one sync (VFIO_IOMMU_TLB_SYNC_MAX). */
export const TLB_SYNC_MAX = 512;

/** A run that left the table and may still be cached (struct vfio_regions). */
interface Region {
  readonly iova: number;
  readonly paddr: number;
  readonly nrBytes: number;
}

/**
 * Contiguous bytes from `iova` on, up to `end`, as the table has them, page by page. (The kernel calls this slow itself; with
 * fine-grained superpages the driver finds out by itself, so one page is asked for.)
 */
export function runLength(core: Iommu, domain: VfioDomain, iova: number, paddr: number, end: number): number {
  let nrBytes = PAGE_SIZE;
  while (iova + nrBytes < end && core.iovaToPhys(domain.domain, iova + nrBytes) === paddr + nrBytes) {
    nrBytes += PAGE_SIZE;
  }
  return nrBytes;
}

/** Takes a mapping out of all domains, unpins its pages and gives them back to the account. `domains` in the container's order. */
export function unmapAndUnpin(core: Iommu, domains: readonly VfioDomain[], dma: VfioDma): void {
  if (dma.nrBytes === 0 || domains.length === 0) return;
  const [first, ...others] = domains;
  for (const other of others) core.unmap(other.domain, dma.iova, dma.nrBytes);

  const gather = new IotlbGather();
  const regions: Region[] = [];
  let nrUnlocked = 0;
  const syncAndUnpin = (): void => {
    core.iotlbSync(first.domain, gather);
    for (const { iova, paddr, nrBytes } of regions) {
      nrUnlocked += unpinPages(dma, iova, paddr / PAGE_SIZE, nrBytes / PAGE_SIZE);
    }
    regions.length = 0;
  };

  const { end } = dma;
  let { iova } = dma;
  while (iova < end) {
    const paddr = core.iovaToPhys(first.domain, iova);
    // Somebody else unmapped it, against the rules: the page stays pinned. (Linux does the same for frame 0, whose address
    // its iova_to_phys cannot tell from "not mapped".)
    if (paddr < 0) {
      iova += PAGE_SIZE;
      continue;
    }
    const nrAsked = first.fgsp ? PAGE_SIZE : runLength(core, first, iova, paddr, end);
    let nrBytes = core.unmapFast(first.domain, iova, nrAsked, gather);
    if (nrBytes > 0) {
      regions.push({ iova, paddr, nrBytes });
      if (regions.length >= TLB_SYNC_MAX) syncAndUnpin();
    } else {
      // The driver would not do it lazily: settle what waits, then once more with a sync of its own (unmap_unpin_slow).
      syncAndUnpin();
      nrBytes = core.unmap(first.domain, iova, nrAsked);
      if (nrBytes === 0) break;
      nrUnlocked += unpinPages(dma, iova, paddr / PAGE_SIZE, nrBytes / PAGE_SIZE);
    }
    iova += nrBytes;
  }
  dma.iommuMapped = false;
  if (regions.length > 0) syncAndUnpin();
  dma.process.account.charge(-nrUnlocked);
}
