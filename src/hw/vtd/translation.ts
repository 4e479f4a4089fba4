/**
 * Translation of requests that the hit path of the unit did not answer. VT-d rev. 4.1 sections 3.4 and 3.7 (translation),
 * 3.14 (interrupt address range), 7.1.3 (fault conditions). The steps of comments are the same in all methods.
 */
import type { PhysMem } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import { cacheKey, ENTRY_KEY, HASH_MULTIPLIER, keyClass, type SetCache, tagSalt } from '../tlb/set-cache.ts';
import type { FullVtdConfig } from './config.ts';
import { type ContextCache, factsDomain, factsLevels, factsReason, factsTranslationType } from './context.ts';
import type { FaultLog } from './fault.ts';
import { DATA_DOMAIN, DATA_HI, DATA_LO, entryFaultRights, entryReason, type Iotlb } from './iotlb.ts';
import * as layout from './layout.ts';
import { LEAF_TABLE_KEY, type PageCache, STRUCTURE_RIGHTS, STRUCTURE_SLOT } from './page-cache.ts';
import { NOT_PRESENT, SecondStage } from './second-stage.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  FR_BEYOND_ADDRESS_WIDTH,
  FR_INTERRUPT_RANGE_OUTPUT,
  FR_NEXT_TABLE_UNREACHABLE,
  FR_READ_DENIED,
  FR_REQUEST_BLOCKED,
  FR_WRITE_DENIED,
  GSTS_REG,
  TT_DEVICE_TLB,
  TT_PASS_THROUGH,
} = vtd;
const TWO_32 = 4294967296;
const MULTIPLIER: number = HASH_MULTIPLIER;
const KEY: number = ENTRY_KEY;
const LEAF_LO: number = DATA_LO;
const LEAF_HI: number = DATA_HI;
const LEAF_DOMAIN: number = DATA_DOMAIN;
const NEAR_SLOT: number = STRUCTURE_SLOT;
const NEAR_RIGHTS: number = STRUCTURE_RIGHTS;
const LEVEL_2: number = LEAF_TABLE_KEY;
const SALT: number = tagSalt(1);
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const HOT_FACTS: number = layout.HOT_FACTS;
const HOT_SLOT: number = layout.HOT_SLOT;
const HOT_LIMIT_HI: number = layout.HOT_LIMIT_HI;
const GSTS = GSTS_REG >> 2;
/** FPD of a context, in its facts. */
const SUPPRESSES_FAULTS = 32;
/** The first data word of an IOTLB entry that says "not present". */
const NOTHING_THERE: number = NOT_PRESENT << 4;
/** No outcome yet: neither an address nor minus a fault reason. */
const GO_ON = -4096;

/** In place of a table: not looked up yet; not cached. */
const UNKNOWN = -1;
const NOWHERE = -2;

/** Request attributes in `access`: the PCIe AT field above the two rights. */
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
export const ACCESS_TRANSLATION_REQUEST: number = 1 << 2;
export const ACCESS_TRANSLATED: number = 2 << 2;
const WRITE = ACCESS_WRITE;

export class Translation {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #contexts: ContextCache;
  readonly #secondStage: SecondStage;
  readonly #faults: FaultLog;
  readonly #bySid: boolean;
  readonly #iotlbFirst: boolean;
  readonly #holdsFaults: boolean;
  readonly #holdsDenied: boolean;
  readonly #faultsOnCachedPermission: boolean;
  readonly #mgaw: number;
  readonly #reservedLo: number;
  readonly #reservedHi: number;
  readonly #iotlb: Iotlb;
  readonly #tlb: SetCache;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  /** From the first way of a set to the second, 0 when there is only one. */
  readonly #tlbSecond: number;
  /** Where the live IOTLB entries are counted by page size. */
  readonly #tlbCounts: number;
  /** The paging-structure cache, of which only tables of leaves are looked up here. */
  readonly #near: SetCache;
  readonly #nearEntries: number;
  readonly #nearHashShift: number;
  readonly #nearSetMask: number;
  readonly #nearSecond: number;

