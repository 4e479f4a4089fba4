/**
 * A table together with all tables below it, as one thing to take away: what PageTable unlinks, replaces or frees at once.
 * Words are read, never written; the caller clears the one entry that leads here.
 */
import type { PageAllocator, PhysMem } from '../mem/index.ts';
import { isTable, tablePfn } from './format.ts';
import type { PtFormat } from './format.ts';
import { firstAbsent } from './runs.ts';

/** A table page is 512 entries of two words. */
const TABLE_WORDS = 1024;

/**
 * Lists a table and all below it, children first, provided that every entry of every table is present, so that all of its
 * span was mapped. @returns false, with a partly grown list, if not
 */
export function collectSubtree(
  mem: PhysMem,
  format: PtFormat,
  pfn: number,
  level: number,
  freelist: number[],
): boolean {
  const { words } = mem;
  const mask = format.presentMaskLo;
  const base = mem.ensure(pfn) << 10;
  const end = base + TABLE_WORDS;
  if (level === 1) {
    if (firstAbsent(words, base, end, mask) !== end) return false;
  } else {
    for (let index = base; index < end; index += 2) {
      const lo = words[index];
      if ((lo & mask) === 0) return false;
      if (!isTable(format, lo, level)) continue;
      if (!collectSubtree(mem, format, tablePfn(lo, words[index + 1]), level - 1, freelist)) return false;
    }
  }
  freelist.push(pfn);
  return true;
}

/**
 * Lists the tables that entries [first, end) of a table of `level` lead to, and all below them, children first, provided that
 * no leaf is among the entries or below. @returns false, with a partly grown list, if one is
 */
export function collectEmpty(
  mem: PhysMem,
  format: PtFormat,
  first: number,
  end: number,
  level: number,
  freelist: number[],
): boolean {
  const { words } = mem;
  for (let index = first; index < end; index += 2) {
    const lo = words[index];
    if ((lo & format.presentMaskLo) === 0) continue;
    if (!isTable(format, lo, level)) return false;
    const pfn = tablePfn(lo, words[index + 1]);
    const base = mem.ensure(pfn) << 10;
    if (!collectEmpty(mem, format, base, base + TABLE_WORDS, level - 1, freelist)) return false;
    freelist.push(pfn);
  }
  return true;
}

/** Frees a table and all below it, children first. Nobody may be able to reach them any more. */
export function freeSubtree(mem: PhysMem, pages: PageAllocator, format: PtFormat, pfn: number, level: number): void {
  if (level > 1) {
    const base = mem.ensure(pfn) << 10;
    for (let index = base; index < base + TABLE_WORDS; index += 2) {
      const lo = mem.words[index];
      if ((lo & format.presentMaskLo) === 0 || !isTable(format, lo, level)) continue;
      freeSubtree(mem, pages, format, tablePfn(lo, mem.words[index + 1]), level - 1);
    }
  }
  pages.free(pfn);
}
