/**
 * One AMD-Vi unit: the register window and the translation of requests through version 1 host tables. AMD-Vi 48882 rev. 3.x
 * sections 2.1 (behaviour, 2.1.3 errors), 2.2 (tables), 2.4 (commands), 2.5 (events), 3.2 (capability), 3.4 (registers). No
 * guest tables (PASID), no interrupt remapping, no page requests, no device TLBs, no device table segments, no host access
 * and dirty bits, none of the HyperTransport address ranges but that of interrupts.
 *
 * All mutable state is one Int32Array (layout.ts); the parts see it through views. What the parts keep in fields besides
 * are results of the call under way.
 *
 * Limits of the model: an address of a device has 53 bits, all that a number holds, so level 6 has one entry and level 5
 * thirty-two; DMA is atomic, so there is nothing to drain; setting control bits takes no time.
 */
import type { Clock } from '../../base/index.ts';
import type { MmioDevice, PhysMem } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';
import { armDeadline, disarmDeadline, takeDeadline } from '../queue/deadline.ts';
import { cacheKey, ENTRY_KEY, HASH_MULTIPLIER, keyClass, SetCache, tagSalt } from '../tlb/set-cache.ts';
import { CommandBuffer } from './command-buffer.ts';
import { capabilityWord, efrLo, fullAmdviConfig, type AmdviConfig, type FullAmdviConfig } from './config.ts';
import { DeviceTable, factsDomain, factsFault, factsIsValid, factsLevels, factsLogsFaults } from './device-table.ts';
import { factsMayExclude, factsMayUseAts, factsRights, type DeviceEntry } from './device-table.ts';
import { EventLog, ringLength, type AmdviFaultRecord } from './event-log.ts';
import * as fault from './fault.ts';
import { HostWalk } from './host-walk.ts';
import { AmdviInvalidator } from './invalidate.ts';
import { AmdviIotlb, DATA_DOMAIN, DATA_HI, DATA_LO, entryFault, type AmdviIotlbEntry } from './iotlb.ts';
import * as layout from './layout.ts';
import { LEAF_TABLE_KEY, PDE_SLOT, PDE_STATE, PdeCache, type PdeEntry } from './pde-cache.ts';
import { Status, type AmdviListener } from './status.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  CMD_BASE_REG,
  CMD_HEAD_REG,
  CMD_TAIL_REG,
  CONTROL_CMD_BUF_EN,
  CONTROL_EVENT_LOG_EN,
  CONTROL_IOMMU_EN,
  CONTROL_REG,
  DEV_TABLE_REG,
  DEV_TABLE_SIZE_MASK_LO,
  EFR_REG,
  EVENT_FLAG_RW,
  EVENT_FLAG_TR,
  EVENT_ILLEGAL_DEV_TABLE_ENTRY,
  EVENT_IO_PAGE_FAULT,
  EVT_BASE_REG,
  EVT_HEAD_REG,
  EVT_TAIL_REG,
  EXCL_ALLOW_ALL,
  EXCL_BASE_REG,
  EXCL_ENABLE,
  EXCL_LIMIT_REG,
  PPR_BASE_REG,
  PPR_HEAD_REG,
  PPR_TAIL_REG,
  PTE_IR_HI,
  PTE_NEXT_LEVEL_MASK,
  PTE_NEXT_LEVEL_SHIFT_LO,
  PTE_PR_LO,
  PTE_RESERVED_HI,
  RING_ENTRY_BYTES,
  RING_LEN_MASK,
  RING_LEN_SHIFT_HI,
  RING_POINTER_MASK,
  STATUS_CMD_BUF_RUN,
  STATUS_COM_WAIT_INT,
  STATUS_EVENT_LOG_INT,
  STATUS_EVENT_LOG_RUN,
  STATUS_EVENT_OVERFLOW,
  STATUS_REG,
} = amdvi;

