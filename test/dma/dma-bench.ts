/** One device under the DMA API, over a driver that keeps pages in a Map, with memory and bounce buffers. */
import { ManualClock } from '../../src/base/index.ts';
import type { DmaDeviceOptions, DmaSpaceOptions } from '../../src/dma/index.ts';
import { BuddyPages, DmaDevice, DmaSpace, Swiotlb } from '../../src/dma/index.ts';
import type { IommuDomain } from '../../src/iommu/index.ts';
import { Iommu } from '../../src/iommu/index.ts';
import { LocalPlatform } from '../../src/machine/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { Recorder } from '../iommu/recorder.ts';

export const K4 = 4096;
export const POOL = 0x1000_0000;
export const POOL_BYTES = 2 ** 18;
export const PAGES_PFN = 0x8000;

export class DmaBench {
  readonly driver: Recorder = new Recorder();
  readonly core: Iommu = new Iommu();
  readonly clock: ManualClock = new ManualClock();
  readonly mem: PhysMem;
  readonly platform: LocalPlatform;
  readonly swiotlb: Swiotlb;
  readonly buddies: BuddyPages;
  readonly domain: IommuDomain;
  readonly space: DmaSpace;
  readonly dma: DmaDevice;

  constructor(device: DmaDeviceOptions = {}, space: DmaSpaceOptions = {}, pgsizeBitmap?: number) {
    this.mem = new PhysMem({ coherent: device.coherent ?? true });
    const pages = new PageAllocator(this.mem);
    this.platform = new LocalPlatform(this.mem, pages, new Bus(this.mem), this.clock, { step: () => {} });
    this.swiotlb = new Swiotlb(this.mem, POOL, POOL_BYTES);
    this.buddies = new BuddyPages(this.mem, PAGES_PFN, 2048);
    this.domain = this.driver.domain(pgsizeBitmap);
    this.space = new DmaSpace(this.core, this.domain, this.clock, { freeTables: () => {}, ...space });
    this.dma = new DmaDevice(this.space, {
      platform: this.platform,
      swiotlb: this.swiotlb,
      pages: this.buddies,
      ...device,
    });
  }

  put(paddr: number, ...bytes: number[]): void {
    bytes.forEach((byte, at) => {
      const shift = 8 * ((paddr + at) % 4);
      const word = paddr + at - ((paddr + at) % 4);
      this.mem.store32(word, (this.mem.load32(word) & ~(0xff << shift)) | (byte << shift));
    });
  }

  get(paddr: number, nr: number): number[] {
    return Array.from({ length: nr }, (_, at) => {
      const word = this.mem.load32(paddr + at - ((paddr + at) % 4));
      return (word >>> (8 * ((paddr + at) % 4))) & 0xff;
    });
  }

  /** Where the device gets to, or -1. */
  at(dmaAddress: number): number {
    return this.driver.iovaToPhys(this.domain, dmaAddress);
  }

  /** Everything that a refused call must leave as it was. */
  get state(): unknown[] {
    return [this.driver.pages.size, this.space.nrLive, this.swiotlb.nrUsedSlots, this.buddies.nrLive];
  }
}
