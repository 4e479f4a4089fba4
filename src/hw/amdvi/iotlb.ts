/**
 * The IOTLB: translations of pages of every size, and faults of pages. AMD-Vi 48882 rev. 3.x sections 2.1 (caches), 2.2.3
 * (page sizes), 2.4.3 (what an invalidation covers), 3.2 (NpCache).
 *
 * An entry's data words are the address of the page with the low twelve bits free for IR (0), IW (1) and a fault (7:4), address
 * bits 51:32, and, when tags are source ids, the domain. Class c holds pages of 4 KiB * 2^c, so each size has its own. A
 * faulting entry is always of class 0: nothing larger is known not to map. Bits 3:2 stay 0, so that a request with the AT
 * field set (bits 3:2 of `access`) never passes the hit test.
 *
 * Rights are those of the tables alone: devices of one domain share entries, but each has the rights of its own device table entry.
 */
import { amdvi } from '../../spec/index.ts';
import { dropRange, isInRange, shiftedHi, shiftedLo } from '../tlb/range.ts';
import { cacheKey, keyClass, keyPageHi, keyTag, type SetCache, tagSalt } from '../tlb/set-cache.ts';
import type { FullAmdviConfig } from './config.ts';
import { LARGE as LARGE_WORD, NR_PAGE_CLASSES } from './layout.ts';

// Local constants for speed, see set-cache.ts.
const LO = 2;
const HI = 3;
const DOMAIN = 4;
const LARGE: number = LARGE_WORD;
const SALT: number = tagSalt(1);
const { ADDR_MASK_HI } = amdvi;
/** Offsets of an entry's words. */
export const DATA_LO: number = LO;
export const DATA_HI: number = HI;
export const DATA_DOMAIN: number = DOMAIN;

/** Fault that an entry gives, or 0. @param lo its DATA_LO word */
export function entryFault(lo: number): number {
  return (lo >>> 4) & 15;
}

/** One cached translation, decoded for people. */
export interface AmdviIotlbEntry {
  /** Domain id, or source id when the IOTLB is tagged so. */
  readonly tag: number;
  readonly domain: number;
  /** First byte of the page. */
  readonly iova: number;
  /** log2 of the page's size. */
  readonly sizeLg2: number;
  /** First byte it maps to; meaningless with a fault. */
  readonly paddr: number;
  readonly rights: number;
  /** Fault that it gives (fault.ts), or 0. */
  readonly fault: number;
}

export class AmdviIotlb {
  /** For the hit path, which probes without a call in between. */
  readonly cache: SetCache;

  readonly #words: Int32Array;
  readonly #bySid: boolean;
  readonly #fractures: boolean;

  /** @param words the unit's state, of which this keeps two words that tell which large classes may be held */
  constructor(words: Int32Array, cache: SetCache, config: FullAmdviConfig) {
    this.#words = words;
    this.cache = cache;
    this.#bySid = config.tagBySid;
    this.#fractures = !config.holdsWholePages;
  }

