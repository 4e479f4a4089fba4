/**
 * Reader of text traces: ftrace's `trace` file, `trace-cmd report`, `perf script` (see ftrace-header.ts and ftrace-payload.ts
 * for the shapes and the kernel versions). It takes chunks of bytes and delivers events; a line it cannot use is reported and
 * counted, never guessed at. Lines of the shape that today's kernels print take a path of their own (fast-*.ts), which
 * allocates nothing and reads each byte once; whatever surprises it falls back to the exact path, several times as slow.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import { EXPECTED_COMMAND, parseAmdCommand } from './amd-payload.ts';
import type { Names, TraceSink } from './events.ts';
import { EventKind, NR_KINDS, TraceEvent, wantedKinds } from './events.ts';
import { excerpt } from './bytetext.ts';
import { FastEvents } from './fast-events.ts';
import { FastHeader } from './fast-header.ts';
import { readMapOrUnmap } from './fast-iommu.ts';
import {
  IOMMU_LENGTH as IMPORTED_IOMMU_LENGTH,
  fastKind,
  fastName,
  fastNameLength,
  fastSystemLength,
  systemLength,
} from './fast-names.ts';
import { LineHeader, LineShape } from './ftrace-header.ts';
import { EventPayloads } from './ftrace-payload.ts';
import type { LineReceiver } from './linefeed.ts';
import { LineFeed, MAX_LINE_BYTES } from './linefeed.ts';
import { LineScanner, ascii } from './scanner.ts';
import type { Skip } from './skips.ts';
import { SkipLog } from './skips.ts';
import { INDEX_MASK, behindBlanks, restOfLine, text8 } from './words.ts';

const NOT_A_TRACE_LINE = 'a trace line: task-pid [cpu] flags time: event: text';
const TOO_LONG = `a line of at most ${MAX_LINE_BYTES} bytes`;
const TRUNCATED = 'a whole line, with a line end (the input is cut off here)';
const CPU = ascii('CPU:');
const LOST = ascii('[LOST ');
const EVENTS = ascii('EVENTS');
const OPEN = ascii('[');
const CPUS = ascii('cpus=');
const VERSION = ascii('version = ');
const CPU_EMPTY = ascii('CPU ');
const IS_EMPTY = ascii(' is empty');
const LINE_END = 10;
const RETURN = 13;
const COMMENT = 35;
// An imported constant is loaded and checked at every use, a constant of this file is part of the code.
const IOMMU_LENGTH = IMPORTED_IOMMU_LENGTH;
const SHAPE_FTRACE = LineShape.ftrace;
const SHAPE_TRACE_CMD = LineShape.traceCmd;
const SHAPE_PERF = LineShape.perf;
const BLANK = 32;
const TAB = 9;
const MAP_TEXT = text8('map: IOM');
const MAP_BLANKS = text8('map:    ');
const UNMAP_TEXT = text8('unmap: I');
const UNMAP_BLANKS = text8('unmap:  ');
/**
 * Bytes behind the CPU column that the fast paths may read without looking at the end: 85 of a header, twice 40 of padding, 42
 * of names, 190 of an event.
 */
const FAST_SPAN = 400;
/** No index of theirs reaches what INDEX_MASK cuts. */
const FAST_LIMIT = INDEX_MASK - (1 << 16);
const ALL_KINDS = new Uint8Array(NR_KINDS).fill(1);

/** What was in a text trace. */
export interface TextSummary {
  /** Lines in all: comments, blank and skipped ones too. */
  readonly lines: number;
  /** Events, delivered or not wanted. */
  readonly events: number;
  /** Those by EventKind. */
  readonly byKind: readonly number[];
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
  /** Events the trace says were lost, as far as it gives numbers. */
  readonly lost: number;
  readonly format: 'ftrace text' | 'trace-cmd report' | 'perf script';
  /** False when a line had no flags column: what an interrupt did then looks as if the task below it had done it. */
  readonly hasIrqContext: boolean;
  /** Events of kind `other` by name: what the trace holds that nobody reads here. */
  readonly others: ReadonlyMap<string, number>;
}

