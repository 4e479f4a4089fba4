/**
 * Root and context tables, and the context cache. VT-d rev. 4.1 sections 3.4 (mapping devices to domains), 9.1 (root
 * entry), 9.3 (context entry), 6.2.2 (context cache), 6.1 (what caching mode allows), 7.1.3 (which condition is which fault).
 *
 * A cached result is `facts`, one word: levels 2:0, TT 4:3, FPD 5, fault reason 10:6, domain id 31:16. A result with a
 * reason is a faulting one; it carries domain 0, the id that software must use to invalidate it (6.1).
 */
import { vtd } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { cacheKey, SetCache, type EntryTest } from '../tlb/set-cache.ts';
import type { FullVtdConfig } from './config.ts';
import { HOT_SID, ROOT_HI, ROOT_LO } from './layout.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  CONTEXT_AW_MASK_W2,
  CONTEXT_DID_SHIFT_W2,
  CONTEXT_FPD,
  CONTEXT_PRESENT,
  CONTEXT_TT_MASK,
  CONTEXT_TT_SHIFT,
  FR_CONTEXT_INVALID,
  FR_CONTEXT_NOT_PRESENT,
  FR_CONTEXT_RESERVED,
  FR_CONTEXT_TABLE_UNREACHABLE,
  FR_ROOT_NOT_PRESENT,
  FR_ROOT_RESERVED,
  FR_ROOT_TABLE_UNREACHABLE,
  ROOT_PRESENT,
  TT_DEVICE_TLB,
  TT_MULTI_LEVEL,
  TT_PASS_THROUGH,
} = vtd;

const DATA_FACTS = 2;
const DATA_SLOT = 3;

export function factsLevels(facts: number): number {
  return facts & 7;
}
export function factsTranslationType(facts: number): number {
  return (facts >>> 3) & 3;
}
export function factsSuppressesFaults(facts: number): boolean {
  return (facts & 32) !== 0;
}
export function factsReason(facts: number): number {
  return (facts >>> 6) & 31;
}
export function factsDomain(facts: number): number {
  return facts >>> 16;
}

/** One cached context, decoded for people. */
export interface ContextEntry {
  readonly sid: number;
  readonly domain: number;
  readonly translationType: number;
  readonly levels: number;
  /** Fault that it gives, or 0. */
  readonly reason: number;
  /** Frame of the top table, or -1 when there is none. */
  readonly rootPfn: number;
}

export class ContextCache {
  /** Slot of the top table of the context that find() answered with. */
  slot = -1;

  readonly #words: Int32Array;
  readonly #cache: SetCache;
  readonly #mem: PhysMem;
  readonly #config: FullVtdConfig;
  readonly #sagaw: number;
  /** Address bits from the host address width up to 63, which are reserved in both kinds of entries. */
  readonly #reservedHi: number;

  constructor(words: Int32Array, cache: SetCache, mem: PhysMem, config: FullVtdConfig) {
    this.#words = words;
    this.#cache = cache;
    this.#mem = mem;
    this.#config = config;
    let sagaw = 0;
    for (const levels of config.sagaw) sagaw |= 1 << (levels - 2);
    this.#sagaw = sagaw;
    this.#reservedHi = ~((1 << (config.haw - 32)) - 1);
  }

  /** The facts about a requester, from the cache or the tables. Leaves the top table's slot in `slot`. */
  find(sid: number): number {
    const key = cacheKey(0, 0, 0);
    const at = this.#cache.find(sid, key, 0);
    if (at >= 0) {
      this.slot = this.#cache.words[at + DATA_SLOT];
      return this.#cache.words[at + DATA_FACTS];
    }
    const facts = this.#read(sid);
    if (this.#mayHold(facts)) {
      const entry = this.#cache.insert(sid, key, 0);
      // The context used last may just have been evicted; nothing may outlive its entry.
      this.#words[HOT_SID] = -1;
      this.#cache.words[entry + DATA_FACTS] = facts;
      this.#cache.words[entry + DATA_SLOT] = this.slot;
    }
    return facts;
  }

