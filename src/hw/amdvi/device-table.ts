/**
 * The device table and its cache. AMD-Vi 48882 rev. 3.x sections 2.2.2 and 2.2.2.1 (entries; the table of V, TV and GV says
 * what each combination means), 2.4.2 (invalidation), 2.5.2 and 2.5.4 (what is wrong with an entry, or with reading it).
 *
 * Every change of an entry needs an INVALIDATE_DEVTAB_ENTRY, with or without NpCache: entries with V = 0 are cached like others.
 *
 * A cached result is `facts`, one word: levels 2:0, IR 3, IW 4, EX 5, SA 6, SE 7, I 8, V 9, fault 13:10, logged 14 (the page
 * fault that SE allows has been logged), domain id 31:16.
 */
import { amdvi } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { cacheKey, SetCache } from '../tlb/set-cache.ts';
import type { FullAmdviConfig } from './config.ts';
import {
  FAULT_DTE_LEVEL,
  FAULT_DTE_MISSING,
  FAULT_DTE_RESERVED,
  FAULT_DTE_UNREADABLE,
  FAULT_NO_TRANSLATION,
} from './fault.ts';
import { HOT_FACTS, HOT_SID } from './layout.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  DEV_TABLE_REG,
  DEV_TABLE_SIZE_MASK_LO,
  DTE_BYTES,
  DTE_DOMAIN_MASK_W2,
  DTE_EX_W3,
  DTE_IOTLB_W3,
  DTE_IR_W1,
  DTE_IW_W1,
  DTE_MODE_MASK,
  DTE_MODE_SHIFT_W0,
  DTE_RESERVED_W0,
  DTE_RESERVED_W1,
  DTE_RESERVED_W2,
  DTE_RESERVED_W3,
  DTE_SA_W3,
  DTE_SE_W3,
  DTE_TV_W0,
  DTE_V_W0,
  EFR_GT_BIT,
} = amdvi;

const DEV_TABLE = DEV_TABLE_REG >> 2;
const DATA_FACTS = 2;
const DATA_SLOT = 3;
const RIGHTS_SHIFT = 3;
const EX = 1 << 5;
const SA = 1 << 6;
const SE = 1 << 7;
const I = 1 << 8;
const V = 1 << 9;
const FAULT_SHIFT = 10;
const LOGGED = 1 << 14;
/** PPR and GPRP, 53:52 of an entry's first quadword: reserved without page requests. */
const PPR_BITS_W1 = 0x00300000;

export function factsLevels(facts: number): number {
  return facts & 7;
}
/** IR and IW as bits 0 and 1. */
export function factsRights(facts: number): number {
  return (facts >>> RIGHTS_SHIFT) & 3;
}
export function factsMayExclude(facts: number): boolean {
  return (facts & EX) !== 0;
}
/** Whether the next page fault of the device is to be logged. */
export function factsLogsFaults(facts: number): boolean {
  return (facts & SA) === 0 && (facts & (SE | LOGGED)) !== (SE | LOGGED);
}
export function factsMayUseAts(facts: number): boolean {
  return (facts & (I | V)) === (I | V);
}
export function factsIsValid(facts: number): boolean {
  return (facts & V) !== 0;
}
/** What is wrong with the entry, for every request. */
export function factsFault(facts: number): number {
  return (facts >>> FAULT_SHIFT) & 15;
}
export function factsDomain(facts: number): number {
  return facts >>> 16;
}

/** One cached device table entry, decoded for people. */
export interface DeviceEntry {
  readonly sid: number;
  readonly domain: number;
  readonly isValid: boolean;
  readonly levels: number;
  readonly rights: number;
  /** What it makes of every request (fault.ts), or 0. */
  readonly fault: number;
  /** Frame of the top table, or -1 when there is none. */
  readonly rootPfn: number;
}

export class DeviceTable {
  /** Slot of the top table of the entry that find() answered with, -1 when it lies outside memory; and its address words. */
  slot = -1;
  rootLo = 0;
  rootHi = 0;

  readonly #words: Int32Array;
  readonly #cache: SetCache;
  readonly #mem: PhysMem;
  readonly #config: FullAmdviConfig;
  readonly #reservedW1: number;
  readonly #reservedW2: number;
  readonly #reservedW3: number;

  constructor(words: Int32Array, cache: SetCache, mem: PhysMem, config: FullAmdviConfig) {
    this.#words = words;
    this.#cache = cache;
    this.#mem = mem;
    this.#config = config;
    const hasGuest = ((config.advertised >>> EFR_GT_BIT) & 1) !== 0;
    this.#reservedW1 = (hasGuest ? 1 << 31 : DTE_RESERVED_W1) & ~(config.ppr ? PPR_BITS_W1 : 0);
    this.#reservedW2 = hasGuest ? 0 : DTE_RESERVED_W2;
    // Bit 106 stays reserved.
    this.#reservedW3 = hasGuest ? 1 << 10 : DTE_RESERVED_W3;
  }

