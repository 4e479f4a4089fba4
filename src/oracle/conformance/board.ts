/**
 * What a case's set-up means in memory and registers: root, context and device tables, page tables, command queue and event log.
 * Written from the specifications' drawings, never with src/pt.
 */
import { TWO_32 } from '../../base/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import { ARENA } from './bench.ts';
import type { Bench } from './bench.ts';
import type { ContextStep, DeviceStep, EntryStep, PageStep, Rights } from './case.ts';

/** Where the fixed structures of a case are. The root table and the device table share a place. */
export const ROOT: number = ARENA;
export const QUEUE: number = ARENA + 0x20000;
export const STATUS: number = ARENA + 0x21000;
export const EVENT_LOG: number = ARENA + 0x22000;
const FIRST_TABLE = ARENA + 0x40000;
/** First frame, and how many, for software's own table writer. */
export const WRITER_PFN: number = (ARENA + 0x80000) / 4096;
export const WRITER_PAGES = 256;
const DEVICE_TABLE_PAGES = 4;
const LG2_MIN_RING = 8;
const NR_SLOTS = 256;
/** Context entries and DMA parts default to this domain. */
const DOMAIN = 5;
const DEFAULT_LEVELS = 4;

const low = (value: number): number => value | 0;
const high = (value: number): number => Math.floor(value / TWO_32);

function rightsBits(rights: Rights): number {
  return (rights.includes('r') ? 1 : 0) | (rights.includes('w') ? 2 : 0);
}

/** One case's structures. */
export class Board {
  readonly bench: Bench;
  /** Tables that exist: top, level and the address bits above them, to where they are. */
  readonly #tables = new Map<string, number>();
  readonly #contextTables = new Map<number, number>();
  #next = FIRST_TABLE;
  #tail = 0;

  constructor(bench: Bench) {
    this.bench = bench;
    const nrRootPages = bench.arch === 'intel' ? 1 : DEVICE_TABLE_PAGES;
    for (let page = 0; page < nrRootPages; page++) bench.page(ROOT + page * 4096);
    for (const page of [QUEUE, STATUS, EVENT_LOG]) bench.page(page);
  }

