/**
 * Cutting a large leaf into smaller ones that map the same memory with the same rights, so that part of it can be unmapped.
 * Linux cuts nothing for its callers any more (iommu_unmap of part of a leaf removes all of it, or stops); VFIO and iommufd
 * refuse such requests, and hypervisors that migrate dirty pages need it.
 *
 * Order: a new table is complete before the entry that links it is stored, and every store leaves each address with the
 * translation that it had. So no walk, at any moment, finds something else than before.
 */
import { and53, EINVAL, ENOMEM, highestBit } from '../base/index.ts';
import type { PageAllocator, PhysMem } from '../mem/index.ts';
import { entryIndex, entryLg2, pow2, roundDown, TABLE_LG2 } from './format.ts';
import type { PtFormat } from './format.ts';
import { iommuPgsize } from './pgsize.ts';

/** What splitting works on: a part of PageTable. */
export interface SplitTarget {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly format: PtFormat;
  /** Stores of one table are done. */
  readonly wrote: (index: number, nrWords: number) => void;
}

/**
 * Cuts the leaf of the entry at word `index`, in a table of `level`, so that one begins at `iova`, a multiple of 4 KiB inside.
 * @returns the number of tables it took; ENOMEM, or EINVAL when the format lacks a size that it takes (512 GiB on AMD), with
 * the leaf as it was
 */
export function splitLeaf(target: SplitTarget, index: number, level: number, iova: number): number {
  const { format, mem } = target;
  const lo = mem.words[index];
  const hi = mem.words[index + 1];
  const bytes = pow2(format.leafSizeLg2(lo, hi, level));
  const start = roundDown(iova, bytes);
  if (start === iova) return 0;
  const base = (index >> 10) << 10;
  return cut(target, base, level, start, bytes, format.leafPaddr(lo, hi, level), format.leafProt(lo, hi), iova);
}

/** Writes [start, start + bytes), a multiple of the level's entry, so that a leaf begins at `iova`. */
function cut(
  target: SplitTarget,
  base: number,
  level: number,
  start: number,
  bytes: number,
  paddr: number,
  prot: number,
  iova: number,
): number {
  const { format, mem, pages, wrote } = target;
  const entryBytes = pow2(entryLg2(level));
  if (and53(format.pgsizeBitmap, entryBytes) === 0) return EINVAL;
  const middle = roundDown(iova, entryBytes);
  let next = middle;
  let made = 0;
  if (middle !== iova) {
    const pfn = pages.alloc();
    if (pfn < 0) return ENOMEM;
    made = cut(target, mem.ensure(pfn) << 10, level - 1, middle, entryBytes, paddr + middle - start, prot, iova);
    if (made < 0) {
      pages.free(pfn);
      return made;
    }
    wrote(mem.ensure(pfn) << 10, 1024);
    made += 1;
    const index = base + entryIndex(middle, level) * 2;
    mem.words[index] = format.tableLo(pfn, level - 1);
    mem.words[index + 1] = format.tableHi(pfn, level - 1);
    wrote(index, 2);
    next = middle + entryBytes;
  }
  fill(target, base, level, start, middle - start, paddr, prot);
  fill(target, base, level, next, start + bytes - next, paddr + next - start, prot);
  return made;
}

/** Writes leaves that belong into a table of `level`, the largest that fit. */
function fill(
  target: SplitTarget,
  base: number,
  level: number,
  start: number,
  bytes: number,
  paddr: number,
  prot: number,
): void {
  const { format, mem, wrote } = target;
  // Sizes from the entry's own to the largest that is replicated in one table.
  const smallest = pow2(entryLg2(level));
  const sizes = and53(format.pgsizeBitmap, pow2(TABLE_LG2) * smallest - smallest);
  const run = { count: 0 };
  let done = 0;
  while (done < bytes) {
    const pgsize = iommuPgsize(sizes, start + done, paddr + done, bytes - done, run);
    const sizeLg2 = highestBit(pgsize);
    const replicas = 1 << ((sizeLg2 - 12) % TABLE_LG2);
    for (let leaf = 0; leaf < run.count; leaf++) {
      const lo = format.leafLo(paddr + done, sizeLg2, prot);
      const hi = format.leafHi(paddr + done, sizeLg2, prot);
      const first = base + entryIndex(start + done, level) * 2;
      for (let index = first; index < first + replicas * 2; index += 2) {
        mem.words[index] = lo;
        mem.words[index + 1] = hi;
      }
      wrote(first, replicas * 2);
      done += pgsize;
    }
  }
}
