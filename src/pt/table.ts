/**
 * One page table in memory, written by software: map, unmap, look-up, once for all formats.
 *
 * Behaviour follows Linux 6.19 drivers/iommu/generic_pt/iommu_pt.h, with one deliberate choice of drivers/iommu/intel/iommu.c:
 * a table page is unlinked only by an unmap whose range covers the table's whole span. (The invalidation hint IH depends on
 * it: no table in the freelist means the walk caches may stay.) So empty tables may stay behind; a superpage mapped over
 * them later replaces them, see `onTableReplaced`. What other kernels do otherwise is in `PageTableOptions`.
 *
 * Ranges in this file are [iova, iova + nrBytes), ends exclusive. A `base` is the word index of a table's first entry in
 * `mem.words`; it stays valid for the life of the memory, while `words` itself is replaced when memory grows, so no method
 * keeps it across an allocation or a callback.
 *
 * No method allocates per call, except for table pages and the rare freelist of a replaced table. The last leaf table is
 * remembered: a single page mapped or looked up near the last one needs no walk (bench/map.js: 10 instead of 27 ns).
 */
import { and53, EADDRINUSE, EINVAL, ENOMEM, highestBit } from '../base/index.ts';
import type { PageAllocator, PhysMem } from '../mem/index.ts';
import {
  PROT_READ,
  PROT_WRITE,
  TABLE_LG2,
  addressEndOf,
  entryIndex,
  entryLg2,
  isAligned,
  isTable,
  levelOfSize,
  pow2,
  roundDown,
  tablePfn,
} from './format.ts';
import type { PtFormat } from './format.ts';
import type { MappedBytes, PageTableOptions } from './hooks.ts';
import { iommuPgsize } from './pgsize.ts';
import type { PgCount } from './pgsize.ts';
import { FILL_FROM, clearLargeLeaves, clearLeaves, clearPlainLeaves, fillLeaves, firstAbsent } from './runs.ts';
import { collectEmpty, collectSubtree, freeSubtree } from './subtree.ts';

/** Bytes under one level-1 table. */
const LEAF_SPAN = 2097152;

export class PageTable {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly format: PtFormat;
  readonly #hooks: PageTableOptions;
  readonly #onWritten: ((paddr: number, nrBytes: number) => void) | null;
  // Of the format: a field of this class is a load, of a format that has siblings a dispatch.
  readonly #mask: number;
  readonly #contiguous: boolean;
  readonly #plainMask: number;
  readonly #plainBits: number;
  // Initialised here with numbers of their later kind: a field that starts undefined stays a tagged value and is checked at every use.
  #rootPfn = 0;
  #rootBase = 0;
  #levels = 0;
  #nrTables = 0;
  #addressEnd = Infinity;
  /** The level-1 table of the last access: first address of its 2 MiB span (Infinity for none) and its base. */
  #leafStart = Infinity;
  #leafBase = 0;
  #errno = 0; // why the last run of leaves stopped early
  #foundLevel = 0; // of the entry that `#find` returned
  #at = Infinity; // where the running unmap has got to
  #removedFrom = Infinity;
  readonly #pgCount: PgCount = { count: 0 };
  readonly #part: MappedBytes = { bytes: 0 };

  /** An empty table of `levels` levels. When no page was left, `rootPfn` is -1 and the table is unusable: return ENOMEM. */
  constructor(mem: PhysMem, pages: PageAllocator, format: PtFormat, levels: number, hooks: PageTableOptions = {}) {
    if (levels < 2 || levels > format.maxLevels) {
      throw new RangeError(`${format.name} has 2 to ${format.maxLevels} levels, got ${levels}`);
    }
    this.mem = mem;
    this.pages = pages;
    this.format = format;
    this.#levels = levels;
    this.#addressEnd = addressEndOf(levels);
    this.#hooks = hooks;
    this.#onWritten = hooks.onWritten ?? null;
    this.#mask = format.presentMaskLo;
    this.#contiguous = format.contiguous;
    this.#plainMask = format.plainMaskLo;
    this.#plainBits = format.plainBitsLo;
    this.#rootPfn = pages.alloc();
    this.#rootBase = this.#rootPfn < 0 ? -1 : this.#baseOf(this.#rootPfn);
    if (this.#rootPfn >= 0) {
      this.#nrTables = 1;
      if (this.#onWritten !== null) this.#onWritten(this.#rootPfn * 4096, 4096);
    }
  }

  /** Frame of the root table, for the context or device-table entry. Changed by `raiseTop`. */
  get rootPfn(): number {
    return this.#rootPfn;
  }

  get levels(): number {
    return this.#levels;
  }

  /** Table pages linked now, the root included. */
  get nrTables(): number {
    return this.#nrTables;
  }

  /** First address that the table cannot hold; at most 2^52. */
  get addressEnd(): number {
    return this.#addressEnd;
  }

  #baseOf(pfn: number): number {
    return this.mem.ensure(pfn) << 10;
  }