  #newPage(): number {
    const page = this.#next;
    this.#next += 4096;
    this.bench.page(page);
    return page;
  }

  /** The table that serves an address at a level; of the top level there is one. */
  #table(top: number, level: number, levels: number, iova: number): number {
    const prefix = level === levels ? 0 : Math.floor(iova / 2 ** (12 + 9 * level));
    const key = `${top}/${level === levels ? 'top' : level}/${prefix}`;
    const found = this.#tables.get(key) ?? this.#newPage();
    this.#tables.set(key, found);
    return found;
  }

  topOf(top: number): number {
    return this.#table(top, DEFAULT_LEVELS, DEFAULT_LEVELS, 0);
  }

  /** The context table of a bus. */
  #contexts(bus: number): number {
    const found = this.#contextTables.get(bus) ?? this.#newPage();
    this.#contextTables.set(bus, found);
    return found;
  }

  root(bus: number, lo: number): void {
    this.bench.store(ROOT + bus * 16, this.#contexts(bus) | lo, 0);
  }

  context(step: ContextStep, top: number): void {
    const sid = this.bench.sids[step.device];
    const bus = sid >>> 8;
    if (!this.#contextTables.has(bus)) this.root(bus, vtd.ROOT_PRESENT);
    const at = this.#contexts(bus) + (sid & 0xff) * 16;
    const flags =
      (step.present === false ? 0 : vtd.CONTEXT_PRESENT) |
      (step.fpd === true ? vtd.CONTEXT_FPD : 0) |
      ((step.type ?? 0) << vtd.CONTEXT_TT_SHIFT);
    const width = (step.levels ?? DEFAULT_LEVELS) - 2;
    this.bench.store(at + 8, width | ((step.did ?? DOMAIN) << vtd.CONTEXT_DID_SHIFT_W2) | (step.w2 ?? 0), 0);
    this.bench.store(at, low(top) | flags | (step.w0 ?? 0), high(top));
  }

  device(step: DeviceStep, top: number): void {
    const at = ROOT + this.bench.sids[step.device] * amdvi.DTE_BYTES;
    const flags = (step.valid === false ? 0 : amdvi.DTE_V_W0) | (step.translates === false ? 0 : amdvi.DTE_TV_W0);
    const levels = (step.levels ?? DEFAULT_LEVELS) << amdvi.DTE_MODE_SHIFT_W0;
    const rights = rightsBits(step.rights ?? 'rw') << 29;
    this.bench.store(at + 8, step.domain ?? DOMAIN, step.w3 ?? 0);
    this.bench.store(at, low(top) | levels | flags | (step.w0 ?? 0), high(top) | rights | (step.w1 ?? 0));
  }

  /** Where the entry for an address stands in its table of a level; the tables above are made where they are missing. */
  #entryAt(step: PageStep | EntryStep, level: number, above: Rights): number {
    const top = step.top ?? 0;
    const levels = step.levels ?? DEFAULT_LEVELS;
    let table = this.#table(top, levels, levels, step.iova);
    const skips = step.do === 'page' && step.skips === true;
    for (let from = levels; from > level;) {
      const to = skips ? level : from - 1;
      const next = this.#table(top, to, levels, step.iova);
      const at = table + (Math.floor(step.iova / 2 ** (3 + 9 * from)) % 512) * 8;
      this.#storeTable(at, next, to, above);
      table = next;
      from = to;
    }
    return table + (Math.floor(step.iova / 2 ** (3 + 9 * level)) % 512) * 8;
  }

  #storeTable(at: number, table: number, level: number, above: Rights): void {
    const rights = rightsBits(above);
    if (this.bench.arch === 'intel') this.bench.store(at, low(table) | rights, high(table));
    else {
      const next = level << amdvi.PTE_NEXT_LEVEL_SHIFT_LO;
      this.bench.store(at, low(table) | next | amdvi.PTE_PR_LO, high(table) | (rights << 29));
    }
  }

  page(step: PageStep): void {
    const lg2 = step.lg2 ?? 12;
    const level = Math.floor((lg2 - 12) / 9) + 1;
    const at = this.#entryAt(step, level, step.above ?? 'rw');
    const rights = rightsBits(step.rights ?? 'rw');
    if (this.bench.arch === 'intel') {
      const flags = rights | (level > 1 ? vtd.SS_PAGE_SIZE : 0) | (step.lo ?? 0);
      this.bench.store(at, low(step.paddr) | flags, high(step.paddr) | (step.hi ?? 0));
      return;
    }
    const isSized = (lg2 - 12) % 9 !== 0;
    // All bits of the page's offset from bit 12 up but the last: ones. The last: zero.
    const code = isSized ? 2 ** (lg2 - 1) - 4096 : 0;
    const next = (isSized ? amdvi.NEXT_LEVEL_SIZED_LEAF : amdvi.NEXT_LEVEL_LEAF) << amdvi.PTE_NEXT_LEVEL_SHIFT_LO;
    const address = step.paddr + code;
    for (let replica = 0; replica < 2 ** ((lg2 - 12) % 9); replica++) {
      const lo = low(address) | next | amdvi.PTE_PR_LO | (step.lo ?? 0);
      this.bench.store(at + replica * 8, lo, high(address) | (rights << 29) | (step.hi ?? 0));
    }
  }

  entry(step: EntryStep): void {
    this.bench.store(this.#entryAt(step, step.level, 'rw'), step.lo, step.hi);
  }

  /** Switches the unit on. @param control AMD's control register, low word */
  on(queue: boolean, translation: boolean, control: number | undefined): void {
    const { bench } = this;
    if (bench.arch === 'amd') {
      const ring = LG2_MIN_RING << amdvi.RING_LEN_SHIFT_HI;
      bench.writeq(amdvi.DEV_TABLE_REG, low(ROOT) | (DEVICE_TABLE_PAGES - 1), high(ROOT));
      bench.writeq(amdvi.CMD_BASE_REG, low(QUEUE), high(QUEUE) | ring);
      bench.writeq(amdvi.EVT_BASE_REG, low(EVENT_LOG), high(EVENT_LOG) | ring);
      const all = (translation ? amdvi.CONTROL_IOMMU_EN : 0) | amdvi.CONTROL_EVENT_LOG_EN;
      bench.writel(amdvi.CONTROL_REG, control ?? all | (queue ? amdvi.CONTROL_CMD_BUF_EN : 0));
      return;
    }
    bench.writeq(vtd.RTADDR_REG, low(ROOT), high(ROOT));
    bench.writel(vtd.GCMD_REG, vtd.GCMD_SRTP);
    if (queue) {
      bench.writeq(vtd.IQT_REG, 0, 0);
      bench.writeq(vtd.IQA_REG, low(QUEUE), high(QUEUE));
      bench.writel(vtd.GCMD_REG, vtd.GCMD_QIE);
    }
    if (translation) bench.writel(vtd.GCMD_REG, vtd.GCMD_TE | (queue ? vtd.GCMD_QIE : 0));
  }

  queue(commands: readonly (readonly number[])[]): void {
    const { bench } = this;
    for (const [w0, w1, w2, w3] of commands) {
      bench.store(QUEUE + this.#tail * 16, w0, w1);
      bench.store(QUEUE + this.#tail * 16 + 8, w2, w3);
      this.#tail = (this.#tail + 1) % NR_SLOTS;
    }
    if (bench.arch === 'intel') bench.writeq(vtd.IQT_REG, this.#tail << vtd.IQ_INDEX_SHIFT, 0);
    else bench.writel(amdvi.CMD_TAIL_REG, this.#tail * amdvi.RING_ENTRY_BYTES);
  }
}
