/**
 * One VT-d remapping unit in legacy mode: the register window and the translation of requests. VT-d rev. 4.1 sections 3.4
 * and 3.7 (translation), 3.14 (interrupt address range), 7.1.3 (fault conditions), 11.4 (registers). Version 1.0, no
 * scalable mode, no interrupt remapping, no device TLBs, no protected memory regions, no advanced fault log.
 *
 * All mutable state is one Int32Array (layout.ts); the parts see it through views. What the parts keep in fields besides
 * are results of the call under way.
 *
 * Two limits of the model: DMA is atomic, so draining (DR, DW) has nothing to wait for; and setting GCMD bits takes no
 * time, since nothing a driver does can depend on it.
 */
import type { Clock } from '../../base/index.ts';
import type { MmioDevice, PhysMem } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import { cacheKey, ENTRY_KEY, HASH_MULTIPLIER, keyClass, SetCache, tagSalt } from '../tlb/set-cache.ts';
import { capHi, capLo, ecapLo, FRCD_OFFSET, fullConfig, IOTLB_OFFSET, IVA_OFFSET } from './config.ts';
import type { FullVtdConfig, VtdConfig } from './config.ts';
import { ContextCache, factsDomain, factsLevels, factsReason, factsSuppressesFaults } from './context.ts';
import { factsTranslationType, type ContextEntry } from './context.ts';
import { armDeadline, disarmDeadline, takeDeadline } from './deadline.ts';
import { EventMessages, type VtdListener } from './events.ts';
import { FaultLog, type FaultRecord } from './fault.ts';
import { Invalidator } from './invalidate.ts';
import { DATA_DOMAIN, DATA_HI, DATA_LO, entryFaultRights, entryReason, Iotlb, type IotlbEntry } from './iotlb.ts';
import * as layout from './layout.ts';
import { LEAF_TABLE_KEY, PageCache, STRUCTURE_RIGHTS, STRUCTURE_SLOT, type StructureEntry } from './page-cache.ts';
import { InvalidationQueue } from './queue.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { NOT_PRESENT, SecondStage } from './second-stage.ts';
import { drainWriteBuffer } from './write-buffer.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  CAP_REG,
  CCMD_CAIG_SHIFT_HI,
  CCMD_REG,
  ECAP_REG,
  FEADDR_REG,
  FECTL_REG,
  FEDATA_REG,
  FEUADDR_REG,
  FR_BEYOND_ADDRESS_WIDTH,
  FR_INTERRUPT_RANGE_OUTPUT,
  FR_NEXT_TABLE_UNREACHABLE,
  FR_READ_DENIED,
  FR_REQUEST_BLOCKED,
  FR_WRITE_DENIED,
  FSTS_ICE,
  FSTS_ITE,
  FSTS_REG,
  GCMD_CFI,
  GCMD_EAFL,
  GCMD_IRE,
  GCMD_QIE,
  GCMD_REG,
  GCMD_SIRTP,
  GCMD_SRTP,
  GCMD_TE,
  GCMD_WBF,
  GSTS_REG,
  ICS_IWC,
  ICS_REG,
  IEADDR_REG,
  IECTL_REG,
  IEDATA_REG,
  IEUADDR_REG,
  IOTLB_IAIG_SHIFT_HI,
  IQA_QS_MASK,
  IQA_REG,
  IQT_REG,
  IQ_INDEX_SHIFT,
  RTADDR_REG,
  TT_DEVICE_TLB,
  TT_PASS_THROUGH,
  VER_REG,
} = vtd;

// Local constants for speed, see set-cache.ts: translate() with imported ones takes three times as long.
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
const ARMED: number = layout.ARMED;
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const HOT_FACTS: number = layout.HOT_FACTS;
const HOT_SLOT: number = layout.HOT_SLOT;
const HOT_LIMIT_HI: number = layout.HOT_LIMIT_HI;
const REGISTERS_END = 0x100;
const DOORBELL: number = IQT_REG;
const GSTS = GSTS_REG >> 2;
/** Bits of GCMD that stay as written, and those that ask for one action. */
const STICKY = GCMD_TE | GCMD_EAFL | GCMD_QIE | GCMD_IRE | GCMD_CFI;
/** Request attributes in `access`: the PCIe AT field above the two rights. */
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
export const ACCESS_TRANSLATION_REQUEST: number = 1 << 2;
export const ACCESS_TRANSLATED: number = 2 << 2;

