/** An AMD-Vi unit as software programs it. AMD 48882 sections 2.2.2 (device table), 2.4 (commands), 3.4 (registers). */
import { TWO_32 } from '../base/index.ts';
import type { Platform } from '../mem/index.ts';
import { amdvi } from '../spec/index.ts';
import type { Command } from './command.ts';
import { rangeStart, sizedRange } from './command.ts';
import type { EntryFormat } from './entry-format.ts';
import { AMD_FORMAT, entryPfn } from './entry-format.ts';
import type { Tables } from './tables.ts';
import type { DeviceEntry, StaleEntry } from './unit.ts';
import { BLOCKED, Unit } from './unit.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  ADDR_MASK_HI,
  CAP_NP_CACHE,
  CMD_BASE_REG,
  CMD_COMPLETION_WAIT,
  CMD_DEVICE_MASK_W0,
  CMD_DOMAIN_MASK_W1,
  CMD_INVALIDATE_DEVTAB_ENTRY,
  CMD_INVALIDATE_IOMMU_ALL,
  CMD_INVALIDATE_IOMMU_PAGES,
  CMD_INVALIDATE_IOTLB_PAGES,
  CMD_OP_SHIFT_W1,
  CMD_TAIL_REG,
  CONTROL_IOMMU_EN,
  CONTROL_REG,
  DEV_TABLE_REG,
  DEV_TABLE_SIZE_MASK_LO,
  DTE_BYTES,
  DTE_DOMAIN_MASK_W2,
  DTE_IOTLB_W3,
  DTE_MODE_MASK,
  DTE_MODE_SHIFT_W0,
  DTE_TV_W0,
  DTE_V_W0,
  INV_PDE_W2,
  INV_SIZE_W2,
  MAX_LEVELS,
  REG_WINDOW_BYTES,
  RING_ENTRY_BYTES,
  RING_LEN_MASK,
  RING_LEN_SHIFT_HI,
  RING_POINTER_MASK,
  WAIT_STORE_W0,
} = amdvi;
const PASS: DeviceEntry = { kind: 'pass', domainId: 0, rootPfn: 0, levels: 0, rights: 3, hasAts: false };

export class AmdviUnit extends Unit {
  readonly format: EntryFormat = AMD_FORMAT;
  readonly levels: number = MAX_LEVELS;
  readonly cachesNotPresent: boolean;
  readonly storesLag: boolean = false;
  readonly #serves: (sid: number) => boolean;
  readonly #registers = new Int32Array(REG_WINDOW_BYTES / 4);
  #table = -1;
  #tableBytes = 0;
  #tail = 0;
  /** The low half of a sequence number that software looked at, and where. */
  #lookedAt = -1;
  #looked = 0;

  /** @param capHeader first word of the capability block */
  constructor(
    platform: Platform,
    tables: Tables,
    base: number,
    index: number,
    capHeader: number,
    serves: (sid: number) => boolean,
  ) {
    super(platform, tables, base, index);
    this.cachesNotPresent = (capHeader & CAP_NP_CACHE) !== 0;
    this.#serves = serves;
  }

  override written(offset: number, lo: number, hi: number | null): void {
    this.#registers[offset >> 2] = lo;
    if (hi !== null) this.#registers[(offset >> 2) + 1] = hi;
    if (offset === CMD_TAIL_REG) this.#doorbell(lo & RING_POINTER_MASK);
    else if (offset === CMD_BASE_REG) this.#tail = 0;
    else if (offset === CONTROL_REG) this.#control(lo);
  }

  override read(): void {}

