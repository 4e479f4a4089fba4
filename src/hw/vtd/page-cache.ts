/**
 * Paging-structure caches: non-leaf entries by domain. VT-d rev. 4.1 sections 6.2.4 (what they hold) and 6.5.1.2, 6.5.2.3
 * (what drops them: any IOTLB invalidation of the domain that covers them, unless it carries the IH hint).
 *
 * One SetCache for all levels; an entry's class is the level of the table entry it copies: 2 covers 2 MiB of IOVA, 3 covers
 * 1 GiB, 4 covers 512 GiB. An entry holds either the next table (slot, rights ANDed from the root down) or, in caching mode,
 * the fault that the table entry gives.
 */
import type { PhysMem } from '../../mem/index.ts';
import { cacheKey, keyClass, keyPageHi, keyTag, type SetCache, tagSalt } from '../tlb/set-cache.ts';

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
  /** Slot and rights of the table entry that find() answered with. */
  slot = 0;
  rights = 0;

  readonly #cache: SetCache;
  readonly #mem: PhysMem;

  constructor(cache: SetCache, mem: PhysMem) {
    this.#cache = cache;
    this.#mem = mem;
  }

  /** @returns 0 and the next table in `slot` and `rights`; a fault reason; or -1 when nothing is held. */
  find(domain: number, level: number, pageHi: number, pageLo: number): number {
    const cache = this.#cache;
    if (cache.nrLive(level) === 0) return -1;
    const shift = (level - 1) * 9;
    const page = (pageLo >>> shift) | (pageHi << (32 - shift));
    const at = cache.find(page, cacheKey(domain, level, pageHi >>> shift), tagSalt(domain));
    if (at < 0) return -1;
    this.slot = cache.words[at + DATA_SLOT];
    this.rights = cache.words[at + DATA_RIGHTS] & 3;
    return cache.words[at + DATA_RIGHTS] >>> 2;
  }

  /** Keeps a table entry. @param slot next table, -1 with a reason. */
  hold(
    domain: number,
    level: number,
    pageHi: number,
    pageLo: number,
    slot: number,
    rights: number,
    reason: number,
  ): void {
    const shift = (level - 1) * 9;
    const page = (pageLo >>> shift) | (pageHi << (32 - shift));
    const at = this.#cache.insert(page, cacheKey(domain, level, pageHi >>> shift), tagSalt(domain));
    this.#cache.words[at + DATA_SLOT] = slot;
    this.#cache.words[at + DATA_RIGHTS] = (reason << 2) | rights;
  }

  /** Drops the domain's entries of all levels that cover any of 2^maskLg2 pages. The page numbers are aligned to them. */
  invalidatePages(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    for (let level = 2; level <= 4; level++) {
      if (this.#cache.nrLive(level) === 0) continue;
      const shift = (level - 1) * 9;
      const page = (pageLo >>> shift) | (pageHi << (32 - shift));
      dropRange(this.#cache, domain, level, pageHi >>> shift, page, Math.max(0, maskLg2 - shift), tagSalt(domain));
    }
  }

  invalidateDomain(domain: number): void {
    this.#cache.dropTag(domain);
  }

  invalidateAll(): void {
    this.#cache.clear();
  }

  /** What is held, for tests and people. */
  entries(): StructureEntry[] {
    const found: StructureEntry[] = [];
    this.#cache.forEach((words, at) => {
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

/** Probes beat a scan up to this part of the entries; a probe touches one host cache line in a scattered order. */
const PROBE_FRACTION = 4;

/**
 * Drops 2^lg2 pages of one tag and class. Small ranges are probed page by page, so that the cost of the common one-page
 * request does not grow with the cache; large ones are a scan.
 */
export function dropRange(
  cache: SetCache,
  tag: number,
  cls: number,
  pageHi: number,
  pageLo: number,
  lg2: number,
  salt: number,
): void {
  const key = cacheKey(tag, cls, pageHi);
  if (lg2 === 0) {
    cache.drop(pageLo, key, salt);
  } else if (lg2 < 16 && 1 << lg2 <= cache.nrEntries / PROBE_FRACTION) {
    const first = pageLo & -(1 << lg2);
    for (let index = 0; index < 1 << lg2; index++) cache.drop(first + index, key, salt);
  } else {
    scanRange(cache, tag, key, pageLo, lg2);
  }
}

/** Apart, because a function that holds a closure allocates its variables on every call, taken or not. */
function scanRange(cache: SetCache, tag: number, key: number, pageLo: number, lg2: number): void {
  cache.dropWhere((words, at) => isInRange(words, at, key, pageLo, lg2) && keyTag(words[at + 1]) === tag);
}

/** Whether an entry has the class of `key` and its page lies in the 2^lg2 pages around pageLo and the key's high bits. */
export function isInRange(words: Int32Array, at: number, key: number, pageLo: number, lg2: number): boolean {
  const difference = words[at + 1] ^ key;
  if ((difference & 0xfc00) !== 0) return false;
  const hi = (difference >>> 1) & 0x1ff;
  if (lg2 >= 32) return lg2 >= 41 || hi >>> (lg2 - 32) === 0;
  return hi === 0 && (words[at] ^ pageLo) >>> lg2 === 0;
}
