/**
 * An iommufd: the objects of one user and the requests on them, by id. Linux 6.12 (6.12.117) drivers/iommu/iommufd/
 * {main,ioas,hw_pagetable}.c. Results are 0, an id, an IOVA or bytes; failures negative errnos.
 *
 * Like VFIO it maps with iommu_map(), past the DMA API.
 *
 * Not modelled: nesting, faults, PASIDs, the layout of requests in memory, and what a device says of its hardware.
 */
import { EBUSY, EINVAL, EMSGSIZE, ENOENT, ENOMEM, EOPNOTSUPP, EOVERFLOW } from '../../base/index.ts';
import type { Device, Iommu, IommuGroup } from '../../iommu/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import { LAST_ADDRESS, toWord } from '../address-word.ts';
import type { IovaRange } from '../iova-ranges.ts';
import type { Process } from '../process.ts';
import type { AccessOps } from './access.ts';
import { IommufdAccess } from './access.ts';
import type { BoundGroup } from './device.ts';
import { IommufdDevice } from './device.ts';
import type { DirtyRequest } from './dirty.ts';
import { isDirtyTracking, readDirtyBitmap, setDirtyTracking } from './dirty.ts';
import { Hwpt } from './hwpt.ts';
import type { PagesSlice } from './io-pagetable.ts';
import { Ioas } from './ioas.ts';
import { ObjectTable } from './objects.ts';
import type { PagesEnvironment } from './pages.ts';
import { IoptPages } from './pages.ts';
import { TEMP_MEMORY_LIMIT } from './runs.ts';

/** Flags of include/uapi/linux/iommufd.h. */
export const IOAS_MAP_FIXED_IOVA = 1;
export const IOAS_MAP_WRITEABLE = 2;
export const IOAS_MAP_READABLE = 4;
export const HWPT_ALLOC_DIRTY_TRACKING = 2;

export interface IommufdOptions {
  /** Bytes of memory that moving frames may take at a time. Default 64 KiB; the kernel's tests use less to meet every seam. */
  readonly memoryLimit?: number;
}

/** IOMMU_IOAS_MAP. */
export interface IoasMapRequest {
  readonly vaddr: number;
  readonly nrBytes: number;
  readonly flags: number;
  /** With IOAS_MAP_FIXED_IOVA. */
  readonly iova?: number;
}

/** IOMMU_IOAS_COPY. */
export interface IoasCopyRequest {
  readonly source: number;
  readonly sourceIova: number;
  readonly nrBytes: number;
  readonly flags: number;
  readonly iova?: number;
}

/** Answer to IOMMU_IOAS_IOVA_RANGES. */
export interface IoasRanges {
  readonly errno: number;
  /** As many as were asked for. */
  readonly ranges: readonly IovaRange[];
  /** How many there are. */
  readonly nrRanges: number;
  readonly alignment: number;
}

export class Iommufd {
  readonly core: Iommu;
  /** The IOAS that VFIO's requests go to; see compat.ts. */
  vfioIoas: Ioas | null = null;
  readonly #objects = new ObjectTable();
  readonly #groups = new Map<IommuGroup, BoundGroup>();
  readonly #memoryLimit: number;
  #accountMode: 'user' | 'mm' = 'user';

  constructor(core: Iommu, options: IommufdOptions = {}) {
    this.core = core;
    this.#memoryLimit = options.memoryLimit ?? TEMP_MEMORY_LIMIT;
  }

  get nrObjects(): number {
    return this.#objects.size;
  }

  #environment(accountMode: 'user' | 'mm'): PagesEnvironment {
    return { core: this.core, accountMode, memoryLimit: this.#memoryLimit };
  }

  /** An IOAS by id. */
  ioas(id: number): Ioas | undefined {
    const object = this.#objects.get(id);
    return object instanceof Ioas ? object : undefined;
  }

  /** A hardware page table by id. */
  hwpt(id: number): Hwpt | undefined {
    const object = this.#objects.get(id);
    return object instanceof Hwpt ? object : undefined;
  }

  /** IOMMU_DESTROY. @returns 0, ENOENT, or EBUSY while something uses it */
  destroy(id: number): number {
    return this.#objects.remove(id);
  }

  /** The file is closed. Drivers must have unbound their devices and released their accesses. */
  close(): void {
    this.#objects.removeAll();
  }

