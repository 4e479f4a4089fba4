/**
 * Paging-structure caches: non-leaf entries by domain. VT-d rev. 4.1 sections 6.2.4 (what they hold) and 6.5.1.2, 6.5.2.3
 * (what drops them: any IOTLB invalidation of the domain that covers them, unless it carries the IH hint).
 *
 * One SetCache for all levels; an entry's class is the level of the table entry it copies: 2 covers 2 MiB of IOVA, 3 covers
 * 1 GiB, 4 covers 512 GiB. An entry holds either the next table (slot, rights ANDed from the root down) or, in caching mode,
 * the fault that the table entry gives.
 */
import type { PhysMem } from '../../mem/index.ts';
import { dropRange } from '../tlb/range.ts';
import { cacheKey, keyClass, keyPageHi, keyTag, type SetCache, tagSalt } from '../tlb/set-cache.ts';

// Local constants for speed, see set-cache.ts.
const SALT: number = tagSalt(1);
const DATA_SLOT = 2;
const DATA_RIGHTS = 3;
/** Offsets of an entry's words, and the key of level 2 without domain and page, for the owner of the short walk. */
export const STRUCTURE_SLOT: number = DATA_SLOT;
export const STRUCTURE_RIGHTS: number = DATA_RIGHTS;
export const LEAF_TABLE_KEY: number = cacheKey(0, 2, 0);

/** One cached non-leaf entry, decoded for people. */
export interface StructureEntry {
  readonly domain: number;
  readonly level: number;
  /** First byte of the IOVA range it covers. */
  readonly iova: number;
  /** Frame of the next table, or -1 for an entry that faults. */
  readonly tablePfn: number;
  readonly rights: number;
  /** Fault that it gives, or 0. */
  readonly reason: number;
}

export class PageCache {
  /** For the walks, which probe and fill without a call in between. */
  readonly cache: SetCache;

  readonly #mem: PhysMem;

  constructor(cache: SetCache, mem: PhysMem) {
    this.cache = cache;
    this.#mem = mem;
  }

  /** Keeps the fault that a table entry gives. */
  holdFault(domain: number, level: number, pageHi: number, pageLo: number, reason: number): void {
    const { cache } = this;
    const shift = (level - 1) * 9;
    const page = (pageLo >>> shift) | (pageHi << (32 - shift));
    const at = cache.insert(page, cacheKey(domain, level, pageHi >>> shift), tagSalt(domain));
    cache.words[at + DATA_SLOT] = -1;
    cache.words[at + DATA_RIGHTS] = reason << 2;
  }

  /** Drops the domain's entries of all levels that cover any of 2^maskLg2 pages. The page numbers are aligned to them. */
  invalidatePages(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    const cache = this.cache;
    const salt = Math.imul(domain, SALT);
    for (let level = 2; level <= 4; level++) {
      if (cache.nrLive(level) === 0) continue;
      const shift = (level - 1) * 9;
      const page = (pageLo >>> shift) | (pageHi << (32 - shift));
      const hi = pageHi >>> shift;
      if (maskLg2 <= shift) cache.drop(page, (domain << 16) | (level << 10) | (hi << 1) | 1, salt);
      else dropRange(cache, domain, level, hi, page, maskLg2 - shift, salt);
    }
  }

  invalidateDomain(domain: number): void {
    this.cache.dropTag(domain);
  }

  invalidateAll(): void {
    this.cache.clear();
  }

  /** What is held, for tests and people. */
  entries(): StructureEntry[] {
    const found: StructureEntry[] = [];
    this.cache.forEach((words, at) => {
      const key = words[at + 1];
      const level = keyClass(key);
      const slot = words[at + DATA_SLOT];
      found.push({
        domain: keyTag(key),
        level,
        iova: (keyPageHi(key) * 4294967296 + (words[at] >>> 0)) * 4096 * 512 ** (level - 1),
        tablePfn: slot < 0 ? -1 : this.#mem.frameOfSlot(slot),
        rights: words[at + DATA_RIGHTS] & 3,
        reason: words[at + DATA_RIGHTS] >>> 2,
      });
    });
    return found;
  }
}
