/**
 * What an unmap leaves to be invalidated: struct iommu_iotlb_gather of include/linux/iommu.h, v5.12 and later (inclusive end).
 * One gather lives on the unmapping call and is handed to `IommuOps.iotlbSync` at its end.
 */
import type { IommuDomain, IommuOps } from './ops.ts';

export class IotlbGather {
  /** First byte gathered; Infinity (the kernel's ULONG_MAX) while empty. */
  start: number = Infinity;
  /** Last byte gathered, inclusive; 0 while empty. */
  last: number = 0;
  /** Leaf size of the gathered pages in bytes; 0 while empty. */
  pgsize: number = 0;
  /** Table pages that were unlinked and may be freed only after the invalidation completed. */
  readonly freelist: number[] = [];
  /** True when a flush queue takes over: drivers then need not track ranges, nothing is synced per range. */
  queued: boolean = false;

  /** Empties the gather for reuse. The caller has synced it; a non-empty freelist would leak. */
  reset(): void {
    this.start = Infinity;
    this.last = 0;
    this.pgsize = 0;
    // Setting the length of an array leaves optimised code (40 ns), even from 0 to 0.
    if (this.freelist.length !== 0) this.freelist.length = 0;
  }

  get isEmpty(): boolean {
    return this.last === 0;
  }

  /**
   * True iff the gather holds something and [start, start + nrBytes) neither overlaps nor touches it
   * (iommu_iotlb_gather_is_disjoint). Adjacent ranges are not disjoint: treating them so costs an invalidation per page.
   */
  isDisjoint(start: number, nrBytes: number): boolean {
    const last = start + nrBytes - 1;
    return this.last !== 0 && (last + 1 < this.start || start > this.last + 1);
  }

  /** Widens the gather to cover a range, without any check (iommu_iotlb_gather_add_range). */
  addRange(start: number, nrBytes: number): void {
    const last = start + nrBytes - 1;
    if (start < this.start) this.start = start;
    if (last > this.last) this.last = last;
  }

  /**
   * Adds one page, syncing first what is already gathered when the page size differs or the page is disjoint
   * (iommu_iotlb_gather_add_page). For drivers whose invalidation command covers one run of one page size.
   */
  addPage(ops: IommuOps, domain: IommuDomain, iova: number, nrBytes: number): void {
    if ((this.pgsize !== 0 && this.pgsize !== nrBytes) || this.isDisjoint(iova, nrBytes)) {
      ops.iotlbSync(domain, this);
      this.reset();
    }
    this.pgsize = nrBytes;
    this.addRange(iova, nrBytes);
  }
}
