/**
 * The DMA API over an IOMMU domain: drivers/iommu/dma-iommu.c. Maps buffers of any alignment, allocates their IOVAs, lays
 * out scatterlists under a device's segment limits.
 */
import { EINVAL, ENOMEM, PAGE_SIZE, alignUp } from '../base/index.ts';
import type { Clock } from '../base/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { Iommu, IommuDomain } from '../iommu/index.ts';
import type { DmaCookieOptions } from './cookie.ts';
import { DmaCookie } from './cookie.ts';
import { IovaAllocator } from './iova.ts';
import type { Scatterlist } from './scatterlist.ts';

/** Who writes: the device (fromDevice), the CPU (toDevice), or both. */
export type DmaDirection = 'toDevice' | 'fromDevice' | 'bidirectional';

/** What a device can address (dev->dma_mask, dma_parms). */
export interface DmaLimits {
  /** Highest address the device can put on the bus, inclusive. Default 2^32 - 1. */
  readonly dmaMask?: number;
  /** A DMA segment never crosses a multiple of this + 1. Default 2^32 - 1 (dma_get_seg_boundary). */
  readonly segmentBoundaryMask?: number;
  /** Most bytes of a DMA segment. Default 65536 (dma_get_max_seg_size). */
  readonly maxSegmentBytes?: number;
}

export interface DmaIommuOptions extends Omit<DmaCookieOptions, 'released'> {
  readonly limits?: DmaLimits;
}

const TWO_32_LAST = 2 ** 32 - 1;

/** prot of a direction (dma_info_to_prot), for a coherent device. */
export function protOf(direction: DmaDirection): number {
  switch (direction) {
    case 'toDevice':
      return IOMMU_READ | IOMMU_CACHE;
    case 'fromDevice':
      return IOMMU_WRITE | IOMMU_CACHE;
    case 'bidirectional':
      return IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE;
    default:
      return direction satisfies never;
  }
}

export class DmaIommu {
  readonly cookie: DmaCookie;
  readonly #iova: IovaAllocator;
  readonly #limitLast: number;
  readonly #boundaryMask: number;
  readonly #maxSegmentBytes: number;
  #chunks: Float64Array = new Float64Array(64);

  /** Reserves what the device may not use, e.g. `[[0xfee00000, 0x100000]]`, as pairs (start, bytes). */
  constructor(
    core: Iommu,
    domain: IommuDomain,
    clock: Clock,
    reserved: readonly (readonly [start: number, nrBytes: number])[],
    options: DmaIommuOptions = {},
  ) {
    const limits = options.limits ?? {};
    this.#limitLast = Math.min(limits.dmaMask ?? TWO_32_LAST, domain.apertureLast);
    this.#boundaryMask = limits.segmentBoundaryMask ?? TWO_32_LAST;
    this.#maxSegmentBytes = limits.maxSegmentBytes ?? 65536;
    // Page 0 is never handed out: drivers take DMA address 0 for "none".
    this.#iova = new IovaAllocator(1);
    for (const [start, nrBytes] of reserved) {
      this.#iova.reserve(Math.floor(start / PAGE_SIZE), Math.floor((start + nrBytes - 1) / PAGE_SIZE));
    }
    this.cookie = new DmaCookie(core, domain, clock, {
      ...options,
      released: (iova) => {
        this.#iova.free(iova / PAGE_SIZE);
      },
    });
  }

  /** Ranges allocated, reserved or waiting for their flush. */
  get nrIovaRanges(): number {
    return this.#iova.nrRanges;
  }

  /** First byte of a new range, or -1. A device that could go higher is served below 4 GiB first (PCI SAC before DAC). */
  #alloc(nrBytes: number): number {
    const nrPages = nrBytes / PAGE_SIZE;
    let pfn = -1;
    if (this.#limitLast > TWO_32_LAST) pfn = this.#iova.alloc(nrPages, Math.floor(TWO_32_LAST / PAGE_SIZE));
    if (pfn < 0) pfn = this.#iova.alloc(nrPages, Math.floor((this.#limitLast + 1) / PAGE_SIZE) - 1);
    return pfn < 0 ? -1 : pfn * PAGE_SIZE;
  }

