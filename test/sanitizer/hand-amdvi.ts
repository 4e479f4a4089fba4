/** The AMD-Vi kind of a machine made by hand: host tables of version 1 and three levels, device ids below 256. */
import type { HandOptions, Space } from './hand.ts';
import { Hand, PAGE } from './hand.ts';

const BASE = 0xfed80000;
const UNIT_BYTES = 0x10000;
// Registers, 3.4.
const DEV_TABLE = 0x00;
const CMD_BASE = 0x08;
const CONTROL = 0x18;
const CMD_TAIL = 0x2008;
/** Read and write of an entry, bits 62:61. */
const RW_HI = 3 * 2 ** 29;

interface HandUnit {
  readonly base: number;
  readonly deviceTable: number;
  readonly ring: number;
  readonly cell: number;
  head: number;
  tail: number;
  data: number;
}

export class HandAmdvi extends Hand {
  readonly units: HandUnit[] = [];

  constructor(options: HandOptions = {}) {
    super(true);
    for (let index = 0; index < (options.nrUnits ?? 1); index++) {
      const base = BASE + index * UNIT_BYTES;
      this.sanitizer.watchAmdvi(base, (options.np ?? false) ? 2 ** 26 : 0);
      const unit = {
        base,
        deviceTable: this.pages.allocRun(2),
        ring: this.table(),
        cell: this.table() * PAGE,
        head: 0,
        tail: 0,
        data: 0,
      };
      this.units.push(unit);
      for (let sid = 0; sid < 256; sid++) this.mem.store64(unit.deviceTable * PAGE + sid * 32, 1, 0);
      this.platform.writeq(base + DEV_TABLE, unit.deviceTable * PAGE + 1, 0);
      // 2^8 commands: one page.
      this.platform.writeq(base + CMD_BASE, unit.ring * PAGE, 8 * 2 ** 24);
      this.platform.writel(base + CONTROL, 1 + 2 ** 12);
    }
  }

  protected override act(paddr: number, value: number): void {
    const unit = this.units.find(({ base }) => paddr >= base && paddr < base + UNIT_BYTES);
    if (unit === undefined || paddr - unit.base !== CMD_TAIL || this.hangs) return;
    for (; unit.head !== value; unit.head = (unit.head + 16) % PAGE) {
      const at = unit.ring * PAGE + unit.head;
      const [w0, w1, w2, w3] = [0, 4, 8, 12].map((offset) => this.mem.load32(at + offset));
      if (w1 >>> 28 !== 1 || (w0 & 1) === 0) continue;
      this.mem.deviceStore32((w0 & -8) >>> 0, w2);
      this.mem.deviceStore32(((w0 & -8) >>> 0) + 4, w3);
    }
  }

  // Entries, 2.2.2 and 2.2.3.

  override leaf(table: number, index: number, pfn: number, rights = 3): void {
    this.store(table, index, pfn * PAGE + 1, rights * 2 ** 29);
  }

  override link(table: number, index: number, pfn: number, level: number): void {
    this.store(table, index, pfn * PAGE + 1 + ((level - 1) << 9), RW_HI);
  }

  override big(table: number, index: number, pfn: number): void {
    this.leaf(table, index, pfn);
  }

  /** A leaf of 2^lg2 pages in as many entries, next level 7: the size stands in the address. */
  sized(table: number, index: number, pfn: number, lg2: number): void {
    const ones = (2 ** (lg2 - 1) - 1) * PAGE;
    for (let i = 0; i < 2 ** lg2; i++) this.store(table, index + i, pfn * PAGE + ones + 1 + (7 << 9), RW_HI);
  }

  override point(sid: number, space: Space | null, unit = 0): void {
    if (space === null) this.pointAt(sid, 0, 0, 0, unit);
    else this.pointAt(sid, space.did, space.root, 3, unit);
  }

  pointAt(sid: number, did: number, root: number, levels: number, unit = 0): void {
    const at = this.units[unit].deviceTable * PAGE + sid * 32;
    if (levels === 0) {
      this.mem.store64(at, 1, 0);
      return;
    }
    this.mem.store64(at + 8, did, this.hasAts ? 1 : 0);
    this.mem.store64(at, root * PAGE + 3 + (levels << 9), RW_HI);
  }

  // Commands, 2.4.

  queue(w0: number, w1: number, w2: number, w3: number, unit = 0): void {
    const one = this.units[unit];
    const at = one.ring * PAGE + one.tail;
    this.mem.store64(at, w0, w1);
    this.mem.store64(at + 8, w2, w3);
    one.tail = (one.tail + 16) % PAGE;
  }

  override invPages(did: number, page: number, lg2 = 0, leavesOnly = false, unit = 0): void {
    const size = lg2 === 0 ? 0 : 1 + (2 ** (lg2 - 1) - 1) * PAGE;
    this.queue(0, (3 << 28) + did, page * PAGE + size + (leavesOnly ? 0 : 2), 0, unit);
  }

  override invDomain(did: number, unit = 0): void {
    this.queue(0, (3 << 28) + did, 0xfffff003 | 0, 0x7fffffff, unit);
  }

  override invAll(unit = 0): void {
    this.queue(0, (8 << 28) | 0, 0, 0, unit);
  }

  override invDevice(sid: number, _did: number, unit = 0): void {
    this.queue(sid, 2 << 28, 0, 0, unit);
  }

  protected override queueDeviceTlb(sid: number, lo: number, hi: number, unit: number): void {
    this.queue(sid, 4 << 28, lo, hi, unit);
  }

  override wait(unit = 0): void {
    const one = this.units[unit];
    one.data += 1;
    this.queue(one.cell + 1, 1 << 28, one.data, 0, unit);
  }

  override ring(unit = 0): void {
    this.platform.writel(this.units[unit].base + CMD_TAIL, this.units[unit].tail);
  }

  override look(unit = 0): void {
    const { cell } = this.units[unit];
    this.platform.loadShared32(cell);
    this.platform.loadShared32(cell + 4);
  }
}
