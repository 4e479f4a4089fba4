/**
 * An in-kernel user of an IOAS, an emulated device for one, which reads memory behind IOVAs with the CPU:
 * struct iommufd_access of Linux 6.12 drivers/iommu/iommufd/device.c.
 */
import { EFAULT, EINVAL, ENOENT, EOVERFLOW, EPERM, PAGE_SIZE } from '../../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import { LAST_ADDRESS, lastByte, toWord } from '../address-word.ts';
import type { IoptArea } from './area.ts';
import { covers } from './area.ts';
import type { IoptAccess } from './io-pagetable.ts';
import type { Ioas } from './ioas.ts';
import type { FdObject } from './objects.ts';
import type { IoptPages } from './pages.ts';
import { PfnReader } from './reader.ts';

export interface AccessOps {
  /** Required of a user that pins: gives up all pins in the range before it returns. */
  unmap?(iova: number, nrBytes: number): void;
}

export interface AccessRw {
  readonly write?: boolean;
  /** Through the frames a device would see, instead of the process's own view. */
  readonly slow?: boolean;
}

export class IommufdAccess implements FdObject, IoptAccess {
  readonly type = 'access';
  id = 0;
  /** The driver that created it, until `release`. */
  nrUsers = 1;
  readonly alignment: number;
  readonly #ops: AccessOps;
  readonly #find: (id: number) => Ioas | undefined;
  #ioas: Ioas | null = null;
  /** Where pins may still be given back while the IOAS changes. */
  #unpinFrom: Ioas | null = null;

  /** @param pins whether it will use `pinPages`: the IOAS must then be page-aligned */
  constructor(find: (id: number) => Ioas | undefined, ops: AccessOps, pins: boolean) {
    if (pins && ops.unmap === undefined) throw new RangeError('a user that pins must listen to unmaps');
    this.#find = find;
    this.#ops = ops;
    this.alignment = pins ? PAGE_SIZE : 1;
  }

  unmapped(iova: number, nrBytes: number): void {
    this.#ops.unmap?.(iova, nrBytes);
  }

  /** @returns 0; EINVAL when it is attached; ENOENT; EADDRINUSE when the IOAS has areas it could not pin */
  attach(ioasId: number): number {
    return this.#ioas === null ? this.#changeTo(ioasId) : EINVAL;
  }

  /** Another IOAS, after giving up all pins in the old one. @returns as `attach`, ENOENT when it has none */
  replace(ioasId: number): number {
    return this.#ioas === null ? ENOENT : this.#changeTo(ioasId);
  }

