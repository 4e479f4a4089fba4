/**
 * What a report file (`-o report.html`) carries besides the viewer: the result as `--json` has it, and the timelines that the
 * JSON leaves out. The viewer finds it as JSON in `<script type="application/json" id="iommukit-data">` (report-html.ts).
 * Additions keep the schema's name, anything else changes it.
 *
 * The lab's page makes the same timelines while it replays in its worker: a `TimelineRecorder` is given to the player.
 */
import type { CheckReport } from '../check/index.ts';
import type { Sequence } from '../lab/index.ts';
import type { AuditReport } from './audit-report.ts';
import type { ReplayReport } from './replay-report.ts';

export const LAB_SCHEMA = 'iommukit.lab/1';
/** Id of the element with the data. */
export const LAB_DATA_ID = 'iommukit-data';

export type LabData = ReplayLab | AuditLab | CheckLab | ScheduleLab;

export interface ReplayLab {
  readonly schema: typeof LAB_SCHEMA;
  readonly kind: 'replay';
  readonly report: ReplayReport;
  /** One per run of the report, in the same order; the last one may be cut short when the report says `interrupted`. */
  readonly timelines: readonly PackedTimeline[];
}

export interface AuditLab {
  readonly schema: typeof LAB_SCHEMA;
  readonly kind: 'audit';
  readonly report: AuditReport;
}

export interface CheckLab {
  readonly schema: typeof LAB_SCHEMA;
  readonly kind: 'check';
  readonly report: CheckReport;
  /** By finding of the report: a shortest schedule that shows it, step by step; null where none was found in the time there was. */
  readonly sequences: readonly (Sequence | null)[];
}

/** `check --replay FILE`: one counterexample, step by step. */
export interface ScheduleLab {
  readonly schema: typeof LAB_SCHEMA;
  readonly kind: 'schedule';
  readonly sequence: Sequence;
}

/** What an event of a timeline is. */
export const TimelineKind = {
  /** A map call. */
  map: 0,
  /** An unmap call; the only kind with a window. */
  unmap: 1,
  /** A page-selective invalidation; `pages` 0: all of the domain (AMD-Vi). */
  page: 2,
  /** A domain-selective invalidation. */
  domain: 3,
  global: 4,
  /** A context or device table entry was invalidated. */
  context: 5,
  /** A wait (VT-d) or completion wait (AMD-Vi). */
  wait: 6,
  /** Replay: the device hit a cached "not present" right after the map at `iova`, at `pages` of its pages. */
  notPresent: 7,
  /** Replay: the device reached old pages right after the unmap or map at `iova`, at `pages` of its pages. */
  stale: 8,
  /** Audit: a finding of the report; `line` says which. */
  finding: 9,
} as const;
export type TimelineKind = (typeof TimelineKind)[keyof typeof TimelineKind];

/** `device` of an event that belongs to no address space, as a global invalidation. */
export const NO_DEVICE = 0xffff;

/**
 * Events in the order of their times, as arrays of `length`. An event without address has iova and pages 0; one that is no
 * unmap has the window end NaN.
 */
export interface Timeline {
  /** `sync-map, lazy` for a run with these policies; `recorded` for an audit. */
  readonly name: string;
  /**
   * Names of address spaces, by `device`: the PCI addresses of the devices that use it, joined by a comma (devices of a group
   * share one), `inferred-2` for one that the trace does not name. From the trace: not to be trusted as HTML.
   */
  readonly devices: readonly string[];
  readonly length: number;
  /**
   * Events that there were: more than `length` when not all fit. Then whole calls are left out, picked evenly but without a
   * pattern; what happened outside of calls (a flush queue's timer) is thinned alike, violations of kept calls stay.
   */
  readonly nrEvents: number;
  /** Seconds of the trace's clock; never decreases. */
  readonly time: Float64Array;
  readonly kind: Uint8Array;
  /** Index into `devices`, or NO_DEVICE. */
  readonly device: Uint16Array;
  /** First byte. Of a replay that of the played machine: a strict recording's address may be replaced, see `runs[].renamed`. */
  readonly iova: Float64Array;
  /** Pages of 4 KiB. */
  readonly pages: Uint32Array;
  /**
   * Of an unmap: when the device could no longer reach the range, seconds. Equal to its time under strict; Infinity when that
   * was not seen until the end.
   */
  readonly windowEnd: Float64Array;
  /** Audit: line of the event in the trace (of a trace.dat, the record), 0 for none. Null of a replay. */
  readonly line: Uint32Array | null;
}

/** A timeline as JSON: columns as base64 of little-endian bytes. `unpackTimeline` gives it back. */
export interface PackedTimeline {
  readonly name: string;
  readonly devices: readonly string[];
  readonly length: number;
  readonly nrEvents: number;
  /** Byte layout: timeline-codec.ts. */
  readonly data: string;
  readonly hasLines: boolean;
}

/** Most events of all timelines of one report file together, 41 bytes each: some 16 MB. The runs share it evenly. */
export const MAX_REPORT_EVENTS = 400_000;
