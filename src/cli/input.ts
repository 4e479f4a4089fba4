/**
 * Inputs of the commands: a path or `-` for standard input, plain, gzip (several members too) or zstd, holding a text trace, a
 * trace.dat or a QEMU log. Memory stays bounded: text streams through in chunks of 1 MiB; a trace.dat that is not a plain file
 * goes through a temporary file, which is removed whatever happens. Everything that can be wrong with an input becomes an
 * InputError with one line that names the file and says what to do.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, pipeline } from 'node:stream';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { createGunzip, inflateSync } from 'node:zlib';
import { Decompress as ZstdStream, decompress as unzstd } from 'fzstd';
import type {
  DatSummary,
  Decompressors,
  Detection,
  Names,
  QemuLogSink,
  QemuSummary,
  RandomAccess,
  TextSummary,
  TraceSink,
} from '../trace/index.ts';
import { DETECT_BYTES, FtraceTextReader, QemuLogReader, TraceDatReader, TraceError, detect } from '../trace/index.ts';

/** What a trace held; `format` tells which. */
export type TraceSummary = TextSummary | DatSummary;

/** How a read is watched and stopped. */
export interface ReadOptions {
  /** Stops the read between two chunks; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Bytes of the input read so far, of all; total is 0 when it is not known (standard input). */
  readonly onProgress?: (done: number, total: number) => void;
}

/** An input that cannot be used. The message is one line: the file, what is wrong, what to do. */
export class InputError extends Error {
  readonly path: string;

  constructor(path: string, problem: string) {
    super(`${path === '-' ? 'standard input' : path}: ${problem}`);
    this.name = 'InputError';
    this.path = path;
  }
}

const CHUNK_BYTES = 1 << 20;
/** Records of a trace.dat between two looks at the signal. */
const RECORDS_PER_TURN = 65536;

/** trace.dat's decompressors on this platform. */
export const decompressors: Decompressors = {
  zlib: (input, expectedBytes) => inflateSync(input, { maxOutputLength: Math.max(1, expectedBytes) }),
  zstd: (input, expectedBytes) => unzstd(input, new Uint8Array(expectedBytes)),
};

/** Reads a trace into `sink`. @throws InputError, or the signal's reason */
export async function readTrace(
  path: string,
  names: Names,
  sink: TraceSink,
  options: ReadOptions = {},
): Promise<TraceSummary> {
  return await withInput(path, options, async (input) => {
    const { detection, bytes } = await open(path, input);
    if (detection.kind === 'qemu-log') {
      throw new InputError(path, 'is a QEMU log, not a guest trace; give it where a QEMU log is asked for');
    }
    if (detection.kind === 'trace.dat') return await readDat(input, bytes, names, sink, options);
    const reader = new FtraceTextReader(names, sink);
    for await (const chunk of watched(bytes, options)) reader.push(chunk);
    return reader.end();
  });
}

/** Reads a QEMU -trace log into `sink`. @throws InputError, or the signal's reason */
export async function readQemuLog(path: string, sink: QemuLogSink, options: ReadOptions = {}): Promise<QemuSummary> {
  return await withInput(path, options, async (input) => {
    const { detection, bytes } = await open(path, input);
    if (detection.kind !== 'qemu-log') {
      throw new InputError(path, `is ${detection.found}; expected a log of QEMU's -trace option (-D FILE)`);
    }
    const reader = new QemuLogReader(sink);
    for await (const chunk of watched(bytes, options)) reader.push(chunk);
    return reader.end();
  });
}

/** An opened file or standard input. */
interface RawInput {
  /** -1 for standard input. */
  readonly fd: number;
  /** Bytes in all; 0 when unknown. */
  readonly total: number;
  /** The bytes, with progress and the signal looked after. */
  readonly bytes: AsyncGenerator<Uint8Array, void, void>;
  readonly cleanUps: (() => void)[];
  readonly buffers: Buffers;
}

/** Whether a chunk is used up when the next one is asked for: then one buffer serves all, which saves a third of the time. */
interface Buffers {
  reusable: boolean;
}

async function withInput<T>(path: string, options: ReadOptions, use: (input: RawInput) => Promise<T>): Promise<T> {
  const cleanUps: (() => void)[] = [];
  try {
    options.signal?.throwIfAborted();
    let fd = -1;
    let total = 0;
    if (path !== '-') {
      fd = openSync(path, 'r');
      cleanUps.push(() => closeSync(fd));
      const stat = fstatSync(fd);
      if (stat.isDirectory()) throw new InputError(path, 'is a directory; give a trace file in it');
      total = stat.isFile() ? stat.size : 0;
    }
    const buffers = { reusable: false };
    const bytes = fd >= 0 ? fileChunks(fd, total, buffers, options) : stdinChunks(options);
    return await use({ fd, total, bytes, cleanUps, buffers });
  } catch (error) {
    // The caller's own abort reason is passed on as it is, also when a stream wrapped it.
    options.signal?.throwIfAborted();
    throw asInputError(path, error);
  } finally {
    for (const cleanUp of cleanUps.reverse()) cleanUp();
  }
}

