/**
 * An IO page table: areas of one IOVA space, the domains that all hold them, and what may be mapped where. struct io_pagetable
 * of Linux 6.12 (6.12.117) drivers/iommu/iommufd/io_pagetable.c.
 *
 * Mapping happens by area and unmapping by whole areas: a range that would cut one is refused, since no driver can promise to
 * split a large leaf. Areas are cut only where no leaf can be larger than a page (`disableLargePages`).
 *
 * Fixed IOVAs must keep off reserved ranges only; allowed ranges bind allocation. Each domain and device reserves what it
 * cannot translate, under its own name, and takes that back when it leaves.
 */
import {
  EADDRINUSE,
  EBUSY,
  EDEADLK,
  EEXIST,
  EINVAL,
  ENOENT,
  EOVERFLOW,
  EPERM,
  PAGE_SIZE,
  lowestBit,
} from '../../base/index.ts';
import type { IommuDomain, ResvRegion } from '../../iommu/index.ts';
import { IOMMU_WRITE } from '../../iommu/index.ts';
import { LAST_ADDRESS, lastByte } from '../address-word.ts';
import type { IovaRange } from '../iova-ranges.ts';
import { allocateIova } from './allocate.ts';
import { AreaList, IoptArea, covers } from './area.ts';
import { fillDomain, fillDomains, unfillDomain, unfillDomains, unmapPages } from './fill.ts';
import { holes } from './holes.ts';
import type { IoptPages } from './pages.ts';

/** An in-kernel user of the table (struct iommufd_access). */
export interface IoptAccess {
  /** CPU pages for a user that pins, else 1. */
  readonly alignment: number;
  /** An area is about to go: every pin in it must end before this returns. */
  unmapped(iova: number, nrBytes: number): void;
}

/** A slice of pages on its way to an area (struct iopt_pages_list). */
export interface PagesSlice {
  readonly pages: IoptPages;
  readonly startByte: number;
  readonly nrBytes: number;
}

/** What was unmapped, and the errno that ended it early. */
export interface Unmapped {
  readonly nrBytes: number;
  readonly errno: number;
}

interface Reserved extends IovaRange {
  readonly owner: object;
}

export class IoPageTable {
  readonly areas: AreaList = new AreaList();
  readonly #domains: IommuDomain[] = [];
  readonly #accesses = new Set<IoptAccess>();
  /** Sorted by start; those of different owners may overlap. */
  #reserved: Reserved[] = [];
  #allowed: readonly IovaRange[] = [];
  #alignment = 1;
  #small = false;

  get domains(): readonly IommuDomain[] {
    return this.#domains;
  }

  /** What IOVAs, lengths and offsets into a page must be multiples of. */
  get alignment(): number {
    return this.#alignment;
  }

  /** True where every leaf is one CPU page. */
  get largePagesDisabled(): boolean {
    return this.#small;
  }

