/** A file of the user's read into a sink, in the worker: text as it streams by, a trace.dat from memory. */
import type { Chunks, DatSummary, TextSummary, TraceSink, TraceSummary } from '../../../src/trace/index.ts';
import {
  FtraceTextReader,
  InputProblem,
  MemoryAccess,
  Names,
  TraceDatReader,
  inputProblemOf,
  openInput,
} from '../../../src/trace/index.ts';
import type { JobContext } from '../engine/protocol.ts';
import { JobError } from '../engine/protocol.ts';
import { decompressors, gunzipped } from './gunzip.ts';

/** Of text read, or of records of a trace.dat, between two looks at the messages: some 10 ms of work. */
const BYTES_PER_TURN: number = 1 << 20;
const RECORDS_PER_TURN = 16384;
/** A trace.dat is read at many places at once, so it is held in memory. */
const MOST_DAT_BYTES: number = 512 << 20;

/** @throws JobError for what cannot be used */
export async function readTrace(
  file: Blob,
  name: string,
  names: Names,
  sink: TraceSink,
  context: JobContext,
): Promise<TraceSummary> {
  try {
    const { detection, bytes } = await openInput(progressing(file, context), gunzipped);
    if (detection.kind === 'qemu-log') {
      throw new InputProblem('is a QEMU log, not a guest trace; iommukit replay --compare takes it');
    }
    if (detection.kind === 'trace.dat') return await readDat(bytes, names, sink, context);
    return await readText(bytes, names, sink, context);
  } catch (error) {
    const problem = inputProblemOf(error);
    if (problem !== null) throw new JobError(`${name}: ${problem}`);
    // The file was moved, changed or is not readable since it was chosen.
    if (error instanceof DOMException && error.name === 'NotReadableError') {
      throw new JobError(`${name}: cannot be read any more; choose it again`);
    }
    throw error;
  }
}

async function* progressing(file: Blob, context: JobContext): Chunks {
  const reader = file.stream().getReader();
  try {
    for (let done = 0; ;) {
      const next = await reader.read();
      if (next.done) return;
      done += next.value.length;
      yield next.value;
      context.progress('reading', done, file.size);
    }
  } finally {
    await reader.cancel();
  }
}

async function readText(bytes: Chunks, names: Names, sink: TraceSink, context: JobContext): Promise<TextSummary> {
  const reader = new FtraceTextReader(names, sink);
  let sincePause = 0;
  for await (const chunk of bytes) {
    for (let at = 0; at < chunk.length; at += BYTES_PER_TURN) {
      const part = chunk.subarray(at, at + BYTES_PER_TURN);
      reader.push(part);
      sincePause += part.length;
      if (sincePause < BYTES_PER_TURN) continue;
      sincePause = 0;
      await context.pause();
    }
  }
  return reader.end();
}

async function readDat(bytes: Chunks, names: Names, sink: TraceSink, context: JobContext): Promise<DatSummary> {
  const reader = new TraceDatReader(new MemoryAccess(await gathered(bytes, context)), names, sink, decompressors);
  while (reader.read(RECORDS_PER_TURN)) {
    const { done, total } = reader.progress;
    context.progress('decoding', done, total);
    await context.pause();
  }
  return reader.summary;
}

async function gathered(bytes: Chunks, context: JobContext): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of bytes) {
    parts.push(part);
    length += part.length;
    if (length > MOST_DAT_BYTES) {
      throw new InputProblem(
        `is a trace.dat of more than ${MOST_DAT_BYTES >> 20} MiB, which the page does not hold; use iommukit replay`,
      );
    }
    await context.pause();
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
