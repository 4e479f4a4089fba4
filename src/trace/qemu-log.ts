/**
 * Reader of QEMU's trace logs (`-trace ... -D file`, the "log" backend), written for QEMU 7.2 and checked against the
 * trace-events files up to 10.0: hw/i386/trace-events (vtd_*, amdvi_*), hw/9pfs/trace-events (v9fs_mkdir, the marks).
 * Line shapes: `thread@seconds.micros:event text` (with -msg timestamp=on; pid in older versions) and `event text` without.
 * Texts are read by their labels, not by position: versions add fields (pasid) between the known ones.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import { ByteNames, decodeUtf8, excerpt } from './bytetext.ts';
import type { LineReceiver } from './linefeed.ts';
import { LineFeed, MAX_LINE_BYTES } from './linefeed.ts';
import { LineScanner, ascii } from './scanner.ts';
import type { Skip } from './skips.ts';
import { SkipLog } from './skips.ts';

/** What a QemuEvent is. */
export const QemuKind = {
  /** vtd_inv_desc_cc_global. */
  contextGlobal: 1,
  /** vtd_inv_desc_cc_domain. domain. */
  contextDomain: 2,
  /** vtd_inv_desc_cc_devices. device, value = function mask. */
  contextDevices: 3,
  /** vtd_inv_desc_cc_device, one per function hit by the one above. device. */
  contextDevice: 4,
  /** vtd_inv_desc_iotlb_global. */
  iotlbGlobal: 5,
  /** vtd_inv_desc_iotlb_domain. domain. */
  iotlbDomain: 6,
  /** vtd_inv_desc_iotlb_pages. domain, iova, value = address mask (log2 of the pages). */
  iotlbPages: 7,
  /** vtd_inv_desc_wait_sw. paddr = status address, value = status data. */
  wait: 8,
  /** vtd_dmar_translate. device, iova, paddr, value = page mask. */
  translate: 9,
  /** vtd_iotlb_page_update. device, iova, domain, entryLo and entryHi. */
  pageUpdate: 10,
  /** amdvi_translation_result. device, iova, paddr. */
  amdTranslate: 11,
  /** amdvi_cache_update. device, iova, paddr, domain. */
  amdCacheUpdate: 12,
  /** Any other amdvi_* line. text. */
  amd: 13,
} as const;
export type QemuKind = (typeof QemuKind)[keyof typeof QemuKind];

/** One decoded line, reused from line to line: copy what must survive the call. */
export class QemuEvent {
  kind: QemuKind = QemuKind.contextGlobal;
  /** The trace event's name. */
  name: string = '';
  line: number = 0;
  /** Microseconds since 1970 on the host; -1 in a log without times. */
  timeUs: number = -1;
  /** PCI source id: bus << 8 | device << 3 | function; -1 when the line names none. */
  device: number = -1;
  domain: number = 0;
  iova: number = 0;
  paddr: number = 0;
  value: number = 0;
  entryLo: number = 0;
  entryHi: number = 0;
  /** The line's text for kind amd. */
  text: string = '';
}

/** What the reader of a QEMU log tells. The optional callbacks cost nothing when they are absent. */
export interface QemuLogSink {
  /** vtd_inv_desc: a descriptor as its unit fetched it, bits 31:0, 63:32, 95:64, 127:96. */
  descriptor(w0: number, w1: number, w2: number, w3: number, line: number): void;
  /** v9fs_mkdir: a phase begins. */
  mark(name: string, line: number): void;
  /** vtd_inv_qi_tail: the guest rang the doorbell. */
  tail(value: number, line: number): void;
  /** Every line of a kind in QemuKind. */
  event?(event: QemuEvent): void;
  skipped(line: number, what: string, excerpt: string): void;
}

/** What was in a log. */
export interface QemuSummary {
  readonly format: 'QEMU log';
  readonly lines: number;
  /** Lines by trace event name; lines of no known event count too. */
  readonly byName: ReadonlyMap<string, number>;
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
  /** True when a vtd_*, amdvi_* or v9fs_mkdir line was read. */
  readonly recognised: boolean;
  /** True when the last line had no line end and was skipped for it. */
  readonly truncated: boolean;
}

const MAX_NAMES = 4096;
const NOT_A_LINE = 'a QEMU trace line: [thread@seconds.micros:]event text';
const TOO_LONG = `a line of at most ${MAX_LINE_BYTES} bytes`;
const TRUNCATED = 'truncated: a line end after the last line';
const RETURN = 13;

