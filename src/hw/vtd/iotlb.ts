/**
 * The IOTLB: translations of pages, and in caching mode faults of pages. VT-d rev. 4.1 sections 6.2.3 (contents and tags),
 * 6.5.1.2 and 6.5.2.3 (what an invalidation covers), 6.1 (not-present caching).
 *
 * An entry's data words are the address of the page with the low twelve bits free for R (0), W (1) and a fault reason
 * (8:4) with the rights that it had (10:9), address bits 51:32, and, when tags are source ids, the domain. Class c holds pages of 4 KiB * 512^c. A faulting
 * entry is always of class 0: nothing larger is known not to map. Bits 3:2 stay 0, so that a request with the AT field set
 * (bits 3:2 of `access`) never passes the hit test.
 */
import { vtd } from '../../spec/index.ts';
import { dropRange, isInRange } from '../tlb/range.ts';
import { cacheKey, ENTRY_KEY, keyClass, keyPageHi, keyTag, type SetCache, tagSalt } from '../tlb/set-cache.ts';
import type { FullVtdConfig } from './config.ts';
import { NR_PAGE_CLASSES } from './layout.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const { SS_ADDR_MASK_HI } = vtd;

// Local constants for speed, see set-cache.ts.
const LO = 2;
const HI = 3;
const DOMAIN = 4;
const NR_CLASSES: number = NR_PAGE_CLASSES;
const SALT: number = tagSalt(1);
/** Offsets of an entry's words. */
export const DATA_LO: number = LO;
export const DATA_HI: number = HI;
export const DATA_DOMAIN: number = DOMAIN;

/** Fault that an entry gives, or 0. @param lo its DATA_LO word */
export function entryReason(lo: number): number {
  return (lo >>> 4) & 31;
}

/** Rights of the leaf behind a faulting entry. @param lo its DATA_LO word */
export function entryFaultRights(lo: number): number {
  return (lo >>> 9) & 3;
}

/** One cached translation, decoded for people. */
export interface IotlbEntry {
  /** Domain id, or source id when the IOTLB is tagged so. */
  readonly tag: number;
  readonly domain: number;
  /** First byte of the page. */
  readonly iova: number;
  /** Level of the leaf: 1, 2, 3. */
  readonly level: number;
  /** First byte it maps to; meaningless with a reason. */
  readonly paddr: number;
  readonly rights: number;
  /** Fault that it gives, or 0. */
  readonly reason: number;
}

export class Iotlb {
  /** For the hit path, which probes without a call in between. */
  readonly cache: SetCache;

  readonly #bySid: boolean;
  readonly #pageBits: number;
  readonly #fractures: boolean;

  constructor(cache: SetCache, config: FullVtdConfig) {
    this.cache = cache;
    this.#bySid = config.tagBySid;
    this.#fractures = !config.psiDropsWholeSuperpage;
    this.#pageBits = config.psiPageBits;
  }

  /** With source-id tags the salt is 0, so that a page's entries of all devices lie in one set and can be probed. */
  saltOf(tag: number): number {
    return this.#bySid ? 0 : tagSalt(tag);
  }

  /** The entry of a superpage that answers for a page; -1 when there is none. */
  findSuperpage(tag: number, pageHi: number, pageLo: number): number {
    for (let cls = 1; cls < NR_CLASSES; cls++) {
      if (this.cache.nrLive(cls) === 0) continue;
      const shift = cls * 9;
      const page = (pageLo >>> shift) | (pageHi << (32 - shift));
      const at = this.cache.find(page, cacheKey(tag, cls, pageHi >>> shift), this.saltOf(tag));
      if (at >= 0) return at;
    }
    return -1;
  }

