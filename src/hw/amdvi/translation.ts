/**
 * Translation of requests that the hit path of the unit did not answer. AMD-Vi 48882 rev. 3.x sections 2.1 (2.1.3 errors), 2.2
 * (tables) and the exclusion range of 3.4. The steps of comments are the same in all methods.
 */
import type { PhysMem } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';
import { cacheKey, ENTRY_KEY, HASH_MULTIPLIER, keyClass, type SetCache, tagSalt } from '../tlb/set-cache.ts';
import type { FullAmdviConfig } from './config.ts';
import { type DeviceTable, factsDomain, factsFault, factsIsValid, factsLevels } from './device-table.ts';
import { factsLogsFaults, factsMayExclude, factsMayUseAts, factsRights } from './device-table.ts';
import type { EventLog } from './event-log.ts';
import * as fault from './fault.ts';
import { HostWalk } from './host-walk.ts';
import { type AmdviIotlb, DATA_DOMAIN, DATA_HI, DATA_LO, entryFault } from './iotlb.ts';
import * as layout from './layout.ts';
import { LEAF_TABLE_KEY, PDE_SLOT, PDE_STATE, type PdeCache } from './pde-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  CONTROL_IOMMU_EN,
  CONTROL_REG,
  EVENT_FLAG_RW,
  EVENT_FLAG_TR,
  EVENT_ILLEGAL_DEV_TABLE_ENTRY,
  EVENT_IO_PAGE_FAULT,
  EXCL_ALLOW_ALL,
  EXCL_BASE_REG,
  EXCL_ENABLE,
  EXCL_LIMIT_REG,
  PTE_IR_HI,
  PTE_NEXT_LEVEL_MASK,
  PTE_NEXT_LEVEL_SHIFT_LO,
  PTE_PR_LO,
  PTE_RESERVED_HI,
} = amdvi;
const { FAULT_LEVEL, FAULT_NOT_PRESENT, FAULT_PERMISSION, FAULT_TABLE_UNREADABLE, FAULT_DTE_UNREADABLE } = fault;
const TWO_32 = 4294967296;
const MULTIPLIER: number = HASH_MULTIPLIER;
const KEY: number = ENTRY_KEY;
const LEAF_LO: number = DATA_LO;
const LEAF_HI: number = DATA_HI;
const LEAF_DOMAIN: number = DATA_DOMAIN;
const NEAR_SLOT: number = PDE_SLOT;
const NEAR_STATE: number = PDE_STATE;
const LEVEL_2: number = LEAF_TABLE_KEY;
/** The salts of tagSalt() and pdeSalt() are multiples of this; the second with the level above the domain. */
const SALT: number = tagSalt(1);
const LEVEL_2_TAG: number = 2 << 16;
/** What the short walk asks of a leaf's low word: PR, and next level 0. */
const PLAIN_MASK = PTE_PR_LO | (PTE_NEXT_LEVEL_MASK << PTE_NEXT_LEVEL_SHIFT_LO);
const PLAIN: number = PTE_PR_LO;
const RIGHTS_SHIFT = 31 - Math.clz32(PTE_IR_HI);
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const HOT_FACTS: number = layout.HOT_FACTS;
const HOT_SLOT: number = layout.HOT_SLOT;
const HOT_LIMIT_HI: number = layout.HOT_LIMIT_HI;
const LARGE: number = layout.LARGE;
const CONTROL = CONTROL_REG >> 2;
const EXCL_BASE = EXCL_BASE_REG >> 2;
const EXCL_LIMIT = EXCL_LIMIT_REG >> 2;
const ALL_RIGHTS = 3;
/** The first data word of an IOTLB entry that says "not present". */
const NOTHING_THERE: number = FAULT_NOT_PRESENT << 4;
/** No outcome yet: neither an address nor minus an event code. */
const GO_ON = -4096;
/** In place of a table: not looked up yet; not cached. */
const UNKNOWN = -1;
const NOWHERE = -2;
/** Request attributes in `access`: the PCIe AT field above the two rights. */
const ACCESS_WRITE = 2;
const ACCESS_TRANSLATION_REQUEST: number = 1 << 2;
const ACCESS_TRANSLATED: number = 2 << 2;

