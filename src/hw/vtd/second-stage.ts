/**
 * The second-stage page walk. VT-d rev. 4.1 sections 3.7 (second-stage translation), 9.8 (entries), 3.6.1 (rights), 7.1.3
 * (fault conditions SL.*: here 7, C, and 5/6 for what is not present).
 *
 * Names: level n entries map or lead to 4 KiB * 512^(n-1). There is no present bit: an entry with neither R nor W is not
 * present. Rights are ANDed down the walk.
 */
import { vtd } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { ENTRY_KEY, type SetCache, tagSalt } from '../tlb/set-cache.ts';
import type { FullVtdConfig } from './config.ts';
import { type PageCache, STRUCTURE_RIGHTS, STRUCTURE_SLOT } from './page-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  FR_ENTRY_RESERVED,
  FR_NEXT_TABLE_UNREACHABLE,
  FR_READ_DENIED,
  SS_ADDR_MASK_HI,
  SS_PAGE_SIZE,
  SS_SNOOP,
  SS_TM_HI,
} = vtd;

// Local constants for speed, see set-cache.ts.
const ADDR_MASK_HI: number = SS_ADDR_MASK_HI;
const KEY: number = ENTRY_KEY;
const HELD_SLOT: number = STRUCTURE_SLOT;
const HELD_RIGHTS: number = STRUCTURE_RIGHTS;
const SALT: number = tagSalt(1);
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
  readonly #structure: SetCache;
  readonly #holds: boolean;
  readonly #holdsFaults: boolean;
  readonly #stopsAtDenied: boolean;
  /**
   * Bits that must be 0 in every entry: SNP in the low word, addresses beyond the host's and bit 62 in the high word. Bit 62 is
   * TM in a leaf where device TLBs are supported, so leaves have a mask of their own.
   */
  readonly reservedLo: number;
  readonly leafReservedHi: number;
  readonly #tableReservedHi: number;
  /** Levels whose entries may be leaves, as bits. */
  readonly #leafLevels: number;

  constructor(mem: PhysMem, cache: PageCache, config: FullVtdConfig) {
    this.#mem = mem;
    this.#cache = cache;
    this.#structure = cache.cache;
    this.#holds = config.holdsStructure;
    this.#holdsFaults = config.holdsStructure && config.holdsNotPresent;
    this.#stopsAtDenied = !config.holdsDenied;
    this.reservedLo = config.sc ? 0 : SS_SNOOP;
    // Bits 61:52 and 63 are ignored, so that software may keep its own there.
    const beyond = ~((1 << (config.haw - 32)) - 1) & SS_ADDR_MASK_HI;
    this.#tableReservedHi = beyond | SS_TM_HI;
    this.leafReservedHi = config.dt && config.tm ? beyond : beyond | SS_TM_HI;
    this.#leafLevels = 2 | (config.sllps2m ? 4 : 0) | (config.sllps1g ? 8 : 0);
  }

  /**
   * Walks from the nearest cached entry, or from the top table: the steps of 3.7 for each level, one exit per condition.
   * Probes and fills of the cache are written out: a walk from the top made seven calls for them (1.2 times as long).
   * @param topSlot the top table's, -1 when it lies outside memory
   * @param nearest lowest level whose entry may be cached: 2, or 3 when the caller has looked
   * @returns 0 with the leaf in the fields, or a fault reason
   */
  walk(
    domain: number,
    topSlot: number,
    levels: number,
    pageHi: number,
    pageLo: number,
    access: number,
    nearest: number,
  ): number {
    const cache = this.#structure;
    const held = cache.words;
    const salt = Math.imul(domain, SALT);
    let slot = topSlot;
    let rights = 3;
    let level = levels;
    if (this.#holds) {
      for (let near = nearest; near <= levels; near++) {
        if (held[cache.counts + near] === 0) continue;
        const shift = (near - 1) * 9;
        const page = (pageLo >>> shift) | (pageHi << (32 - shift));
        const key = (domain << 16) | (near << 10) | ((pageHi >>> shift) << 1) | 1;
        const at = cache.find(page, key, salt);
        if (at < 0) continue;
        if (held[at + HELD_RIGHTS] > 3) return held[at + HELD_RIGHTS] >>> 2;
        slot = held[at + HELD_SLOT];
        rights = held[at + HELD_RIGHTS];
        level = near - 1;
        break;
      }
    }
    const words = this.#mem.deviceWords;
    for (;;) {
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
      if (this.#stopsAtDenied && (lo & rights & access) !== access) return NOT_PRESENT;
      // 4. Reserved bits: common ones, a page size that this level does not have, a superpage that is not aligned.
      const isLeaf = level === 1 || (lo & PAGE_SIZE_BIT) !== 0;
      if (((lo & this.reservedLo) | (hi & (isLeaf ? this.leafReservedHi : this.#tableReservedHi))) !== 0) {
        return this.#fault(domain, level, pageHi, pageLo, FR_ENTRY_RESERVED);
      }
      if (isLeaf && (((this.#leafLevels >>> level) & 1) === 0 || (lo & ((1 << (12 + shift)) - 4096)) !== 0)) {
        return this.#fault(domain, level, pageHi, pageLo, FR_ENTRY_RESERVED);
      }
      // 5. Rights so far. None left is as good as not present: no access could use the translation.
      rights &= lo;
      if (rights === 0) return NOT_PRESENT;
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
      if (this.#holds) {
        const at = cache.setOf(number, salt);
        if (held[at + KEY] !== 0) cache.makeRoom(at);
        held[at] = number;
        held[at + KEY] = (domain << 16) | (level << 10) | ((pageHi >>> shift) << 1) | 1;
        held[at + HELD_SLOT] = slot;
        held[at + HELD_RIGHTS] = rights;
        held[cache.counts + level] += 1;
      }
      level -= 1;
    }
  }

  /** A faulting non-leaf position is remembered in caching mode. At level 1 the IOTLB does that, page by page. */
  #fault(domain: number, level: number, pageHi: number, pageLo: number, reason: number): number {
    if (this.#holdsFaults && level > 1) this.#cache.holdFault(domain, level, pageHi, pageLo, reason);
    return reason;
  }
}
