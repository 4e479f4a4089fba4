/**
 * One VT-d remapping unit in legacy mode: the register window, and the hit path of translation (the rest of which is
 * translation.ts). VT-d rev. 4.1 section 11.4 (registers). Version 1.0, no scalable mode, no interrupt remapping, no device
 * TLBs, no protected memory regions, no advanced fault log.
 *
 * All mutable state is one Int32Array (layout.ts); the parts see it whole. What the parts keep in fields besides
 * are results of the call under way.
 *
 * Two limits of the model: DMA is atomic, so draining (DR, DW) has nothing to wait for; and setting GCMD bits takes no
 * time, since nothing a driver does can depend on it.
 */
import type { Clock } from '../../base/index.ts';
import type { MmioDevice, PhysMem } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import type { CacheName, Explorable } from '../explorable.ts';
import { armDeadline, disarmDeadline, postponeDeadlines, takeDeadline } from '../queue/deadline.ts';
import { ENTRY_KEY, HASH_MULTIPLIER, SetCache } from '../tlb/set-cache.ts';
import { capHi, capLo, ecapLo, FRCD_OFFSET, fullConfig, IOTLB_OFFSET, IVA_OFFSET } from './config.ts';
import type { FullVtdConfig, VtdConfig } from './config.ts';
import { ContextCache, type ContextEntry } from './context.ts';
import { EventMessages, type VtdListener } from './events.ts';
import { FaultLog, type FaultRecord } from './fault.ts';
import { Invalidator } from './invalidate.ts';
import { DATA_HI, DATA_LO, Iotlb, type IotlbEntry } from './iotlb.ts';
import * as layout from './layout.ts';
import { PageCache, type StructureEntry } from './page-cache.ts';
import { InvalidationQueue } from './queue.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { Translation } from './translation.ts';
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
  VER_REG,
} = vtd;

// Local constants for speed, see set-cache.ts: translate() with imported ones takes three times as long.
const TWO_32 = 4294967296;
const MULTIPLIER: number = HASH_MULTIPLIER;
const KEY: number = ENTRY_KEY;
const LEAF_LO: number = DATA_LO;
const LEAF_HI: number = DATA_HI;
const DEADLINES: number = layout.DEADLINES;
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const HOT_LIMIT_HI: number = layout.HOT_LIMIT_HI;
const REGISTERS_END = 0x100;
const DOORBELL: number = IQT_REG;
const GSTS = GSTS_REG >> 2;
/** Bits of GCMD that stay as written, and those that ask for one action. */
const STICKY = GCMD_TE | GCMD_EAFL | GCMD_QIE | GCMD_IRE | GCMD_CFI;
export class VtdUnit implements MmioDevice, Explorable {
  listener: VtdListener | null = null;
  readonly config: FullVtdConfig;

