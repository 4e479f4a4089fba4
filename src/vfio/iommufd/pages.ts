/**
 * The pages behind areas, pinned at most once each however many areas, domains and in-kernel users share them:
 * struct iopt_pages of Linux 6.12 drivers/iommu/iommufd/pages.c.
 *
 * A frame is kept in up to three places, asked in this order: the store of in-kernel users (the kernel's xarray), a domain
 * whose page table has it, the process. A page that is in neither of the first two is not pinned.
 */
import { EFAULT, EINVAL, EOVERFLOW, PAGE_SIZE, alignDown } from '../../base/index.ts';
import type { Iommu } from '../../iommu/index.ts';
import { LAST_ADDRESS } from '../address-word.ts';
import type { LockAccount, Process } from '../process.ts';
import type { IoptArea } from './area.ts';
import type { PfnRuns } from './runs.ts';

/** Pins of in-kernel users, by the exact range they asked for (struct iopt_pages_access). */
interface PagesAccess {
  readonly firstIndex: number;
  readonly lastIndex: number;
  nrUsers: number;
}

/** Where the frames of a stretch of pages are. */
export interface PagesSpan {
  readonly kept: 'store' | 'domain' | 'process';
  readonly lastIndex: number;
  /** For `domain`. */
  readonly area: IoptArea | null;
}

/** What is the same for all pages of an IO page table. */
export interface PagesEnvironment {
  readonly core: Iommu;
  /** Who is charged: nobody, the user, or the process as VFIO does it. */
  readonly accountMode: 'user' | 'mm';
  /** Bytes that a batch may take; see runs.ts. */
  readonly memoryLimit: number;
}

export class IoptPages {
  readonly process: Process;
  /** Page-aligned start in the process. */
  readonly vaddr: number;
  readonly nrPages: number;
  readonly writable: boolean;
  readonly environment: PagesEnvironment;
  /** Frames of pages that in-kernel users hold, by index. */
  readonly store: Map<number, number> = new Map<number, number>();
  readonly #account: LockAccount | null;
  readonly #accesses: PagesAccess[] = [];
  /** Areas whose frames are in a domain. */
  readonly #domainAreas = new Set<IoptArea>();
  #nrRefs = 1;
  #nrPinned = 0;
  #nrCharged = 0;

  private constructor(
    process: Process,
    vaddr: number,
    nrPages: number,
    writable: boolean,
    environment: PagesEnvironment,
  ) {
    this.process = process;
    this.vaddr = vaddr;
    this.nrPages = nrPages;
    this.writable = writable;
    this.environment = environment;
    const account = environment.accountMode === 'mm' ? process.account : (process.userAccount ?? process.account);
    this.#account = process.account.privileged ? null : account;
  }

  /** @returns EINVAL for no or too many bytes, EOVERFLOW past the end of the process's addresses */
  static create(
    process: Process,
    vaddr: number,
    nrBytes: number,
    writable: boolean,
    environment: PagesEnvironment,
  ): IoptPages | number {
    if (nrBytes === 0 || nrBytes > LAST_ADDRESS - PAGE_SIZE) return EINVAL;
    if (vaddr + nrBytes > LAST_ADDRESS) return EOVERFLOW;
    const start = alignDown(vaddr, PAGE_SIZE);
    const nrPages = Math.ceil((nrBytes + (vaddr - start)) / PAGE_SIZE);
    return new IoptPages(process, start, nrPages, writable, environment);
  }

  get nrPinned(): number {
    return this.#nrPinned;
  }

  hold(): void {
    this.#nrRefs += 1;
  }

  /** @throws Error when the last reference goes while pages are pinned: a leak */
  put(): void {
    this.#nrRefs -= 1;
    if (this.#nrRefs === 0 && (this.#nrPinned !== 0 || this.#nrCharged !== 0 || this.#domainAreas.size > 0)) {
      throw new Error(`${this.#nrPinned} pages are still pinned, ${this.#nrCharged} charged`);
    }
  }

  /** A domain has (or no longer has) the frames of an area. */
  addDomainArea(area: IoptArea): void {
    this.#domainAreas.add(area);
  }

  removeDomainArea(area: IoptArea): void {
    this.#domainAreas.delete(area);
  }

  /** Where the frames from `index` on are, for as far as the answer is the same, `last` at most. */
  spanAt(index: number, last: number): PagesSpan {
    let end = last;
    let storeLast = -1;
    for (const { firstIndex, lastIndex } of this.#accesses) {
      if (firstIndex <= index && lastIndex >= index) storeLast = Math.max(storeLast, lastIndex);
      else if (firstIndex > index) end = Math.min(end, firstIndex - 1);
    }
    if (storeLast >= 0) return { kept: 'store', lastIndex: Math.min(last, storeLast), area: null };
    let found: IoptArea | null = null;
    for (const area of this.#domainAreas) {
      if (area.firstIndex <= index && area.lastIndex >= index) found ??= area;
      else if (area.firstIndex > index && found === null) end = Math.min(end, area.firstIndex - 1);
    }
    if (found !== null) return { kept: 'domain', lastIndex: Math.min(end, found.lastIndex), area: found };
    return { kept: 'process', lastIndex: end, area: null };
  }