  /** Keeps a translation of a leaf above level 1. @param lo @param hi address words of the leaf, low twelve bits clear */
  holdSuperpage(
    tag: number,
    domain: number,
    pageHi: number,
    pageLo: number,
    level: number,
    lo: number,
    hi: number,
    rights: number,
  ): void {
    const cache = this.cache;
    const cls = this.#fractures ? 0 : level - 1;
    const shift = cls * 9;
    const page = cls === 0 ? pageLo : (pageLo >>> shift) | (pageHi << (32 - shift));
    const at = cache.insert(page, cacheKey(tag, cls, pageHi >>> shift), this.saltOf(tag));
    // A piece of a superpage takes the page bits that its leaf leaves open.
    const piece = this.#fractures ? (pageLo & ((1 << ((level - 1) * 9)) - 1)) << 12 : 0;
    cache.words[at + LO] = lo | piece | rights;
    cache.words[at + HI] = hi;
    if (this.#bySid) cache.words[at + DOMAIN] = domain;
  }

  /** Keeps the fault of one page. @param rights of the leaf, when the fault is not about them: who lacks them faults so. */
  holdFault(tag: number, domain: number, pageHi: number, pageLo: number, reason: number, rights: number): void {
    const cache = this.cache;
    const at = cache.insert(pageLo, cacheKey(tag, 0, pageHi), this.saltOf(tag));
    cache.words[at + LO] = (reason << 4) | (rights << 9);
    cache.words[at + HI] = 0;
    if (this.#bySid) cache.words[at + DOMAIN] = domain;
  }

  /** Page-selective: drops the domain's entries that overlap 2^maskLg2 pages; a superpage goes as a whole. */
  invalidatePages(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    const cache = this.cache;
    if (this.#bySid) return this.#invalidateBySid(domain, pageHi, pageLo, maskLg2);
    const salt = Math.imul(domain, SALT);
    if (maskLg2 === 0) cache.drop(pageLo, (domain << 16) | (pageHi << 1) | 1, salt);
    else if (cache.nrLive(0) !== 0) dropRange(cache, domain, 0, pageHi, pageLo, maskLg2, salt);
    if (cache.nrLive(1) + cache.nrLive(2) === 0) return;
    for (let cls = 1; cls < NR_CLASSES; cls++) {
      if (cache.nrLive(cls) === 0) continue;
      const shift = cls * 9;
      const page = (pageLo >>> shift) | (pageHi << (32 - shift));
      dropRange(cache, domain, cls, pageHi >>> shift, page, Math.max(0, maskLg2 - shift), salt);
    }
  }

  #invalidateBySid(domain: number, pageHi: number, pageLo: number, maskLg2: number): void {
    if (this.#pageBits < 32) this.#dropEqualLowBits(domain, pageLo, maskLg2);
    for (let cls = 0; cls < NR_CLASSES; cls++) {
      if (this.cache.nrLive(cls) === 0) continue;
      const shift = cls * 9;
      const page = cls === 0 ? pageLo : (pageLo >>> shift) | (pageHi << (32 - shift));
      this.#dropOfDomain(domain, cls, pageHi >>> shift, page, Math.max(0, maskLg2 - shift));
    }
  }

  /** For a unit that compares low bits only: all entries of the domain whose first page agrees in these. */
  #dropEqualLowBits(domain: number, pageLo: number, maskLg2: number): void {
    const compared = ((1 << this.#pageBits) - 1) & (maskLg2 < 31 ? -(1 << maskLg2) : 0);
    this.cache.dropWhere((words, at) => {
      const first = words[at] << (keyClass(words[at + ENTRY_KEY]) * 9);
      return ((first ^ pageLo) & compared) === 0 && words[at + DOMAIN] === domain;
    });
  }

  /** With source-id tags the domain stands in the entries, and a page's entries of all devices lie in one set. */
  #dropOfDomain(domain: number, cls: number, pageHi: number, pageLo: number, lg2: number): void {
    const key = cacheKey(0, cls, pageHi);
    if (lg2 === 0) this.cache.dropAnyTag(pageLo, key, 0, (words, at) => words[at + DOMAIN] === domain);
    else this.cache.dropWhere((words, at) => isInRange(words, at, key, pageLo, lg2) && words[at + DOMAIN] === domain);
  }

  invalidateDomain(domain: number): void {
    if (this.#bySid) this.cache.dropWhere((words, at) => words[at + DOMAIN] === domain);
    else this.cache.dropTag(domain);
  }

  invalidateAll(): void {
    this.cache.clear();
  }

  /** What is held, for tests and people. */
  entries(): IotlbEntry[] {
    const found: IotlbEntry[] = [];
    this.cache.forEach((words, at) => {
      const key = words[at + 1];
      const cls = keyClass(key);
      const lo = words[at + LO];
      found.push({
        tag: keyTag(key),
        domain: this.#bySid ? words[at + DOMAIN] : keyTag(key),
        iova: (keyPageHi(key) * 4294967296 + (words[at] >>> 0)) * 4096 * 512 ** cls,
        level: cls + 1,
        paddr: (words[at + HI] & SS_ADDR_MASK_HI) * 4294967296 + ((lo & -4096) >>> 0),
        rights: lo & 3,
        reason: entryReason(lo),
      });
    });
    return found;
  }
}
