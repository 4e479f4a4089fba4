/**
 * A machine for the tests of vfio: an IOMMU driver that keeps pages in a Map, and a process's memory that counts its pins.
 * Together they know the one thing that must never happen: a frame whose last pin went while a device could still reach it,
 * by a table or by what an IOTLB may have kept since the last sync. Such frames are in `memory.violations`.
 */
import { EADDRINUSE, EFAULT, EINVAL, ENOMEM, PAGE_SIZE } from '../../src/base/index.ts';
import type {
  Device,
  DomainType,
  FaultHandler,
  IommuDomain,
  IotlbGather,
  Mapped,
  ResvRegion,
} from '../../src/iommu/index.ts';
import { Iommu, IommuGroup } from '../../src/iommu/index.ts';
import type { DirtyTrackingOps, Process, ProcessMemory } from '../../src/vfio/index.ts';
import { LockAccount } from '../../src/vfio/index.ts';

export const KiB4 = 4096;
export const MiB2 = 2 ** 21;
export const GiB = 2 ** 30;
/** Where the kernel's mock domain begins and ends (drivers/iommu/iommufd/iommufd_test.h). */
export const MOCK_START = 2 ** 24;
export const MOCK_LAST = 2 ** 31 - 1;

/** Counts what may fail and makes the n-th of it fail: iommufd_fail_nth's method. */
export class Injector {
  #left = Infinity;
  /** True once the failure has happened. */
  get fired(): boolean {
    return this.#left <= 0;
  }
  arm(nth: number): void {
    this.#left = nth;
  }
  fails(): boolean {
    this.#left -= 1;
    return this.#left === 0;
  }
}

interface Leaf {
  readonly iova: number;
  readonly nrBytes: number;
  readonly paddr: number;
  readonly prot: number;
}

export class MockDomain implements IommuDomain {
  readonly type: DomainType;
  readonly ops: MockIommu;
  readonly pgsizeBitmap: number;
  readonly apertureStart: number;
  readonly apertureLast: number;
  faultHandler: FaultHandler | null = null;
  /** Smallest pages by IOVA. */
  readonly pages = new Map<number, Leaf>();
  /** Unmapped and not synced: what an IOTLB may still have. */
  readonly stale: Leaf[] = [];
  readonly dirty = new Set<number>();
  readonly tracking: boolean;
  /** Only devices of this kind; set by the first one. */
  kind = '';
  enabled = false;

  constructor(ops: MockIommu, type: DomainType, tracking: boolean) {
    this.type = type;
    this.ops = ops;
    this.pgsizeBitmap = ops.pgsizeBitmap;
    this.apertureStart = ops.apertureStart;
    this.apertureLast = ops.apertureLast;
    this.tracking = tracking;
  }
}

export interface MockOptions {
  pgsizeBitmap?: number;
  apertureStart?: number;
  apertureLast?: number;
  regions?: ResvRegion[];
}

export class MockIommu implements DirtyTrackingOps {
  readonly name = 'mock';
  readonly pgsizeBitmap: number;
  readonly apertureStart: number;
  /** Of domains to come. */
  apertureLast: number;
  readonly unit: number;
  readonly injector: Injector;
  readonly log: string[] = [];
  regions: ResvRegion[];
  /** Kinds of devices that need domains of their own. */
  readonly kinds = new Map<Device, string>();
  readonly untracked = new Set<Device>();
  readonly attached = new Map<Device, MockDomain>();
  readonly domains = new Set<MockDomain>();
  /** How often frames can be reached, by table or stale. */
  readonly reach = new Map<number, number>();
  /** Unmaps refused, so that callers go their slow way. */
  refuseUnmaps = 0;
  nrSyncs = 0;

  constructor(injector: Injector, options: MockOptions = {}) {
    this.injector = injector;
    this.pgsizeBitmap = options.pgsizeBitmap ?? 0x40201000;
    this.apertureStart = options.apertureStart ?? 0;
    this.apertureLast = options.apertureLast ?? 2 ** 39 - 1;
    this.unit = this.pgsizeBitmap & -this.pgsizeBitmap;
    this.regions = options.regions ?? [];
  }

