/**
 * Reader of text traces: ftrace's `trace` file, `trace-cmd report`, `perf script` (see ftrace-header.ts and ftrace-payload.ts
 * for the shapes and the kernel versions). It takes chunks of bytes and delivers events; a line it cannot use is reported and
 * counted, never guessed at. map and unmap lines of the plain shape take a path of their own, which allocates nothing and
 * reads each byte once; whatever surprises it falls back to the exact path.
 */
import { ADDRESS_LIMIT, TWO_32 } from '../base/index.ts';
import type { Names, TraceSink } from './events.ts';
import { EventKind, TraceEvent } from './events.ts';
import { excerpt } from './bytetext.ts';
import { LineHeader, LineShape, MAX_SECONDS, irqContextOf } from './ftrace-header.ts';
import { EventPayloads } from './ftrace-payload.ts';
import type { LineReceiver } from './linefeed.ts';
import { LineFeed, MAX_LINE_BYTES } from './linefeed.ts';
import { HEX_VALUE, LineScanner, ascii } from './scanner.ts';
import type { Skip } from './skips.ts';
import { SkipLog } from './skips.ts';

const NOT_A_TRACE_LINE = 'a trace line: task-pid [cpu] flags time: event: text';
const TOO_LONG = `a line of at most ${MAX_LINE_BYTES} bytes`;
const TRUNCATED = 'truncated: a line end after the last line';
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
const NR_KINDS = 32;
/** Bytes of a map line from the CPU column to the end of size; the fast path reads this far without looking at the end. */
const FAST_SPAN = 240;

/** What was in a text trace. */
export interface TextSummary {
  /** Lines in all: comments, blank and skipped ones too. */
  readonly lines: number;
  /** Events delivered. */
  readonly events: number;
  /** Events delivered by EventKind. */
  readonly byKind: readonly number[];
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
  /** Events the trace says were lost, as far as it gives numbers. */
  readonly lost: number;
  /** Records of lost events, with or without a number. */
  readonly lostRecords: number;
  readonly format: 'ftrace text' | 'trace-cmd report' | 'perf script';
  /** True when an event of a kind other than `other` and `lost` was delivered. */
  readonly recognised: boolean;
  /** True when the last line had no line end and was skipped for it. */
  readonly truncated: boolean;
}

/** Push parser: `push` chunks cut anywhere, then `end` once. */
export class FtraceTextReader implements LineReceiver {
  readonly #sink: TraceSink;
  readonly #event = new TraceEvent();
  readonly #header = new LineHeader();
  readonly #scanner = new LineScanner();
  readonly #payloads: EventPayloads;
  readonly #feed: LineFeed;
  readonly #skips = new SkipLog();
  readonly #byKind = new Float64Array(NR_KINDS);
  #lines = 0;
  #lost = 0;
  /** Column of '[' in the last line: the same in all lines of a trace but those with very long pids. */
  #column = 0;
  #perfLines = 0;
  #traceCmdLines = 0;
  #textLines = 0;
  #truncated = false;

  constructor(names: Names, sink: TraceSink) {
    this.#sink = sink;
    this.#payloads = new EventPayloads(names);
    this.#feed = new LineFeed(this);
  }

  push(chunk: Uint8Array): void {
    this.#feed.push(chunk);
  }

