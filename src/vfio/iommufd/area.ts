/**
 * An area: a range of IOVAs that shows a slice of some pages, with byte granularity. struct iopt_area of Linux 6.12
 * drivers/iommu/iommufd/io_pagetable.h. `index` counts the CPU pages of an IoptPages; ends called `last` are inclusive.
 */
import { PAGE_SIZE } from '../../base/index.ts';
import type { IommuDomain } from '../../iommu/index.ts';
import type { IoptPages } from './pages.ts';

export class IoptArea {
  readonly iova: number;
  readonly last: number;
  readonly pages: IoptPages;
  /** Byte of the pages that `iova` shows. */
  readonly startByte: number;
  /** IOMMU_READ, IOMMU_WRITE, IOMMU_CACHE. */
  readonly prot: number;
  /** Pins of in-kernel users. While there are any the area cannot go or be cut. */
  nrAccesses = 0;
  /** An unmap waits for those users: no new ones. */
  preventAccess = false;
  /** The domain its frames can be read back from; null while no domain holds it. */
  storage: IommuDomain | null = null;

  constructor(iova: number, last: number, pages: IoptPages, startByte: number, prot: number) {
    this.iova = iova;
    this.last = last;
    this.pages = pages;
    this.startByte = startByte;
    this.prot = prot;
  }

  get nrBytes(): number {
    return this.last - this.iova + 1;
  }

  get pageOffset(): number {
    return this.startByte % PAGE_SIZE;
  }

  get firstIndex(): number {
    return Math.floor(this.startByte / PAGE_SIZE);
  }

  get lastIndex(): number {
    return Math.floor((this.startByte + (this.last - this.iova)) / PAGE_SIZE);
  }

  byteAt(iova: number): number {
    return this.startByte + (iova - this.iova);
  }

  indexAt(iova: number): number {
    return Math.floor(this.byteAt(iova) / PAGE_SIZE);
  }

  /** First IOVA that shows a page. The first page may be shown from its middle on. */
  iovaOf(index: number): number {
    const first = this.firstIndex;
    return index === first ? this.iova : this.iova - this.pageOffset + (index - first) * PAGE_SIZE;
  }

  lastIovaOf(index: number): number {
    return index === this.lastIndex ? this.last : this.iovaOf(index + 1) - 1;
  }
}

/** The areas of an IO page table, by IOVA; they never overlap. */
export class AreaList {
  readonly #list: IoptArea[] = [];

  get length(): number {
    return this.#list.length;
  }

  [Symbol.iterator](): Iterator<IoptArea> {
    return this.#list[Symbol.iterator]();
  }

  /** Index of the first area that ends at or after an IOVA. */
  #lowerBound(iova: number): number {
    let low = 0;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#list[middle].last < iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first area that meets [start, last]. */
  first(start: number, last: number): IoptArea | null {
    const found = this.#list[this.#lowerBound(start)];
    return found !== undefined && found.iova <= last ? found : null;
  }

  /**
   * The areas that cover [start, last] without a gap, in order (iopt_for_each_contig_area); what is missing at the end shows
   * in the last one's `last`.
   */
  contiguous(start: number, last: number): IoptArea[] {
    const areas: IoptArea[] = [];
    let at = start;
    for (let index = this.#lowerBound(start); index < this.#list.length && at <= last; index++) {
      const area = this.#list[index];
      if (area.iova > at) break;
      areas.push(area);
      at = area.last + 1;
    }
    return areas;
  }

  insert(area: IoptArea): void {
    this.#list.splice(this.#lowerBound(area.iova), 0, area);
  }

  remove(area: IoptArea): void {
    const index = this.#lowerBound(area.iova);
    if (this.#list[index] !== area) throw new RangeError('remove: the area is not in the list');
    this.#list.splice(index, 1);
  }
}

/** Whether areas cover a range up to its last byte. */
export function covers(areas: readonly IoptArea[], last: number): boolean {
  const final = areas.at(-1);
  return final !== undefined && final.last >= last;
}
