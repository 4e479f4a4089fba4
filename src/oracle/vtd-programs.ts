/**
 * Random programs for a VT-d unit: a driver that does everything, right or wrong. It edits tables without flushing, flushes
 * what it did not edit, switches the unit and its queue off and on, and sends descriptors that no unit accepts.
 */
import type { Rng } from '../base/index.ts';
import { TWO_32, hi32 } from '../base/index.ts';
import { vtd } from '../spec/index.ts';
import { BIG_PAGES, DATA_PAGES, INDEXES, tableAt } from './arena.ts';
import type { Step, WatchedRegister } from './program.ts';

/** Where QEMU has its fault record, its invalidation registers (CAP.FRO, ECAP.IRO). Ours are configured alike. */
export const FRCD = 0x220;
const IVA = 0xf0;
const IOTLB = IVA + 8;

/** What is compared after each DMA: all that a driver could see of it. */
export const VTD_REGISTERS: readonly WatchedRegister[] = [
  { name: 'GSTS', offset: vtd.GSTS_REG, mask: -1 },
  { name: 'FSTS', offset: vtd.FSTS_REG, mask: -1 },
  { name: 'FECTL', offset: vtd.FECTL_REG, mask: -1 },
  { name: 'ICS', offset: vtd.ICS_REG, mask: -1 },
  { name: 'IECTL', offset: vtd.IECTL_REG, mask: -1 },
  { name: 'IQH', offset: vtd.IQH_REG, mask: -1 },
  { name: 'FRCD0', offset: FRCD, mask: -1 },
  { name: 'FRCD1', offset: FRCD + 4, mask: -1 },
  { name: 'FRCD2', offset: FRCD + 8, mask: -1 },
  // Bits 27:8 are a PASID that the request had none of; QEMU 7.2 writes ones there.
  { name: 'FRCD3', offset: FRCD + 12, mask: vtd.FRCD_F_W3 | vtd.FRCD_T1_W3 | (3 << vtd.FRCD_AT_SHIFT_W3) | 0xff },
];

const ROOTS = [0, 1];
/** Context tables: of bus 0 and 1 under the first root, of bus 0 under the second. */
const CONTEXTS = [2, 3, 4];
const QUEUE = tableAt(6);
const STATUS = tableAt(7);
const NR_SLOTS = 256;
/** Table pages by the level they are meant for, 4 down to 1. */
const TABLES: Readonly<Record<number, readonly number[]>> = {
  4: [8, 9],
  3: [10, 11, 12],
  2: [13, 14, 15, 16],
  1: [17, 18, 19, 20, 21, 22, 23],
};
const DIDS = [1, 2, 3, 5];
const R = vtd.SS_READ;
const W = vtd.SS_WRITE;

export class VtdProgram {
  readonly #rng: Rng;
  readonly #sids: readonly number[];
  readonly #steps: Step[] = [];
  #gcmd = 0;
  #tail = 0;
  #queueOn = false;
  /** Slot of a descriptor that stopped the queue; -1 while it runs. */
  #stoppedAt = -1;
  #value = 1;
  #lastDevice = 0;
  #lastPage = 0;

  /** @param sids requester ids of the devices */
  constructor(rng: Rng, sids: readonly number[]) {
    this.#rng = rng;
    this.#sids = sids;
  }

  /** Brings the unit up, then does random things. @returns the next steps; an endless supply */
  next(): readonly Step[] {
    this.#steps.length = 0;
    if (this.#value === 1) this.#start();
    else this.#random();
    return this.#steps;
  }

  #start(): void {
    this.#writel(vtd.FECTL_REG, vtd.EVENT_IM);
    this.#writel(vtd.IECTL_REG, vtd.EVENT_IM);
    this.#store(tableAt(ROOTS[0]), tableAt(CONTEXTS[0]) | 1, 0);
    this.#store(tableAt(ROOTS[0]) + 16, tableAt(CONTEXTS[1]) | 1, 0);
    this.#store(tableAt(ROOTS[1]), tableAt(CONTEXTS[2]) | 1, 0);
    for (let level = 4; level > 0; level--) {
      for (const table of TABLES[level]) for (const index of INDEXES) this.#entry(level, table, index);
    }
    for (let i = 0; i < 6; i++) this.#anyContext();
    this.#setRoot();
    this.#startQueue();
    this.#command(vtd.GCMD_TE, true);
    this.#value = 2;
  }