  domainAlloc(type: DomainType): MockDomain | null {
    return this.#alloc(type, false);
  }
  domainAllocTracking(): MockDomain | null {
    return this.#alloc('paging', true);
  }
  #alloc(type: DomainType, tracking: boolean): MockDomain | null {
    if (this.injector.fails()) return null;
    const domain = new MockDomain(this, type, tracking);
    this.domains.add(domain);
    return domain;
  }
  domainFree(domain: IommuDomain): void {
    const mock = domain as MockDomain;
    for (const one of this.attached.values()) if (one === mock) throw new Error('freed while attached');
    for (const leaf of new Set(mock.pages.values())) this.#count(leaf, -1);
    for (const leaf of mock.stale) this.#count(leaf, -1);
    if (!this.domains.delete(mock)) throw new Error('freed twice');
  }
  probeDevice(): number {
    return 0;
  }
  releaseDevice(): void {}
  attachDev(domain: IommuDomain, device: Device): number {
    const mock = domain as MockDomain;
    if (this.injector.fails()) return ENOMEM;
    const kind = this.kinds.get(device) ?? '';
    if (mock.tracking && this.untracked.has(device)) return EINVAL;
    if ([...this.attached.values()].includes(mock) && mock.kind !== kind) return EINVAL;
    mock.kind = kind;
    this.attached.set(device, mock);
    return 0;
  }
  detachDev(_domain: IommuDomain, device: Device): void {
    this.attached.delete(device);
  }
  getResvRegions(): readonly ResvRegion[] {
    return this.regions;
  }

  #count(leaf: Leaf, by: number): void {
    for (let paddr = leaf.paddr; paddr < leaf.paddr + leaf.nrBytes; paddr += this.unit) {
      const pfn = Math.floor(paddr / KiB4);
      const nr = (this.reach.get(pfn) ?? 0) + by;
      if (nr === 0) this.reach.delete(pfn);
      else this.reach.set(pfn, nr);
    }
  }

  mapPages(
    domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number {
    const { pages } = domain as MockDomain;
    this.log.push(`map ${iova.toString(16)}>${paddr.toString(16)} ${pgcount}x${pgsize.toString(16)}`);
    mapped.bytes = 0;
    const failing = this.injector.fails() ? pgcount >> 1 : -1;
    for (let nr = 0; nr < pgcount; nr++) {
      if (nr === failing) return ENOMEM;
      const leaf = { iova: iova + nr * pgsize, nrBytes: pgsize, paddr: paddr + nr * pgsize, prot };
      for (let at = leaf.iova; at < leaf.iova + pgsize; at += this.unit) {
        if (pages.has(at)) return EADDRINUSE;
      }
      for (let at = leaf.iova; at < leaf.iova + pgsize; at += this.unit) pages.set(at, leaf);
      this.#count(leaf, 1);
      mapped.bytes += pgsize;
    }
    return 0;
  }

  unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const { pages, stale, dirty } = domain as MockDomain;
    this.log.push(`unmap ${iova.toString(16)} ${pgcount}x${pgsize.toString(16)}`);
    if (this.refuseUnmaps > 0) {
      this.refuseUnmaps -= 1;
      return 0;
    }
    let at = iova;
    while (at < iova + pgsize * pgcount) {
      const leaf = pages.get(at);
      // In its middle: nothing a driver could do.
      if (leaf === undefined || leaf.iova !== at) break;
      for (let page = at; page < at + leaf.nrBytes; page += this.unit) {
        pages.delete(page);
        dirty.delete(page);
      }
      stale.push(leaf);
      at += leaf.nrBytes;
    }
    if (at > iova) gather.addRange(iova, at - iova);
    return at - iova;
  }

  iotlbSyncMap(): number {
    return 0;
  }
  iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    this.nrSyncs += 1;
    this.log.push('sync');
    const { stale } = domain as MockDomain;
    for (const leaf of stale.splice(0)) {
      if (leaf.iova >= gather.start && leaf.iova + leaf.nrBytes - 1 <= gather.last) this.#count(leaf, -1);
      else stale.push(leaf);
    }
  }
  flushIotlbAll(domain: IommuDomain): void {
    for (const leaf of (domain as MockDomain).stale.splice(0)) this.#count(leaf, -1);
  }
  flushNpCache(): void {}
  iovaToPhys(domain: IommuDomain, iova: number): number {
    const leaf = (domain as MockDomain).pages.get(iova - (iova % this.unit));
    return leaf === undefined ? -1 : leaf.paddr + (iova - leaf.iova);
  }

  tracksDirty(device: Device): boolean {
    return !this.untracked.has(device);
  }
  setDirtyTracking(domain: IommuDomain, enable: boolean): number {
    const mock = domain as MockDomain;
    if (enable && !mock.tracking) return EINVAL;
    mock.enabled = enable;
    return 0;
  }
  readAndClearDirty(
    domain: IommuDomain,
    iova: number,
    nrBytes: number,
    clear: boolean,
    record: ((iova: number, nrBytes: number) => void) | null,
  ): number {
    const { pages, dirty, enabled } = domain as MockDomain;
    if (!enabled && record !== null) return EINVAL;
    for (let at = iova; at < iova + nrBytes;) {
      const leaf = pages.get(at - (at % this.unit));
      const start = leaf?.iova ?? at;
      const size = leaf?.nrBytes ?? this.unit;
      let isDirty = false;
      for (let page = start; page < start + size; page += this.unit) {
        if (!dirty.has(page)) continue;
        isDirty = true;
        if (clear) dirty.delete(page);
      }
      if (isDirty) record?.(start, size);
      at = start + size;
    }
    return 0;
  }

  /** A device's access: physical address, or -1. Writing makes the page dirty where that is tracked. */
  dma(device: Device, iova: number, write: boolean): number {
    const domain = this.attached.get(device);
    const page = iova - (iova % this.unit);
    const leaf = domain?.pages.get(page);
    if (domain === undefined || leaf === undefined) return -1;
    if ((leaf.prot & (write ? 2 : 1)) === 0) return -1;
    if (write && domain.enabled) domain.dirty.add(page);
    return leaf.paddr + (iova - leaf.iova);
  }
}