export class VtdUnit implements MmioDevice {
  listener: VtdListener | null = null;
  readonly config: FullVtdConfig;

  readonly #mem: PhysMem;
  readonly #clock: Clock;
  readonly #bySid: boolean;
  readonly #holdsFaults: boolean;
  readonly #holdsDenied: boolean;
  readonly #words: Int32Array;
  readonly #tlb: SetCache;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  readonly #iotlb: Iotlb;
  readonly #pageCache: PageCache;
  readonly #structure: SetCache;
  readonly #reservedLo: number;
  readonly #reservedHi: number;
  readonly #contexts: ContextCache;
  readonly #secondStage: SecondStage;
  readonly #events: EventMessages;
  readonly #faults: FaultLog;
  readonly #invalidator: Invalidator;
  readonly #queue: InvalidationQueue;
  readonly #registers: RegisterInvalidation;

  /** @throws RangeError for a configuration that no hardware could have */
  constructor(mem: PhysMem, clock: Clock, config: VtdConfig = {}) {
    const full = fullConfig(config, mem.coherent);
    const place = layout.stateLayout(full);
    const words = new Int32Array(place.nrWords);
    this.config = full;
    this.#mem = mem;
    this.#clock = clock;
    this.#bySid = full.tagBySid;
    this.#holdsFaults = full.holdsNotPresent;
    this.#holdsDenied = full.holdsDenied;
    this.#words = words;
    const contexts = new SetCache(words.subarray(place.contexts, place.iotlb), full.contextCache, 2, 1);
    const tlbWords = words.subarray(place.iotlb, place.pageCache);
    this.#tlb = new SetCache(tlbWords, full.iotlb, layout.nrIotlbData(full), layout.NR_PAGE_CLASSES);
    this.#tlbEntries = place.iotlb + this.#tlb.entries;
    this.#tlbHashShift = this.#tlb.hashShift;
    this.#tlbSetMask = this.#tlb.setMask;
    const levels = new SetCache(words.subarray(place.pageCache), full.pageCache, 2, layout.NR_LEVEL_CLASSES);
    this.#contexts = new ContextCache(words, contexts, mem, full);
    this.#iotlb = new Iotlb(this.#tlb, full);
    this.#pageCache = new PageCache(levels, mem);
    this.#structure = levels;
    this.#secondStage = new SecondStage(mem, this.#pageCache, full);
    this.#reservedLo = this.#secondStage.reservedLo;
    this.#reservedHi = this.#secondStage.reservedHi;
    this.#events = new EventMessages(words, this);
    this.#faults = new FaultLog(words, full.nfr, this.#events);
    this.#invalidator = new Invalidator(this.#contexts, this.#iotlb, this.#pageCache, full);
    this.#queue = new InvalidationQueue(words, mem, this.#invalidator, this.#faults, this.#events, this, full);
    this.#registers = new RegisterInvalidation(words, mem, this.#invalidator, this, full);
    words[VER_REG >> 2] = 0x10;
    words[CAP_REG >> 2] = capLo(full);
    words[(CAP_REG >> 2) + 1] = capHi(full);
    words[ECAP_REG >> 2] = ecapLo(full);
    words[HOT_SID] = -1;
  }