  /** The facts about a requester, from the cache or the table. Leaves the top table's slot in `slot`. */
  find(sid: number): number {
    if (!this.#config.holdsDevices) return this.#read(sid);
    const key = cacheKey(0, 0, 0);
    const at = this.#cache.find(sid, key, 0);
    if (at >= 0) {
      this.slot = this.#cache.words[at + DATA_SLOT];
      return this.#cache.words[at + DATA_FACTS];
    }
    const facts = this.#read(sid);
    if (this.#mayHold(facts)) {
      const entry = this.#cache.insert(sid, key, 0);
      // The entry used last may just have been evicted; nothing may outlive its entry.
      this.#words[HOT_SID] = -1;
      this.#cache.words[entry + DATA_FACTS] = facts;
      this.#cache.words[entry + DATA_SLOT] = this.slot;
    }
    return facts;
  }

  /** Aborted reads are never held: memory that appears later would stay invisible although no entry changed. */
  #mayHold(facts: number): boolean {
    const fault = factsFault(facts);
    if (fault === FAULT_DTE_UNREADABLE || fault === FAULT_DTE_MISSING) return false;
    return this.slot >= 0 || fault !== 0 || !factsIsValid(facts) || factsLevels(facts) === 0;
  }

  /** Address of a requester's entry. */
  addressOf(sid: number): number {
    const words = this.#words;
    return (words[DEV_TABLE + 1] & ADDR_MASK_HI) * 4294967296 + ((words[DEV_TABLE] & -4096) >>> 0) + sid * DTE_BYTES;
  }

  /** @returns facts; `slot`, `rootLo` and `rootHi` are set */
  #read(sid: number): number {
    const mem = this.#mem;
    this.slot = -1;
    // 1. The table must reach to the device: it has (size + 1) pages of 128 entries.
    if (sid >= ((this.#words[DEV_TABLE] & DEV_TABLE_SIZE_MASK_LO) + 1) * 128) {
      return V | (FAULT_DTE_MISSING << FAULT_SHIFT);
    }
    // 2. Read the entry. Entries do not straddle pages.
    const address = this.addressOf(sid);
    const tableSlot = mem.slotOf(Math.floor(address / 4096));
    if (tableSlot < 0) return V | (FAULT_DTE_UNREADABLE << FAULT_SHIFT);
    const at = (tableSlot << 10) + ((address & 0xfff) >>> 2);
    const w0 = mem.words[at];
    const w1 = mem.words[at + 1];
    const w2 = mem.words[at + 2];
    const w3 = mem.words[at + 3];
    // 3. V = 0: nothing else of the translation half counts.
    if ((w0 & DTE_V_W0) === 0 && !this.#config.checksInvalidDevices) return 0;
    const domain = (w2 & DTE_DOMAIN_MASK_W2) << 16;
    let facts = domain | V;
    if ((w1 & DTE_IR_W1) !== 0) facts |= 1 << RIGHTS_SHIFT;
    if ((w1 & DTE_IW_W1) !== 0) facts |= 2 << RIGHTS_SHIFT;
    if ((w3 & DTE_EX_W3) !== 0) facts |= EX;
    if ((w3 & DTE_SA_W3) !== 0) facts |= SA;
    if ((w3 & DTE_SE_W3) !== 0) facts |= SE;
    if ((w3 & DTE_IOTLB_W3) !== 0) facts |= I;
    // 4. Reserved bits of the translation half. (The other half is checked when an interrupt is remapped.)
    const reserved =
      (w0 & DTE_RESERVED_W0) | (w1 & this.#reservedW1) | (w2 & this.#reservedW2) | (w3 & this.#reservedW3);
    if (reserved !== 0) return facts | (FAULT_DTE_RESERVED << FAULT_SHIFT);
    if ((w0 & DTE_V_W0) === 0) return 0;
    // 5. TV = 0: whatever needs a walk ends here.
    if ((w0 & DTE_TV_W0) === 0) {
      return this.#config.passesWithoutTranslation ? facts : facts | (FAULT_NO_TRANSLATION << FAULT_SHIFT);
    }
    // 6. Levels that this unit has.
    const levels = (w0 >>> DTE_MODE_SHIFT_W0) & DTE_MODE_MASK;
    if (levels > this.#config.levels) return facts | (FAULT_DTE_LEVEL << FAULT_SHIFT);
    // 7. Good. Whether the top table can be read at all shows in the walk.
    this.rootLo = w0 & -4096;
    this.rootHi = w1 & ADDR_MASK_HI;
    this.slot = mem.slotOf(this.rootHi * 0x100000 + (this.rootLo >>> 12));
    return facts | levels;
  }

  /** A page fault of the device has been logged; with SE = 1 it was the last until the entry leaves the cache. */
  faultLogged(sid: number): void {
    const at = this.#cache.find(sid, cacheKey(0, 0, 0), 0);
    if (at >= 0) this.#cache.words[at + DATA_FACTS] |= LOGGED;
    if (this.#words[HOT_SID] === sid) this.#words[HOT_FACTS] |= LOGGED;
  }

  /** Drops the whole cache. */
  invalidateAll(): void {
    this.#cache.clear();
    this.#words[HOT_SID] = -1;
  }

  /** Drops one device's entry. */
  invalidateDevice(sid: number): void {
    this.#cache.drop(sid, cacheKey(0, 0, 0), 0);
    this.#words[HOT_SID] = -1;
  }

  /** What is held, for tests and people. */
  entries(): DeviceEntry[] {
    const found: DeviceEntry[] = [];
    this.#cache.forEach((words, at) => {
      const facts = words[at + DATA_FACTS];
      const slot = words[at + DATA_SLOT];
      found.push({
        sid: words[at],
        domain: factsDomain(facts),
        isValid: factsIsValid(facts),
        levels: factsLevels(facts),
        rights: factsRights(facts),
        fault: factsFault(facts),
        rootPfn: slot < 0 ? -1 : this.#mem.frameOfSlot(slot),
      });
    });
    return found;
  }
}