/** A process's memory: pages by number, pins by frame. */
export class TestMemory implements ProcessMemory {
  readonly frames = new Map<number, number>();
  readonly pins = new Map<number, number>();
  readonly dirty = new Set<number>();
  readonly violations: string[] = [];
  /** How many pages each call of `pin` was asked for. */
  readonly asked: number[] = [];
  readonly reserved = new Set<number>();
  readonly readOnly = new Set<number>();
  exited = false;
  /** Most pages one call gives. */
  most = Infinity;
  readonly #injector: Injector;
  readonly #reach: ReadonlyMap<number, number>;
  readonly #bytes = new Map<number, Uint8Array>();

  constructor(injector: Injector, reach: ReadonlyMap<number, number>) {
    this.#injector = injector;
    this.#reach = reach;
  }

  /** Puts frames behind pages: contiguous ones from `pfn` on, or as a list. */
  place(vaddr: number, nrPages: number, pfn: number | readonly number[]): this {
    for (let page = 0; page < nrPages; page++) {
      this.frames.set(vaddr / KiB4 + page, typeof pfn === 'number' ? pfn + page : pfn[page]);
    }
    return this;
  }
  /** munmap */
  remove(vaddr: number, nrPages: number): void {
    for (let page = 0; page < nrPages; page++) this.frames.delete(vaddr / KiB4 + page);
  }

  get nrPins(): number {
    let nr = 0;
    for (const count of this.pins.values()) nr += count;
    return nr;
  }

