/**
 * iommu_map_nosync() and iommu_sync_map() of Linux 6.15 (drivers/iommu/iommu.c): a mapping in two halves, so that several
 * links of one IOVA range share one flush. Between the halves C-MAP-VISIBLE is not due: the device may see nothing there.
 */
import { EINVAL } from '../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { Iommu, IommuDomain, Mapped } from '../iommu/index.ts';
import { PHYS_LIMIT } from '../mem/index.ts';
import { iommuPgsize } from '../pt/index.ts';
import type { PgCount } from '../pt/index.ts';

const mapped: Mapped = { bytes: 0 };
const pgCount: PgCount = { count: 0 };

/** Maps a run without its flush. On failure nothing of it stays. @returns 0 or a negative errno, as Iommu.map */
export function mapNosync(
  core: Iommu,
  domain: IommuDomain,
  iova: number,
  paddr: number,
  nrBytes: number,
  prot: number,
): number {
  const bitmap = domain.pgsizeBitmap;
  const smallest = bitmap & -bitmap;
  if (domain.type !== 'paging' || (prot & (IOMMU_READ | IOMMU_WRITE)) === 0) return EINVAL;
  if (!(nrBytes > 0 && iova >= 0 && paddr >= 0)) return EINVAL;
  if (((iova | paddr | nrBytes) & (smallest - 1)) !== 0) return EINVAL;
  if (iova + nrBytes - 1 > domain.apertureLast || paddr + nrBytes > PHYS_LIMIT) return EINVAL;
  let done = 0;
  let errno = 0;
  while (done < nrBytes && errno === 0) {
    const pgsize = iommuPgsize(bitmap, iova + done, paddr + done, nrBytes - done, pgCount);
    const count = core.options.pagesPerCallback === 'one' ? 1 : pgCount.count;
    mapped.bytes = 0;
    errno = domain.ops.mapPages(domain, iova + done, paddr + done, pgsize, count, prot, mapped);
    if (errno === 0 && mapped.bytes === 0)
      throw new Error(`${domain.ops.name}: mapPages succeeded without mapping anything`);
    done += mapped.bytes;
  }
  if (errno === 0) core.tracer?.map(iova, paddr, nrBytes, domain);
  else if (done > 0) core.unmap(domain, iova, done);
  return errno;
}