  /** Charges the process, as VFIO does ('mm'), or the user. @returns 0, or EBUSY once there are objects */
  setAccountMode(mode: 'user' | 'mm'): number {
    if (this.#objects.size > 0) return EBUSY;
    this.#accountMode = mode;
    return 0;
  }

  get accountMode(): 'user' | 'mm' {
    return this.#accountMode;
  }

  ioasAlloc(): number {
    const forget = (ioas: Ioas): void => {
      if (this.vfioIoas === ioas) this.vfioIoas = null;
    };
    return this.#objects.add(new Ioas(forget)).id;
  }

  /**
   * Maps memory of a process: where it says (IOAS_MAP_FIXED_IOVA), or where there is room.
   * @returns the IOVA; EOPNOTSUPP (unknown flags), EOVERFLOW, EINVAL, ENOENT, ENOSPC, EEXIST, EFAULT, ENOMEM
   */
  ioasMap(id: number, request: IoasMapRequest, process: Process): number {
    const { flags } = request;
    const prot = protOf(flags);
    if (prot === EOPNOTSUPP) return prot;
    const iova = toWord(request.iova ?? 0);
    const nrBytes = toWord(request.nrBytes);
    const vaddr = toWord(request.vaddr);
    if (!(iova < LAST_ADDRESS && nrBytes < LAST_ADDRESS) || Number.isNaN(vaddr)) return EOVERFLOW;
    if (prot === EINVAL) return prot;
    const ioas = this.ioas(id);
    if (ioas === undefined) return ENOENT;
    const where = (flags & IOAS_MAP_FIXED_IOVA) === 0 ? null : iova;
    return this.mapUser(ioas, vaddr, nrBytes, where, prot, process, this.#accountMode);
  }

  /** iopt_map_user_pages: words in, no flags. */
  mapUser(
    ioas: Ioas,
    vaddr: number,
    nrBytes: number,
    iova: number | null,
    prot: number,
    process: Process,
    accountMode: 'user' | 'mm',
  ): number {
    const writable = (prot & IOMMU_WRITE) !== 0;
    const pages = IoptPages.create(process, vaddr, nrBytes, writable, this.#environment(accountMode));
    if (typeof pages === 'number') return pages;
    const result = ioas.table.map([{ pages, startByte: vaddr - pages.vaddr, nrBytes }], nrBytes, iova, prot);
    pages.put();
    return result;
  }

  /**
   * Maps what another IOAS (or the same one) shows in a range; pages are shared, not pinned again.
   * @returns the IOVA; ENOENT when the range has a gap; EPERM to write to pages that were mapped for reading; as `ioasMap`
   */
  ioasCopy(id: number, request: IoasCopyRequest): number {
    const prot = protOf(request.flags);
    if (prot === EOPNOTSUPP) return prot;
    const iova = toWord(request.iova ?? 0);
    const sourceIova = toWord(request.sourceIova);
    const nrBytes = toWord(request.nrBytes);
    if (!(iova < LAST_ADDRESS && sourceIova < LAST_ADDRESS && nrBytes < LAST_ADDRESS)) return EOVERFLOW;
    if (prot === EINVAL) return prot;
    const source = this.ioas(request.source);
    if (source === undefined) return ENOENT;
    const slices: PagesSlice[] | number = source.table.slices(sourceIova, nrBytes);
    if (typeof slices === 'number') return slices;
    const target = this.ioas(id);
    const where = (request.flags & IOAS_MAP_FIXED_IOVA) === 0 ? null : iova;
    const result = target === undefined ? ENOENT : target.table.map(slices, nrBytes, where, prot);
    for (const { pages } of slices) pages.put();
    return result;
  }

  /**
   * Ends whole areas; IOVA 0 with the largest length (`LAST_ADDRESS`, the kernel's U64_MAX) ends all.
   * @returns bytes; EINVAL, EOVERFLOW; ENOENT for an empty range and for one that cuts an area: areas before that one are gone
   * then, as in the kernel
   */
  ioasUnmap(id: number, iova: number, nrBytes: number): number {
    const ioas = this.ioas(id);
    if (ioas === undefined) return ENOENT;
    const start = toWord(iova);
    const length = toWord(nrBytes);
    if (start === 0 && length === LAST_ADDRESS) {
      const all = ioas.table.unmapAll();
      return all.errno === 0 ? all.nrBytes : all.errno;
    }
    if (!(start < LAST_ADDRESS && length < LAST_ADDRESS)) return EOVERFLOW;
    const some = ioas.table.unmap(start, length);
    if (some.errno !== 0) return some.errno;
    return some.nrBytes === 0 ? ENOENT : some.nrBytes;
  }

  /** What may be mapped. @param max how many the caller has room for; EMSGSIZE when there are more */
  iovaRanges(id: number, max: number): IoasRanges {
    const ioas = this.ioas(id);
    if (ioas === undefined) return { errno: ENOENT, ranges: [], nrRanges: 0, alignment: 0 };
    const { ranges, alignment } = ioas.table;
    const errno = ranges.length > max ? EMSGSIZE : 0;
    return { errno, ranges: ranges.slice(0, max), nrRanges: ranges.length, alignment };
  }

  /** Where IOVAs are allocated; none: anywhere. @returns 0, ENOENT, EINVAL, EADDRINUSE */
  allowIovas(id: number, ranges: readonly IovaRange[]): number {
    const ioas = this.ioas(id);
    if (ioas === undefined) return ENOENT;
    const words = ranges.map(({ start, last }) => ({ start: toWord(start), last: toWord(last) }));
    if (words.some(({ start, last }) => Number.isNaN(start + last))) return EINVAL;
    return ioas.table.setAllowed(words);
  }

  /** IOMMU_OPTION_HUGE_PAGES of an IOAS. @param value 0 or 1; undefined reads it. @returns 0 or 1, ENOENT, EINVAL, EADDRINUSE */
  optionHugePages(id: number, value?: number): number {
    const ioas = this.ioas(id);
    if (ioas === undefined) return ENOENT;
    if (value === undefined) return ioas.table.largePagesDisabled ? 0 : 1;
    if (value === 0) return ioas.table.disableLargePages();
    if (value !== 1) return EINVAL;
    ioas.table.enableLargePages();
    return 0;
  }

  /**
   * A page table for a device's kind, filled with what an IOAS maps; no device uses it yet.
   * @returns its id; ENOENT (no such device), EINVAL (not an IOAS), EOPNOTSUPP (flags; no dirty tracking), ENOMEM, errnos of filling
   */
  hwptAlloc(deviceId: number, ioasId: number, flags: number = 0): number {
    const device = this.#objects.get(deviceId);
    if (!(device instanceof IommufdDevice)) return ENOENT;
    const ioas = this.ioas(ioasId);
    if (ioas === undefined) return EINVAL;
    if ((flags & ~HWPT_ALLOC_DIRTY_TRACKING) !== 0) return EOPNOTSUPP;
    const { ops } = device.bound.group;
    let domain;
    if ((flags & HWPT_ALLOC_DIRTY_TRACKING) === 0) domain = ops.domainAlloc('paging');
    else if (isDirtyTracking(ops) && ops.tracksDirty(device.device)) domain = ops.domainAllocTracking();
    else return EOPNOTSUPP;
    if (domain === null) return ENOMEM;
    const hwpt = this.#objects.add(new Hwpt(ioas, domain, false));
    const errno = hwpt.fill();
    if (errno === 0) return hwpt.id;
    this.#objects.remove(hwpt.id);
    return errno;
  }

  /** @returns 0, ENOENT, EOPNOTSUPP, an errno of the driver */
  setDirtyTracking(hwptId: number, enable: boolean): number {
    const hwpt = this.hwpt(hwptId);
    return hwpt === undefined ? ENOENT : setDirtyTracking(this.core, hwpt.ioas.table, hwpt.domain, enable);
  }

  /** @returns ENOENT, and as `readDirtyBitmap` */
  dirtyBitmap(hwptId: number, request: DirtyRequest): number {
    const hwpt = this.hwpt(hwptId);
    return hwpt === undefined ? ENOENT : readDirtyBitmap(this.core, hwpt.ioas.table, hwpt.domain, request);
  }

  /** Takes a device over, with its group's DMA. @returns EINVAL when it is not of the group; EBUSY when somebody else owns that */
  bind(device: Device, group: IommuGroup): IommufdDevice | number {
    if (!group.devices.includes(device)) return EINVAL;
    const errno = group.claimDma(this);
    if (errno !== 0) return errno;
    const bound = this.#groups.get(group) ?? { group, hwpt: null, attached: [], nrBound: 0 };
    this.#groups.set(group, bound);
    bound.nrBound += 1;
    const release = (): void => {
      group.releaseDma(this);
      bound.nrBound -= 1;
      if (bound.nrBound === 0) this.#groups.delete(group);
    };
    return this.#objects.add(new IommufdDevice(device, bound, this.#objects, release));
  }

  /** An in-kernel user. @param pins whether it will pin pages */
  createAccess(ops: AccessOps, pins: boolean): IommufdAccess {
    return this.#objects.add(new IommufdAccess((id) => this.ioas(id), ops, pins));
  }

  /** Ends an in-kernel user: it gives back what it holds. */
  destroyAccess(access: IommufdAccess): void {
    access.release();
    this.#objects.remove(access.id);
  }
}

/** conv_iommu_prot. @returns EOPNOTSUPP for unknown flags, EINVAL without any right */
function protOf(flags: number): number {
  if ((flags & ~(IOAS_MAP_FIXED_IOVA | IOAS_MAP_WRITEABLE | IOAS_MAP_READABLE)) !== 0) return EOPNOTSUPP;
  if ((flags & (IOAS_MAP_WRITEABLE | IOAS_MAP_READABLE)) === 0) return EINVAL;
  return (
    IOMMU_CACHE |
    ((flags & IOAS_MAP_WRITEABLE) !== 0 ? IOMMU_WRITE : 0) |
    ((flags & IOAS_MAP_READABLE) !== 0 ? IOMMU_READ : 0)
  );
}
