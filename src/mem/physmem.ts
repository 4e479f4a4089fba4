/**
 * Sparse physical memory, as CPUs and IOMMUs see it.
 *
 * Frames live as 4 KiB slots of one growing Int32Array (the arena); a table maps frame to slot. Hot code keeps a word
 * index into `words` instead of an address: `(slotOf(pfn) << 10) + wordInPage`. The arena moves when it grows, so no one
 * keeps `words` itself across a call that may allocate.
 *
 * Two views. `words` is what CPUs see. `deviceWords` is what an IOMMU that does not snoop CPU caches sees
 * (VT-d ECAP.C = 0): stores reach it only by `flush`. With a coherent machine both are the same array, so coherence costs nothing.
 *
 * Why one arena and not a Map from frame to array: a walk over such frames is ten times slower (bench/representation.js).
 */
import { TWO_32 } from '../base/index.ts';

/** A constant of this module: V8 turns a division by it into a multiplication, one by an imported binding it divides (20 cycles). */
const PAGE = 4096;
const WORDS_PER_PAGE_SHIFT = 10;
const WORDS_PER_PAGE = 1 << WORDS_PER_PAGE_SHIFT;
/** Frames below this have a directly indexed slot table (16 GiB of addresses); others cost a Map look-up. */
const NEAR_FRAMES = 1 << 22;
const NEAR_BYTES: number = NEAR_FRAMES * PAGE;
const MAX_FRAMES = (1 << 21) - 1;

/** Called after every store by software, when set. The sanitizer sits here. */
export interface StoreObserver {
  /** @param wordIndex first word of the store in the arena. @param nrWords its length in 32-bit words, within one page. */
  stored(wordIndex: number, nrWords: number): void;
}

export interface PhysMemOptions {
  /** False models an IOMMU that reads memory behind the CPU caches. Default true. */
  readonly coherent?: boolean;
}

export class PhysMem {
  /** What CPUs see; index = slot << 10 | word. Replaced when memory grows: read it anew after anything that may allocate. */
  words: Int32Array;
  /** What a non-snooping IOMMU sees; the same array as `words` when memory is coherent. */
  deviceWords: Int32Array;
  /** Set by at most one party; null costs one compare per store. */
  observer: StoreObserver | null = null;
  readonly coherent: boolean;

  #slots: Int32Array = new Int32Array(1 << 12).fill(-1);
  readonly #farSlots = new Map<number, number>();
  #frameOfSlot: Float64Array = new Float64Array(64);
  #nrSlots = 0;

  constructor(options: PhysMemOptions = {}) {
    this.coherent = options.coherent ?? true;
    this.words = new Int32Array(64 << WORDS_PER_PAGE_SHIFT);
    this.deviceWords = this.coherent ? this.words : new Int32Array(this.words.length);
  }

  /** Number of frames that hold memory. */
  get nrFrames(): number {
    return this.#nrSlots;
  }

