/**
 * Page directory entry cache: entries that lead to tables, by domain. AMD-Vi 48882 rev. 3.x sections 2.1 (caches) and 2.4.3:
 * an INVALIDATE_IOMMU_PAGES drops them only when it has the PDE bit.
 *
 * One SetCache for all levels; an entry's class is the level of the table that holds the copied entry: 2 covers 2 MiB of
 * IOVA, each further one 512 times more. An entry holds either the next table (slot, rights ANDed from the top table down, and
 * how many levels it skips) or the fault that the table entry gives.
 */
import type { PhysMem } from '../../mem/index.ts';
import { dropRange, shiftedHi, shiftedLo } from '../tlb/range.ts';
import { cacheKey, keyClass, keyPageHi, keyTag, type SetCache, tagSalt } from '../tlb/set-cache.ts';

// Local constants for speed, see set-cache.ts.
const SALT: number = tagSalt(1);
const DATA_SLOT = 2;
/** Rights 1:0, levels skipped 4:2, fault 8:5. */
const DATA_STATE = 3;
/** Offsets of an entry's words, and the key of level 2 without domain and page, for the owner of the short walk. */
export const PDE_SLOT: number = DATA_SLOT;
export const PDE_STATE: number = DATA_STATE;
export const LEAF_TABLE_KEY: number = cacheKey(0, 2, 0);

/** Spreads domains and levels over sets: the first entries of all levels would fall into the same one. */
export function pdeSalt(domain: number, level: number): number {
  return Math.imul(domain | (level << 16), SALT);
}

/** One cached entry, decoded for people. */
export interface PdeEntry {
  readonly domain: number;
  readonly level: number;
  /** Level of the table it leads to. */
  readonly nextLevel: number;
  /** First byte of the IOVA range it covers. */
  readonly iova: number;
  /** Frame of the next table, or -1 for an entry that faults. */
  readonly tablePfn: number;
  readonly rights: number;
  /** Fault that it gives (fault.ts), or 0. */
  readonly fault: number;
}

export class PdeCache {
  /** Slot, rights and level of the table that find() answered with. */
  slot = 0;
  rights = 0;
  nextLevel = 0;

  /** For the short walk, which probes without a call in between. */
  readonly cache: SetCache;

  readonly #mem: PhysMem;

  constructor(cache: SetCache, mem: PhysMem) {
    this.cache = cache;
    this.#mem = mem;
  }

  /** @returns 0 and the next table in the fields; a fault; or -1 when nothing is held. */
  find(domain: number, level: number, pageHi: number, pageLo: number): number {
    const cache = this.cache;
    if (cache.nrLive(level) === 0) return -1;
    const shift = (level - 1) * 9;
    const key = (domain << 16) | (level << 10) | (shiftedHi(pageHi, shift) << 1) | 1;
    const at = cache.find(shiftedLo(pageHi, pageLo, shift), key, pdeSalt(domain, level));
    if (at < 0) return -1;
    const state = cache.words[at + DATA_STATE];
    this.slot = cache.words[at + DATA_SLOT];
    this.rights = state & 3;
    this.nextLevel = level - 1 - ((state >>> 2) & 7);
    return state >>> 5;
  }

  /** Keeps an entry that leads to a table. */
  hold(
    domain: number,
    level: number,
    pageHi: number,
    pageLo: number,
    slot: number,
    rights: number,
    nextLevel: number,
  ): void {
    this.#insert(domain, level, pageHi, pageLo, slot, ((level - 1 - nextLevel) << 2) | rights);
  }

  /** Keeps an entry that faults. */
  holdFault(domain: number, level: number, pageHi: number, pageLo: number, fault: number): void {
    this.#insert(domain, level, pageHi, pageLo, -1, fault << 5);
  }

  #insert(domain: number, level: number, pageHi: number, pageLo: number, slot: number, state: number): void {
    const cache = this.cache;
    const shift = (level - 1) * 9;
    const key = (domain << 16) | (level << 10) | (shiftedHi(pageHi, shift) << 1) | 1;
    const at = cache.insert(shiftedLo(pageHi, pageLo, shift), key, pdeSalt(domain, level));
    cache.words[at + DATA_SLOT] = slot;
    cache.words[at + DATA_STATE] = state;
  }

  /** Drops the domain's entries of all levels that cover any of 2^maskLg2 pages. The page numbers are aligned to them. */
  invalidatePages(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    const cache = this.cache;
    for (let level = 2; level <= 6; level++) {
      if (cache.nrLive(level) === 0) continue;
      const shift = (level - 1) * 9;
      const page = shiftedLo(pageHi, pageLo, shift);
      const hi = shiftedHi(pageHi, shift);
      const salt = Math.imul(domain | (level << 16), SALT);
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
  entries(): PdeEntry[] {
    const found: PdeEntry[] = [];
    this.cache.forEach((words, at) => {
      const key = words[at + 1];
      const level = keyClass(key);
      const slot = words[at + DATA_SLOT];
      const state = words[at + DATA_STATE];
      found.push({
        domain: keyTag(key),
        level,
        nextLevel: state >>> 5 === 0 ? level - 1 - ((state >>> 2) & 7) : 0,
        iova: (keyPageHi(key) * 4294967296 + (words[at] >>> 0)) * 4096 * 512 ** (level - 1),
        tablePfn: slot < 0 ? -1 : this.#mem.frameOfSlot(slot),
        rights: state & 3,
        fault: state >>> 5,
      });
    });
    return found;
  }
}