  /** Aborted reads are never held: memory that appears later would stay invisible although no entry changed. */
  #mayHold(facts: number): boolean {
    const reason = factsReason(facts);
    if (reason === 0) return this.slot >= 0 || factsTranslationType(facts) === TT_PASS_THROUGH;
    if (reason === FR_ROOT_TABLE_UNREACHABLE || reason === FR_CONTEXT_TABLE_UNREACHABLE) return false;
    return this.#config.holdsNotPresent;
  }

  /** Steps 1 to 8 of 3.4.3 and 7.1.3. @returns facts; `slot` is set, -1 for a top table outside memory. */
  #read(sid: number): number {
    const words = this.#words;
    const mem = this.#mem;
    this.slot = -1;
    // 1. The root entry of the bus. The table lies where the last SRTP found RTADDR.
    const rootSlot = mem.slotOf((words[ROOT_HI] & 0xfffff) * 0x100000 + (words[ROOT_LO] >>> 12));
    if (rootSlot < 0) return FR_ROOT_TABLE_UNREACHABLE << 6;
    const root = (rootSlot << 10) + ((sid >>> 8) << 2);
    const rootLo = mem.deviceWords[root];
    const rootHi = mem.deviceWords[root + 1];
    // 2. Present?
    if ((rootLo & ROOT_PRESENT) === 0) return FR_ROOT_NOT_PRESENT << 6;
    // 3. Reserved: bits 11:1, address bits above the host address width, the whole upper half.
    if (
      ((rootLo & 0xffe) | (rootHi & this.#reservedHi) | mem.deviceWords[root + 2] | mem.deviceWords[root + 3]) !==
      0
    ) {
      return FR_ROOT_RESERVED << 6;
    }
    // 4. The context entry of device and function.
    const tableSlot = mem.slotOf((rootHi & 0xfffff) * 0x100000 + (rootLo >>> 12));
    if (tableSlot < 0) return FR_CONTEXT_TABLE_UNREACHABLE << 6;
    const entry = (tableSlot << 10) + ((sid & 0xff) << 2);
    const lo = mem.deviceWords[entry];
    const hi = mem.deviceWords[entry + 1];
    const word2 = mem.deviceWords[entry + 2];
    const suppress = (lo & CONTEXT_FPD) === 0 ? 0 : 32;
    // 5. Present? FPD counts even in an entry that is not.
    if ((lo & CONTEXT_PRESENT) === 0) return (FR_CONTEXT_NOT_PRESENT << 6) | suppress;
    // 6. Reserved: bits 11:4, address bits above the host address width, bit 71, bits 127:88.
    if (((lo & 0xff0) | (hi & this.#reservedHi) | (word2 & 0xff000080) | mem.deviceWords[entry + 3]) !== 0) {
      return (FR_CONTEXT_RESERVED << 6) | (this.#config.fpdCoversReservedContext ? suppress : 0);
    }
    // 7. Programmed with what this unit does not support: width, translation type.
    const width = word2 & CONTEXT_AW_MASK_W2;
    const type = (lo >>> CONTEXT_TT_SHIFT) & CONTEXT_TT_MASK;
    const typeIsSupported =
      type === TT_MULTI_LEVEL ||
      (type === TT_DEVICE_TLB && this.#config.dt) ||
      (type === TT_PASS_THROUGH && this.#config.pt);
    if (((this.#sagaw >>> width) & 1) === 0 || !typeIsSupported) return (FR_CONTEXT_INVALID << 6) | suppress;
    // 8. Good. Whether the top table can be read at all shows in the walk.
    this.slot = mem.slotOf((hi & 0xfffff) * 0x100000 + (lo >>> 12));
    const domain = (word2 >>> CONTEXT_DID_SHIFT_W2) & 0xffff;
    return (domain << 16) | suppress | (type << 3) | (width + 2);
  }

  /** Drops the whole cache. */
  invalidateAll(): void {
    this.#cache.clear();
    this.#words[HOT_SID] = -1;
  }

  /** Drops what a domain-selective request covers: entries with this domain id; faulting ones carry 0. */
  invalidateDomain(domain: number): void {
    this.#drop((words, at) => factsDomain(words[at + DATA_FACTS]) === domain);
  }

  /** Drops what a device-selective request covers. @param functionMask 0..3: that many low function bits do not count */
  invalidateDevice(domain: number, sid: number, functionMask: number): void {
    // FM = 1 masks function bit 2, 2 masks bits 2:1, 3 masks bits 2:0 (11.4.6).
    const compare = ~((7 << (3 - functionMask)) & 7);
    const anyDomain = this.#config.contextDeviceIgnoresDomain;
    this.#drop(
      (words, at) =>
        ((words[at] ^ sid) & compare) === 0 && (anyDomain || factsDomain(words[at + DATA_FACTS]) === domain),
    );
  }

  #drop(test: EntryTest): void {
    this.#cache.dropWhere(test);
    this.#words[HOT_SID] = -1;
  }

  /** What is held, for tests and people. */
  entries(): ContextEntry[] {
    const found: ContextEntry[] = [];
    this.#cache.forEach((words, at) => {
      const facts = words[at + DATA_FACTS];
      const slot = words[at + DATA_SLOT];
      found.push({
        sid: words[at],
        domain: factsDomain(facts),
        translationType: factsTranslationType(facts),
        levels: factsLevels(facts),
        reason: factsReason(facts),
        rootPfn: slot < 0 ? -1 : this.#mem.frameOfSlot(slot),
      });
    });
    return found;
  }
}