  /** The input is over. */
  end(): TextSummary {
    this.#feed.end();
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
      lostRecords: byKind[EventKind.lost] ?? 0,
      format: perf > traceCmd + ftrace ? 'perf script' : traceCmd > 0 ? 'trace-cmd report' : 'ftrace text',
      recognised: events > (byKind[EventKind.other] ?? 0) + (byKind[EventKind.lost] ?? 0),
      truncated: this.#truncated,
    };
  }

  /** @internal */
  block(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = start;
    while (at < end) {
      const next = at + FAST_SPAN + this.#column < end ? this.#fast(bytes, view, at) : -1;
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
    if (header.parse(bytes, start, end) && this.#parseEvent(bytes, end) === '' && this.#payloads.complete) {
      this.#deliver();
      return;
    }
    if (this.#isSilent(bytes, start, end)) return;
    this.#truncated = true;
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
    this.#sink.event(event);
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
    this.#column = header.column - start;
    this.#finish(bytes, start, end);
  }

  /** The event behind a header: counted by its shape, delivered or skipped. */
  #finish(bytes: Uint8Array, start: number, end: number): void {
    const { shape } = this.#header;
    if (shape === LineShape.perf) this.#perfLines++;
    else if (shape === LineShape.traceCmd) this.#traceCmdLines++;
    else this.#textLines++;
    const why = this.#parseEvent(bytes, end);
    if (why === '') this.#deliver();
    else this.#skip(why, bytes, start, end);
  }

  /** The event behind the header just parsed. */
  #parseEvent(bytes: Uint8Array, end: number): string {
    const header = this.#header;
    const event = this.#event;
    event.line = this.#lines;
    event.timeNs = header.timeNs;
    event.pid = header.pid;
    event.cpu = header.cpu;
    event.irqContext = header.irqContext;
    this.#scanner.set(bytes, header.textStart, end);
    return this.#payloads.parse(
      this.#scanner,
      header.nameStart,
      header.nameEnd,
      header.systemStart,
      header.systemEnd,
      event,
    );
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

  /**
   * A map or unmap line of the shape
   * `task-pid [cpu] flags seconds.micros: map: IOMMU: iova=0x<16> - 0x<16> paddr=0x<16> size=<decimal>`.
   * Returns the start of the next line, -1 (and no effect) for any other line. The caller guarantees FAST_SPAN bytes and a
   * line end behind the column. Literals are compared four bytes at a time (big endian, so a constant reads like its text).
   */
  #fast(b: Uint8Array, d: DataView, start: number): number {
    const column = start + this.#column;
    // "[001": the bracket must be one and the digits digits.
    const cpu = d.getUint32(column) ^ 0x5b303030;
    if (((cpu | (cpu + 0x00767676)) & 0xff808080) !== 0 || b[column + 4] !== 93 || b[column + 5] !== 32) return -1;
    let at = column - 1;
    while (at > start && b[at] === 32) at--;
    if (at === column - 1) return -1;
    let pid = 0;
    let scale = 1;
    const pidLast = at;
    for (; at > start; at--) {
      const digit = b[at] - 48;
      if (digit >>> 0 > 9) break;
      pid += digit * scale;
      scale *= 10;
    }
    if (at === pidLast || pidLast - at > 9 || b[at] !== 45) return -1;
    // A byte below 32 before the column would mean that the line ended there.
    let control = 0;
    for (let i = start; i < at; i += 4) {
      const word = d.getUint32(i);
      control |= (word - 0x20202020) & ~word;
    }
    if ((control & 0x80808080) !== 0) return -1;
    at = column + 6;
    const flags = d.getUint32(at);
    // No flags column: a blank or a digit here.
    if ((flags >>> 24 <= 57 && flags >>> 24 !== 46) || ((flags - 0x21212121) & ~flags & 0x80808080) !== 0) return -1;
    if (b[at + 4] === 32) at += 5;
    else if (b[at + 5] === 32 && b[at + 4] > 32) at += 6;
    else return -1;
    while (b[at] === 32) at++;
    let seconds = 0;
    for (const first = at; ; at++) {
      const digit = b[at] - 48;
      if (digit >>> 0 > 9) {
        if (at === first) return -1;
        break;
      }
      seconds = seconds * 10 + digit;
    }
    if (seconds >= MAX_SECONDS || b[at] !== 46 || at - column > 64) return -1;
    const micros = d.getUint32(at + 1) ^ 0x30303030;
    const microsEnd = d.getUint32(at + 5) ^ 0x30303a20;
    if (((micros | (micros + 0x76767676)) & 0x80808080) !== 0) return -1;
    if (((microsEnd | (microsEnd + 0x76760000)) & 0x8080ffff) !== 0) return -1;
    at += 9;
    let isMap = false;
    const name = d.getUint32(at);
    if (name === 0x6d61703a && b[at + 4] === 32) {
      isMap = true;
      at += 5;
    } else if (name === 0x756e6d61 && b[at + 4] === 112 && b[at + 5] === 58 && b[at + 6] === 32) at += 7;
    else {
      const header = this.#header;
      header.pid = pid;
      header.cpu = cpuNumber(cpu);
      header.irqContext = irqContextOf((flags >>> 8) & 255);
      header.timeNs = seconds * 1e9 + microsToNs(micros, microsEnd);
      header.shape = LineShape.ftrace;
      return this.#known(b, start, at);
    }
    // "IOMMU: iova=0x", the last word overlaps.
    if (d.getUint32(at) !== 0x494f4d4d || d.getUint32(at + 4) !== 0x553a2069) return -1;
    if (d.getUint32(at + 8) !== 0x6f76613d || d.getUint32(at + 10) !== 0x613d3078) return -1;
    // Numbers are put together here from small integers, by hand: a function that returned one whole would box it whenever it
    // is not inlined, and calls for four digits each exceed the inlining budget (93 against 108 ns a line).
    const v = PAIR_VALUE;
    const iovaHigh = highDigits(d, at + 14);
    const i0 = v[d.getUint16(at + 22)];
    const i1 = v[d.getUint16(at + 24)];
    const i2 = v[d.getUint16(at + 26)];
    const i3 = v[d.getUint16(at + 28)];
    const endHigh = highDigits(d, at + 35);
    const e0 = v[d.getUint16(at + 43)];
    const e1 = v[d.getUint16(at + 45)];
    const e2 = v[d.getUint16(at + 47)];
    const e3 = v[d.getUint16(at + 49)];
    if ((iovaHigh | i0 | i1 | i2 | i3 | endHigh | e0 | e1 | e2 | e3) < 0) return -1;
    const iova = iovaHigh * TWO_32 + ((i0 * 256 + i1) * 65536 + (i2 * 256 + i3));
    const end = endHigh * TWO_32 + ((e0 * 256 + e1) * 65536 + (e2 * 256 + e3));
    // " - 0x"
    if (d.getUint32(at + 30) !== 0x202d2030 || b[at + 34] !== 120) return -1;
    const nrBytes = end - iova;
    at += 51;
    let paddr = 0;
    if (isMap) {
      // " paddr=0x"
      if (d.getUint32(at) !== 0x20706164 || d.getUint32(at + 4) !== 0x64723d30 || b[at + 8] !== 120) return -1;
      const high = highDigits(d, at + 9);
      const p0 = v[d.getUint16(at + 17)];
      const p1 = v[d.getUint16(at + 19)];
      const p2 = v[d.getUint16(at + 21)];
      const p3 = v[d.getUint16(at + 23)];
      if ((high | p0 | p1 | p2 | p3) < 0) return -1;
      paddr = high * TWO_32 + ((p0 * 256 + p1) * 65536 + (p2 * 256 + p3));
      at += 25;
    }
    // " size="
    if (d.getUint32(at) !== 0x2073697a || d.getUint32(at + 2) !== 0x697a653d) return -1;
    at += 6;
    // Up to nine digits: an int32, and no line reaches past FAST_SPAN. Bigger ones are for the exact path.
    let size = 0;
    const sizeStart = at;
    for (;;) {
      const digit = b[at] - 48;
      if (digit >>> 0 > 9) break;
      size = (size * 10 + digit) | 0;
      at++;
    }
    if (size !== nrBytes || at === sizeStart || at - sizeStart > 9) return -1;
    const event = this.#event;
    if (isMap) {
      if (paddr + size >= ADDRESS_LIMIT) return -1;
      event.kind = EventKind.map;
      event.paddr = paddr;
    } else {
      // " unmapped_size="
      if (d.getUint32(at) !== 0x20756e6d || d.getUint32(at + 4) !== 0x61707065) return -1;
      if (d.getUint32(at + 8) !== 0x645f7369 || d.getUint32(at + 11) !== 0x697a653d) return -1;
      at += 15;
      let unmapped = 0;
      const unmappedStart = at;
      for (;;) {
        const digit = b[at] - 48;
        if (digit >>> 0 > 9) break;
        unmapped = (unmapped * 10 + digit) | 0;
        at++;
      }
      if (at === unmappedStart || at - unmappedStart > 9) return -1;
      event.kind = EventKind.unmap;
      event.extra = unmapped;
    }
    if (b[at] === RETURN) at++;
    if (b[at] !== LINE_END) return -1;
    event.line = ++this.#lines;
    event.timeNs = seconds * 1e9 + microsToNs(micros, microsEnd);
    event.pid = pid;
    event.cpu = cpuNumber(cpu);
    const irq = (flags >>> 8) & 255;
    event.irqContext = irq === 46 ? 0 : irqContextOf(irq);
    event.iova = iova;
    event.nrBytes = size;
    event.device = -1;
    this.#textLines++;
    this.#byKind[event.kind]++;
    this.#sink.event(event);
    return at + 1;
  }

  /** The rest of a line whose header is read up to the event name at `from`, any event but plain map and unmap. */
  #known(b: Uint8Array, start: number, from: number): number {
    const lineEnd = b.indexOf(LINE_END, from);
    const end = b[lineEnd - 1] === RETURN ? lineEnd - 1 : lineEnd;
    if (lineEnd - start > MAX_LINE_BYTES || b[start] === COMMENT) return -1;
    if (!this.#header.parseName(b, from, end)) return -1;
    this.#lines++;
    this.#finish(b, start, end);
    return lineEnd + 1;
  }
}

