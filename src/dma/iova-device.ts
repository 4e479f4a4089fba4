/**
 * DMA addresses of one device out of its domain's IOVA space (iommu_dma_alloc_iova of drivers/iommu/dma-iommu.c): what the
 * device can address, and the habit to try below 4 GiB first.
 */
import { EINVAL, TWO_32 } from '../base/index.ts';
import type { IovaDomain } from './iova-domain.ts';
import { IOVA_LAST_PFN } from './iova-domain.ts';

export interface IovaDeviceOptions {
  /** Highest address that the device can put on the bus, inclusive (dma_limit). Default 2^32 - 1. */
  readonly dmaMask?: number;
  /** Highest address that the bus carries, inclusive; 0 for no such limit (bus_dma_limit). Default 0. */
  readonly busLimit?: number;
  /** Highest address of the domain, inclusive (aperture_end). Default: none. */
  readonly apertureLast?: number;
  /** Only PCI devices try below 4 GiB first. Default true. */
  readonly isPci?: boolean;
  /** Never tries below 4 GiB first (the boot option iommu.forcedac=1). Default false. */
  readonly forceDac?: boolean;
  /** Called once when the device goes above 4 GiB for good ("Using %d-bit DMA addresses"), with the bits. */
  readonly leftLow?: (bits: number) => void;
}

export class IovaDevice {
  readonly domain: IovaDomain;
  readonly #limitPfn: number;
  readonly #lowPfn: number;
  readonly #limitBits: number;
  readonly #leftLow: (bits: number) => void;
  #triesLow: boolean;

  constructor(domain: IovaDomain, options: IovaDeviceOptions = {}) {
    const { dmaMask = TWO_32 - 1, busLimit = 0, apertureLast = Infinity, isPci = true, forceDac = false } = options;
    const limit = Math.min(dmaMask, busLimit === 0 ? Infinity : busLimit, apertureLast);
    if (!(limit >= 0)) throw new RangeError(`a device addresses bytes from 0 on, got the limit ${limit}`);
    this.domain = domain;
    this.#limitPfn = Math.min(Math.floor(limit / domain.granule), IOVA_LAST_PFN);
    this.#lowPfn = Math.floor((TWO_32 - 1) / domain.granule);
    // 2^64 - 1 is 2^64 as a number: the rounding of a full mask must not add a bit.
    this.#limitBits = Math.min(Math.floor(Math.log2(limit)) + 1, 64);
    this.#leftLow = options.leftLow ?? ((): void => {});
    this.#triesLow = limit > TWO_32 - 1 && isPci && !forceDac;
  }

  /** True while the device still asks for addresses below 4 GiB first. */
  get triesLow(): boolean {
    return this.#triesLow;
  }

  /**
   * Takes a range of IOVAs. The first try below 4 GiB leaves the magazines of other CPUs alone; the last one empties them
   * before it fails. @param nrBytes a multiple of the granule @returns its first byte, or a negative errno
   */
  alloc(nrBytes: number, cpu: number): number {
    const { domain } = this;
    const nrPages = nrBytes / domain.granule;
    if (this.#triesLow) {
      const pfn = domain.tryAllocFast(nrPages, this.#lowPfn, cpu);
      if (pfn >= 0) return pfn * domain.granule;
      if (pfn === EINVAL) return EINVAL;
      if (domain.preset.lowFirstOnce) {
        this.#triesLow = false;
        this.#leftLow(this.#limitBits);
      }
    }
    const pfn = domain.allocFast(nrPages, this.#limitPfn, cpu);
    return pfn < 0 ? pfn : pfn * domain.granule;
  }

  /** Gives a range back. @param nrBytes as allocated @returns 0 or a negative errno */
  free(iova: number, nrBytes: number, cpu: number): number {
    const { domain } = this;
    return domain.freeFast(iova / domain.granule, nrBytes / domain.granule, cpu);
  }
}
