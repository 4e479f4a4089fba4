/**
 * The AMD host page-table format, version 1, as software writes it.
 * AMD I/O Virtualization Technology (IOMMU) Specification 48882, 2.2.3 (host page tables); Linux 6.1 and 6.12
 * drivers/iommu/amd/io_pgtable.c and amd_iommu_types.h (IOMMU_PTE_*, PM_LEVEL_*, AMD_IOMMU_PGSIZES), 6.19
 * generic_pt/fmt/amdv1.h.
 *
 * Every entry names in its next-level field (bits 11:9) what it leads to: a table of that level, 1..6; or, with 0, a page of
 * the size that an entry of this table spans; or, with 7, a page of any other power of two. The size of the latter is coded in
 * the address: the run of ones from bit 12 up is as long as the page has address bits above 13, and then a zero. Such a leaf
 * stands in all entries that its size spans, its replicas, since a walk may come by any of them.
 *
 * PR (bit 0) is presence; IR and IW (61, 62) are rights, ANDed down the walk and set on every table entry; FC (60) makes the
 * traffic snoop CPU caches, and Linux sets it on every leaf, so PROT_CACHE says nothing here.
 */
import { ctz32, hi32, lo32, TWO_32 as BASE_TWO_32 } from '../../base/index.ts';
import { amdvi } from '../../spec/index.ts';
import { entryLg2, PROT_CACHE, PROT_READ, PROT_WRITE, TABLE_LG2 } from '../format.ts';
import type { PtFormat } from '../format.ts';

// Copies on purpose, as in vtdss.ts: a field of an imported namespace is looked up at every use.
const TWO_32: number = BASE_TWO_32;
const PR: number = amdvi.PTE_PR_LO;
const FC: number = amdvi.PTE_FC_HI;
const IR_IW: number = amdvi.PTE_IR_HI | amdvi.PTE_IW_HI;
/** PROT_READ becomes IR and PROT_WRITE becomes IW by this shift. */
const RIGHTS_SHIFT = 29;
const NEXT_LEVEL_SHIFT: number = amdvi.PTE_NEXT_LEVEL_SHIFT_LO;
const NEXT_LEVEL: number = amdvi.PTE_NEXT_LEVEL_MASK << NEXT_LEVEL_SHIFT;
const SIZED_LEAF: number = amdvi.NEXT_LEVEL_SIZED_LEAF << NEXT_LEVEL_SHIFT;
const ADDR_MASK_HI: number = amdvi.ADDR_MASK_HI;

const SIZE_512G = 2 ** 39;

/**
 * Every power of two from 4 KiB to 2^51 but 512 GiB, which hardware gets wrong (Linux: AMD_IOMMU_PGSIZES, which up to 6.18 has
 * the sizes above as well; nothing that large can be mapped here).
 */
export const AMD_V1_PGSIZES: number = 2 ** 52 - 4096 - SIZE_512G;

export class AmdV1Format implements PtFormat {
  readonly name: string = 'amdv1';
  readonly pgsizeBitmap: number = AMD_V1_PGSIZES;
  readonly maxLevels: number = amdvi.MAX_LEVELS;
  readonly presentMaskLo: number = PR;
  readonly tableMaskLo: number = PR | NEXT_LEVEL;
  readonly tableBitsLo: number = PR;
  readonly tableBitsPerLevel: number = 1 << NEXT_LEVEL_SHIFT;
  readonly contiguous: boolean = true;
  readonly plainMaskLo: number = PR | NEXT_LEVEL;
  readonly plainBitsLo: number = PR;

  leafLo(paddr: number, sizeLg2: number, _prot: number): number {
    if ((sizeLg2 - 12) % TABLE_LG2 === 0) return paddr | PR;
    // Ones in 12..sizeLg2 - 2. The address is a multiple of the size, so those bits and the zero above them are free.
    const ones = sizeLg2 > 32 ? -4096 : ((1 << (sizeLg2 - 1)) - 1) & -4096;
    return paddr | ones | SIZED_LEAF | PR;
  }

  leafHi(paddr: number, sizeLg2: number, prot: number): number {
    const rights = FC | ((prot & (PROT_READ | PROT_WRITE)) << RIGHTS_SHIFT);
    if (sizeLg2 < 34 || (sizeLg2 - 12) % TABLE_LG2 === 0) return (paddr / TWO_32) | 0 | rights;
    return (paddr / TWO_32) | 0 | ((1 << (sizeLg2 - 33)) - 1) | rights;
  }

  tableLo(pfn: number, childLevel: number): number {
    return lo32(pfn * 4096) | (childLevel << NEXT_LEVEL_SHIFT) | PR;
  }

  tableHi(pfn: number, _childLevel: number): number {
    return hi32(pfn * 4096) | IR_IW;
  }

  leafSizeLg2(lo: number, hi: number, level: number): number {
    if ((lo & NEXT_LEVEL) === 0) return entryLg2(level);
    const zero = ctz32(~(lo | 0xfff));
    return (zero < 32 ? zero : 32 + ctz32(~hi)) + 1;
  }

  leafPaddr(lo: number, hi: number, level: number): number {
    const sizeLg2 = this.leafSizeLg2(lo, hi, level);
    const low = sizeLg2 < 32 ? (lo & -(1 << sizeLg2)) >>> 0 : 0;
    const high = sizeLg2 > 32 ? hi & ADDR_MASK_HI & -(1 << (sizeLg2 - 32)) : hi & ADDR_MASK_HI;
    return high * TWO_32 + low;
  }

  leafProt(_lo: number, hi: number): number {
    return ((hi >>> RIGHTS_SHIFT) & (PROT_READ | PROT_WRITE)) | ((hi & FC) === 0 ? 0 : PROT_CACHE);
  }
}
