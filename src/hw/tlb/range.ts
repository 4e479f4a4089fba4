/**
 * Page numbers in two words (bits 31:0, bits 40:32), and what drops a range of them from a SetCache. Shared by the caches of
 * both architectures: an invalidation names a naturally aligned power of two of pages.
 */
import { cacheKey, keyTag, type SetCache } from './set-cache.ts';

/** Probes beat a scan up to this part of the entries; a probe touches one host cache line in a scattered order. */
const PROBE_FRACTION = 4;

/** Low word of a page number divided by 2^lg2. */
export function shiftedLo(pageHi: number, pageLo: number, lg2: number): number {
  if (lg2 === 0) return pageLo;
  if (lg2 < 32) return (pageLo >>> lg2) | (pageHi << (32 - lg2));
  return lg2 < 64 ? pageHi >>> (lg2 - 32) : 0;
}

/** High word of a page number divided by 2^lg2. */
export function shiftedHi(pageHi: number, lg2: number): number {
  return lg2 < 32 ? pageHi >>> lg2 : 0;
}

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
    cache.dropRun(pageLo & -(1 << lg2), 1 << lg2, key, salt);
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
