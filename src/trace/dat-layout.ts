/**
 * Where things are in a trace.dat: trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5), checked against files of trace-cmd 3.1.6 and
 * its reader (lib/trace-cmd/trace-input.c, 3.3). Version 6 is one sequence of parts and then the CPU data; version 7 is sections
 * found through chained option lists, each section perhaps compressed. Only what decoding needs is read: kallsyms, printk
 * formats and command lines are stepped over.
 */
import { decodeUtf8 } from './bytetext.ts';
import type { RandomAccess } from './dat-bytes.ts';
import { DatCursor, readExactly } from './dat-bytes.ts';
import type { EventFormat, FormatField } from './event-format.ts';
import { parseFields, parseFormat } from './event-format.ts';
import { TraceError } from './trace-error.ts';

/** Expands `input`; the result must have `expectedBytes` bytes. May throw anything on malformed input. */
export type Decompress = (input: Uint8Array, expectedBytes: number) => Uint8Array;

/** The algorithms trace-cmd uses. One that is missing makes files that need it 'unsupported'. */
export interface Decompressors {
  readonly zlib?: Decompress;
  readonly zstd?: Decompress;
}

/** The ring buffer pages of one CPU. */
export interface CpuData {
  readonly cpu: number;
  readonly offset: number;
  /** Bytes in the file. */
  readonly nrBytes: number;
  readonly pageBytes: number;
  /** True when the pages are in compressed chunks. */
  readonly compressed: boolean;
}

/** Position of the parts of a ring buffer page, from header_page. */
export interface PageLayout {
  readonly commitOffset: number;
  /** 4 or 8: the kernel's long. */
  readonly commitBytes: number;
  readonly dataOffset: number;
}

/** Conversion of a TSC clock: ns = (ticks * multiplier >> shift) + offset. */
interface TscToNs {
  readonly multiplier: number;
  readonly shift: number;
  readonly offset: number;
}

/** What a trace.dat holds and where. */
export interface DatLayout {
  readonly version: 6 | 7;
  readonly compression: string;
  readonly page: PageLayout;
  readonly formats: ReadonlyMap<number, EventFormat>;
  readonly cpus: readonly CpuData[];
  readonly tsc: TscToNs | undefined;
  readonly expand: Decompress | undefined;
}

/** Largest metadata section that is expanded; the formats of a whole kernel are about 2 MiB. */
const MAX_SECTION_BYTES = 64 << 20;
/** Largest file part of version 6 that is held at once, formats of one event. */
const MAX_FORMAT_BYTES = 4 << 20;
/** Enough of a format for its name, its id and the common fields. */
const COMMON_BYTES = 640;
const MAX_PAGE_BYTES = 4 << 20;
const MAX_OPTION_SECTIONS = 1024;
const MAX_CPUS = 65536;
/** Fields are kept for these systems only; of the others the name is enough. */
const DECODED_SYSTEMS = new Set(['iommu', 'dma', 'intel_iommu', 'ftrace']);

const Option = {
  done: 0,
  buffer: 3,
  tsc2nsec: 14,
  headerInfo: 16,
  ftraceEvents: 17,
  eventFormats: 18,
} as const;

/** Collects what the parts say; both versions fill one. */
class LayoutBuilder {
  readonly formats = new Map<number, EventFormat>();
  readonly cpus: CpuData[] = [];
  page: PageLayout | undefined;
  tsc: TscToNs | undefined;

  headerInfo(cursor: DatCursor): void {
    cursor.magic('header_page');
    const start = cursor.offset;
    const nrBytes = cursor.u64('the size of header_page');
    const at = cursor.take(nrBytes, 'header_page');
    const fields = parseFields(decodeUtf8(cursor.bytes, at, at + nrBytes));
    this.page = pageLayout(fields, start);
    cursor.magic('header_event');
    cursor.take(cursor.u64('the size of header_event'), 'header_event');
  }

  ftraceEvents(cursor: DatCursor): void {
    const count = cursor.u32('the number of ftrace event formats');
    for (let i = 0; i < count; i++) this.#format(cursor, 'ftrace');
  }

  eventFormats(cursor: DatCursor): void {
    const nrSystems = cursor.u32('the number of event systems');
    for (let i = 0; i < nrSystems; i++) {
      const system = cursor.text('the name of an event system');
      const count = cursor.u32(`the number of events of ${system.slice(0, 40)}`);
      for (let event = 0; event < count; event++) this.#format(cursor, system);
    }
  }

