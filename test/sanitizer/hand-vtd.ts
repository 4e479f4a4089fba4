/** The VT-d kind of a machine made by hand: queued invalidation, legacy mode, three levels (AW 1). */
import type { HandOptions, Space } from './hand.ts';
import { Hand, PAGE } from './hand.ts';

const BASE = 0xfed90000;
const UNIT_BYTES = 0x10000;
// Registers, 11.4.
const CAP = 0x08;
const ECAP = 0x10;
const GCMD = 0x18;
const GSTS = 0x1c;
const RTADDR = 0x20;
const CCMD_HI = 0x2c;
const FSTS = 0x34;
const IQT = 0x88;
const IQA = 0x90;
/** IVA, at ECAP.IRO * 16; the invalidate register is 8 above it. */
const IVA = 0x500;

const TE = 2 ** 31;
const SRTP = 2 ** 30;
const WBF = 2 ** 27;
const QIE = 2 ** 26;

interface HandUnit {
  readonly base: number;
  root: number;
  /** Frames of context tables, by bus. */
  contexts: number;
  queue: number;
  cell: number;
  head: number;
  tail: number;
  data: number;
}

export class HandVtd extends Hand {
  readonly units: HandUnit[] = [];

  constructor(options: HandOptions = {}) {
    super(options.coherent ?? true);
    // SAGAW: three levels and four.
    const cap = 6 * 2 ** 8 + ((options.np ?? false) ? 2 ** 7 : 0) + ((options.rwbf ?? false) ? 2 ** 4 : 0);
    // PSI and the largest mask; ESRTPS is bit 63.
    const capHi = 2 ** 7 + 18 * 2 ** 16 + ((options.esrtps ?? false) ? 2 ** 31 : 0);
    for (let index = 0; index < (options.nrUnits ?? 1); index++) {
      const base = BASE + index * UNIT_BYTES;
      this.registers.set(base + CAP, cap);
      this.registers.set(base + CAP + 4, capHi);
      this.registers.set(base + ECAP, ((options.coherent ?? true) ? 1 : 0) + 2 + (IVA / 16) * 2 ** 8);
      this.sanitizer.watchVtd(base);
      const unit = {
        base,
        root: this.table(),
        contexts: this.table(),
        queue: this.table(),
        cell: 0,
        head: 0,
        tail: 0,
        data: 0,
      };
      unit.cell = this.table() * PAGE;
      this.units.push(unit);
      // Root entry of bus 0, 9.1.
      this.store(unit.root, 0, unit.contexts * PAGE + 1, 0);
      this.platform.writeq(base + IQA, unit.queue * PAGE, 0);
      this.platform.writel(base + IQT, 0);
      this.platform.writel(base + GCMD, QIE);
      if (options.starts === false) continue;
      this.setRoot(index);
      this.invContexts(index);
      this.sync(index);
      this.invAll(index);
      this.sync(index);
      this.enable(index);
    }
  }

  setRoot(unit = 0): void {
    const { base, root } = this.units[unit];
    this.platform.writeq(base + RTADDR, root * PAGE, 0);
    this.platform.writel(base + GCMD, QIE + SRTP);
  }

  enable(unit = 0): void {
    this.platform.writel(this.units[unit].base + GCMD, QIE + TE);
  }

  /** GCMD.WBF, and the look that it is done. */
  flushWriteBuffer(unit = 0): void {
    const { base } = this.units[unit];
    this.platform.writel(base + GCMD, QIE + TE + WBF);
    this.platform.readl(base + GSTS);
  }

  /** The queue anew, as after an error: off, other memory, on. */
  renewQueue(unit = 0): void {
    const one = this.units[unit];
    this.platform.writel(one.base + GCMD, TE);
    one.head = one.tail = 0;
    this.platform.writel(one.base + IQT, 0);
    this.platform.writeq(one.base + IQA, one.queue * PAGE, 0);
    this.platform.writel(one.base + GCMD, TE + QIE);
  }

  /** A command was refused (FSTS.IQE): the unit stopped before it. */
  readError(unit = 0): void {
    const { base } = this.units[unit];
    this.registers.set(base + FSTS, 1 << 4);
    this.platform.readl(base + FSTS);
    this.registers.set(base + FSTS, 0);
  }

