/** A VT-d unit as software programs it, legacy mode. VT-d rev. 4.1 sections 6.5 (invalidation), 9.1 and 9.3 (entries), 11.4. */
import { TWO_32 } from '../base/index.ts';
import type { Platform } from '../mem/index.ts';
import { vtd } from '../spec/index.ts';
import type { Command } from './command.ts';
import { rangeStart } from './command.ts';
import type { EntryFormat } from './entry-format.ts';
import { VTD_FORMAT, entryPfn } from './entry-format.ts';
import type { Tables } from './tables.ts';
import type { DeviceEntry, StaleEntry } from './unit.ts';
import { BLOCKED, Unit } from './unit.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  CAP_CM_BIT,
  CAP_REG,
  CAP_RWBF_BIT,
  CAP_SAGAW_SHIFT,
  CCMD_CIRG_SHIFT_HI,
  CCMD_DID_MASK_LO,
  CCMD_ICC_HI,
  CCMD_REG,
  CCMD_SID_SHIFT_LO,
  CONTEXT_AW_MASK_W2,
  CONTEXT_DID_SHIFT_W2,
  CONTEXT_PRESENT,
  CONTEXT_TT_MASK,
  CONTEXT_TT_SHIFT,
  DESC_CONTEXT,
  DESC_DEVICE_IOTLB,
  DESC_DID_SHIFT,
  DESC_GRANULARITY_SHIFT,
  DESC_IOTLB,
  DESC_WAIT,
  ECAP_C_BIT,
  ECAP_IRO_SHIFT,
  ECAP_PT_BIT,
  ECAP_REG,
  FSTS_IQE,
  FSTS_ITE,
  FSTS_REG,
  GCMD_QIE,
  GCMD_REG,
  GCMD_SRTP,
  GCMD_TE,
  GCMD_WBF,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GSTS_REG,
  IOTLB_DESC_AM_MASK_W2,
  IOTLB_DESC_IH_W2,
  IOTLB_DID_MASK_HI,
  IOTLB_IIRG_SHIFT_HI,
  IOTLB_IVT_HI,
  IQA_QS_MASK,
  IQA_REG,
  IQT_REG,
  IQ_INDEX_SHIFT,
  REG_WINDOW_BYTES,
  ROOT_PRESENT,
  RTADDR_REG,
  TT_DEVICE_TLB,
  TT_PASS_THROUGH,
  WAIT_SW,
} = vtd;
const ENTRY_BYTES = 16;
/** Requester bits that the function masks 0..3 leave out. */
const FUNCTION_MASKS = [0, 4, 6, 7];
const IOTLB_FROM_IVA = 8;
/** An entry that is present and wrong. It blocks as well, but somebody wrote it, so the device is this unit's. */
const FAULTS: DeviceEntry = { ...BLOCKED };

export class VtdUnit extends Unit {
  readonly format: EntryFormat = VTD_FORMAT;
  readonly levels: number = 4;
  readonly cachesNotPresent: boolean;
  readonly storesLag: boolean;
  /** Only a write buffer lies between CPUs and the walker. Where lines must be flushed as well, that alone is judged. */
  readonly #buffersWrites: boolean;
  readonly #widths: number;
  readonly #passesThrough: boolean;
  readonly #flushesWithRoot: boolean;
  readonly #ivaOffset: number;
  readonly #registers = new Int32Array(REG_WINDOW_BYTES / 4);
  #root = -1;
  /** Pages of the root table and of context tables. A context table serves one bus. */
  readonly #busOf = new Map<number, number>();
  #queueTail = 0;
  #isQueueOn = false;
  #context: Command | null = null;
  #iotlb: Command | null = null;
  #drainStep = 0;
  #emptiedDevices = -1;