const HIGH = ascii(' high 0x');
const LOW = ascii(' low 0x');
const NAME = ascii(' name ');
const MODE = ascii(' mode ');
const WRITE_TAIL = ascii('write tail ');
const DOMAIN = ascii('domain 0x');
const DOMID = ascii('domid 0x');
const ADDR = ascii('addr 0x');
const MASK = ascii('mask 0x');
const DATA = ascii('data 0x');
const SID = ascii('sid 0x');
const FMASK = ascii('fmask 0x');
const IOVA = ascii('iova 0x');
const GPA = ascii('gpa 0x');
const HPA = ascii('hpa 0x');
const SLPTE = ascii('pte 0x');
const DEVICE = ascii('device ');
const DEV = ascii('dev ');
const DEVID = ascii('devid');

type Handler = (reader: QemuLogReader, line: LineScanner, event: QemuEvent) => string;

/** Push parser of a QEMU log: `push` chunks cut anywhere, then `end` once. */
export class QemuLogReader implements LineReceiver {
  /** @internal */
  readonly sink: QemuLogSink;
  readonly #event = new QemuEvent();
  readonly #scanner = new LineScanner();
  readonly #feed: LineFeed;
  readonly #names = new ByteNames(MAX_NAMES);
  readonly #counts: number[] = [];
  readonly #skips = new SkipLog();
  #lines = 0;
  #recognised = false;
  #truncated = false;

  constructor(sink: QemuLogSink) {
    this.sink = sink;
    this.#feed = new LineFeed(this);
    for (const known of KNOWN) this.#names.intern(ascii(known.name), 0, known.name.length);
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
      byName,
      skipped: this.#skips.count,
      firstSkipped: this.#skips.first,
      recognised: this.#recognised,
      truncated: this.#truncated,
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
    this.#truncated = true;
    this.#skip(TRUNCATED, bytes, start, end);
  }

  #skip(what: string, bytes: Uint8Array, start: number, end: number): void {
    const text = excerpt(bytes, start, end);
    this.#skips.add(this.#lines, what, text);
    this.sink.skipped(this.#lines, what, text);
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
    const handler = id >= 0 && id < KNOWN.length ? KNOWN[id] : undefined;
    if (handler === undefined) {
      if (id < 0 || !this.#names.text(id).startsWith('amdvi_')) return;
      event.kind = QemuKind.amd;
      event.name = this.#names.text(id);
      event.device = -1;
      this.#recognised = true;
      line.blanks();
      event.text = decodeUtf8(bytes, line.pos, Math.min(end, line.pos + 4096));
      this.sink.event?.(event);
      return;
    }
    event.name = handler.name;
    event.device = -1;
    const why = handler.handle(this, line, event);
    if (why !== '') {
      this.#skip(`${handler.name}: ${why}`, bytes, start, end);
      return;
    }
    this.#recognised = true;
    if (handler.kind !== undefined) {
      event.kind = handler.kind;
      this.sink.event?.(event);
    }
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

/** The hex number behind a label; -1 when it is missing or not exact. */
function hexAfter(line: LineScanner, label: Uint8Array): number {
  if (!line.after(label)) return -1;
  const value = line.hex();
  return value < ADDRESS_LIMIT && line.boundary() ? value : -1;
}

/** `bb:dd.f` with f of one or two digits, as QEMU prints both. */
function sourceId(line: LineScanner): number {
  line.blanks();
  const bus = line.hex();
  if (bus < 0 || bus > 255 || line.peek() !== 58) return -1;
  line.pos++;
  const device = line.hex();
  if (device < 0 || device > 31 || line.peek() !== 46) return -1;
  line.pos++;
  const fn = line.hex();
  return fn < 0 || fn > 7 ? -1 : bus * 256 + device * 8 + fn;
}

const DESCRIPTOR = 'invalidate desc type ... high 0x... low 0x... of at most 16 digits';

function descriptor(reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  if (!line.after(HIGH) || !line.hexWords() || !line.boundary()) return DESCRIPTOR;
  const { lo, hi } = line;
  if (!line.after(LOW) || !line.hexWords() || !line.boundary()) return DESCRIPTOR;
  reader.sink.descriptor(line.lo, line.hi, lo, hi, event.line);
  return '';
}

function mark(reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  if (!line.after(NAME)) return 'tag ... name NAME mode ...';
  const start = line.pos;
  // A directory name may hold " mode " itself: the last one ends it.
  let end = -1;
  while (line.after(MODE)) end = line.pos - MODE.length;
  if (end <= start) return 'tag ... name NAME mode ...';
  reader.sink.mark(decodeUtf8(line.bytes, start, Math.min(end, start + 4096)), event.line);
  return '';
}

function tail(reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  const value = line.after(WRITE_TAIL) ? line.decimal() : -1;
  if (value < 0 || value >= ADDRESS_LIMIT || !line.boundary()) return 'write tail NUMBER';
  reader.sink.tail(value, event.line);
  return '';
}

function nothing(): string {
  return '';
}

function domain(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMAIN);
  return event.domain < 0 ? 'domain 0x...' : '';
}

function contextDevices(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.device = hexAfter(line, SID);
  event.value = hexAfter(line, FMASK);
  return event.device < 0 || event.value < 0 ? 'sid 0x... fmask 0x...' : '';
}

function contextDevice(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.device = line.after(DEVICE) ? sourceId(line) : -1;
  return event.device < 0 ? 'device bb:dd.ff' : '';
}

function iotlbPages(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMAIN);
  event.iova = hexAfter(line, ADDR);
  event.value = hexAfter(line, MASK);
  return event.domain < 0 || event.iova < 0 || event.value < 0 ? 'domain 0x... addr 0x... mask 0x... below 2^53' : '';
}

function wait(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.paddr = hexAfter(line, ADDR);
  event.value = hexAfter(line, DATA);
  return event.paddr < 0 || event.value < 0 ? 'addr 0x... data 0x... below 2^53' : '';
}

function translate(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.device = line.after(DEV) ? sourceId(line) : -1;
  event.iova = hexAfter(line, IOVA);
  event.paddr = hexAfter(line, GPA);
  event.value = hexAfter(line, MASK);
  return event.device < 0 || event.iova < 0 || event.paddr < 0 || event.value < 0
    ? 'dev bb:dd.ff iova 0x... -> gpa 0x... mask 0x... below 2^53'
    : '';
}

/** The entry is 64 bits with flags at the top: words, not a number. QEMU 10 prints `pte` where 7.2 has `slpte`. */
function pageUpdate(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.device = hexAfter(line, SID);
  event.iova = hexAfter(line, IOVA);
  if (!line.after(SLPTE) || !line.hexWords() || !line.boundary()) return 'slpte 0x...';
  event.entryLo = line.lo;
  event.entryHi = line.hi;
  event.domain = hexAfter(line, DOMAIN);
  return event.device < 0 || event.iova < 0 || event.domain < 0 ? 'sid 0x... iova 0x... slpte 0x... domain 0x...' : '';
}

function amdDevice(line: LineScanner, event: QemuEvent): string {
  if (line.after(DEVID)) {
    if (line.peek() === 58) line.pos++;
    event.device = sourceId(line);
  }
  event.iova = hexAfter(line, GPA);
  event.paddr = hexAfter(line, HPA);
  return event.device < 0 || event.iova < 0 || event.paddr < 0 ? 'devid: bb:dd.f gpa 0x... hpa 0x... below 2^53' : '';
}

function amdTranslate(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  return amdDevice(line, event);
}

function amdCacheUpdate(_reader: QemuLogReader, line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMID);
  return event.domain < 0 ? 'domid 0x...' : amdDevice(line, event);
}

