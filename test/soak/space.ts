/**
 * The reference of the soak: an address space is what naive bookkeeping says is mapped in it, page by page. It knows nothing of
 * allocators, runs, leaves or caches.
 */

export const PAGE = 4096;
export const READ = 1;
export const WRITE = 2;

/** A range that one device must not have translated, inside of what VFIO and iommufd map. */
export const RESERVED_PAGE = 0x50000;
export const RESERVED_PAGES = 256;
/** Mappings begin in here, which the reserved range of a device cuts; and, large ones, behind it. */
export const WINDOW_PAGE: number = RESERVED_PAGE - 500;
export const WINDOW_PAGES = 600;
export const LARGE_PAGE = 0x60000;

/** Keeps addresses that were unmapped, to look at again. */
const NR_RECENT = 64;

export class Space {
  readonly name: string;
  /** IOVA page -> frame * 4 + rights. */
  readonly pages: Map<number, number> = new Map();
  /** Unmapped lazily and not flushed: a device may still get there, nobody else may be given the IOVA. */
  readonly pending: Map<number, number> = new Map();
  /** Requester ids that use the space now. */
  sids: readonly number[] = [];
  readonly #recent: Float64Array = new Float64Array(NR_RECENT);
  #nrRecent = 0;

  constructor(name: string) {
    this.name = name;
  }

  map(page: number, frame: number, rights: number): void {
    if (this.pages.has(page) || this.pending.has(page)) {
      throw new Error(`${this.name}: IOVA page 0x${page.toString(16)} is in use and was given away again`);
    }
    this.pages.set(page, frame * 4 + rights);
  }

  /** @param lazy the flush is not due yet */
  unmap(page: number, lazy: boolean): void {
    const entry = this.pages.get(page);
    if (entry === undefined)
      throw new Error(`${this.name}: the test unmaps page 0x${page.toString(16)}, which is not mapped`);
    this.pages.delete(page);
    if (lazy) this.pending.set(page, entry);
    this.#recent[this.#nrRecent % NR_RECENT] = page;
    this.#nrRecent += 1;
  }

  /** A page that was unmapped not long ago; -1 when none was. */
  recent(dice: number): number {
    return this.#nrRecent === 0 ? -1 : this.#recent[dice % Math.min(this.#nrRecent, NR_RECENT)];
  }

  isFree(page: number, nr: number): boolean {
    for (let at = page; at < page + nr; at++) if (this.pages.has(at)) return false;
    return true;
  }
}
