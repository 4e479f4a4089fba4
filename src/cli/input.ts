/**
 * Inputs of the commands: a path or `-` for standard input, plain, gzip (several members too) or zstd, holding a text trace, a
 * trace.dat or a QEMU log. Memory stays bounded: text streams through in chunks of 1 MiB; a trace.dat that is not a plain file
 * goes through a temporary file, which is removed whatever happens. Everything that can be wrong with an input becomes a
 * FileError with one line that names the file and says what to do.
 */
import { readSync } from 'node:fs';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type {
  AmdCommandSink,
  Chunks,
  DatSummary,
  OpenedInput,
  QemuLogSink,
  QemuSummary,
  RandomAccess,
  TextSummary,
  TraceSink,
  TraceSummary,
} from '../trace/index.ts';
import {
  FtraceTextReader,
  Names,
  QemuLogReader,
  TraceDatReader,
  commandsOf,
  detect,
  inputProblemOf,
  openInput,
} from '../trace/index.ts';
import type { ReadOptions } from './byte-source.ts';
import { ByteSource, watched } from './byte-source.ts';
import { decompressors, gunzipped } from './expand.ts';
import { FileError, codeOf } from './file-error.ts';
import { TemporaryFile } from './temporary-file.ts';
import type { TraceLine } from './trace-lines.ts';
import { linesAt } from './trace-lines.ts';

/** A read that its signal stopped: what was read until then, null when that was nothing. */
export class ReadInterrupted extends Error {
  readonly summary: TraceSummary | null;

  constructor(summary: TraceSummary | null) {
    super('interrupted while reading');
    this.name = 'ReadInterrupted';
    this.summary = summary;
  }
}

/** Records of a trace.dat between two looks at the signal. */
const RECORDS_PER_TURN = 65536;

/** A reader of any kind, for what it read so far. */
interface Reading<T> {
  /** Takes the rest of an input. */
  run(): Promise<T>;
  /** What was read up to now. */
  readonly summary: T;
}

/** Reads a trace into `sink`. @throws FileError, or ReadInterrupted when the signal fires */
export async function readTrace(
  path: string,
  names: Names,
  sink: TraceSink,
  options: ReadOptions = {},
): Promise<TraceSummary> {
  let reading: Reading<TraceSummary> | null = null;
  try {
    return await withInput(path, options, async (source) => {
      const { detection, bytes } = await open(source);
      if (detection.kind === 'qemu-log') {
        throw new FileError(path, 'is a QEMU log, not a guest trace; give it where a QEMU log is asked for');
      }
      reading =
        detection.kind === 'trace.dat'
          ? await datReading(source, bytes, names, sink, options)
          : textReading(watched(bytes, options), names, sink);
      return await reading.run();
    });
  } catch (error) {
    if (options.signal?.aborted !== true) throw error;
    throw new ReadInterrupted((reading as Reading<TraceSummary> | null)?.summary ?? null);
  }
}

function textReading(bytes: Chunks, names: Names, sink: TraceSink): Reading<TextSummary> {
  const reader = new FtraceTextReader(names, sink);
  return {
    async run() {
      for await (const chunk of bytes) reader.push(chunk);
      return reader.end();
    },
    get summary() {
      return reader.summary;
    },
  };
}

/**
 * Reads a log of commands into one of two sinks: a QEMU -trace log, or a trace with the commands of an AMD-Vi driver.
 * @throws FileError, or ReadInterrupted when the signal fires
 */
export async function readCommands(
  path: string,
  qemu: QemuLogSink,
  amd: AmdCommandSink,
  options: ReadOptions = {},
): Promise<QemuSummary | TraceSummary> {
  try {
    return await withInput(path, options, async (source) => {
      const { detection, bytes } = await open(source);
      const sink = commandsOf(amd);
      if (detection.kind === 'trace.dat') {
        return await (await datReading(source, bytes, new Names(), sink, options)).run();
      }
      if (detection.kind === 'text') return await textReading(watched(bytes, options), new Names(), sink).run();
      const reader = new QemuLogReader(qemu);
      for await (const chunk of watched(bytes, options)) reader.push(chunk);
      return reader.end();
    });
  } catch (error) {
    if (options.signal?.aborted !== true) throw error;
    throw new ReadInterrupted(null);
  }
}