async function* fileChunks(
  fd: number,
  total: number,
  buffers: Buffers,
  options: ReadOptions,
): AsyncGenerator<Uint8Array, void, void> {
  let done = 0;
  let spare: Uint8Array | undefined;
  for (;;) {
    const buffer = spare ?? new Uint8Array(CHUNK_BYTES);
    if (buffers.reusable) spare = buffer;
    const count = readSync(fd, buffer, 0, CHUNK_BYTES, null);
    if (count === 0) return;
    done += count;
    yield buffer.subarray(0, count);
    options.onProgress?.(done, total);
  }
}

/** The same chunks with a look at the signal after each and time for other events now and then: also inside one archive chunk. */
async function* watched(
  bytes: AsyncGenerator<Uint8Array, void, void>,
  options: ReadOptions,
): AsyncGenerator<Uint8Array, void, void> {
  let sinceYield = 0;
  for await (const chunk of bytes) {
    yield chunk;
    sinceYield += chunk.length;
    if (sinceYield >= CHUNK_BYTES) {
      sinceYield = 0;
      await yieldToEvents();
    }
    options.signal?.throwIfAborted();
  }
}

async function* stdinChunks(options: ReadOptions): AsyncGenerator<Uint8Array, void, void> {
  const { signal, onProgress } = options;
  const stop = (): void => void process.stdin.destroy(new Error('aborted'));
  signal?.addEventListener('abort', stop, { once: true });
  try {
    let done = 0;
    for await (const chunk of process.stdin as AsyncIterable<Uint8Array>) {
      done += chunk.length;
      yield chunk;
      onProgress?.(done, 0);
    }
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

interface Opened {
  readonly detection: Detection;
  /** The expanded bytes, the ones looked at for the verdict included. */
  readonly bytes: AsyncGenerator<Uint8Array, void, void>;
}

/** Finds out what the input is, through one layer of compression. */
async function open(path: string, input: RawInput): Promise<Opened> {
  const outer = await look(input.bytes);
  let opened = outer;
  // A stream reads ahead and holds chunks; a parser is done with one when it asks for the next.
  input.buffers.reusable = outer.detection.kind === 'text' || outer.detection.kind === 'qemu-log';
  if (outer.detection.kind === 'gzip') opened = await look(gunzipped(outer.bytes));
  else if (outer.detection.kind === 'zstd') opened = await look(unzstded(outer.bytes));
  const { kind, found, advice } = opened.detection;
  const inside = opened === outer ? '' : ` inside ${outer.detection.found}`;
  if (kind === 'gzip' || kind === 'zstd') throw new InputError(path, `is ${found}${inside}; expand it once`);
  if (kind === 'empty') throw new InputError(path, `is empty${inside}; ${advice}`);
  if (kind === 'refused') throw new InputError(path, `is ${found}${inside}; ${advice}`);
  return opened;
}

/** Reads until a verdict is possible, and gives the same bytes out again. */
async function look(bytes: AsyncGenerator<Uint8Array, void, void>): Promise<Opened> {
  const held: Uint8Array[] = [];
  let length = 0;
  while (length < DETECT_BYTES) {
    const next = await bytes.next();
    if (next.done === true) break;
    held.push(next.value);
    length += next.value.length;
  }
  const detection = detect(Buffer.concat(held).subarray(0, DETECT_BYTES));
  async function* again(): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* held.splice(0);
      yield* bytes;
    } finally {
      await bytes.return();
    }
  }
  return { detection, bytes: again() };
}

async function* gunzipped(bytes: AsyncGenerator<Uint8Array, void, void>): AsyncGenerator<Uint8Array, void, void> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // The error comes out of the loop below; the callback only keeps it from being unhandled.
  pipeline(Readable.from(bytes, { objectMode: false, highWaterMark: CHUNK_BYTES }), gunzip, () => {});
  try {
    for await (const chunk of gunzip as AsyncIterable<Uint8Array>) yield chunk;
  } finally {
    gunzip.destroy();
  }
}