  /** Maps one buffer (iommu_dma_map_page). @returns its DMA address, or a negative errno with nothing mapped */
  mapPage(paddr: number, nrBytes: number, direction: DmaDirection): number {
    if (!(nrBytes > 0)) return EINVAL;
    const offset = paddr % PAGE_SIZE;
    const mapBytes = alignUp(nrBytes + offset, PAGE_SIZE);
    const iova = this.#alloc(mapBytes);
    if (iova < 0) return ENOMEM;
    this.#chunks[0] = paddr - offset;
    this.#chunks[1] = mapBytes;
    const result = this.cookie.mapAt(iova, this.#chunks, 1, protOf(direction));
    if (result < 0) {
      this.#iova.free(iova / PAGE_SIZE);
      return result;
    }
    return iova + offset;
  }

  /** Undoes `mapPage` with the same size. @param cpu whose flush queue takes it in lazy mode */
  unmapPage(dmaAddress: number, nrBytes: number, cpu: number = 0): void {
    const offset = dmaAddress % PAGE_SIZE;
    this.#unmap(dmaAddress - offset, alignUp(nrBytes + offset, PAGE_SIZE), cpu);
  }

  #unmap(iova: number, nrBytes: number, cpu: number): void {
    if (this.cookie.unmapAt(iova, nrBytes, cpu)) this.#iova.free(iova / PAGE_SIZE);
  }

  /**
   * Maps a scatterlist into one run of IOVAs (iommu_dma_map_sg) and merges it into as few DMA segments as the device's
   * limits allow (__finalise_sg). Fills `dmaAddress` and `dmaBytes` of the list.
   * @returns the number of segments, or a negative errno with nothing mapped
   */
  mapSg(list: Scatterlist, direction: DmaDirection): number {
    const { nents } = list;
    if (nents === 0) return EINVAL;
    if (this.#chunks.length < 2 * nents) this.#chunks = new Float64Array(4 * nents);
    const chunks = this.#chunks;
    // The run is aligned to its size rounded up, so boundaries of the IOVA run can be computed from lengths alone.
    let iovaBytes = 0;
    for (let i = 0; i < nents; i++) {
      const offset = list.paddr[i] % PAGE_SIZE;
      const bytes = alignUp(list.nrBytes[i] + offset, PAGE_SIZE);
      const beyond = iovaBytes % (this.#boundaryMask + 1);
      const pad = beyond === 0 ? 0 : this.#boundaryMask + 1 - beyond;
      // A segment that would straddle a boundary starts behind it: the element before it is mapped that much longer.
      if (i > 0 && pad > 0 && pad < bytes - 1) {
        chunks[2 * i - 1] += pad;
        iovaBytes += pad;
      }
      chunks[2 * i] = list.paddr[i] - offset;
      chunks[2 * i + 1] = bytes;
      iovaBytes += bytes;
    }
    const iova = this.#alloc(iovaBytes);
    if (iova < 0) return ENOMEM;
    const result = this.cookie.mapAt(iova, chunks, nents, protOf(direction));
    if (result < 0) {
      this.#iova.free(iova / PAGE_SIZE);
      return result;
    }
    return this.#finalise(list, iova);
  }

  /** __finalise_sg: an element joins the segment before it when nothing lies between them and no limit is crossed. */
  #finalise(list: Scatterlist, iova: number): number {
    const chunks = this.#chunks;
    let address = iova;
    let count = 0;
    let segmentBytes = 0;
    for (let i = 0; i < list.nents; i++) {
      const offset = list.paddr[i] % PAGE_SIZE;
      const nrBytes = list.nrBytes[i];
      const padded = chunks[2 * i + 1];
      const atBoundary = address % (this.#boundaryMask + 1) === 0;
      // Written as a difference: the sum overflowed the kernel's 32 bits for unlimited segments (bug 30).
      if (segmentBytes > 0 && offset === 0 && !atBoundary && this.#maxSegmentBytes - segmentBytes >= nrBytes) {
        segmentBytes += nrBytes;
      } else {
        count += 1;
        list.dmaAddress[count - 1] = address + offset;
        segmentBytes = nrBytes;
      }
      list.dmaBytes[count - 1] = segmentBytes;
      address += padded;
      if (nrBytes + offset < padded) segmentBytes = 0;
    }
    return count;
  }

  /** Undoes `mapSg`. @param nrSegments what mapSg returned */
  unmapSg(list: Scatterlist, nrSegments: number, cpu: number = 0): void {
    const first = list.dmaAddress[0];
    const start = first - (first % PAGE_SIZE);
    const end = alignUp(list.dmaAddress[nrSegments - 1] + list.dmaBytes[nrSegments - 1], PAGE_SIZE);
    this.#unmap(start, end - start, cpu);
  }
}
