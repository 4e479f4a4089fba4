/**
 * An AMD-Vi unit with tables written by hand, word by word as the specification draws them (never through src/pt), for the
 * tests of this folder. Addresses of tables are chosen by a counter from 16 MiB.
 */
import { ManualClock } from '../../../src/base/index.ts';
import { AmdviUnit, type AmdviConfig, type AmdviFaultRecord } from '../../../src/hw/index.ts';
import { PhysMem } from '../../../src/mem/index.ts';

export const R = 1;
export const W = 2;
export const RW = 3;
export const GiB = 2 ** 30;
/** 00:02.0 */
export const SID = 0x10;
export const DID = 5;

export const RUNNING = 0x1005;
/** Events as translate() gives them. */
export const ILLEGAL_DTE = -1;
export const PAGE_FAULT = -2;
export const DEV_TAB_ERROR = -3;
export const PAGE_TAB_ERROR = -4;
export const INVALID_REQUEST = -8;
export const INVALID_PPR = -9;

const TWO_32 = 2 ** 32;
const lo = (value: number): number => (value % TWO_32) | 0;
const hi = (value: number): number => Math.floor(value / TWO_32);

export interface PagesFields {
  s?: boolean;
  pde?: boolean;
}

/** INVALIDATE_IOMMU_PAGES with the address bits as they are. */
export const pages = (did: number, address: bigint, fields: PagesFields = {}): number[] => [
  0,
  0x30000000 | did,
  Number(address & 0xfffff000n) | (fields.s ? 1 : 0) | (fields.pde === false ? 0 : 2),
  Number(address >> 32n) | 0,
];
export const page = (did: number, iova: number, fields: PagesFields = {}): number[] => pages(did, BigInt(iova), fields);
export const allPages = (did: number, fields: PagesFields = {}): number[] =>
  pages(did, 0x7ffffffffffff000n, { s: true, ...fields });
export const device = (sid: number): number[] => [sid, 0x20000000, 0, 0];
export const all = (): number[] => [0, 0x80000000 | 0, 0, 0];

export interface DteFields {
  did?: number;
  levels?: number;
  top?: number;
  v?: boolean;
  tv?: boolean;
  rights?: number;
  /** Word 3: I 1, SE 2, SA 4, EX 0x80. */
  w3?: number;
  w0?: number;
  w1?: number;
}

export class Rig {
  readonly mem: PhysMem = new PhysMem();
  readonly clock: ManualClock = new ManualClock();
  readonly unit: AmdviUnit;
  readonly devices: number;
  readonly buffer: number;
  readonly log: number;
  readonly status: number;
  tail = 0;
  private nextPfn = 0x1000;

  constructor(config: AmdviConfig = {}) {
    this.unit = new AmdviUnit(this.mem, this.clock, config);
    this.devices = this.table();
    this.table();
    this.buffer = this.table();
    this.log = this.table();
    this.status = this.table();
  }

  /** A zeroed page; its address. */
  table(): number {
    const pfn = this.nextPfn++;
    this.mem.ensure(pfn);
    return pfn * 4096;
  }

  /** Writes a device table entry; gives the address of its top table. */
  dte(sid: number, fields: DteFields = {}): number {
    const top = fields.top ?? this.table();
    const at = this.devices + sid * 32;
    const w0 = lo(top) | ((fields.levels ?? 4) << 9) | (fields.tv === false ? 0 : 2) | (fields.v === false ? 0 : 1);
    this.mem.store64(at, w0 | (fields.w0 ?? 0), hi(top) | ((fields.rights ?? RW) << 29) | (fields.w1 ?? 0));
    this.mem.store64(at + 8, fields.did ?? DID, fields.w3 ?? 0);
    return top;
  }

  /** Writes an entry: next level, address, IR and IW, PR unless told not to. */
  entry(at: number, next: number, address: number, rights = RW, present = true): void {
    this.mem.store64(at, lo(address) | (next << 9) | (present ? 1 : 0), hi(address) | (rights << 29));
  }

  /** Address of the entry for an IOVA in the table of `level`; missing tables above it are made, one for each level. */
  entryAt(top: number, levels: number, iova: number, level: number): number {
    let table = top;
    for (let above = levels; above > level; above--) {
      const at = table + indexAt(iova, above) * 8;
      if (this.mem.load32(at) === 0) this.entry(at, above - 1, this.table());
      table = (this.mem.load32(at) & -4096) >>> 0;
    }
    return table + indexAt(iova, level) * 8;
  }

  /** Maps a page of any size: by one entry of its level's size, or by as many copies of a coded one as it spans. */
  map(top: number, iova: number, paddr: number, rights = RW, sizeLg2 = 12, levels = 4): void {
    const level = Math.floor((sizeLg2 - 12) / 9) + 1;
    const at = this.entryAt(top, levels, iova, level);
    const defaultLg2 = 3 + level * 9;
    if (sizeLg2 === defaultLg2) return this.entry(at, 0, paddr, rights);
    const coded = paddr + 2 ** (sizeLg2 - 1) - 4096;
    for (let copy = 0; copy < 2 ** (sizeLg2 - defaultLg2); copy++) this.entry(at + copy * 8, 7, coded, rights);
  }

  unmap(top: number, iova: number, level = 1, levels = 4): void {
    this.mem.store64(this.entryAt(top, levels, iova, level), 0, 0);
  }

