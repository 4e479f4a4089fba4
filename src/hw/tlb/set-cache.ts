/**
 * A set-associative translation cache in a part of somebody's Int32Array; shared by VT-d and AMD-Vi.
 *
 * An entry is `page` (low 32 bits of the page number), `key` (everything else that identifies it) and data words.
 * key = tag << 16 | class << 10 | page bits 40:32 << 1 | 1. The tag is a domain or source id, the class a page size or
 * level. A zero key is an empty entry.
 *
 * The entries of a set stand in the order in which they will leave: the first way is the most recent one (inserted, or
 * under 'lru' used), and no empty way precedes a full one. So a hit in the first way has nothing to update, and equal
 * caches are equal words: a model checker hashes them. Time stamps would make them differ for ever; a separate order word
 * per set costs a second host cache line on each hit.
 *
 * Its words: live entries per class, the victim generator, the entries. There is no other mutable state.
 * The hash takes the top bits of a multiplication, which spreads consecutive pages almost without collisions.
 */
import { log2Ceil } from '../../base/index.ts';
import { checkGeometry, type CacheGeometry } from './geometry.ts';

// Constants that hot loops use are not exported but repeated under an exported name: V8 folds a module's own constant into
// the code, but loads an exported or imported one from its cell each time (measured: a hit of 7 ns became one of 18).
/** 2^32 / golden ratio: multiples of it fall evenly. */
const MULTIPLIER = 0x9e3779b1;
/** The same as an int32, for additions. */
const SIGNED_MULTIPLIER: number = 0x9e3779b1 | 0;
const KEY = 1;
const SALT = 0x85ebca6b;
/** Entries start on a cache line of the host: a 4-way set of 4-word entries is then exactly one line. */
const LINE_WORDS = 16;

/** Offsets of the words of an entry. */
export const ENTRY_PAGE = 0;
export const ENTRY_KEY: number = KEY;
export const ENTRY_DATA = 2;
export const HASH_MULTIPLIER: number = MULTIPLIER;

/** Everything of an entry's identity but the low page bits. @param pageHi bits 40:32 of the page number */
export function cacheKey(tag: number, cls: number, pageHi: number): number {
  return (tag << 16) | (cls << 10) | (pageHi << 1) | 1;
}

/** Spreads tags over sets. Without it all domains would fight for the few sets of the IOVAs that every allocator prefers. */
export function tagSalt(tag: number): number {
  return Math.imul(tag, SALT);
}

export function keyTag(key: number): number {
  return key >>> 16;
}

export function keyClass(key: number): number {
  return (key >>> 10) & 0x3f;
}

export function keyPageHi(key: number): number {
  return (key >>> 1) & 0x1ff;
}

/** Decides about one entry; `at` indexes the cache's `words`. */
export type EntryTest = (words: Int32Array, at: number) => boolean;

function entriesOffset(nrClasses: number): number {
  return Math.ceil((nrClasses + 1) / LINE_WORDS) * LINE_WORDS;
}

/** Entry and set sizes are rounded up to powers of two: an index is then two shifts. */
function entryLg2(nrData: number): number {
  return log2Ceil(ENTRY_DATA + nrData);
}

/** Words that a cache needs; a multiple of a host cache line, so that views behind each other stay aligned. */
export function setCacheWords(geometry: CacheGeometry, nrData: number, nrClasses: number): number {
  const nr = entriesOffset(nrClasses) + (geometry.sets << (log2Ceil(geometry.ways) + entryLg2(nrData)));
  return Math.ceil(nr / LINE_WORDS) * LINE_WORDS;
}

export class SetCache {
  /** The state. Entries' data words are the owner's to read and write; the rest belongs to this class. */
  readonly words: Int32Array;
  readonly nrEntries: number;
  /** For owners that inline the first probe: at = entries + ((hash >>> hashShift) & setMask). */
  readonly hashShift: number;
  readonly setMask: number;
  readonly entries: number;
  /** From one way to the next. */
  readonly entryWords: number;
  /** Where the live entries of class 0 are counted; the other classes follow. */
  readonly counts: number;