  /**
   * Spreads tags and sizes over sets: the n-th page of every size would fall into the same one. With source-id tags the tag
   * does not count, so that a page's entries of all devices lie in one set and can be probed.
   */
  saltOf(tag: number, cls: number = 0): number {
    return tagSalt((this.#bySid ? 0 : tag) | (cls << 16));
  }

  /** The entry of a page above 4 KiB that answers for an address; -1 when there is none. */
  findLarge(tag: number, pageHi: number, pageLo: number): number {
    for (let cls = this.#nextClass(0); cls !== 0; cls = this.#nextClass(cls)) {
      const page = shiftedLo(pageHi, pageLo, cls);
      const at = this.cache.find(page, cacheKey(tag, cls, shiftedHi(pageHi, cls)), this.saltOf(tag, cls));
      if (at >= 0) return at;
    }
    return -1;
  }

  /** The next large class that holds something, 0 when there is none. Evicted ones are noticed here. */
  #nextClass(after: number): number {
    const words = this.#words;
    for (let cls = after + 1; ; cls++) {
      const left = words[LARGE + (cls >>> 5)] & (-1 << (cls & 31));
      if (left === 0) {
        if (cls >= 32) return 0;
        cls = 31;
        continue;
      }
      cls = (cls & 32) + 31 - Math.clz32(left & -left);
      if (this.cache.nrLive(cls) !== 0) return cls;
      words[LARGE + (cls >>> 5)] &= ~(1 << (cls & 31));
    }
  }

  /** Forgets late which large classes are held: equal contents are then equal words. */
  settle(): void {
    const words = this.#words;
    words[LARGE] = 0;
    words[LARGE + 1] = 0;
    for (let cls = 1; cls < NR_PAGE_CLASSES; cls++) {
      if (this.cache.nrLive(cls) !== 0) words[LARGE + (cls >>> 5)] |= 1 << (cls & 31);
    }
  }

  /** Keeps a translation. @param lo @param hi address words of the page */
  hold(
    tag: number,
    domain: number,
    pageHi: number,
    pageLo: number,
    sizeLg2: number,
    lo: number,
    hi: number,
    rights: number,
  ): void {
    const cache = this.cache;
    const cls = this.#fractures ? 0 : sizeLg2 - 12;
    const key = cacheKey(tag, cls, shiftedHi(pageHi, cls));
    const at = cache.insert(shiftedLo(pageHi, pageLo, cls), key, this.saltOf(tag, cls));
    if (cls !== 0) this.#words[LARGE + (cls >>> 5)] |= 1 << (cls & 31);
    let baseLo = lo;
    let baseHi = hi;
    if (this.#fractures) {
      // A piece of a large page takes the page bits that its size leaves open.
      const openLg2 = sizeLg2 - 12;
      const openHi = openLg2 <= 20 ? 0 : (1 << (openLg2 - 20)) - 1;
      baseLo |= (openLg2 >= 20 ? pageLo : pageLo & ((1 << openLg2) - 1)) << 12;
      baseHi |= ((pageHi << 12) | (pageLo >>> 20)) & openHi & ADDR_MASK_HI;
    }
    cache.words[at + LO] = baseLo | rights;
    cache.words[at + HI] = baseHi;
    if (this.#bySid) cache.words[at + DOMAIN] = domain;
  }

  /** Keeps the fault of one page. */
  holdFault(tag: number, domain: number, pageHi: number, pageLo: number, fault: number): void {
    const cache = this.cache;
    const at = cache.insert(pageLo, cacheKey(tag, 0, pageHi), this.saltOf(tag));
    cache.words[at + LO] = fault << 4;
    cache.words[at + HI] = 0;
    if (this.#bySid) cache.words[at + DOMAIN] = domain;
  }

  /** Drops the domain's entries that overlap 2^maskLg2 pages; a large page goes as a whole. */
  invalidatePages(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    if (maskLg2 === 0 && !this.#bySid) {
      this.cache.drop(pageLo, (domain << 16) | (pageHi << 1) | 1, Math.imul(domain, SALT));
    } else this.#dropClass(domain, 0, pageHi, pageLo, maskLg2);
    if ((this.#words[LARGE] | this.#words[LARGE + 1]) === 0) return;
    for (let cls = this.#nextClass(0); cls !== 0; cls = this.#nextClass(cls)) {
      const page = shiftedLo(pageHi, pageLo, cls);
      this.#dropClass(domain, cls, shiftedHi(pageHi, cls), page, Math.max(0, maskLg2 - cls));
    }
  }

  #dropClass(domain: number, cls: number, pageHi: number, pageLo: number, lg2: number): void {
    if (this.cache.nrLive(cls) === 0) return;
    if (this.#bySid) this.#dropOfDomain(domain, cls, pageHi, pageLo, lg2);
    else dropRange(this.cache, domain, cls, pageHi, pageLo, lg2, this.saltOf(domain, cls));
  }

  /** With source-id tags the domain stands in the entries, and a page's entries of all devices lie in one set. */
  #dropOfDomain(domain: number, cls: number, pageHi: number, pageLo: number, lg2: number): void {
    const key = cacheKey(0, cls, pageHi);
    const salt = this.saltOf(0, cls);
    if (lg2 === 0) this.cache.dropAnyTag(pageLo, key, salt, (words, at) => words[at + DOMAIN] === domain);
    else this.cache.dropWhere((words, at) => isInRange(words, at, key, pageLo, lg2) && words[at + DOMAIN] === domain);
  }

  invalidateDomain(domain: number): void {
    // Old drivers flush each of 65,536 domains at the start: with nothing held that must not cost a scan each.
    if (this.cache.nrLive(0) === 0 && (this.#words[LARGE] | this.#words[LARGE + 1]) === 0) return;
    if (this.#bySid) this.cache.dropWhere((words, at) => words[at + DOMAIN] === domain);
    else this.cache.dropTag(domain);
  }

  invalidateAll(): void {
    this.cache.clear();
    this.#words[LARGE] = 0;
    this.#words[LARGE + 1] = 0;
  }

  /** What is held, for tests and people. */
  entries(): AmdviIotlbEntry[] {
    const found: AmdviIotlbEntry[] = [];
    this.cache.forEach((words, at) => {
      const key = words[at + 1];
      const cls = keyClass(key);
      const lo = words[at + LO];
      found.push({
        tag: keyTag(key),
        domain: this.#bySid ? words[at + DOMAIN] : keyTag(key),
        iova: (keyPageHi(key) * 4294967296 + (words[at] >>> 0)) * 4096 * 2 ** cls,
        sizeLg2: cls + 12,
        paddr: (words[at + HI] & ADDR_MASK_HI) * 4294967296 + ((lo & -4096) >>> 0),
        rights: lo & 3,
        fault: entryFault(lo),
      });
    });
    return found;
  }
}