  /** Stretches of [first, last] that nobody holds. */
  *unheld(first: number, last: number): Generator<{ readonly first: number; readonly last: number }> {
    for (let index = first; index <= last;) {
      const span = this.spanAt(index, last);
      if (span.kept === 'process') yield { first: index, last: span.lastIndex };
      index = span.lastIndex + 1;
    }
  }

  /** Frame of a page that a domain has. */
  pfnInDomain(area: IoptArea, index: number): number {
    const iova = area.iovaOf(index);
    const { storage } = area;
    const paddr = storage === null ? -1 : this.environment.core.iovaToPhys(storage, iova);
    if (paddr < 0) throw new Error('a page of an area is missing in its domain: somebody else unmapped it');
    return Math.floor(paddr / PAGE_SIZE);
  }

  /** Pins pages from `index` on. @returns how many, or a negative errno */
  pin(index: number, nrPages: number, pfns: Float64Array): number {
    const { memory } = this.process;
    if (memory.exited) return EFAULT;
    const nr = memory.pin(this.vaddr + index * PAGE_SIZE, nrPages, this.writable, pfns);
    if (nr > 0) this.#nrPinned += nr;
    return nr;
  }

  unpin(pfn: number, nrPages: number): void {
    this.#nrPinned -= nrPages;
    this.process.memory.unpin(pfn, nrPages, this.writable);
  }

  /** Unpins frames [first, first + nr) of a batch. */
  unpinRuns(runs: PfnRuns, first: number, nr: number): void {
    runs.slice(first, nr, (pfn, nrPages) => this.unpin(pfn, nrPages));
  }

  /**
   * Brings the account up to what is pinned: after the work, since what will be pinned is hard to know before.
   * @returns 0, or ENOMEM: the caller then undoes what it pinned, and calls again
   */
  settle(): number {
    const difference = this.#nrPinned - this.#nrCharged;
    const errno = difference === 0 || this.#account === null ? 0 : this.#account.charge(difference);
    if (errno === 0) this.#nrCharged = this.#nrPinned;
    return errno;
  }

  /**
   * An in-kernel user takes pages [first, last]; their frames go to `pfns` from `offset` on (iopt_area_add_access).
   * @returns 0 or a negative errno with nothing taken
   */
  addAccess(first: number, last: number, pfns: Float64Array, offset: number): number {
    const held = this.#findAccess(first, last);
    if (held === undefined) {
      const errno = this.#fillStore(first, last);
      if (errno !== 0) return errno;
      this.#accesses.push({ firstIndex: first, lastIndex: last, nrUsers: 1 });
    } else {
      held.nrUsers += 1;
    }
    for (let index = first; index <= last; index++) pfns[offset + index - first] = this.store.get(index) ?? -1;
    return 0;
  }

  #findAccess(first: number, last: number): PagesAccess | undefined {
    return this.#accesses.find(({ firstIndex, lastIndex }) => firstIndex === first && lastIndex === last);
  }

  /** iopt_pages_fill_xarray: on failure the store is as it was. */
  #fillStore(first: number, last: number): number {
    const got = new Float64Array(last - first + 1);
    let errno = 0;
    let done = first;
    while (done <= last && errno === 0) {
      const span = this.spanAt(done, last);
      if (span.kept === 'process') {
        const nr = this.pin(done, span.lastIndex - done + 1, got);
        if (nr < 0) {
          errno = nr;
          break;
        }
        for (let page = 0; page < nr; page++) this.store.set(done + page, got[page]);
        done += nr;
        continue;
      }
      if (span.kept === 'domain' && span.area !== null) {
        for (let index = done; index <= span.lastIndex; index++)
          this.store.set(index, this.pfnInDomain(span.area, index));
      }
      done = span.lastIndex + 1;
    }
    if (errno === 0) errno = this.settle();
    if (errno !== 0 && done > first) this.#emptyStore(first, done - 1);
    return errno;
  }

  /** iopt_pages_unfill_xarray: the access is no longer in the list. */
  #emptyStore(first: number, last: number): void {
    for (let index = first; index <= last;) {
      const span = this.spanAt(index, last);
      for (; index <= span.lastIndex; index++) {
        const pfn = this.store.get(index);
        if (span.kept === 'store' || pfn === undefined) continue;
        this.store.delete(index);
        if (span.kept === 'process') this.unpin(pfn, 1);
      }
    }
    this.settle();
  }

  /** Ends one `addAccess` of exactly this range. @throws RangeError when there is none */
  removeAccess(first: number, last: number): void {
    const held = this.#findAccess(first, last);
    if (held === undefined) throw new RangeError(`no access to pages ${first} to ${last}`);
    held.nrUsers -= 1;
    if (held.nrUsers > 0) return;
    this.#accesses.splice(this.#accesses.indexOf(held), 1);
    this.#emptyStore(first, last);
  }
}