  constructor(platform: Platform, tables: Tables, base: number, index: number) {
    super(platform, tables, base, index);
    const cap = platform.readl(base + CAP_REG);
    const capHi = platform.readl(base + CAP_REG + 4);
    const ecap = platform.readl(base + ECAP_REG);
    this.cachesNotPresent = ((cap >>> CAP_CM_BIT) & 1) === 1;
    const snoops = ((ecap >>> ECAP_C_BIT) & 1) === 1;
    this.#buffersWrites = snoops && ((cap >>> CAP_RWBF_BIT) & 1) === 1;
    this.storesLag = this.#buffersWrites || !snoops;
    this.#flushesWithRoot = (capHi | 0) < 0;
    this.#widths = (cap >>> CAP_SAGAW_SHIFT) & 0x1f;
    this.#passesThrough = ((ecap >>> ECAP_PT_BIT) & 1) === 1;
    this.#ivaOffset = ((ecap >>> ECAP_IRO_SHIFT) & 0x3ff) * 16;
  }

  override written(offset: number, lo: number, hi: number | null): void {
    this.#registers[offset >> 2] = lo;
    if (hi !== null) this.#registers[(offset >> 2) + 1] = hi;
    if (offset === IQT_REG) {
      this.#doorbell(lo >>> IQ_INDEX_SHIFT);
      return;
    }
    if (offset === GCMD_REG) this.#command(lo);
    const ccmd = this.#newly(offset, hi, CCMD_REG + 4);
    if (ccmd < 0) this.#context = this.#contextRequest(ccmd);
    const iotlb = this.#newly(offset, hi, this.#ivaOffset + IOTLB_FROM_IVA + 4);
    if (iotlb < 0) this.#iotlb = this.#iotlbRequest(iotlb);
  }