  /** Device table of 256 devices, rings of 256 entries, everything on. */
  enable(control = RUNNING): this {
    this.unit.write64(0x00, this.devices | 1, 0);
    this.unit.write64(0x08, this.buffer, 8 << 24);
    this.unit.write64(0x10, this.log, 8 << 24);
    this.unit.write64(0x18, control, 0);
    return this;
  }

  /** Puts commands behind the tail and rings. */
  submit(...commands: number[][]): void {
    for (const [w0, w1, w2, w3] of commands as [number, number, number, number][]) {
      this.mem.store64(this.buffer + this.tail * 16, w0, w1);
      this.mem.store64(this.buffer + this.tail * 16 + 8, w2, w3);
      this.tail = (this.tail + 1) % 256;
    }
    this.unit.write32(0x2008, this.tail * 16);
  }

  wait(data: number, dataHi = 0): number[] {
    return [this.status | 1, 0x10000000, data, dataHi];
  }

  /** The four words of an entry of the event log. */
  event(index: number): number[] {
    return [0, 4, 8, 12].map((offset) => this.mem.load32(this.log + index * 16 + offset) >>> 0);
  }

  /** Events not taken yet; then takes them, as a driver does: head to tail, status bits cleared. */
  takeEvents(): AmdviFaultRecord[] {
    const found = this.unit.pendingFaults();
    this.unit.write32(0x2010, this.unit.read32(0x2018));
    this.unit.write32(0x2020, 6);
    return found;
  }
}

function indexAt(iova: number, level: number): number {
  return Math.floor(iova / 4096 / 512 ** (level - 1)) % 512;
}

/**
 * Translation as the specification words it, in bigint over memory, with no cache at all.
 * @returns the address, or minus the event code with the flags of a page fault (PR 0x10, PE 0x40, RZ 0x80) as a fraction of
 * 0x1000, so that one number tells both
 */
export function naive(rig: Rig, sid: number, iova: bigint, access: number): bigint {
  const load = (at: bigint): bigint | null => {
    if (rig.mem.slotOf(Number(at >> 12n)) < 0) return null;
    return BigInt(rig.mem.load32(Number(at)) >>> 0) | (BigInt(rig.mem.load32(Number(at) + 4) >>> 0) << 32n);
  };
  const event = (code: bigint, flags = 0n): bigint => -((code << 12n) | flags);
  const fault = (flags: bigint): bigint => event(2n, flags);
  const lowest51To12 = 0xffffffffff000n;
  if (sid >= 256) return fault(0n);
  const at = BigInt(rig.devices + sid * 32);
  const d0 = load(at);
  const d1 = load(at + 8n);
  if (d0 === null || d1 === null) return event(3n, 1n << 9n);
  if ((d0 & 1n) === 0n) return iova;
  // Guest translation and page requests are absent, so their fields are reserved.
  if ((d0 & 0x9ff000000000007cn) !== 0n || (d1 & 0xfffffc00ffff0000n) !== 0n) return event(1n, 0x80n);
  const mode = (d0 >> 9n) & 7n;
  if ((d0 & 2n) !== 0n && mode === 7n) return event(1n);
  if (iova >> 20n === 0xfeen) return (access & W) !== 0 ? iova : event(8n);
  if ((d0 & 2n) === 0n) return fault(0n);
  const wanted = BigInt(access & 3);
  let rights = (d0 >> 61n) & 3n;
  if ((rights & wanted) !== wanted) return fault(0x50n);
  if (mode === 0n) return iova;
  if (iova >> (12n + 9n * mode) !== 0n) return fault(0x10n);
  let table = d0 & lowest51To12;
  let level = mode;
  for (;;) {
    const entry = load(table + ((iova >> (3n + 9n * level)) & 511n) * 8n);
    if (entry === null) return event(4n, 1n << 9n);
    if ((entry & 1n) === 0n) return fault(0n);
    const next = (entry >> 9n) & 7n;
    const isLeaf = next === 0n || next === 7n;
    if ((entry & (isLeaf ? 0x07f0000000000000n : 0x1ff0000000000000n)) !== 0n) return fault(0x90n);
    rights &= (entry >> 61n) & 3n;
    if (isLeaf) {
      let size = 3n + 9n * level;
      if (level === 6n) return fault(0x10n);
      if (next === 7n) {
        const coded = (entry & lowest51To12) | 0xfffn;
        let zero = 12n;
        while (((coded >> zero) & 1n) === 1n) zero++;
        if (zero + 1n <= size || zero + 1n >= size + 9n) return fault(0x10n);
        size = zero + 1n;
      }
      if ((rights & wanted) !== wanted) return fault(0x50n);
      const mask = (1n << size) - 1n;
      return (entry & lowest51To12 & ~mask) | (iova & mask & 0xfffffffffffffn);
    }
    if (next >= level) return fault(0x10n);
    for (let skipped = next + 1n; skipped < level; skipped++) {
      if (((iova >> (3n + 9n * skipped)) & 511n) !== 0n) return fault(0x10n);
    }
    table = entry & lowest51To12;
    level = next;
  }
}

/** What the unit did with a request in the form of `naive`: the event that it logged last, or the address. */
export function observed(rig: Rig, sid: number, iova: number, access: number): bigint {
  rig.takeEvents();
  const got = rig.unit.translate(sid, iova, access);
  if (got >= 0) return BigInt(got);
  const record = rig.takeEvents().at(-1);
  if (record === undefined) return -1n;
  if (record.reason !== -got) throw new Error(`translate gave ${got}, the log says event ${record.reason}`);
  return -((BigInt(record.reason) << 12n) | BigInt(record.flags & ~0x20));
}
