/**
 * What an input is, from its first bytes: which reader takes it, or why none does. Magic numbers: gzip RFC 1952, zstd RFC 8878,
 * trace.dat trace-cmd.dat(5), perf.data tools/perf/util/header.c, the others from their formats' documents.
 */
import { LineHeader } from './ftrace-header.ts';

/** - empty, refused: nothing to read. - gzip, zstd: expand and ask again. */
export type InputKind = 'empty' | 'gzip' | 'zstd' | 'trace.dat' | 'text' | 'qemu-log' | 'refused';

/** The verdict. `found` names the content for a message; `advice` says what would be read (refused and empty only). */
export interface Detection {
  readonly kind: InputKind;
  readonly found: string;
  readonly advice: string;
  /** False when more bytes could change it. */
  readonly isCertain: boolean;
}

/** Bytes that are enough for a verdict on any real trace. */
export const DETECT_BYTES = 65536;

const EXPECTED =
  'expected a text trace (ftrace `trace`, `trace-cmd report`, `perf script`), a trace.dat or a QEMU -trace log, plain or as gzip or zstd';

interface Magic {
  readonly bytes: readonly number[];
  readonly offset?: number;
  readonly found: string;
  readonly advice?: string;
}

function text(value: string): number[] {
  return Array.from(value, (char) => char.charCodeAt(0));
}

const PERF_ADVICE = 'run `perf script -i FILE > trace.txt` and give that';
const EXPAND_ADVICE = 'expand it first; gzip and zstd are read directly';

/** Inputs that are recognised in order to say what they are. */
const REFUSED: readonly Magic[] = [
  { bytes: text('PERFILE2'), found: 'a perf.data file', advice: PERF_ADVICE },
  { bytes: text('2ELIFREP'), found: 'a perf.data file', advice: PERF_ADVICE },
  { bytes: text('PERFFILE'), found: 'a perf.data file', advice: PERF_ADVICE },
  { bytes: [0x7f, 0x45, 0x4c, 0x46], found: 'an ELF file' },
  { bytes: [0xd4, 0xc3, 0xb2, 0xa1], found: 'a pcap file' },
  { bytes: [0xa1, 0xb2, 0xc3, 0xd4], found: 'a pcap file' },
  { bytes: [0x4d, 0x3c, 0xb2, 0xa1], found: 'a pcap file' },
  { bytes: [0x0a, 0x0d, 0x0d, 0x0a], found: 'a pcapng file' },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a], found: 'xz data', advice: EXPAND_ADVICE },
  { bytes: text('BZh'), found: 'bzip2 data', advice: EXPAND_ADVICE },
  { bytes: [0x04, 0x22, 0x4d, 0x18], found: 'lz4 data', advice: EXPAND_ADVICE },
  { bytes: text('PK\u0003\u0004'), found: 'a zip archive', advice: EXPAND_ADVICE },
  { bytes: text('ustar'), offset: 257, found: 'a tar archive', advice: 'extract the trace first' },
  { bytes: [0xc1, 0x1f, 0xfc, 0xc1], found: 'a CTF trace', advice: 'CTF is not read; record with ftrace or trace-cmd' },
  {
    bytes: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xa4, 0x29, 0xb4, 0x0a, 0x77, 0xb1, 0xf2],
    found: 'a trace of QEMU\'s "simple" backend',
    advice: 'print it with scripts/simpletrace.py, or trace with the log backend (-D FILE)',
  },
  { bytes: [0xff, 0xfe], found: 'UTF-16 text', advice: 'convert it to UTF-8 or ASCII' },
  { bytes: [0xfe, 0xff], found: 'UTF-16 text', advice: 'convert it to UTF-8 or ASCII' },
  { bytes: text('%PDF'), found: 'a PDF document' },
  { bytes: [0x89, 0x50, 0x4e, 0x47], found: 'a PNG image' },
  { bytes: text('SQLite format 3'), found: 'an SQLite database' },
];

function startsWith(bytes: Uint8Array, magic: readonly number[], offset = 0): boolean {
  return bytes.length >= offset + magic.length && magic.every((byte, i) => bytes[offset + i] === byte);
}

