/**
 * Keeps what a run shows for a timeline. At most `limit` events: beyond that whole calls are left out, each by a hash of its
 * number, so that no pattern of the trace decides what stays; whenever the room is used up, half of the calls go.
 */
import type { CommandKind, RunObserver } from '../replay/index.ts';
import type { Timeline } from './lab-data.ts';
import { NO_DEVICE, TimelineKind } from './lab-data.ts';

const PAGE = 4096;
const MOST_PAGES: number = 2 ** 32 - 1;
/** Commands of one call that are kept, as a part of the limit: a map of a million pages must not push out all others. */
const CALL_PART = 64;
const FIRST_ROWS = 4096;

/** TimelineKind of each CommandKind; -1 for what has none. */
const KIND_OF: readonly number[] = [
  TimelineKind.page,
  TimelineKind.domain,
  TimelineKind.global,
  TimelineKind.context,
  TimelineKind.wait,
  -1,
];

export class TimelineRecorder implements RunObserver {
  readonly #name: string;
  readonly #limit: number;
  readonly #mostPerCall: number;
  #time: Float64Array;
  #iova: Float64Array;
  #windowEnd: Float64Array;
  #pages: Uint32Array;
  #device: Uint16Array;
  #kind: Uint8Array;
  /** Number of the call that each row belongs to. */
  #callOf: Uint32Array;
  #length = 0;
  #nrEvents = 0;
  #call = 0;
  #nrOfCall = 0;
  /** Calls whose hash is at most this are kept. */
  #threshold: number = 2 ** 32 - 1;
  /** By domain: rows of unmaps whose windows are open, by address. */
  readonly #open: Map<number, number>[] = [];

  /** @param name of the timeline @param limit most events that are kept */
  constructor(name: string, limit: number) {
    this.#name = name;
    this.#limit = Math.max(1, Math.floor(limit));
    this.#mostPerCall = Math.max(1, Math.floor(this.#limit / CALL_PART));
    const rows = Math.min(FIRST_ROWS, this.#limit);
    this.#time = new Float64Array(rows);
    this.#iova = new Float64Array(rows);
    this.#windowEnd = new Float64Array(rows);
    this.#pages = new Uint32Array(rows);
    this.#device = new Uint16Array(rows);
    this.#kind = new Uint8Array(rows);
    this.#callOf = new Uint32Array(rows);
  }

  map(domain: number, iova: number, nrBytes: number, timeNs: number): void {
    this.#begin();
    this.#add(TimelineKind.map, domain, iova, Math.ceil(nrBytes / PAGE), timeNs, NaN);
  }

  unmap(domain: number, iova: number, nrBytes: number, timeNs: number, isQueued: boolean): void {
    this.#begin();
    const row = this.#add(
      TimelineKind.unmap,
      domain,
      iova,
      Math.ceil(nrBytes / PAGE),
      timeNs,
      isQueued ? Infinity : timeNs / 1e9,
    );
    if (isQueued && row >= 0) (this.#open[domain] ??= new Map<number, number>()).set(iova, row);
  }

  command(kind: CommandKind, domain: number, iova: number, nrPages: number, timeNs: number): void {
    const shown = KIND_OF[kind];
    if (shown >= 0) this.#add(shown, domain, iova, nrPages, timeNs, NaN);
  }

  violation(isNotPresent: boolean, domain: number, iova: number, nrPages: number, timeNs: number): void {
    this.#nrOfCall = 0;
    this.#add(isNotPresent ? TimelineKind.notPresent : TimelineKind.stale, domain, iova, nrPages, timeNs, NaN);
  }

  windowClosed(domain: number, iova: number, _nrBytes: number, _queuedNs: number, flushedNs: number): void {
    const open = this.#open[domain];
    const row = open?.get(iova);
    if (row === undefined) return;
    this.#windowEnd[row] = flushedNs / 1e9;
    open?.delete(iova);
  }

  /** What was kept. @param devices names by domain */
  timeline(devices: readonly string[]): Timeline {
    const length = this.#length;
    return {
      name: this.#name,
      devices,
      length,
      nrEvents: this.#nrEvents,
      time: this.#time.slice(0, length),
      kind: this.#kind.slice(0, length),
      device: this.#device.slice(0, length),
      iova: this.#iova.slice(0, length),
      pages: this.#pages.slice(0, length),
      windowEnd: this.#windowEnd.slice(0, length),
      line: null,
    };
  }

  #begin(): void {
    this.#call += 1;
    this.#nrOfCall = 0;
  }

  /** @returns its row, -1 when it is left out */
  #add(kind: number, domain: number, iova: number, nrPages: number, timeNs: number, windowEnd: number): number {
    this.#nrEvents += 1;
    if (this.#nrOfCall === this.#mostPerCall) return -1;
    while (this.#length === this.#limit && this.#threshold > 0) this.#thin();
    if (hash(this.#call) > this.#threshold || this.#length === this.#limit) return -1;
    if (this.#length === this.#time.length) this.#grow();
    this.#nrOfCall += 1;
    const row = this.#length++;
    this.#kind[row] = kind;
    this.#device[row] = domain >= 0 && domain < NO_DEVICE ? domain : NO_DEVICE;
    this.#iova[row] = iova;
    this.#pages[row] = Math.min(nrPages, MOST_PAGES);
    this.#time[row] = timeNs / 1e9;
    this.#windowEnd[row] = windowEnd;
    this.#callOf[row] = this.#call;
    return row;
  }

  /** Halves the share of calls that are kept. */
  #thin(): void {
    this.#threshold = Math.floor(this.#threshold / 2);
    const rows = new Int32Array(this.#length).fill(-1);
    let to = 0;
    for (let row = 0; row < this.#length; row++) {
      if (hash(this.#callOf[row]) > this.#threshold) continue;
      rows[row] = to;
      this.#time[to] = this.#time[row];
      this.#iova[to] = this.#iova[row];
      this.#windowEnd[to] = this.#windowEnd[row];
      this.#pages[to] = this.#pages[row];
      this.#device[to] = this.#device[row];
      this.#kind[to] = this.#kind[row];
      this.#callOf[to] = this.#callOf[row];
      to += 1;
    }
    this.#length = to;
    for (const open of this.#open) {
      if (open === undefined) continue;
      for (const [iova, row] of open) {
        if (rows[row] < 0) open.delete(iova);
        else open.set(iova, rows[row]);
      }
    }
  }

  #grow(): void {
    const rows = Math.min(this.#limit, this.#time.length * 2);
    this.#time = copied(this.#time, new Float64Array(rows));
    this.#iova = copied(this.#iova, new Float64Array(rows));
    this.#windowEnd = copied(this.#windowEnd, new Float64Array(rows));
    this.#pages = copied(this.#pages, new Uint32Array(rows));
    this.#device = copied(this.#device, new Uint16Array(rows));
    this.#kind = copied(this.#kind, new Uint8Array(rows));
    this.#callOf = copied(this.#callOf, new Uint32Array(rows));
  }
}

function copied<T extends Float64Array | Uint32Array | Uint16Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Spreads neighbouring numbers over 32 bits (the finalizer of MurmurHash3). */
function hash(number: number): number {
  let h = number;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
