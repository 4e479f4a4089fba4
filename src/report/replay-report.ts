/**
 * The result of `iommukit replay` as data, schema `iommukit.replay/1`. Additions keep the schema's name, anything else changes
 * it. Addresses are hex strings, times milliseconds of the trace's clock.
 */
import type { ComparedRun, GroupingCounts, HardwareFacts, Plan, RunResult } from '../replay/index.ts';

export const REPLAY_SCHEMA = 'iommukit.replay/1';
/** `grouping.rule` of a replay that was interrupted before the calls were told. */
export const NOT_GROUPED = 'none';

export interface ReplayReport {
  readonly schema: typeof REPLAY_SCHEMA;
  readonly trace: {
    readonly file: string;
    readonly format: string;
    /** Events read, of all kinds. */
    readonly events: number;
    readonly map: number;
    readonly unmap: number;
    readonly dma: number;
    /** Lines or records that were malformed. */
    readonly skippedLines: number;
    /** Events the recorder lost. */
    readonly lost: number;
    /** Whether the trace tells what ran in an interrupt; without it the order of a few flushes is wrong. */
    readonly hasIrqContext: boolean;
  };
  readonly grouping: {
    /** `dma-events` (exact), `inferred`, or both; `none` when the trace was not read to its end, the numbers below are 0 then. */
    readonly rule: string;
    readonly mapCalls: number;
    /** Map calls whose begin or end is a guess among alternatives; under `recorded` also unmaps that may have been strict or lazy. */
    readonly ambiguous: number;
    /** Map calls that found their pages mapped in the same domain. */
    readonly overlapping: number;
    /** Unmaps of what was mapped before the trace began. */
    readonly unmapWithoutMap: number;
    readonly partialUnmaps: number;
    /** Domains that the trace does not name but its mappings need. */
    readonly inferredDomains: number;
  };
  readonly hardware: HardwareFacts;
  /** True when it was stopped before the end: `runs` then holds what was known, nothing if that was while reading. */
  readonly interrupted: boolean;
  readonly runs: readonly RunResult[];
  /** Present with `--compare`. */
  readonly compare?: ComparedRun;
}

/** What a reader said about a trace, common to all formats. */
export interface TraceFacts {
  readonly file: string;
  readonly format: string;
  readonly events: number;
  readonly skipped: number;
  readonly lost: number;
  readonly hasIrqContext: boolean;
}

/** Puts a report together. */
export function replayReport(
  trace: TraceFacts,
  plan: Plan,
  hardware: HardwareFacts,
  runs: readonly RunResult[],
  interrupted: boolean,
  compare?: ReplayReport['compare'],
): ReplayReport {
  const { counts } = plan;
  return {
    schema: REPLAY_SCHEMA,
    trace: traceOf(trace, counts),
    grouping: {
      rule: plan.rule,
      mapCalls: plan.mapCalls,
      ambiguous: counts.ambiguous,
      overlapping: plan.overlapping,
      unmapWithoutMap: counts.unmapWithoutMap - plan.partialUnmaps,
      partialUnmaps: plan.partialUnmaps,
      inferredDomains: plan.inferredDomains,
    },
    hardware,
    interrupted,
    runs,
    ...(compare === undefined ? {} : { compare }),
  };
}

/** The report of a replay that was interrupted while the trace was read: its events are known, its calls are not. */
export function interruptedReport(trace: TraceFacts, counts: GroupingCounts, hardware: HardwareFacts): ReplayReport {
  return {
    schema: REPLAY_SCHEMA,
    trace: traceOf(trace, counts),
    grouping: {
      rule: NOT_GROUPED,
      mapCalls: 0,
      ambiguous: 0,
      overlapping: 0,
      unmapWithoutMap: 0,
      partialUnmaps: 0,
      inferredDomains: 0,
    },
    hardware,
    interrupted: true,
    runs: [],
  };
}

function traceOf(trace: TraceFacts, counts: GroupingCounts): ReplayReport['trace'] {
  return {
    file: trace.file,
    format: trace.format,
    events: trace.events,
    map: counts.map,
    unmap: counts.unmap,
    dma: counts.dma,
    skippedLines: trace.skipped,
    lost: trace.lost,
    hasIrqContext: trace.hasIrqContext,
  };
}
