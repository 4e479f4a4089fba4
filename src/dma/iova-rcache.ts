/**
 * The caches above the IOVA tree (iova_rcache of drivers/iommu/iova.c, Linux 6.1): for each size of 1, 2, 4 ... 32 pages every
 * CPU has two magazines of free ranges, and all share a depot of full ones. A range in here is still taken in the tree.
 */

/** Sizes 2^0 to 2^5 pages (IOVA_RANGE_CACHE_MAX_SIZE). */
export const IOVA_CACHED_ORDERS = 6;
/** Largest range that is cached, in pages (iova_rcache_range). */
export const IOVA_CACHED_PAGES: number = 2 ** (IOVA_CACHED_ORDERS - 1);
/** How long after a magazine went to the depot the trimming runs, from Linux 6.7 on (IOVA_DEPOT_DELAY). */
export const IOVA_DEPOT_DELAY_MS = 100;

/** What differs between kernels. */
export interface IovaPreset {
  /** Ranges in a magazine (IOVA_MAG_SIZE). */
  readonly magazineSize: number;
  /** Full magazines a depot keeps, per size (MAX_GLOBAL_MAGS); Infinity where delayed work trims it instead. */
  readonly depotMagazines: number;
  /** A device whose first try below 4 GiB failed never tries again (pci_32bit_workaround). Else each call tries. */
  readonly lowFirstOnce: boolean;
}

export const IOVA_LINUX_6_1: IovaPreset = { magazineSize: 127, depotMagazines: 32, lowFirstOnce: false };
export const IOVA_LINUX_6_12: IovaPreset = { magazineSize: 127, depotMagazines: Infinity, lowFirstOnce: true };

/** Gives a range back to the tree, by its first page. */
export type FreeInTree = (pfn: number) => void;

/** Fields of a CPU's slot for a size: where its two magazines begin in `#pfns` and how many ranges each holds. */
const LOADED = 0;
const LOADED_USED = 1;
const PREVIOUS = 2;
const PREVIOUS_USED = 3;
/** A CPU's slots take 32 fields: eight of four, so that a field is found by shifts. Two slots stay empty. */
const CPU_SHIFT = 5;
const ORDER_SHIFT = 2;

export class IovaRcache {
  readonly #freeInTree: FreeInTree;
  readonly #magazineSize: number;
  readonly #depotMagazines: number;
  readonly #nrCpus: number;
  readonly #slots: Int32Array;
  /** First pages of ranges, `magazineSize` to a magazine. A magazine is known by where it begins here. */
  #pfns: Float64Array;
  /** Full magazines of a size, the last one taken first. */
  readonly #depots: number[][];
  /** Sizes whose trimming is due. */
  readonly #pending: Uint8Array = new Uint8Array(IOVA_CACHED_ORDERS);
  /** Magazines that are nobody's. */
  readonly #spare: number[] = [];

  constructor(nrCpus: number, preset: IovaPreset, freeInTree: FreeInTree) {
    this.#nrCpus = nrCpus;
    this.#freeInTree = freeInTree;
    this.#magazineSize = preset.magazineSize;
    this.#depotMagazines = preset.depotMagazines;
    this.#slots = new Int32Array(nrCpus << CPU_SHIFT);
    this.#pfns = new Float64Array(2 * nrCpus * IOVA_CACHED_ORDERS * preset.magazineSize);
    let magazine = 0;
    for (let cpu = 0; cpu < nrCpus; cpu++) {
      for (let order = 0; order < IOVA_CACHED_ORDERS; order++) {
        const slot = (cpu << CPU_SHIFT) + (order << ORDER_SHIFT);
        this.#slots[slot + LOADED] = magazine;
        this.#slots[slot + PREVIOUS] = magazine + preset.magazineSize;
        magazine += 2 * preset.magazineSize;
      }
    }
    this.#depots = Array.from({ length: IOVA_CACHED_ORDERS }, () => []);
  }

  /** Ranges of a size in all magazines. */
  nrCached(order: number): number {
    let nr = this.#depots[order].length * this.#magazineSize;
    for (let cpu = 0; cpu < this.#nrCpus; cpu++) {
      const slot = (cpu << CPU_SHIFT) + (order << ORDER_SHIFT);
      nr += this.#slots[slot + LOADED_USED] + this.#slots[slot + PREVIOUS_USED];
    }
    return nr;
  }

  /** Full magazines in the depot of a size. */
  nrInDepot(order: number): number {
    return this.#depots[order].length;
  }

  /** Takes a range that starts at or below a page (__iova_rcache_get). @returns its first page, or 0 */
  get(cpu: number, order: number, lastStart: number): number {
    const slots = this.#slots;
    const slot = (cpu << CPU_SHIFT) + (order << ORDER_SHIFT);
    if (slots[slot + LOADED_USED] === 0 && !this.#reload(slot, order)) return 0;
    const pfns = this.#pfns;
    const used = slots[slot + LOADED_USED] - 1;
    const base = slots[slot + LOADED];
    const pfn = pfns[base + used];
    if (pfn > lastStart) return this.#getLower(slot, lastStart);
    slots[slot + LOADED_USED] = used;
    return pfn;
  }

  /** The last one put in that is low enough; the top one takes its place (iova_magazine_pop). */
  #getLower(slot: number, lastStart: number): number {
    const pfns = this.#pfns;
    const base = this.#slots[slot + LOADED];
    const top = base + this.#slots[slot + LOADED_USED] - 1;
    let at = top - 1;
    while (at >= base && pfns[at] > lastStart) at -= 1;
    if (at < base) return 0;
    const pfn = pfns[at];
    pfns[at] = pfns[top];
    this.#slots[slot + LOADED_USED] = top - base;
    return pfn;
  }