  readonly #mem: PhysMem;
  readonly #clock: Clock;
  readonly #words: Int32Array;
  /** Invalidation takes no time. */
  readonly #isImmediate: boolean;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  readonly #iotlb: Iotlb;
  readonly #pageCache: PageCache;
  readonly #contexts: ContextCache;
  readonly #caches: Readonly<Record<CacheName, SetCache>>;
  readonly #translation: Translation;
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
    this.#words = words;
    const nrIotlbData = layout.nrIotlbData(full);
    const contexts = new SetCache(words, full.contextCache, 2, 1, place.contexts);
    const tlb = new SetCache(words, full.iotlb, nrIotlbData, layout.NR_PAGE_CLASSES, place.iotlb);
    const levels = new SetCache(words, full.pageCache, 2, layout.NR_LEVEL_CLASSES, place.pageCache);
    this.#isImmediate = full.completionDelayNs === 0;
    this.#tlbEntries = tlb.entries;
    this.#tlbHashShift = tlb.hashShift;
    this.#tlbSetMask = tlb.setMask;
    this.#caches = { context: contexts, iotlb: tlb, structure: levels };
    this.#contexts = new ContextCache(words, contexts, mem, full);
    this.#iotlb = new Iotlb(tlb, full);
    this.#pageCache = new PageCache(levels, mem);
    this.#events = new EventMessages(words, this);
    this.#faults = new FaultLog(words, full.nfr, this.#events, full.recordClearWithdraws);
    this.#translation = new Translation(words, mem, this.#contexts, this.#iotlb, this.#pageCache, this.#faults, full);
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
    if (words[HOT_SID] === sid && hi < words[HOT_LIMIT_HI]) {
      const page = (hi << 20) | (lo >>> 12);
      const hash = Math.imul(page + words[HOT_SALT], MULTIPLIER);
      const at = this.#tlbEntries + ((hash >>> this.#tlbHashShift) & this.#tlbSetMask);
      if (words[at] === page && words[at + KEY] === (words[HOT_KEY] | ((hi >>> 12) << 1))) {
        const leaf = words[at + LEAF_LO];
        if ((leaf & access) === access) return words[at + LEAF_HI] * TWO_32 + (((leaf & -4096) | (lo & 4095)) >>> 0);
        // Held, but no answer for this request: mostly "not present".
        if (access <= 3) return this.#translation.answer(at, sid, hi, lo, access);
      }
    }
    // Anything but a hit is worked out there. The plus tells V8 that both results are numbers: without it the two join as a
    // tagged value, and a hit allocates.
    // oxlint-disable-next-line typescript/no-unnecessary-type-conversion
    return +this.#translation.resolve(sid, hi, lo, access);
  }

  /**
   * Translates a DMA of `nr` pages: one request for each, in order. The same as so many calls of `translate`.
   * @param iova of the first request; those that follow have the same offset in their pages
   * @param into gets what `translate` would return
   */
  translateRun(sid: number, iova: number, nr: number, access: number, into: Float64Array): void {
    // In pieces that lie under one table of leaves. The first request makes the context the one used last.
    let done = 0;
    while (done < nr) {
      const at = iova + done * 4096;
      into[done] = this.translate(sid, at, access);
      const left = nr - done;
      const room = 512 - ((at / 4096) & 511);
      const count = left < room ? left : room;
      const next = at + 4096;
      if (count > 1) {
        this.#translation.resolveRun(sid, (next / TWO_32) | 0, next | 0, count - 1, access, into, done + 1);
      }
      done += count;
    }
  }

  /** Lets delayed invalidations complete whose time has come. */
  step(): void {
    const words = this.#words;
    if (words[DEADLINES] === 0) return;
    const nowNs = this.#clock.nowNs();
    if (takeDeadline(words, DEADLINES, layout.DEADLINE_CONTEXT, nowNs)) this.#registers.runContext();
    if (takeDeadline(words, DEADLINES, layout.DEADLINE_IOTLB, nowNs)) this.#registers.runIotlb();
    if (takeDeadline(words, DEADLINES, layout.DEADLINE_QUEUE, nowNs)) this.#queue.run();
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
    const words = this.#words;
    if (words[DEADLINES] !== 0) this.step();
    const word = value | 0;
    // The doorbell, which is nearly all writes there are, before the switch goes through the rest.
    if (offset !== DOORBELL) return this.#write(offset, word);
    words[DOORBELL >> 2] = word & 0x7fff0;
    const { listener } = this;
    if (listener !== null) listener.doorbell((word & 0x7fff0) >>> IQ_INDEX_SHIFT);
    if (this.#isImmediate) this.#queue.run();
    else this.#startQueue();
  }

  #write(offset: number, word: number): void {
    const words = this.#words;
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
        if (words[offset >> 2] < 0 && (words[DEADLINES] & (1 << layout.DEADLINE_CONTEXT)) !== 0) return;
        words[offset >> 2] = keep(words[offset >> 2], word, 3 << CCMD_CAIG_SHIFT_HI);
        if (word < 0) this.#request(layout.DEADLINE_CONTEXT);
        return;
      case IOTLB_OFFSET + 4:
        if (words[offset >> 2] < 0 && (words[DEADLINES] & (1 << layout.DEADLINE_IOTLB)) !== 0) return;
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
        disarmDeadline(words, DEADLINES, layout.DEADLINE_QUEUE);
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

  #startQueue(): void {
    if (this.#isImmediate) this.#queue.run();
    else if (this.#queue.hasWork())
      armDeadline(this.#words, DEADLINES, layout.DEADLINE_QUEUE, this.#clock.nowNs() + this.config.completionDelayNs);
  }

  /** A busy bit was set in CCMD or IOTLB. */
  #request(slot: number): void {
    if ((this.#words[GSTS] & GCMD_QIE) !== 0) return;
    if (this.config.completionDelayNs !== 0) {
      armDeadline(this.#words, DEADLINES, slot, this.#clock.nowNs() + this.config.completionDelayNs);
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

  speculate(sid: number, iova: number, access: number): number {
    this.#faults.muted = true;
    const outcome = this.translate(sid, iova, access);
    this.#faults.muted = false;
    return outcome;
  }

  nrCached(cache: CacheName): number {
    return this.#caches[cache].nrHeld;
  }

  evict(cache: CacheName, nth: number): boolean {
    this.#words[HOT_SID] = -1;
    return this.#caches[cache].dropNth(nth);
  }

  waitingWork(): number {
    return this.#words[DEADLINES];
  }

  executeNext(slot: number): void {
    const words = this.#words;
    if ((words[DEADLINES] & (1 << slot)) === 0) return;
    if (slot === layout.DEADLINE_QUEUE) this.#queue.runOne();
    if (slot !== layout.DEADLINE_QUEUE || !this.#queue.hasWork()) disarmDeadline(words, DEADLINES, slot);
    if (slot === layout.DEADLINE_CONTEXT) this.#registers.runContext();
    if (slot === layout.DEADLINE_IOTLB) this.#registers.runIotlb();
  }

  settle(): void {
    const words = this.#words;
    words[HOT_SID] = -1;
    words[HOT_KEY] = 0;
    words[HOT_SALT] = 0;
    words[layout.HOT_FACTS] = 0;
    words[layout.HOT_SLOT] = 0;
    words[HOT_LIMIT_HI] = 0;
    postponeDeadlines(words, DEADLINES, layout.NR_DEADLINES);
    for (const cache of Object.values(this.#caches)) cache.sort();
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

/** `after` with the bits in `mask` taken from `before`. */
function keep(before: number, after: number, mask: number): number {
  return (before & mask) | (after & ~mask);
}