  #format(cursor: DatCursor, system: string): void {
    const nrBytes = cursor.u64('the size of an event format');
    const at = cursor.take(nrBytes, 'an event format');
    const end = DECODED_SYSTEMS.has(system)
      ? at + Math.min(nrBytes, MAX_FORMAT_BYTES)
      : Math.min(at + nrBytes, at + COMMON_BYTES);
    const format = parseFormat(system, decodeUtf8(cursor.bytes, at, end));
    if (format !== undefined) this.formats.set(format.id, format);
  }

  finish(version: 6 | 7, compression: string, expand: Decompress | undefined, source: RandomAccess): DatLayout {
    if (this.page === undefined) throw new TraceError('corrupt', -1, 'a header_page part', 'none');
    for (const cpu of this.cpus) {
      if (cpu.offset + cpu.nrBytes > source.size) {
        const found = `${Math.max(0, source.size - cpu.offset)} bytes`;
        throw new TraceError('truncated', cpu.offset, `the data of CPU ${cpu.cpu} (${cpu.nrBytes} bytes)`, found);
      }
      if (cpu.pageBytes < 256 || cpu.pageBytes > MAX_PAGE_BYTES || this.page.dataOffset + 8 > cpu.pageBytes) {
        throw new TraceError('corrupt', cpu.offset, 'a page size of 256 bytes to 4 MiB', `${cpu.pageBytes}`);
      }
    }
    return { version, compression, page: this.page, formats: this.formats, cpus: this.cpus, tsc: this.tsc, expand };
  }
}

function pageLayout(fields: ReadonlyMap<string, FormatField>, offset: number): PageLayout {
  const commit = fields.get('commit');
  const data = fields.get('data');
  if (commit === undefined || data === undefined || (commit.nrBytes !== 4 && commit.nrBytes !== 8)) {
    throw new TraceError(
      'corrupt',
      offset,
      'header_page with the fields commit (4 or 8 bytes) and data',
      'other fields',
    );
  }
  if (commit.offset < 8 || commit.offset > 64 || data.offset < commit.offset + commit.nrBytes || data.offset > 128) {
    throw new TraceError(
      'corrupt',
      offset,
      'header_page with commit behind the time and data behind commit',
      `data at ${data.offset}`,
    );
  }
  return { commitOffset: commit.offset, commitBytes: commit.nrBytes, dataOffset: data.offset };
}

/** Expands one piece with errors turned into TraceError. */
export function expandChecked(
  expand: Decompress | undefined,
  input: Uint8Array,
  nrBytes: number,
  offset: number,
): Uint8Array {
  if (expand === undefined)
    throw new TraceError('corrupt', offset, 'uncompressed data: the file names no compression', 'a compressed part');
  let output: Uint8Array;
  try {
    output = expand(input, nrBytes);
  } catch (error) {
    throw new TraceError(
      'corrupt',
      offset,
      'compressed data',
      `${error instanceof Error ? error.message : 'an error'} while expanding it`,
    );
  }
  if (output.length !== nrBytes)
    throw new TraceError('corrupt', offset, `${nrBytes} bytes after expanding`, `${output.length}`);
  return output;
}

/** Reads the layout. @throws TraceError */
export function readDatLayout(source: RandomAccess, decompressors: Decompressors): DatLayout {
  const head = new DatCursor(readExactly(source, 0, Math.min(source.size, 4096), 'the head of a trace.dat'), 0);
  if (head.left < 10 || head.u8('magic') !== 0x17 || head.u8('magic') !== 0x08 || head.u8('magic') !== 0x44) {
    throw new TraceError('not-a-trace', 0, 'the trace.dat magic 17 08 44', 'other bytes');
  }
  head.pos += 7;
  const version = head.text('the version');
  if (version !== '6' && version !== '7') {
    throw new TraceError(
      'unsupported',
      10,
      'trace.dat version 6 or 7',
      `version "${version.slice(0, 8).replace(/[^ -~]/g, '?')}"`,
    );
  }
  const endian = head.u8('the byte order');
  if (endian === 1) throw new TraceError('unsupported', head.offset - 1, 'a little-endian trace', 'a big-endian one');
  if (endian !== 0) throw new TraceError('corrupt', head.offset - 1, 'a byte order of 0 or 1', `${endian}`);
  const longBytes = head.u8('the size of long');
  if (longBytes !== 4 && longBytes !== 8)
    throw new TraceError('corrupt', head.offset - 1, 'a long of 4 or 8 bytes', `${longBytes}`);
  const pageBytes = head.u32('the page size');
  return version === '6' ? readVersion6(source, head.pos, pageBytes) : readVersion7(source, head, decompressors);
}