export class AmdviTranslation {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #devices: DeviceTable;
  readonly #tables: HostWalk;
  readonly #log: EventLog;
  readonly #bySid: boolean;
  readonly #holdsDevices: boolean;
  readonly #holdsNotPresent: boolean;
  readonly #holdsDenied: boolean;
  readonly #checks: boolean;
  readonly #iotlbFirst: boolean;
  readonly #holdsPassThrough: boolean;
  readonly #leafRightsOnly: boolean;
  readonly #iotlb: AmdviIotlb;
  readonly #tlb: SetCache;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  /** From the first way of a set to the second, 0 when there is only one. */
  readonly #tlbSecond: number;
  /** Where the live IOTLB entries of 4 KiB are counted. */
  readonly #tlbCounts: number;
  /** The PDE cache, of which only tables of leaves are looked up here. */
  readonly #pdes: SetCache;
  readonly #nearEntries: number;
  readonly #nearHashShift: number;
  readonly #nearSetMask: number;
  readonly #nearSecond: number;

  constructor(
    words: Int32Array,
    mem: PhysMem,
    devices: DeviceTable,
    iotlb: AmdviIotlb,
    pdeCache: PdeCache,
    log: EventLog,
    config: FullAmdviConfig,
  ) {
    this.#words = words;
    this.#mem = mem;
    this.#devices = devices;
    this.#tables = new HostWalk(mem, pdeCache, config);
    this.#log = log;
    this.#bySid = config.tagBySid;
    this.#holdsDevices = config.holdsDevices;
    this.#holdsNotPresent = config.holdsNotPresent;
    this.#holdsDenied = config.holdsDenied;
    this.#checks = config.checksWalk;
    this.#iotlbFirst = config.iotlbBeforeDevice;
    this.#holdsPassThrough = config.holdsPassThrough;
    this.#leafRightsOnly = config.leafRightsOnly;
    const tlb = iotlb.cache;
    this.#iotlb = iotlb;
    this.#tlb = tlb;
    this.#tlbEntries = tlb.entries;
    this.#tlbHashShift = tlb.hashShift;
    this.#tlbSetMask = tlb.setMask;
    this.#tlbSecond = config.iotlb.ways > 1 ? tlb.entryWords : 0;
    this.#tlbCounts = tlb.counts;
    const near = pdeCache.cache;
    this.#pdes = near;
    this.#nearEntries = near.entries;
    this.#nearHashShift = near.hashShift;
    this.#nearSetMask = near.setMask;
    this.#nearSecond = config.pdeCache.ways > 1 ? near.entryWords : 0;
  }