  pin(vaddr: number, nrPages: number, write: boolean, pfns: Float64Array): number {
    this.asked.push(nrPages);
    if (vaddr % PAGE_SIZE !== 0 || nrPages < 1 || nrPages > pfns.length) throw new RangeError('pin: bad arguments');
    if (this.#injector.fails() || this.exited) return EFAULT;
    let nr = 0;
    for (; nr < Math.min(nrPages, this.most); nr++) {
      const vpn = vaddr / KiB4 + nr;
      const pfn = this.frames.get(vpn);
      if (pfn === undefined || (write && this.readOnly.has(vpn))) break;
      if (this.reserved.has(pfn)) {
        if (nr > 0) break;
        pfns[0] = pfn;
        return 1;
      }
      this.pins.set(pfn, (this.pins.get(pfn) ?? 0) + 1);
      pfns[nr] = pfn;
    }
    return nr > 0 ? nr : EFAULT;
  }

  unpin(first: number, nrPages: number, dirty: boolean): void {
    for (let pfn = first; pfn < first + nrPages; pfn++) {
      const count = this.pins.get(pfn) ?? 0;
      if (count === 0) throw new Error(`frame ${pfn.toString(16)} unpinned once too often`);
      if (dirty) this.dirty.add(pfn);
      if (count > 1) {
        this.pins.set(pfn, count - 1);
        continue;
      }
      this.pins.delete(pfn);
      if (this.#reach.has(pfn)) this.violations.push(`frame ${pfn.toString(16)} unpinned while a device reaches it`);
    }
  }

  isReserved(pfn: number): boolean {
    return this.reserved.has(pfn);
  }

  bytesOf(pfn: number): Uint8Array {
    let bytes = this.#bytes.get(pfn);
    if (bytes === undefined) {
      bytes = new Uint8Array(KiB4);
      this.#bytes.set(pfn, bytes);
    }
    return bytes;
  }
  copyUser(vaddr: number, data: Uint8Array, write: boolean): number {
    for (let vpn = Math.floor(vaddr / KiB4); vpn <= Math.floor((vaddr + data.length - 1) / KiB4); vpn++) {
      if (!this.frames.has(vpn)) return EFAULT;
    }
    for (let done = 0; done < data.length;) {
      const offset = (vaddr + done) % KiB4;
      const part = data.subarray(done, done + Math.min(data.length - done, KiB4 - offset));
      this.copyFrame(this.frames.get(Math.floor((vaddr + done) / KiB4)) ?? -1, offset, part, write);
      done += part.length;
    }
    return 0;
  }
  copyFrame(pfn: number, offset: number, data: Uint8Array, write: boolean): void {
    const bytes = this.bytesOf(pfn);
    if (write) bytes.set(data, offset);
    else data.set(bytes.subarray(offset, offset + data.length));
  }
}

export interface World {
  readonly injector: Injector;
  readonly mock: MockIommu;
  readonly core: Iommu;
  readonly memory: TestMemory;
  readonly process: Process;
  /** A group with new devices. */
  readonly group: (...devices: Device[]) => IommuGroup;
  /** Nothing pinned, charged, mapped or stale, no frame unpinned early. What is wrong, as text. */
  readonly leaks: () => string[];
}

let nrDevices = 0;
export function newDevice(): Device {
  nrDevices += 1;
  return { name: `0000:00:${(nrDevices % 32).toString(16)}.0`, sid: nrDevices };
}

/** Frames that no two of which follow each other. */
export function scattered(nr: number, first = 0x1000): number[] {
  return Array.from({ length: nr }, (_, index) => first + index * 2);
}

export function world(options: MockOptions & { limitPages?: number } = {}): World {
  const injector = new Injector();
  const mock = new MockIommu(injector, options);
  const core = new Iommu();
  const memory = new TestMemory(injector, mock.reach);
  const account = new LockAccount(options.limitPages);
  const userAccount = new LockAccount(options.limitPages);
  const process: Process = { memory, account, userAccount };
  let nrGroups = 0;
  return {
    injector,
    mock,
    core,
    memory,
    process,
    group: (...devices) => {
      const group = new IommuGroup(core, mock, nrGroups++);
      for (const device of devices.length === 0 ? [newDevice()] : devices) group.addDevice(device);
      return group;
    },
    leaks: () => [
      ...memory.violations,
      ...(memory.nrPins === 0 ? [] : [`${memory.nrPins} pins`]),
      ...(account.nrLocked === 0 ? [] : [`${account.nrLocked} pages charged`]),
      ...(userAccount.nrLocked === 0 ? [] : [`${userAccount.nrLocked} pages charged to the user`]),
      ...(mock.reach.size === 0 ? [] : [`${mock.reach.size} frames within reach`]),
      ...(mock.domains.size === 0 ? [] : [`${mock.domains.size} domains`]),
    ],
  };
}