  constructor(
    words: Int32Array,
    mem: PhysMem,
    contexts: ContextCache,
    iotlb: Iotlb,
    pageCache: PageCache,
    faults: FaultLog,
    config: FullVtdConfig,
  ) {
    this.#words = words;
    this.#mem = mem;
    this.#contexts = contexts;
    this.#secondStage = new SecondStage(mem, pageCache, config);
    this.#faults = faults;
    this.#bySid = config.tagBySid;
    this.#iotlbFirst = config.iotlbBeforeContext;
    this.#holdsFaults = config.holdsNotPresent;
    this.#holdsDenied = config.holdsDenied;
    this.#faultsOnCachedPermission = config.faultOnCachedPermission;
    this.#mgaw = config.mgaw;
    this.#reservedLo = this.#secondStage.reservedLo;
    this.#reservedHi = this.#secondStage.leafReservedHi;
    const tlb = iotlb.cache;
    this.#iotlb = iotlb;
    this.#tlb = tlb;
    this.#tlbEntries = tlb.entries;
    this.#tlbHashShift = tlb.hashShift;
    this.#tlbSetMask = tlb.setMask;
    this.#tlbSecond = config.iotlb.ways > 1 ? tlb.entryWords : 0;
    this.#tlbCounts = tlb.counts;
    const near = pageCache.cache;
    this.#near = near;
    this.#nearEntries = near.entries;
    this.#nearHashShift = near.hashShift;
    this.#nearSetMask = near.setMask;
    this.#nearSecond = config.pageCache.ways > 1 ? near.entryWords : 0;
  }

