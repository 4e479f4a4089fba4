/**
 * The pool of bounce buffers (kernel/dma/swiotlb.c, Linux 6.12: one pool, one area): slots of 2 KiB in segments of 128. A
 * buffer takes slots that follow each other within one segment, so 256 KiB is the most.
 *
 * The copy into the bounce buffer happens for every direction. A device that writes only a part of a FROM_DEVICE buffer would
 * otherwise have the pool's old contents, another's data, copied over the rest (ddbd89deb7d3, 2022).
 */
import { EINVAL, ENOSPC, alignUp } from '../base/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { copyBytes } from './cpu-memory.ts';
import type { DmaDirection } from './direction.ts';

/** Bytes of a slot (IO_TLB_SIZE). */
export const SWIOTLB_SLOT_BYTES = 2048;
/** Slots that a buffer cannot reach beyond (IO_TLB_SEGSIZE). */
export const SWIOTLB_SEGMENT_SLOTS = 128;

const FREE = -1;

/** A buffer in the pool. Having one means that its slots are taken; not that the device can reach them. */
interface Bounce {
  /** Where the caller's buffer lies, and where it lies in the pool. */
  readonly original: number;
  readonly address: number;
  readonly nrBytes: number;
  readonly nrSlots: number;
}

export class Swiotlb {
  readonly #mem: PhysMem;
  readonly #base: number;
  readonly #nrSlots: number;
  /** First slot of the buffer that a slot belongs to. */
  readonly #firstOf: Int32Array;
  readonly #bounces = new Map<number, Bounce>();
  /** Where the next search begins, behind the last buffer taken. */
  #next = 0;
  #nrUsed = 0;

  /** @param base a multiple of 256 KiB @param nrBytes the same @throws RangeError for another base or size */
  constructor(mem: PhysMem, base: number, nrBytes: number) {
    const segment = SWIOTLB_SLOT_BYTES * SWIOTLB_SEGMENT_SLOTS;
    if (base % segment !== 0 || !(nrBytes > 0) || nrBytes % segment !== 0) {
      throw new RangeError(`a bounce pool begins at and measures a multiple of ${segment} bytes`);
    }
    this.#mem = mem;
    this.#base = base;
    this.#nrSlots = nrBytes / SWIOTLB_SLOT_BYTES;
    this.#firstOf = new Int32Array(this.#nrSlots).fill(FREE);
  }

  /** Slots taken. */
  get nrUsedSlots(): number {
    return this.#nrUsed;
  }

  /** Largest buffer for a device with a minimal alignment (swiotlb_max_mapping_size). */
  static maxBytes(minAlignMask: number = 0): number {
    return SWIOTLB_SLOT_BYTES * SWIOTLB_SEGMENT_SLOTS - alignUp(minAlignMask, SWIOTLB_SLOT_BYTES);
  }

  /** True for an address in the pool (is_swiotlb_buffer). */
  contains(paddr: number): boolean {
    return paddr >= this.#base && paddr < this.#base + this.#nrSlots * SWIOTLB_SLOT_BYTES;
  }

  /**
   * Takes a buffer and copies the original in (swiotlb_tbl_map_single). It begins at a multiple of `allocAlignMask` + 1, plus
   * what the device wants kept of the original's offset (`minAlignMask`), and fills whole multiples of it, so that no page of
   * the device holds two buffers. @returns its address, or ENOSPC
   */
  map(original: number, nrBytes: number, allocAlignMask: number, minAlignMask: number): number {
    const align = Math.max(allocAlignMask + 1, SWIOTLB_SLOT_BYTES);
    const offset = (original % align) & minAlignMask;
    const nrSlots = alignUp(nrBytes + offset, align) / SWIOTLB_SLOT_BYTES;
    const first = this.#search(nrSlots, align / SWIOTLB_SLOT_BYTES);
    if (first < 0) return ENOSPC;
    this.#firstOf.fill(first, first, first + nrSlots);
    this.#nrUsed += nrSlots;
    this.#next = (first + nrSlots) % this.#nrSlots;
    const address = this.#base + first * SWIOTLB_SLOT_BYTES + offset;
    this.#bounces.set(first, { original, address, nrBytes, nrSlots });
    copyBytes(this.#mem, original, address, nrBytes);
    return address;
  }

  /** Gives a buffer back, first copying out what the device may have written, unless `skipSync` (swiotlb_tbl_unmap_single). */
  unmap(address: number, nrBytes: number, direction: DmaDirection, skipSync: boolean): number {
    const found = this.#holding(address);
    if (found === undefined) return EINVAL;
    if (!skipSync && direction !== 'toDevice') this.#copyOut(found, address, nrBytes);
    const first = this.#firstOf[this.#slotOf(address)];
    this.#firstOf.fill(FREE, first, first + found.nrSlots);
    this.#bounces.delete(first);
    this.#nrUsed -= found.nrSlots;
    return 0;
  }

  /** Lets the CPU see what the device wrote (swiotlb_sync_single_for_cpu). */
  syncForCpu(address: number, nrBytes: number, direction: DmaDirection): void {
    const found = this.#holding(address);
    if (found !== undefined && direction !== 'toDevice') this.#copyOut(found, address, nrBytes);
  }

  /** Lets the device see what the CPU wrote (swiotlb_sync_single_for_device). */
  syncForDevice(address: number, nrBytes: number, direction: DmaDirection): void {
    const found = this.#holding(address);
    if (found === undefined || direction === 'fromDevice') return;
    const at = address - found.address;
    copyBytes(this.#mem, found.original + at, address, Math.min(nrBytes, found.nrBytes - at));
  }

  /** More than the buffer holds is cut off, as the kernel does with a warning. */
  #copyOut(bounce: Bounce, address: number, nrBytes: number): void {
    const offset = address - bounce.address;
    this.copyBack(address, bounce.original, offset, Math.min(nrBytes, bounce.nrBytes - offset));
  }

  /**
   * Copies a part of a buffer to the same distance from the start of the original. Up to 5.13 it went to the start of the
   * original (list mail 59cd201b45, bug 30).
   */
  protected copyBack(address: number, original: number, offset: number, nrBytes: number): void {
    copyBytes(this.#mem, address, original + offset, nrBytes);
  }

  #slotOf(address: number): number {
    return Math.floor((address - this.#base) / SWIOTLB_SLOT_BYTES);
  }

  /** The buffer that holds an address; undefined for its padding, and outside. */
  #holding(address: number): Bounce | undefined {
    if (!this.contains(address)) return undefined;
    const found = this.#bounces.get(this.#firstOf[this.#slotOf(address)]);
    return found !== undefined && address >= found.address && address < found.address + found.nrBytes
      ? found
      : undefined;
  }

  /** First of `nrSlots` free slots within a segment, at a multiple of `stride`; -1 when there are none. */
  #search(nrSlots: number, stride: number): number {
    if (nrSlots > SWIOTLB_SEGMENT_SLOTS) return -1;
    const start = alignUp(this.#next, stride) % this.#nrSlots;
    for (let tried = 0; tried < this.#nrSlots; tried += stride) {
      const first = (start + tried) % this.#nrSlots;
      if ((first % SWIOTLB_SEGMENT_SLOTS) + nrSlots > SWIOTLB_SEGMENT_SLOTS) continue;
      let isFree = true;
      for (let slot = first; slot < first + nrSlots && isFree; slot++) isFree = this.#firstOf[slot] === FREE;
      if (isFree) return first;
    }
    return -1;
  }
}