/** Push parser: `push` chunks cut anywhere, then `end` once. */
export class FtraceTextReader implements LineReceiver {
  readonly #sink: TraceSink;
  readonly #wanted: Uint8Array;
  readonly #event = new TraceEvent();
  readonly #header = new LineHeader();
  readonly #scanner = new LineScanner();
  readonly #payloads: EventPayloads;
  readonly #feed: LineFeed;
  readonly #skips = new SkipLog();
  readonly #byKind = new Float64Array(NR_KINDS);
  readonly #others = new Map<string, number>();
  #lines = 0;
  #lost = 0;
  readonly #fastHeader = new FastHeader();
  readonly #fastEvents: FastEvents;
  #perfLines = 0;
  #traceCmdLines = 0;
  #textLines = 0;
  #hasFlags = true;

  constructor(names: Names, sink: TraceSink) {
    this.#sink = sink;
    this.#wanted = wantedKinds(sink);
    this.#payloads = new EventPayloads(names);
    this.#fastEvents = new FastEvents(this.#payloads);
    this.#feed = new LineFeed(this);
  }

  push(chunk: Uint8Array): void {
    this.#feed.push(chunk);
  }

  /** The input is over. */
  end(): TextSummary {
    this.#feed.end();
    return this.summary;
  }

  /** What was read up to now. */
  get summary(): TextSummary {
    let events = 0;
    for (const count of this.#byKind) events += count;
    const byKind = Array.from(this.#byKind);
    const { perf, traceCmd, ftrace } = {
      perf: this.#perfLines,
      traceCmd: this.#traceCmdLines,
      ftrace: this.#textLines,
    };
    return {
      lines: this.#lines,
      events,
      byKind,
      skipped: this.#skips.count,
      firstSkipped: this.#skips.first,
      lost: this.#lost,
      format: perf > traceCmd + ftrace ? 'perf script' : traceCmd > 0 ? 'trace-cmd report' : 'ftrace text',
      hasIrqContext: this.#hasFlags,
      others: this.#others,
    };
  }

  /** @internal */
  block(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const fastEnd = Math.min(end, FAST_LIMIT) - FAST_SPAN;
    let at = start;
    while (at < end) {
      const next = at + this.#fastHeader.column < fastEnd ? this.#fast(bytes, view, at) : -1;
      if (next >= 0) {
        at = next;
        continue;
      }
      const lineEnd = bytes.indexOf(LINE_END, at);
      this.#line(bytes, at, lineEnd > at && bytes[lineEnd - 1] === RETURN ? lineEnd - 1 : lineEnd);
      at = lineEnd + 1;
    }
  }

  /** @internal */
  overlong(bytes: Uint8Array, start: number, end: number): void {
    this.#lines++;
    this.#skip(TOO_LONG, bytes, start, end);
  }

  /** @internal The last line without a line end: used only when no longer line could start with it. */
  tail(bytes: Uint8Array, start: number, end: number): void {
    this.#lines++;
    const header = this.#header;
    if (bytes[start] === COMMENT) return;
    if (
      header.parse(bytes, start, end) &&
      this.#parseEvent(bytes, end, ALL_KINDS, false) === '' &&
      this.#payloads.complete
    ) {
      this.#deliver();
      return;
    }
    if (this.#isSilent(bytes, start, end)) return;
    this.#skip(TRUNCATED, bytes, start, end);
  }

  #skip(what: string, bytes: Uint8Array, start: number, end: number): void {
    const text = excerpt(bytes, start, end);
    this.#skips.add(this.#lines, what, text);
    this.#sink.skipped(this.#lines, what, text);
  }

  #deliver(): void {
    const event = this.#event;
    this.#byKind[event.kind]++;
    if (event.kind === EventKind.other) this.#others.set(event.text, (this.#others.get(event.text) ?? 0) + 1);
    if (this.#wanted[event.kind] !== 0) this.#sink.event(event);
  }

  /** A whole line by the exact path. */
  #line(bytes: Uint8Array, start: number, end: number): void {
    this.#lines++;
    if (end - start > MAX_LINE_BYTES) {
      this.#skip(TOO_LONG, bytes, start, end);
      return;
    }
    const header = this.#header;
    if (bytes[start] === COMMENT || !header.parse(bytes, start, end)) {
      if (this.#isSilent(bytes, start, end) || this.#lostEvents(bytes, start, end)) return;
      this.#skip(NOT_A_TRACE_LINE, bytes, start, end);
      return;
    }
    // The fast path takes lines without flags only after one that came here.
    if (!header.hasFlags) this.#hasFlags = false;
    this.#fastHeader.expect(header, start);
    this.#finish(bytes, start, end);
  }

  /** The event behind a header: counted by its shape, delivered or skipped. */
  #finish(bytes: Uint8Array, start: number, end: number): void {
    this.#countShape(this.#header.shape);
    const why = this.#parseEvent(bytes, end, this.#wanted, true);
    if (why === '') this.#deliver();
    else this.#skip(why, bytes, start, end);
  }

  #countShape(shape: number): void {
    if (shape === SHAPE_FTRACE) this.#textLines++;
    else if (shape === SHAPE_PERF) this.#perfLines++;
    else this.#traceCmdLines++;
  }