  /** The slot of a frame, or -1 when nothing was ever stored there. */
  slotOf(pfn: number): number {
    if (pfn < this.#slots.length) return this.#slots[pfn];
    return pfn < NEAR_FRAMES ? -1 : (this.#farSlots.get(pfn) ?? -1);
  }

  /** The frame that a slot holds; for observers, which see word indexes. */
  frameOfSlot(slot: number): number {
    return this.#frameOfSlot[slot];
  }

  /** The slot of a frame, made of zeroes when it did not exist. */
  ensure(pfn: number): number {
    const found = this.slotOf(pfn);
    return found >= 0 ? found : this.#create(pfn);
  }

  #create(pfn: number): number {
    if (!Number.isInteger(pfn) || pfn < 0 || pfn >= 2 ** 40) {
      throw new RangeError(`physical frame must be an integer in [0, 2^40), got ${pfn}`);
    }
    const slot = this.#nrSlots;
    // Word indexes are int32: 2^21 frames of 1024 words are all there can be.
    if (slot >= MAX_FRAMES) throw new RangeError(`physical memory is full: ${MAX_FRAMES} frames (8 GiB) hold data`);
    if ((slot + 1) << WORDS_PER_PAGE_SHIFT > this.words.length) this.#grow();
    if (pfn >= NEAR_FRAMES) {
      this.#farSlots.set(pfn, slot);
    } else {
      if (pfn >= this.#slots.length) {
        let length = this.#slots.length;
        while (length <= pfn) length *= 2;
        const slots = new Int32Array(length).fill(-1);
        slots.set(this.#slots);
        this.#slots = slots;
      }
      this.#slots[pfn] = slot;
    }
    this.#frameOfSlot[slot] = pfn;
    this.#nrSlots = slot + 1;
    return slot;
  }

  #grow(): void {
    const words = new Int32Array(this.words.length * 2);
    words.set(this.words);
    if (this.coherent) {
      this.deviceWords = words;
    } else {
      const deviceWords = new Int32Array(words.length);
      deviceWords.set(this.deviceWords);
      this.deviceWords = deviceWords;
    }
    this.words = words;
    const frames = new Float64Array(words.length >>> WORDS_PER_PAGE_SHIFT);
    frames.set(this.#frameOfSlot);
    this.#frameOfSlot = frames;
  }

  /** The slot of the frame that holds an address, or -1. Near addresses need no rounding of doubles. */
  #slotAt(paddr: number): number {
    if (paddr >= 0 && paddr < NEAR_BYTES) {
      const pfn = (paddr / PAGE) | 0;
      return pfn < this.#slots.length ? this.#slots[pfn] : -1;
    }
    return this.slotOf(Math.floor(paddr / PAGE));
  }

  /** Word index of a physical byte address, creating its frame. @param paddr multiple of 4 */
  indexOf(paddr: number): number {
    const found = this.#slotAt(paddr);
    const slot = found >= 0 ? found : this.#create(Math.floor(paddr / PAGE));
    return (slot << WORDS_PER_PAGE_SHIFT) + ((paddr & (PAGE - 1)) >>> 2);
  }

  /** CPU load of one word; 0 where nothing was stored. @param paddr multiple of 4 */
  load32(paddr: number): number {
    const slot = this.#slotAt(paddr);
    return slot < 0 ? 0 : this.words[(slot << WORDS_PER_PAGE_SHIFT) + ((paddr & (PAGE - 1)) >>> 2)];
  }

  /** CPU store of one word. @param paddr multiple of 4 */
  store32(paddr: number, value: number): void {
    const index = this.indexOf(paddr);
    this.words[index] = value;
    if (this.observer !== null) this.observer.stored(index, 1);
  }

  /** CPU store of one 8-byte entry, single-copy atomic as on hardware. @param paddr multiple of 8 */
  store64(paddr: number, lo: number, hi: number): void {
    const index = this.indexOf(paddr);
    this.words[index] = lo;
    this.words[index + 1] = hi;
    if (this.observer !== null) this.observer.stored(index, 2);
  }

  /** Fills a whole frame with one word, as a CPU would. */
  fillFrame(pfn: number, word: number): void {
    const index = this.ensure(pfn) << WORDS_PER_PAGE_SHIFT;
    this.words.fill(word, index, index + WORDS_PER_PAGE);
    if (this.observer !== null) this.observer.stored(index, WORDS_PER_PAGE);
  }

  /** Reports stores made directly into `words` by a bulk loop. Every such loop must call it, or the observer goes blind. */
  stored(wordIndex: number, nrWords: number): void {
    if (this.observer !== null) this.observer.stored(wordIndex, nrWords);
  }

  /** Makes CPU stores of a range visible to a non-snooping device (clflush). Nothing to do on coherent memory. */
  flush(paddr: number, nrBytes: number): void {
    if (this.coherent) return;
    const line = 64;
    let address = paddr - (paddr % line);
    const end = paddr + nrBytes;
    for (; address < end; address += line) {
      const index = this.indexOf(address);
      for (let word = 0; word < line / 4; word++) this.deviceWords[index + word] = this.words[index + word];
    }
  }

  /** A device's load of one word: what it sees in memory, which may lag behind the CPUs. */
  deviceLoad32(paddr: number): number {
    const slot = this.#slotAt(paddr);
    return slot < 0 ? 0 : this.deviceWords[(slot << WORDS_PER_PAGE_SHIFT) + ((paddr & (PAGE - 1)) >>> 2)];
  }

  /** A device's store of one word. It snoops: CPUs see it at once. Not reported to the observer, which watches software. */
  deviceStore32(paddr: number, value: number): void {
    const index = this.indexOf(paddr);
    this.words[index] = value;
    this.deviceWords[index] = value;
  }

  /** Physical byte address of a word index. */
  paddrOfIndex(wordIndex: number): number {
    return this.#frameOfSlot[wordIndex >>> WORDS_PER_PAGE_SHIFT] * PAGE + (wordIndex & (WORDS_PER_PAGE - 1)) * 4;
  }
}

/** First physical address that a frame number can no longer reach, 2^52: both architectures end there. */
export const PHYS_LIMIT: number = 2 ** 20 * TWO_32;
