/**
 * A timeline made ready to be looked at: which lane each device has, and what of any window of time there is, as counts per pixel or
 * as numbers. Every question is one pass over typed arrays, some 5 ns per event of the window, so a million events need no index
 * but for where to begin: blocks without an event of the window, or an unmap that is still open in it, are passed over.
 */
import type { Timeline } from '../../../src/report/index.ts';
import { NO_DEVICE, TimelineKind } from '../../../src/report/index.ts';

/** What is drawn above each other, per lane. */
export const TRACKS = ['maps', 'unmaps', 'invalidations', 'stale windows', 'violations'] as const;
const [MAPS, UNMAPS, INVALIDATIONS, WINDOWS, VIOLATIONS, NONE] = [0, 1, 2, 3, 4, 255] as const;

/** Counted besides the tracks. */
const WAITS: number = TRACKS.length;
const NR_COUNTS: number = TRACKS.length + 1;

/** Track of each TimelineKind. Waits are no invalidations, and stand in the numbers only. */
const TRACK_OF: Uint8Array = new Uint8Array(16).fill(NONE);
TRACK_OF[TimelineKind.map] = MAPS;
TRACK_OF[TimelineKind.unmap] = UNMAPS;
TRACK_OF[TimelineKind.page] = INVALIDATIONS;
TRACK_OF[TimelineKind.domain] = INVALIDATIONS;
TRACK_OF[TimelineKind.global] = INVALIDATIONS;
TRACK_OF[TimelineKind.context] = INVALIDATIONS;
TRACK_OF[TimelineKind.notPresent] = VIOLATIONS;
TRACK_OF[TimelineKind.stale] = VIOLATIONS;

/** Lanes of single devices; what is less busy shares one more. */
const MOST_LANES = 8;
const BLOCK = 1024;
const UNMAP: number = TimelineKind.unmap;
const WAIT: number = TimelineKind.wait;

/** What a window of time holds of one lane. */
export interface LaneNumbers {
  readonly lane: string;
  readonly maps: number;
  readonly unmaps: number;
  readonly invalidations: number;
  readonly waits: number;
  /** Unmapped ranges that the device could still reach at some time of the window. */
  readonly windows: number;
  /** Longest of those windows, seconds, as a whole; Infinity for one that was not seen to end. */
  readonly longest: number;
  /** Accesses that hit what should have been flushed. */
  readonly violations: number;
}

export class TimelineModel {
  readonly timeline: Timeline;
  /** Names of lanes, busiest first. */
  readonly lanes: readonly string[];
  /** Seconds of the first and the last thing; the end is after the begin. */
  readonly begin: number;
  readonly end: number;
  /** By device and NO_DEVICE. */
  readonly #laneOf: Uint8Array;
  /** Latest end of a window by block of events. */
  readonly #latestEnd: Float64Array;

