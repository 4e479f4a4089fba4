/**
 * Timelines as JSON and back. The columns follow each other as little-endian bytes, wide ones first so that each is aligned:
 * time, iova, windowEnd (doubles), pages, line if there are any (32 bits), device (16), kind (8); all as one base64 string.
 */
import { decodeBase64, encodeBase64 } from './base64.ts';
import type { PackedTimeline, Timeline } from './lab-data.ts';

const BYTES_PER_EVENT = 8 * 3 + 4 + 2 + 1;
const LINE_BYTES = 4;

interface Columns {
  readonly time: Float64Array;
  readonly iova: Float64Array;
  readonly windowEnd: Float64Array;
  readonly pages: Uint32Array;
  readonly line: Uint32Array | null;
  readonly device: Uint16Array;
  readonly kind: Uint8Array;
}

/** The columns as views of one buffer. */
function columnsOf(buffer: ArrayBuffer, length: number, hasLines: boolean): Columns {
  let at = 0;
  const next = (bytes: number): number => {
    at += bytes * length;
    return at - bytes * length;
  };
  return {
    time: new Float64Array(buffer, next(8), length),
    iova: new Float64Array(buffer, next(8), length),
    windowEnd: new Float64Array(buffer, next(8), length),
    pages: new Uint32Array(buffer, next(4), length),
    line: hasLines ? new Uint32Array(buffer, next(LINE_BYTES), length) : null,
    device: new Uint16Array(buffer, next(2), length),
    kind: new Uint8Array(buffer, next(1), length),
  };
}

function sizeOf(length: number, hasLines: boolean): number {
  return length * (BYTES_PER_EVENT + (hasLines ? LINE_BYTES : 0));
}

export function packTimeline(timeline: Timeline): PackedTimeline {
  const { name, devices, length, nrEvents, line } = timeline;
  const hasLines = line !== null;
  const buffer = new ArrayBuffer(sizeOf(length, hasLines));
  const columns = columnsOf(buffer, length, hasLines);
  columns.time.set(timeline.time);
  columns.iova.set(timeline.iova);
  columns.windowEnd.set(timeline.windowEnd);
  columns.pages.set(timeline.pages);
  if (line !== null) columns.line?.set(line);
  columns.device.set(timeline.device);
  columns.kind.set(timeline.kind);
  return { name, devices, length, nrEvents, hasLines, data: encodeBase64(new Uint8Array(buffer)) };
}

/** @throws RangeError for data that is damaged */
export function unpackTimeline(packed: PackedTimeline): Timeline {
  const { name, devices, length, nrEvents, hasLines, data } = packed;
  const bytes = decodeBase64(data);
  if (!Number.isSafeInteger(length) || length < 0 || bytes?.length !== sizeOf(length, hasLines)) {
    throw new RangeError(`the timeline ${name} is damaged`);
  }
  return { name, devices, length, nrEvents, ...columnsOf(bytes.buffer, length, hasLines) };
}
