/**
 * An IOVA space as Linux hands it out (struct iova_domain of drivers/iommu/iova.c, Linux 6.1): the same pages for the same
 * calls, on any stream of them. What decides is kept as it is there: where a search begins (below the range last placed,
 * not at the limit), when it begins again from the limit, what it remembers of a failure, and which CPU's magazine serves.
 *
 * Pages are of the granule. Limits are the last page allowed, inclusive.
 */
import { EINVAL, ENOENT, ENOMEM, PAGE_SIZE, TWO_32, log2Ceil } from '../base/index.ts';
import type { IovaPreset } from './iova-rcache.ts';
import { IOVA_LINUX_6_1, IovaRcache } from './iova-rcache.ts';
import { ANCHOR, IovaTree, NO_RANGE } from './iova-tree.ts';

/** Last page of a 64-bit address space. */
export const IOVA_LAST_PFN: number = 2 ** 52 - 1;

// The engine folds constants of this module, but loads those that cross modules; these are asked for in every call.
const LAST_PFN = 2 ** 52 - 1;
const LARGEST = 2 ** 53 - 1;
const CACHED_PAGES = 32;
const NO_MEMORY = -12;

export interface IovaDomainOptions {
  /** Lowest page handed out, at least 1: 0 means failure in Linux. Default 1. */
  readonly startPfn?: number;
  /** Bytes of a page, a power of two from 4096 on. Default 4096. */
  readonly granule?: number;
  /** CPUs that have magazines. Default 1. */
  readonly nrCpus?: number;
  /** Default IOVA_LINUX_6_1. */
  readonly preset?: IovaPreset;
}

/** What a search depends on besides the ranges; two allocators that agree in it go on alike. */
export interface IovaSearchState {
  /** First page of the range below which searches up to 4 GiB begin; Infinity for the top (cached32_node). */
  readonly below32: number;
  /** The same for all others (cached_node). */
  readonly below: number;
  /** Requests of this size and more fail at once below 4 GiB (max32_alloc_size). */
  readonly max32Pages: number;
  readonly nrRanges: number;
}

export class IovaDomain {
  readonly startPfn: number;
  readonly granule: number;
  readonly nrCpus: number;
  readonly preset: IovaPreset;
  /** First page above 4 GiB (dma_32bit_pfn). */
  readonly #pfn32: number;
  readonly #tree: IovaTree = new IovaTree();
  readonly #rcache: IovaRcache;
  readonly #offline: Uint8Array;
  #below32: number = ANCHOR;
  #below: number = ANCHOR;
  /** Requests of this size and more fail at once below 4 GiB: one failed, and nothing was freed there since. */
  protected max32Pages: number;
  /** Times that every cache was emptied since no place was left. */
  nrFlushes: number = 0;

