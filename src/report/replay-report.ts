/**
 * The result of `iommukit replay` as data, schema `iommukit.replay/1`. Additions keep the schema's name, anything else changes
 * it. Addresses are hex strings, times milliseconds of the trace's clock.
 */
import type { Comparison, Plan, RunResult } from '../replay/index.ts';

export const REPLAY_SCHEMA = 'iommukit.replay/1';

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
  };
  readonly grouping: {
    /** `dma-events` (exact), `inferred`, or both. */
    readonly rule: string;
    readonly mapCalls: number;
    /** Map calls whose begin or end is a guess among alternatives. */
    readonly ambiguous: number;
    /** Map calls that found their pages mapped in the same domain. */
    readonly overlapping: number;
    /** Unmaps of what was mapped before the trace began. */
    readonly unmapWithoutMap: number;
    readonly partialUnmaps: number;
    /** Domains that the trace does not name but its mappings need. */
    readonly inferredDomains: number;
  };
  readonly hardware: { readonly model: string; readonly cachingMode: boolean };
  /** True when it was stopped before the end: `runs` then holds what was known. */
  readonly interrupted: boolean;
  readonly runs: readonly RunResult[];
  /** Present with `--compare`. */
  readonly compare?: Comparison & { readonly file: string; readonly mapFlush: string; readonly unmapFlush: string };
}

/** What a reader said about a trace, common to all formats. */
export interface TraceFacts {
  readonly file: string;
  readonly format: string;
  readonly events: number;
  readonly skipped: number;
  readonly lost: number;
}

/** Puts a report together. */
export function replayReport(
  trace: TraceFacts,
  plan: Plan,
  cachingMode: boolean,
  runs: readonly RunResult[],
  interrupted: boolean,
  compare?: ReplayReport['compare'],
): ReplayReport {
  const { counts } = plan;
  return {
    schema: REPLAY_SCHEMA,
    trace: {
      file: trace.file,
      format: trace.format,
      events: trace.events,
      map: counts.map,
      unmap: counts.unmap,
      dma: counts.dma,
      skippedLines: trace.skipped,
      lost: trace.lost,
    },
    grouping: {
      rule: plan.rule,
      mapCalls: plan.mapCalls,
      ambiguous: counts.ambiguous,
      overlapping: plan.overlapping,
      unmapWithoutMap: counts.unmapWithoutMap - plan.partialUnmaps,
      partialUnmaps: plan.partialUnmaps,
      inferredDomains: plan.inferredDomains,
    },
    hardware: { model: 'vtd', cachingMode },
    interrupted,
    runs,
    ...(compare === undefined ? {} : { compare }),
  };
}
