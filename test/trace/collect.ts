/** What the tests of the readers share: events as plain records of the fields that their kind defines. */
import type { TraceEvent, TraceSink } from '../../src/trace/index.ts';
import { EventKind, FtraceTextReader, Names } from '../../src/trace/index.ts';

const KIND_NAMES = new Map<number, string>(Object.entries(EventKind).map(([name, kind]) => [kind, name]));

/** Fields by kind, beside the ones every event has. */
const FIELDS: Record<string, readonly string[]> = {
  map: ['iova', 'nrBytes', 'paddr'],
  unmap: ['iova', 'nrBytes', 'extra'],
  attach: ['device'],
  detach: ['device'],
  addDevice: ['device', 'extra'],
  removeDevice: ['device', 'extra'],
  fault: ['device', 'iova', 'extra'],
  dmaMap: ['device', 'iova', 'nrBytes', 'paddr'],
  dmaUnmap: ['device', 'iova', 'nrBytes'],
  dmaAlloc: ['device', 'iova', 'nrBytes'],
  dmaFree: ['device', 'iova', 'nrBytes'],
  dmaMapSg: ['device', 'extra', 'list', 'listTruncated'],
  dmaUnmapSg: ['device', 'list', 'listTruncated'],
  dmaMapSgError: ['device'],
  dmaSync: ['device'],
  mark: ['text'],
  qiSubmit: ['text', 'words', 'extra'],
  cacheTag: ['text', 'extra'],
  lost: ['extra'],
  other: ['text'],
};

export type Plain = Record<string, unknown>;

export function plain(event: TraceEvent, names: Names): Plain {
  const kind = KIND_NAMES.get(event.kind) ?? '?';
  const { timeNs, pid, cpu, irqContext } = event;
  const record: Plain = { kind, timeNs, pid, cpu, irqContext };
  for (const field of FIELDS[kind] ?? []) {
    if (field === 'device') record[field] = event.device < 0 ? '' : names.nameOf(event.device);
    else if (field === 'list') record[field] = Array.from(event.list.subarray(0, event.listLength * 2));
    else if (field === 'words') record[field] = Array.from(event.words);
    else record[field] = (event as unknown as Plain)[field];
  }
  return record;
}

export interface Skipped {
  line: number;
  what: string;
  excerpt: string;
}

export interface Collected {
  names: Names;
  events: Plain[];
  lines: number[];
  skipped: Skipped[];
  sink: TraceSink;
}

export function collector(): Collected {
  const names = new Names();
  const events: Plain[] = [];
  const lines: number[] = [];
  const skipped: Skipped[] = [];
  return {
    names,
    events,
    lines,
    skipped,
    sink: {
      event(event) {
        events.push(plain(event, names));
        lines.push(event.line);
      },
      skipped: (line, what, excerpt) => void skipped.push({ line, what, excerpt }),
    },
  };
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Reads a text in one piece. */
export function readText(text: string | Uint8Array): Collected & { summary: ReturnType<FtraceTextReader['end']> } {
  const all = collector();
  const reader = new FtraceTextReader(all.names, all.sink);
  reader.push(typeof text === 'string' ? bytesOf(text) : text);
  return { ...all, summary: reader.end() };
}