// Local constants for speed, see set-cache.ts: translate() with imported ones takes three times as long.
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
const DEADLINES: number = layout.DEADLINES;
const DEADLINE_COMMANDS: number = layout.DEADLINE_COMMANDS;
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const HOT_FACTS: number = layout.HOT_FACTS;
const HOT_SLOT: number = layout.HOT_SLOT;
const HOT_LIMIT_HI: number = layout.HOT_LIMIT_HI;
const LARGE: number = layout.LARGE;
const { FAULT_LEVEL, FAULT_NOT_PRESENT, FAULT_PERMISSION, FAULT_TABLE_UNREADABLE, FAULT_DTE_UNREADABLE } = fault;
const CONTROL = CONTROL_REG >> 2;
const CMD_BASE_HI = (CMD_BASE_REG >> 2) + 1;
const CMD_TAIL = layout.UPPER + ((CMD_TAIL_REG - layout.UPPER_OFFSET) >> 2);
const EXCL_BASE = EXCL_BASE_REG >> 2;
const EXCL_LIMIT = EXCL_LIMIT_REG >> 2;
const DOORBELL: number = CMD_TAIL_REG;
const CLEARED_BY_ONES = STATUS_EVENT_OVERFLOW | STATUS_EVENT_LOG_INT | STATUS_COM_WAIT_INT;
const ALL_RIGHTS = 3;
/** The first data word of an IOTLB entry that says "not present". */
const NOTHING_THERE: number = FAULT_NOT_PRESENT << 4;
/** No outcome yet: neither an address nor minus an event code. */
const GO_ON = -4096;
/** Request attributes in `access`: the PCIe AT field above the two rights. */
const ACCESS_WRITE = 2;
const ACCESS_TRANSLATION_REQUEST: number = 1 << 2;
const ACCESS_TRANSLATED: number = 2 << 2;

export class AmdviUnit implements MmioDevice {
  listener: AmdviListener | null = null;
  readonly config: FullAmdviConfig;

  readonly #mem: PhysMem;
  readonly #clock: Clock;
  readonly #bySid: boolean;
  readonly #holdsNotPresent: boolean;
  readonly #holdsDenied: boolean;
  readonly #checks: boolean;
  readonly #words: Int32Array;
  readonly #tlb: SetCache;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  readonly #iotlb: AmdviIotlb;
  readonly #pdeCache: PdeCache;
  readonly #pdes: SetCache;
  readonly #devices: DeviceTable;
  readonly #tables: HostWalk;
  readonly #status: Status;
  readonly #log: EventLog;
  readonly #commands: CommandBuffer;

