/**
 * Strict or lazy: what an unmap of the DMA API waits for (iommu_dma_strict, iommu_get_default_domain_type and
 * iommu_dma_init_domain of Linux 6.12; intel_iommu_init and amd_iommu_init for the hardware's say).
 */

/** Strict: the invalidation is done when the unmap returns. Lazy: a flush queue does it later, for many. */
export type DmaMode = 'strict' | 'lazy';

export interface DmaModeFacts {
  /**
   * A unit caches what is not present (CAP.CM, NpCache): an emulated one. A flush of everything costs its host more than any
   * number of single ones, so the kernel goes strict ("IOMMU batching disallowed due to virtualization").
   */
  readonly cachesNotPresent?: boolean;
  /** The device is not to be trusted with a window in which freed pages are still reachable. */
  readonly untrusted?: boolean;
  /** The driver cannot flush a domain later (no IOMMU_CAP_DEFERRED_FLUSH). */
  readonly cannotDefer?: boolean;
}

/**
 * How a domain starts. An administrator can still make it lazy afterwards (`DmaCookie.startQueue`): caching mode decides the
 * default and forbids nothing.
 */
export function defaultDmaMode(asked: DmaMode, facts: DmaModeFacts): DmaMode {
  const { cachesNotPresent = false, untrusted = false, cannotDefer = false } = facts;
  return cachesNotPresent || untrusted || cannotDefer ? 'strict' : asked;
}