  readonly #nrClasses: number;
  readonly #setWords: number;
  /** From a set's first entry to its last. */
  readonly #lastOffset: number;
  /** From a set's first entry to its second, 0 when there is none. */
  readonly #secondOffset: number;
  readonly #ways: number;
  readonly #end: number;
  readonly #lru: boolean;
  readonly #random: boolean;

  /**
   * @param words a zeroed array with room for setCacheWords() words from `base` on. One array for several caches, told
   * apart by `base`, spares their owner's hot path the pointers and bounds of several.
   */
  constructor(words: Int32Array, geometry: CacheGeometry, nrData: number, nrClasses: number, base: number = 0) {
    checkGeometry(geometry, 'cache');
    this.words = words;
    this.nrEntries = geometry.sets * geometry.ways;
    // The top bits of the hash, already in units of words: one shift and one mask give the index of a set. (And a single
    // set needs no shift by 32, which would be none in JavaScript.)
    const setLg2 = log2Ceil(geometry.ways) + entryLg2(nrData);
    this.hashShift = 32 - log2Ceil(geometry.sets) - setLg2;
    this.setMask = (geometry.sets - 1) << setLg2;
    this.#setWords = 1 << setLg2;
    this.entries = base + entriesOffset(nrClasses);
    this.counts = base;
    this.#nrClasses = nrClasses;
    this.entryWords = 1 << entryLg2(nrData);
    this.#lastOffset = (geometry.ways - 1) * this.entryWords;
    this.#secondOffset = geometry.ways > 1 ? this.entryWords : 0;
    this.#ways = geometry.ways;
    this.#end = this.entries + geometry.sets * this.#setWords;
    this.#lru = geometry.replacement === undefined || geometry.replacement === 'lru';
    this.#random = geometry.replacement === 'random';
    this.words[base + nrClasses] = (geometry.seed ?? 1) | 0 || 1;
  }

  /** Live entries of a class: 0 lets callers skip a probe. */
  nrLive(cls: number): number {
    return this.words[this.counts + cls];
  }

  /** Index of the first way of the set that a page belongs to: for `findIn` and `insertIn`, which then need not hash again. */
  setOf(page: number, salt: number): number {
    return this.entries + ((Math.imul(page + salt, MULTIPLIER) >>> this.hashShift) & this.setMask);
  }

  /** Index of the entry in `words`, or -1. A hit makes it the most recent of its set under 'lru'. */
  find(page: number, key: number, salt: number): number {
    return this.findIn(
      this.entries + ((Math.imul(page + salt, MULTIPLIER) >>> this.hashShift) & this.setMask),
      page,
      key,
    );
  }

  /** `find` in a set that `setOf` gave. */
  findIn(first: number, page: number, key: number): number {
    const words = this.words;
    const last = first + this.#lastOffset;
    for (let at = first; at <= last; at += this.entryWords) {
      const held = words[at + KEY];
      if (held === key && words[at] === page) return at !== first && this.#lru ? this.#toFront(first, at) : at;
      // Nothing behind an empty way.
      if (held === 0) break;
    }
    return -1;
  }

  /** Makes room for a page that find() just missed and returns its entry; the caller writes all data words. */
  insert(page: number, key: number, salt: number): number {
    return this.insertIn(
      this.entries + ((Math.imul(page + salt, MULTIPLIER) >>> this.hashShift) & this.setMask),
      page,
      key,
    );
  }

  /** `insert` into a set that `setOf` gave. */
  insertIn(first: number, page: number, key: number): number {
    const words = this.words;
    if (words[first + KEY] !== 0) this.makeRoom(first);
    words[first] = page;
    words[first + KEY] = key;
    words[this.counts + ((key >>> 10) & 0x3f)] += 1;
    return first;
  }