  #inReach(iova: number, nrBytes: number): boolean {
    return this.#rootPfn >= 0 && iova >= 0 && nrBytes > 0 && iova + nrBytes <= this.#addressEnd;
  }

  /**
   * Maps `pgcount` leaves of `pgsize` bytes. Where something is mapped already it stops with EADDRINUSE; `mapped.bytes` then
   * says exactly what was written, and nothing beyond it was touched. The caller undoes it or not. Tables made on the way stay.
   * @returns 0, EADDRINUSE, ENOMEM, or EINVAL for a size the format lacks, an unaligned address, no rights, out of reach
   */
  mapRange(iova: number, paddr: number, pgsize: number, pgcount: number, prot: number, mapped: MappedBytes): number {
    mapped.bytes = 0;
    if ((prot & (PROT_READ | PROT_WRITE)) === 0) return EINVAL;
    if (
      pgcount === 1 &&
      pgsize === 4096 &&
      iova >= this.#leafStart &&
      iova < this.#leafStart + LEAF_SPAN &&
      ((iova | paddr) & 4095) === 0
    ) {
      // The commonest call by far: one page into the remembered table.
      const index = this.#leafBase + ((iova / 4096) & 511) * 2;
      const { words } = this.mem;
      if ((words[index] & this.#mask) !== 0) return EADDRINUSE;
      words[index] = this.format.leafLo(paddr, 12, prot);
      words[index + 1] = this.format.leafHi(paddr, 12, prot);
      this.mem.stored(index, 2);
      if (this.#onWritten !== null) this.#onWritten(this.mem.paddrOfIndex(index), 8);
      mapped.bytes = 4096;
      return 0;
    }
    return this.#mapAny(iova, paddr, pgsize, pgcount, prot, mapped);
  }

  /** `mapRange` without its short cut; apart, so that callers can inline the short cut. */
  #mapAny(iova: number, paddr: number, pgsize: number, pgcount: number, prot: number, mapped: MappedBytes): number {
    let sizeLg2 = 12;
    if (pgsize === 4096) {
      if (((iova | paddr) & 4095) !== 0) return EINVAL;
    } else {
      sizeLg2 = highestBit(pgsize);
      if (pow2(sizeLg2) !== pgsize || and53(this.format.pgsizeBitmap, pgsize) === 0) return EINVAL;
      if (!isAligned(iova, pgsize) || !isAligned(paddr, pgsize)) return EINVAL;
    }
    if (!this.#inReach(iova, pgsize * pgcount) || levelOfSize(sizeLg2) > this.#levels) return EINVAL;
    return this.#mapRun(iova, paddr, sizeLg2, pgcount, prot, mapped);
  }

  /**
   * Maps a whole range with the largest leaves its alignment allows, as drivers did before the core split ranges for them
   * (Intel up to 5.14) and as generic_pt's map_range does again.
   */
  mapBytes(iova: number, paddr: number, nrBytes: number, prot: number, mapped: MappedBytes): number {
    mapped.bytes = 0;
    if ((prot & (PROT_READ | PROT_WRITE)) === 0) return EINVAL;
    if (((iova | paddr | nrBytes) & 4095) !== 0 || !this.#inReach(iova, nrBytes)) return EINVAL;
    const part = this.#part;
    let done = 0;
    while (done < nrBytes) {
      const pgsize = iommuPgsize(this.format.pgsizeBitmap, iova + done, paddr + done, nrBytes - done, this.#pgCount);
      part.bytes = 0;
      const errno = this.#mapRun(iova + done, paddr + done, highestBit(pgsize), this.#pgCount.count, prot, part);
      done += part.bytes;
      mapped.bytes = done;
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /** Leaves of one size, table by table. Arguments are checked. */
  #mapRun(iova: number, paddr: number, sizeLg2: number, pgcount: number, prot: number, mapped: MappedBytes): number {
    const level = levelOfSize(sizeLg2);
    const replicasLg2 = (sizeLg2 - 12) % TABLE_LG2;
    const pgsize = pow2(sizeLg2);
    let left = pgcount;
    let at = iova;
    let from = paddr;
    while (left > 0) {
      const base =
        level === 1 && at >= this.#leafStart && at < this.#leafStart + LEAF_SPAN
          ? this.#leafBase
          : this.#descendMaking(at, level);
      if (base < 0) return base;
      const index = entryIndex(at, level);
      const room = (512 - index) >> replicasLg2;
      const nr = left < room ? left : room;
      const first = base + index * 2;
      const written =
        replicasLg2 === 0
          ? this.#writeRun(first, at, from, sizeLg2, level, nr, prot)
          : this.#writeReplicated(first, at, from, sizeLg2, level, nr, prot);
      const bytes = written * pgsize;
      mapped.bytes += bytes;
      if (written !== nr) return this.#errno;
      at += bytes;
      from += bytes;
      left -= nr;
    }
    return 0;
  }

  /** Base of the table of `level` that holds iova's entry, making the tables on the path; EADDRINUSE or ENOMEM. */
  #descendMaking(iova: number, level: number): number {
    const { mem, format } = this;
    let base = this.#rootBase;
    for (let at = this.#levels; at > level; at--) {
      const index = base + entryIndex(iova, at) * 2;
      const lo = mem.words[index];
      if ((lo & format.presentMaskLo) === 0) {
        base = this.#makeTable(index, at - 1);
        if (base < 0) return base;
      } else if (!isTable(format, lo, at)) {
        return EADDRINUSE;
      } else {
        base = this.#baseOf(tablePfn(lo, mem.words[index + 1]));
      }
    }
    if (level === 1) {
      this.#leafStart = roundDown(iova, LEAF_SPAN);
      this.#leafBase = base;
    }
    return base;
  }

  #makeTable(index: number, childLevel: number): number {
    const pfn = this.pages.alloc();
    if (pfn < 0) return ENOMEM;
    if (this.#onWritten !== null) this.#onWritten(pfn * 4096, 4096);
    this.#nrTables += 1;
    this.#store(index, this.format.tableLo(pfn, childLevel), this.format.tableHi(pfn, childLevel));
    return this.#baseOf(pfn);
  }

  /** One entry, reported. */
  #store(index: number, lo: number, hi: number): void {
    const words = this.mem.words;
    words[index] = lo;
    words[index + 1] = hi;
    this.#wrote(index, 2);
  }

  /** Reports a run of stores within one table to the memory's observer and to the driver. */
  #wrote(index: number, nrWords: number): void {
    this.mem.stored(index, nrWords);
    if (this.#onWritten !== null) this.#onWritten(this.mem.paddrOfIndex(index), nrWords * 4);
  }

  /** Writes `nr` unreplicated leaves of one table. @returns how many; fewer than `nr` leaves the reason in `#errno` */
  #writeRun(
    first: number,
    iova: number,
    paddr: number,
    sizeLg2: number,
    level: number,
    nr: number,
    prot: number,
  ): number {
    const { format } = this;
    const end = first + nr * 2;
    let index = first;
    for (;;) {
      const done = (index - first) / 2;
      const from = done === 0 ? paddr : paddr + done * pow2(sizeLg2);
      const lo = format.leafLo(from, sizeLg2, prot);
      const hi = format.leafHi(from, sizeLg2, prot);
      const stop = fillLeaves(this.mem.words, index, end, format.presentMaskLo, lo, hi, sizeLg2);
      if (stop !== index) this.#wrote(index, stop - index);
      if (stop === end) return nr;
      index = stop;
      const at = iova + ((index - first) / 2) * pow2(sizeLg2);
      this.#errno = level === 1 ? EADDRINUSE : this.#replaceTables(index, 1, at, level, sizeLg2);
      if (this.#errno !== 0) return (index - first) / 2;
    }
  }

  /** The same for leaves of several equal entries. All replicas of a leaf are free before its first one is written. */
  #writeReplicated(
    first: number,
    iova: number,
    paddr: number,
    sizeLg2: number,
    level: number,
    nr: number,
    prot: number,
  ): number {
    const mask = this.format.presentMaskLo;
    const replicas = 1 << ((sizeLg2 - 12) % TABLE_LG2);
    const pgsize = pow2(sizeLg2);
    for (let leaf = 0; leaf < nr; leaf++) {
      const start = first + leaf * replicas * 2;
      const end = start + replicas * 2;
      let words = this.mem.words;
      for (let index = start; index < end; index += 2) {
        if ((words[index] & mask) === 0) continue;
        this.#errno = this.#replaceTables(start, replicas, iova + leaf * pgsize, level, sizeLg2);
        if (this.#errno !== 0) return leaf;
        words = this.mem.words;
        break;
      }
      const lo = this.format.leafLo(paddr + leaf * pgsize, sizeLg2, prot);
      const hi = this.format.leafHi(paddr + leaf * pgsize, sizeLg2, prot);
      for (let index = start; index < end; index += 2) {
        words[index] = lo;
        words[index + 1] = hi;
      }
      this.#wrote(start, replicas * 2);
    }
    return nr;
  }

  /** Makes `nr` entries free for one leaf: each must be empty or lead to no leaf. Checks all first: a refusal changes nothing. */
  #replaceTables(first: number, nr: number, iova: number, level: number, sizeLg2: number): number {
    const { mem, format } = this;
    const end = first + nr * 2;
    const freelist: number[] = [];
    if (!collectEmpty(mem, format, first, end, level, freelist)) return EADDRINUSE;
    mem.words.fill(0, first, end);
    this.#wrote(first, nr * 2);
    this.#leafStart = Infinity;
    this.#nrTables -= freelist.length;
    const { onTableReplaced } = this.#hooks;
    if (onTableReplaced !== undefined) onTableReplaced(iova, pow2(sizeLg2), freelist);
    else for (const pfn of freelist) this.pages.free(pfn);
    return 0;
  }

  /** `unmapBytes` with the arguments of the driver callback. */
  unmapRange(iova: number, pgsize: number, pgcount: number, freelist: number[]): number {
    return this.unmapBytes(iova, pgsize * pgcount, freelist);
  }

  /**
   * Clears what is mapped from iova on, until the range ends or something is in the way: an entry that is not present, or a
   * leaf that begins before iova (with `partialUnmap: 'whole-leaf'` that goes too). A leaf that begins inside and ends behind
   * the range goes as a whole.
   *
   * What was removed is exactly [removedFrom, iova + returned): it can be longer than asked, and the caller must invalidate
   * all of it (ee6e69d03255: a gather that covered only the request left the rest of a large leaf in the IOTLB).
   *
   * Tables whose whole span lies in the range and was mapped are unlinked without clearing their entries and appended to
   * `freelist`, children before parents. They still are reachable through walk caches: free them after the invalidation.
   */
  unmapBytes(iova: number, nrBytes: number, freelist: number[]): number {
    this.#removedFrom = iova;
    this.#at = iova;
    if (iova >= this.#leafStart && iova + nrBytes <= this.#leafStart + LEAF_SPAN) {
      // Within the remembered table, short of its whole span.
      if (nrBytes < LEAF_SPAN && ((iova | nrBytes) & 4095) === 0) {
        const nr = nrBytes >>> 12;
        const cleared = this.#clearRun(this.#leafBase + ((iova / 4096) & 511) * 2, nr);
        if (cleared === nr || !this.#contiguous) return cleared * 4096;
        this.#at += cleared * 4096; // a replicated leaf may come next
      }
    }
    if (!this.#inReach(iova, nrBytes) || ((iova | nrBytes) & 4095) !== 0) return 0;
    this.#clear(this.#rootBase, this.#levels, iova + nrBytes, freelist);
    return this.#at - iova;
  }

  /** All replicas: one left behind would go on mapping its part (Linux mail of September 2019, "Unmap all L7 PTEs"). */
  protected clearLeaf(index: number, replicas: number): void {
    const { words } = this.mem;
    for (let word = index; word < index + replicas * 2; word++) words[word] = 0;
  }

  /** First address that the last unmap removed: its iova, or less when that lay within a leaf that went as a whole. */
  get removedFrom(): number {
    return this.#removedFrom;
  }

  /** Clears up to `nr` level-1 leaves until one is not present, or is replicated. @returns how many */
  #clearRun(first: number, nr: number): number {
    const { words } = this.mem;
    const mask = this.#mask;
    const end = first + nr * 2;
    let index: number;
    if (this.#contiguous) {
      index = clearPlainLeaves(words, first, end, this.#plainMask, this.#plainBits);
    } else if (nr <= FILL_FROM) {
      index = clearLeaves(words, first, end, mask);
    } else {
      index = firstAbsent(words, first, end, mask);
      words.fill(0, first, index);
    }
    if (index !== first) this.#wrote(first, index - first);
    return (index - first) / 2;
  }

  /** Clears from `#at` on within one table. @returns false when something was in the way */
  #clear(base: number, level: number, end: number, freelist: number[]): boolean {
    const { mem, format } = this;
    const mask = format.presentMaskLo;
    const entryBytes = pow2(entryLg2(level));
    let entry = entryIndex(this.#at, level);
    if (level === 1) {
      this.#leafStart = roundDown(this.#at, LEAF_SPAN);
      this.#leafBase = base;
      if (!this.#contiguous) {
        const left = (end - this.#at) / 4096;
        const nr = left < 512 - entry ? left : 512 - entry;
        const cleared = this.#clearRun(base + entry * 2, nr);
        this.#at += cleared * 4096;
        return cleared === nr;
      }
    }
    // Only the first entry can be hit in its middle.
    let atStart = isAligned(this.#at, entryBytes);
    let index = base + entry * 2;
    // Entries [dirtyFrom, index) are cleared and not reported yet.
    let dirtyFrom = index;
    let ok = true;
    while (entry < 512 && this.#at < end) {
      const lo = mem.words[index];
      if ((lo & mask) === 0) {
        ok = false;
        break;
      }
      const hi = mem.words[index + 1];
      if (!isTable(format, lo, level)) {
        if (atStart) {
          const left = Math.ceil((end - this.#at) / entryBytes);
          const last = index + (left < 512 - entry ? left : 512 - entry) * 2;
          const bits = format.tableBitsLo + (level - 1) * format.tableBitsPerLevel;
          const stop = this.#contiguous
            ? clearPlainLeaves(mem.words, index, last, this.#plainMask, this.#plainBits)
            : clearLargeLeaves(mem.words, index, last, mask, format.tableMaskLo, bits);
          if (stop !== index) {
            const cleared = (stop - index) / 2;
            entry += cleared;
            index = stop;
            this.#at += cleared * entryBytes;
            continue;
          }
        }
        const sizeLg2 = format.leafSizeLg2(lo, hi, level);
        const replicas = 1 << ((sizeLg2 - 12) % TABLE_LG2);
        const behind = entry & (replicas - 1);
        if (!atStart || behind !== 0) {
          ok = this.#hooks.partialUnmap === 'whole-leaf';
          if (!ok) break;
          this.#at = this.#removedFrom = roundDown(this.#at, pow2(sizeLg2));
          atStart = true;
          entry -= behind;
          dirtyFrom = index -= behind * 2;
        }
        this.clearLeaf(index, replicas);
        entry += replicas;
        index += replicas * 2;
        this.#at += pow2(sizeLg2);
        continue;
      }
      const childPfn = tablePfn(lo, hi);
      const listed = freelist.length;
      const covered = atStart && this.#hooks.keepTables !== true && this.#at + entryBytes <= end;
      atStart = true;
      entry += 1;
      if (covered && collectSubtree(mem, format, childPfn, level - 1, freelist)) {
        // Unlinking is one store; the entries below go with their page. Whoever cached a pointer into it still sees them.
        mem.words[index] = 0;
        mem.words[index + 1] = 0;
        this.#nrTables -= freelist.length - listed;
        this.#leafStart = Infinity;
        index += 2;
        this.#at += entryBytes;
        continue;
      }
      freelist.length = listed;
      if (index !== dirtyFrom) this.#wrote(dirtyFrom, index - dirtyFrom);
      index += 2;
      dirtyFrom = index;
      ok = this.#clear(this.#baseOf(childPfn), level - 1, end, freelist);
      if (!ok) break;
    }
    if (index !== dirtyFrom) this.#wrote(dirtyFrom, index - dirtyFrom);
    return ok;
  }

  /** Word index of the leaf entry that maps iova, its level in `#foundLevel`; or -1. */
  #find(iova: number): number {
    const { mem, format } = this;
    const { words } = mem;
    // The page number in two halves of two levels each, taken apart once: double arithmetic at every level would dominate.
    const low = (iova / 4096) & 0x3ffff;
    let base = this.#leafBase;
    if (!(iova >= this.#leafStart && iova < this.#leafStart + LEAF_SPAN)) {
      if (!(iova >= 0 && iova < this.#addressEnd)) return -1;
      const high = (iova / 1073741824) | 0;
      const { tableMaskLo, tableBitsPerLevel } = format;
      base = this.#rootBase;
      let level = this.#levels;
      let tableBits = format.tableBitsLo + (level - 1) * tableBitsPerLevel;
      for (; level > 1; level--) {
        const entry = level === 2 ? low >>> 9 : (high >>> (9 * (level - 3))) & 511;
        const index = base + entry * 2;
        const lo = words[index];
        if ((lo & tableMaskLo) !== tableBits) {
          this.#foundLevel = level;
          return (lo & format.presentMaskLo) === 0 ? -1 : index;
        }
        base = mem.slotOf((words[index + 1] & 0xfffff) * 1048576 + (lo >>> 12)) << 10;
        tableBits -= tableBitsPerLevel;
      }
      this.#leafStart = roundDown(iova, LEAF_SPAN);
      this.#leafBase = base;
    }
    const index = base + (low & 511) * 2;
    this.#foundLevel = 1;
    return (words[index] & this.#mask) === 0 ? -1 : index;
  }

  /** Where an IOVA leads, as a physical byte address, or -1. Reads what software wrote, not what hardware may have cached. */
  iovaToPhys(iova: number): number {
    const index = this.#find(iova);
    if (index < 0) return -1;
    const { words } = this.mem;
    const level = this.#foundLevel;
    const lo = words[index];
    const hi = words[index + 1];
    if (level === 1 && (!this.#contiguous || (lo & this.#plainMask) === this.#plainBits)) {
      return (hi & 0xfffff) * 4294967296 + (((lo & -4096) | (iova & 4095)) >>> 0);
    }
    const sizeLg2 = this.format.leafSizeLg2(lo, hi, level);
    // Up to 1 GiB the offset is an int32; the remainder of doubles is a library call.
    const offset = sizeLg2 < 31 ? iova & ((1 << sizeLg2) - 1) : iova % 2 ** sizeLg2;
    return this.format.leafPaddr(lo, hi, level) + offset;
  }

  /** Size in bytes of the leaf that maps an IOVA, 0 when none does. */
  leafBytes(iova: number): number {
    const index = this.#find(iova);
    if (index < 0) return 0;
    const { words } = this.mem;
    return pow2(this.format.leafSizeLg2(words[index], words[index + 1], this.#foundLevel));
  }

  /**
   * Adds a level on top, for formats that grow (AMD v1): the new root's entry 0 is the old root, so every walk stays as it
   * was. The driver must give hardware the new root and level count, and flush, before it maps beyond the old reach.
   * @returns 0, ENOMEM, or EINVAL when the format has no deeper table
   */
  raiseTop(): number {
    if (this.#rootPfn < 0 || this.#levels >= this.format.maxLevels) return EINVAL;
    const pfn = this.pages.alloc();
    if (pfn < 0) return ENOMEM;
    const base = this.#baseOf(pfn);
    this.#store(
      base,
      this.format.tableLo(this.#rootPfn, this.#levels),
      this.format.tableHi(this.#rootPfn, this.#levels),
    );
    if (this.#onWritten !== null) this.#onWritten(pfn * 4096, 4096);
    this.#rootPfn = pfn;
    this.#rootBase = base;
    this.#levels += 1;
    this.#addressEnd = addressEndOf(this.#levels);
    this.#nrTables += 1;
    return 0;
  }

  /** Frees every table. No device may use it, and whatever was cached of it must have been invalidated. */
  destroy(): void {
    if (this.#rootPfn < 0) return;
    freeSubtree(this.mem, this.pages, this.format, this.#rootPfn, this.#levels);
    this.#rootPfn = -1;
    this.#leafStart = Infinity;
    this.#nrTables = 0;
  }
}
