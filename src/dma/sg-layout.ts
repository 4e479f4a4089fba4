/**
 * How a scatterlist becomes one run of IOVAs and then as few DMA segments as a device's limits allow: the arithmetic of
 * iommu_dma_map_sg() and __finalise_sg() of drivers/iommu/dma-iommu.c, Linux 6.12.
 *
 * Elements are padded to whole granules. The run is aligned to its size rounded up to a power of two, so where it meets a
 * segment boundary follows from lengths alone, before its address is known. Lengths are 32 bits there: what does not fit is
 * refused (EOVERFLOW inside, EINVAL to the caller; up to 6.11 it wrapped, and less was mapped than was asked for).
 *
 * Remainders are taken with `&` and `>>> 0`, which see the low 32 bits of any address: `%` of numbers above 2^31 is a call, and
 * five of them per element were two thirds of the time of mapping and unmapping a list.
 */
import { EINVAL, EOVERFLOW, EREMOTEIO, TWO_32 } from '../base/index.ts';
import type { P2pProvider, Scatterlist } from './scatterlist.ts';

/** How an element in another device's memory is reached (enum pci_p2pdma_map_type). */
export type P2pMapping = 'bus-address' | 'host-bridge' | 'unsupported';

export interface SgLimits {
  /** A power of two, 2^32 at most. */
  readonly granule: number;
  /** A segment never crosses a multiple of this + 1, a power of two. */
  readonly boundaryMask: number;
  readonly maxSegmentBytes: number;
}

export class SgLayout {
  /** Pairs (paddr, bytes) for iommu_map_sg: the elements that need an IOVA, padded. */
  chunks: Float64Array = new Float64Array(64);
  nrChunks: number = 0;
  /** Bytes of the whole run; 0 when no element needs an IOVA. */
  iovaBytes: number = 0;
  protected readonly limits: SgLimits;
  readonly #granuleMask: number;
  readonly #boundaryMask: number;

  constructor(limits: SgLimits) {
    this.limits = limits;
    this.#granuleMask = limits.granule - 1;
    this.#boundaryMask = limits.boundaryMask;
  }

  /** How far an address lies above the boundary below it. */
  #beyondBoundary(address: number): number {
    const mask = this.#boundaryMask;
    return mask < TWO_32 ? (address & mask) >>> 0 : address % (mask + 1);
  }

  /**
   * Fills `chunks` and `iovaBytes` for the first `nents` elements.
   * @returns 0; EREMOTEIO for an element that the device cannot reach; EOVERFLOW for a length that 32 bits do not hold
   */
  layOut(list: Scatterlist, nents: number, p2pMap: (provider: P2pProvider) => P2pMapping): number {
    if (this.chunks.length < 2 * nents) this.chunks = new Float64Array(4 * nents);
    const { chunks } = this;
    const granuleMask = this.#granuleMask;
    let nr = 0;
    let iovaBytes = 0;
    for (let i = 0; i < nents; i++) {
      const provider = list.providerOf(i);
      if (provider !== null) {
        const mapping = p2pMap(provider);
        if (mapping === 'unsupported') return EREMOTEIO;
        if (mapping === 'bus-address') continue;
      }
      const paddr = list.paddr[i];
      const offset = (paddr & granuleMask) >>> 0;
      let bytes = list.nrBytes[i] + offset + granuleMask;
      bytes -= (bytes & granuleMask) >>> 0;
      if (!(bytes < TWO_32)) return EOVERFLOW;
      const beyond = this.#beyondBoundary(iovaBytes);
      const pad = beyond === 0 ? 0 : this.#boundaryMask + 1 - beyond;
      // A segment that would straddle a boundary starts behind it: the element before it is mapped that much longer, over
      // memory that is not the caller's. (At a boundary `pad` is 0, so there is an element before.)
      if (pad > 0 && pad < bytes - 1) {
        if (!(chunks[2 * nr - 1] + pad < TWO_32)) return EOVERFLOW;
        chunks[2 * nr - 1] += pad;
        iovaBytes += pad;
      }
      chunks[2 * nr] = paddr - offset;
      chunks[2 * nr + 1] = bytes;
      iovaBytes += bytes;
      nr += 1;
    }
    this.nrChunks = nr;
    this.iovaBytes = iovaBytes;
    return nents > 0 ? 0 : EINVAL;
  }

  /**
   * Writes the segments of a list that was laid out and mapped at `iova` (__finalise_sg). An element joins the segment before
   * it when that one ended on a granule, the element begins on one, no boundary lies between, and the length allows it.
   * @returns the number of segments
   */
  finalise(list: Scatterlist, nents: number, iova: number, isBus: (provider: P2pProvider) => boolean): number {
    const { chunks } = this;
    const granuleMask = this.#granuleMask;
    let address = iova;
    let count = 0;
    let segmentBytes = 0;
    let chunk = 0;
    for (let i = 0; i < nents; i++) {
      const paddr = list.paddr[i];
      const nrBytes = list.nrBytes[i];
      const provider = list.providerOf(i);
      if (provider !== null && isBus(provider)) {
        list.setSegment(count, paddr + provider.busOffset, nrBytes, true);
        count += 1;
        segmentBytes = 0;
        continue;
      }
      const offset = (paddr & granuleMask) >>> 0;
      const padded = chunks[2 * chunk + 1];
      chunk += 1;
      const fits = this.fits(segmentBytes, nrBytes);
      if (segmentBytes > 0 && offset === 0 && this.#beyondBoundary(address) !== 0 && fits) {
        segmentBytes = (segmentBytes + nrBytes) >>> 0;
        list.dmaBytes[count - 1] = segmentBytes;
      } else {
        segmentBytes = nrBytes;
        list.setSegment(count, address + offset, nrBytes, false);
        count += 1;
      }
      address += padded;
      if (nrBytes + offset < padded) segmentBytes = 0;
    }
    for (let i = count; i < nents; i++) list.setSegment(i, 0, 0, false);
    return count;
  }

  /**
   * Whether an element may join a segment of `segmentBytes`. A difference of 32 bits, as in Linux. Written as a sum it
   * overflowed for unlimited segments (bug 30); as it is it wraps after an element that is longer alone than a segment may be,
   * and then anything joins: such a list breaks the device's limit already, which CONFIG_DMA_API_DEBUG_SG reports.
   */
  protected fits(segmentBytes: number, nrBytes: number): boolean {
    return (this.limits.maxSegmentBytes - segmentBytes) >>> 0 >= nrBytes;
  }
}