  #random(): void {
    // Off for a short while only: most of what there is to see shows while translation is on.
    if ((this.#gcmd & vtd.GCMD_TE) === 0 && this.#rng.chance(0.05)) {
      this.#toggleTranslation();
      return;
    }
    const kind = this.#rng.below(1000);
    if (kind < 350) this.#dmaWrite();
    else if (kind < 390) this.#dmaCopy();
    else if (kind < 640) this.#anyEntry();
    else if (kind < 680) this.#anyContext();
    else if (kind < 690) this.#contextReplaced();
    else if (kind < 700) this.#rootEntry();
    else if (kind < 900) this.#invalidate();
    else if (kind < 960) this.#clearFault();
    else if (kind < 970) this.#toggleTranslation();
    else if (kind < 980) this.#setRoot();
    else if (kind < 985) this.#toggleQueue();
    else if (kind < 990) this.#clearCompletion();
    else this.#badDescriptor();
  }

  #store(paddr: number, lo: number, hi: number): void {
    this.#steps.push({ op: 'store', paddr, lo: lo | 0, hi: hi | 0 });
  }

  #writel(offset: number, value: number): void {
    this.#steps.push({ op: 'writel', offset, value: value | 0 });
  }

  #writeq(offset: number, lo: number, hi: number): void {
    this.#steps.push({ op: 'writeq', offset, lo: lo | 0, hi: hi | 0 });
  }

  // Tables.

  #rights(): number {
    const kind = this.#rng.below(20);
    if (kind === 0) return 0;
    if (kind < 3) return R;
    return kind < 5 ? W : R | W;
  }

  #anyEntry(): void {
    // Mostly leaves, as drivers do.
    const level = this.#rng.pick([1, 1, 1, 1, 2, 2, 3, 4]);
    this.#entry(level, this.#rng.pick(TABLES[level]), this.#rng.pick(INDEXES));
  }

  #entry(level: number, table: number, index: number): void {
    const rng = this.#rng;
    let lo = this.#rights();
    let hi = 0;
    if (lo !== 0 || rng.chance(0.2)) {
      if (level === 1) lo |= rng.pick(DATA_PAGES);
      else if (level === 2 && rng.chance(0.3)) lo |= rng.pick(BIG_PAGES) | vtd.SS_PAGE_SIZE;
      else if (level === 3 && rng.chance(0.15)) lo |= vtd.SS_PAGE_SIZE;
      else lo |= tableAt(rng.pick(TABLES[level - 1]));
    }
    if (rng.chance(0.01)) lo |= vtd.SS_SNOOP;
    if (rng.chance(0.03)) lo |= vtd.SS_ACCESSED | vtd.SS_DIRTY;
    if (rng.chance(0.01)) lo |= vtd.SS_PAGE_SIZE;
    if (rng.chance(0.01)) lo |= 1 << rng.pick([2, 3, 4, 5, 6, 10, 12, 20]);
    if (rng.chance(0.01)) hi |= 1 << rng.pick([19, 18, 16]);
    if (rng.chance(0.02)) hi |= 1 << rng.pick([20, 24, 30, 31]);
    this.#store(tableAt(table) + index * 8, lo, hi);
  }

  #anyContext(): void {
    const type = this.#rng.chance(0.85) ? vtd.TT_MULTI_LEVEL : this.#rng.below(4);
    this.#context(this.#rng.pick(this.#sids), type);
  }

  /** A context that passes through, shown to the unit, and another in its place, not shown: QEMU may go by the first. */
  #contextReplaced(): void {
    this.#lastDevice = this.#rng.below(this.#sids.length);
    const sid = this.#sids[this.#lastDevice];
    this.#context(sid, vtd.TT_PASS_THROUGH);
    if (this.#queueOn && this.#stoppedAt < 0) {
      this.#queue([vtd.DESC_CONTEXT | (vtd.GRANULARITY_GLOBAL << vtd.DESC_GRANULARITY_SHIFT), 0, 0, 0]);
    }
    this.#context(sid, vtd.TT_MULTI_LEVEL);
    this.#dmaWrite();
  }

  #context(sid: number, type: number): void {
    const rng = this.#rng;
    const table = sid >= 0x100 ? CONTEXTS[1] : rng.pick([CONTEXTS[0], CONTEXTS[0], CONTEXTS[2]]);
    const at = tableAt(table) + (sid & 0xff) * 16;
    const levels = rng.chance(0.5) ? 4 : 3;
    const aw = rng.chance(0.03) ? rng.below(8) : levels - 2;
    let w2 = aw | (rng.pick(DIDS) << vtd.CONTEXT_DID_SHIFT_W2);
    if (rng.chance(0.01)) w2 |= 1 << rng.pick([3, 7, 24]);
    const root = tableAt(rng.pick(TABLES[levels]));
    let lo = root | (type << vtd.CONTEXT_TT_SHIFT) | (rng.chance(0.95) ? vtd.CONTEXT_PRESENT : 0);
    const isSilent = rng.chance(0.05);
    if (isSilent) lo |= vtd.CONTEXT_FPD;
    if (rng.chance(isSilent ? 0.15 : 0.01)) lo |= 1 << rng.pick([4, 5, 11]);
    this.#store(at + 8, w2, rng.chance(0.005) ? 1 : 0);
    this.#store(at, lo, 0);
  }

  #rootEntry(): void {
    const rng = this.#rng;
    const root = rng.pick(ROOTS);
    const bus = rng.below(2);
    const table = bus === 1 ? CONTEXTS[1] : rng.pick(CONTEXTS);
    let lo = tableAt(table) | (rng.chance(0.9) ? vtd.ROOT_PRESENT : 0);
    if (rng.chance(0.05)) lo |= 1 << rng.pick([1, 5, 11]);
    const at = tableAt(root) + bus * 16;
    this.#store(at + 8, rng.chance(0.03) ? 1 : 0, 0);
    this.#store(at, lo, 0);
  }

  // DMA.

  /** A page; often the last one again, which a cache may hold. */
  #page(): number {
    const rng = this.#rng;
    if (rng.chance(0.4)) return this.#lastPage;
    const top = rng.chance(0.7) ? 0 : rng.pick(INDEXES);
    this.#lastPage = ((top * 512 + rng.pick(INDEXES)) * 512 + rng.pick(INDEXES)) * 512 + rng.pick(INDEXES);
    return this.#lastPage;
  }

  #iova(): number {
    if (this.#rng.chance(0.005)) return 2 ** this.#rng.pick([48, 50, 56]) + 4096;
    // Each access has words of its own, so that it shows where it went.
    return this.#page() * 4096 + ((this.#value * 4) & 0xffc);
  }

  #someDevice(): number {
    if (this.#rng.chance(0.5)) this.#lastDevice = this.#rng.below(this.#sids.length);
    return this.#lastDevice;
  }

  #dmaWrite(): void {
    this.#value += 1;
    const value = (this.#value & 0x7fff) | 0x8000;
    this.#steps.push({ op: 'dma-write', device: this.#someDevice(), iova: this.#iova(), value });
  }

  #dmaCopy(): void {
    this.#value += 1;
    const device = this.#someDevice();
    // Within a page on both sides: a copy is one access of the engine then.
    const from = this.#iova();
    const to = this.#iova();
    this.#steps.push({ op: 'dma-copy', device, from, to, nrBytes: 4 });
  }

  // Invalidation.

  #invalidate(): void {
    if (this.#queueOn && this.#stoppedAt < 0) {
      const descriptors: number[] = [];
      for (let nr = this.#rng.below(3) + 1; nr > 0; nr--) descriptors.push(...this.#descriptor());
      if (this.#rng.chance(0.9)) descriptors.push(...this.#wait());
      this.#queue(descriptors);
      return;
    }
    // By register: works with the queue off, and is ignored with it on.
    if (this.#rng.chance(0.5)) this.#contextByRegister();
    else this.#iotlbByRegister();
  }

  /** An invalidation that a unit accepts. */
  #descriptor(): number[] {
    const rng = this.#rng;
    const did = rng.pick(DIDS);
    const granularity = rng.pick([1, 2, 3, 3, 3, 3]);
    if (rng.chance(0.25)) {
      const mask = rng.chance(0.8) ? 0 : rng.below(4);
      const w0 = vtd.DESC_CONTEXT | (granularity << vtd.DESC_GRANULARITY_SHIFT) | (did << vtd.DESC_DID_SHIFT);
      return [w0, rng.pick(this.#sids) | (mask << 16), 0, 0];
    }
    if (rng.chance(0.03)) return [vtd.DESC_INTERRUPT_ENTRY, 0, 0, 0];
    const drain = rng.chance(0.5) ? vtd.IOTLB_DESC_DR | vtd.IOTLB_DESC_DW : 0;
    const w0 = vtd.DESC_IOTLB | (granularity << vtd.DESC_GRANULARITY_SHIFT) | drain | (did << vtd.DESC_DID_SHIFT);
    if (granularity !== vtd.GRANULARITY_PAGE) return [w0, 0, 0, 0];
    const am = rng.pick([0, 0, 0, 1, 2, 6, 9, 9, 12, 18]);
    const page = Math.floor(this.#iova() / 4096) % 2 ** 36;
    const hint = rng.chance(0.3) ? vtd.IOTLB_DESC_IH_W2 : 0;
    return [w0, 0, (page * 4096) | 0 | hint | am, hi32(page * 4096)];
  }

  #wait(): number[] {
    const rng = this.#rng;
    // Never SW and IF in one: QEMU 7.2 ends itself with an assertion.
    const flags = rng.pick([vtd.WAIT_SW, vtd.WAIT_SW, vtd.WAIT_IF, vtd.WAIT_SW | vtd.WAIT_FN]);
    return [vtd.DESC_WAIT | flags, rng.below(100) + 1, STATUS + rng.below(4) * 4, 0];
  }

  #queue(words: readonly number[]): void {
    for (let i = 0; i < words.length; i += 4) {
      const at = QUEUE + this.#tail * vtd.QI_DESC_BYTES;
      this.#store(at, words[i], words[i + 1]);
      this.#store(at + 8, words[i + 2], words[i + 3]);
      this.#tail = (this.#tail + 1) % NR_SLOTS;
    }
    this.#writeq(vtd.IQT_REG, this.#tail << vtd.IQ_INDEX_SHIFT, 0);
  }

  #contextByRegister(): void {
    const rng = this.#rng;
    const granularity = rng.below(4);
    const lo = (rng.pick(this.#sids) << vtd.CCMD_SID_SHIFT_LO) | rng.pick(DIDS);
    this.#writeq(
      vtd.CCMD_REG,
      lo,
      vtd.CCMD_ICC_HI | (granularity << vtd.CCMD_CIRG_SHIFT_HI) | rng.pick([0, 0, 0, 1, 3]),
    );
  }

  #iotlbByRegister(): void {
    const rng = this.#rng;
    const granularity = rng.pick([1, 2, 3, 3, 3]);
    const page = Math.floor(this.#iova() / 4096) % 2 ** 36;
    this.#writeq(IVA, (page * 4096) | rng.pick([0, 0, 1, 9, 18]), hi32(page * 4096));
    this.#writeq(IOTLB, 0, vtd.IOTLB_IVT_HI | (granularity << vtd.IOTLB_IIRG_SHIFT_HI) | rng.pick(DIDS));
  }

  /** A descriptor that stops the queue; a while later the next one of these repairs it. */
  #badDescriptor(): void {
    if (!this.#queueOn) return;
    if (this.#stoppedAt >= 0) {
      this.#repairQueue();
      return;
    }
    const rng = this.#rng;
    const bad = rng.pick([
      [0, 0, 0, 0],
      [9, 0, 0, 0],
      [vtd.DESC_CONTEXT, 0, 0, 0],
      [vtd.DESC_IOTLB, 0, 0, 0],
      [vtd.DESC_IOTLB | (3 << 4) | (1 << 16), 0, 19, 0],
      [vtd.DESC_IOTLB | (3 << 4) | (1 << 16), 0, 1 << 7, 0],
      [vtd.DESC_IOTLB | (2 << 4) | (1 << 16) | (1 << 8), 0, 0, 0],
      [vtd.DESC_WAIT | vtd.WAIT_SW | (1 << 8), 1, STATUS, 0],
    ]);
    this.#stoppedAt = this.#tail;
    this.#queue([...bad, ...this.#descriptor(), ...this.#wait()]);
  }

  #repairQueue(): void {
    for (let slot = this.#stoppedAt; slot !== this.#tail; slot = (slot + 1) % NR_SLOTS) {
      this.#store(QUEUE + slot * vtd.QI_DESC_BYTES, vtd.DESC_WAIT | vtd.WAIT_SW, 77);
      this.#store(QUEUE + slot * vtd.QI_DESC_BYTES + 8, STATUS, 0);
    }
    this.#stoppedAt = -1;
    this.#writel(vtd.FSTS_REG, vtd.FSTS_IQE);
    this.#writeq(vtd.IQT_REG, this.#tail << vtd.IQ_INDEX_SHIFT, 0);
  }

  // Switches.

  #command(bit: number, on: boolean): void {
    this.#gcmd = on ? this.#gcmd | bit : this.#gcmd & ~bit;
    this.#writel(vtd.GCMD_REG, this.#gcmd);
  }

  #setRoot(): void {
    this.#writeq(vtd.RTADDR_REG, tableAt(this.#rng.pick([ROOTS[0], ROOTS[0], ROOTS[0], ROOTS[1]])), 0);
    this.#writel(vtd.GCMD_REG, this.#gcmd | vtd.GCMD_SRTP);
  }

  #toggleTranslation(): void {
    this.#command(vtd.GCMD_TE, (this.#gcmd & vtd.GCMD_TE) === 0);
  }

  #startQueue(): void {
    this.#tail = 0;
    this.#writeq(vtd.IQT_REG, 0, 0);
    this.#writeq(vtd.IQA_REG, QUEUE % TWO_32, 0);
    this.#command(vtd.GCMD_QIE, true);
    this.#queueOn = true;
  }

  #toggleQueue(): void {
    if (!this.#queueOn) {
      this.#startQueue();
      return;
    }
    if (this.#stoppedAt >= 0) this.#repairQueue();
    // The last thing before the queue goes off must be a wait (11.4.4, QIE).
    this.#queue([vtd.DESC_WAIT | vtd.WAIT_SW, 1, STATUS, 0]);
    this.#command(vtd.GCMD_QIE, false);
    this.#queueOn = false;
  }

  #clearFault(): void {
    this.#writel(FRCD + 12, vtd.FRCD_F_W3);
    if (this.#rng.chance(0.7)) this.#writel(vtd.FSTS_REG, vtd.FSTS_PFO);
  }

  #clearCompletion(): void {
    this.#writel(vtd.ICS_REG, vtd.ICS_IWC);
    if (this.#rng.chance(0.3)) this.#writel(vtd.IECTL_REG, vtd.EVENT_IM);
  }
}