  /**
   * All steps, in the specification's order, one exit per outcome. One long function on purpose also for speed: V8 would
   * inline a shorter one into the hit path, which then spills its registers. The probes of the two caches and the
   * short walk are written out for the same reason.
   */
  resolve(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    // Steps 1 to 7, unless the entry used last is wanted, which passed all of them but the fifth.
    if (words[HOT_SID] !== sid || access > ALL_RIGHTS || (hi === 0 && lo >>> 20 === 0xfee)) {
      const early = this.#enter(sid, hi, lo, access);
      if (early !== GO_ON) return early;
    }
    const facts = words[HOT_FACTS];
    // 8. The address must lie within the levels. (A limit of 1 stands for fewer than 32 bits, levels 1 and 2.)
    if (hi >= words[HOT_LIMIT_HI] || (words[HOT_LIMIT_HI] === 1 && lo >>> (12 + (facts & 7) * 9) !== 0)) {
      return this.deny(FAULT_LEVEL, sid, hi, lo, access, facts);
    }
    // 9. A cached answer.
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
    if ((words[LARGE] | words[LARGE + 1]) !== 0) {
      const large = this.#iotlb.findLarge(words[HOT_KEY] >>> 16, pageHi, pageLo);
      if (large >= 0) return this.answer(large, sid, hi, lo, access);
    }
    // 10a. The walk that most misses need: the level 1 table is cached and its entry plain, or not present. One compare for each
    // thing that it must not be; whatever fails one is walked again exactly.
    const domain = facts >>> 16;
    const tablePage = (pageLo >>> 9) | (pageHi << 23);
    const tableKey = (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1);
    const tableHash = Math.imul(tablePage + Math.imul(domain | LEVEL_2_TAG, SALT), MULTIPLIER);
    let near = this.#nearEntries + ((tableHash >>> this.#nearHashShift) & this.#nearSetMask);
    if (words[near] !== tablePage || words[near + KEY] !== tableKey) {
      near = words[near + this.#nearSecond + KEY] === 0 ? -1 : this.#pdes.findIn(near, tablePage, tableKey);
    }
    if (near < 0 || words[near + NEAR_STATE] > ALL_RIGHTS) return this.#walk(sid, hi, lo, access);
    const tables = this.#mem.words;
    const index = (words[near + NEAR_SLOT] << 10) + ((pageLo & 0x1ff) << 1);
    const leafLo = tables[index];
    const leafHi = tables[index + 1];
    const rights = access & ALL_RIGHTS;
    const plain = (leafHi >>> RIGHTS_SHIFT) & words[near + NEAR_STATE];
    let kept: number;
    if ((leafLo & PTE_PR_LO) === 0 && this.#checks) {
      if (!this.#holdsNotPresent) return this.deny(FAULT_NOT_PRESENT, sid, hi, lo, access, facts);
      kept = NOTHING_THERE;
    } else {
      if ((leafLo & PLAIN_MASK) !== PLAIN || (plain & rights) !== rights || (leafHi & PTE_RESERVED_HI) !== 0) {
        return this.#walk(sid, hi, lo, access);
      }
      kept = (leafLo & -4096) | plain;
    }
    if (words[set + KEY] !== 0) this.#tlb.makeRoom(set);
    words[this.#tlbCounts] += 1;
    words[set] = pageLo;
    words[set + KEY] = key;
    words[set + LEAF_LO] = kept;
    words[set + LEAF_HI] = leafHi & ADDR_MASK_HI;
    if (this.#bySid) words[set + LEAF_DOMAIN] = domain;
    if (kept !== NOTHING_THERE) {
      return (leafHi & ADDR_MASK_HI) * TWO_32 + (((kept & -4096) | (lo & 4095)) >>> 0);
    }
    words[set + LEAF_HI] = 0;
    return this.deny(FAULT_NOT_PRESENT, sid, hi, lo, access, facts);
  }

  /**
   * `resolve` for `nr` pages in a row, under one table of leaves, of the entry used last: the table is looked up once, as the
   * first page that needs it makes it the most recent of its set. What is not as plain as a DMA of many pages mostly is goes
   * through `resolve` page by page.
   * @param hi @param lo words of the first page's address @param into gets the outcomes, from `from` on
   */
  resolveRun(sid: number, hi: number, lo: number, nr: number, access: number, into: Float64Array, from: number): void {
    const words = this.#words;
    const salt = words[HOT_SALT];
    const pageHi = hi >>> 12;
    const firstPage = (hi << 20) | (lo >>> 12);
    const key = words[HOT_KEY] | (pageHi << 1);
    // The interrupt range lies in the upper half of these 2 MiB. A limit of 1 asks for more (step 8).
    const isPlain =
      access <= ALL_RIGHTS &&
      hi < words[HOT_LIMIT_HI] &&
      words[HOT_LIMIT_HI] !== 1 &&
      !(hi === 0 && lo >>> 21 === 0xfee >>> 1);
    let near = UNKNOWN;
    for (let index = 0; index < nr; index++) {
      const page = firstPage + index;
      const pageAddress = (page << 12) | (lo & 4095);
      const set = this.#tlbEntries + ((Math.imul(page + salt, MULTIPLIER) >>> this.#tlbHashShift) & this.#tlbSetMask);
      let outcome = GO_ON;
      if (isPlain && words[HOT_SID] === sid) {
        if (words[set + KEY] === key && words[set] === page) {
          outcome = this.answer(set, sid, hi, pageAddress, access);
        } else if (words[set + this.#tlbSecond + KEY] === 0 && (words[LARGE] | words[LARGE + 1]) === 0) {
          if (near === UNKNOWN) near = this.#nearTable(pageHi, page);
          if (near >= 0) outcome = this.#fill(set, key, near, sid, hi, pageAddress, access);
        }
      }
      if (outcome === GO_ON) {
        outcome = this.resolve(sid, hi, pageAddress, access);
        // It may have cached a table, or thrown one out.
        near = UNKNOWN;
      }
      into[from + index] = outcome;
    }
  }

  /** The cached table of leaves that serves a page, if what is cached is a table; NOWHERE else. */
  #nearTable(pageHi: number, pageLo: number): number {
    const words = this.#words;
    const domain = words[HOT_FACTS] >>> 16;
    const key = (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1);
    const near = this.#pdes.find((pageLo >>> 9) | (pageHi << 23), key, Math.imul(domain | LEVEL_2_TAG, SALT));
    return near >= 0 && words[near + NEAR_STATE] <= ALL_RIGHTS ? near : NOWHERE;
  }

  /**
   * Step 10a for a page of a run. Whatever is neither plain nor absent is GO_ON, to be walked exactly.
   * @param set of the IOTLB that the page belongs to, @param near the PDE cache's entry
   */
  #fill(set: number, key: number, near: number, sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const tables = this.#mem.words;
    const index = (words[near + NEAR_SLOT] << 10) + (((lo >>> 12) & 0x1ff) << 1);
    const leafLo = tables[index];
    const leafHi = tables[index + 1];
    const rights = access & ALL_RIGHTS;
    const plain = (leafHi >>> RIGHTS_SHIFT) & words[near + NEAR_STATE];
    let kept: number;
    if ((leafLo & PLAIN_MASK) === PLAIN && (plain & rights) === rights && (leafHi & PTE_RESERVED_HI) === 0) {
      kept = (leafLo & -4096) | plain;
    } else if ((leafLo & PTE_PR_LO) === 0 && this.#checks) {
      if (!this.#holdsNotPresent) return this.deny(FAULT_NOT_PRESENT, sid, hi, lo, access, words[HOT_FACTS]);
      kept = NOTHING_THERE;
    } else return GO_ON;
    if (words[set + KEY] !== 0) this.#tlb.makeRoom(set);
    words[this.#tlbCounts] += 1;
    words[set] = (hi << 20) | (lo >>> 12);
    words[set + KEY] = key;
    words[set + LEAF_LO] = kept;
    if (this.#bySid) words[set + LEAF_DOMAIN] = words[HOT_FACTS] >>> 16;
    if (kept !== NOTHING_THERE) {
      words[set + LEAF_HI] = leafHi & ADDR_MASK_HI;
      return (leafHi & ADDR_MASK_HI) * TWO_32 + (((leafLo & -4096) | (lo & 4095)) >>> 0);
    }
    words[set + LEAF_HI] = 0;
    return this.deny(FAULT_NOT_PRESENT, sid, hi, lo, access, words[HOT_FACTS]);
  }

  /** Steps 1 to 7: whether translation is wanted, and the device table entry. @returns an outcome, or GO_ON with it in HOT_* */
  #enter(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const isInterruptRange = hi === 0 && lo >>> 20 === 0xfee;
    // 1. The unit is off: every address is physical.
    if ((words[CONTROL] & CONTROL_IOMMU_EN) === 0) return hi * TWO_32 + (lo >>> 0);
    if (this.#iotlbFirst && access <= ALL_RIGHTS && !isInterruptRange) {
      const held = this.#findBySid(sid, hi, lo);
      if (held >= 0) return this.answer(held, sid, hi, lo, access);
    }
    // 2. The device table entry. V = 0 lets every address pass that is not ATS.
    const facts = this.#devices.find(sid);
    const wrong = factsFault(facts);
    // 3. ATS: only devices with V = I = 1 ask for translations and send translated requests, which pass.
    if (access > ALL_RIGHTS) {
      if (!factsMayUseAts(facts)) return this.deny(fault.FAULT_ATS, sid, hi, lo, access, facts);
      if (access >= ACCESS_TRANSLATED) return hi * TWO_32 + (lo >>> 0);
    }
    if (!factsIsValid(facts)) return hi * TWO_32 + (lo >>> 0);
    if (wrong !== 0 && wrong !== fault.FAULT_NO_TRANSLATION) return this.deny(wrong, sid, hi, lo, access, facts);
    // 4. The exclusion range passes for whoever may use it, whatever the rest of the entry says.
    if (this.#isExcluded(facts, hi, lo)) return hi * TWO_32 + (lo >>> 0);
    // 5. Interrupt range: a write is a message to an APIC, a read is nothing that exists (2.1.2, 2.5.9).
    if (isInterruptRange) {
      if ((access & ACCESS_WRITE) !== 0) return lo >>> 0;
      return this.deny(fault.FAULT_INTERRUPT_READ, sid, hi, lo, access, facts);
    }
    if (this.#holdsPassThrough && wrong === 0 && factsLevels(facts) === 0 && factsRights(facts) !== 0) {
      const pageLo = (hi << 20) | (lo >>> 12);
      this.#iotlb.hold(sid, factsDomain(facts), hi >>> 12, pageLo, 12, lo & -4096, hi, factsRights(facts));
    }
    // 6. TV, and the rights of the entry itself.
    if (wrong !== 0) return this.deny(wrong, sid, hi, lo, access, facts);
    if ((factsRights(facts) & access & ALL_RIGHTS) !== (access & ALL_RIGHTS)) {
      return this.deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
    }
    // 7. Mode 0 has no tables to look at.
    if (factsLevels(facts) === 0) return hi * TWO_32 + (lo >>> 0);
    this.#remember(sid, facts);
    return GO_ON;
  }

  /** Steps 10 and 11: the exact walk, and what follows from it. */
  #walk(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const facts = words[HOT_FACTS];
    const rights = access & ALL_RIGHTS;
    const domain = facts >>> 16;
    const tag = words[HOT_KEY] >>> 16;
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    // 10. The walk.
    const walk = this.#tables;
    const { rootLo, rootHi } = this.#devices;
    const wrong = walk.walk(domain, words[HOT_SLOT], rootLo, rootHi, facts & 7, pageHi, pageLo, rights);
    if (wrong !== 0) {
      // Aborted reads are never held, see DeviceTable; nor are rights that ended a walk early.
      const holdsFault = wrong === FAULT_NOT_PRESENT ? this.#holdsNotPresent : this.#holdsDenied;
      if (holdsFault && wrong < FAULT_PERMISSION) this.#iotlb.holdFault(tag, domain, pageHi, pageLo, wrong);
      return this.deny(wrong, sid, hi, lo, access, facts);
    }
    // 11. Rights. The translation exists and may be kept although this request may not use it.
    const isGranted = (walk.leafRights & rights) === rights;
    const holds = isGranted || this.#holdsDenied || (this.#leafRightsOnly && walk.leafRights !== 0);
    if (holds) this.#hold(tag, domain, pageHi, pageLo);
    if (!isGranted) return this.deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
    return output(walk.leafLo, walk.leafHi, walk.leafLg2, hi, lo);
  }

  /** Whether an address lies in the exclusion range and the device may use that: EX = 1, or the range is open to all. */
  #isExcluded(facts: number, hi: number, lo: number): boolean {
    const words = this.#words;
    const base = words[EXCL_BASE];
    if ((base & EXCL_ENABLE) === 0 || ((base & EXCL_ALLOW_ALL) === 0 && !factsMayExclude(facts))) return false;
    const page = (hi >>> 0) * TWO_32 + ((lo & -4096) >>> 0);
    const first = (words[EXCL_BASE + 1] & ADDR_MASK_HI) * TWO_32 + ((base & -4096) >>> 0);
    const last = (words[EXCL_LIMIT + 1] & ADDR_MASK_HI) * TWO_32 + ((words[EXCL_LIMIT] & -4096) >>> 0);
    return page >= first && page <= last;
  }

  /** The IOTLB entry of a requester for an address, -1 when there is none. For units that ask it first. */
  #findBySid(sid: number, hi: number, lo: number): number {
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    const held = this.#tlb.find(pageLo, cacheKey(sid, 0, pageHi), this.#iotlb.saltOf(sid));
    if (held >= 0) return held;
    return (this.#words[LARGE] | this.#words[LARGE + 1]) === 0 ? -1 : this.#iotlb.findLarge(sid, pageHi, pageLo);
  }

  /** Makes a device table entry the one used last. */
  #remember(sid: number, facts: number): void {
    const words = this.#words;
    const slot = this.#devices.slot;
    const tag = this.#bySid ? sid : factsDomain(facts);
    const base = words[EXCL_BASE];
    const mayExclude = (base & EXCL_ENABLE) !== 0 && ((base & EXCL_ALLOW_ALL) !== 0 || factsMayExclude(facts));
    // The next request may come straight here only if steps 3 to 7 cannot stop it, and only while the entry is cached (one
    // whose top table is missing is not).
    const isPlain = slot >= 0 && factsRights(facts) === ALL_RIGHTS && !mayExclude && this.#holdsDevices;
    words[HOT_SID] = isPlain ? sid : -1;
    words[HOT_KEY] = cacheKey(tag, 0, 0);
    words[HOT_SALT] = this.#iotlb.saltOf(tag);
    words[HOT_FACTS] = facts;
    words[HOT_SLOT] = slot;
    const bits = 12 + factsLevels(facts) * 9;
    words[HOT_LIMIT_HI] = !this.#checks || bits >= 53 ? 1 << 21 : 1 << Math.max(0, bits - 32);
  }

  #hold(tag: number, domain: number, pageHi: number, pageLo: number): void {
    const walk = this.#tables;
    this.#iotlb.hold(tag, domain, pageHi, pageLo, walk.leafLg2, walk.leafLo, walk.leafHi, walk.leafRights);
  }

  /** Step 9 with an IOTLB entry, of the device table entry used last: the outcome that it gives. */
  answer(at: number, sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const facts = words[HOT_FACTS];
    const leafLo = words[at + LEAF_LO];
    // Mostly "not present", since drivers touch pages before they are mapped and after they are unmapped.
    if (leafLo === NOTHING_THERE) return this.deny(FAULT_NOT_PRESENT, sid, hi, lo, access, facts);
    const rights = access & ALL_RIGHTS;
    const wrong = entryFault(leafLo);
    if (wrong !== 0) return this.deny(wrong, sid, hi, lo, access, facts);
    if ((leafLo & rights) !== rights) return this.deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
    return output(leafLo & -4096, words[at + LEAF_HI], keyClass(words[at + KEY]) + 12, hi, lo);
  }

  /** Logs what is wrong, unless the device table entry says not to, and blocks the request. @returns minus the event code */
  deny(wrong: number, sid: number, hi: number, lo: number, access: number, facts: number): number {
    const code = fault.faultCode(wrong);
    if (this.#log.muted) return -code;
    let flags = fault.faultFlags(wrong);
    if ((access & ACCESS_WRITE) !== 0) flags |= EVENT_FLAG_RW;
    const isAnswer = (access & ACCESS_TRANSLATION_REQUEST) !== 0;
    if (isAnswer) flags |= EVENT_FLAG_TR;
    if (code === EVENT_IO_PAGE_FAULT) {
      // A translation request is answered "no rights" instead of being a fault (2.1.3.2).
      if (isAnswer || !factsLogsFaults(facts)) return -code;
      this.#devices.faultLogged(sid);
    }
    const domain = factsDomain(facts);
    if (wrong === FAULT_TABLE_UNREADABLE) {
      this.#log.record(code, flags, sid, domain, this.#tables.failLo, this.#tables.failHi);
    } else if (wrong === FAULT_DTE_UNREADABLE) {
      const address = this.#devices.addressOf(sid);
      this.#log.record(code, flags, sid, 0, address | 0, Math.floor(address / TWO_32));
    } else {
      // Only a page fault tells the domain; where other events have it stands a PASID. The lowest two address bits of an
      // illegal entry's event are reserved.
      const isIllegal = code === EVENT_ILLEGAL_DEV_TABLE_ENTRY;
      this.#log.record(code, flags, sid, code === EVENT_IO_PAGE_FAULT ? domain : 0, isIllegal ? lo & -4 : lo, hi);
    }
    return -code;
  }
}

/** The page's address with the IOVA's bits below its size. */
function output(leafLo: number, leafHi: number, sizeLg2: number, hi: number, lo: number): number {
  if (sizeLg2 < 32) {
    const mask = (1 << sizeLg2) - 1;
    return leafHi * TWO_32 + (((leafLo & ~mask) | (lo & mask)) >>> 0);
  }
  const mask = sizeLg2 === 32 ? 0 : (1 << (sizeLg2 - 32)) - 1;
  return ((leafHi & ~mask) | (hi & mask & ADDR_MASK_HI)) * TWO_32 + (lo >>> 0);
}
