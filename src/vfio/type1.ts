/**
 * The VFIO type1 IOMMU: mappings of process memory for all devices of a container. Linux 6.12 (6.12.117)
 * drivers/vfio/vfio_iommu_type1.c. (Older kernels make the fgsp probe at IOVA 0, reserved or not.)
 *
 * It calls iommu_map() and iommu_unmap() itself, past the DMA API. Whoever leaves the flush after a map to the DMA API
 * (the `caller` policy) leaves these mappings unusable on hardware that caches "not present".
 *
 * Version 1 and version 2 differ in unmap only. v2 (TYPE1v2) refuses a range that begins or ends inside of a mapping. v1 ends
 * every mapping whose first byte lies in the range, as a whole, and reports success with 0 bytes when the range begins inside
 * of one.
 *
 * Not modelled: VFIO_UPDATE_VADDR, nesting, interrupt isolation, cache coherency per domain.
 */
import {
  E2BIG,
  EACCES,
  EEXIST,
  EINVAL,
  ENOMEM,
  ENOSPC,
  PAGE_SIZE,
  and53,
  lowestBit,
  or53,
  paddrOf,
} from '../base/index.ts';
import type { Iommu, IommuGroup } from '../iommu/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE, collectResvRegions, softwareMsiBase } from '../iommu/index.ts';
import type { PageAllocator } from '../mem/index.ts';
import { LAST_ADDRESS, lastByte, toWord } from './address-word.ts';
import { DIRTY_PAGES_MAX, dirtyBitmapBytes } from './bitmap.ts';
import type { DirtyBitmap } from './dirty.ts';
import {
  checkBitmap,
  cutsMapping,
  markAllDirty,
  readDirty,
  reportDirty,
  startTracking,
  startTrackingAll,
  stopTrackingAll,
} from './dirty.ts';
import { DmaList, VfioDma } from './dma.ts';
import type { VfioDomain } from './domain.ts';
import { probeFgsp } from './domain.ts';
import type { EmulatedDevice, ExternalHost } from './external.ts';
import { accessData, pinExternal, releaseExternal, unpinExternal } from './external.ts';
import type { IovaRange } from './iova-ranges.ts';
import { apertureConflicts, clipToAperture, contains, excludeRegions, regionsConflict } from './iova-ranges.ts';
import { PIN_BATCH_PAGES, PinBatch, unpinPages } from './pinning.ts';
import type { Process } from './process.ts';
import { replayMappings } from './replay.ts';
import { unmapAndUnpin } from './unmap.ts';

/** Flags of include/uapi/linux/vfio.h. */
export const VFIO_DMA_MAP_READ = 1;
export const VFIO_DMA_MAP_WRITE = 2;
export const VFIO_DMA_UNMAP_GET_DIRTY = 1;
export const VFIO_DMA_UNMAP_ALL = 2;
export const VFIO_DIRTY_START = 1;
export const VFIO_DIRTY_STOP = 2;
export const VFIO_DIRTY_GET = 4;

/** U16_MAX, the default of the module parameter dma_entry_limit. */
const DMA_ENTRY_LIMIT = 65535;

export interface Type1Options {
  /** False for VFIO_TYPE1_IOMMU. Default true: VFIO_TYPE1v2_IOMMU. */
  readonly v2?: boolean;
  /** Most mappings at a time. Default 65535. */
  readonly dmaEntryLimit?: number;
  /** Pins and maps page by page. */
  readonly disableHugepages?: boolean;
  /** Where the fgsp probe gets two pages from; absent: no probe, as when the kernel has none left. */
  readonly pages?: PageAllocator;
}

/** VFIO_IOMMU_MAP_DMA. */
export interface DmaMapRequest {
  readonly iova: number;
  readonly vaddr: number;
  readonly size: number;
  /** VFIO_DMA_MAP_READ, VFIO_DMA_MAP_WRITE, as the device sees it. */
  readonly flags: number;
}

/** VFIO_IOMMU_UNMAP_DMA. */
export interface DmaUnmapRequest {
  readonly iova: number;
  readonly size: number;
  readonly flags?: number;
  /** For VFIO_DMA_UNMAP_GET_DIRTY. */
  readonly bitmap?: DirtyBitmap;
}

/** VFIO_IOMMU_GET_INFO. */
export interface Type1Info {
  readonly pgsizeBitmap: number;
  readonly dmaAvail: number;
  /** Empty for a container of emulated devices alone. */
  readonly iovaRanges: readonly IovaRange[];
  readonly dirtyPgsize: number;
  readonly maxDirtyBitmapBytes: number;
}

