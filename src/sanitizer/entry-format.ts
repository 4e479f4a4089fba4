/**
 * How hardware reads an entry of an I/O page table, by specification and without a look at any walker or writer of this
 * project: VT-d second stage (rev. 4.1 section 9.8) and AMD host tables version 1 (48882 section 2.2.3).
 */
import { amdvi, vtd } from '../spec/index.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used at each step of a walk. */
const { SS_ADDR_MASK_HI, SS_PAGE_SIZE, SS_READ, SS_WRITE } = vtd;
const {
  ADDR_MASK_HI,
  NEXT_LEVEL_LEAF,
  NEXT_LEVEL_SIZED_LEAF,
  PTE_IR_HI,
  PTE_IW_HI,
  PTE_NEXT_LEVEL_MASK,
  PTE_NEXT_LEVEL_SHIFT_LO,
  PTE_PR_LO,
} = amdvi;
export const NONE = 0;
export const TABLE = 1;
export const LEAF = 2;

const PAGES_PER_4G: number = 2 ** 20;

export interface EntryFormat {
  /** NONE, TABLE or LEAF. */
  kind(lo: number, hi: number, level: number): number;
  /** Whether hardware can tell two values of an entry apart: software's bits, accessed and dirty do not count. */
  isSame(lo: number, hi: number, otherLo: number, otherHi: number): boolean;
  /** Level of the table that a TABLE entry leads to. */
  childLevel(lo: number, level: number): number;
  /** Read 1, write 2. */
  rights(lo: number, hi: number): number;
  /** Frame that a LEAF gives for a page. */
  leafPfn(lo: number, hi: number, level: number, page: number): number;
  /** Pages that a LEAF covers: its level's span, or another power of two where the entry says so. */
  leafPages(lo: number, hi: number, level: number): number;
  /** A LEAF may stand in several entries. */
  readonly hasReplicas: boolean;
}

/** Frame in the address field of an entry, bits 51:12. */
export function entryPfn(lo: number, hi: number): number {
  return (hi & 0xfffff) * PAGES_PER_4G + (lo >>> 12);
}

/** Pages that an entry of a level spans, by level; a power computed anew cost more than the rest of a walk's step. */
const SPANS: readonly number[] = [1 / 512, 1, 2 ** 9, 2 ** 18, 2 ** 27, 2 ** 36, 2 ** 45, 2 ** 54];

/** Pages that an entry of a level spans. @param level 1 to 7: one more than there are, for the reach of a whole tree */
export function spanPages(level: number): number {
  return SPANS[level];
}

export const VTD_FORMAT: EntryFormat = {
  hasReplicas: false,
  kind(lo, _hi, level) {
    if ((lo & (SS_READ | SS_WRITE)) === 0) return NONE;
    return level === 1 || (lo & SS_PAGE_SIZE) !== 0 ? LEAF : TABLE;
  },
  isSame(lo, hi, otherLo, otherHi) {
    const mask = -4096 | SS_READ | SS_WRITE | SS_PAGE_SIZE;
    if (((lo | otherLo) & 3) === 0) return true;
    return ((lo ^ otherLo) & mask) === 0 && ((hi ^ otherHi) & SS_ADDR_MASK_HI) === 0;
  },
  childLevel: (_lo, level) => level - 1,
  rights: (lo) => lo & 3,
  leafPfn(lo, hi, level, page) {
    const pfn = entryPfn(lo, hi);
    if (level === 1) return pfn;
    const span = spanPages(level);
    return pfn - (pfn % span) + (page % span);
  },
  leafPages: (_lo, _hi, level) => spanPages(level),
};

/** Pages of a leaf of level field 7: 2^(n + 1) for the n ones of its address from bit 12 up. */
function sizedPages(lo: number, hi: number): number {
  let pages = 2;
  for (let pfn = entryPfn(lo, hi); pfn % 2 === 1; pfn = (pfn - 1) / 2) pages *= 2;
  return pages;
}

export const AMD_FORMAT: EntryFormat = {
  hasReplicas: true,
  kind(lo) {
    if ((lo & PTE_PR_LO) === 0) return NONE;
    const next = (lo >>> PTE_NEXT_LEVEL_SHIFT_LO) & PTE_NEXT_LEVEL_MASK;
    return next === NEXT_LEVEL_LEAF || next === NEXT_LEVEL_SIZED_LEAF ? LEAF : TABLE;
  },
  isSame(lo, hi, otherLo, otherHi) {
    if (((lo | otherLo) & PTE_PR_LO) === 0) return true;
    const mask = -4096 | PTE_PR_LO | (PTE_NEXT_LEVEL_MASK << PTE_NEXT_LEVEL_SHIFT_LO);
    const maskHi = ADDR_MASK_HI | PTE_IR_HI | PTE_IW_HI;
    return ((lo ^ otherLo) & mask) === 0 && ((hi ^ otherHi) & maskHi) === 0;
  },
  childLevel: (lo) => (lo >>> PTE_NEXT_LEVEL_SHIFT_LO) & PTE_NEXT_LEVEL_MASK,
  rights: (_lo, hi) => (hi >>> 29) & 3,
  leafPfn(lo, hi, level, page) {
    const pages = AMD_FORMAT.leafPages(lo, hi, level);
    const pfn = entryPfn(lo, hi);
    if (pages === 1) return pfn;
    return pfn - (pfn % pages) + (page % pages);
  },
  leafPages(lo, hi, level) {
    const next = (lo >>> PTE_NEXT_LEVEL_SHIFT_LO) & PTE_NEXT_LEVEL_MASK;
    return next === NEXT_LEVEL_SIZED_LEAF ? sizedPages(lo, hi) : spanPages(level);
  },
};