  protected override act(paddr: number, value: number): void {
    const unit = this.units.find(({ base }) => paddr >= base && paddr < base + UNIT_BYTES);
    if (unit === undefined || paddr - unit.base !== IQT || this.hangs) return;
    for (; unit.head !== value; unit.head = (unit.head + 16) % PAGE) {
      const at = unit.queue * PAGE + unit.head;
      const [w0, w1, w2] = [0, 4, 8].map((offset) => this.mem.load32(at + offset));
      if ((w0 & 0xf) === 5 && (w0 & 0x20) !== 0) this.mem.deviceStore32(w2, w1);
    }
  }

  // Entries, 9.3 and 9.8.

  override leaf(table: number, index: number, pfn: number, rights = 3): void {
    this.store(table, index, pfn * PAGE + rights, 0);
  }

  override link(table: number, index: number, pfn: number): void {
    this.store(table, index, pfn * PAGE + 3, 0);
  }

  override big(table: number, index: number, pfn: number): void {
    this.store(table, index, pfn * PAGE + 3 + 2 ** 7, 0);
  }

  override point(sid: number, space: Space | null, unit = 0): void {
    const { contexts } = this.units[unit];
    // Not present first: hardware must not read one half of the old entry and one of the new.
    this.store(contexts, sid * 2, 0, 0);
    if (space === null) return;
    this.store(contexts, sid * 2 + 1, 1 + space.did * 2 ** 8, 0);
    this.store(contexts, sid * 2, space.root * PAGE + 1 + (this.hasAts ? 1 << 2 : 0), 0);
  }

  // Descriptors, 6.5.2.

  queue(w0: number, w1: number, w2: number, w3: number, unit = 0): void {
    const one = this.units[unit];
    const at = one.queue * PAGE + one.tail;
    this.mem.store64(at, w0, w1);
    this.mem.store64(at + 8, w2, w3);
    one.tail = (one.tail + 16) % PAGE;
  }

  override invPages(did: number, page: number, lg2 = 0, leavesOnly = false, unit = 0): void {
    this.queue(2 + (3 << 4) + (did << 16), 0, page * PAGE + (leavesOnly ? 1 << 6 : 0) + lg2, 0, unit);
  }

  override invDomain(did: number, unit = 0): void {
    this.queue(2 + (2 << 4) + (did << 16), 0, 0, 0, unit);
  }

  override invAll(unit = 0): void {
    this.queue(2 + (1 << 4), 0, 0, 0, unit);
  }

  override invDevice(sid: number, did: number, unit = 0): void {
    this.queue(1 + (3 << 4) + (did << 16), sid, 0, 0, unit);
  }

  protected override queueDeviceTlb(sid: number, lo: number, hi: number, unit: number): void {
    this.queue(3, sid, lo, hi, unit);
  }

  invContexts(unit = 0): void {
    this.queue(1 + (1 << 4), 0, 0, 0, unit);
  }

  invContextsOf(did: number, unit = 0): void {
    this.queue(1 + (2 << 4) + (did << 16), 0, 0, 0, unit);
  }

  override wait(unit = 0): void {
    const one = this.units[unit];
    one.data += 1;
    this.queue(5 + (1 << 5), one.data, one.cell, 0, unit);
  }

  override ring(unit = 0): void {
    this.platform.writel(this.units[unit].base + IQT, this.units[unit].tail);
  }

  override look(unit = 0): void {
    this.platform.loadShared32(this.units[unit].cell);
  }

  // Registers, 11.4.6 and 11.4.8. The unit is done at once, unless `hangs`.

  writeIotlb(hi: number, iva = 0, unit = 0): void {
    const { base } = this.units[unit];
    this.platform.writeq(base + IVA, iva, 0);
    this.platform.writeq(base + IVA + 8, 0, (2 ** 31 + hi) | 0);
    if (!this.hangs) this.registers.set(base + IVA + 12, hi);
  }

  readIotlb(unit = 0): void {
    this.platform.readl(this.units[unit].base + IVA + 12);
  }

  writeContextCommand(lo: number, hi: number, unit = 0): void {
    const { base } = this.units[unit];
    this.platform.writeq(base + CCMD_HI - 4, lo, (2 ** 31 + hi) | 0);
    this.registers.set(base + CCMD_HI, hi);
    this.platform.readl(base + CCMD_HI);
  }
}