/** Version 6 without copying the file: a cursor over a window that grows as parts turn out larger. */
function readVersion6(source: RandomAccess, start: number, pageBytes: number): DatLayout {
  const builder = new LayoutBuilder();
  // All parts before the CPU data in one piece. The CPU data is page aligned behind them, and its offsets are not known yet.
  let window = 1 << 20;
  for (;;) {
    const length = Math.min(window, source.size - start);
    const cursor = new DatCursor(readExactly(source, start, length, 'the parts of a trace.dat'), start);
    try {
      return parseVersion6(source, cursor, builder, pageBytes);
    } catch (error) {
      if (!(error instanceof TraceError) || error.code !== 'truncated' || start + length >= source.size) throw error;
      if (window >= MAX_SECTION_BYTES)
        throw new TraceError('corrupt', start, `parts of at most ${MAX_SECTION_BYTES} bytes`, 'more');
      window *= 4;
      builder.cpus.length = 0;
    }
  }
}

function parseVersion6(source: RandomAccess, cursor: DatCursor, builder: LayoutBuilder, pageBytes: number): DatLayout {
  builder.headerInfo(cursor);
  builder.ftraceEvents(cursor);
  builder.eventFormats(cursor);
  cursor.take(cursor.u32('the size of kallsyms'), 'kallsyms');
  cursor.take(cursor.u32('the size of the printk formats'), 'the printk formats');
  cursor.take(cursor.u64('the size of the command lines'), 'the command lines');
  const nrCpus = cursor.u32('the number of CPUs');
  if (nrCpus > MAX_CPUS) throw new TraceError('corrupt', cursor.offset - 4, `at most ${MAX_CPUS} CPUs`, `${nrCpus}`);
  const instances: number[] = [];
  for (;;) {
    const at = cursor.take(10, '"options", "latency" or "flyrecord"');
    const kind = decodeUtf8(cursor.bytes, at, at + 9);
    if (kind === 'flyrecord') break;
    if (kind === 'latency  ') {
      throw new TraceError(
        'unsupported',
        cursor.offset - 10,
        'event records',
        'a latency trace: read its text with `trace-cmd report`',
      );
    }
    if (kind !== 'options  ')
      throw new TraceError('corrupt', cursor.offset - 10, '"options", "latency" or "flyrecord"', 'other bytes');
    for (;;) {
      const id = cursor.u16('an option id');
      if (id === Option.done) break;
      const nrBytes = cursor.u32('an option size');
      const option = cursor.take(nrBytes, `option ${id}`);
      if (id === Option.tsc2nsec) builder.tsc = tscOption(cursor, option, nrBytes);
      else if (id === Option.buffer && nrBytes >= 9) {
        instances.push(new DatCursor(cursor.bytes.subarray(option, option + 8), cursor.offset).u64('a buffer offset'));
      }
    }
  }
  cpuTable(cursor, nrCpus, pageBytes, builder);
  // Other trace instances have a table of their own elsewhere in the file.
  for (const offset of instances.slice(0, MAX_OPTION_SECTIONS)) {
    const length = 10 + nrCpus * 16;
    const table = new DatCursor(readExactly(source, offset, length, 'the CPU table of a trace instance'), offset);
    table.magic('flyrecord');
    cpuTable(table, nrCpus, pageBytes, builder);
  }
  return builder.finish(6, 'none', undefined, source);
}

function cpuTable(cursor: DatCursor, nrCpus: number, pageBytes: number, builder: LayoutBuilder): void {
  for (let cpu = 0; cpu < nrCpus; cpu++) {
    const offset = cursor.u64(`the offset of CPU ${cpu}`);
    const nrBytes = cursor.u64(`the size of CPU ${cpu}`);
    if (nrBytes > 0) builder.cpus.push({ cpu, offset, nrBytes, pageBytes, compressed: false });
  }
}

function tscOption(cursor: DatCursor, option: number, nrBytes: number): TscToNs {
  const data = new DatCursor(cursor.bytes.subarray(option, option + nrBytes), cursor.offset - nrBytes);
  const multiplier = data.u32('the TSC multiplier');
  const shift = data.u32('the TSC shift');
  if (shift > 63) throw new TraceError('corrupt', data.offset - 4, 'a TSC shift below 64', `${shift}`);
  return { multiplier, shift, offset: data.u64('the TSC offset') };
}

