/**
 * VFIO type1's requests on an IOAS: Linux 6.12 drivers/iommu/iommufd/vfio_compat.c. Version 1 may unmap any part of a mapping;
 * that is bought by mapping page by page and cutting areas.
 *
 * It differs from type1 itself: a v2 unmap that cuts a mapping is ENOENT instead of EINVAL, a v1 unmap inside of one works,
 * and there is no limit of mappings and no dirty tracking.
 */
import { EINVAL, ENODEV, ENOENT, PAGE_SIZE, and53, or53 } from '../../base/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import { LAST_ADDRESS, lastByte, toWord } from '../address-word.ts';
import { VFIO_TYPE1V2_IOMMU, VFIO_TYPE1_IOMMU } from '../container.ts';
import type { IovaRange } from '../iova-ranges.ts';
import type { Process } from '../process.ts';
import type { DmaMapRequest, DmaUnmapRequest } from '../type1.ts';
import { VFIO_DMA_MAP_READ, VFIO_DMA_MAP_WRITE, VFIO_DMA_UNMAP_ALL } from '../type1.ts';
import type { Unmapped } from './io-pagetable.ts';
import type { Iommufd } from './iommufd.ts';

export class VfioCompat {
  readonly #iommufd: Iommufd;

  constructor(iommufd: Iommufd) {
    this.#iommufd = iommufd;
  }

  /** IOMMU_VFIO_IOAS_SET; null is CLEAR. @returns 0 or ENOENT */
  setIoas(id: number | null): number {
    const ioas = id === null ? null : this.#iommufd.ioas(id);
    if (ioas === undefined) return ENOENT;
    this.#iommufd.vfioIoas = ioas;
    return 0;
  }

  /** IOMMU_VFIO_IOAS_GET. @returns the id or ENODEV */
  get ioasId(): number {
    return this.#iommufd.vfioIoas?.id ?? ENODEV;
  }

  /** @returns 0; EINVAL; ENODEV without an IOAS; EINVAL for version 1 when domains hold large leaves already */
  setIommu(type: number): number {
    if (type !== VFIO_TYPE1_IOMMU && type !== VFIO_TYPE1V2_IOMMU) return EINVAL;
    const ioas = this.#iommufd.vfioIoas;
    if (ioas === null) return ENODEV;
    return type === VFIO_TYPE1_IOMMU ? ioas.table.disableLargePages() : 0;
  }

  /** VFIO_IOMMU_MAP_DMA; charged to whom the iommufd charges. @returns 0 or a negative errno */
  mapDma(request: DmaMapRequest, process: Process): number {
    const { flags } = request;
    if ((flags & ~(VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE)) !== 0) return EINVAL;
    const ioas = this.#iommufd.vfioIoas;
    if (ioas === null) return ENODEV;
    const vaddr = toWord(request.vaddr);
    const iova = toWord(request.iova);
    const size = toWord(request.size);
    if (Number.isNaN(vaddr + iova + size)) return EINVAL;
    const prot =
      IOMMU_CACHE |
      ((flags & VFIO_DMA_MAP_READ) !== 0 ? IOMMU_READ : 0) |
      ((flags & VFIO_DMA_MAP_WRITE) !== 0 ? IOMMU_WRITE : 0);
    const result = this.#iommufd.mapUser(ioas, vaddr, size, iova, prot, process, this.#iommufd.accountMode);
    return result < 0 ? result : 0;
  }

  /** VFIO_IOMMU_UNMAP_DMA. @returns bytes, 0 for an empty range, or a negative errno */
  unmapDma(request: DmaUnmapRequest): number {
    const { flags = 0 } = request;
    if ((flags & ~VFIO_DMA_UNMAP_ALL) !== 0) return EINVAL;
    const ioas = this.#iommufd.vfioIoas;
    if (ioas === null) return ENODEV;
    const { table } = ioas;
    const iova = toWord(request.iova);
    const size = toWord(request.size);
    if (Number.isNaN(iova + size)) return EINVAL;
    let result: Unmapped;
    if ((flags & VFIO_DMA_UNMAP_ALL) !== 0) {
      if (iova !== 0 || size !== 0) return EINVAL;
      result = table.unmapAll();
    } else {
      const last = lastByte(iova, size);
      if (table.largePagesDisabled && size > 0 && !Number.isNaN(last)) {
        const errno = table.cut(iova === 0 ? [last] : [last, iova - 1]);
        if (errno !== 0) return errno;
      }
      result = table.unmap(iova, size);
    }
    return result.errno === 0 ? result.nrBytes : result.errno;
  }

  /** VFIO_IOMMU_GET_INFO: page sizes that all domains have, and the ranges. @returns null without an IOAS (ENODEV) */
  info(): {
    readonly pgsizeBitmap: number;
    readonly iovaRanges: readonly IovaRange[];
    readonly dmaAvail: number;
  } | null {
    const ioas = this.#iommufd.vfioIoas;
    if (ioas === null) return null;
    let bitmap = LAST_ADDRESS;
    for (const domain of ioas.table.domains) bitmap = and53(bitmap, domain.pgsizeBitmap);
    const subPage = bitmap % PAGE_SIZE;
    if (subPage !== 0) bitmap = or53(bitmap - subPage, PAGE_SIZE);
    // U32_MAX: iommufd limits memory, not mappings.
    return {
      pgsizeBitmap: Math.max(bitmap, ioas.table.alignment),
      iovaRanges: ioas.table.ranges,
      dmaAvail: 2 ** 32 - 1,
    };
  }
}
