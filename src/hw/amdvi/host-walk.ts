/**
 * The walk of version 1 host page tables. AMD-Vi 48882 rev. 3.x sections 2.2.3 (entries, next level, page sizes), 2.1.3.2 (what
 * is a page fault). This unit snoops CPU caches, so the walk reads memory as CPUs see it.
 *
 * Names: a table of level n has entries of 4 KiB * 512^(n-1) each. Next level 0: the entry maps a page of that size; 7: a page
 * whose larger size stands in its address; m: it leads to a table of level m < n, and where m < n - 1 the address bits of the
 * levels between must be 0. Rights are ANDed down the walk.
 *
 * Where the specification leaves the order of conditions open: an entry is judged present, then reserved bits, then level;
 * rights are judged at the end of the walk, so a page that is not there is reported as such whoever asks. Address bits below
 * the size of a page are ignored.
 */
import { amdvi } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { shiftedLo } from '../tlb/range.ts';
import type { FullAmdviConfig } from './config.ts';
import { FAULT_LEVEL, FAULT_NOT_PRESENT, FAULT_PERMISSION, FAULT_RESERVED, FAULT_TABLE_UNREADABLE } from './fault.ts';
import type { PdeCache } from './pde-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  MAX_LEVELS,
  NEXT_LEVEL_LEAF,
  NEXT_LEVEL_SIZED_LEAF,
  PDE_RESERVED_HI,
  PTE_IR_HI,
  PTE_NEXT_LEVEL_MASK,
  PTE_NEXT_LEVEL_SHIFT_LO,
  PTE_PR_LO,
  PTE_RESERVED_HI,
} = amdvi;
/** From an entry's high word to IR and IW as bits 0 and 1. */
const RIGHTS_SHIFT = 31 - Math.clz32(PTE_IR_HI);

export class HostWalk {
  /** Result of a walk that found a page: its address words (low bits clear), rights of the tables, log2 of its size. */
  leafLo = 0;
  leafHi = 0;
  leafRights = 0;
  leafLg2 = 0;
  /** Result of FAULT_TABLE_UNREADABLE: address words of the entry that could not be read. */
  failLo = 0;
  failHi = 0;

  readonly #mem: PhysMem;
  readonly #cache: PdeCache;
  readonly #holds: boolean;
  readonly #holdsNotPresent: boolean;
  readonly #holdsMalformed: boolean;
  readonly #stopsAtDenied: boolean;
  readonly #checks: boolean;
  readonly #leafRightsOnly: boolean;

  constructor(mem: PhysMem, cache: PdeCache, config: FullAmdviConfig) {
    this.#mem = mem;
    this.#cache = cache;
    this.#holds = config.holdsStructure;
    this.#holdsNotPresent = config.holdsStructure && config.holdsNotPresent;
    this.#holdsMalformed = config.holdsStructure && config.holdsDenied;
    this.#stopsAtDenied = !config.holdsDenied;
    this.#checks = config.checksWalk;
    this.#leafRightsOnly = config.leafRightsOnly;
  }

