/** A driver that has no hardware: it keeps pages in a Map and writes down every call. What it does wrong can be set. */
import { EADDRINUSE } from '../../src/base/index.ts';
import type {
  Device,
  DomainType,
  IommuDomain,
  IommuOps,
  IommuTracer,
  IotlbGather,
  Mapped,
  ResvRegion,
} from '../../src/iommu/index.ts';

const hex = (value: number): string => value.toString(16);

export class Recorder implements IommuOps, IommuTracer {
  readonly name = 'recorder';
  readonly log: string[] = [];
  /** Small pages mapped: iova -> paddr. */
  readonly pages = new Map<number, number>();
  /** Bytes of leaves written as more than one small page, by first address: unmap takes them whole. */
  readonly leaves = new Map<number, number>();
  readonly attached = new Map<string, IommuDomain>();
  regions = new Map<string, ResvRegion[]>();
  /** Errnos by what is to fail: `map 5000` after mapping 4 KiB of it, `attach name`, `sync`, `probe name`. */
  readonly fail = new Map<string, number>();
  /** What unmapPages tells the gather. */
  gathers: 'range' | 'page' | 'nothing' = 'range';
  onUnmap: (() => void) | null = null;
  nrDomains = 0;

  domain(pgsizeBitmap = 0x40201000, type: DomainType = 'paging'): IommuDomain {
    return { type, ops: this, pgsizeBitmap, apertureLast: 2 ** 48 - 1, faultHandler: null };
  }

  domainAlloc(type: DomainType): IommuDomain | null {
    if (this.fail.has('alloc')) return null;
    this.nrDomains += 1;
    return this.domain(undefined, type);
  }
  domainFree(): void {
    this.nrDomains -= 1;
  }
  probeDevice(device: Device): number {
    return this.fail.get(`probe ${device.name}`) ?? 0;
  }
  releaseDevice(device: Device): void {
    this.log.push(`release ${device.name}`);
  }
  attachDev(domain: IommuDomain, device: Device): number {
    const errno = this.fail.get(`attach ${device.name}`) ?? 0;
    if (errno === 0) this.attached.set(device.name, domain);
    this.log.push(errno === 0 ? `attachDev ${device.name}` : `attachDev ${device.name} fails`);
    return errno;
  }
  detachDev(_domain: IommuDomain, device: Device): void {
    this.attached.delete(device.name);
    this.log.push(`detachDev ${device.name}`);
  }
  getResvRegions(device: Device): readonly ResvRegion[] {
    return this.regions.get(device.name) ?? [];
  }

  mapPages(
    _domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    _prot: number,
    mapped: Mapped,
  ): number {
    this.log.push(`map ${hex(iova)}>${hex(paddr)} ${pgcount}x${hex(pgsize)}`);
    mapped.bytes = 0;
    for (let nr = 0; nr < pgcount; nr++) {
      const errno = this.fail.get(`map ${hex(iova + nr * pgsize)}`);
      if (errno !== undefined) return errno;
      for (let at = 0; at < pgsize; at += 4096) {
        if (this.pages.has(iova + nr * pgsize + at)) return EADDRINUSE;
        this.pages.set(iova + nr * pgsize + at, paddr + nr * pgsize + at);
      }
      if (pgsize > 4096) this.leaves.set(iova + nr * pgsize, pgsize);
      mapped.bytes += pgsize;
    }
    return 0;
  }

  unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    this.log.push(`unmap ${hex(iova)} ${pgcount}x${hex(pgsize)}`);
    this.onUnmap?.();
    let at = iova;
    while (at < iova + pgsize * pgcount && this.pages.has(at)) {
      const bytes = this.leaves.get(at) ?? 4096;
      this.leaves.delete(at);
      for (let page = at; page < at + bytes; page += 4096) this.pages.delete(page);
      at += bytes;
    }
    const bytes = at - iova;
    if (bytes > 0 && this.gathers === 'range') gather.addRange(iova, bytes);
    if (bytes > 0 && this.gathers === 'page') gather.addPage(this, domain, iova, pgsize);
    return bytes;
  }

  iotlbSyncMap(_domain: IommuDomain, iova: number, nrBytes: number): number {
    this.log.push(`syncMap ${hex(iova)}+${hex(nrBytes)}`);
    return this.fail.get('sync') ?? 0;
  }
  iotlbSync(_domain: IommuDomain, gather: IotlbGather): void {
    this.log.push(gather.isEmpty ? 'sync empty' : `sync ${hex(gather.start)}-${hex(gather.last)}`);
  }
  flushIotlbAll(): void {
    this.log.push('flushAll');
  }
  flushNpCache(): void {
    this.log.push('flushNp');
  }
  iovaToPhys(_domain: IommuDomain, iova: number): number {
    const page = this.pages.get(iova - (iova % 4096));
    return page === undefined ? -1 : page + (iova % 4096);
  }

  // The tracer: events go into the same log, so that their order relative to commands shows.
  map(iova: number, paddr: number, nrBytes: number): void {
    this.log.push(`event map ${hex(iova)} ${hex(paddr)} ${hex(nrBytes)}`);
  }
  unmap(iova: number, nrBytes: number, unmapped: number): void {
    this.log.push(`event unmap ${hex(iova)} ${hex(nrBytes)} ${hex(unmapped)}`);
  }
  attach(device: Device): void {
    this.log.push(`event attach ${device.name}`);
  }
  addDevice(groupId: number, device: Device): void {
    this.log.push(`event add ${groupId} ${device.name}`);
  }
  removeDevice(groupId: number, device: Device): void {
    this.log.push(`event remove ${groupId} ${device.name}`);
  }
  ioPageFault(device: Device, iova: number, flags: number): void {
    this.log.push(`event fault ${device.name} ${hex(iova)} ${flags}`);
  }
}
