/**
 * A VT-d unit with tables written by hand, word by word as the specification draws them (never through src/pt), for the
 * tests of test/hw. Addresses of tables are chosen by a counter from 16 MiB.
 */
import { ManualClock } from '../../src/base/index.ts';
import { VtdUnit, type VtdConfig } from '../../src/hw/index.ts';
import { PhysMem } from '../../src/mem/index.ts';

export const R = 1;
export const W = 2;
export const RW = 3;
export const PS = 0x80;
export const GiB = 2 ** 30;
/** 00:02.0 */
export const SID = 0x10;

export const iotlbPage = (did: number, iova: number, am = 0, ih = 0): number[] => [
  0x32 | (did << 16),
  0,
  (iova % 2 ** 32) | (ih << 6) | am,
  Math.floor(iova / 2 ** 32),
];
export const iotlbDomain = (did: number): number[] => [0x22 | (did << 16), 0, 0, 0];
export const iotlbGlobal = (): number[] => [0x12, 0, 0, 0];
export const contextGlobal = (): number[] => [0x11, 0, 0, 0];
export const contextDomain = (did: number): number[] => [0x21 | (did << 16), 0, 0, 0];
export const contextDevice = (did: number, sid: number, fm = 0): number[] => [
  0x31 | (did << 16),
  sid | (fm << 16),
  0,
  0,
];

export interface ContextFields {
  did?: number;
  levels?: number;
  tt?: number;
  fpd?: boolean;
  present?: boolean;
  top?: number;
}

export class Rig {
  readonly mem: PhysMem;
  readonly clock: ManualClock = new ManualClock();
  readonly unit: VtdUnit;
  readonly root: number;
  readonly queue: number;
  readonly status: number;
  tail = 0;
  private nextPfn = 0x1000;

  constructor(config: VtdConfig = {}, coherent = true) {
    this.mem = new PhysMem({ coherent });
    this.unit = new VtdUnit(this.mem, this.clock, config);
    this.root = this.table();
    this.queue = this.table();
    this.status = this.table();
  }

  /** A zeroed page; its address. */
  table(): number {
    const pfn = this.nextPfn++;
    this.mem.ensure(pfn);
    return pfn * 4096;
  }

  store(at: number, lo: number, hi = 0): void {
    this.mem.store64(at, lo, hi);
    this.mem.flush(at, 8);
  }

  /** Writes root and context entry of a device; gives the address of its top table. */
  context(sid: number, fields: ContextFields = {}): number {
    const rootEntry = this.root + (sid >> 8) * 16;
    if (this.mem.load32(rootEntry) === 0) this.store(rootEntry, this.table() | 1);
    const top = fields.top ?? this.table();
    const at = this.contextAt(sid);
    const lo = top % 2 ** 32;
    this.store(at + 8, ((fields.did ?? 5) << 8) | ((fields.levels ?? 4) - 2));
    this.store(
      at,
      lo | ((fields.tt ?? 0) << 2) | (fields.fpd ? 2 : 0) | (fields.present === false ? 0 : 1),
      Math.floor(top / 2 ** 32),
    );
    return top;
  }

  contextAt(sid: number): number {
    return (this.mem.load32(this.root + (sid >> 8) * 16) & -4096) + (sid & 0xff) * 16;
  }

  /** Address of the entry for an IOVA in the table of `level`; missing tables above it are made, readable and writable. */
  entryAt(top: number, levels: number, iova: number, level: number): number {
    let table = top;
    for (let above = levels; above > level; above--) {
      const at = table + (Math.floor(iova / 4096 / 512 ** (above - 1)) % 512) * 8;
      if (this.mem.load32(at) === 0) this.store(at, this.table() | RW);
      table = this.mem.load32(at) & -4096;
    }
    return table + (Math.floor(iova / 4096 / 512 ** (level - 1)) % 512) * 8;
  }

  /** Maps a page by an entry at `level` of a 4-level table. */
  map(top: number, iova: number, paddr: number, rights = RW, level = 1, levels = 4): void {
    const lo = (paddr % 2 ** 32) | rights | (level > 1 ? PS : 0);
    this.store(this.entryAt(top, levels, iova, level), lo, Math.floor(paddr / 2 ** 32));
  }

  unmap(top: number, iova: number, level = 1, levels = 4): void {
    this.store(this.entryAt(top, levels, iova, level), 0);
  }

  /** Root pointer, queue and translation on. */
  enable(): this {
    this.unit.write64(0x20, this.root, 0);
    this.unit.write32(0x18, 0x40000000);
    if (this.unit.config.qi) {
      this.unit.write64(0x90, this.queue, 0);
      this.unit.write32(0x18, 0x04000000);
    }
    this.unit.write32(0x18, this.unit.config.qi ? 0x84000000 : 0x80000000);
    return this;
  }

  /** Puts descriptors behind the tail and rings. */
  submit(...descriptors: number[][]): void {
    const size = 256 << (this.unit.read32(0x90) & 7);
    for (const [w0, w1, w2, w3] of descriptors as [number, number, number, number][]) {
      this.mem.store64(this.queue + this.tail * 16, w0, w1);
      this.mem.store64(this.queue + this.tail * 16 + 8, w2, w3);
      this.tail = (this.tail + 1) % size;
    }
    this.unit.write64(0x88, this.tail << 4, 0);
  }

  wait(data: number): number[] {
    return [0x25, data, this.status, 0];
  }

  /** Clears all pending faults as a driver does. */
  clearFaults(): void {
    for (let index = 0; index < this.unit.config.nfr; index++) this.unit.write32(0x220 + index * 16 + 12, 0x80000000);
    this.unit.write32(0x34, 0x71);
  }
}