/** Content and flags of the section at `offset`. */
function readSection(source: RandomAccess, offset: number, id: number, expand: Decompress | undefined): DatCursor {
  const head = new DatCursor(readExactly(source, offset, 16, 'a section header'), offset);
  const found = head.u16('a section id');
  if (found !== id) throw new TraceError('corrupt', offset, `section ${id}`, `section ${found}`);
  const flags = head.u16('section flags');
  head.u32('a section name');
  const nrBytes = head.u64('a section size');
  if (nrBytes > MAX_SECTION_BYTES)
    throw new TraceError('corrupt', offset, `a section of at most ${MAX_SECTION_BYTES} bytes`, `${nrBytes}`);
  const stored = readExactly(source, offset + 16, nrBytes, `section ${id}`);
  if ((flags & 1) === 0) return new DatCursor(stored, offset + 16);
  const packed = new DatCursor(stored, offset + 16);
  const packedBytes = packed.u32('the compressed size');
  const plainBytes = packed.u32('the uncompressed size');
  if (plainBytes > MAX_SECTION_BYTES) {
    throw new TraceError(
      'corrupt',
      packed.offset - 4,
      `a section of at most ${MAX_SECTION_BYTES} bytes`,
      `${plainBytes}`,
    );
  }
  const at = packed.take(packedBytes, `the compressed data of section ${id}`);
  return new DatCursor(
    expandChecked(expand, stored.subarray(at, at + packedBytes), plainBytes, offset + 24),
    offset + 24,
  );
}

function readVersion7(source: RandomAccess, head: DatCursor, decompressors: Decompressors): DatLayout {
  const compression = head.text('the compression algorithm');
  head.text('the compression version');
  const expand = compression === 'zlib' ? decompressors.zlib : compression === 'zstd' ? decompressors.zstd : undefined;
  if (expand === undefined && compression !== 'none') {
    throw new TraceError(
      'unsupported',
      head.offset,
      'compression by none, zlib or zstd',
      `"${compression.slice(0, 16).replace(/[^ -~]/g, '?')}"`,
    );
  }
  let next = head.u64('the offset of the options');
  const builder = new LayoutBuilder();
  for (let count = 0; next !== 0; count++) {
    if (count === MAX_OPTION_SECTIONS)
      throw new TraceError('corrupt', next, `at most ${MAX_OPTION_SECTIONS} option sections`, 'a longer chain');
    const options = readSection(source, next, 0, expand);
    next = 0;
    while (options.left > 0) {
      const id = options.u16('an option id');
      const nrBytes = options.u32('an option size');
      const at = options.take(nrBytes, `option ${id}`);
      const option = new DatCursor(options.bytes.subarray(at, at + nrBytes), options.offset - nrBytes);
      if (id === Option.done) {
        next = option.u64('the offset of the next options');
        break;
      }
      readOption(source, id, option, builder, expand);
    }
  }
  return builder.finish(7, compression, expand, source);
}

function readOption(
  source: RandomAccess,
  id: number,
  option: DatCursor,
  builder: LayoutBuilder,
  expand: Decompress | undefined,
): void {
  if (id === Option.headerInfo) builder.headerInfo(readSection(source, option.u64('an offset'), id, expand));
  else if (id === Option.ftraceEvents) builder.ftraceEvents(readSection(source, option.u64('an offset'), id, expand));
  else if (id === Option.eventFormats) builder.eventFormats(readSection(source, option.u64('an offset'), id, expand));
  else if (id === Option.tsc2nsec) builder.tsc = tscOption(option, option.pos, option.left);
  else if (id === Option.buffer) readBuffer(source, option, builder);
}

function readBuffer(source: RandomAccess, option: DatCursor, builder: LayoutBuilder): void {
  const section = option.u64('the offset of a buffer');
  const head = new DatCursor(readExactly(source, section, 16, 'the section header of a buffer'), section);
  const id = head.u16('a section id');
  if (id !== Option.buffer) throw new TraceError('corrupt', section, `section ${Option.buffer}`, `section ${id}`);
  const compressed = (head.u16('section flags') & 1) !== 0;
  option.text('the name of a trace instance');
  option.text('the clock of a trace instance');
  const pageBytes = option.u32('the page size of a buffer');
  const nrCpus = option.u32('the number of CPUs of a buffer');
  if (nrCpus > MAX_CPUS) throw new TraceError('corrupt', option.offset - 4, `at most ${MAX_CPUS} CPUs`, `${nrCpus}`);
  for (let i = 0; i < nrCpus; i++) {
    const cpu = option.u32('a CPU number');
    const offset = option.u64(`the offset of CPU ${cpu}`);
    const nrBytes = option.u64(`the size of CPU ${cpu}`);
    if (nrBytes > 0) builder.cpus.push({ cpu, offset, nrBytes, pageBytes, compressed });
  }
}