export class Type1Iommu implements ExternalHost {
  readonly v2: boolean;
  readonly dmas: DmaList = new DmaList();
  readonly #core: Iommu;
  readonly #options: Type1Options;
  /** The newest first, as list_add leaves them: maps go in this order, frames are read back from the first. */
  readonly #domains: VfioDomain[] = [];
  readonly #emulatedGroups: IommuGroup[] = [];
  /** Groups that write only to pages they pinned. The others make every mapped page dirty. */
  readonly #pinningGroups = new Set<IommuGroup>();
  readonly #devices = new Set<EmulatedDevice>();
  #nrNonPinningGroups = 0;
  #ranges: IovaRange[] = [];
  #dmaAvail: number;
  #pgsizeBitmap = 0;
  #tracking = false;

  constructor(core: Iommu, options: Type1Options = {}) {
    this.#core = core;
    this.#options = options;
    this.v2 = options.v2 ?? true;
    this.#dmaAvail = options.dmaEntryLimit ?? DMA_ENTRY_LIMIT;
    this.#updatePgsizeBitmap();
  }

  get hasDomains(): boolean {
    return this.#domains.length > 0;
  }

  get domains(): readonly VfioDomain[] {
    return this.#domains;
  }

  /** log2 of the smallest page that all domains have; never less than the CPU's. */
  get pgshift(): number {
    return lowestBit(this.#pgsizeBitmap);
  }

  get info(): Type1Info {
    return {
      pgsizeBitmap: this.#pgsizeBitmap,
      dmaAvail: this.#dmaAvail,
      iovaRanges: this.#ranges,
      dirtyPgsize: 2 ** this.pgshift,
      maxDirtyBitmapBytes: dirtyBitmapBytes(DIRTY_PAGES_MAX),
    };
  }

  /** vfio_update_pgsize_bitmap: sizes below a CPU page are hidden, since pages are what is pinned. */
  #updatePgsizeBitmap(): void {
    let bitmap = LAST_ADDRESS;
    for (const { domain } of this.#domains) bitmap = and53(bitmap, domain.pgsizeBitmap);
    const subPage = bitmap % PAGE_SIZE;
    this.#pgsizeBitmap = subPage === 0 ? bitmap : or53(bitmap - subPage, PAGE_SIZE);
  }

  /**
   * Gives a group's devices the container's mappings (vfio_iommu_type1_attach_group). A domain of the same driver serves it
   * when the driver accepts that; otherwise the container gets one more, filled before this returns.
   * @returns 0; EINVAL for a group that is in, or whose aperture or reserved regions conflict with mappings; ENOMEM; the errno
   * of the driver. The group is where it was then
   */
  attachGroup(group: IommuGroup, kind: 'iommu' | 'emulated' = 'iommu'): number {
    if (this.#emulatedGroups.includes(group) || this.#domains.some(({ groups }) => groups.includes(group))) {
      return EINVAL;
    }
    if (kind === 'emulated') {
      this.#emulatedGroups.unshift(group);
      this.#pinningGroups.add(group);
      return 0;
    }
    const { ops } = group;
    const core = this.#core;
    const domain = ops.domainAlloc('paging');
    if (domain === null) return ENOMEM;
    let errno = group.attach(domain);
    if (errno !== 0) {
      ops.domainFree(domain);
      return errno;
    }
    const giveUp = (why: number): number => {
      group.detach(domain);
      ops.domainFree(domain);
      return why;
    };
    const regions = collectResvRegions(ops, group.devices);
    const { apertureStart = 0, apertureLast } = domain;
    if (apertureConflicts(this.#ranges, apertureStart, apertureLast, this.dmas)) return giveUp(EINVAL);
    if (regionsConflict(regions, this.dmas)) return giveUp(EINVAL);
    const ranges = excludeRegions(clipToAperture(this.#ranges, apertureStart, apertureLast), regions);
    if (typeof ranges === 'number') return giveUp(ranges);

    for (const existing of this.#domains) {
      if (existing.domain.ops !== ops) continue;
      group.detach(domain);
      if (group.attach(existing.domain) === 0) {
        existing.groups.unshift(group);
        ops.domainFree(domain);
        return this.#attached(ranges);
      }
      errno = group.attach(domain);
      if (errno !== 0) {
        ops.domainFree(domain);
        return errno;
      }
    }
    const fgsp = probeFgsp(core, domain, ranges, this.#options.pages ?? null);
    const added: VfioDomain = { domain, groups: [group], fgsp, msiBase: softwareMsiBase(regions) };
    const source = this.#domains[0] ?? null;
    errno = replayMappings(core, this.dmas, source, added, this.#options.disableHugepages ?? false);
    if (errno !== 0) return giveUp(errno);
    this.#domains.unshift(added);
    this.#updatePgsizeBitmap();
    return this.#attached(ranges);
  }

  #attached(ranges: IovaRange[]): number {
    this.#ranges = ranges;
    // It can write to memory by itself, so nothing is known to be clean, until it pins what it writes to.
    this.#nrNonPinningGroups += 1;
    return 0;
  }

  /** Takes a group out; with the last one that has an IOMMU the mappings go, unless emulated devices still need them. */
  detachGroup(group: IommuGroup): void {
    const emulated = this.#emulatedGroups.indexOf(group);
    if (emulated >= 0) {
      this.#emulatedGroups.splice(emulated, 1);
      if (this.#emulatedGroups.length === 0 && this.#domains.length === 0) this.#removeAll();
      this.#forgetScope(group);
      return;
    }
    const index = this.#domains.findIndex(({ groups }) => groups.includes(group));
    if (index < 0) return;
    const { domain, groups } = this.#domains[index];
    group.detach(domain);
    groups.splice(groups.indexOf(group), 1);
    let ranges = this.#ranges;
    if (groups.length === 0) {
      if (this.#domains.length === 1) {
        if (this.#emulatedGroups.length === 0) this.#removeAll();
        else for (const dma of this.dmas) unmapAndUnpin(this.#core, this.#domains, dma);
      }
      // What is still mapped in this domain goes with its tables: no device is attached that could see it.
      this.#domains.splice(index, 1);
      domain.ops.domainFree(domain);
      ranges = this.#expanded(ranges);
      this.#updatePgsizeBitmap();
    }
    this.#refreshRanges(ranges);
    this.#forgetScope(group);
  }

  #forgetScope(group: IommuGroup): void {
    if (this.#pinningGroups.delete(group)) return;
    this.#nrNonPinningGroups -= 1;
    if (this.#tracking) markAllDirty(this.dmas, this.pgshift);
  }

  /** The outer limits that the domains left allow (vfio_iommu_aper_expand). */
  #expanded(ranges: readonly IovaRange[]): IovaRange[] {
    let start = 0;
    let last = LAST_ADDRESS;
    for (const { domain } of this.#domains) {
      start = Math.max(start, domain.apertureStart ?? 0);
      last = Math.min(last, domain.apertureLast);
    }
    const widened = [...ranges];
    if (widened.length > 0) widened[0] = { start, last: widened[0].last };
    const final = widened.at(-1);
    if (final !== undefined) widened[widened.length - 1] = { start: final.start, last };
    return widened;
  }

  /** Leaves out the reserved regions of the groups left, and only those (vfio_iommu_resv_refresh). */
  #refreshRanges(outer: readonly IovaRange[]): void {
    const first = outer[0];
    const final = outer.at(-1);
    if (first === undefined || final === undefined) return;
    const regions = this.#domains.flatMap(({ domain, groups }) =>
      groups.flatMap((group) => collectResvRegions(domain.ops, group.devices)),
    );
    const ranges = excludeRegions([{ start: first.start, last: final.last }], regions);
    if (typeof ranges !== 'number') this.#ranges = ranges;
  }

  /**
   * Maps memory of a process. Each physically contiguous run becomes one iommu_map() per domain.
   * @returns 0; EINVAL (flags, alignment, wrap, outside of the valid ranges), EEXIST, ENOSPC (too many mappings), EFAULT,
   * ENOMEM (locked memory); the errno of a domain. Nothing is mapped or pinned then
   */
  mapDma(request: DmaMapRequest, process: Process): number {
    const iova = toWord(request.iova);
    const vaddr = toWord(request.vaddr);
    const size = toWord(request.size);
    const { flags } = request;
    if (Number.isNaN(iova + vaddr + size)) return EINVAL;
    if ((flags & ~(VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE)) !== 0 || flags === 0) return EINVAL;
    const pgsize = 2 ** this.pgshift;
    if (size === 0 || size % pgsize !== 0 || iova % pgsize !== 0 || vaddr % pgsize !== 0) return EINVAL;
    const last = lastByte(iova, size);
    if (Number.isNaN(last) || Number.isNaN(lastByte(vaddr, size))) return EINVAL;
    if (this.dmas.find(iova, size) !== null) return EEXIST;
    if (this.#dmaAvail === 0) return ENOSPC;
    if (!contains(this.#ranges, iova, last)) return EINVAL;

    const prot =
      ((flags & VFIO_DMA_MAP_READ) !== 0 ? IOMMU_READ : 0) | ((flags & VFIO_DMA_MAP_WRITE) !== 0 ? IOMMU_WRITE : 0);
    const dma = new VfioDma(iova, vaddr, prot, process);
    this.#dmaAvail -= 1;
    this.dmas.insert(dma);
    let errno = 0;
    if (this.#domains.length === 0) dma.nrBytes = size;
    else errno = this.#pinAndMap(dma, size);
    if (errno === 0 && this.#tracking) errno = startTracking(dma, this.pgshift);
    if (errno !== 0) this.#remove(dma);
    return errno;
  }

  #pinAndMap(dma: VfioDma, size: number): number {
    const batch = new PinBatch(this.#options.disableHugepages ?? false);
    let errno = 0;
    while (dma.nrBytes < size) {
      const nrPages = batch.pinRun(dma, dma.nrBytes, (size - dma.nrBytes) / PAGE_SIZE);
      if (nrPages < 0) {
        errno = nrPages;
        break;
      }
      const iova = dma.iova + dma.nrBytes;
      errno = this.#mapRun(iova, batch.base, nrPages, dma.prot);
      if (errno !== 0) {
        dma.process.account.charge(-unpinPages(dma, iova, batch.base, nrPages));
        batch.drop(dma);
        break;
      }
      dma.nrBytes += nrPages * PAGE_SIZE;
    }
    dma.iommuMapped = true;
    return errno;
  }

  /** One run into every domain, or into none (vfio_iommu_map). */
  #mapRun(iova: number, pfn: number, nrPages: number, prot: number): number {
    const nrBytes = nrPages * PAGE_SIZE;
    for (let index = 0; index < this.#domains.length; index++) {
      const errno = this.#core.map(this.#domains[index].domain, iova, paddrOf(pfn), nrBytes, prot | IOMMU_CACHE);
      if (errno === 0) continue;
      for (let undo = index - 1; undo >= 0; undo--) this.#core.unmap(this.#domains[undo].domain, iova, nrBytes);
      return errno;
    }
    return 0;
  }

  #remove(dma: VfioDma): void {
    unmapAndUnpin(this.#core, this.#domains, dma);
    this.dmas.remove(dma);
    this.#dmaAvail += 1;
  }

  #removeAll(): void {
    for (let dma = this.dmas.first(); dma !== undefined; dma = this.dmas.first()) {
      releaseExternal(this.#devices, dma);
      this.#remove(dma);
    }
  }

  /**
   * Ends the mappings of a range (version rules above), or all of them.
   * @returns bytes unmapped, which v1 may make more or less than asked; EINVAL for flags, alignment, wrap, a cut mapping (v2),
   * VFIO_DMA_UNMAP_ALL with a range, a bitmap that is too small, of another page size, or that nobody tracks
   */
  unmapDma(request: DmaUnmapRequest): number {
    const { flags = 0, bitmap } = request;
    const iova = toWord(request.iova);
    let size = toWord(request.size);
    if (Number.isNaN(iova + size)) return EINVAL;
    const getDirty = (flags & VFIO_DMA_UNMAP_GET_DIRTY) !== 0;
    const all = (flags & VFIO_DMA_UNMAP_ALL) !== 0;
    if ((flags & ~(VFIO_DMA_UNMAP_GET_DIRTY | VFIO_DMA_UNMAP_ALL)) !== 0 || (getDirty && all)) return EINVAL;
    if (getDirty && (bitmap === undefined || checkBitmap(bitmap, size) !== 0)) return EINVAL;
    const pgsize = 2 ** this.pgshift;
    if (iova % pgsize !== 0) return EINVAL;
    if (all) {
      if (iova !== 0 || size !== 0) return EINVAL;
      size = LAST_ADDRESS;
    } else if (size === 0 || size % pgsize !== 0 || Number.isNaN(lastByte(iova, size))) {
      return EINVAL;
    }
    if (getDirty && (!this.#tracking || bitmap?.pgsize !== pgsize)) return EINVAL;
    if (this.v2 && !all && cutsMapping(this.dmas, iova, size)) return EINVAL;

    let unmapped = 0;
    let found = this.dmas.within(iova, size);
    for (let index = 0; index < found.length; index++) {
      const dma = found[index];
      if (!this.v2 && iova > dma.iova) break;
      if (dma.externalPins.size > 0) {
        releaseExternal(this.#devices, dma);
        // The lock was open meanwhile: a device may have mapped and unmapped at will.
        if (this.v2 && !all && cutsMapping(this.dmas, iova, size)) break;
        found = this.dmas.within(iova, size);
        index = -1;
        continue;
      }
      if (getDirty && bitmap !== undefined) {
        reportDirty(dma, bitmap.data, iova, this.pgshift, this.#nrNonPinningGroups > 0);
      }
      unmapped += dma.nrBytes;
      this.#remove(dma);
    }
    return unmapped;
  }

  /**
   * Starts, stops or reads dirty tracking (VFIO_IOMMU_DIRTY_PAGES); exactly one flag. Starting and stopping twice is fine.
   * @returns 0; EACCES for v1; EINVAL
   */
  dirtyPages(
    flags: number,
    range?: { readonly iova: number; readonly size: number; readonly bitmap: DirtyBitmap },
  ): number {
    if (!this.v2) return EACCES;
    switch (flags) {
      case VFIO_DIRTY_START: {
        if (this.#tracking) return 0;
        const errno = startTrackingAll(this.dmas, this.pgshift);
        if (errno === 0) this.#tracking = true;
        return errno;
      }
      case VFIO_DIRTY_STOP:
        this.#tracking = false;
        stopTrackingAll(this.dmas);
        return 0;
      case VFIO_DIRTY_GET: {
        if (range === undefined) return EINVAL;
        const iova = toWord(range.iova);
        const size = toWord(range.size);
        const pgsize = 2 ** this.pgshift;
        if (Number.isNaN(iova + size) || iova + size > LAST_ADDRESS) return EINVAL;
        if (checkBitmap(range.bitmap, size) !== 0 || range.bitmap.pgsize !== pgsize) return EINVAL;
        if (iova % pgsize !== 0 || size % pgsize !== 0 || !this.#tracking) return EINVAL;
        return readDirty(this.dmas, iova, size, range.bitmap.data, this.pgshift, this.#nrNonPinningGroups > 0);
      }
      default:
        return EINVAL;
    }
  }

  /** A device without an IOMMU of its own wants to hear of unmaps; without one that does, nothing can be pinned for any. */
  registerDevice(device: EmulatedDevice): void {
    this.#devices.add(device);
  }

  unregisterDevice(device: EmulatedDevice): void {
    this.#devices.delete(device);
  }

  /**
   * Frames behind an IOVA for a device of `group`, until `unpinPages` (vfio_pin_pages).
   * @returns nrPages; EACCES for v1; E2BIG for more than 512; EINVAL where nothing is mapped or nobody is registered; EPERM
   */
  pinPages(group: IommuGroup, iova: number, nrPages: number, prot: number, pfns: Float64Array): number {
    if (nrPages > PIN_BATCH_PAGES) return E2BIG;
    const at = toWord(iova);
    if (Number.isNaN(at) || !(nrPages > 0) || !Number.isInteger(nrPages)) return EINVAL;
    if (!this.v2) return EACCES;
    if (this.#devices.size === 0) return EINVAL;
    const result = pinExternal(this, at - (at % PAGE_SIZE), nrPages, prot, pfns);
    if (result > 0 && !this.#pinningGroups.has(group) && this.#knows(group)) {
      this.#pinningGroups.add(group);
      this.#nrNonPinningGroups -= 1;
    }
    return result;
  }

  #knows(group: IommuGroup): boolean {
    return this.#domains.some(({ groups }) => groups.includes(group));
  }

  unpinPages(iova: number, nrPages: number): void {
    if (this.v2) unpinExternal(this, iova - (iova % PAGE_SIZE), nrPages);
  }

  /** Reads or writes what an IOVA leads to, as an emulated device (vfio_dma_rw). @returns 0 or EINVAL, EPERM, EFAULT */
  dmaRw(iova: number, data: Uint8Array, write: boolean): number {
    const at = toWord(iova);
    return Number.isNaN(at) ? EINVAL : accessData(this, at, data, write);
  }

  /** The container is given up: all mappings and domains go. */
  release(): void {
    this.#emulatedGroups.length = 0;
    this.#removeAll();
    for (const { domain, groups } of this.#domains.splice(0)) {
      for (const group of groups) group.detach(domain);
      domain.ops.domainFree(domain);
    }
    this.#ranges = [];
  }
}
