/**
 * Dirty tracking by hardware: struct iommu_dirty_ops of include/linux/iommu.h, and the bitmaps of Linux 6.12
 * drivers/iommu/iommufd/io_pagetable.c and iova_bitmap.c.
 *
 * The drivers here have none yet (VT-d has dirty bits in scalable mode only, AMD with HDSUP). One that does implements
 * `DirtyTrackingOps` besides the core's callbacks; this layer finds out by looking.
 */
import { EINVAL, EOPNOTSUPP, EOVERFLOW } from '../../base/index.ts';
import type { Device, Iommu, IommuDomain, IommuOps } from '../../iommu/index.ts';
import { IotlbGather } from '../../iommu/index.ts';
import { lastByte, toWord } from '../address-word.ts';
import { setBits } from '../bitmap.ts';
import type { IoPageTable } from './io-pagetable.ts';

export interface DirtyTrackingOps extends IommuOps {
  /** Whether the IOMMU before a device can tell (IOMMU_CAP_DIRTY_TRACKING). */
  tracksDirty(device: Device): boolean;
  /** A domain whose attachments are limited to devices that can be tracked; null when out of memory. */
  domainAllocTracking(): IommuDomain | null;
  setDirtyTracking(domain: IommuDomain, enable: boolean): number;
  /**
   * Calls `record` for each dirty leaf in a range. With `clear` the dirty bits go and what caches them into the gather, which
   * the caller syncs: an IOTLB entry that remembers "dirty already" would hide the next write.
   */
  readAndClearDirty(
    domain: IommuDomain,
    iova: number,
    nrBytes: number,
    clear: boolean,
    record: ((iova: number, nrBytes: number) => void) | null,
    gather: IotlbGather,
  ): number;
}

export function isDirtyTracking(ops: IommuOps): ops is DirtyTrackingOps {
  return 'readAndClearDirty' in ops && 'setDirtyTracking' in ops;
}

/** IOMMU_HWPT_GET_DIRTY_BITMAP. */
export interface DirtyRequest {
  readonly iova: number;
  readonly nrBytes: number;
  /** Bytes per bit; a power of two. */
  readonly pageSize: number;
  readonly data: Uint8Array;
  /** Leaves the dirty bits where they are. */
  readonly noClear?: boolean;
}

/** Starts (from clean) or stops. @returns 0, EOPNOTSUPP, or an errno of the driver */
export function setDirtyTracking(core: Iommu, table: IoPageTable, domain: IommuDomain, enable: boolean): number {
  const { ops } = domain;
  if (!isDirtyTracking(ops)) return EOPNOTSUPP;
  if (enable) {
    const gather = new IotlbGather();
    let errno = 0;
    for (const area of table.areas) {
      errno = ops.readAndClearDirty(domain, area.iova, area.nrBytes, true, null, gather);
      if (errno !== 0) break;
    }
    core.iotlbSync(domain, gather);
    if (errno !== 0) return errno;
  }
  return ops.setDirtyTracking(domain, enable);
}

/**
 * Sets a bit per dirty page of a range, and clears what made it dirty.
 *
 * 0 also when the range has a gap, or nobody tracks: in 6.12 iommu_read_and_clear_dirty() drops the result of its iteration.
 * Bits up to the gap are set then.
 * @returns 0; EINVAL (no bytes, not multiples of the table's alignment or of the page size, bitmap too small), EOVERFLOW, EOPNOTSUPP
 */
export function readDirtyBitmap(core: Iommu, table: IoPageTable, domain: IommuDomain, request: DirtyRequest): number {
  const iova = toWord(request.iova);
  const nrBytes = toWord(request.nrBytes);
  const { pageSize, data } = request;
  if (nrBytes === 0) return EINVAL;
  if (Number.isNaN(iova + nrBytes)) return EOVERFLOW;
  const last = lastByte(iova, nrBytes);
  if (Number.isNaN(last)) return EOVERFLOW;
  const unit = table.alignment;
  if (iova % unit !== 0 || (last + 1) % unit !== 0 || !(pageSize > 0)) return EINVAL;
  if (iova % pageSize !== 0 || (last + 1) % pageSize !== 0) return EINVAL;
  const { ops } = domain;
  if (!isDirtyTracking(ops)) return EOPNOTSUPP;
  if (data.length < Math.ceil(nrBytes / pageSize / 8)) return EINVAL;

  const gather = new IotlbGather();
  const clear = request.noClear !== true;
  const record = (at: number, bytes: number): void => {
    // A leaf may reach over both ends.
    const from = Math.max(at, iova);
    const first = Math.floor((from - iova) / pageSize);
    const final = Math.floor((Math.min(at + bytes - 1, last) - iova) / pageSize);
    setBits(data, first, final - first + 1);
  };
  const areas = table.areas.contiguous(iova, last);
  for (const area of areas) {
    const start = Math.max(area.iova, iova);
    const bytes = Math.min(area.last, last) - start + 1;
    if (ops.readAndClearDirty(domain, start, bytes, clear, record, gather) !== 0) break;
  }
  if (clear) core.iotlbSync(domain, gather);
  return 0;
}