/** Three digits as a word of values, their characters' high nibbles already cleared. */
function cpuNumber(digits: number): number {
  return ((digits >>> 16) & 15) * 100 + ((digits >>> 8) & 15) * 10 + (digits & 15);
}

/** Four digits in one word and two in the upper half of the next, as values: microseconds, in nanoseconds. */
function microsToNs(first: number, rest: number): number {
  const high = (first >>> 24) * 1000 + ((first >>> 16) & 15) * 100 + ((first >>> 8) & 15) * 10 + (first & 15);
  return high * 100000 + ((rest >>> 24) * 10 + ((rest >>> 16) & 15)) * 1000;
}

const ZEROS = 0x30303030;

/**
 * Value of two hex digits by their bytes as a big-endian 16-bit number, -1 for any other pair. Half the loads of a table of
 * single digits: 9 ns instead of 16 per 16 digits.
 */
const PAIR_VALUE: Int16Array = (() => {
  const table = new Int16Array(65536).fill(-1);
  for (let first = 0; first < 128; first++) {
    for (let second = 0; second < 128; second++) {
      const high = HEX_VALUE[first];
      const low = HEX_VALUE[second];
      if (high >= 0 && low >= 0) table[first * 256 + second] = high * 16 + low;
    }
  }
  return table;
})();

/** The upper eight of sixteen hex digits; -1 when a byte is none or the number would not be below 2^53. Mostly zeros. */
function highDigits(d: DataView, at: number): number {
  return d.getUint32(at) === ZEROS && d.getUint32(at + 4) === ZEROS ? 0 : someHighDigits(d, at);
}

function someHighDigits(d: DataView, at: number): number {
  const a = fourDigits(d, at);
  const b = fourDigits(d, at + 4);
  return (a | b) < 0 || a >= 0x20 ? -1 : a * 65536 + b;
}

/** Four hex digits; -1 when a byte is none. */
function fourDigits(d: DataView, at: number): number {
  const a = PAIR_VALUE[d.getUint16(at)];
  const b = PAIR_VALUE[d.getUint16(at + 2)];
  return (a | b) < 0 ? -1 : a * 256 + b;
}