async function* unzstded(bytes: AsyncGenerator<Uint8Array, void, void>): AsyncGenerator<Uint8Array, void, void> {
  const out: Uint8Array[] = [];
  const stream = new ZstdStream((chunk) => void out.push(chunk));
  for await (const chunk of bytes) {
    zstdStep(() => stream.push(chunk));
    yield* out.splice(0);
  }
  zstdStep(() => stream.push(new Uint8Array(0), true));
  yield* out.splice(0);
}

/** fzstd throws its own errors for bad data, and TypeErrors or RangeErrors of its inner workings for worse. */
class ZstdProblem extends Error {}

function zstdStep(step: () => void): void {
  try {
    step();
  } catch (error) {
    throw new ZstdProblem(error instanceof Error ? error.message : 'unknown error');
  }
}

async function readDat(
  input: RawInput,
  bytes: AsyncGenerator<Uint8Array, void, void>,
  names: Names,
  sink: TraceSink,
  options: ReadOptions,
): Promise<DatSummary> {
  const file = await randomAccess(input, watched(bytes, options));
  const reader = new TraceDatReader(file.source, names, sink, decompressors);
  const { total } = reader.progress;
  while (reader.read(RECORDS_PER_TURN)) {
    // Of a plain file the CPU data is what takes time; of a spooled one the progress was the spooling.
    if (!file.spooled) options.onProgress?.(input.total - total + reader.progress.done, input.total);
    await yieldToEvents();
    options.signal?.throwIfAborted();
  }
  options.onProgress?.(input.total, input.total);
  return reader.end();
}

/** The bytes as a file that can be read anywhere: the input itself when it is a plain regular file, else a temporary copy. */
async function randomAccess(
  input: RawInput,
  bytes: AsyncGenerator<Uint8Array, void, void>,
): Promise<{ readonly source: RandomAccess; readonly spooled: boolean }> {
  if (input.total > 0 && isPlainDat(input.fd)) {
    await bytes.return();
    return { source: new FileAccess(input.fd, input.total), spooled: false };
  }
  const folder = mkdtempSync(join(tmpdir(), 'iommukit-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  input.cleanUps.push(remove);
  const fd = openSync(join(folder, 'trace.dat'), 'wx+', 0o600);
  input.cleanUps.push(() => closeSync(fd));
  // Where an open file can be unlinked it is gone even when the process is killed.
  if (process.platform !== 'win32') remove();
  let size = 0;
  for await (const chunk of bytes) {
    for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at, chunk.length - at, size + at);
    size += chunk.length;
  }
  return { source: new FileAccess(fd, size), spooled: true };
}

function isPlainDat(fd: number): boolean {
  const head = new Uint8Array(16);
  return readSync(fd, head, 0, 16, 0) === 16 && detect(head).kind === 'trace.dat';
}

/** Reads of an open file at any offset. */
class FileAccess implements RandomAccess {
  readonly size: number;
  readonly #fd: number;

  constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  read(offset: number, into: Uint8Array): number {
    let got = 0;
    while (got < into.length) {
      const count = readSync(this.#fd, into, got, into.length - got, offset + got);
      if (count === 0) break;
      got += count;
    }
    return got;
  }
}

/** What to do, by the error code of the system or of zlib. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'no such file; check the path',
  ENOTDIR: 'a part of the path is not a directory; check the path',
  EISDIR: 'is a directory; give a trace file in it',
  EACCES: 'permission denied; traces are often readable by root only: copy it or change its mode',
  EPERM: 'permission denied; traces are often readable by root only: copy it or change its mode',
  EMFILE: 'too many open files; close some or raise `ulimit -n`',
  ENOSPC: `no space for a temporary copy in ${tmpdir()}; expand the file first or set TMPDIR`,
  EIO: 'read error; copy the file again',
  Z_BUF_ERROR: 'the gzip data ends early; copy or record the file again',
  Z_DATA_ERROR: 'the gzip data is damaged; copy or record the file again',
};

function asInputError(path: string, error: unknown): Error {
  if (error instanceof InputError) return error;
  if (error instanceof ZstdProblem) {
    const early = /EOF/i.test(error.message);
    return new InputError(path, `the zstd data ${early ? 'ends early' : 'is damaged'}; copy or record the file again`);
  }
  if (error instanceof TraceError) {
    const advice =
      error.code === 'unsupported' ? 'give the text of `trace-cmd report` instead' : 'copy or record the file again';
    return new InputError(path, `${error.message}; ${advice}`);
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const advice = ADVICE[code];
  if (advice !== undefined) return new InputError(path, advice);
  if (/^E[A-Z0-9]+$/.test(code)) return new InputError(path, `cannot be read (${code}); check the file`);
  return error instanceof Error ? error : new Error(String(error));
}
