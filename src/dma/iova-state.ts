/**
 * IOVAs first, pages later (struct dma_iova_state and the dma_iova_* calls of drivers/iommu/dma-iommu.c, Linux 6.16): a range
 * is taken for a whole request, pages are linked into it piece by piece, one flush makes all of them visible.
 *
 * Having one means that its range is taken; what of it is mapped, its owner knows. Pages are the owner's to unlink: `destroy`
 * takes the first `linkedBytes` bytes away and the range with them.
 */
import { EINVAL, EIO, ENOMEM, EPERM, alignUp } from '../base/index.ts';
import { IOMMU_CACHE, IOMMU_MMIO } from '../iommu/index.ts';
import { DMA_ATTR_MMIO, DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { isByteRange } from './byte-range.ts';
import type { CpuSync } from './cpu-sync.ts';
import type { DmaDirection } from './direction.ts';
import { protOf } from './direction.ts';
import type { DmaSpace } from './dma-space.ts';

export class DmaIovaState {
  /** Where byte 0 of the request is for the device. */
  readonly dmaAddress: number;
  readonly nrBytes: number;
  readonly #space: DmaSpace;
  readonly #cpuSync: CpuSync;
  /** Some link went through a bounce buffer (DMA_IOVA_USE_SWIOTLB): unlinking has to look at every page. */
  #isBounced = false;
  #isLive = true;

  /** Made by `DmaDevice.iovaTryAlloc`. */
  constructor(space: DmaSpace, cpuSync: CpuSync, dmaAddress: number, nrBytes: number) {
    this.#space = space;
    this.#cpuSync = cpuSync;
    this.dmaAddress = dmaAddress;
    this.nrBytes = nrBytes;
  }

  /** False after `free` or `destroy`: the range may be anybody's. */
  get isLive(): boolean {
    return this.#isLive;
  }

  #holds(offset: number, nrBytes: number): boolean {
    return this.#isLive && isByteRange(offset, nrBytes) && offset + nrBytes <= this.nrBytes;
  }

  /**
   * Links a buffer at an offset into the range (dma_iova_link). Not visible to the device before `sync`.
   * @returns 0; EIO for a buffer behind the first that begins inside a page; EPERM for registers that would have to be
   * bounced; EINVAL for what does not fit the range, or is no range; ENOMEM; EADDRINUSE. Nothing of it is linked then
   */
  link(paddr: number, offset: number, nrBytes: number, direction: DmaDirection, attrs: number = 0): number {
    const { granule } = this.#space;
    const startPad = paddr % granule;
    if (!this.#holds(offset, nrBytes) || !isByteRange(paddr, nrBytes)) return EINVAL;
    if (startPad !== 0 && offset > 0) return EIO;
    // The first buffer shares the range's offset in its page. Linux takes its caller's word for that.
    if ((this.dmaAddress + offset) % granule !== startPad) return EINVAL;
    if (this.#cpuSync.mustBounce(paddr, nrBytes)) {
      return (attrs & DMA_ATTR_MMIO) !== 0 ? EPERM : this.#linkBounced(paddr, offset, nrBytes, direction, attrs);
    }
    const bytes = alignUp(nrBytes + startPad, granule);
    return this.#linkPages(this.dmaAddress + offset - startPad, paddr - startPad, bytes, direction, attrs);
  }

  #linkPages(iova: number, paddr: number, nrBytes: number, direction: DmaDirection, attrs: number): number {
    this.#cpuSync.linesForDevice(paddr, nrBytes, attrs);
    const isMmio = (attrs & DMA_ATTR_MMIO) !== 0;
    const prot = protOf(direction, this.#cpuSync.coherent);
    const { core, domain } = this.#space;
    return core.mapNosync(domain, iova, paddr, nrBytes, isMmio ? (prot & ~IOMMU_CACHE) | IOMMU_MMIO : prot);
  }

  /** Only the ends are copied: whole pages in the middle belong to nobody else (iommu_dma_iova_link_swiotlb). */
  #linkBounced(paddr: number, offset: number, nrBytes: number, direction: DmaDirection, attrs: number): number {
    const { granule } = this.#space;
    const head = paddr % granule === 0 ? 0 : Math.min(nrBytes, granule - (paddr % granule));
    const tail = nrBytes === head ? 0 : (paddr + nrBytes) % granule;
    const middle = nrBytes - head - tail;
    let linked = 0;
    let errno = 0;
    if (head > 0) {
      errno = this.#bounceAndLink(paddr, offset, head, direction, attrs);
      if (errno === 0) linked = head;
    }
    // Head and tail may meet: a middle of no bytes is no error (2026; bug 31).
    if (errno === 0 && middle > 0) {
      errno = this.#linkPages(this.dmaAddress + offset + head, paddr + head, middle, direction, attrs);
      if (errno === 0) linked += middle;
    }
    if (errno === 0 && tail > 0) {
      errno = this.#bounceAndLink(paddr + linked, offset + linked, tail, direction, attrs);
    }
    if (errno !== 0 && linked > 0) this.undoLink(offset, linked, direction, attrs | DMA_ATTR_SKIP_CPU_SYNC);
    return errno;
  }

  /** From `offset` on: undone from 0 it would take away what other links put there (the other half of bug 31). */
  protected undoLink(offset: number, nrBytes: number, direction: DmaDirection, attrs: number): void {
    this.unlink(offset, nrBytes, direction, attrs);
  }

  #bounceAndLink(paddr: number, offset: number, nrBytes: number, direction: DmaDirection, attrs: number): number {
    const { granule } = this.#space;
    const startPad = paddr % granule;
    // The IOVA keeps the buffer's offset in its page, so the copy must too. (Linux keeps only what the device's
    // min_align_mask says, and fails for devices without one.)
    const at = this.#cpuSync.bounce(paddr, nrBytes, attrs, granule - 1);
    if (at < 0) return ENOMEM;
    const iova = this.dmaAddress + offset - startPad;
    const errno = this.#linkPages(iova, at - startPad, granule, direction, attrs);
    if (errno === 0) this.#isBounced = true;
    else this.#cpuSync.unbounce(at, nrBytes, direction, attrs | DMA_ATTR_SKIP_CPU_SYNC);
    return errno;
  }

  /** Makes links visible: C-MAP-VISIBLE for [offset, offset + nrBytes) at return (dma_iova_sync). @returns 0 or an errno */
  sync(offset: number, nrBytes: number): number {
    if (!this.#holds(offset, nrBytes)) return EINVAL;
    const { cookie, granule } = this.#space;
    const address = this.dmaAddress + offset;
    const startPad = address % granule;
    return cookie.syncAt(address - startPad, alignUp(nrBytes + startPad, granule));
  }

  /** Takes pages away, for good when it returns; the range stays (dma_iova_unlink). @returns 0 or EINVAL */
  unlink(offset: number, nrBytes: number, direction: DmaDirection, attrs: number = 0): number {
    const errno = this.#beforeUnlink(offset, nrBytes, direction, attrs);
    if (errno !== 0) return errno;
    const bounced = this.#bouncePages(offset, nrBytes);
    const { granule, cookie } = this.#space;
    const address = this.dmaAddress + offset;
    const startPad = address % granule;
    cookie.unlinkAt(address - startPad, alignUp(nrBytes + startPad, granule));
    for (const [paddr, bytes] of bounced) this.#cpuSync.unbounce(paddr, bytes, direction, attrs);
    return 0;
  }

  /** Gives back a range in which nothing is linked (dma_iova_free). */
  free(): number {
    if (!this.#isLive) return EINVAL;
    this.#isLive = false;
    const { granule } = this.#space;
    const startPad = this.dmaAddress % granule;
    this.#space.release(this.dmaAddress - startPad, alignUp(this.nrBytes + startPad, granule));
    return 0;
  }

  /**
   * Unlinks the first `linkedBytes`, all that is linked, and gives the range back: in one go, and through the flush queue where
   * there is one (dma_iova_destroy).
   */
  destroy(linkedBytes: number, direction: DmaDirection, attrs: number = 0): number {
    if (linkedBytes === 0) return this.free();
    const errno = this.#beforeUnlink(0, linkedBytes, direction, attrs);
    if (errno !== 0) return errno;
    const bounced = this.#bouncePages(0, linkedBytes);
    this.#isLive = false;
    const { granule, cookie, cpu } = this.#space;
    const startPad = this.dmaAddress % granule;
    const iova = this.dmaAddress - startPad;
    const linked = alignUp(linkedBytes + startPad, granule);
    const whole = alignUp(this.nrBytes + startPad, granule);
    // Linux frees as many pages as were linked, which leaks the rest of a range that was not filled; in magazines a shorter
    // range even comes back as one of another size. The whole range is what was taken.
    if (cookie.destroyAt(iova, linked, whole, cpu)) this.#space.release(iova, whole);
    for (const [paddr, bytes] of bounced) this.#cpuSync.unbounce(paddr, bytes, direction, attrs);
    return 0;
  }

  #beforeUnlink(offset: number, nrBytes: number, direction: DmaDirection, attrs: number): number {
    if (!this.#holds(offset, nrBytes)) return EINVAL;
    const { core, domain, granule } = this.#space;
    if (core.iovaToPhys(domain, this.dmaAddress + offset) < 0) return EINVAL;
    if (this.#cpuSync.coherent) return 0;
    for (let at = offset; at < offset + nrBytes;) {
      const address = this.dmaAddress + at;
      const bytes = Math.min(offset + nrBytes - at, granule - (address % granule));
      const paddr = core.iovaToPhys(domain, address);
      if (paddr >= 0) this.#cpuSync.linesForCpu(paddr, bytes, direction, attrs);
      at += bytes;
    }
    return 0;
  }

  /** Bounce buffers in a part of the range, found by walking its pages (iommu_dma_iova_unlink_range_slow). */
  #bouncePages(offset: number, nrBytes: number): [paddr: number, nrBytes: number][] {
    const found: [number, number][] = [];
    if (!this.#isBounced) return found;
    const { core, domain, granule } = this.#space;
    for (let at = offset; at < offset + nrBytes;) {
      const address = this.dmaAddress + at;
      const bytes = Math.min(offset + nrBytes - at, granule - (address % granule));
      const paddr = core.iovaToPhys(domain, address);
      if (paddr >= 0 && this.#cpuSync.swiotlb?.contains(paddr) === true) found.push([paddr, bytes]);
      at += bytes;
    }
    return found;
  }
}
