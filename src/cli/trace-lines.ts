/** Lines of a text by their numbers: what the findings of an audit rest on, as it was recorded. */
import type { Chunks } from '../trace/index.ts';

export interface TraceLine {
  /** From 1. */
  readonly line: number;
  readonly text: string;
}

/** Longer lines are cut: they are for people. */
const MOST_BYTES = 1000;
const LINE_END = 10;

/** Reads as far as the last line that is wanted. */
export async function linesAt(bytes: Chunks, wanted: ReadonlySet<number>): Promise<TraceLine[]> {
  const found: TraceLine[] = [];
  let line = 1;
  let held = '';
  for await (const chunk of bytes) {
    for (let from = 0; from < chunk.length;) {
      if (found.length === wanted.size) return found;
      const at = chunk.indexOf(LINE_END, from);
      const end = at < 0 ? chunk.length : at;
      if (wanted.has(line)) {
        held += Buffer.from(chunk.subarray(from, Math.min(end, from + MOST_BYTES))).toString('latin1');
        if (at >= 0) found.push({ line, text: textOf(held) });
      }
      if (at >= 0) {
        line += 1;
        held = '';
      }
      from = end + 1;
    }
  }
  if (held !== '') found.push({ line, text: textOf(held) });
  return found;
}

/** @param held bytes, one per character: a chunk may end within a character */
function textOf(held: string): string {
  return Buffer.from(held.slice(0, MOST_BYTES), 'latin1').toString('utf8').trimEnd();
}
