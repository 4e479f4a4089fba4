/**
 * The VT-d second-stage format, as software writes it.
 * Intel VT-d specification rev. 4.1, 9.8 (paging entries) and 3.7 (second-stage translation); Linux 6.12
 * drivers/iommu/intel/iommu.h (DMA_PTE_*) and 6.19 generic_pt/fmt/vtdss.h.
 *
 * There is no present bit: an entry is present when it grants anything, R (bit 0) or W (bit 1), which is why a mapping
 * without rights cannot exist and is refused above. A leaf above level 1 has PS (bit 7). Table entries carry R and W: rights
 * are ANDed down the walk, so the leaf alone decides. SNP (bit 11) makes the leaf's traffic snoop CPU caches and is reserved
 * on units without ECAP.SC, so whoever builds the format says when to set it.
 */
import { hi32, lo32, TWO_32 as BASE_TWO_32 } from '../../base/index.ts';
import { vtd } from '../../spec/index.ts';
import { entryLg2, PROT_CACHE, PROT_READ, PROT_WRITE } from '../format.ts';
import type { PtFormat } from '../format.ts';

/**
 * When leaves get SNP: `never`; `cached` for mappings with PROT_CACHE (Linux up to 5.17); `always` for a domain with enforced
 * cache coherency (later).
 */
export type SnoopRule = 'never' | 'cached' | 'always';

// Copies on purpose: a field of an imported namespace is looked up at every use (10 ns in V8 11), a constant of this module is not.
const TWO_32: number = BASE_TWO_32;
const SS_READ: number = vtd.SS_READ;
const SS_WRITE: number = vtd.SS_WRITE;
const SS_PAGE_SIZE: number = vtd.SS_PAGE_SIZE;
const SS_SNOOP: number = vtd.SS_SNOOP;
const SS_ADDR_MASK_HI: number = vtd.SS_ADDR_MASK_HI;

const SIZE_4K = 4096;
const SIZE_2M = 2 ** 21;
const SIZE_1G = 2 ** 30;

/** Leaf sizes of a unit from its CAP.SLLPS field: 4 KiB always, bit 0 adds 2 MiB, bit 1 adds 1 GiB. */
export function vtdPgsizeBitmap(sllps: number): number {
  return SIZE_4K + ((sllps & 1) === 0 ? 0 : SIZE_2M) + ((sllps & 2) === 0 ? 0 : SIZE_1G);
}

export class VtdSsFormat implements PtFormat {
  readonly name: string = 'vtdss';
  readonly pgsizeBitmap: number;
  readonly maxLevels: number = 5;
  readonly presentMaskLo: number = SS_READ | SS_WRITE;
  // Present and not PS. Writers set both rights in table entries, which is what tells them from a 4 KiB leaf only by level.
  readonly tableMaskLo: number = SS_READ | SS_WRITE | SS_PAGE_SIZE;
  readonly tableBitsLo: number = SS_READ | SS_WRITE;
  readonly tableBitsPerLevel: number = 0;
  readonly contiguous: boolean = false;
  readonly plainMaskLo: number = 0;
  readonly plainBitsLo: number = 0;
  readonly #snpAlways: number;
  readonly #snpCached: number;

  /** @param pgsizeBitmap leaf sizes, of 4 KiB, 2 MiB and 1 GiB. @throws RangeError for other sizes, or without 4 KiB */
  constructor(pgsizeBitmap: number = SIZE_4K + SIZE_2M + SIZE_1G, snoop: SnoopRule = 'never') {
    if ((pgsizeBitmap & ~(SIZE_2M | SIZE_1G)) !== SIZE_4K || pgsizeBitmap > SIZE_4K + SIZE_2M + SIZE_1G) {
      throw new RangeError(
        `VT-d leaf sizes are 4 KiB and, optionally, 2 MiB and 1 GiB, got 0x${pgsizeBitmap.toString(16)}`,
      );
    }
    this.pgsizeBitmap = pgsizeBitmap;
    this.#snpAlways = snoop === 'always' ? SS_SNOOP : 0;
    this.#snpCached = snoop === 'cached' ? SS_SNOOP : 0;
  }

  leafLo(paddr: number, sizeLg2: number, prot: number): number {
    return (
      // Addresses truncate to their low word here, and R and W have the values of PROT_READ and PROT_WRITE.
      paddr |
      (prot & (SS_READ | SS_WRITE)) |
      (sizeLg2 === 12 ? 0 : SS_PAGE_SIZE) |
      this.#snpAlways |
      ((prot & PROT_CACHE) === 0 ? 0 : this.#snpCached)
    );
  }

  leafHi(paddr: number, _sizeLg2: number, _prot: number): number {
    return (paddr / TWO_32) | 0;
  }

  tableLo(pfn: number, _childLevel: number): number {
    return lo32(pfn * 4096) | SS_READ | SS_WRITE;
  }

  tableHi(pfn: number, _childLevel: number): number {
    return hi32(pfn * 4096);
  }

  leafSizeLg2(_lo: number, _hi: number, level: number): number {
    return entryLg2(level);
  }

  leafPaddr(lo: number, hi: number, level: number): number {
    // A leaf above level 1 has address bits from 21 or 30 up; those below are reserved, not part of the address.
    const mask = level === 1 ? ~0xfff : level === 2 ? ~0x1fffff : ~0x3fffffff;
    return (hi & SS_ADDR_MASK_HI) * TWO_32 + ((lo & mask) >>> 0);
  }

  leafProt(lo: number, _hi: number): number {
    return (lo & (PROT_READ | PROT_WRITE)) | ((lo & SS_SNOOP) === 0 ? 0 : PROT_CACHE);
  }
}