  /** What is not reserved. */
  get ranges(): IovaRange[] {
    return [...holes(this.#reserved, 0, LAST_ADDRESS)];
  }

  /** iopt_check_iova. @returns 0, EINVAL (alignment, reserved), EOVERFLOW, EEXIST */
  #check(iova: number, nrBytes: number): number {
    if (iova % this.#alignment !== 0) return EINVAL;
    const last = lastByte(iova, nrBytes);
    if (Number.isNaN(last)) return EOVERFLOW;
    if (this.#meetsReserved(iova, last)) return EINVAL;
    return this.areas.first(iova, last) === null ? 0 : EEXIST;
  }

  #meetsReserved(start: number, last: number): boolean {
    return this.#reserved.some((range) => range.start <= last && range.last >= start);
  }

  /**
   * Maps slices one behind the other (iopt_map_pages), at `iova` or, when that is null, where there is room.
   * @returns the IOVA, or a negative errno with nothing changed: EINVAL, EOVERFLOW, ENOSPC, EEXIST, EPERM (read-only pages),
   * EFAULT, ENOMEM; the errno of a domain
   */
  map(slices: readonly PagesSlice[], nrBytes: number, iova: number | null, prot: number): number {
    if (nrBytes === 0 || nrBytes % this.#alignment !== 0) return EINVAL;
    const start = iova ?? this.#allocate(slices[0], nrBytes);
    if (start < 0) return start;
    if (iova !== null) {
      const errno = this.#check(iova, nrBytes);
      if (errno !== 0) return errno;
    }
    let errno = 0;
    const areas: IoptArea[] = [];
    let at = start;
    for (const { pages, startByte, nrBytes: length } of slices) {
      if ((prot & IOMMU_WRITE) !== 0 && !pages.writable) errno = EPERM;
      else if ((startByte % PAGE_SIZE) % this.#alignment !== 0) errno = EINVAL;
      if (errno !== 0) return errno;
      areas.push(new IoptArea(at, at + length - 1, pages, startByte, prot));
      at += length;
    }
    for (let index = 0; index < areas.length; index++) {
      errno = fillDomains(areas[index], this.#domains, this.#small);
      if (errno === 0) continue;
      for (const undo of areas.slice(0, index)) unfillDomains(undo, this.#domains);
      return errno;
    }
    for (const area of areas) {
      area.pages.hold();
      this.areas.insert(area);
    }
    return start;
  }

  #allocate(first: PagesSlice | undefined, nrBytes: number): number {
    const vaddr = first === undefined ? 0 : first.pages.vaddr + first.startByte;
    return allocateIova(vaddr, nrBytes, this.#alignment, this.#allowed, this.#reserved, this.areas);
  }

  /** The slices behind a range, for a copy; each holds its pages. @returns EINVAL, EOVERFLOW, or ENOENT when there is a gap */
  slices(iova: number, nrBytes: number): PagesSlice[] | number {
    if (nrBytes === 0) return EINVAL;
    const last = lastByte(iova, nrBytes);
    if (Number.isNaN(last)) return EOVERFLOW;
    const areas = this.areas.contiguous(iova, last);
    if (!covers(areas, last)) return ENOENT;
    return areas.map((area) => {
      const start = Math.max(area.iova, iova);
      area.pages.hold();
      return { pages: area.pages, startByte: area.byteAt(start), nrBytes: Math.min(area.last, last) - start + 1 };
    });
  }

  /** Ends the areas of a range. @returns EINVAL for no bytes, EOVERFLOW; else as `unmapRange` */
  unmap(iova: number, nrBytes: number): Unmapped {
    if (nrBytes === 0) return { nrBytes: 0, errno: EINVAL };
    const last = lastByte(iova, nrBytes);
    return Number.isNaN(last) ? { nrBytes: 0, errno: EOVERFLOW } : this.#unmapRange(iova, last);
  }

  unmapAll(): Unmapped {
    return this.#unmapRange(0, LAST_ADDRESS);
  }

  /**
   * iopt_unmap_iova_range. An area that the range cuts ends it with ENOENT; areas before that one are gone then, as in the
   * kernel. In-kernel users are told to let go first; one that does not is EDEADLK.
   */
  #unmapRange(from: number, last: number): Unmapped {
    let nrBytes = 0;
    let start = from;
    let nrTries = 0;
    for (let area = this.areas.first(start, last); area !== null; area = this.areas.first(start, last)) {
      if (area.iova < start || area.last > last) return { nrBytes, errno: ENOENT };
      if (area.iova !== start) nrTries = 0;
      if (area.nrAccesses > 0) {
        start = area.iova;
        area.preventAccess = true;
        for (const access of Array.from(this.#accesses)) access.unmapped(area.iova, area.nrBytes);
        nrTries += 1;
        if (nrTries > 100) return { nrBytes, errno: EDEADLK };
        continue;
      }
      this.areas.remove(area);
      unfillDomains(area, this.#domains);
      area.pages.put();
      nrBytes += area.nrBytes;
      if (area.last >= last) break;
      start = area.last + 1;
    }
    return { nrBytes, errno: 0 };
  }

  /** Binds allocation to these ranges, in place of those before; none: anywhere. @returns 0, EINVAL, or EADDRINUSE with reserved ones */
  setAllowed(ranges: readonly IovaRange[]): number {
    const sorted = ranges.toSorted((a, b) => a.start - b.start);
    for (const [index, { start, last }] of sorted.entries()) {
      if (start >= last || (index > 0 && start <= sorted[index - 1].last)) return EINVAL;
    }
    if (sorted.some(({ start, last }) => this.#meetsReserved(start, last))) return EADDRINUSE;
    this.#allowed = sorted;
    return 0;
  }

  /** Keeps everybody off a range. @returns 0, or EADDRINUSE when something is mapped or allowed there */
  reserve(start: number, last: number, owner: object): number {
    if (this.areas.first(start, last) !== null) return EADDRINUSE;
    if (this.#allowed.some((range) => range.start <= last && range.last >= start)) return EADDRINUSE;
    this.#reserved = [...this.#reserved, { start, last, owner }].sort((a, b) => a.start - b.start);
    return 0;
  }

  unreserve(owner: object): void {
    this.#reserved = this.#reserved.filter((range) => range.owner !== owner);
  }

  /** Reserves what a device says (iopt_table_enforce_dev_resv_regions). @returns 0 or EADDRINUSE with none of it reserved */
  reserveRegions(regions: readonly ResvRegion[], owner: object): number {
    for (const { start, nrBytes, type } of regions) {
      if (type === 'direct-relaxable') continue;
      const errno = this.reserve(start, start + nrBytes - 1, owner);
      if (errno === 0) continue;
      this.unreserve(owner);
      return errno;
    }
    return 0;
  }

  /**
   * One more domain, which gets all areas before this returns (iopt_table_add_domain).
   * @returns 0; EINVAL when it has no leaf as small as a CPU page; EADDRINUSE when areas are not aligned for it or lie outside
   * of its aperture; errnos of pinning and mapping. It is left empty then
   */
  addDomain(domain: IommuDomain): number {
    if (this.#domains.includes(domain)) return EEXIST;
    const alignment = Math.max(2 ** lowestBit(domain.pgsizeBitmap), this.#alignment);
    if (alignment > PAGE_SIZE) return EINVAL;
    if (!this.#conform(alignment)) return EADDRINUSE;
    const { apertureStart = 0, apertureLast } = domain;
    let errno = apertureLast < LAST_ADDRESS ? this.reserve(apertureLast + 1, LAST_ADDRESS, domain) : 0;
    if (errno === 0 && apertureStart > 0) errno = this.reserve(0, apertureStart - 1, domain);
    if (errno !== 0) {
      this.unreserve(domain);
      return errno;
    }
    const filled: IoptArea[] = [];
    for (const area of this.areas) {
      errno = fillDomain(area, domain, this.#small);
      if (errno === 0) {
        filled.push(area);
        if (this.#domains.length === 0) {
          area.storage = domain;
          area.pages.addDomainArea(area);
        }
        continue;
      }
      for (const undo of filled) this.#unfill(undo, domain);
      this.unreserve(domain);
      return errno;
    }
    this.#domains.push(domain);
    this.#alignment = alignment;
    return 0;
  }

  /** An area leaves a domain that is not in the list (any more); with the last one its pages go. */
  #unfill(area: IoptArea, domain: IommuDomain): void {
    const [storage] = this.#domains;
    if (storage !== undefined) {
      // Somebody else holds the frames: nothing to read back, one unmap will do.
      if (area.storage === domain) area.storage = storage;
      unmapPages(area, domain, area.firstIndex, area.lastIndex);
      return;
    }
    area.pages.removeDomainArea(area);
    unfillDomain(area, domain, area.lastIndex);
    area.storage = null;
  }

  /** Ends `addDomain`: the domain is empty afterwards (iopt_table_remove_domain). */
  removeDomain(domain: IommuDomain): void {
    const index = this.#domains.indexOf(domain);
    if (index < 0) throw new RangeError('removeDomain: it is not one of the table');
    // The last one takes its place: domain 0 is where frames are read back from.
    const tail = this.#domains.pop();
    if (tail !== undefined && tail !== domain) this.#domains[index] = tail;
    for (const area of this.areas) this.#unfill(area, domain);
    this.unreserve(domain);
    this.#recalculate();
  }

  /** @returns 0, or EADDRINUSE when areas are not aligned for what it wants to do */
  addAccess(access: IoptAccess): number {
    this.#accesses.add(access);
    const errno = this.#recalculate();
    if (errno !== 0) this.#accesses.delete(access);
    return errno;
  }

  removeAccess(access: IoptAccess): void {
    this.#accesses.delete(access);
    this.#recalculate();
  }

  #conform(alignment: number): boolean {
    if (alignment <= this.#alignment) return true;
    for (const area of this.areas) {
      if (area.iova % alignment !== 0 || area.nrBytes % alignment !== 0 || area.pageOffset % alignment !== 0)
        return false;
    }
    return true;
  }

  /** iopt_calculate_iova_alignment. @returns 0, or EADDRINUSE with nothing changed */
  #recalculate(): number {
    let alignment = this.#small ? PAGE_SIZE : 1;
    for (const { pgsizeBitmap } of this.#domains) alignment = Math.max(alignment, 2 ** lowestBit(pgsizeBitmap));
    for (const access of this.#accesses) alignment = Math.max(alignment, access.alignment);
    if (!this.#conform(alignment)) return EADDRINUSE;
    this.#alignment = alignment;
    return 0;
  }

  /** Makes every leaf a CPU page from now on. @returns 0; EINVAL when domains hold larger ones already; EADDRINUSE */
  disableLargePages(): number {
    if (this.#small) return 0;
    if (this.#domains.length > 0 && this.areas.length > 0) return EINVAL;
    this.#small = true;
    const errno = this.#recalculate();
    if (errno !== 0) this.#small = false;
    return errno;
  }

  enableLargePages(): void {
    this.#small = false;
    this.#recalculate();
  }

  /**
   * Cuts the areas behind each of `lastIovas` (iopt_cut_iova): for VFIO's version 1, which may unmap any part.
   * @returns 0; EINVAL where a leaf might be cut, an in-kernel user has pages, or the cut is not aligned; EBUSY
   */
  cut(lastIovas: readonly number[]): number {
    for (const iova of lastIovas) {
      const area = this.areas.first(iova, iova);
      const errno = area === null ? 0 : this.#split(area, iova);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  #split(area: IoptArea, iova: number): number {
    // The first test is the kernel's: a cut behind the first byte of an area is none.
    if (iova === area.iova || iova === area.last) return 0;
    const { pages, storage } = area;
    if (area.preventAccess) return EBUSY;
    const start = iova + 1;
    if (start % this.#alignment !== 0 || area.byteAt(start) % this.#alignment !== 0) return EINVAL;
    if (area.nrAccesses > 0) return EINVAL;
    if (storage !== null && !this.#small) return EINVAL;
    const left = new IoptArea(area.iova, iova, pages, area.startByte, area.prot);
    const right = new IoptArea(start, area.last, pages, area.byteAt(start), area.prot);
    left.storage = right.storage = storage;
    this.areas.remove(area);
    this.areas.insert(left);
    this.areas.insert(right);
    pages.hold();
    if (storage !== null) {
      pages.removeDomainArea(area);
      pages.addDomainArea(left);
      pages.addDomainArea(right);
    }
    return 0;
  }
}