  /** Puts a magazine that is not empty in the place of an empty one. */
  #reload(slot: number, order: number): boolean {
    const slots = this.#slots;
    if (slots[slot + PREVIOUS_USED] > 0) {
      this.#swap(slot);
      return true;
    }
    const full = this.#depots[order].pop();
    if (full === undefined) return false;
    this.#spare.push(slots[slot + LOADED]);
    slots[slot + LOADED] = full;
    slots[slot + LOADED_USED] = this.#magazineSize;
    return true;
  }

  #swap(slot: number): void {
    const slots = this.#slots;
    const magazine = slots[slot + LOADED];
    const used = slots[slot + LOADED_USED];
    slots[slot + LOADED] = slots[slot + PREVIOUS];
    slots[slot + LOADED_USED] = slots[slot + PREVIOUS_USED];
    slots[slot + PREVIOUS] = magazine;
    slots[slot + PREVIOUS_USED] = used;
  }

  /** Keeps a freed range (__iova_rcache_insert). May give a magazine of others back to the tree, when the depot is full. */
  insert(cpu: number, order: number, pfn: number): void {
    const slots = this.#slots;
    const slot = (cpu << CPU_SHIFT) + (order << ORDER_SHIFT);
    const used = slots[slot + LOADED_USED];
    if (used === this.#magazineSize) {
      this.#insertInOther(slot, order, pfn);
      return;
    }
    this.#pfns[slots[slot + LOADED] + used] = pfn;
    slots[slot + LOADED_USED] = used + 1;
  }

  /** `insert` when the loaded magazine is full. */
  #insertInOther(slot: number, order: number, pfn: number): void {
    const slots = this.#slots;
    let surplus = -1;
    if (slots[slot + PREVIOUS_USED] < this.#magazineSize) {
      this.#swap(slot);
    } else {
      const depot = this.#depots[order];
      if (depot.length < this.#depotMagazines) depot.push(slots[slot + LOADED]);
      else surplus = slots[slot + LOADED];
      this.#pending[order] = 1;
      slots[slot + LOADED] = this.#spareMagazine();
      slots[slot + LOADED_USED] = 0;
    }
    this.#pfns[slots[slot + LOADED] + slots[slot + LOADED_USED]] = pfn;
    slots[slot + LOADED_USED] += 1;
    if (surplus >= 0) this.#giveUp(surplus);
  }

  /** Gives the ranges of a CPU back to the tree (free_cpu_cached_iovas). */
  flushCpu(cpu: number): void {
    const slots = this.#slots;
    for (let order = 0; order < IOVA_CACHED_ORDERS; order++) {
      const slot = (cpu << CPU_SHIFT) + (order << ORDER_SHIFT);
      this.#free(slots[slot + LOADED], slots[slot + LOADED_USED]);
      this.#free(slots[slot + PREVIOUS], slots[slot + PREVIOUS_USED]);
      slots[slot + LOADED_USED] = 0;
      slots[slot + PREVIOUS_USED] = 0;
    }
  }

  /** Gives the ranges of all depots back to the tree (free_global_cached_iovas), in an order that makes no difference there. */
  flushDepots(): void {
    for (const depot of this.#depots) {
      for (const magazine of depot) this.#giveUp(magazine);
      depot.length = 0;
    }
  }

  /**
   * One run of the work that trims depots without a limit (iova_depot_work_func): of each size with more magazines than there
   * are CPUs online, one goes back to the tree. @returns true when it must run again after IOVA_DEPOT_DELAY_MS
   */
  trim(nrOnline: number): boolean {
    if (this.#depotMagazines !== Infinity) return false;
    let again = false;
    for (const [order, depot] of this.#depots.entries()) {
      if (this.#pending[order] === 0) continue;
      const magazine = depot.length > nrOnline ? depot.pop() : undefined;
      this.#pending[order] = magazine === undefined ? 0 : 1;
      if (magazine === undefined) continue;
      this.#giveUp(magazine);
      again = true;
    }
    return again;
  }

  /** Forgets everything, with no word to the tree (free_iova_rcaches). */
  clear(): void {
    for (const depot of this.#depots) this.#spare.push(...depot.splice(0));
    for (let slot = 0; slot < this.#slots.length; slot += 1 << ORDER_SHIFT) {
      this.#slots[slot + LOADED_USED] = 0;
      this.#slots[slot + PREVIOUS_USED] = 0;
    }
    this.#pending.fill(0);
  }

  /** Frees the ranges of a full magazine, and the magazine. */
  #giveUp(magazine: number): void {
    this.#free(magazine, this.#magazineSize);
    this.#spare.push(magazine);
  }

  /** iova_magazine_free_pfns */
  #free(magazine: number, used: number): void {
    for (let at = magazine; at < magazine + used; at++) this.#freeInTree(this.#pfns[at]);
  }

  #spareMagazine(): number {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    const end = this.#pfns.length;
    const pfns = new Float64Array(2 * end);
    pfns.set(this.#pfns);
    this.#pfns = pfns;
    for (let at = 2 * end - this.#magazineSize; at > end; at -= this.#magazineSize) this.#spare.push(at);
    return end;
  }
}