  /**
   * All steps, in the specification's order, one exit per outcome. One long function on purpose also for speed: V8 would
   * inline a shorter one into the hit path, which then spills its registers (10 ns instead of 7.5). The probes of the two
   * caches are written out for the same reason: a miss through calls took 1.4 times as long.
   */
  resolve(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    // Steps 1 to 5, unless the context used last is wanted, which passed all of them but the second.
    if (words[HOT_SID] !== sid || access > 3 || (hi === 0 && lo >>> 20 === 0xfee)) {
      const early = this.#enter(sid, hi, lo, access);
      if (early !== GO_ON) return early;
    }
    // 6. The address must fit the context's width and the unit's.
    if (hi >= words[HOT_LIMIT_HI]) return this.#deny(sid, hi, lo, access, FR_BEYOND_ADDRESS_WIDTH, words[HOT_FACTS]);
    // 7. A cached answer.
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    const key = words[HOT_KEY] | (pageHi << 1);
    const hash = Math.imul(pageLo + words[HOT_SALT], MULTIPLIER);
    const set = this.#tlbEntries + ((hash >>> this.#tlbHashShift) & this.#tlbSetMask);
    if (words[set] === pageLo && words[set + KEY] === key) return this.answer(set, sid, hi, lo, access);
    // Ways fill up from the first on: with the second one empty there is nothing more to look at.
    if (words[set + this.#tlbSecond + KEY] !== 0) {
      const held = this.#tlb.findIn(set, pageLo, key);
      if (held >= 0) return this.answer(held, sid, hi, lo, access);
    }
    if (words[this.#tlbCounts + 1] + words[this.#tlbCounts + 2] !== 0) {
      const held = this.#iotlb.findSuperpage(words[HOT_KEY] >>> 16, pageHi, pageLo);
      if (held >= 0) return this.answer(held, sid, hi, lo, access);
    }
    // 8a. The walk that most misses need: the level 1 table is cached and its entry plain, or empty. One compare for each thing
    // that it must not be; whatever fails one is walked again exactly.
    const domain = words[HOT_FACTS] >>> 16;
    const tablePage = (pageLo >>> 9) | (pageHi << 23);
    const tableKey = (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1);
    const tableHash = Math.imul(tablePage + Math.imul(domain, SALT), MULTIPLIER);
    let near = this.#nearEntries + ((tableHash >>> this.#nearHashShift) & this.#nearSetMask);
    if (words[near] !== tablePage || words[near + KEY] !== tableKey) {
      near = words[near + this.#nearSecond + KEY] === 0 ? -1 : this.#near.findIn(near, tablePage, tableKey);
    }
    if (near < 0) return this.#walk(sid, hi, lo, access, set, 3);
    if (words[near + NEAR_RIGHTS] > 3) return this.#walk(sid, hi, lo, access, set, 2);
    const tables = this.#mem.deviceWords;
    const index = (words[near + NEAR_SLOT] << 10) + ((pageLo & 0x1ff) << 1);
    const leafLo = tables[index];
    const leafHi = tables[index + 1];
    const plain = leafLo & words[near + NEAR_RIGHTS];
    const rights = access & 3;
    let kept: number;
    if ((leafLo & 3) === 0) {
      if (!this.#holdsFaults) return this.#deny(sid, hi, lo, access, lacking(0, rights), words[HOT_FACTS]);
      kept = NOTHING_THERE;
    } else {
      if (
        plain === 0 ||
        (plain & rights) !== rights ||
        ((leafLo & this.#reservedLo) | (leafHi & this.#reservedHi)) !== 0 ||
        leafLo >>> 20 === 0xfee
      ) {
        return this.#walk(sid, hi, lo, access, set, 2);
      }
      kept = (leafLo & -4096) | plain;
    }
    if (words[set + KEY] !== 0) this.#tlb.makeRoom(set);
    words[this.#tlbCounts] += 1;
    words[set] = pageLo;
    words[set + KEY] = key;
    words[set + LEAF_LO] = kept;
    words[set + LEAF_HI] = leafHi & 0xfffff;
    if (this.#bySid) words[set + LEAF_DOMAIN] = domain;
    if (kept !== NOTHING_THERE) return (leafHi & 0xfffff) * TWO_32 + (((kept & -4096) | (lo & 4095)) >>> 0);
    words[set + LEAF_HI] = 0;
    return this.#deny(sid, hi, lo, access, lacking(0, rights), words[HOT_FACTS]);
  }

  /**
   * `resolve` for `nr` pages in a row, under one table of leaves, of the context used last: the table is looked up once, as
   * the first page that needs it makes it the most recent of its set. What is not as plain as a DMA of many pages mostly
   * is goes through `resolve` page by page. 17 instead of 46 ns for a page that misses.
   * @param hi @param lo words of the first page's address @param into gets the outcomes, from `from` on
   */
  resolveRun(sid: number, hi: number, lo: number, nr: number, access: number, into: Float64Array, from: number): void {
    const words = this.#words;
    const salt = words[HOT_SALT];
    const { deviceWords: tables } = this.#mem;
    const pageHi = hi >>> 12;
    const firstPage = (hi << 20) | (lo >>> 12);
    const key = words[HOT_KEY] | (pageHi << 1);
    // The interrupt range is the first half of its 2 MiB.
    const plainContext = access <= 3 && hi < words[HOT_LIMIT_HI] && !(hi === 0 && lo >>> 21 === 0xfee >>> 1);
    let leaves = UNKNOWN;
    let tableRights = 0;
    for (let index = 0; index < nr; index++) {
      const page = firstPage + index;
      const hash = Math.imul(page + salt, MULTIPLIER);
      const set = this.#tlbEntries + ((hash >>> this.#tlbHashShift) & this.#tlbSetMask);
      const tag = words[set + KEY];
      const usable = plainContext && words[HOT_SID] === sid;
      if (usable && tag === key && words[set] === page) {
        const leaf = words[set + LEAF_LO];
        if ((leaf & access) === access) {
          into[from + index] = words[set + LEAF_HI] * TWO_32 + (((leaf & -4096) | (lo & 4095)) >>> 0);
          continue;
        }
        if (leaf === NOTHING_THERE) {
          into[from + index] = this.#deny(sid, hi, page << 12, access, lacking(0, access), words[HOT_FACTS]);
          continue;
        }
      } else if (
        usable &&
        words[set + this.#tlbSecond + KEY] === 0 &&
        words[this.#tlbCounts + 1] + words[this.#tlbCounts + 2] === 0
      ) {
        if (leaves === UNKNOWN) {
          const near = this.#nearTable(pageHi, page);
          leaves = near < 0 ? NOWHERE : words[near + NEAR_SLOT] << 10;
          tableRights = near < 0 ? 0 : words[near + NEAR_RIGHTS];
        }
        // Without a table, the first words of memory: not used then.
        const at = leaves < 0 ? 0 : leaves + ((page & 0x1ff) << 1);
        const leafLo = tables[at];
        const leafHi = tables[at + 1];
        const plain = leafLo & tableRights;
        const isEmpty = (leafLo & 3) === 0;
        const isPlain = isEmpty
          ? this.#holdsFaults
          : plain !== 0 &&
            (plain & access) === access &&
            ((leafLo & this.#reservedLo) | (leafHi & this.#reservedHi)) === 0 &&
            leafLo >>> 20 !== 0xfee;
        if (isPlain && leaves >= 0) {
          if (tag !== 0) this.#tlb.makeRoom(set);
          words[this.#tlbCounts] += 1;
          words[set] = page;
          words[set + KEY] = key;
          words[set + LEAF_LO] = isEmpty ? NOTHING_THERE : (leafLo & -4096) | plain;
          words[set + LEAF_HI] = isEmpty ? 0 : leafHi & 0xfffff;
          if (this.#bySid) words[set + LEAF_DOMAIN] = words[HOT_FACTS] >>> 16;
          into[from + index] = isEmpty
            ? this.#deny(sid, hi, page << 12, access, lacking(0, access), words[HOT_FACTS])
            : (leafHi & 0xfffff) * TWO_32 + (((leafLo & -4096) | (lo & 4095)) >>> 0);
          continue;
        }
      }
      into[from + index] = this.resolve(sid, hi, (page << 12) | (lo & 4095), access);
      // It may have cached a table, or thrown one out.
      leaves = UNKNOWN;
    }
  }

  /** The cached table of leaves that serves a page, if what is cached is a table; -1 else. */
  #nearTable(pageHi: number, pageLo: number): number {
    const words = this.#words;
    const domain = words[HOT_FACTS] >>> 16;
    const key = (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1);
    const near = this.#near.find((pageLo >>> 9) | (pageHi << 23), key, Math.imul(domain, SALT));
    return near >= 0 && words[near + NEAR_RIGHTS] <= 3 ? near : -1;
  }

  /** Steps 1 to 5: whether translation is wanted, and the context. @returns an outcome, or GO_ON with the context in HOT_* */
  #enter(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    // 1. Translation off: every address is physical.
    if (words[GSTS] >= 0) return hi * TWO_32 + (lo >>> 0);
    // 2. Interrupt range: a message to an APIC, not an address of memory; tables are not consulted (3.14).
    if (hi === 0 && lo >>> 20 === 0xfee) return hi * TWO_32 + (lo >>> 0);
    if (this.#iotlbFirst && access <= 3) {
      const held = this.#findBySid(sid, hi, lo);
      if (held >= 0) return this.answer(held, sid, hi, lo, access);
    }
    // 3. Root and context.
    const facts = this.#contexts.find(sid);
    const contextReason = factsReason(facts);
    if (contextReason !== 0) return this.#deny(sid, hi, lo, access, contextReason, facts);
    // 4. Only TT = 1 lets devices ask for translations and send translated requests, which pass.
    const type = factsTranslationType(facts);
    if (access > 3) {
      if (type !== TT_DEVICE_TLB) return this.#deny(sid, hi, lo, access, FR_REQUEST_BLOCKED, facts);
      if (access >= ACCESS_TRANSLATED) return hi * TWO_32 + (lo >>> 0);
    }
    // 5. Pass-through.
    if (type === TT_PASS_THROUGH) return hi * TWO_32 + (lo >>> 0);
    this.#remember(sid, facts);
    return GO_ON;
  }

  /** The IOTLB entry of a requester for an address, -1 when there is none. For units that ask it first. */
  #findBySid(sid: number, hi: number, lo: number): number {
    if (hi >>> 16 !== 0) return -1;
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    const held = this.#tlb.find(pageLo, cacheKey(sid, 0, pageHi), this.#iotlb.saltOf(sid));
    return held >= 0 ? held : this.#iotlb.findSuperpage(sid, pageHi, pageLo);
  }

  /** Makes a context the one used last. */
  #remember(sid: number, facts: number): void {
    const words = this.#words;
    const slot = this.#contexts.slot;
    const tag = this.#bySid ? sid : factsDomain(facts);
    // A context whose top table is missing is not cached (ContextCache), so it serves this request only.
    // Nor does one of a unit that wants to be asked for its IOTLB first.
    words[HOT_SID] = slot < 0 || this.#iotlbFirst ? -1 : sid;
    words[HOT_KEY] = cacheKey(tag, 0, 0);
    words[HOT_SALT] = this.#iotlb.saltOf(tag);
    words[HOT_FACTS] = facts;
    words[HOT_SLOT] = slot;
    words[HOT_LIMIT_HI] = 1 << (Math.min(factsLevels(facts) * 9 + 12, this.#mgaw) - 32);
  }

  /**
   * Steps 8 to 10: the exact walk, and what follows from it.
   * @param set of the IOTLB that the page belongs to. @param nearest see SecondStage.walk
   */
  #walk(sid: number, hi: number, lo: number, access: number, set: number, nearest: number): number {
    const words = this.#words;
    const facts = words[HOT_FACTS];
    const rights = access & 3;
    const domain = facts >>> 16;
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    // 8. The walk.
    const walk = this.#secondStage;
    const reason = walk.walk(domain, words[HOT_SLOT], facts & 7, pageHi, pageLo, rights, nearest);
    if (reason !== 0) {
      // Aborted reads are never held, see ContextCache.
      if (this.#holdsFaults && reason !== FR_NEXT_TABLE_UNREACHABLE) this.#holdFault(pageHi, pageLo, reason, 0);
      return this.#deny(sid, hi, lo, access, reason === NOT_PRESENT ? lacking(0, rights) : reason, facts);
    }
    // 9. Rights. The translation exists and may be kept although this request may not use it.
    const { leafLo, leafHi, leafRights, leafLevel } = walk;
    const paddrLo = outputLo(leafLo, leafLevel, lo);
    const isInterruptRange = leafHi === 0 && paddrLo >>> 20 === 0xfee;
    if ((leafRights & rights) !== rights) {
      // Not with an output that step 10 would refuse: the hit path relies on entries without such.
      if (this.#holdsDenied && !isInterruptRange) this.#hold(set, pageHi, pageLo);
      return this.#deny(sid, hi, lo, access, lacking(leafRights, rights), facts);
    }
    // 10. The output must not be the interrupt range.
    if (isInterruptRange) {
      if (this.#holdsFaults) this.#holdFault(pageHi, pageLo, FR_INTERRUPT_RANGE_OUTPUT, leafRights);
      return this.#deny(sid, hi, lo, access, FR_INTERRUPT_RANGE_OUTPUT, facts);
    }
    this.#hold(set, pageHi, pageLo);
    return leafHi * TWO_32 + (paddrLo >>> 0);
  }

  /** Keeps the leaf of the last walk. */
  #hold(set: number, pageHi: number, pageLo: number): void {
    const words = this.#words;
    const { leafLo, leafHi, leafRights, leafLevel } = this.#secondStage;
    const domain = words[HOT_FACTS] >>> 16;
    if (leafLevel !== 1) {
      this.#iotlb.holdSuperpage(words[HOT_KEY] >>> 16, domain, pageHi, pageLo, leafLevel, leafLo, leafHi, leafRights);
      return;
    }
    if (words[set + KEY] !== 0) this.#tlb.makeRoom(set);
    words[this.#tlbCounts] += 1;
    words[set] = pageLo;
    words[set + KEY] = words[HOT_KEY] | (pageHi << 1);
    words[set + LEAF_LO] = leafLo | leafRights;
    words[set + LEAF_HI] = leafHi;
    if (this.#bySid) words[set + LEAF_DOMAIN] = domain;
  }

  #holdFault(pageHi: number, pageLo: number, reason: number, rights: number): void {
    const words = this.#words;
    this.#iotlb.holdFault(words[HOT_KEY] >>> 16, words[HOT_FACTS] >>> 16, pageHi, pageLo, reason, rights);
  }

  /** Step 7 with an IOTLB entry, of the context used last: the outcome that it gives. */
  answer(at: number, sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const leafLo = words[at + LEAF_LO];
    // Mostly "not present", since drivers touch pages before they are mapped and after they are unmapped.
    if (leafLo === NOTHING_THERE) return this.#deny(sid, hi, lo, access, lacking(0, access & 3), words[HOT_FACTS]);
    return this.#answerExactly(at, sid, hi, lo, access);
  }

  #answerExactly(at: number, sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const facts = words[HOT_FACTS];
    const leafLo = words[at + LEAF_LO];
    const leafHi = words[at + LEAF_HI];
    const rights = access & 3;
    const reason = entryReason(leafLo);
    if (reason !== 0) {
      const held = entryFaultRights(leafLo);
      const isRights = reason === NOT_PRESENT || (reason === FR_INTERRUPT_RANGE_OUTPUT && (held & rights) !== rights);
      return this.#deny(sid, hi, lo, access, isRights ? lacking(held, rights) : reason, facts);
    }
    if ((leafLo & rights) !== rights) {
      const missing = lacking(leafLo, rights);
      return this.#faultsOnCachedPermission ? this.#deny(sid, hi, lo, access, missing, facts) : -missing;
    }
    const paddrLo = outputLo(leafLo & -4096, keyClass(words[at + KEY]) + 1, lo);
    // Of a superpage only one part may lie in the interrupt range, so the entry could be cached.
    if (leafHi === 0 && paddrLo >>> 20 === 0xfee) {
      return this.#deny(sid, hi, lo, access, FR_INTERRUPT_RANGE_OUTPUT, facts);
    }
    return leafHi * TWO_32 + (paddrLo >>> 0);
  }

  /** Logs a fault, unless the context says not to, and blocks the request. */
  #deny(sid: number, hi: number, lo: number, access: number, reason: number, facts: number): number {
    // A translation request is answered "no rights" instead of being a fault (4.2.3).
    const isAnswer =
      (access & ACCESS_TRANSLATION_REQUEST) !== 0 &&
      (reason === FR_READ_DENIED || reason === FR_WRITE_DENIED || reason === FR_BEYOND_ADDRESS_WIDTH);
    if ((facts & SUPPRESSES_FAULTS) === 0 && !isAnswer) this.#faults.record(sid, lo, hi, access, reason);
    return -reason;
  }
}

/** The reason for a request that needs `rights` and has `held`; a missing W decides. */
function lacking(held: number, rights: number): number {
  return (rights & ~held & WRITE) !== 0 ? FR_WRITE_DENIED : FR_READ_DENIED;
}

/** Low word of the output: the leaf's address with the IOVA's bits below the leaf's size. */
function outputLo(leafLo: number, level: number, lo: number): number {
  const mask = (1 << (level * 9 + 3)) - 1;
  return (leafLo & ~mask) | (lo & mask);
}