/**
 * Some lines of a text, by their numbers. None of an input that is no text or that can be read only once.
 * @throws FileError, or ReadInterrupted when the signal fires
 */
export async function readLines(
  path: string,
  wanted: ReadonlySet<number>,
  options: ReadOptions = {},
): Promise<TraceLine[]> {
  if (path === '-' || wanted.size === 0) return [];
  try {
    return await withInput(path, options, async (source) => {
      if (source.fd < 0) return [];
      const { detection, bytes } = await open(source);
      return detection.kind === 'text' ? await linesAt(watched(bytes, options), wanted) : [];
    });
  } catch (error) {
    if (options.signal?.aborted !== true) throw error;
    throw new ReadInterrupted(null);
  }
}

async function withInput<T>(path: string, options: ReadOptions, use: (source: ByteSource) => Promise<T>): Promise<T> {
  let source: ByteSource | null = null;
  try {
    options.signal?.throwIfAborted();
    source = new ByteSource(path, options);
    return await use(source);
  } catch (error) {
    throw asFileError(path, error);
  } finally {
    source?.close();
  }
}

/** Finds out what the input is. A stream reads ahead and holds chunks; a parser is done with one when it asks for the next. */
async function open(source: ByteSource): Promise<OpenedInput> {
  const opened = await openInput(source.bytes, gunzipped);
  source.reusesBuffer = !opened.isExpanded && opened.detection.kind !== 'trace.dat';
  return opened;
}

/** Reading of a trace.dat, and its temporary copy unless the input is a plain file. */
async function datReading(
  source: ByteSource,
  bytes: Chunks,
  names: Names,
  sink: TraceSink,
  options: ReadOptions,
): Promise<Reading<DatSummary>> {
  const isPlain = source.total > 0 && isPlainDat(source.fd);
  const copy = isPlain ? null : new TemporaryFile();
  try {
    let size = source.total;
    if (copy === null) await bytes.return();
    else {
      size = 0;
      for await (const chunk of watched(bytes, options)) {
        copy.write(chunk, size);
        size += chunk.length;
      }
    }
    const access: RandomAccess =
      copy === null ? new FileAccess(source.fd, size) : { size, read: (offset, into) => copy.read(into, offset) };
    const reader = new TraceDatReader(access, names, sink, decompressors);
    const { total } = reader.progress;
    return {
      async run() {
        try {
          while (reader.read(RECORDS_PER_TURN)) {
            // Of a plain file the CPU data is what takes time; of a copied one the progress was the copying.
            if (isPlain) options.onProgress?.(size - total + reader.progress.done, size);
            await yieldToEvents();
            options.signal?.throwIfAborted();
          }
          options.onProgress?.(source.total, source.total);
          return reader.summary;
        } finally {
          copy?.close();
        }
      },
      get summary() {
        return reader.summary;
      },
    };
  } catch (error) {
    copy?.close();
    throw error;
  }
}

function isPlainDat(fd: number): boolean {
  const head = new Uint8Array(16);
  return fd >= 0 && readSync(fd, head, 0, 16, 0) === 16 && detect(head).kind === 'trace.dat';
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
  EIO: 'read error; copy the file again',
  Z_BUF_ERROR: 'the gzip data ends early; copy or record the file again',
  Z_DATA_ERROR: 'the gzip data is damaged; copy or record the file again',
};

function asFileError(path: string, error: unknown): Error {
  if (error instanceof FileError) return error;
  const problem = inputProblemOf(error);
  if (problem !== null) return new FileError(path, problem);
  const code = codeOf(error);
  const advice = ADVICE[code];
  if (advice !== undefined) return new FileError(path, advice);
  if (/^E[A-Z0-9]+$/.test(code)) return new FileError(path, `cannot be read (${code}); check the file`);
  return error instanceof Error ? error : new Error(String(error));
}
