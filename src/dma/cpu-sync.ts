/**
 * What the CPU has to do around a device's accesses: flush cache lines for a device that does not snoop (arch_sync_dma_for_*),
 * and copy through bounce buffers for one that is not trusted (iommu_dma_map_swiotlb and the sync functions of
 * drivers/iommu/dma-iommu.c, Linux 6.12).
 *
 * Bouncing: an IOMMU protects pages, a buffer may share its first and last page with other data. A device from outside the
 * chassis (Thunderbolt) must not see that, so such a buffer is copied to pages of its own.
 */
import { EIO, EINVAL, alignUp } from '../base/index.ts';
import type { Platform } from '../mem/index.ts';
import { DMA_ATTR_MMIO, DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { zeroBytes } from './cpu-memory.ts';
import type { DmaDirection } from './direction.ts';
import type { Swiotlb } from './swiotlb.ts';

const LINE_BYTES = 64;

export interface CpuSyncOptions {
  /** The device snoops CPU caches. Default true, as all of x86. */
  readonly coherent?: boolean;
  /** The device's firmware is not to be trusted: unaligned buffers are bounced (pci_dev.untrusted). Default false. */
  readonly untrusted?: boolean;
  /** Bounce buffers. Without a pool, unaligned buffers of an untrusted device cannot be mapped. */
  readonly swiotlb?: Swiotlb | null;
  /** Needed to flush lines and to clear padding. */
  readonly platform?: Platform | null;
  /** Low address bits of a buffer that bouncing must keep (dma_parms.min_align_mask; NVMe: 4095). Default 0. */
  readonly minAlignMask?: number;
}

export class CpuSync {
  readonly coherent: boolean;
  readonly untrusted: boolean;
  readonly minAlignMask: number;
  readonly swiotlb: Swiotlb | null;
  readonly #platform: Platform | null;
  readonly #granule: number;
  /** Cache lines flushed or invalidated for the device so far. */
  nrLines: number = 0;

  /** @throws RangeError for a device that needs a platform and has none */
  constructor(granule: number, options: CpuSyncOptions) {
    const { coherent = true, untrusted = false, swiotlb = null, platform = null, minAlignMask = 0 } = options;
    if (platform === null && (!coherent || swiotlb !== null)) {
      throw new RangeError('a device that does not snoop, or is bounced, needs a platform');
    }
    this.coherent = coherent;
    this.untrusted = untrusted;
    this.minAlignMask = minAlignMask;
    this.swiotlb = swiotlb;
    this.#platform = platform;
    this.#granule = granule;
  }

  /** True when a buffer must not be mapped as it lies. */
  mustBounce(paddr: number, nrBytes: number): boolean {
    return this.untrusted && (paddr % this.#granule !== 0 || nrBytes % this.#granule !== 0);
  }

  /**
   * Copies a buffer into the pool (iommu_dma_map_swiotlb). The rest of its pages is cleared: it held what others bounced.
   * @param keepMask address bits that must stay as they are @returns where it lies now, or a negative errno: EINVAL for registers, EIO without a pool, ENOSPC when the pool is full
   */
  bounce(paddr: number, nrBytes: number, attrs: number, keepMask: number = this.minAlignMask): number {
    if ((attrs & DMA_ATTR_MMIO) !== 0) return EINVAL;
    if (this.swiotlb === null || this.#platform === null) return EIO;
    const address = this.swiotlb.map(paddr, nrBytes, this.#granule - 1, keepMask);
    if (address < 0) return address;
    const before = address % this.#granule;
    zeroBytes(this.#platform.mem, address - before, before);
    const end = address + nrBytes;
    zeroBytes(this.#platform.mem, end, alignUp(end, this.#granule) - end);
    return address;
  }

  /** Ends a bounce; nothing to do for a buffer that was mapped as it lay. */
  unbounce(paddr: number, nrBytes: number, direction: DmaDirection, attrs: number): void {
    if (this.swiotlb === null || !this.swiotlb.contains(paddr)) return;
    this.swiotlb.unmap(paddr, nrBytes, direction, (attrs & DMA_ATTR_SKIP_CPU_SYNC) !== 0);
  }

  /** The device is about to look: what the CPU wrote must be in memory, and no dirty line may come later. */
  linesForDevice(paddr: number, nrBytes: number, attrs: number): void {
    if (this.coherent || (attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)) !== 0) return;
    this.#flush(paddr, nrBytes);
  }

  /** The CPU is about to look: lines read before the device wrote must go. */
  linesForCpu(paddr: number, nrBytes: number, direction: DmaDirection, attrs: number): void {
    if (this.coherent || direction === 'toDevice') return;
    if ((attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)) !== 0) return;
    this.#flush(paddr, nrBytes);
  }

  /** arch_dma_prep_coherent: no line of new pages may be dirty. */
  prepare(paddr: number, nrBytes: number): void {
    if (!this.coherent) this.#flush(paddr, nrBytes);
  }

  #flush(paddr: number, nrBytes: number): void {
    const first = paddr - (paddr % LINE_BYTES);
    this.nrLines += (alignUp(paddr + nrBytes, LINE_BYTES) - first) / LINE_BYTES;
    this.#platform?.clflush(paddr, nrBytes);
  }
}
