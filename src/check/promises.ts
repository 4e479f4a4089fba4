/**
 * What callers were promised, kept naively: per address space the pages, per device the address space. Filled by the stage from
 * the calls and their results, never from tables or caches.
 */
import type { Space } from './space.ts';

/**
 * A page that was mapped at least once. `mapped`: leads to `pfn` with rights `prot`. `queued`: unmapped lazily, may lead there
 * until the flush. `gone`: leads nowhere.
 */
export interface PagePromise {
  state: 'mapped' | 'queued' | 'gone';
  pfn: number;
  prot: number;
}

export class Promises {
  /** By IOVA page number. Pages that are absent were never mapped and lead nowhere. */
  readonly pages: Map<Space, Map<number, PagePromise>> = new Map();
  /** By requester id; null: detached, its DMA is blocked. */
  readonly devices: Map<number, Space | null> = new Map();

  of(space: Space): Map<number, PagePromise> {
    let pages = this.pages.get(space);
    if (pages === undefined) {
      pages = new Map();
      this.pages.set(space, pages);
    }
    return pages;
  }

  mapped(space: Space, page: number, pfn: number, prot: number): void {
    const pages = this.of(space);
    const found = pages.get(page);
    if (found === undefined) {
      pages.set(page, { state: 'mapped', pfn, prot });
      return;
    }
    found.state = 'mapped';
    found.pfn = pfn;
    found.prot = prot;
  }

  /** Mapped pages of a range left; with `queued` they may still be reached. */
  unmapped(space: Space, firstPage: number, nrPages: number, queued: boolean): void {
    const pages = this.of(space);
    for (let page = firstPage; page < firstPage + nrPages; page++) {
      const found = pages.get(page);
      if (found?.state === 'mapped') found.state = queued ? 'queued' : 'gone';
    }
  }

  /** A flush queue flushed a range of queued pages. */
  flushed(space: Space, firstPage: number, nrPages: number): void {
    const pages = this.of(space);
    for (let page = firstPage; page < firstPage + nrPages; page++) {
      const found = pages.get(page);
      if (found?.state === 'queued') found.state = 'gone';
    }
  }

  /** Everything queued in a space was flushed. */
  allFlushed(space: Space): void {
    for (const found of this.of(space).values()) if (found.state === 'queued') found.state = 'gone';
  }

  /** A space lost all its mappings. */
  cleared(space: Space): void {
    for (const found of this.of(space).values()) found.state = 'gone';
  }
}
