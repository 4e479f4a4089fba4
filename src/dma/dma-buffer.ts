/**
 * Memory that the DMA API itself provides (iommu_dma_alloc, iommu_dma_alloc_noncontiguous of drivers/iommu/dma-iommu.c, Linux
 * 6.12): pages from anywhere, in runs as large as there are, one range of IOVAs over them.
 */
import { highestBit } from '../base/index.ts';
import type { BuddyPages } from './buddy-pages.ts';
import { MAX_PAGE_ORDER } from './buddy-pages.ts';
import type { Scatterlist } from './scatterlist.ts';

/** A buffer of `alloc` or `allocNoncontiguous`. Having one means that its pages are mapped, until it is freed. */
export interface DmaBuffer {
  readonly dmaAddress: number;
  /** As asked for; whole pages are mapped. */
  readonly nrBytes: number;
  /** Frames, in the order of the device's addresses. */
  readonly pfns: readonly number[];
  /** What goes back to the allocator at once: every page, or one for a contiguous run. */
  readonly runs: readonly number[];
  /** The pages as elements, neighbours joined, with the one DMA segment that all of them are. */
  readonly list: Scatterlist | null;
}

/**
 * `count` single pages, taken in runs of the orders in a mask, largest first; runs larger than the smallest order are only
 * tried (__iommu_dma_alloc_pages). @returns frames, or null with nothing taken
 */
export function allocPages(source: BuddyPages, count: number, orderMask: number): number[] | null {
  const pfns: number[] = [];
  let orders = orderMask & (2 ** (MAX_PAGE_ORDER + 1) - 1);
  let left = count;
  while (left > 0) {
    orders &= 2 ** (highestBit(left) + 1) - 1;
    let first = -1;
    let order = 0;
    while (orders !== 0) {
      order = highestBit(orders);
      first = source.alloc(order);
      if (first >= 0) break;
      orders &= ~(1 << order);
    }
    if (first < 0) {
      for (const pfn of pfns) source.free(pfn);
      return null;
    }
    if (order > 0) source.split(first);
    for (let page = 0; page < 2 ** order; page++) pfns.push(first + page);
    left -= 2 ** order;
  }
  return pfns;
}
