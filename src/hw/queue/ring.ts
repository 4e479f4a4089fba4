/**
 * A ring of 16-byte entries in memory, as command buffers and event logs are (VT-d rev. 4.1 section 6.5.2, AMD-Vi 48882
 * sections 2.4 and 2.5): where an entry lies, and whether there is memory at all.
 *
 * Rings are read and written coherently, whatever a unit does with its tables, so this is memory's CPU view.
 */
import type { PhysMem } from '../../mem/index.ts';

const ENTRY_BYTES = 16;

/** Address of an entry. @param lo @param hi words of the base register, without bits that are not address */
export function ringEntryAddress(lo: number, hi: number, index: number): number {
  return hi * 4294967296 + (lo >>> 0) + index * ENTRY_BYTES;
}

/** Index of an entry's first word in `mem.words`, or -1 where there is no memory. Bases are page-aligned, so it lies in one page. */
export function ringEntryIndex(mem: PhysMem, address: number): number {
  const slot = mem.slotOf(Math.floor(address / 4096));
  return slot < 0 ? -1 : (slot << 10) + ((address & 0xfff) >>> 2);
}

/** Entries of a ring that share a page, as a power of two. */
export const RING_PAGE_SHIFT = 8;

/**
 * Index in `mem.words` of the first entry of a ring's n-th page, or -1 where there is no memory. Frames do not move, so a run
 * over a ring looks each page up once, not each entry.
 */
export function ringPageIndex(mem: PhysMem, lo: number, hi: number, page: number): number {
  const slot = mem.slotOf(hi * 1048576 + (lo >>> 12) + page);
  return slot < 0 ? -1 : slot << 10;
}
