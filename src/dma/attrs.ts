/**
 * Attributes of a mapping (include/linux/dma-mapping.h, Linux 6.12; MMIO: 6.18), by Linux's values. Only those that change
 * something here: the others (WEAK_ORDERING, WRITE_COMBINE, NO_WARN ...) speak to CPUs and consoles.
 */

/** The caller has synced, or will: no cache maintenance, no copy out of a bounce buffer at the unmap. */
export const DMA_ATTR_SKIP_CPU_SYNC: number = 1 << 5;
/** `alloc`: one physically contiguous run, where any pages would do. */
export const DMA_ATTR_FORCE_CONTIGUOUS: number = 1 << 6;
/** `alloc`: single pages; does not try large ones first. */
export const DMA_ATTR_ALLOC_SINGLE_PAGES: number = 1 << 7;
/** The buffer is a device's registers: never bounced, never synced, mapped as MMIO. */
export const DMA_ATTR_MMIO: number = 1 << 10;