  /** @throws RangeError for a configuration that no hardware could have */
  constructor(mem: PhysMem, clock: Clock, config: AmdviConfig = {}) {
    const full = fullAmdviConfig(config);
    const place = layout.stateLayout(full);
    const words = new Int32Array(place.nrWords);
    this.config = full;
    this.#mem = mem;
    this.#clock = clock;
    this.#bySid = full.tagBySid;
    this.#holdsNotPresent = full.holdsNotPresent;
    this.#holdsDenied = full.holdsDenied;
    this.#checks = full.checksWalk;
    this.#words = words;
    const devices = new SetCache(words, full.deviceCache, 2, 1, place.devices);
    const nrIotlbData = layout.nrIotlbData(full);
    this.#tlb = new SetCache(words, full.iotlb, nrIotlbData, layout.NR_PAGE_CLASSES, place.iotlb);
    this.#tlbEntries = this.#tlb.entries;
    this.#tlbHashShift = this.#tlb.hashShift;
    this.#tlbSetMask = this.#tlb.setMask;
    const pdes = new SetCache(words, full.pdeCache, 2, layout.NR_LEVEL_CLASSES, place.pdeCache);
    this.#devices = new DeviceTable(words, devices, mem, full);
    this.#iotlb = new AmdviIotlb(words, this.#tlb, full);
    this.#pdeCache = new PdeCache(pdes, mem);
    this.#pdes = pdes;
    this.#tables = new HostWalk(mem, this.#pdeCache, full);
    this.#status = new Status(words, this);
    this.#log = new EventLog(words, mem, this.#status, full.logsEvents);
    const invalidator = new AmdviInvalidator(this.#devices, this.#iotlb, this.#pdeCache, full);
    this.#commands = new CommandBuffer(words, mem, invalidator, this.#log, this.#status, this, full);
    words[EFR_REG >> 2] = efrLo(full);
    words[HOT_SID] = -1;
  }

  /**
   * Translates one request.
   * @param sid device id: bus << 8 | device << 3 | function
   * @param iova byte address, an integer in [0, 2^53)
   * @param access bit 0 read, bit 1 write, at least one of them; bits 3:2 the AT field (0 untranslated, 1 translation request, 2 translated)
   * @returns the physical byte address, or minus the event code (logged, unless suppressed)
   */
  translate(sid: number, iova: number, access: number): number {
    const words = this.#words;
    const hi = (iova / TWO_32) | 0;
    const lo = iova | 0;
    // The device table entry used last serves the next request of the same requester without a look into its cache; then one
    // probe of the first way. Written out here, with this unit's own array: a call into SetCache costs as much again.
    if (words[HOT_SID] === sid) {
      const page = (hi << 20) | (lo >>> 12);
      const hash = Math.imul(page + words[HOT_SALT], MULTIPLIER);
      const at = this.#tlbEntries + ((hash >>> this.#tlbHashShift) & this.#tlbSetMask);
      if (words[at] === page && words[at + KEY] === (words[HOT_KEY] | ((hi >>> 12) << 1))) {
        const leaf = words[at + LEAF_LO];
        if ((leaf & access) === access) return words[at + LEAF_HI] * TWO_32 + (((leaf & -4096) | (lo & 4095)) >>> 0);
      }
    }
    // Anything but a plain hit is worked out there. The plus tells V8 that both results are numbers: without it the two join
    // as a tagged value, and a hit allocates.
    // oxlint-disable-next-line typescript/no-unnecessary-type-conversion
    return +this.#resolve(sid, hi, lo, access);
  }

  /**
   * Translates a DMA of `nr` pages: one request for each, in order.
   * @param iova of the first request; those that follow have the same offset in their pages
   * @param into gets what `translate` would return
   */
  translateRun(sid: number, iova: number, nr: number, access: number, into: Float64Array): void {
    for (let index = 0; index < nr; index++) into[index] = this.translate(sid, iova + index * 4096, access);
  }

  /**
   * What is not a plain hit, in the specification's order, one exit per outcome. One long function on purpose also for
   * speed: V8 would inline a shorter one into translate(), whose hit path then spills its registers. For the same reason steps
   * that hardly any request needs stand apart.
   */
  #resolve(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    // Steps 1 to 7, unless the entry used last is wanted, which passed all of them but the fifth.
    if (words[HOT_SID] !== sid || access > ALL_RIGHTS || (hi === 0 && lo >>> 20 === 0xfee)) {
      const early = this.#enter(sid, hi, lo, access);
      if (early !== GO_ON) return early;
    }
    const facts = words[HOT_FACTS];
    // 8. The address must lie within the levels. (A limit of 1 stands for fewer than 32 bits, levels 1 and 2.)
    if (hi >= words[HOT_LIMIT_HI] || (words[HOT_LIMIT_HI] === 1 && lo >>> (12 + (facts & 7) * 9) !== 0)) {
      return this.#deny(FAULT_LEVEL, sid, hi, lo, access, facts);
    }
    // 9. A cached answer. Mostly "not present", where a page is tried before it is mapped.
    const rights = access & ALL_RIGHTS;
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    const key = words[HOT_KEY] | (pageHi << 1);
    const tlb = this.#tlb;
    const set = tlb.setOf(pageLo, words[HOT_SALT]);
    const held = tlb.findIn(set, pageLo, key);
    if (held >= 0) {
      if (words[held + LEAF_LO] !== NOTHING_THERE) return this.#answer(held, sid, hi, lo, access, facts);
      return this.#deny(FAULT_NOT_PRESENT, sid, hi, lo, access, facts);
    }
    if ((words[LARGE] | words[LARGE + 1]) !== 0) {
      const large = this.#iotlb.findLarge(words[HOT_KEY] >>> 16, pageHi, pageLo);
      if (large >= 0) return this.#answer(large, sid, hi, lo, access, facts);
    }
    // 10a. The walk that most misses need: the level 1 table is cached and its entry plain, or not present. One compare for each
    // thing that it must not be; whatever fails one is walked again exactly. Written out here: through calls it took twice as long.
    const domain = facts >>> 16;
    const near = this.#pdes.find(
      (pageLo >>> 9) | (pageHi << 23),
      (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1),
      Math.imul(domain | LEVEL_2_TAG, SALT),
    );
    if (near >= 0 && words[near + NEAR_STATE] <= ALL_RIGHTS) {
      const tables = this.#mem.words;
      const index = (words[near + NEAR_SLOT] << 10) + ((pageLo & 0x1ff) << 1);
      const leafLo = tables[index];
      const leafHi = tables[index + 1];
      const plain = (leafHi >>> RIGHTS_SHIFT) & words[near + NEAR_STATE];
      if ((leafLo & PLAIN_MASK) === PLAIN && (plain & rights) === rights && (leafHi & PTE_RESERVED_HI) === 0) {
        const entry = tlb.insertIn(set, pageLo, key);
        words[entry + LEAF_LO] = (leafLo & -4096) | plain;
        words[entry + LEAF_HI] = leafHi & ADDR_MASK_HI;
        if (this.#bySid) words[entry + LEAF_DOMAIN] = domain;
        return (leafHi & ADDR_MASK_HI) * TWO_32 + (((leafLo & -4096) | (lo & 4095)) >>> 0);
      }
      if ((leafLo & PTE_PR_LO) === 0 && this.#checks) {
        if (this.#holdsNotPresent) {
          const entry = tlb.insertIn(set, pageLo, key);
          words[entry + LEAF_LO] = NOTHING_THERE;
          words[entry + LEAF_HI] = 0;
          if (this.#bySid) words[entry + LEAF_DOMAIN] = domain;
        }
        return this.#deny(FAULT_NOT_PRESENT, sid, hi, lo, access, facts);
      }
    }
    return this.#walk(sid, hi, lo, access);
  }

  /** Steps 1 to 7: whether translation is wanted, and the device table entry. @returns an outcome, or GO_ON with it in HOT_* */
  #enter(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    const isInterruptRange = hi === 0 && lo >>> 20 === 0xfee;
    // 1. The unit is off: every address is physical.
    if ((words[CONTROL] & CONTROL_IOMMU_EN) === 0) return hi * TWO_32 + (lo >>> 0);
    // 2. The device table entry. V = 0 lets every address pass that is not ATS.
    const facts = this.#devices.find(sid);
    const wrong = factsFault(facts);
    // 3. ATS: only devices with V = I = 1 ask for translations and send translated requests, which pass.
    if (access > ALL_RIGHTS) {
      if (!factsMayUseAts(facts)) return this.#deny(fault.FAULT_ATS, sid, hi, lo, access, facts);
      if (access >= ACCESS_TRANSLATED) return hi * TWO_32 + (lo >>> 0);
    }
    if (!factsIsValid(facts)) return hi * TWO_32 + (lo >>> 0);
    if (wrong !== 0 && wrong !== fault.FAULT_NO_TRANSLATION) return this.#deny(wrong, sid, hi, lo, access, facts);
    // 4. The exclusion range passes for whoever may use it, whatever the rest of the entry says.
    if (this.#isExcluded(facts, hi, lo)) return hi * TWO_32 + (lo >>> 0);
    // 5. Interrupt range: a write is a message to an APIC, a read is nothing that exists (2.1.2, 2.5.9).
    if (isInterruptRange) {
      if ((access & ACCESS_WRITE) !== 0) return lo >>> 0;
      return this.#deny(fault.FAULT_INTERRUPT_READ, sid, hi, lo, access, facts);
    }
    // 6. TV, and the rights of the entry itself.
    if (wrong !== 0) return this.#deny(wrong, sid, hi, lo, access, facts);
    if ((factsRights(facts) & access & ALL_RIGHTS) !== (access & ALL_RIGHTS)) {
      return this.#deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
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
      const holds = wrong === FAULT_NOT_PRESENT ? this.#holdsNotPresent : this.#holdsDenied;
      if (holds && wrong < FAULT_PERMISSION) this.#iotlb.holdFault(tag, domain, pageHi, pageLo, wrong);
      return this.#deny(wrong, sid, hi, lo, access, facts);
    }
    // 11. Rights. The translation exists and may be kept although this request may not use it.
    const isGranted = (walk.leafRights & rights) === rights;
    if (isGranted || this.#holdsDenied) this.#hold(tag, domain, pageHi, pageLo);
    if (!isGranted) return this.#deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
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

  /** Makes a device table entry the one used last. */
  #remember(sid: number, facts: number): void {
    const words = this.#words;
    const slot = this.#devices.slot;
    const tag = this.#bySid ? sid : factsDomain(facts);
    const base = words[EXCL_BASE];
    const mayExclude = (base & EXCL_ENABLE) !== 0 && ((base & EXCL_ALLOW_ALL) !== 0 || factsMayExclude(facts));
    // The next request may come straight here only if steps 3 to 7 cannot stop it, and only while the entry is cached (one
    // whose top table is missing is not).
    const isPlain = slot >= 0 && factsRights(facts) === ALL_RIGHTS && !mayExclude && this.config.holdsDevices;
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

  /** The outcome that an IOTLB entry gives. */
  #answer(at: number, sid: number, hi: number, lo: number, access: number, facts: number): number {
    const words = this.#words;
    const leafLo = words[at + LEAF_LO];
    const rights = access & ALL_RIGHTS;
    const wrong = entryFault(leafLo);
    if (wrong !== 0) return this.#deny(wrong, sid, hi, lo, access, facts);
    if ((leafLo & rights) !== rights) return this.#deny(FAULT_PERMISSION, sid, hi, lo, access, facts);
    return output(leafLo & -4096, words[at + LEAF_HI], keyClass(words[at + KEY]) + 12, hi, lo);
  }

  /** Logs what is wrong, unless the device table entry says not to, and blocks the request. @returns minus the event code */
  #deny(wrong: number, sid: number, hi: number, lo: number, access: number, facts: number): number {
    const code = fault.faultCode(wrong);
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

  /** A page request (PRI) of a device: this unit takes none, so it is refused and logged. @returns minus the event code */
  requestPage(sid: number, iova: number): number {
    return this.#deny(fault.FAULT_PAGE_REQUEST, sid, (iova / TWO_32) | 0, iova | 0, 0, 0);
  }

  /** Lets delayed commands complete whose time has come. */
  step(): void {
    if (this.#words[DEADLINES] === 0) return;
    if (takeDeadline(this.#words, DEADLINES, DEADLINE_COMMANDS, this.#clock.nowNs())) this.#commands.run();
  }

  /** A dword of the capability block in PCI configuration space. @param offset from the capability pointer */
  readCapability(offset: number = 0): number {
    return capabilityWord(this.config, offset) >>> 0;
  }

  read32(offset: number): number {
    this.step();
    const word = wordOf(offset);
    return word < 0 ? 0 : this.#words[word] >>> 0;
  }

  write64(offset: number, lo: number, hi: number): void {
    // What acts on a write acts on the low half: run and enable bits, tails.
    this.write32(offset + 4, hi);
    this.write32(offset, lo);
  }

  write32(offset: number, value: number): void {
    this.step();
    const words = this.#words;
    const written = value | 0;
    // The doorbell, which is nearly all writes there are, before the switch goes through the rest.
    if (offset === DOORBELL) return this.#doorbell(written);
    const word = wordOf(offset);
    switch (offset) {
      case CONTROL_REG:
        return this.#control(written);
      case STATUS_REG: {
        const sticky = this.config.comWaitIntClears ? 0 : STATUS_COM_WAIT_INT;
        return this.#status.change(0, written & CLEARED_BY_ONES & ~sticky);
      }
      case DEV_TABLE_REG:
        words[word] = written & (-4096 | DEV_TABLE_SIZE_MASK_LO);
        return;
      case DEV_TABLE_REG + 4:
        words[word] = written & ADDR_MASK_HI;
        return;
      case CMD_BASE_REG:
        return this.#ringBase(word, written & -4096, CMD_HEAD_REG, STATUS_CMD_BUF_RUN);
      case CMD_BASE_REG + 4:
        return this.#ringBase(word, written & RING_BASE_HI, CMD_HEAD_REG, STATUS_CMD_BUF_RUN);
      case EVT_BASE_REG:
        return this.#ringBase(word, written & -4096, EVT_HEAD_REG, STATUS_EVENT_LOG_RUN);
      case EVT_BASE_REG + 4:
        return this.#ringBase(word, written & RING_BASE_HI, EVT_HEAD_REG, STATUS_EVENT_LOG_RUN);
      case EXCL_BASE_REG:
        words[word] = written & (-4096 | EXCL_ENABLE | EXCL_ALLOW_ALL);
        words[HOT_SID] = -1;
        return;
      case EXCL_LIMIT_REG:
        words[word] = written & -4096;
        words[HOT_SID] = -1;
        return;
      case EXCL_BASE_REG + 4:
      case EXCL_LIMIT_REG + 4:
        words[word] = written & ADDR_MASK_HI;
        words[HOT_SID] = -1;
        return;
      case CONTROL_REG + 4:
        words[word] = written;
        return;
      case CMD_HEAD_REG:
        // Undefined while commands run (3.4): hardware that ignores it makes the mistake visible.
        if (!this.#status.has(STATUS_CMD_BUF_RUN)) this.#pointer(offset, written, CMD_BASE_REG);
        return;
      case EVT_HEAD_REG:
        return this.#pointer(offset, written, EVT_BASE_REG);
      case EVT_TAIL_REG:
        if (!this.#status.has(STATUS_EVENT_LOG_RUN)) this.#pointer(offset, written, EVT_BASE_REG);
        return;
      case PPR_BASE_REG:
      case PPR_BASE_REG + 4:
      case PPR_HEAD_REG:
      case PPR_TAIL_REG:
        if (this.config.ppr) words[word] = written;
    }
  }

  /** A word of a ring's base register. It also puts head and tail to 0 (2.4, 2.5); while the ring runs it is undefined, here ignored. */
  #ringBase(word: number, value: number, headOffset: number, runs: number): void {
    if (this.#status.has(runs)) return;
    this.#words[word] = value;
    this.#words[wordOf(headOffset)] = 0;
    // The tail follows its head in both rings.
    this.#words[wordOf(headOffset + 8)] = 0;
  }

  /** A head or tail. Beyond the ring it is undefined (3.4), here ignored: the driver then waits in vain. */
  #pointer(offset: number, value: number, base: number): void {
    const pointer = value & RING_POINTER_MASK;
    if (pointer < ringLength(this.#words[wordOf(base + 4)]) * RING_ENTRY_BYTES) this.#words[wordOf(offset)] = pointer;
  }

  /** Control register, low word: rings start and stop when their enable bit together with IommuEn changes. */
  #control(value: number): void {
    const words = this.#words;
    const before = words[CONTROL];
    const enabled = (control: number, bit: number): boolean =>
      (control & (CONTROL_IOMMU_EN | bit)) === (CONTROL_IOMMU_EN | bit);
    this.#status.controlWritten(value);
    words[HOT_SID] = -1;
    if (enabled(value, CONTROL_EVENT_LOG_EN) !== enabled(before, CONTROL_EVENT_LOG_EN)) {
      if (enabled(value, CONTROL_EVENT_LOG_EN)) this.#log.start();
      else this.#log.stop();
    }
    if (enabled(value, CONTROL_CMD_BUF_EN) === enabled(before, CONTROL_CMD_BUF_EN)) return;
    disarmDeadline(words, DEADLINES, DEADLINE_COMMANDS);
    if (enabled(value, CONTROL_CMD_BUF_EN)) {
      this.#commands.start();
      // Software may have moved the tail before it turned the buffer on.
      this.#startCommands();
    } else this.#commands.stop();
  }

  #doorbell(value: number): void {
    const tail = value & RING_POINTER_MASK;
    const words = this.#words;
    if (tail >= ringLength(words[CMD_BASE_HI]) * RING_ENTRY_BYTES) return;
    words[CMD_TAIL] = tail;
    this.listener?.doorbell(tail / RING_ENTRY_BYTES);
    this.#startCommands();
  }

  #startCommands(): void {
    if (!this.#commands.hasWork()) return;
    if (this.config.completionDelayNs === 0) this.#commands.run();
    else {
      const due = this.#clock.nowNs() + this.config.completionDelayNs;
      armDeadline(this.#words, DEADLINES, DEADLINE_COMMANDS, due);
    }
  }

  /** Test hook: the device's TLB does not answer the next INVALIDATE_IOTLB_PAGES that it gets (IOTLB_INV_TIMEOUT). */
  injectTimeout(sid: number = 0): void {
    this.#words[layout.INJECTED_SID] = sid + 1;
  }

  /** The whole mutable state. Memory is not part of it. @param into an array of an earlier snapshot, to fill instead */
  snapshot(into?: Int32Array): Int32Array {
    if (into === undefined) return this.#words.slice();
    into.set(this.#words);
    return into;
  }

  /** Goes back to a snapshot of a unit with the same configuration. @throws RangeError for one of another size */
  restore(from: Int32Array): void {
    if (from.length !== this.#words.length) {
      throw new RangeError(`snapshot has ${from.length} words, this unit ${this.#words.length}`);
    }
    this.#words.set(from);
  }

  /** What the device table cache holds. */
  contextEntries(): DeviceEntry[] {
    return this.#devices.entries();
  }

  /** What the IOTLB holds. */
  iotlbEntries(): AmdviIotlbEntry[] {
    return this.#iotlb.entries();
  }

  /** What the PDE cache holds. */
  structureEntries(): PdeEntry[] {
    return this.#pdeCache.entries();
  }

  /** Events that software has not taken out of the log, oldest first. */
  pendingFaults(): AmdviFaultRecord[] {
    return this.#log.pending();
  }
}

/** Bits of a ring's base register in its high word: address and length. */
const RING_BASE_HI = ADDR_MASK_HI | (RING_LEN_MASK << RING_LEN_SHIFT_HI);

/** The state word of a register, -1 where there is none. */
function wordOf(offset: number): number {
  if (offset < layout.BLOCK_BYTES) return offset >> 2;
  const upper = offset - layout.UPPER_OFFSET;
  return upper >= 0 && upper < layout.BLOCK_BYTES ? layout.UPPER + (upper >> 2) : -1;
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