  /** @throws RangeError for a start, granule or number of CPUs that no domain has */
  constructor(options: IovaDomainOptions = {}) {
    const { startPfn = 1, granule = PAGE_SIZE, nrCpus = 1, preset = IOVA_LINUX_6_1 } = options;
    if (!Number.isInteger(startPfn) || startPfn < 1 || startPfn > IOVA_LAST_PFN) {
      throw new RangeError(`the first page of a domain is at least 1, got ${startPfn}`);
    }
    if (!(granule >= PAGE_SIZE && granule <= TWO_32) || 2 ** log2Ceil(granule) !== granule) {
      throw new RangeError(`a granule is a power of two of at least ${PAGE_SIZE} bytes, got ${granule}`);
    }
    if (!Number.isInteger(nrCpus) || nrCpus < 1 || nrCpus > 8192) {
      throw new RangeError(`a domain serves 1 to 8192 CPUs, got ${nrCpus}`);
    }
    this.startPfn = startPfn;
    this.granule = granule;
    this.nrCpus = nrCpus;
    this.preset = preset;
    this.#pfn32 = TWO_32 / granule;
    this.max32Pages = this.#pfn32;
    this.#offline = new Uint8Array(nrCpus);
    this.#rcache = new IovaRcache(nrCpus, preset, (pfn) => {
      this.free(pfn);
    });
  }

  /** Ranges taken: handed out, reserved, or free in a magazine. */
  get nrRanges(): number {
    return this.#tree.nrRanges;
  }

  /** Ranges of 2^order pages that wait in magazines. */
  nrCached(order: number): number {
    return this.#rcache.nrCached(order);
  }

  /** Full magazines of ranges of 2^order pages in the depot. */
  nrInDepot(order: number): number {
    return this.#rcache.nrInDepot(order);
  }

  get searchState(): IovaSearchState {
    const firstOf = (range: number): number => (range === ANCHOR ? Infinity : this.#tree.first(range));
    return {
      below32: firstOf(this.#below32),
      below: firstOf(this.#below),
      max32Pages: this.max32Pages,
      nrRanges: this.nrRanges,
    };
  }

  /**
   * Takes a range past the magazines, aligned to its size rounded up to a power of two (alloc_iova, size_aligned).
   * @returns its first page; ENOMEM when there is none; EINVAL for a size or limit that is no number of pages
   */
  alloc(nrPages: number, limitPfn: number): number {
    if (!isPages(nrPages) || !isPfn(limitPfn)) return EINVAL;
    return this.place(nrPages, limitPfn, 2 ** log2Ceil(nrPages));
  }

  /** `alloc` at any page (alloc_iova without size_aligned). */
  allocUnaligned(nrPages: number, limitPfn: number): number {
    return isPages(nrPages) && isPfn(limitPfn) ? this.place(nrPages, limitPfn, 1) : EINVAL;
  }

  /**
   * Takes a range, from the CPU's magazines if it can, with all caches emptied before it fails (alloc_iova_fast). Fewer than
   * 32 pages are rounded up to a power of two. @returns as `alloc` @throws RangeError for a CPU the domain does not have
   */
  allocFast(nrPages: number, limitPfn: number, cpu: number): number {
    const pfn = this.tryAllocFast(nrPages, limitPfn, cpu);
    return pfn === NO_MEMORY ? this.#allocAfterFlush(nrPages, limitPfn) : pfn;
  }

  #allocAfterFlush(nrPages: number, limitPfn: number): number {
    this.flushCaches();
    return this.alloc(nrPages < CACHED_PAGES ? 2 ** log2Ceil(nrPages) : nrPages, limitPfn);
  }

  /** `allocFast` that leaves other magazines alone (flush_rcache = false). */
  tryAllocFast(nrPages: number, limitPfn: number, cpu: number): number {
    if (cpu >>> 0 !== cpu || cpu >= this.nrCpus) throw noCpu(cpu, this.nrCpus);
    if (!isCached(nrPages) || !(limitPfn >= 0 && limitPfn <= LAST_PFN)) return this.alloc(nrPages, limitPfn);
    const order = 32 - Math.clz32(nrPages - 1);
    const size = 1 << order;
    // Linux computes the highest start unsigned: a limit that cannot hold the size lets every cached range pass.
    const lastStart = limitPfn + 1 - size;
    const pfn = this.#rcache.get(cpu, order, lastStart < 0 ? LAST_PFN : lastStart);
    return pfn === 0 ? this.place(size, limitPfn, size) : pfn;
  }

  /** __alloc_and_insert_iova_range */
  protected place(nrPages: number, limitPfn: number, align: number): number {
    if (limitPfn < this.#pfn32 && nrPages >= this.max32Pages) return ENOMEM;
    const pfn = this.#search(nrPages, limitPfn, align);
    if (pfn < 0) {
      // Whatever the limit was, it is remembered for those below 4 GiB.
      this.max32Pages = nrPages;
      return ENOMEM;
    }
    this.#insert(pfn, pfn + nrPages - 1);
    return pfn;
  }

  /** Where a range goes, or -1. Sets the tree's `above` for an insertion there. */
  #search(nrPages: number, limitPfn: number, align: number): number {
    const tree = this.#tree;
    const end = limitPfn + 1;
    const start = end <= this.#pfn32 ? this.#below32 : this.#below;
    const pfn = tree.search(start, end, nrPages, align);
    if (pfn >= this.startPfn) return pfn;
    // Once more, from the limit down to where the first search began. (Linux compares the unsigned end of the range.)
    const startLast = tree.last(start);
    const again = startLast < end ? tree.search(ANCHOR, end, nrPages, align) : -1;
    return again <= startLast ? -1 : again;
  }

  /** Adds a range below the tree's `above`; the next search begins there. */
  #insert(pfn: number, last: number): void {
    const tree = this.#tree;
    const range = tree.insertBelow(tree.above, pfn, last);
    if (last < this.#pfn32) this.#below32 = range;
    else this.#below = range;
  }

  /** Where `alloc` would place a range now, without doing so; -1 for nowhere. */
  peek(nrPages: number, limitPfn: number): number {
    return isPages(nrPages) && isPfn(limitPfn) ? this.#search(nrPages, limitPfn, 2 ** log2Ceil(nrPages)) : -1;
  }

  /**
   * Takes the range at a page, as `alloc` that placed it there: for one who watches another allocator and does as that did.
   * @returns 0; EINVAL for no range of pages, or when something of it is taken
   */
  allocAt(pfn: number, nrPages: number): number {
    if (!isPages(nrPages) || !isPfn(pfn) || !isPfn(pfn + nrPages - 1)) return EINVAL;
    const tree = this.#tree;
    const last = pfn + nrPages - 1;
    const above = tree.firstReaching(pfn);
    if (tree.first(above) <= last) return EINVAL;
    tree.above = above;
    this.#insert(pfn, last);
    return 0;
  }

  /** Gives the range that holds a page back to the tree (free_iova). @returns 0, or ENOENT when none does */
  free(pfn: number): number {
    const tree = this.#tree;
    const range = pfn <= IOVA_LAST_PFN ? tree.find(pfn) : NO_RANGE;
    if (range === NO_RANGE) return ENOENT;
    // __cached_rbnode_delete_update: searches begin at the freed gap when it is the highest.
    const first = tree.first(range);
    if (range === this.#below32 || (tree.last(range) < this.#pfn32 && first >= tree.first(this.#below32))) {
      this.#below32 = tree.next(range);
    }
    if (first < this.#pfn32) this.max32Pages = this.#pfn32;
    if (first >= tree.first(this.#below)) this.#below = tree.next(range);
    tree.remove(range);
    return 0;
  }

  /**
   * Gives a range to a magazine of the CPU, or to the tree when it is too large (free_iova_fast). As in Linux nobody looks
   * whether the range was handed out: freeing twice hands it out twice. @param nrPages as asked for
   */
  freeFast(pfn: number, nrPages: number, cpu: number): number {
    if (cpu >>> 0 !== cpu || cpu >= this.nrCpus) throw noCpu(cpu, this.nrCpus);
    if (!isPfn(pfn)) return EINVAL;
    if (!isCached(nrPages)) return isPages(nrPages) ? this.free(pfn) : EINVAL;
    this.#rcache.insert(cpu, 32 - Math.clz32(nrPages - 1), pfn);
    return 0;
  }

  /**
   * Keeps [first, last] from being handed out (reserve_iova): what is taken in it already stays, and the gaps join the range
   * above them, or become a range where there is none. @returns 0, or EINVAL for no range of pages
   */
  reserve(first: number, last: number): number {
    if (!isPfn(first) || !isPfn(last) || first > last) return EINVAL;
    const tree = this.#tree;
    let from = first;
    let range = tree.firstReaching(first);
    while (tree.first(range) <= last) {
      if (from < tree.first(range)) tree.setFirst(range, from);
      if (last <= tree.last(range)) return 0;
      from = tree.last(range) + 1;
      range = tree.next(range);
    }
    tree.insertBelow(range, from, last);
    return 0;
  }

  /** Whether nothing of a range is taken; false for no range of pages. */
  isFree(pfn: number, nrPages: number): boolean {
    return isPages(nrPages) && isPfn(pfn) && this.#tree.first(this.#tree.firstReaching(pfn)) >= pfn + nrPages;
  }

  /** First page of the range that holds a page, or -1 (find_iova). */
  find(pfn: number): number {
    const range = pfn >= 0 && pfn <= IOVA_LAST_PFN ? this.#tree.find(pfn) : NO_RANGE;
    return range === NO_RANGE ? -1 : this.#tree.first(range);
  }

  /** Gives what all CPUs online and the depots hold back to the tree, as Linux does before an allocation fails. */
  flushCaches(): void {
    this.nrFlushes += 1;
    for (let cpu = 0; cpu < this.nrCpus; cpu++) {
      if (this.#offline[cpu] === 0) this.#rcache.flushCpu(cpu);
    }
    this.#rcache.flushDepots();
  }

  /** A CPU goes away, and its magazines are emptied (iova_cpuhp_dead). */
  cpuOffline(cpu: number): void {
    if (cpu >>> 0 !== cpu || cpu >= this.nrCpus) throw noCpu(cpu, this.nrCpus);
    this.#offline[cpu] = 1;
    this.#rcache.flushCpu(cpu);
  }

  cpuOnline(cpu: number): void {
    if (cpu >>> 0 !== cpu || cpu >= this.nrCpus) throw noCpu(cpu, this.nrCpus);
    this.#offline[cpu] = 0;
  }

  /** One run of the delayed work of Linux 6.7 and later; see IovaRcache.trim. */
  trimDepots(): boolean {
    let nrOnline = 0;
    for (const isOffline of this.#offline) nrOnline += 1 - isOffline;
    return this.#rcache.trim(nrOnline);
  }

  /** Gives everything back, reserved ranges too (put_iova_domain): as new. */
  clear(): void {
    this.#rcache.clear();
    this.#tree.clear();
    this.#below32 = ANCHOR;
    this.#below = ANCHOR;
    this.max32Pages = this.#pfn32;
  }
}

function isPages(nrPages: number): boolean {
  return nrPages >= 1 && nrPages <= LARGEST && Math.floor(nrPages) === nrPages;
}

function isPfn(pfn: number): boolean {
  return pfn >= 0 && pfn <= LAST_PFN && Math.floor(pfn) === pfn;
}

/** A number of pages for which there are magazines. */
function isCached(nrPages: number): boolean {
  return nrPages >>> 0 === nrPages && (nrPages - 1) >>> 0 < CACHED_PAGES;
}

function noCpu(cpu: number, nrCpus: number): RangeError {
  return new RangeError(`CPU ${cpu} of a domain with ${nrCpus}`);
}