  /**
   * Translates one request.
   * @param sid source id: bus << 8 | device << 3 | function
   * @param iova byte address, an integer in [0, 2^53)
   * @param access bit 0 read, bit 1 write, at least one of them; bits 3:2 the AT field (0 untranslated, 1 translation request, 2 translated)
   * @returns the physical byte address, or minus the fault reason (logged, unless suppressed)
   */
  translate(sid: number, iova: number, access: number): number {
    const words = this.#words;
    const hi = (iova / TWO_32) | 0;
    const lo = iova | 0;
    // The context used last serves the next request of the same requester without a look into the context cache; then one
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
   * The whole of translation, in the specification's order, one exit per outcome. One long function on purpose also for
   * speed: V8 would inline a shorter one into translate(), whose hit path then spills its registers (10 ns instead of 7.5).
   */
  #resolve(sid: number, hi: number, lo: number, access: number): number {
    const words = this.#words;
    // 1. Translation off: every address is physical.
    if (words[GSTS] >= 0) return hi * TWO_32 + (lo >>> 0);
    // 2. Interrupt range: a message to an APIC, not an address of memory; tables are not consulted (3.14).
    if (hi === 0 && lo >>> 20 === 0xfee) return hi * TWO_32 + (lo >>> 0);
    // 3. Root and context, unless the one used last is wanted, which passed steps 3 to 5.
    let facts = words[HOT_FACTS];
    if (words[HOT_SID] !== sid || access > 3) {
      facts = this.#contexts.find(sid);
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
    }
    // 6. The address must fit the context's width and the unit's.
    if (hi >= words[HOT_LIMIT_HI]) return this.#deny(sid, hi, lo, access, FR_BEYOND_ADDRESS_WIDTH, facts);
    // 7. A cached answer.
    const domain = facts >>> 16;
    const tag = this.#bySid ? sid : domain;
    const pageHi = hi >>> 12;
    const pageLo = (hi << 20) | (lo >>> 12);
    const found = this.#iotlb.find(tag, pageHi, pageLo, words[HOT_SALT]);
    if (found >= 0) return this.#answer(found, sid, hi, lo, access, facts);
    // 8a. The walk that most misses need: the level 1 table is cached and its entry plain. One compare for each thing that it
    // must not be; whatever fails one is walked again exactly. Written out here: through calls it took twice as long.
    const rights = access & 3;
    const structure = this.#structure;
    const near = structure.find(
      (pageLo >>> 9) | (pageHi << 23),
      (domain << 16) | LEVEL_2 | ((pageHi >>> 9) << 1),
      Math.imul(domain, SALT),
    );
    if (near >= 0 && structure.words[near + NEAR_RIGHTS] <= 3) {
      const tables = this.#mem.deviceWords;
      const index = (structure.words[near + NEAR_SLOT] << 10) + ((pageLo & 0x1ff) << 1);
      const leafLo = tables[index];
      const leafHi = tables[index + 1];
      const plain = leafLo & structure.words[near + NEAR_RIGHTS];
      if (
        plain !== 0 &&
        (plain & rights) === rights &&
        ((leafLo & this.#reservedLo) | (leafHi & this.#reservedHi)) === 0
      ) {
        if (leafLo >>> 20 !== 0xfee) {
          const tlb = this.#tlb;
          const entry = tlb.insert(pageLo, (tag << 16) | (pageHi << 1) | 1, words[HOT_SALT]);
          tlb.words[entry + LEAF_LO] = (leafLo & -4096) | plain;
          tlb.words[entry + LEAF_HI] = leafHi & 0xfffff;
          if (this.#bySid) tlb.words[entry + LEAF_DOMAIN] = domain;
          return (leafHi & 0xfffff) * TWO_32 + (((leafLo & -4096) | (lo & 4095)) >>> 0);
        }
      }
    }
    // 8. The walk.
    const walk = this.#secondStage;
    const reason = walk.walk(domain, words[HOT_SLOT], facts & 7, pageHi, pageLo, rights);
    if (reason !== 0) {
      // Aborted reads are never held, see ContextCache.
      if (this.#holdsFaults && reason !== FR_NEXT_TABLE_UNREACHABLE) {
        this.#iotlb.holdFault(tag, domain, pageHi, pageLo, reason, 0);
      }
      return this.#deny(sid, hi, lo, access, reason === NOT_PRESENT ? lacking(0, rights) : reason, facts);
    }
    // 9. Rights. The translation exists and may be kept although this request may not use it.
    const paddrLo = outputLo(walk.leafLo, walk.leafLevel, lo);
    const isInterruptRange = walk.leafHi === 0 && paddrLo >>> 20 === 0xfee;
    if ((walk.leafRights & rights) !== rights) {
      // Not with an output that step 10 would refuse: the hit test of translate() relies on entries without such.
      if (this.#holdsDenied && !isInterruptRange) this.#hold(tag, domain, pageHi, pageLo);
      return this.#deny(sid, hi, lo, access, lacking(walk.leafRights, rights), facts);
    }
    // 10. The output must not be the interrupt range.
    if (isInterruptRange) {
      if (this.#holdsFaults)
        this.#iotlb.holdFault(tag, domain, pageHi, pageLo, FR_INTERRUPT_RANGE_OUTPUT, walk.leafRights);
      return this.#deny(sid, hi, lo, access, FR_INTERRUPT_RANGE_OUTPUT, facts);
    }
    this.#hold(tag, domain, pageHi, pageLo);
    return walk.leafHi * TWO_32 + (paddrLo >>> 0);
  }

  /** Makes a context the one used last. */
  #remember(sid: number, facts: number): void {
    const words = this.#words;
    const slot = this.#contexts.slot;
    const tag = this.#bySid ? sid : factsDomain(facts);
    // A context whose top table is missing is not cached (ContextCache), so it serves this request only.
    words[HOT_SID] = slot < 0 ? -1 : sid;
    words[HOT_KEY] = cacheKey(tag, 0, 0);
    words[HOT_SALT] = this.#iotlb.saltOf(tag);
    words[HOT_FACTS] = facts;
    words[HOT_SLOT] = slot;
    words[HOT_LIMIT_HI] = 1 << (Math.min(factsLevels(facts) * 9 + 12, this.config.mgaw) - 32);
  }

  #hold(tag: number, domain: number, pageHi: number, pageLo: number): void {
    const walk = this.#secondStage;
    this.#iotlb.hold(
      tag,
      domain,
      pageHi,
      pageLo,
      walk.leafLevel,
      walk.leafLo,
      walk.leafHi,
      walk.leafRights,
      this.#words[HOT_SALT],
    );
  }

  /** The outcome that an IOTLB entry gives. */
  #answer(at: number, sid: number, hi: number, lo: number, access: number, facts: number): number {
    const entry = this.#tlb.words;
    const leafLo = entry[at + LEAF_LO];
    const leafHi = entry[at + LEAF_HI];
    const rights = access & 3;
    const reason = entryReason(leafLo);
    if (reason !== 0) {
      const held = entryFaultRights(leafLo);
      const isRights = reason === NOT_PRESENT || (reason === FR_INTERRUPT_RANGE_OUTPUT && (held & rights) !== rights);
      return this.#deny(sid, hi, lo, access, isRights ? lacking(held, rights) : reason, facts);
    }
    if ((leafLo & rights) !== rights) {
      const missing = lacking(leafLo, rights);
      return this.config.faultOnCachedPermission ? this.#deny(sid, hi, lo, access, missing, facts) : -missing;
    }
    const paddrLo = outputLo(leafLo & -4096, keyClass(entry[at + KEY]) + 1, lo);
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
    if (!factsSuppressesFaults(facts) && !isAnswer) this.#faults.record(sid, lo, hi, access, reason);
    return -reason;
  }

  /** Lets delayed invalidations complete whose time has come. */
  step(): void {
    const words = this.#words;
    if (words[ARMED] === 0) return;
    const nowNs = this.#clock.nowNs();
    if (takeDeadline(words, layout.DEADLINE_CONTEXT, nowNs)) this.#registers.runContext();
    if (takeDeadline(words, layout.DEADLINE_IOTLB, nowNs)) this.#registers.runIotlb();
    if (takeDeadline(words, layout.DEADLINE_QUEUE, nowNs)) this.#queue.run();
  }

  read32(offset: number): number {
    this.step();
    const words = this.#words;
    if (offset === FSTS_REG) return this.#faults.readStatus();
    // GCMD and IVA are write-only.
    if (offset === GCMD_REG || offset === IVA_OFFSET || offset === IVA_OFFSET + 4) return 0;
    if (offset < REGISTERS_END) return words[offset >> 2] >>> 0;
    const record = (offset - FRCD_OFFSET) >> 2;
    if (record >= 0 && record < this.config.nfr * 4) return words[layout.RECORDS + record] >>> 0;
    return 0;
  }

  write64(offset: number, lo: number, hi: number): void {
    // Registers that act on a write act on the half that holds the busy bit, which is the high one (CCMD, IOTLB, FRCD), or
    // have nothing but reserved bits in the other (IQT). Low first is right for all of them.
    this.write32(offset, lo);
    this.write32(offset + 4, hi);
  }

  write32(offset: number, value: number): void {
    this.step();
    const words = this.#words;
    const word = value | 0;
    // The doorbell, which is nearly all writes there are, before the switch goes through the rest.
    if (offset === DOORBELL) {
      words[DOORBELL >> 2] = word & 0x7fff0;
      return this.#doorbell();
    }
    switch (offset) {
      case GCMD_REG:
        return this.#command(word);
      case FSTS_REG:
        return this.#status(word);
      case FECTL_REG:
        return this.#events.controlWritten('fault', word);
      case IECTL_REG:
        return this.#events.controlWritten('invalidation', word);
      case ICS_REG:
        words[offset >> 2] &= ~(word & ICS_IWC);
        if (words[offset >> 2] === 0) this.#events.withdraw('invalidation');
        return;
      case RTADDR_REG:
        words[offset >> 2] = word & -4096;
        return;
      case IQA_REG:
        words[offset >> 2] = word & (-4096 | IQA_QS_MASK);
        return;
      case CCMD_REG + 4:
        // CAIG is the unit's, and a request under way cannot be changed.
        if (words[offset >> 2] < 0 && (words[layout.ARMED] & (1 << layout.DEADLINE_CONTEXT)) !== 0) return;
        words[offset >> 2] = keep(words[offset >> 2], word, 3 << CCMD_CAIG_SHIFT_HI);
        if (word < 0) this.#request(layout.DEADLINE_CONTEXT);
        return;
      case IOTLB_OFFSET + 4:
        if (words[offset >> 2] < 0 && (words[layout.ARMED] & (1 << layout.DEADLINE_IOTLB)) !== 0) return;
        words[offset >> 2] = keep(words[offset >> 2], word, 3 << IOTLB_IAIG_SHIFT_HI);
        if (word < 0) this.#request(layout.DEADLINE_IOTLB);
        return;
      case RTADDR_REG + 4:
      case CCMD_REG:
      case FEDATA_REG:
      case FEADDR_REG:
      case FEUADDR_REG:
      case IQA_REG + 4:
      case IEDATA_REG:
      case IEADDR_REG:
      case IEUADDR_REG:
      case IVA_OFFSET:
      case IVA_OFFSET + 4:
        words[offset >> 2] = word;
        return;
      default: {
        const record = (offset - FRCD_OFFSET) >> 2;
        if (record >= 0 && record < this.config.nfr * 4) this.#faults.recordWritten(record, word);
      }
    }
  }

  /** GCMD (11.4.4): sticky bits follow what is written, the others ask for one action each. */
  #command(value: number): void {
    const words = this.#words;
    const before = words[GSTS];
    if ((value & GCMD_WBF) !== 0 && this.config.rwbf) drainWriteBuffer(this.#mem);
    if ((value & GCMD_SRTP) !== 0) {
      words[layout.ROOT_LO] = words[RTADDR_REG >> 2];
      words[layout.ROOT_HI] = words[(RTADDR_REG >> 2) + 1];
      words[GSTS] |= GCMD_SRTP;
      // With ESRTPS = 0 cached contexts and translations of the old root stay until software drops them (11.4.5).
      if (this.config.srtpFlushes) this.#invalidator.all();
    }
    if ((value & GCMD_SIRTP) !== 0) words[GSTS] |= GCMD_SIRTP;
    const sticky = this.config.qi ? STICKY : STICKY & ~GCMD_QIE;
    const changed = (before ^ value) & sticky;
    if ((changed & GCMD_QIE) !== 0) {
      if ((value & GCMD_QIE) !== 0) this.#queue.enable();
      else {
        disarmDeadline(words, layout.DEADLINE_QUEUE);
        this.#queue.disable();
      }
    }
    words[GSTS] = (words[GSTS] & ~sticky) | (value & sticky);
    if ((changed & GCMD_TE) !== 0) {
      words[HOT_SID] = -1;
      if (this.config.teFlushes) this.#invalidator.all();
    }
    // Software may have moved the tail before it turned the queue on.
    if ((changed & value & GCMD_QIE) !== 0) this.#startQueue();
  }

  #status(value: number): void {
    this.#faults.statusWritten(value);
    // A queue that stopped for ITE or ICE goes on; after IQE it waits for the next doorbell.
    if ((value & (FSTS_ITE | FSTS_ICE)) !== 0) this.#startQueue();
  }