  /** The event behind the header just parsed. */
  #parseEvent(bytes: Uint8Array, end: number, wanted: Uint8Array, isWhole: boolean): string {
    const header = this.#header;
    const event = this.#event;
    event.line = this.#lines;
    event.timeNs = header.timeNs;
    event.pid = header.pid;
    event.cpu = header.cpu;
    event.irqContext = header.irqContext;
    this.#scanner.set(bytes, header.textStart, end);
    const why = this.#payloads.parse(
      this.#scanner,
      header.nameStart,
      header.nameEnd,
      header.systemStart,
      header.systemEnd,
      event,
      wanted,
    );
    if (event.kind !== EventKind.other || this.#sink.amdCommand === undefined) return why;
    // Nobody can tell whether the numbers of a line without line end are whole.
    if (!isWhole) return TRUNCATED;
    this.#scanner.set(bytes, header.textStart, end);
    const isCommand = parseAmdCommand(this.#scanner, event.words);
    if (isCommand < 0) return EXPECTED_COMMAND;
    if (isCommand > 0) this.#sink.amdCommand(event);
    return why;
  }

  /** Blank lines, comments, and the head of trace-cmd report: nothing to say about them. */
  #isSilent(bytes: Uint8Array, start: number, end: number): boolean {
    let at = start;
    while (at < end && (bytes[at] === 32 || bytes[at] === 9 || bytes[at] === RETURN)) at++;
    if (at === end || bytes[at] === 35) return true;
    const scanner = this.#scanner;
    scanner.set(bytes, at, end);
    if (scanner.literal(CPUS) || scanner.literal(VERSION)) {
      this.#traceCmdLines++;
      return scanner.decimal() >= 0 && scanner.atEnd;
    }
    return scanner.literal(CPU_EMPTY) && scanner.decimal() >= 0 && scanner.literal(IS_EMPTY);
  }

  /** `CPU:n [LOST m EVENTS]`, `CPU:n [LOST EVENTS]` (kernel), `CPU:n [EVENTS DROPPED]`, `CPU:n [m EVENTS DROPPED]` (trace-cmd). */
  #lostEvents(bytes: Uint8Array, start: number, end: number): boolean {
    const scanner = this.#scanner;
    scanner.set(bytes, start, end);
    scanner.blanks();
    if (!scanner.literal(CPU)) return false;
    const cpu = scanner.decimal();
    scanner.blanks();
    if (!scanner.literal(LOST) && !scanner.literal(OPEN)) return false;
    const count = scanner.decimal();
    scanner.blanks();
    if (cpu < 0 || cpu >= ADDRESS_LIMIT || count >= ADDRESS_LIMIT || !scanner.literal(EVENTS)) return false;
    const event = this.#event;
    event.kind = EventKind.lost;
    event.line = this.#lines;
    event.cpu = cpu;
    event.pid = 0;
    event.irqContext = 0;
    event.extra = count;
    event.device = -1;
    event.text = 'lost';
    if (count > 0) this.#lost += count;
    this.#deliver();
    return true;
  }

  /** A line of a usual shape, by the fast paths. Returns the start of the next line, -1 (and no effect) for any other line. */
  #fast(b: Uint8Array, d: DataView, start: number): number {
    const event = this.#event;
    const header = this.#fastHeader;
    const behindTime = header.read(d, start, event);
    if (behindTime < 0) return -1;
    let name = behindTime;
    let system = 0;
    if (header.shape === SHAPE_PERF) {
      name = behindBlanks(d, name);
      system = fastSystemLength(d, name);
      name += system;
    }
    const next = this.#fastEvent(b, d, name, system);
    if (next < 0 || next - start > MAX_LINE_BYTES) return this.#known(b, start, behindTime);
    event.line = ++this.#lines;
    if (header.shape === SHAPE_FTRACE) this.#textLines++;
    else this.#countShape(header.shape);
    this.#byKind[event.kind]++;
    if (this.#wanted[event.kind] !== 0) this.#sink.event(event);
    return next;
  }

  /** The event whose name stands at `name`, behind a `system:` of that length if any. Returns as `#fast` does. */
  #fastEvent(b: Uint8Array, d: DataView, name: number, system: number): number {
    if (system === 0 || system === IOMMU_LENGTH) {
      const head = d.getFloat64(name, true);
      if (head === MAP_TEXT) return readMapOrUnmap(d, name + 5, true, this.#event);
      if (head === UNMAP_TEXT) return readMapOrUnmap(d, name + 7, false, this.#event);
      if (head === MAP_BLANKS) return readMapOrUnmap(d, this.#fastText(d, name + 5), true, this.#event);
      if (head === UNMAP_BLANKS) return readMapOrUnmap(d, this.#fastText(d, name + 7), false, this.#event);
    }
    const number = fastName(d, name);
    if (number < 0 || (system !== 0 && system !== systemLength(number))) return -1;
    const text = this.#fastText(d, name + fastNameLength(number));
    const kind = fastKind(number);
    if (this.#wanted[kind] !== 0) return this.#fastEvents.read(b, d, text, number, this.#event);
    this.#event.kind = kind;
    return restOfLine(d, text - 1);
  }

  /** Where an event's text begins, at `at` or behind more blanks, with which trace-cmd fills the name's column. */
  #fastText(d: DataView, at: number): number {
    const byte = d.getUint8(at);
    if (byte !== BLANK && byte !== TAB) return at;
    const header = this.#fastHeader;
    if (header.shape === SHAPE_FTRACE) header.shape = SHAPE_TRACE_CMD;
    return behindBlanks(d, at);
  }

  /** The rest of a line whose header is read up to the event name at `from`, any event. */
  #known(b: Uint8Array, start: number, from: number): number {
    const lineEnd = b.indexOf(LINE_END, from);
    const end = b[lineEnd - 1] === RETURN ? lineEnd - 1 : lineEnd;
    if (lineEnd - start > MAX_LINE_BYTES) return -1;
    const header = this.#header;
    const event = this.#event;
    header.pid = event.pid;
    header.cpu = event.cpu;
    header.irqContext = event.irqContext;
    header.timeNs = event.timeNs;
    header.shape = this.#fastHeader.shape;
    if (!header.parseName(b, from, end)) return -1;
    this.#lines++;
    this.#finish(b, start, end);
    return lineEnd + 1;
  }
}
