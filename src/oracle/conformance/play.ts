/** Puts a case through a bench and tells what was seen otherwise than the case says. */
import { hi32, lo32 } from '../../base/index.ts';
import { PageAllocator } from '../../mem/index.ts';
import { AmdV1Format, PROT_READ, PROT_WRITE, PageTable, VtdSsFormat } from '../../pt/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import type { Bench } from './bench.ts';
import { isQemuMemory } from './bench.ts';
import { Board, EVENT_LOG, WRITER_PAGES, WRITER_PFN } from './board.ts';
import type { Action, BlockStep, ConformanceCase, DmaStep, Judge, RecordStep, Sight, SpanStep } from './case.ts';
import { isSight } from './case.ts';
import { countLeaves } from './leaves.ts';

const FRCD = 0x220;
const EVENT_LOG_MASK = 0xfff;
/** Pages of a span that are asked for: enough for every boundary of what was mapped there, and on QEMU each is a round trip. */
const SPAN_PAGES: Readonly<Record<Judge, number>> = { model: 512, qemu: 8 };

/** QEMU's AMD unit never logs an event: an error in the test that decides it, in 7.2 and 10.0. */
export const QEMU_LOGS_NO_EVENTS =
  'QEMU 7.2 and 10.0 never write an event: amdvi_test_mask ORs where it should AND, so logging returns early';

type Values = Readonly<Record<string, number>>;

/** One value that was not as said. */
export interface Mismatch {
  readonly step: number;
  /** What the step looks at. */
  readonly see: Sight['see'];
  readonly name: string;
  readonly expected: number;
  readonly seen: number;
}

export interface CaseResult {
  readonly mismatches: readonly Mismatch[];
  /** Why this judge sees otherwise than the source expects, once each. */
  readonly reasons: readonly string[];
  /** Values compared. */
  readonly nrValues: number;
}

class Player {
  readonly #bench: Bench;
  readonly #board: Board;
  readonly #pages: PageAllocator;
  #writer: PageTable | null = null;
  #eventsSeen = 0;

  constructor(bench: Bench) {
    bench.reset();
    this.#bench = bench;
    this.#board = new Board(bench);
    this.#pages = new PageAllocator(bench.mem, { basePfn: WRITER_PFN, nrPages: WRITER_PAGES });
  }

  #table(): PageTable {
    if (this.#writer === null) throw new RangeError('the case has no step that makes a writer');
    return this.#writer;
  }

