/**
 * Reader of QEMU's trace logs (`-trace ... -D file`, the "log" backend). Line shapes: `thread@seconds.micros:event text` (with
 * -msg timestamp=on; pid in older versions) and `event text` without. What each event's text holds is in qemu-lines.ts.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import { ByteNames, decodeUtf8, excerpt } from './bytetext.ts';
import type { LineReceiver } from './linefeed.ts';
import { LineFeed, MAX_LINE_BYTES } from './linefeed.ts';
import type { QemuLogSink } from './qemu-events.ts';
import { QemuEvent, QemuKind } from './qemu-events.ts';
import { QEMU_LINES } from './qemu-lines.ts';
import { LineScanner, ascii } from './scanner.ts';
import type { Skip } from './skips.ts';
import { SkipLog } from './skips.ts';
import type { Vendor } from './vendor.ts';
import { vendorOfLog } from './vendor.ts';

/** What was in a log. */
export interface QemuSummary {
  readonly format: 'QEMU log';
  readonly lines: number;
  /** Whose unit QEMU emulated. */
  readonly vendor: Vendor | 'unknown';
  /** Lines by trace event name; lines of no known event count too. */
  readonly byName: ReadonlyMap<string, number>;
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
}

const MAX_NAMES = 4096;
const NOT_A_LINE = 'a QEMU trace line: [thread@seconds.micros:]event text';
const TOO_LONG = `a line of at most ${MAX_LINE_BYTES} bytes`;
const TRUNCATED = 'a whole line, with a line end (the input is cut off here)';
const RETURN = 13;

/** Push parser of a QEMU log: `push` chunks cut anywhere, then `end` once. */
export class QemuLogReader implements LineReceiver {
  readonly #sink: QemuLogSink;
  /** Of QEMU_LINES: 1 for those that a callback of the sink wants. */
  readonly #wanted: Uint8Array;
  readonly #event = new QemuEvent();
  readonly #scanner = new LineScanner();
  readonly #feed: LineFeed;
  readonly #names = new ByteNames(MAX_NAMES);
  readonly #counts: number[] = [];
  readonly #skips = new SkipLog();
  #lines = 0;

  constructor(sink: QemuLogSink) {
    this.#sink = sink;
    this.#wanted = Uint8Array.from(QEMU_LINES, ({ kind, isWanted }) =>
      (kind !== undefined && sink.event !== undefined) || isWanted?.(sink) === true ? 1 : 0,
    );
    this.#feed = new LineFeed(this);
    for (const { name } of QEMU_LINES) this.#names.intern(ascii(name), 0, name.length);
  }

  push(chunk: Uint8Array): void {
    this.#feed.push(chunk);
  }

  end(): QemuSummary {
    this.#feed.end();
    const byName = new Map<string, number>();
    this.#counts.forEach((count, id) => byName.set(this.#names.text(id), count));
    return {
      format: 'QEMU log',
      lines: this.#lines,
      vendor: vendorOfLog(byName),
      byName,
      skipped: this.#skips.count,
      firstSkipped: this.#skips.first,
    };
  }

  /** @internal */
  block(bytes: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end;) {
      const lineEnd = bytes.indexOf(10, at);
      this.#lines++;
      if (lineEnd - at > MAX_LINE_BYTES) this.#skip(TOO_LONG, bytes, at, lineEnd);
      else this.#line(bytes, at, lineEnd > at && bytes[lineEnd - 1] === RETURN ? lineEnd - 1 : lineEnd);
      at = lineEnd + 1;
    }
  }

  /** @internal */
  overlong(bytes: Uint8Array, start: number, end: number): void {
    this.#lines++;
    this.#skip(TOO_LONG, bytes, start, end);
  }

  /** @internal Numbers end such a line, and a cut number is a wrong one: never used. */
  tail(bytes: Uint8Array, start: number, end: number): void {
    this.#lines++;
    this.#skip(TRUNCATED, bytes, start, end);
  }

  #skip(what: string, bytes: Uint8Array, start: number, end: number): void {
    const text = excerpt(bytes, start, end);
    this.#skips.add(this.#lines, what, text);
    this.#sink.skipped(this.#lines, what, text);
  }

  #line(bytes: Uint8Array, start: number, end: number): void {
    const line = this.#scanner;
    line.set(bytes, start, end);
    line.blanks();
    if (line.atEnd) return;
    const event = this.#event;
    event.line = this.#lines;
    event.timeUs = stamp(line);
    const nameStart = line.pos;
    while (line.pos < end && isNameByte(bytes[line.pos])) line.pos++;
    if (line.pos === nameStart || !line.boundary()) {
      this.#skip(NOT_A_LINE, bytes, start, end);
      return;
    }
    const id = this.#names.intern(bytes, nameStart, line.pos);
    if (id >= 0) this.#counts[id] = (this.#counts[id] ?? 0) + 1;
    if (id < 0) return;
    if (id >= QEMU_LINES.length) {
      this.#other(line, event, id);
      return;
    }
    if (this.#wanted[id] === 0) return;
    const known = QEMU_LINES[id];
    event.name = known.name;
    event.device = -1;
    const why = known.read(line, event);
    if (why !== '') {
      this.#skip(`${known.name}: ${why}`, bytes, start, end);
      return;
    }
    known.tell?.(this.#sink, event);
    if (known.kind !== undefined && this.#sink.event !== undefined) {
      event.kind = known.kind;
      this.#sink.event(event);
    }
  }

  /** A line of an event that has no reading here: of AMD's the text is told. */
  #other(line: LineScanner, event: QemuEvent, id: number): void {
    const name = this.#names.text(id);
    if (this.#sink.event === undefined || !name.startsWith('amdvi_')) return;
    event.kind = QemuKind.amd;
    event.name = name;
    event.device = -1;
    line.blanks();
    event.text = decodeUtf8(line.bytes, line.pos, Math.min(line.end, line.pos + 4096));
    this.#sink.event(event);
  }
}

function isNameByte(byte: number): boolean {
  return (byte >= 97 && byte <= 122) || (byte >= 65 && byte <= 90) || (byte >= 48 && byte <= 57) || byte === 95;
}

/** `thread@seconds.micros:` before the name: microseconds, or -1 and no move when there is none. */
function stamp(line: LineScanner): number {
  const start = line.pos;
  if (line.decimal() >= 0 && line.peek() === 64) {
    line.pos++;
    const seconds = line.decimal();
    if (seconds >= 0 && line.peek() === 46) {
      line.pos++;
      const digits = line.pos;
      const micros = line.decimal();
      if (line.pos - digits === 6 && line.peek() === 58 && seconds * 1e6 < ADDRESS_LIMIT) {
        line.pos++;
        return seconds * 1e6 + micros;
      }
    }
  }
  line.pos = start;
  return -1;
}