  /**
   * Walks from the nearest cached entry, or from the top table.
   * @param slot the top table's, -1 when it lies outside memory; then @param rootLo @param rootHi tell where
   * @returns 0 with the page in the fields, or a fault
   */
  walk(
    domain: number,
    slot: number,
    rootLo: number,
    rootHi: number,
    levels: number,
    pageHi: number,
    pageLo: number,
    access: number,
  ): number {
    const cache = this.#cache;
    if (this.#holds) {
      for (let level = 2; level <= levels; level++) {
        const fault = cache.find(domain, level, pageHi, pageLo);
        if (fault > 0) return fault;
        if (fault === 0) {
          if (!this.#skips(level, cache.nextLevel, pageHi, pageLo)) return FAULT_LEVEL;
          return this.#descend(domain, cache.slot, cache.nextLevel, cache.rights, pageHi, pageLo, access);
        }
      }
    }
    if (slot < 0) return this.#unreadable(rootLo, rootHi, levels, pageHi, pageLo);
    return this.#descend(domain, slot, levels, 3, pageHi, pageLo, access);
  }

  /** The walk proper, one exit per condition. */
  #descend(
    domain: number,
    topSlot: number,
    topLevel: number,
    topRights: number,
    pageHi: number,
    pageLo: number,
    access: number,
  ): number {
    const { words } = this.#mem;
    let slot = topSlot;
    let rights = topRights;
    let level = topLevel;
    for (;;) {
      // 1. The entry that nine bits of the page number select (seven at level 6, of which requests here have none).
      const number = shiftedLo(pageHi, pageLo, (level - 1) * 9);
      const index = (slot << 10) + ((number & 0x1ff) << 1);
      const lo = words[index];
      const hi = words[index + 1];
      const next = (lo >>> PTE_NEXT_LEVEL_SHIFT_LO) & PTE_NEXT_LEVEL_MASK;
      const isLeaf = next === NEXT_LEVEL_LEAF || next === NEXT_LEVEL_SIZED_LEAF;
      // 2. PR = 0: not present; nothing else in it counts.
      if ((lo & PTE_PR_LO) === 0 && (this.#checks || !isLeaf)) {
        if (this.#holdsNotPresent && level > 1) {
          this.#cache.holdFault(domain, level, pageHi, pageLo, FAULT_NOT_PRESENT);
        }
        return FAULT_NOT_PRESENT;
      }
      // 3. Reserved bits.
      if (this.#checks && (hi & (isLeaf ? PTE_RESERVED_HI : PDE_RESERVED_HI)) !== 0) {
        return this.#malformed(domain, level, pageHi, pageLo, FAULT_RESERVED);
      }
      // 4. Rights so far.
      rights &= (hi >>> RIGHTS_SHIFT) & 3;
      if (this.#leafRightsOnly && isLeaf) rights = (hi >>> RIGHTS_SHIFT) & 3;
      else if (this.#stopsAtDenied && (rights & access) !== access) return FAULT_PERMISSION;
      // 5. A page ends the walk, if this level may map one of its size; the caller judges rights.
      if (isLeaf) {
        const sizeLg2 = next === NEXT_LEVEL_LEAF ? 3 + level * 9 : codedSizeLg2(lo, hi);
        if (this.#checks && !mayMap(level, next, sizeLg2)) {
          return this.#malformed(domain, level, pageHi, pageLo, FAULT_LEVEL);
        }
        this.leafLo = sizeLg2 < 32 ? lo & -(1 << sizeLg2) : 0;
        this.leafHi = hi & ADDR_MASK_HI & (sizeLg2 <= 32 ? -1 : -1 << (sizeLg2 - 32));
        this.leafRights = rights;
        this.leafLg2 = sizeLg2;
        return 0;
      }
      // 6. Levels only go down, and the address bits of those left out must be zero.
      if (next >= level) return this.#malformed(domain, level, pageHi, pageLo, FAULT_LEVEL);
      // 7. The next table.
      slot = this.#mem.slotOf((hi & ADDR_MASK_HI) * 0x100000 + (lo >>> 12));
      if (slot >= 0 && this.#holds) this.#cache.hold(domain, level, pageHi, pageLo, slot, rights, next);
      if (!this.#skips(level, next, pageHi, pageLo)) return FAULT_LEVEL;
      if (slot < 0) return this.#unreadable(lo & -4096, hi & ADDR_MASK_HI, next, pageHi, pageLo);
      level = next;
    }
  }

  /** An entry that is present and wrong. The IOTLB remembers that of level 1, page by page. */
  #malformed(domain: number, level: number, pageHi: number, pageLo: number, fault: number): number {
    if (this.#holdsMalformed && level > 1) this.#cache.holdFault(domain, level, pageHi, pageLo, fault);
    return fault;
  }

  /** Whether an address may go from a level to a lower one. */
  #skips(level: number, next: number, pageHi: number, pageLo: number): boolean {
    if (next === level - 1 || !this.#checks) return true;
    const page = pageHi * 4294967296 + (pageLo >>> 0);
    return Math.floor(page / 512 ** next) % 512 ** (level - 1 - next) === 0;
  }

  #unreadable(tableLo: number, tableHi: number, level: number, pageHi: number, pageLo: number): number {
    this.failLo = tableLo | ((shiftedLo(pageHi, pageLo, (level - 1) * 9) & 0x1ff) << 3);
    this.failHi = tableHi;
    return FAULT_TABLE_UNREADABLE;
  }
}

/** log2 of the size that an entry of next level 7 codes: 4 KiB * 2 for no one from bit 12 up, twice more for each. */
function codedSizeLg2(lo: number, hi: number): number {
  const zeroLo = ~lo & -4096;
  if (zeroLo !== 0) return 32 - Math.clz32(zeroLo & -zeroLo);
  // Bits 63:52 of the address count as zero.
  const zeroHi = ~(hi & ADDR_MASK_HI);
  return 64 - Math.clz32(zeroHi & -zeroHi);
}

/** The top level maps nothing; a coded size lies strictly between the level's own and that of the next one. */
function mayMap(level: number, next: number, sizeLg2: number): boolean {
  if (level === MAX_LEVELS) return false;
  return next === NEXT_LEVEL_LEAF || (sizeLg2 > 3 + level * 9 && sizeLg2 < 12 + level * 9);
}