const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];
const TRACE_DAT = [0x17, 0x08, 0x44, ...text('tracing')];

function verdict(kind: InputKind, found: string, advice = ''): Detection {
  return { kind, found, advice, isCertain: kind !== 'refused' && kind !== 'empty' };
}

/** Judges an input by its first bytes: DETECT_BYTES of them, or all when there are fewer. */
export function detect(bytes: Uint8Array): Detection {
  if (bytes.length === 0) return verdict('empty', 'nothing', EXPECTED);
  if (startsWith(bytes, GZIP)) return verdict('gzip', 'gzip data');
  // A zstd skippable frame may come first: 50..5f 2a 4d 18.
  if (startsWith(bytes, ZSTD) || (startsWith(bytes, [0x2a, 0x4d, 0x18], 1) && (bytes[0] & 0xf0) === 0x50)) {
    return verdict('zstd', 'zstd data');
  }
  if (startsWith(bytes, TRACE_DAT)) return verdict('trace.dat', 'a trace.dat');
  for (const magic of REFUSED) {
    if (startsWith(bytes, magic.bytes, magic.offset)) return verdict('refused', magic.found, magic.advice ?? EXPECTED);
  }
  return judgeText(bytes);
}

/** Text by its first line that belongs to a format; binary when too many bytes are no text. */
function judgeText(bytes: Uint8Array): Detection {
  const header = new LineHeader();
  let start = 0;
  let comments = 0;
  let lines = 0;
  let first: InputKind | undefined;
  while (start < bytes.length && first === undefined) {
    let end = bytes.indexOf(10, start);
    if (end < 0) end = bytes.length;
    let at = start;
    while (at < end && (bytes[at] === 32 || bytes[at] === 9 || bytes[at] === 13)) at++;
    if (at < end) {
      if (bytes[at] === 35) comments++;
      else {
        lines++;
        if (isQemuLine(bytes, at, end)) first = 'qemu-log';
        else if (header.parse(bytes, start, end) || isTraceLine(bytes, at, end)) first = 'text';
      }
    }
    start = end + 1;
  }
  if (first === 'qemu-log') return verdict('qemu-log', 'a QEMU log');
  if (first === 'text') return verdict('text', 'a text trace');
  let odd = 0;
  for (const byte of bytes)
    if (byte === 0 || byte === 127 || (byte < 32 && (byte < 9 || byte > 13) && byte !== 27)) odd++;
  if (odd * 20 > bytes.length || bytes[0] === 0) return verdict('refused', 'binary data of an unknown kind', EXPECTED);
  // The head of an empty trace: `# tracer: nop` and nothing else.
  if (lines === 0 && comments > 0) return { ...verdict('text', 'a text trace without events'), isCertain: false };
  if (lines === 0) return verdict('refused', 'blank lines only', EXPECTED);
  return verdict('refused', `text without a trace line in its first ${lines} lines`, EXPECTED);
}

const TRACE_LINES = ['cpus=', 'CPU:', 'CPU '].map(text);

/** Lines before the first event: `cpus=2` of trace-cmd, a record of lost events. */
function isTraceLine(bytes: Uint8Array, start: number, end: number): boolean {
  return TRACE_LINES.some((line) => startsWith(bytes.subarray(start, end), line));
}

const QEMU_NAMES = ['vtd_', 'amdvi_', 'v9fs_'].map(text);

/** `thread@seconds.micros:name` or a name of the events that are read. */
function isQemuLine(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end && bytes[at] >= 48 && bytes[at] <= 57) at++;
  if (at > start && at < end && bytes[at] === 64) {
    at++;
    while (at < end && ((bytes[at] >= 48 && bytes[at] <= 57) || bytes[at] === 46)) at++;
    return at + 1 < end && bytes[at] === 58 && (bytes[at + 1] | 32) >= 97 && (bytes[at + 1] | 32) <= 122;
  }
  const line = bytes.subarray(start, end);
  return QEMU_NAMES.some((name) => startsWith(line, name));
}
