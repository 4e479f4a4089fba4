/**
 * A domain under the DMA API (struct iommu_dma_cookie with its iova_domain; iommu_dma_init_domain of
 * drivers/iommu/dma-iommu.c, Linux 6.12): the IOVAs, who flushes, doorbell pages, reserved ranges. The devices of a group
 * share one.
 *
 * Having one means that its IOVAs are handed out here and nowhere else; it does not mean that any device is attached.
 */
import type { Clock } from '../base/index.ts';
import { EINVAL, alignUp, lowestBit } from '../base/index.ts';
import type { Device, Iommu, IommuDomain } from '../iommu/index.ts';
import { isByteRange } from './byte-range.ts';
import type { DmaCookieOptions } from './cookie.ts';
import { DmaCookie } from './cookie.ts';
import type { IovaDevice } from './iova-device.ts';
import { IOVA_LAST_PFN, IovaDomain } from './iova-domain.ts';
import type { IovaPreset } from './iova-rcache.ts';
import { MsiPages } from './msi.ts';
import type { HostBridge } from './reserved.ts';
import { reserveBridge, reserveRegions } from './reserved.ts';

export interface DmaSpaceOptions extends Omit<DmaCookieOptions, 'released'> {
  /** CPUs that calls come from. Default 1. */
  readonly nrCpus?: number;
  /** The allocator's kernel. Default Linux 6.1. */
  readonly iovaPreset?: IovaPreset;
}

export class DmaSpace {
  readonly core: Iommu;
  readonly domain: IommuDomain;
  readonly cookie: DmaCookie;
  readonly iovas: IovaDomain;
  readonly msi: MsiPages;
  /** Bytes of an IOVA page: the smallest leaf. */
  readonly granule: number;
  /** CPU that the calls come from (smp_processor_id): whose magazines and flush ring they use. */
  cpu: number = 0;
  /** Ranges handed out, or waiting for their flush. */
  nrLive: number = 0;
  nrReserved: number = 0;

  constructor(core: Iommu, domain: IommuDomain, clock: Clock, options: DmaSpaceOptions = {}) {
    this.core = core;
    this.domain = domain;
    this.granule = 2 ** lowestBit(domain.pgsizeBitmap);
    const startPfn = Math.max(1, (domain.apertureStart ?? 0) / this.granule);
    this.iovas = new IovaDomain({
      startPfn,
      granule: this.granule,
      ...(options.nrCpus === undefined ? {} : { nrCpus: options.nrCpus }),
      ...(options.iovaPreset === undefined ? {} : { preset: options.iovaPreset }),
    });
    this.msi = new MsiPages(core, domain, this.granule);
    this.cookie = new DmaCookie(core, domain, clock, {
      ...options,
      released: (iova, nrBytes) => {
        this.release(iova, nrBytes);
      },
    });
  }

  /** Keeps what a device must not use from being handed out. @returns 0, or EINVAL for a bridge whose ranges overlap */
  reserveFor(device: Device, bridge: HostBridge | null = null): number {
    const reserve = (start: number, last: number): void => this.reserve(start, last);
    const errno = bridge === null ? 0 : reserveBridge(bridge, reserve);
    if (errno === 0) reserveRegions(this.domain.ops.getResvRegions(device), reserve, this.msi);
    return errno;
  }

  /** Keeps [start, last] from being handed out, rounded outwards to whole pages. */
  reserve(start: number, last: number): void {
    const first = Math.max(0, Math.floor(start / this.granule));
    this.iovas.reserve(first, Math.min(Math.floor(last / this.granule), IOVA_LAST_PFN));
    this.nrReserved += 1;
  }

  /** Takes a range for a device. @returns its first byte, or a negative errno */
  alloc(device: IovaDevice, nrBytes: number): number {
    const iova = device.alloc(nrBytes, this.cpu);
    if (iova >= 0) this.nrLive += 1;
    return iova;
  }

  /** Gives a range back that nothing is mapped in. */
  release(iova: number, nrBytes: number): void {
    this.nrLive -= 1;
    this.iovas.freeFast(iova / this.granule, nrBytes / this.granule, this.cpu);
  }

  /**
   * Where a device's buffer begins in memory, or -1: for no range of bytes, one that passes the end of the aperture, and one at
   * whose first byte nothing is mapped. (The pages behind it are not looked at, in Linux neither.)
   */
  find(dmaAddress: number, nrBytes: number): number {
    const { core, domain } = this;
    if (!isByteRange(dmaAddress, nrBytes) || dmaAddress + nrBytes - 1 > domain.apertureLast) return -1;
    return core.iovaToPhys(domain, dmaAddress);
  }

  /**
   * Unmaps what a device was given and gives its IOVAs back, at once or after the flush (__iommu_dma_unmap).
   * @returns 0, or EINVAL when nothing is mapped there. Linux warns then and frees the IOVAs all the same, so that they are
   * handed out twice; here an unmap too many changes nothing
   */
  unmap(dmaAddress: number, nrBytes: number): number {
    if (this.find(dmaAddress, nrBytes) < 0) return EINVAL;
    this.unmapFound(dmaAddress, nrBytes);
    return 0;
  }

  /** `unmap` of a buffer that `find` found. */
  unmapFound(dmaAddress: number, nrBytes: number): void {
    const offset = dmaAddress % this.granule;
    const iova = dmaAddress - offset;
    const bytes = alignUp(nrBytes + offset, this.granule);
    if (this.cookie.unmapAt(iova, bytes, this.cpu)) this.release(iova, bytes);
  }
}
