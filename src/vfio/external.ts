/**
 * Pages that emulated devices (mdev) hold: vfio_iommu_type1_pin_pages(), _unpin_pages(), _dma_rw() of Linux 6.12
 * drivers/vfio/vfio_iommu_type1.c. Such a device has no IOMMU; it asks for the frames behind an IOVA and must give them back
 * when the mapping goes.
 */
import { EFAULT, EINVAL, ENOMEM, EPERM, PAGE_SIZE } from '../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import { setBits } from './bitmap.ts';
import type { DmaList, VfioDma } from './dma.ts';

/** A device without an IOMMU of its own. */
export interface EmulatedDevice {
  /** A mapping is about to go: every page of it must be unpinned before this returns (vfio_device_ops::dma_unmap). */
  dmaUnmap(iova: number, nrBytes: number): void;
}

/** What the pins of emulated devices depend on; Type1Iommu is one. */
export interface ExternalHost {
  readonly dmas: DmaList;
  /** log2 of a page of the dirty bitmap. */
  readonly pgshift: number;
  /** Pages are accounted by the mapping when there is a domain, else by the pin. */
  readonly hasDomains: boolean;
}

/** Frames of `nrPages` pages from `iova` on, into `pfns`. @returns nrPages, or a negative errno with nothing pinned */
export function pinExternal(
  host: ExternalHost,
  iova: number,
  nrPages: number,
  prot: number,
  pfns: Float64Array,
): number {
  const got = new Float64Array(1);
  for (let page = 0; page < nrPages; page++) {
    const errno = pinOne(host, iova + page * PAGE_SIZE, prot, got);
    if (errno !== 0) {
      for (let undo = 0; undo < page; undo++) unpinOne(host, iova + undo * PAGE_SIZE);
      pfns.fill(0, 0, page);
      return errno;
    }
    pfns[page] = got[0];
  }
  return nrPages;
}

function pinOne(host: ExternalHost, iova: number, prot: number, got: Float64Array): number {
  const dma = host.dmas.find(iova, PAGE_SIZE);
  if (dma === null) return EINVAL;
  if ((dma.prot & prot) !== prot) return EPERM;
  const held = dma.externalPins.get(iova);
  if (held !== undefined) {
    held.nrUsers += 1;
    got[0] = held.pfn;
    return 0;
  }
  const { memory, account } = dma.process;
  const write = (dma.prot & IOMMU_WRITE) !== 0;
  const nr = memory.pin(dma.vaddr + (iova - dma.iova), 1, write, got);
  if (nr < 0) return nr;
  const [pfn] = got;
  // A BAR has no struct page to hand out. (vaddr_get_pfns() gives it, pfn_valid() then refuses it.)
  if (memory.isReserved?.(pfn) === true) return EINVAL;
  if (!host.hasDomains && account.charge(1) !== 0) {
    memory.unpin(pfn, 1, write);
    return ENOMEM;
  }
  dma.externalPins.set(iova, { pfn, nrUsers: 1 });
  if (dma.bitmap !== null) setBits(dma.bitmap, (iova - dma.iova) / 2 ** host.pgshift, 1);
  return 0;
}

function unpinOne(host: ExternalHost, iova: number): void {
  const dma = host.dmas.find(iova, PAGE_SIZE);
  const held = dma?.externalPins.get(iova);
  if (dma === null || held === undefined) return;
  held.nrUsers -= 1;
  if (held.nrUsers > 0) return;
  dma.externalPins.delete(iova);
  dma.process.memory.unpin(held.pfn, 1, (dma.prot & IOMMU_WRITE) !== 0);
  if (!host.hasDomains) dma.process.account.charge(-1);
}

/** Ends one pin of each page; stops at the first page without a mapping. */
export function unpinExternal(host: ExternalHost, iova: number, nrPages: number): void {
  for (let page = 0; page < nrPages; page++) {
    if (host.dmas.find(iova + page * PAGE_SIZE, PAGE_SIZE) === null) return;
    unpinOne(host, iova + page * PAGE_SIZE);
  }
}

/** Copies between `data` and what the process has behind an IOVA. Marks what it wrote as dirty. @returns 0 or a negative errno */
export function accessData(host: ExternalHost, iova: number, data: Uint8Array, write: boolean): number {
  let done = 0;
  while (done < data.length) {
    const dma = host.dmas.find(iova + done, 1);
    if (dma === null) return EINVAL;
    // Reading is asked for even of a writer: the kernel's condition, not a slip here.
    if ((write && (dma.prot & IOMMU_WRITE) === 0) || (dma.prot & IOMMU_READ) === 0) return EPERM;
    if (dma.process.memory.exited) return EPERM;
    const offset = iova + done - dma.iova;
    const nrBytes = Math.min(data.length - done, dma.nrBytes - offset);
    const part = data.subarray(done, done + nrBytes);
    if (dma.process.memory.copyUser(dma.vaddr + offset, part, write) !== 0) return EFAULT;
    if (write) markDirty(dma, offset, nrBytes, host.pgshift);
    done += nrBytes;
  }
  return 0;
}

function markDirty(dma: VfioDma, offset: number, nrBytes: number, pgshift: number): void {
  if (dma.bitmap === null) return;
  const first = Math.floor(offset / 2 ** pgshift);
  setBits(dma.bitmap, first, Math.floor((offset + nrBytes - 1) / 2 ** pgshift) - first + 1);
}

/**
 * Makes the devices give back what they pinned of a mapping that is to go (vfio_notify_dma_unmap).
 * @throws Error when one would not, eleven times: it breaks its contract. (The kernel stops itself, BUG_ON.)
 */
export function releaseExternal(devices: Iterable<EmulatedDevice>, dma: VfioDma): void {
  for (let nrTries = 0; dma.externalPins.size > 0; nrTries++) {
    if (nrTries > 10) throw new Error('an emulated device keeps pages of a mapping that is being unmapped');
    for (const device of devices) device.dmaUnmap(dma.iova, dma.nrBytes);
  }
}
