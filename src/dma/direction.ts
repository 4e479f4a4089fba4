/** Who writes a buffer, and the rights that follow (dma_info_to_prot of drivers/iommu/dma-iommu.c). */
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';

/** Who writes: the device (fromDevice), the CPU (toDevice), or both. */
export type DmaDirection = 'toDevice' | 'fromDevice' | 'bidirectional';

/** Rights of a direction. @param coherent the device's accesses snoop CPU caches, as all do on x86 */
export function protOf(direction: DmaDirection, coherent: boolean = true): number {
  const cache = coherent ? IOMMU_CACHE : 0;
  switch (direction) {
    case 'toDevice':
      return IOMMU_READ | cache;
    case 'fromDevice':
      return IOMMU_WRITE | cache;
    case 'bidirectional':
      return IOMMU_READ | IOMMU_WRITE | cache;
    default:
      return direction satisfies never;
  }
}
