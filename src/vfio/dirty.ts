/**
 * The dirty bitmaps of a container: vfio_dma_bitmap_alloc(), update_user_bitmap(), vfio_iova_dirty_bitmap() of Linux 6.12
 * drivers/vfio/vfio_iommu_type1.c. Nothing here reads hardware: a page is dirty when an emulated device pinned it or wrote to
 * it; as long as any real device is attached, everything that is mapped is.
 */
import { EINVAL } from '../base/index.ts';
import { DIRTY_PAGES_MAX, copyBits, dirtyBitmapBytes, setBits } from './bitmap.ts';
import type { DmaList, VfioDma } from './dma.ts';

/** Where a caller wants dirty bits (struct vfio_bitmap). */
export interface DirtyBitmap {
  /** Bytes per bit: must be the container's smallest page. */
  readonly pgsize: number;
  /** Size of the bitmap as its owner says. */
  readonly nrBytes: number;
  readonly data: Uint8Array;
}

/** Checks a bitmap against a range (verify_bitmap_size). @returns 0 or EINVAL */
export function checkBitmap(bitmap: DirtyBitmap, nrRangeBytes: number): number {
  if (!(bitmap.pgsize >= 1) || bitmap.nrBytes > bitmap.data.length) return EINVAL;
  const nrPages = Math.floor(nrRangeBytes / bitmap.pgsize);
  if (nrPages === 0 || bitmap.nrBytes === 0) return EINVAL;
  if (bitmap.nrBytes > dirtyBitmapBytes(DIRTY_PAGES_MAX) || bitmap.nrBytes < dirtyBitmapBytes(nrPages)) return EINVAL;
  return 0;
}

/** Begins to track a mapping; what is pinned now counts as dirty. @returns 0, or EINVAL for more pages than a bitmap can have */
export function startTracking(dma: VfioDma, pgshift: number): number {
  const nrPages = dma.nrBytes / 2 ** pgshift;
  if (nrPages > DIRTY_PAGES_MAX) return EINVAL;
  dma.bitmap = new Uint8Array(dirtyBitmapBytes(nrPages));
  return 0;
}

function markPinned(dma: VfioDma, bitmap: Uint8Array, pgshift: number): void {
  for (const iova of dma.externalPins.keys()) setBits(bitmap, Math.floor((iova - dma.iova) / 2 ** pgshift), 1);
}

/** Begins to track all mappings, or none. */
export function startTrackingAll(dmas: DmaList, pgshift: number): number {
  for (const dma of dmas) {
    const errno = startTracking(dma, pgshift);
    if (errno !== 0) {
      stopTrackingAll(dmas);
      return errno;
    }
    if (dma.bitmap !== null) markPinned(dma, dma.bitmap, pgshift);
  }
  return 0;
}

export function stopTrackingAll(dmas: DmaList): void {
  for (const dma of dmas) dma.bitmap = null;
}

/** Everything is dirty: a device left that could write without anybody noticing. */
export function markAllDirty(dmas: DmaList, pgshift: number): void {
  for (const dma of dmas) if (dma.bitmap !== null) setBits(dma.bitmap, 0, dma.nrBytes / 2 ** pgshift);
}

/** Copies a mapping's bits to where they belong in a bitmap that begins at `baseIova`. */
export function reportDirty(
  dma: VfioDma,
  data: Uint8Array,
  baseIova: number,
  pgshift: number,
  devicesWrite: boolean,
): void {
  if (dma.bitmap === null) return;
  const nrBits = dma.nrBytes / 2 ** pgshift;
  if (devicesWrite && dma.iommuMapped) setBits(dma.bitmap, 0, nrBits);
  copyBits(data, (dma.iova - baseIova) / 2 ** pgshift, dma.bitmap, nrBits);
}

/**
 * Dirty bits of a range that must not cut any mapping; several mappings and holes are fine. Afterwards only what is still
 * pinned is dirty.
 */
export function readDirty(
  dmas: DmaList,
  iova: number,
  nrBytes: number,
  data: Uint8Array,
  pgshift: number,
  devicesWrite: boolean,
): number {
  if (cutsMapping(dmas, iova, nrBytes)) return EINVAL;
  for (const dma of dmas.within(iova, nrBytes)) {
    reportDirty(dma, data, iova, pgshift, devicesWrite);
    if (dma.bitmap === null) continue;
    dma.bitmap.fill(0);
    markPinned(dma, dma.bitmap, pgshift);
  }
  return 0;
}

/** Whether a range begins or ends inside of a mapping. */
export function cutsMapping(dmas: DmaList, iova: number, nrBytes: number): boolean {
  const first = dmas.find(iova, 1);
  if (first !== null && first.iova !== iova) return true;
  const last = dmas.find(iova + nrBytes - 1, 0);
  return last !== null && last.end !== iova + nrBytes;
}
