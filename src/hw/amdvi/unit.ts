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
import type { CacheName, Explorable } from '../explorable.ts';
import { armDeadline, disarmDeadline, postponeDeadlines, takeDeadline } from '../queue/deadline.ts';
import { ENTRY_KEY, HASH_MULTIPLIER, SetCache } from '../tlb/set-cache.ts';
import { CommandBuffer } from './command-buffer.ts';
import { capabilityWord, efrLo, fullAmdviConfig, type AmdviConfig, type FullAmdviConfig } from './config.ts';
import { DeviceTable, type DeviceEntry } from './device-table.ts';
import { EventLog, ringLength, type AmdviFaultRecord } from './event-log.ts';
import { FAULT_PAGE_REQUEST } from './fault.ts';
import { AmdviInvalidator } from './invalidate.ts';
import { AmdviIotlb, DATA_HI, DATA_LO, type AmdviIotlbEntry } from './iotlb.ts';
import * as layout from './layout.ts';
import { PdeCache, type PdeEntry } from './pde-cache.ts';
import { Status, type AmdviListener } from './status.ts';
import { AmdviTranslation } from './translation.ts';

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
const DEADLINES: number = layout.DEADLINES;
const DEADLINE_COMMANDS: number = layout.DEADLINE_COMMANDS;
const HOT_SID: number = layout.HOT_SID;
const HOT_KEY: number = layout.HOT_KEY;
const HOT_SALT: number = layout.HOT_SALT;
const CONTROL = CONTROL_REG >> 2;
const CMD_BASE_HI = (CMD_BASE_REG >> 2) + 1;
const CMD_TAIL = layout.UPPER + ((CMD_TAIL_REG - layout.UPPER_OFFSET) >> 2);
const DOORBELL: number = CMD_TAIL_REG;
const CLEARED_BY_ONES = STATUS_EVENT_OVERFLOW | STATUS_EVENT_LOG_INT | STATUS_COM_WAIT_INT;
const ALL_RIGHTS = 3;

export class AmdviUnit implements MmioDevice, Explorable {
  listener: AmdviListener | null = null;
  readonly config: FullAmdviConfig;

  readonly #clock: Clock;
  readonly #words: Int32Array;
  readonly #tlbEntries: number;
  readonly #tlbHashShift: number;
  readonly #tlbSetMask: number;
  readonly #iotlb: AmdviIotlb;
  readonly #pdeCache: PdeCache;
  readonly #devices: DeviceTable;
  readonly #caches: Readonly<Record<CacheName, SetCache>>;
  readonly #translation: AmdviTranslation;
  readonly #status: Status;
  readonly #log: EventLog;
  readonly #commands: CommandBuffer;

  /** @throws RangeError for a configuration that no hardware could have */
  constructor(mem: PhysMem, clock: Clock, config: AmdviConfig = {}) {
    const full = fullAmdviConfig(config);
    const place = layout.stateLayout(full);
    const words = new Int32Array(place.nrWords);
    this.config = full;
    this.#clock = clock;
    this.#words = words;
    const nrIotlbData = layout.nrIotlbData(full);
    const devices = new SetCache(words, full.deviceCache, 2, 1, place.devices);
    const tlb = new SetCache(words, full.iotlb, nrIotlbData, layout.NR_PAGE_CLASSES, place.iotlb);
    const pdes = new SetCache(words, full.pdeCache, 2, layout.NR_LEVEL_CLASSES, place.pdeCache);
    this.#tlbEntries = tlb.entries;
    this.#tlbHashShift = tlb.hashShift;
    this.#tlbSetMask = tlb.setMask;
    this.#caches = { context: devices, iotlb: tlb, structure: pdes };
    this.#devices = new DeviceTable(words, devices, mem, full);
    this.#iotlb = new AmdviIotlb(words, tlb, full);
    this.#pdeCache = new PdeCache(pdes, mem);
    this.#status = new Status(words, this);
    this.#log = new EventLog(words, mem, this.#status, full.logsEvents);
    this.#translation = new AmdviTranslation(words, mem, this.#devices, this.#iotlb, this.#pdeCache, this.#log, full);
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
        // Held, but no answer for this request: mostly "not present".
        if (access <= ALL_RIGHTS) return this.#translation.answer(at, sid, hi, lo, access);
      }
    }
    // Anything but a hit is worked out there. The plus tells V8 that both results are numbers: without it the two join
    // as a tagged value, and a hit allocates.
    // oxlint-disable-next-line typescript/no-unnecessary-type-conversion
    return +this.#translation.resolve(sid, hi, lo, access);
  }

  /**
   * Translates a DMA of `nr` pages: one request for each, in order. The same as so many calls of `translate`.
   * @param iova of the first request; those that follow have the same offset in their pages
   * @param into gets what `translate` would return
   */
  translateRun(sid: number, iova: number, nr: number, access: number, into: Float64Array): void {
    // In pieces that lie under one table of leaves. The first request makes the device table entry the one used last.
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

  /** A page request (PRI) of a device: this unit takes none, so it is refused and logged. @returns minus the event code */
  requestPage(sid: number, iova: number): number {
    return this.#translation.deny(FAULT_PAGE_REQUEST, sid, (iova / TWO_32) | 0, iova | 0, 0, 0);
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

  speculate(sid: number, iova: number, access: number): number {
    this.#log.muted = true;
    const outcome = this.translate(sid, iova, access);
    this.#log.muted = false;
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
    this.#commands.runOne();
    if (!this.#commands.hasWork()) disarmDeadline(words, DEADLINES, slot);
  }

  settle(): void {
    const words = this.#words;
    words[HOT_SID] = -1;
    words[HOT_KEY] = 0;
    words[HOT_SALT] = 0;
    words[layout.HOT_FACTS] = 0;
    words[layout.HOT_SLOT] = 0;
    words[layout.HOT_LIMIT_HI] = 0;
    this.#iotlb.settle();
    postponeDeadlines(words, DEADLINES, layout.NR_DEADLINES);
    for (const cache of Object.values(this.#caches)) cache.sort();
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