/** Handlers by name, in the order they are numbered in. `kind` is absent where the handler has a callback of its own. */
const KNOWN: readonly { readonly name: string; readonly kind?: QemuKind; readonly handle: Handler }[] = [
  { name: 'vtd_inv_desc', handle: descriptor },
  { name: 'v9fs_mkdir', handle: mark },
  { name: 'vtd_inv_qi_tail', handle: tail },
  { name: 'vtd_inv_desc_cc_global', kind: QemuKind.contextGlobal, handle: nothing },
  { name: 'vtd_inv_desc_cc_domain', kind: QemuKind.contextDomain, handle: domain },
  { name: 'vtd_inv_desc_cc_devices', kind: QemuKind.contextDevices, handle: contextDevices },
  { name: 'vtd_inv_desc_cc_device', kind: QemuKind.contextDevice, handle: contextDevice },
  { name: 'vtd_inv_desc_iotlb_global', kind: QemuKind.iotlbGlobal, handle: nothing },
  { name: 'vtd_inv_desc_iotlb_domain', kind: QemuKind.iotlbDomain, handle: domain },
  { name: 'vtd_inv_desc_iotlb_pages', kind: QemuKind.iotlbPages, handle: iotlbPages },
  { name: 'vtd_inv_desc_wait_sw', kind: QemuKind.wait, handle: wait },
  { name: 'vtd_dmar_translate', kind: QemuKind.translate, handle: translate },
  { name: 'vtd_iotlb_page_update', kind: QemuKind.pageUpdate, handle: pageUpdate },
  { name: 'amdvi_translation_result', kind: QemuKind.amdTranslate, handle: amdTranslate },
  { name: 'amdvi_cache_update', kind: QemuKind.amdCacheUpdate, handle: amdCacheUpdate },
];
