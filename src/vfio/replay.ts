/**
 * Bringing a new domain up to what the container has mapped already: vfio_iommu_replay() of Linux 6.12
 * drivers/vfio/vfio_iommu_type1.c. Frames come from a domain that has them, or, when the container had none until now, are
 * pinned and accounted here.
 */
import { PAGE_SIZE, paddrOf } from '../base/index.ts';
import type { Iommu } from '../iommu/index.ts';
import { IOMMU_CACHE } from '../iommu/index.ts';
import type { DmaList, VfioDma } from './dma.ts';
import type { VfioDomain } from './domain.ts';
import { PinBatch, unpinPages } from './pinning.ts';
import { runLength } from './unmap.ts';

/** @returns 0, or a negative errno with the domain empty and all pins as before */
export function replayMappings(
  core: Iommu,
  dmas: DmaList,
  source: VfioDomain | null,
  target: VfioDomain,
  disableHugepages: boolean,
): number {
  const batch = new PinBatch(disableHugepages);
  const done: VfioDma[] = [];
  for (const dma of dmas) {
    done.push(dma);
    const errno = replayOne(core, dma, source, target, batch);
    if (errno === 0) continue;
    for (const one of done.reverse()) undoOne(core, one, target);
    return errno;
  }
  for (const dma of dmas) dma.iommuMapped = true;
  return 0;
}

function replayOne(core: Iommu, dma: VfioDma, source: VfioDomain | null, target: VfioDomain, batch: PinBatch): number {
  let { iova } = dma;
  while (iova < dma.end) {
    let paddr: number;
    let nrBytes: number;
    if (dma.iommuMapped) {
      if (source === null) throw new Error('replay: pages are mapped without a domain');
      paddr = core.iovaToPhys(source.domain, iova);
      if (paddr < 0) {
        iova += PAGE_SIZE;
        continue;
      }
      nrBytes = runLength(core, source, iova, paddr, dma.end);
    } else {
      const nrPages = batch.pinRun(dma, iova - dma.iova, (dma.end - iova) / PAGE_SIZE);
      if (nrPages < 0) return nrPages;
      paddr = paddrOf(batch.base);
      nrBytes = nrPages * PAGE_SIZE;
    }
    const errno = core.map(target.domain, iova, paddr, nrBytes, dma.prot | IOMMU_CACHE);
    if (errno !== 0) {
      if (!dma.iommuMapped) {
        dma.process.account.charge(-unpinPages(dma, iova, paddr / PAGE_SIZE, nrBytes / PAGE_SIZE));
        batch.drop(dma);
      }
      return errno;
    }
    iova += nrBytes;
  }
  return 0;
}

/** Takes what was replayed of one mapping out of the new domain, and unpins it when the replay had pinned it. */
function undoOne(core: Iommu, dma: VfioDma, target: VfioDomain): void {
  let { iova } = dma;
  while (iova < dma.end) {
    const paddr = core.iovaToPhys(target.domain, iova);
    if (paddr < 0) {
      iova += PAGE_SIZE;
      continue;
    }
    const nrBytes = runLength(core, target, iova, paddr, dma.end);
    core.unmap(target.domain, iova, nrBytes);
    if (!dma.iommuMapped) {
      dma.process.account.charge(-unpinPages(dma, iova, paddr / PAGE_SIZE, nrBytes / PAGE_SIZE));
    }
    iova += nrBytes;
  }
}