  constructor(timeline: Timeline) {
    this.timeline = timeline;
    const { time, windowEnd, length } = timeline;
    const { lanes, laneOf } = lanesOf(timeline);
    this.lanes = lanes;
    this.#laneOf = laneOf;
    this.#latestEnd = new Float64Array(Math.ceil(length / BLOCK)).fill(-Infinity);
    for (let i = 0; i < length; i++) {
      const block = (i / BLOCK) | 0;
      if (windowEnd[i] > this.#latestEnd[block]) this.#latestEnd[block] = windowEnd[i];
    }
    this.begin = length === 0 ? 0 : time[0];
    let end = length === 0 ? 1 : time[length - 1];
    for (const latest of this.#latestEnd) if (latest < Infinity && latest > end) end = latest;
    this.end = end > this.begin ? end : this.begin + 1e-6;
  }

  /** First event at or after a time. */
  indexOf(seconds: number): number {
    const { time, length } = this.timeline;
    let low = 0;
    let high = length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (time[middle] < seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Blocks with an event of a window of time, or with an unmap before it that was still open. */
  #blocksOf(from: number, to: number): number[] {
    const { time, length } = this.timeline;
    const blocks: number[] = [];
    for (const [block, latest] of this.#latestEnd.entries()) {
      if (time[block * BLOCK] > to) break;
      const last = Math.min(length, (block + 1) * BLOCK) - 1;
      if (time[last] >= from || latest >= from) blocks.push(block);
    }
    return blocks;
  }

  /**
   * Counts per pixel: for each lane, each track and each of `width` columns how many events begin there; of stale windows how many
   * are open there. @param into of lanes * TRACKS.length * width, overwritten
   */
  columns(from: number, to: number, width: number, into: Uint32Array): void {
    const { time, kind, device, windowEnd, length } = this.timeline;
    const laneOf = this.#laneOf;
    const scale = width / (to - from);
    const last = width - 1;
    into.fill(0);
    // Windows as steps up and down, summed up below; the step down behind the last column is left out.
    const steps = new Int32Array(this.lanes.length * width);
    for (const block of this.#blocksOf(from, to)) {
      const stop = Math.min(length, (block + 1) * BLOCK);
      for (let i = block * BLOCK; i < stop; i++) {
        const t = time[i];
        if (t > to) break;
        const lane = laneOf[device[i]];
        const track = TRACK_OF[kind[i]];
        const column = t < from ? -1 : Math.min(last, ((t - from) * scale) | 0);
        if (column >= 0 && track !== NONE) into[(lane * TRACKS.length + track) * width + column] += 1;
        const end = windowEnd[i];
        if (kind[i] !== UNMAP || !(end > t) || end < from) continue;
        steps[lane * width + Math.max(0, column)] += 1;
        const after = end >= to ? width : (((end - from) * scale) | 0) + 1;
        if (after < width) steps[lane * width + after] -= 1;
      }
    }
    for (let lane = 0; lane < this.lanes.length; lane++) {
      let open = 0;
      const at = (lane * TRACKS.length + WINDOWS) * width;
      for (let column = 0; column < width; column++) {
        open += steps[lane * width + column];
        into[at + column] = open;
      }
    }
  }

  /** The same window in numbers, one entry per lane. */
  numbers(from: number, to: number): LaneNumbers[] {
    const { time, kind, device, windowEnd, pages, length } = this.timeline;
    const laneOf = this.#laneOf;
    // Per lane: events by track, then waits. Of violations the accesses.
    const counts = new Float64Array(this.lanes.length * NR_COUNTS);
    const longest = new Float64Array(this.lanes.length);
    for (const block of this.#blocksOf(from, to)) {
      const stop = Math.min(length, (block + 1) * BLOCK);
      for (let i = block * BLOCK; i < stop; i++) {
        const t = time[i];
        if (t > to) break;
        const lane = laneOf[device[i]];
        const at = lane * NR_COUNTS;
        const end = windowEnd[i];
        if (kind[i] === UNMAP && end > t && end >= from) {
          counts[at + WINDOWS] += 1;
          if (end - t > longest[lane]) longest[lane] = end - t;
        }
        if (t < from) continue;
        const track = TRACK_OF[kind[i]];
        if (track === VIOLATIONS) counts[at + VIOLATIONS] += pages[i];
        else if (track !== NONE) counts[at + track] += 1;
        else if (kind[i] === WAIT) counts[at + WAITS] += 1;
      }
    }
    return this.lanes.map((name, lane) => {
      const at = lane * NR_COUNTS;
      return {
        lane: name,
        maps: counts[at + MAPS],
        unmaps: counts[at + UNMAPS],
        invalidations: counts[at + INVALIDATIONS],
        waits: counts[at + WAITS],
        windows: counts[at + WINDOWS],
        longest: longest[lane],
        violations: counts[at + VIOLATIONS],
      };
    });
  }

  /** Name of an event's lane's device, '' for none. */
  deviceOf(event: number): string {
    return this.timeline.devices[this.timeline.device[event]] ?? '';
  }
}

function lanesOf({ device, kind, devices, length }: Timeline): { lanes: string[]; laneOf: Uint8Array } {
  const counts = new Uint32Array(NO_DEVICE + 1);
  const waits = new Uint32Array(NO_DEVICE + 1);
  for (let i = 0; i < length; i++) {
    if (kind[i] === WAIT) waits[device[i]] += 1;
    else counts[device[i]] += 1;
  }
  const seen = [...counts.keys()].filter((number) => number !== NO_DEVICE && counts[number] > 0);
  seen.sort((a, b) => counts[b] - counts[a] || a - b);
  const single = seen.length <= MOST_LANES ? seen : seen.slice(0, MOST_LANES - 1);
  const lanes = single.map((number) => devices[number] ?? `address space ${number}`);
  const laneOf = new Uint8Array(NO_DEVICE + 1).fill(single.length);
  for (const [lane, number] of single.entries()) laneOf[number] = lane;
  const nrOthers = seen.length - single.length;
  if (nrOthers > 0) lanes.push(`${nrOthers} other devices, and what is of none`);
  else if (counts.some((count, i) => count + waits[i] > 0 && laneOf[i] === single.length)) lanes.push('of no device');
  return { lanes, laneOf };
}