  #word(offset: number): number {
    return this.#registers[offset >> 2];
  }

  #control(value: number): void {
    const isOn = (value & CONTROL_IOMMU_EN) !== 0;
    if (isOn && !this.isOn) {
      const lo = this.#word(DEV_TABLE_REG);
      this.#table = entryPfn(lo, this.#word(DEV_TABLE_REG + 4)) * 4096;
      this.#tableBytes = ((lo & DEV_TABLE_SIZE_MASK_LO) + 1) * 4096;
      for (let at = 0; at < this.#tableBytes; at += 4096) this.tables.watchFrame((this.#table + at) / 4096);
      for (let sid = 0; sid * DTE_BYTES < this.#tableBytes; sid++) this.#entry(sid, this.#table, false);
    }
    this.isOn = isOn;
  }

  /** Reads a device table entry anew. */
  #entry(sid: number, paddr: number, cached: boolean): void {
    const at = this.#table + sid * DTE_BYTES;
    const entry = this.#decode(at);
    if (entry === BLOCKED && !this.devices.has(sid)) return;
    if (this.#serves(sid)) this.entryChanged(sid, entry, paddr, cached);
  }

  #decode(at: number): DeviceEntry {
    const { mem } = this.platform;
    const w0 = mem.load32(at);
    const w1 = mem.load32(at + 4);
    if ((w0 & DTE_V_W0) === 0) return PASS;
    if ((w0 & DTE_TV_W0) === 0) return BLOCKED;
    const domainId = mem.load32(at + 8) & DTE_DOMAIN_MASK_W2;
    const levels = (w0 >>> DTE_MODE_SHIFT_W0) & DTE_MODE_MASK;
    const rights = (w1 >>> 29) & 3;
    if (rights === 0) return BLOCKED;
    const hasAts = (mem.load32(at + 12) & DTE_IOTLB_W3) !== 0;
    if (levels === 0) return { kind: 'pass', domainId, rootPfn: 0, levels: 0, rights, hasAts };
    return { kind: 'table', domainId, rootPfn: entryPfn(w0, w1), levels, rights, hasAts };
  }

  override stored(paddr: number, nrBytes: number): void {
    if (this.#table < 0 || paddr + nrBytes <= this.#table || paddr >= this.#table + this.#tableBytes) return;
    const first = Math.floor((paddr - this.#table) / DTE_BYTES);
    const last = Math.floor((paddr + nrBytes - 1 - this.#table) / DTE_BYTES);
    for (let sid = first; sid <= last; sid++) this.#entry(sid, paddr, true);
  }

  #doorbell(tail: number): void {
    const { mem } = this.platform;
    const lo = this.#word(CMD_BASE_REG);
    const hi = this.#word(CMD_BASE_REG + 4);
    const bufferPfn = entryPfn(lo, hi);
    const mask = (RING_ENTRY_BYTES << ((hi >>> RING_LEN_SHIFT_HI) & RING_LEN_MASK)) - 1;
    let offset = this.#tail & mask;
    for (; offset !== (tail & mask); offset = (offset + RING_ENTRY_BYTES) & mask) {
      const page = mem.slotOf(bufferPfn + (offset >> 12));
      if (page < 0) {
        this.submit(this.#command(0, 0, 0, 0));
        continue;
      }
      const { words } = mem;
      const at = (page << 10) + ((offset & 4095) >> 2);
      this.submit(this.#command(words[at], words[at + 1], words[at + 2], words[at + 3]));
    }
    this.#tail = offset;
  }

  #command(w0: number, w1: number, w2: number, w3: number): Command {
    const step = ++this.tables.step;
    switch (w1 >>> CMD_OP_SHIFT_W1) {
      case CMD_INVALIDATE_DEVTAB_ENTRY:
        return this.commands.device(step, 0, w0 & CMD_DEVICE_MASK_W0, 0);
      case CMD_INVALIDATE_IOMMU_PAGES:
        return this.#pages(step, w1 & CMD_DOMAIN_MASK_W1, w2, w3);
      case CMD_INVALIDATE_IOTLB_PAGES:
        return this.commands.deviceTlb(step, w0 & CMD_DEVICE_MASK_W0, w2, w3, (w2 & INV_SIZE_W2) !== 0);
      case CMD_INVALIDATE_IOMMU_ALL:
        // Everything, the copies of device table entries included: two commands in one.
        this.submit(this.commands.take('all-devices', step));
        return this.commands.take('all', ++this.tables.step);
      case CMD_COMPLETION_WAIT: {
        const paddr = (w1 & ADDR_MASK_HI) * TWO_32 + ((w0 & -8) >>> 0);
        const data = (w3 >>> 0) * TWO_32 + (w2 >>> 0);
        const { mem } = this.platform;
        const held = mem.load32(paddr) >>> 0;
        const isBlind = (w0 & WAIT_STORE_W0) === 0 || (mem.load32(paddr + 4) >>> 0) * TWO_32 + held >= data;
        return this.commands.wait(step, paddr, data, isBlind);
      }
      default:
        return this.commands.take('other', step);
    }
  }

  #pages(step: number, domainId: number, w2: number, w3: number): Command {
    const leavesOnly = (w2 & INV_PDE_W2) === 0;
    const pages = (w2 & INV_SIZE_W2) === 0 ? 1 : sizedRange(w2, w3);
    if (pages === Infinity) return this.commands.domain('domain', step, domainId, leavesOnly);
    return this.commands.pages(step, domainId, rangeStart(w2, w3, pages), pages, leavesOnly);
  }

  /** Software reads a number of 64 bits in halves, the low one first. */
  override loaded(paddr: number, value: number): void {
    if ((paddr & 7) === 0) {
      this.#lookedAt = paddr;
      this.#looked = value >>> 0;
      super.loaded(paddr, value >>> 0);
      return;
    }
    if (paddr === this.#lookedAt + 4) super.loaded(this.#lookedAt, (value >>> 0) * TWO_32 + this.#looked);
  }

  protected override proves(wait: Command, value: number): boolean {
    return value >= wait.data;
  }

  protected override matchesDomain(_stale: StaleEntry, _domainId: number): boolean {
    return true;
  }

  override tagOf(): string {
    return '';
  }

  protected override emptied(): void {}
}
