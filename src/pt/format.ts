/**
 * What a page-table format must answer so that map, unmap and walk can be written once: the idea of Linux's generic page
 * tables (drivers/iommu/generic_pt, 6.19), with the questions cut to what one writer needs.
 *
 * Entries are two words (lo, hi). Map of names: level 1 holds 4 KiB leaves, level n entries span 2^(12 + 9 (n - 1)) bytes
 * (the "item" of the kernel's text); "size" here is always a leaf size as a log2. A leaf bigger than its level's entry but
 * smaller than the next level's (AMD next level 7) is written as 2^((sizeLg2 - 12) mod 9) equal entries, its replicas.
 *
 * Cost rule: every method is called once per run of entries or once per level of a walk, never once per entry of a run.
 * That is why presence is constant data and not a question: the run loops test it themselves.
 */

/** Access rights, with the values of IOMMU_READ, IOMMU_WRITE, IOMMU_CACHE, ... of the core above this layer. */
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_CACHE = 4;
export const PROT_NOEXEC = 8;
export const PROT_MMIO = 16;

/** Entries of a table, as a log2. Both architectures use 512 entries of 8 bytes in every table. */
export const TABLE_LG2 = 9;

/** A format. Implementations are immutable: one object may serve many tables. */
export interface PtFormat {
  readonly name: string;
  /** Leaf sizes that may be written, as a sum of powers of two in bytes. Includes 4 KiB. */
  readonly pgsizeBitmap: number;
  /** Deepest table the format can describe. */
  readonly maxLevels: number;
  /** An entry is present iff any of these bits of its low word is set. */
  readonly presentMaskLo: number;
  /**
   * What a table entry looks like, so that a walk needs one compare per level: an entry points to a table of level `child` iff
   * (lo & tableMaskLo) === tableBitsLo + child * tableBitsPerLevel. Anything else is absent or a leaf.
   */
  readonly tableMaskLo: number;
  readonly tableBitsLo: number;
  readonly tableBitsPerLevel: number;
  /** True when `leafSizeLg2` can answer something else than the size of the level's entry, so replicas exist. */
  readonly contiguous: boolean;
  /**
   * In a contiguous format, an entry is a leaf of its own, without replicas, iff (lo & plainMaskLo) === plainBitsLo; so that a
   * run of them needs no question per entry. Not read otherwise.
   */
  readonly plainMaskLo: number;
  readonly plainBitsLo: number;

  /** Low and high word of a leaf of 2^sizeLg2 bytes. `paddr` is a multiple of that size, below 2^52. */
  leafLo(paddr: number, sizeLg2: number, prot: number): number;
  leafHi(paddr: number, sizeLg2: number, prot: number): number;

  /** Low and high word of an entry that points to a table of level `childLevel`. */
  tableLo(pfn: number, childLevel: number): number;
  tableHi(pfn: number, childLevel: number): number;

  /** Size of the leaf that a present leaf entry of `level` belongs to. */
  leafSizeLg2(lo: number, hi: number, level: number): number;
  /** First byte that the leaf maps to. */
  leafPaddr(lo: number, hi: number, level: number): number;
  /** Rights that a leaf grants, as PROT_* bits; attributes that the format does not store are absent. */
  leafProt(lo: number, hi: number): number;
}

/** Whether a present entry of a table of `level` points to another table; else it is a leaf. */
export function isTable(format: PtFormat, lo: number, level: number): boolean {
  return level > 1 && (lo & format.tableMaskLo) === format.tableBitsLo + (level - 1) * format.tableBitsPerLevel;
}

/** Frame of the table that a table entry points to: bits 51:12 in every format so far, as those of a 4 KiB leaf. */
export function tablePfn(lo: number, hi: number): number {
  return (hi & 0xfffff) * 1048576 + (lo >>> 12);
}

/** 2^lg2 for lg2 in 0..52, without the library call that `**` is. */
export function pow2(lg2: number): number {
  return lg2 < 31 ? 1 << lg2 : lg2 === 31 ? 2147483648 : (1 << (lg2 - 31)) * 2147483648;
}

/** Bytes that one entry of a table of `level` spans, as a log2. */
export function entryLg2(level: number): number {
  return 12 + TABLE_LG2 * (level - 1);
}

/** Level whose tables hold the leaves of a size, replicated or not. */
export function levelOfSize(sizeLg2: number): number {
  return (((sizeLg2 - 12) / TABLE_LG2) | 0) + 1;
}

/**
 * Number of the entry for an address in a table of `level`. Split in two 18-bit halves because JavaScript's shifts stop at
 * 32 bits; a division per level instead makes the walk over thirty times slower (bench/representation.js).
 */
export function entryIndex(iova: number, level: number): number {
  return level < 3
    ? ((iova / 4096) >>> (TABLE_LG2 * (level - 1))) & 511
    : ((iova / 1073741824) >>> (TABLE_LG2 * (level - 3))) & 511;
}

/** Multiple of a power of two not above an address. Exact for doubles; their `%` is a library call of 20 ns. */
export function roundDown(address: number, bytes: number): number {
  return Math.floor(address / bytes) * bytes;
}

export function isAligned(address: number, bytes: number): boolean {
  return roundDown(address, bytes) === address;
}

/** Capped at 2^52: no more is exact with the arithmetic here, and neither architecture maps more below 6 levels. */
export function addressEndOf(levels: number): number {
  return pow2(Math.min(52, entryLg2(levels + 1)));
}