  #changeTo(ioasId: number): number {
    const ioas = this.#find(ioasId);
    return ioas === undefined ? ENOENT : this.#change(ioas);
  }

  detach(): void {
    if (this.#ioas !== null) this.#change(null);
  }

  #change(next: Ioas | null): number {
    const current = this.#ioas;
    if (current === next) return 0;
    // No new pins meanwhile; the old ones can be given back through `#unpinFrom`.
    this.#ioas = null;
    if (next !== null) {
      const errno = next.table.addAccess(this);
      if (errno !== 0) {
        this.#ioas = current;
        return errno;
      }
      next.nrUsers += 1;
    }
    if (current !== null) {
      this.unmapped(0, LAST_ADDRESS);
      current.table.removeAccess(this);
      current.nrUsers -= 1;
    }
    this.#ioas = this.#unpinFrom = next;
    return 0;
  }

  /** The areas of a range. @returns EINVAL, EOVERFLOW, or ENOENT without an IOAS */
  #areas(iova: number, nrBytes: number): { areas: IoptArea[]; start: number; last: number } | number {
    const start = toWord(iova);
    const length = toWord(nrBytes);
    if (length === 0) return EINVAL;
    const last = lastByte(start, length);
    if (Number.isNaN(last)) return EOVERFLOW;
    if (this.#ioas === null) return ENOENT;
    return { areas: this.#ioas.table.areas.contiguous(start, last), start, last };
  }

  /**
   * Frames of all pages of a range, until `unpinPages` with the same range.
   * @returns 0; EINVAL (not on page boundaries, or being unmapped), EPERM, ENOENT (a gap), EFAULT, ENOMEM, with nothing pinned
   */
  pinPages(iova: number, nrBytes: number, pfns: Float64Array, write: boolean = false): number {
    const found = this.#areas(iova, nrBytes);
    if (typeof found === 'number') return found;
    const { areas, start, last } = found;
    const taken: IoptArea[] = [];
    let errno = 0;
    let offset = 0;
    for (const area of areas) {
      const from = Math.max(area.iova, start);
      if (area.preventAccess || !onPageBoundaries(area, from, last)) errno = EINVAL;
      else if (!allows(area, write)) errno = EPERM;
      else if (write && !area.pages.writable) errno = EPERM;
      else {
        const first = area.indexAt(from);
        const final = area.indexAt(Math.min(area.last, last));
        errno = area.pages.addAccess(first, final, pfns, offset);
        offset += final - first + 1;
      }
      if (errno !== 0) break;
      area.nrAccesses += 1;
      taken.push(area);
    }
    if (errno === 0 && !covers(areas, last)) errno = ENOENT;
    if (errno !== 0) for (const area of taken) unpinArea(area, start, last);
    return errno;
  }

  /** Ends one `pinPages` of exactly this range. @throws RangeError when there was none */
  unpinPages(iova: number, nrBytes: number): void {
    if (this.#unpinFrom === null) throw new RangeError('unpinPages: not attached');
    const last = lastByte(iova, nrBytes);
    const areas = this.#unpinFrom.table.areas.contiguous(iova, last);
    if (!covers(areas, last)) throw new RangeError('unpinPages: the range is not mapped');
    for (const area of areas) unpinArea(area, iova, last);
  }

  /** Copies between `data` and what is behind an IOVA. @returns 0, EINVAL, EOVERFLOW, EPERM, ENOENT (a gap: what lies before it is copied), EFAULT */
  rw(iova: number, data: Uint8Array, how: AccessRw = {}): number {
    const found = this.#areas(iova, data.length);
    if (typeof found === 'number') return found;
    const { areas, start, last } = found;
    const write = how.write === true;
    let done = 0;
    for (const area of areas) {
      if (area.preventAccess) return EINVAL;
      if (!allows(area, write)) return EPERM;
      const from = Math.max(area.iova, start);
      const part = data.subarray(done, done + Math.min(area.last, last) - from + 1);
      const errno = copyPages(area.pages, area.byteAt(from), part, write, how.slow === true);
      if (errno !== 0) return errno;
      done += part.length;
    }
    return covers(areas, last) ? 0 : ENOENT;
  }

  /** The driver is done with it: gives everything back and lets the object go. The caller has stopped using it. */
  release(): void {
    this.nrUsers = 0;
  }

  destroy(): void {
    this.detach();
  }
}

/** IOMMUFD_ACCESS_RW_WRITE asks for write rights, reading for read rights: a write-only area cannot be read. */
function allows(area: IoptArea, write: boolean): boolean {
  return (area.prot & (write ? IOMMU_WRITE : IOMMU_READ)) !== 0;
}

/** Whether an area's part of a range begins on a page, and ends on one unless the range ends there. */
function onPageBoundaries(area: IoptArea, from: number, last: number): boolean {
  if (area.byteAt(from) % PAGE_SIZE !== 0) return false;
  return area.last >= last || area.byteAt(area.last) % PAGE_SIZE === PAGE_SIZE - 1;
}

function unpinArea(area: IoptArea, start: number, last: number): void {
  area.pages.removeAccess(area.indexAt(Math.max(area.iova, start)), area.indexAt(Math.min(area.last, last)));
  area.nrAccesses -= 1;
}

/** iopt_pages_rw_access. */
function copyPages(pages: IoptPages, startByte: number, data: Uint8Array, write: boolean, slow: boolean): number {
  if (write && !pages.writable) return EPERM;
  const { memory } = pages.process;
  if (!slow && !memory.exited) return memory.copyUser(pages.vaddr + startByte, data, write);
  const first = Math.floor(startByte / PAGE_SIZE);
  const last = Math.floor((startByte + data.length - 1) / PAGE_SIZE);
  if (first === last && !memory.exited) {
    // One page: pinned by itself for as long as the copy takes, whoever holds it besides.
    const pfns = new Float64Array(1);
    const nr = memory.pin(pages.vaddr + first * PAGE_SIZE, 1, write, pfns);
    if (nr < 1) return nr < 0 ? nr : EFAULT;
    memory.copyFrame(pfns[0], startByte % PAGE_SIZE, data, write);
    memory.unpin(pfns[0], 1, write);
    return 0;
  }
  const reader = new PfnReader(pages, first, last);
  let offset = startByte % PAGE_SIZE;
  let done = 0;
  let errno = reader.next();
  while (errno === 0 && !reader.done) {
    reader.runs.slice(0, reader.runs.total, (pfn, nrPages) => {
      for (let page = 0; page < nrPages; page++) {
        const part = data.subarray(done, done + Math.min(data.length - done, PAGE_SIZE - offset));
        memory.copyFrame(pfn + page, offset, part, write);
        done += part.length;
        offset = 0;
      }
    });
    reader.releaseBatch();
    errno = reader.next();
  }
  if (errno !== 0) reader.releasePins();
  pages.settle();
  return errno;
}
