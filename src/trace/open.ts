/**
 * An input opened: what it is is found out from its first bytes, through one layer of compression, and the same bytes come out
 * again, expanded. The platform gives the chunks and gunzip; zstd is read here, since no platform of ours has it everywhere.
 */
import { Decompress as ZstdStream } from 'fzstd';
import type { Detection } from './detect.ts';
import { DETECT_BYTES, detect } from './detect.ts';
import { TraceError } from './trace-error.ts';

/** The bytes of an input, in order. */
export type Chunks = AsyncGenerator<Uint8Array, void, void>;

export interface OpenedInput {
  readonly detection: Detection;
  /** The expanded bytes, the ones looked at for the verdict included. */
  readonly bytes: Chunks;
  /** Whether they were compressed. */
  readonly isExpanded: boolean;
}

/** An input that cannot be used. The message says what it is and what to do, and follows the name of the input. */
export class InputProblem extends Error {
  override readonly name = 'InputProblem';
}

/** @param gunzipped expands gzip, several members too @throws InputProblem for what no reader takes */
export async function openInput(bytes: Chunks, gunzipped: (bytes: Chunks) => Chunks): Promise<OpenedInput> {
  const outer = await look(bytes);
  let opened = outer;
  if (outer.detection.kind === 'gzip') opened = await look(gunzipped(outer.bytes));
  else if (outer.detection.kind === 'zstd') opened = await look(unzstded(outer.bytes));
  const { kind, found, advice } = opened.detection;
  const isExpanded = opened !== outer;
  const inside = isExpanded ? ` inside ${outer.detection.found}` : '';
  if (kind === 'gzip' || kind === 'zstd') throw new InputProblem(`is ${found}${inside}; expand it once`);
  if (kind === 'empty') throw new InputProblem(`is empty${inside}; ${advice}`);
  if (kind === 'refused') throw new InputProblem(`is ${found}${inside}; ${advice}`);
  return { ...opened, isExpanded };
}

/** Reads until a verdict is possible, and gives the same bytes out again. */
async function look(bytes: Chunks): Promise<Omit<OpenedInput, 'isExpanded'>> {
  const held: Uint8Array[] = [];
  let length = 0;
  let detection = detect(new Uint8Array(0));
  // From a slow pipe the first lines should count before there are DETECT_BYTES of them. Twice as many bytes for each new look
  // keep the work small.
  for (let nextLook = 1; length < DETECT_BYTES && !detection.isCertain;) {
    const next = await bytes.next();
    if (next.done === true) {
      detection = detect(joined(held, length));
      break;
    }
    held.push(next.value);
    length += next.value.length;
    if (length < nextLook) continue;
    nextLook = Math.min(length * 2, DETECT_BYTES);
    detection = detect(joined(held, length).subarray(0, DETECT_BYTES));
  }
  async function* again(): Chunks {
    try {
      yield* held.splice(0);
      yield* bytes;
    } finally {
      await bytes.return();
    }
  }
  return { detection, bytes: again() };
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function* unzstded(bytes: Chunks): Chunks {
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
function zstdStep(step: () => void): void {
  try {
    step();
  } catch (error) {
    const early = error instanceof Error && /EOF/i.test(error.message);
    throw new InputProblem(`the zstd data ${early ? 'ends early' : 'is damaged'}; copy or record the file again`);
  }
}

/** What a reader's error says about its input, for people; null for an error of another kind. */
export function inputProblemOf(error: unknown): string | null {
  if (error instanceof InputProblem) return error.message;
  if (!(error instanceof TraceError)) return null;
  const advice =
    error.code === 'unsupported' ? 'give the text of `trace-cmd report` instead' : 'copy or record the file again';
  return `${error.message}; ${advice}`;
}