  /**
   * Frees the first way of a set: the others move back by one, into the first empty way or over what leaves. For owners that
   * inline the rest of `insertIn`.
   */
  makeRoom(first: number): void {
    const words = this.words;
    const entryWords = this.entryWords;
    const last = first + this.#lastOffset;
    let victim = first;
    while (victim < last && words[victim + KEY] !== 0) victim += entryWords;
    if (words[victim + KEY] !== 0) {
      if (this.#random) victim = first + this.#draw() * entryWords;
      words[this.counts + ((words[victim + KEY] >>> 10) & 0x3f)] -= 1;
    }
    for (let at = victim - 1; at >= first; at--) words[at + entryWords] = words[at];
  }

  /** Drops one page if it is held. Probes one set: the cost does not depend on how much is cached. */
  drop(page: number, key: number, salt: number): boolean {
    const words = this.words;
    const first = this.entries + ((Math.imul(page + salt, MULTIPLIER) >>> this.hashShift) & this.setMask);
    if (words[first + KEY] === 0) return false;
    // Mostly alone in its set.
    if (words[first] === page && words[first + KEY] === key && words[first + this.#secondOffset + KEY] === 0) {
      words[this.counts + ((key >>> 10) & 0x3f)] -= 1;
      this.#zero(first);
      return true;
    }
    return this.#dropFrom(first, page, key);
  }

  /** Drops `nr` pages from `page` on, of one key. */
  dropRun(page: number, nr: number, key: number, salt: number): void {
    const words = this.words;
    const end = (page + nr) | 0;
    // The hash of the next page is one addition away.
    let hash = Math.imul(page + salt, MULTIPLIER);
    let nrDropped = 0;
    for (let each = page; each !== end; each = (each + 1) | 0) {
      const first = this.entries + ((hash >>> this.hashShift) & this.setMask);
      hash = (hash + SIGNED_MULTIPLIER) | 0;
      const held = words[first + KEY];
      // Most sets of a run are empty when it was invalidated before; else the page is mostly alone in its set.
      if (held === 0) continue;
      if (held === key && words[first] === each && words[first + this.#secondOffset + KEY] === 0) {
        nrDropped += 1;
        this.#zero(first);
      } else {
        this.#dropFrom(first, each, key);
      }
    }
    words[this.counts + ((key >>> 10) & 0x3f)] -= nrDropped;
  }

  #dropFrom(first: number, page: number, key: number): boolean {
    const words = this.words;
    const last = first + this.#lastOffset;
    for (let at = first; at <= last; at += this.entryWords) {
      const held = words[at + KEY];
      if (held === key && words[at] === page) {
        this.#drop(at, last);
        return true;
      }
      if (held === 0) break;
    }
    return false;
  }

  /**
   * Drops the entries of a page that carry any tag and that the test accepts. Only right in a cache whose entries were
   * all inserted with this salt: with tag salts the page's entries lie in as many sets as there are tags.
   */
  dropAnyTag(page: number, key: number, salt: number, test: EntryTest): void {
    const words = this.words;
    const first = this.entries + ((Math.imul(page + salt, MULTIPLIER) >>> this.hashShift) & this.setMask);
    const last = first + this.#lastOffset;
    // From the back: dropping one moves those behind it, which have been judged already.
    for (let at = last; at >= first; at -= this.entryWords) {
      if (words[at] === page && ((words[at + KEY] ^ key) & 0xffff) === 0 && test(words, at)) this.#drop(at, last);
    }
  }

  /** Drops everything with a tag. A scan; generations per tag would make it O(1) but cost a compare on every hit. */
  dropTag(tag: number): void {
    const words = this.words;
    for (let last = this.entries + this.#lastOffset; last < this.#end; last += this.#setWords) {
      // Full ways come first, so an empty first way ends a set.
      const first = last - this.#lastOffset;
      if (words[first + KEY] === 0) continue;
      for (let at = last; at >= first; at -= this.entryWords) {
        const key = words[at + KEY];
        if (key !== 0 && key >>> 16 === tag) this.#drop(at, last);
      }
    }
  }

  /** Drops what the test accepts. A scan. */
  dropWhere(test: EntryTest): void {
    const words = this.words;
    for (let last = this.entries + this.#lastOffset; last < this.#end; last += this.#setWords) {
      for (let at = last; at >= last - this.#lastOffset; at -= this.entryWords) {
        if (words[at + KEY] !== 0 && test(words, at)) this.#drop(at, last);
      }
    }
  }

  /** Drops everything. The victim generator goes on: a flush does not make hardware repeat itself. */
  clear(): void {
    this.words.fill(0, this.counts, this.counts + this.#nrClasses);
    this.words.fill(0, this.entries, this.#end);
  }

  /** Calls back for every live entry; for inspection. */
  forEach(visit: (words: Int32Array, at: number) => void): void {
    for (let first = this.entries; first < this.#end; first += this.#setWords) {
      for (let way = 0; way < this.#ways; way++) {
        const at = first + way * this.entryWords;
        if (this.words[at + KEY] !== 0) visit(this.words, at);
      }
    }
  }

  /** Live entries. A scan. */
  get nrHeld(): number {
    let nr = 0;
    this.forEach(() => {
      nr += 1;
    });
    return nr;
  }

  /** Drops the live entry that `forEach` visits at this place, counted from 0. @returns false when there are not so many */
  dropNth(nth: number): boolean {
    let left = nth;
    for (let first = this.entries; first < this.#end; first += this.#setWords) {
      for (let at = first; at <= first + this.#lastOffset && this.words[at + KEY] !== 0; at += this.entryWords) {
        if (left-- === 0) {
          this.#drop(at, first + this.#lastOffset);
          return true;
        }
      }
    }
    return false;
  }

  /**
   * Puts the entries of each set in the order of their keys. Who leaves a full set first is then forgotten, so this is for
   * whoever compares contents and lets entries leave at moments of his own (a model checker).
   */
  sort(): void {
    const words = this.words;
    const step = this.entryWords;
    for (let first = this.entries; first < this.#end; first += this.#setWords) {
      const last = first + this.#lastOffset;
      for (let at = first + step; at <= last && words[at + KEY] !== 0; at += step) {
        for (let to = at; to > first && this.#precedes(to, to - step); to -= step) this.#swap(to, to - step);
      }
    }
  }

  #precedes(a: number, b: number): boolean {
    const words = this.words;
    const keys = words[a + KEY] - words[b + KEY];
    return keys !== 0 ? keys < 0 : words[a] < words[b];
  }

  #swap(a: number, b: number): void {
    const words = this.words;
    for (let word = 0; word < this.entryWords; word++) {
      const value = words[a + word];
      words[a + word] = words[b + word];
      words[b + word] = value;
    }
  }

  /** Empties an entry. */
  #zero(at: number): void {
    const words = this.words;
    if (this.entryWords === 4) {
      words[at] = 0;
      words[at + 1] = 0;
      words[at + 2] = 0;
      words[at + 3] = 0;
    } else {
      words.fill(0, at, at + this.entryWords);
    }
  }

  /** Closes the gap that an entry leaves, so that full ways stay in front. @param last the set's last way */
  #drop(dropped: number, last: number): void {
    const words = this.words;
    const entryWords = this.entryWords;
    words[this.counts + ((words[dropped + KEY] >>> 10) & 0x3f)] -= 1;
    let at = dropped;
    // Nothing behind an empty way needs to move.
    for (; at < last && words[at + entryWords + KEY] !== 0; at += entryWords) {
      for (let word = at; word < at + entryWords; word++) words[word] = words[word + entryWords];
    }
    this.#zero(at);
  }

  /** Moves an entry to the first way and those before it back by one. @returns the first way */
  #toFront(first: number, at: number): number {
    const words = this.words;
    for (let word = 0; word < this.entryWords; word++) {
      const value = words[at + word];
      for (let to = at + word; to > first + word; to -= this.entryWords) words[to] = words[to - this.entryWords];
      words[first + word] = value;
    }
    return first;
  }

  #draw(): number {
    const at = this.counts + this.#nrClasses;
    let x = this.words[at];
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.words[at] = x;
    return (x >>> 0) % this.#ways;
  }
}
