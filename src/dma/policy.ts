/**
 * Strict or lazy: what an unmap of the DMA API waits for (iommu_dma_strict, iommu_get_default_domain_type and
 * iommu_dma_init_domain of Linux 6.12; intel_iommu_init and amd_iommu_init for the hardware's say).
 */
import type { IommuOps } from '../iommu/index.ts';

/** Strict: the invalidation is done when the unmap returns. Lazy: a flush queue does it later, for many. */
export type DmaMode = 'strict' | 'lazy';

export interface DmaModeFacts {
  /** The device is not to be trusted with a window in which freed pages are still reachable. */
  readonly untrusted?: boolean;
}

/**
 * How a domain of a driver starts, whatever the boot line asked for: strict where the driver forces it or cannot flush later,
 * and for a device that is not trusted. An administrator can still make it lazy afterwards (`DmaCookie.startQueue`): caching
 * mode decides the default and forbids nothing.
 */
export function defaultDmaMode(
  asked: DmaMode,
  ops: Pick<IommuOps, 'forcesStrict' | 'cannotDeferFlush'>,
  { untrusted = false }: DmaModeFacts = {},
): DmaMode {
  return ops.forcesStrict === true || ops.cannotDeferFlush === true || untrusted ? 'strict' : asked;
}
