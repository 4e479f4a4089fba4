/**
 * The second-stage page walk. VT-d rev. 4.1 sections 3.7 (second-stage translation), 9.8 (entries), 3.6.1 (rights), 7.1.3
 * (fault conditions SL.*: here 7, C, and 5/6 for what is not present).
 *
 * Names: level n entries map or lead to 4 KiB * 512^(n-1). There is no present bit: an entry with neither R nor W is not
 * present. Rights are ANDed down the walk.
 */
import { vtd } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import type { FullVtdConfig } from './config.ts';
import type { PageCache } from './page-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const { FR_ENTRY_RESERVED, FR_NEXT_TABLE_UNREACHABLE, FR_READ_DENIED, SS_ADDR_MASK_HI, SS_PAGE_SIZE, SS_SNOOP } = vtd;

// Local constants for speed, see set-cache.ts.
const ADDR_MASK_HI: number = SS_ADDR_MASK_HI;
const PAGE_SIZE_BIT: number = SS_PAGE_SIZE;

/** Any walk that meets nothing present ends so; the caller reports a write as FR_WRITE_DENIED. */
export const NOT_PRESENT: number = FR_READ_DENIED;

export class SecondStage {
  /** Result of a walk that found a leaf: its address words (low 12 bits clear), rights and level. */
  leafLo = 0;
  leafHi = 0;
  leafRights = 0;
  leafLevel = 0;

  readonly #mem: PhysMem;
  readonly #cache: PageCache;
  readonly #holds: boolean;
  readonly #holdsFaults: boolean;
  readonly #stopsAtDenied: boolean;
  /** Bits that must be 0 in every entry: SNP in the low word, bit 62 and addresses beyond the host's in the high word. */
  readonly reservedLo: number;
  readonly reservedHi: number;
  /** Levels whose entries may be leaves, as bits. */
  readonly #leafLevels: number;

  constructor(mem: PhysMem, cache: PageCache, config: FullVtdConfig) {
    this.#mem = mem;
    this.#cache = cache;
    this.#holds = config.holdsStructure;
    this.#holdsFaults = config.holdsStructure && config.holdsNotPresent;
    this.#stopsAtDenied = !config.holdsDenied;
    this.reservedLo = config.sc ? 0 : SS_SNOOP;
    // Bits 61:52 and 63 are ignored, so that software may keep its own there.
    this.reservedHi = (~((1 << (config.haw - 32)) - 1) & SS_ADDR_MASK_HI) | (1 << 30);
    this.#leafLevels = 2 | (config.sllps2m ? 4 : 0) | (config.sllps1g ? 8 : 0);
  }

  /**
   * Walks from the nearest cached entry, or from the top table.
   * @param slot the top table's, -1 when it lies outside memory
   * @returns 0 with the leaf in the fields, or a fault reason
   */
  walk(domain: number, slot: number, levels: number, pageHi: number, pageLo: number, access: number): number {
    if (this.#holds) {
      for (let level = 2; level <= levels; level++) {
        const reason = this.#cache.find(domain, level, pageHi, pageLo);
        if (reason > 0) return reason;
        if (reason === 0) {
          return this.#descend(domain, this.#cache.slot, level - 1, this.#cache.rights, pageHi, pageLo, access);
        }
      }
    }
    return this.#descend(domain, slot, levels, 3, pageHi, pageLo, access);
  }

  /** The walk proper: the steps of 3.7 for each level from `level` down, one exit per condition. */
  #descend(
    domain: number,
    topSlot: number,
    topLevel: number,
    topRights: number,
    pageHi: number,
    pageLo: number,
    access: number,
  ): number {
    const words = this.#mem.deviceWords;
    let slot = topSlot;
    let rights = topRights;
    for (let level = topLevel; ; level--) {
      // 1. The table must exist. (Only the top one can be missing here: the others were looked up in step 7.)
      if (slot < 0) return FR_NEXT_TABLE_UNREACHABLE;
      // 2. The entry that the last nine bits of the page number at this level select.
      const shift = (level - 1) * 9;
      const number = level === 1 ? pageLo : (pageLo >>> shift) | (pageHi << (32 - shift));
      const index = (slot << 10) + ((number & 0x1ff) << 1);
      const lo = words[index];
      const hi = words[index + 1];
      // 3. Neither R nor W: not present; nothing else in it counts.
      if ((lo & 3) === 0) return this.#fault(domain, level, pageHi, pageLo, NOT_PRESENT);
      // 4. Reserved bits: common ones, a page size that this level does not have, a superpage that is not aligned.
      const isLeaf = level === 1 || (lo & PAGE_SIZE_BIT) !== 0;
      if (((lo & this.reservedLo) | (hi & this.reservedHi)) !== 0) {
        return this.#fault(domain, level, pageHi, pageLo, FR_ENTRY_RESERVED);
      }
      if (isLeaf && ((this.#leafLevels >>> level) & 1) === 0) {
        return this.#fault(domain, level, pageHi, pageLo, FR_ENTRY_RESERVED);
      }
      if (isLeaf && (lo & ((1 << (12 + shift)) - 4096)) !== 0) {
        return this.#fault(domain, level, pageHi, pageLo, FR_ENTRY_RESERVED);
      }
      // 5. Rights so far. None left is as good as not present: no access could use the translation.
      rights &= lo;
      if (rights === 0 || (this.#stopsAtDenied && (rights & access) !== access)) return NOT_PRESENT;
      // 6. A leaf ends the walk; the caller judges rights and output.
      if (isLeaf) {
        this.leafLo = lo & -4096;
        this.leafHi = hi & ADDR_MASK_HI;
        this.leafRights = rights;
        this.leafLevel = level;
        return 0;
      }
      // 7. The next table.
      slot = this.#mem.slotOf(hi === 0 ? lo >>> 12 : (hi & ADDR_MASK_HI) * 0x100000 + (lo >>> 12));
      if (slot < 0) return FR_NEXT_TABLE_UNREACHABLE;
      if (this.#holds) this.#cache.hold(domain, level, pageHi, pageLo, slot, rights, 0);
    }
  }

  /** A faulting non-leaf position is remembered in caching mode. At level 1 the IOTLB does that, page by page. */
  #fault(domain: number, level: number, pageHi: number, pageLo: number, reason: number): number {
    if (this.#holdsFaults && level > 1) this.#cache.hold(domain, level, pageHi, pageLo, -1, 0, reason);
    return reason;
  }
}