  #topOf(top: number | 'software' | undefined): number {
    return top === 'software' ? this.#table().rootPfn * 4096 : this.#board.topOf(top ?? 0);
  }

  act(step: Action): void {
    const { arch } = this.#bench;
    switch (step.do) {
      case 'context':
        return this.#board.context(step, this.#topOf(step.top));
      case 'device':
        return this.#board.device(step, this.#topOf(step.top));
      case 'page':
        return this.#board.page(step);
      case 'entry':
        return this.#board.entry(step);
      case 'writel':
        return this.#bench.writel(step.offset, step.value);
      case 'writeq':
        return this.#bench.writeq(step.offset, step.lo, step.hi);
      case 'on':
        return this.#board.on(step.queue ?? true, step.translation ?? true, step.control);
      case 'queue':
        return this.#board.queue(step.commands);
      case 'writer':
      default: {
        const format = arch === 'intel' ? new VtdSsFormat() : new AmdV1Format();
        this.#writer = new PageTable(this.#bench.mem, this.#pages, format, step.levels);
      }
    }
  }

  /** What is seen, and what the source expects to be seen. */
  look(step: Sight): { readonly seen: Values; readonly expected: Values } {
    switch (step.see) {
      case 'register': {
        const value = (this.#bench.readl(step.offset) & step.mask) >>> 0;
        return { seen: { [step.name]: value }, expected: { [step.name]: step.value >>> 0 } };
      }
      case 'word':
        return { seen: { [step.name]: this.#bench.load(step.paddr) }, expected: { [step.name]: step.value >>> 0 } };
      case 'dma':
        return this.#dma(step);
      case 'block':
        return this.#block(step);
      case 'span':
        return this.#span(step);
      case 'record':
        return this.#recorded(step);
      case 'no-record':
        return { seen: this.#record(), expected: { logged: 0 } };
      case 'map': {
        const errno = this.#table().mapBytes(step.iova, step.paddr, step.nrBytes, PROT_READ | PROT_WRITE, { bytes: 0 });
        return { seen: { errno }, expected: { errno: step.errno } };
      }
      case 'unmap': {
        const freed: number[] = [];
        const unmapped = this.#table().unmapBytes(step.iova, step.nrBytes, freed);
        for (const pfn of freed) this.#pages.free(pfn);
        return { seen: { unmapped }, expected: { unmapped: step.unmapped } };
      }
      case 'leaves':
      default:
        return this.#leaves(step.nr);
    }
  }

  #checkPlace(at: number): void {
    if (this.#bench.judge === 'qemu' && !isQemuMemory(at)) {
      throw new RangeError(`QEMU has no memory at 0x${at.toString(16)}: a case has its data below 256 MiB`);
    }
  }

  #dma(step: DmaStep): { seen: Values; expected: Values } {
    this.#checkPlace(step.at);
    const arrives = this.#bench.dma(step.device ?? 0, step.access, step.iova, step.at);
    return { seen: { arrives: Number(arrives) }, expected: { arrives: Number(step.arrives) } };
  }

  #block(step: BlockStep): { seen: Values; expected: Values } {
    const seen: Record<string, number> = {};
    const expected: Record<string, number> = {};
    const found = this.#bench.block(step.device ?? 0, step.access, step.iova, step.parts);
    step.parts.forEach((part, index) => {
      seen[`part${index}`] = Number(found[index]);
      expected[`part${index}`] = Number(part.arrives);
    });
    return { seen, expected };
  }

  #span(step: SpanStep): { seen: Values; expected: Values } {
    const { judge } = this.#bench;
    const nr = step.nrBytes / 4096;
    const asked = Math.min(nr, SPAN_PAGES[judge]);
    let arrived = 0;
    for (let index = 0; index < asked; index++) {
      const page = asked === 1 ? 0 : Math.floor((index * (nr - 1)) / (asked - 1));
      const at = step.at + page * 4096;
      this.#checkPlace(at);
      if (this.#bench.dma(step.device ?? 0, 'write', step.iova + page * 4096, at)) arrived += 1;
    }
    return { seen: { pages: arrived }, expected: { pages: step.arrives ? asked : 0 } };
  }

  #recorded(step: RecordStep): { seen: Values; expected: Values } {
    const isIntel = this.#bench.arch === 'intel';
    const address = isIntel ? step.address - (step.address % 4096) : step.address;
    const { domain, flags } = step;
    const expected: Record<string, number> = {
      logged: 1,
      reason: step.reason,
      sid: step.sid ?? this.#bench.sids[step.device ?? 0],
      addressLo: lo32(address) >>> 0,
      addressHi: hi32(address),
      write: Number(step.access === 'write'),
      ...(domain === undefined ? {} : { domain }),
      ...(flags === undefined ? {} : { flags }),
      // Of VT-d: PPF. Of AMD: that it was the only one.
      [isIntel ? 'pending' : 'alone']: 1,
    };
    return { seen: this.#record(), expected };
  }

  /** The fault since the last look. `logged` is 0 when there was none; then nothing else counts. */
  #record(): Values {
    return this.#bench.arch === 'intel' ? this.#vtdRecord() : this.#amdEvent();
  }

  #vtdRecord(): Values {
    const bench = this.#bench;
    const [lo, hi, w2, w3] = [0, 4, 8, 12].map((at) => bench.readl(FRCD + at));
    if ((w3 & vtd.FRCD_F_W3) === 0) return { logged: 0 };
    const pending = Number((bench.readl(vtd.FSTS_REG) & vtd.FSTS_PPF) !== 0);
    bench.writel(FRCD + 12, vtd.FRCD_F_W3);
    return {
      logged: 1,
      reason: w3 & vtd.FRCD_REASON_MASK_W3,
      sid: w2 & vtd.FRCD_SID_MASK_W2,
      addressLo: lo,
      addressHi: hi,
      write: Number((w3 & vtd.FRCD_T1_W3) === 0),
      pending,
    };
  }

  #amdEvent(): Values {
    const bench = this.#bench;
    const tail = bench.readl(amdvi.EVT_TAIL_REG) & amdvi.RING_POINTER_MASK;
    if (tail === this.#eventsSeen) return { logged: 0 };
    const [w0, w1, lo, hi] = [0, 4, 8, 12].map((at) => bench.load(EVENT_LOG + this.#eventsSeen + at));
    const alone = Number(((this.#eventsSeen + amdvi.RING_ENTRY_BYTES) & EVENT_LOG_MASK) === tail);
    this.#eventsSeen = tail;
    const flags = (w1 >>> amdvi.EVENT_FLAGS_SHIFT_W1) & 0xfff;
    return {
      logged: 1,
      reason: w1 >>> amdvi.EVENT_CODE_SHIFT_W1,
      sid: w0 & amdvi.EVENT_DEVICE_MASK_W0,
      addressLo: lo,
      addressHi: hi,
      write: Number((flags & amdvi.EVENT_FLAG_RW) !== 0),
      domain: w1 & amdvi.EVENT_DOMAIN_MASK_W1,
      flags,
      alone,
    };
  }

  #leaves(nr: Readonly<Record<number, number>>): { seen: Values; expected: Values } {
    const table = this.#table();
    const found = countLeaves(this.#bench.mem, this.#bench.arch, table.rootPfn * 4096, table.levels);
    const named = (counts: Readonly<Record<number, number>>): Record<string, number> =>
      Object.fromEntries(Object.entries(counts).map(([lg2, count]) => [`2^${lg2}`, count]));
    return { seen: { total: sum(found), ...named(found) }, expected: { total: sum(nr), ...named(nr) } };
  }
}

function sum(counts: Readonly<Record<number, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** What this judge is to see, if the step or this file says that it sees otherwise. */
function otherwise(step: Sight, bench: Bench): { readonly sees: Values; readonly why: string } | undefined {
  if (bench.judge === 'qemu' && bench.arch === 'amd' && step.see === 'record') {
    return { sees: { logged: 0 }, why: QEMU_LOGS_NO_EVENTS };
  }
  return step[bench.judge];
}

/** Plays a case. @throws RangeError for a case that asks what a bench cannot do */
export function playCase(bench: Bench, conformanceCase: ConformanceCase): CaseResult {
  const player = new Player(bench);
  const mismatches: Mismatch[] = [];
  const reasons = new Set<string>();
  let nrValues = 0;
  conformanceCase.steps.forEach((step, nr) => {
    if (!isSight(step)) return player.act(step);
    const { see } = step;
    const { seen, expected } = player.look(step);
    const other = otherwise(step, bench);
    const wanted: Values = other === undefined ? expected : { ...expected, ...other.sees };
    if (other !== undefined) {
      reasons.add(other.why);
      const differs = Object.entries(other.sees).some(([name, value]) => expected[name] !== value);
      if (!differs)
        mismatches.push({
          step: nr,
          see,
          name: 'the reason is idle: the source expects the same',
          expected: 1,
          seen: 0,
        });
    }
    // Where nothing is logged there is nothing to compare it with.
    const names = wanted['logged'] === 0 ? ['logged'] : Object.keys(wanted);
    for (const name of names) {
      nrValues += 1;
      const found = seen[name] ?? 0;
      if (found !== wanted[name]) mismatches.push({ step: nr, see, name, expected: wanted[name], seen: found });
    }
  });
  return { mismatches, reasons: [...reasons], nrValues };
}