  #doorbell(): void {
    this.listener?.doorbell(this.#words[IQT_REG >> 2] >>> IQ_INDEX_SHIFT);
    this.#startQueue();
  }

  #startQueue(): void {
    if (!this.#queue.hasWork()) return;
    if (this.config.completionDelayNs === 0) this.#queue.run();
    else armDeadline(this.#words, layout.DEADLINE_QUEUE, this.#clock.nowNs() + this.config.completionDelayNs);
  }

  /** A busy bit was set in CCMD or IOTLB. */
  #request(slot: number): void {
    if ((this.#words[GSTS] & GCMD_QIE) !== 0) return;
    if (this.config.completionDelayNs !== 0) {
      armDeadline(this.#words, slot, this.#clock.nowNs() + this.config.completionDelayNs);
    } else if (slot === layout.DEADLINE_CONTEXT) this.#registers.runContext();
    else this.#registers.runIotlb();
  }

  /** Test hook: the next wait descriptor finds that a device TLB did not answer (FSTS.ITE). */
  injectTimeout(sid: number = 0): void {
    this.#words[layout.INJECTED] = FSTS_ITE;
    this.#words[layout.INJECTED_SID] = sid;
  }

  /** Test hook: an unexpected completion stops the queue before its next descriptor (FSTS.ICE). */
  injectCompletionError(sid: number = 0): void {
    this.#words[layout.INJECTED] = FSTS_ICE;
    this.#words[layout.INJECTED_SID] = sid;
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

  /** What the context cache holds. */
  contextEntries(): ContextEntry[] {
    return this.#contexts.entries();
  }

  /** What the IOTLB holds. */
  iotlbEntries(): IotlbEntry[] {
    return this.#iotlb.entries();
  }

  /** What the paging-structure caches hold. */
  structureEntries(): StructureEntry[] {
    return this.#pageCache.entries();
  }

  /** Faults that software has not cleared, oldest first. */
  pendingFaults(): FaultRecord[] {
    return this.#faults.pending();
  }
}

/** The reason for a request that needs `rights` and has `held`; a missing W decides. */
function lacking(held: number, rights: number): number {
  return (rights & ~held & ACCESS_WRITE) !== 0 ? FR_WRITE_DENIED : FR_READ_DENIED;
}

/** Low word of the output: the leaf's address with the IOVA's bits below the leaf's size. */
function outputLo(leafLo: number, level: number, lo: number): number {
  const mask = (1 << (level * 9 + 3)) - 1;
  return (leafLo & ~mask) | (lo & mask);
}

/** `after` with the bits in `mask` taken from `before`. */
function keep(before: number, after: number, mask: number): number {
  return (before & mask) | (after & ~mask);
}