  /** The value just written to a register; 0 when the write did not reach it. */
  #newly(offset: number, hi: number | null, register: number): number {
    if (offset === register || (hi !== null && offset + 4 === register)) return this.#registers[register >> 2];
    return 0;
  }

  #word(offset: number): number {
    return this.#registers[offset >> 2];
  }

  override read(offset: number, value: number): void {
    if (offset === CCMD_REG + 4 && this.#context !== null && (value & CCMD_ICC_HI) === 0) {
      const command = this.#context;
      this.#context = null;
      this.finish(command);
    } else if (
      offset === this.#ivaOffset + IOTLB_FROM_IVA + 4 &&
      this.#iotlb !== null &&
      (value & IOTLB_IVT_HI) === 0
    ) {
      const command = this.#iotlb;
      this.#iotlb = null;
      this.finish(command);
    } else if (offset === GSTS_REG && this.#drainStep > 0 && (value & GCMD_WBF) === 0) {
      const step = this.#drainStep;
      this.#drainStep = 0;
      this.drained(step);
    } else if (offset === FSTS_REG && (value & (FSTS_IQE | FSTS_ITE)) !== 0) {
      this.abandon();
    }
  }

  #command(value: number): void {
    if (this.#buffersWrites && (value & GCMD_WBF) !== 0) this.#drainStep = this.tables.step;
    if ((value & GCMD_SRTP) !== 0) this.#setRoot();
    this.isOn = (value & GCMD_TE) !== 0;
    const wasQueueOn = this.#isQueueOn;
    this.#isQueueOn = (value & GCMD_QIE) !== 0;
    // The head is 0 then; what the memory of the queue holds beyond the tail was never sent (6.5.2).
    if (!this.#isQueueOn) this.#queueTail = 0;
    else if (!wasQueueOn) this.#doorbell(this.#word(IQT_REG) >>> IQ_INDEX_SHIFT);
  }

  #setRoot(): void {
    this.#root = entryPfn(this.#word(RTADDR_REG), this.#word(RTADDR_REG + 4));
    this.#busOf.clear();
    this.#busOf.set(this.#root, -1);
    this.tables.watchFrame(this.#root);
    this.#emptiedDevices = -1;
    if (!this.#flushesWithRoot) {
      this.unknown = 'the root pointer was set, and nobody dropped all contexts and then all translations';
    }
    for (let bus = 0; bus < 256; bus++) this.#rootEntry(bus, this.#root * 4096 + bus * ENTRY_BYTES);
  }

  /** Reads a bus's root entry anew. */
  #rootEntry(bus: number, paddr: number): void {
    const { mem } = this.platform;
    const at = this.#root * 4096 + bus * ENTRY_BYTES;
    const lo = mem.load32(at);
    for (const [pfn, known] of this.#busOf) if (known === bus) this.#busOf.delete(pfn);
    if ((lo & ROOT_PRESENT) === 0) {
      for (const { sid } of this.devices.values()) if (sid >>> 8 === bus) this.#contextEntry(sid, -1, paddr);
      return;
    }
    const table = entryPfn(lo, mem.load32(at + 4));
    this.#busOf.set(table, bus);
    this.tables.watchFrame(table);
    for (let devfn = 0; devfn < 256; devfn++) this.#contextEntry((bus << 8) | devfn, table, paddr);
  }

  /** Reads a device's context entry anew. @param table frame of its context table, -1 for none */
  #contextEntry(sid: number, table: number, paddr: number): void {
    const entry = table < 0 ? BLOCKED : this.#decode(table * 4096 + (sid & 0xff) * ENTRY_BYTES);
    if (entry === BLOCKED && !this.devices.has(sid)) return;
    const wasBlocked = this.device(sid).current.kind === 'blocked';
    this.entryChanged(sid, entry, paddr, !wasBlocked || this.cachesNotPresent);
  }

  #decode(at: number): DeviceEntry {
    const { mem } = this.platform;
    const lo = mem.load32(at);
    if ((lo & CONTEXT_PRESENT) === 0) return BLOCKED;
    const w2 = mem.load32(at + 8);
    const domainId = (w2 >>> CONTEXT_DID_SHIFT_W2) & 0xffff;
    const type = (lo >>> CONTEXT_TT_SHIFT) & CONTEXT_TT_MASK;
    const isPass = type === TT_PASS_THROUGH;
    const width = w2 & CONTEXT_AW_MASK_W2;
    // What the unit does not support, or nobody defined, faults (9.3).
    if (type > TT_PASS_THROUGH || (isPass ? !this.#passesThrough : ((this.#widths >>> width) & 1) === 0)) {
      return FAULTS;
    }
    if (isPass) return { kind: 'pass', domainId, rootPfn: 0, levels: 0, rights: 3, hasAts: false };
    const levels = width + 2;
    const hasAts = type === TT_DEVICE_TLB;
    return { kind: 'table', domainId, rootPfn: entryPfn(lo, mem.load32(at + 4)), levels, rights: 3, hasAts };
  }

  override stored(paddr: number, nrBytes: number): void {
    const pfn = Math.floor(paddr / 4096);
    const bus = this.#busOf.get(pfn);
    if (bus === undefined) return;
    const first = Math.floor((paddr % 4096) / ENTRY_BYTES);
    const last = Math.floor(((paddr % 4096) + nrBytes - 1) / ENTRY_BYTES);
    for (let index = first; index <= last; index++) {
      if (bus < 0) this.#rootEntry(index, paddr);
      else this.#contextEntry((bus << 8) | index, pfn, paddr);
    }
  }

  // Invalidation.

  #doorbell(tail: number): void {
    if (!this.#isQueueOn) return;
    const { mem } = this.platform;
    const iqa = this.#word(IQA_REG);
    const queuePfn = entryPfn(iqa, this.#word(IQA_REG + 4));
    const mask = (256 << (iqa & IQA_QS_MASK)) - 1;
    let slot = this.#queueTail & mask;
    for (; slot !== (tail & mask); slot = (slot + 1) & mask) {
      const page = mem.slotOf(queuePfn + (slot >> 8));
      if (page < 0) {
        this.submit(this.#descriptor(0, 0, 0, 0));
        continue;
      }
      const { words } = mem;
      const at = (page << 10) + ((slot & 255) << 2);
      this.submit(this.#descriptor(words[at], words[at + 1], words[at + 2], words[at + 3]));
    }
    this.#queueTail = slot;
  }

  #descriptor(w0: number, w1: number, w2: number, w3: number): Command {
    const step = ++this.tables.step;
    const domainId = w0 >>> DESC_DID_SHIFT;
    const granularity = (w0 >>> DESC_GRANULARITY_SHIFT) & 3;
    switch (w0 & 15) {
      case DESC_CONTEXT:
        return this.#contextCommand(step, granularity, domainId, w1 & 0xffff, (w1 >>> 16) & 3);
      case DESC_IOTLB:
        return this.#iotlbCommand(step, granularity, domainId, w2, w3);
      case DESC_DEVICE_IOTLB:
        return this.commands.deviceTlb(step, w1 & 0xffff, w2, w3, (w2 & 1) !== 0);
      case DESC_WAIT: {
        const paddr = (w3 >>> 0) * TWO_32 + ((w2 & -4) >>> 0);
        const isBlind = (w0 & WAIT_SW) === 0 || this.platform.mem.load32(paddr) === w1;
        return this.commands.wait(step, paddr, w1, isBlind);
      }
      default:
        return this.commands.take('other', step);
    }
  }

  #contextCommand(step: number, granularity: number, domainId: number, sid: number, mask: number): Command {
    if (granularity === GRANULARITY_GLOBAL) return this.commands.take('all-devices', step);
    if (granularity === GRANULARITY_DOMAIN) return this.commands.domain('devices-of-domain', step, domainId, false);
    return this.commands.device(step, domainId, sid, FUNCTION_MASKS[mask]);
  }

  #iotlbCommand(step: number, granularity: number, domainId: number, lo: number, hi: number): Command {
    if (granularity === GRANULARITY_GLOBAL) return this.commands.take('all', step);
    if (granularity === GRANULARITY_DOMAIN) return this.commands.domain('domain', step, domainId, false);
    const order = lo & IOTLB_DESC_AM_MASK_W2;
    const pages = order < 31 ? 1 << order : 2 ** order;
    const leavesOnly = (lo & IOTLB_DESC_IH_W2) !== 0;
    return this.commands.pages(step, domainId, rangeStart(lo, hi, pages), pages, leavesOnly);
  }

  #contextRequest(hi: number): Command {
    const lo = this.#word(CCMD_REG);
    const granularity = (hi >>> CCMD_CIRG_SHIFT_HI) & 3;
    const command = this.#contextCommand(
      ++this.tables.step,
      granularity,
      lo & CCMD_DID_MASK_LO,
      lo >>> CCMD_SID_SHIFT_LO,
      hi & 3,
    );
    this.note(command);
    return command;
  }

  #iotlbRequest(hi: number): Command {
    const granularity = (hi >>> IOTLB_IIRG_SHIFT_HI) & 3;
    const lo = this.#word(this.#ivaOffset);
    const command = this.#iotlbCommand(
      ++this.tables.step,
      granularity,
      hi & IOTLB_DID_MASK_HI,
      lo,
      this.#word(this.#ivaOffset + 4),
    );
    this.note(command);
    return command;
  }

  protected override proves(wait: Command, value: number): boolean {
    return wait.data === value;
  }

  /** Entries that were not present are cached under domain id 0. */
  protected override matchesDomain(stale: StaleEntry, domainId: number): boolean {
    return (stale.entry.kind === 'blocked' ? 0 : stale.entry.domainId) === domainId;
  }

  override tagOf({ entry }: StaleEntry): string {
    return `, domain id ${entry.kind === 'blocked' ? 0 : entry.domainId}`;
  }

  protected override emptied(what: 'translations' | 'devices', step: number): void {
    if (what === 'devices') this.#emptiedDevices = step;
    else if (this.#emptiedDevices >= 0 && this.#emptiedDevices < step) this.unknown = null;
  }

  protected override get drainsWithInvalidation(): boolean {
    return this.#buffersWrites;
  }
}
