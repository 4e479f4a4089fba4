/**
 * The result of `iommukit audit` as data, schema `iommukit.audit/1`. Additions keep the schema's name, anything else changes it.
 * Addresses are hex strings.
 */
import type { AuditResult } from '../audit/index.ts';
import type { TraceFacts } from './replay-report.ts';

export const AUDIT_SCHEMA = 'iommukit.audit/1';

/** A line of a recording. From a stranger: not to be trusted as HTML. */
export interface RecordedLine {
  /** From 1. */
  readonly line: number;
  /** As recorded, cut after 1,000 bytes. */
  readonly text: string;
}

export interface AuditReport extends AuditResult {
  readonly schema: typeof AUDIT_SCHEMA;
  readonly trace: {
    readonly file: string;
    readonly format: string;
    /** Events read, of all kinds. */
    readonly events: number;
    /** Lines or records that were malformed. */
    readonly skippedLines: number;
    /** Events the recorder lost. */
    readonly lost: number;
    /** File with the commands, null when they stand in the trace. */
    readonly commands: string | null;
  };
  /** What `cachingMode` rests on. */
  readonly cachingModeTold: 'option' | 'trace' | 'nothing';
  /** The lines that the findings' evidence names, in order; none when the trace is no text or could be read only once. */
  readonly lines: readonly RecordedLine[];
  /** The same of the file of commands, where that is another file. */
  readonly commandLines: readonly RecordedLine[];
  /** True when it was stopped before the end. */
  readonly interrupted: boolean;
}

/** A complete audit. */
export function auditReport(
  facts: TraceFacts,
  commands: string | null,
  result: AuditResult,
  isOption: boolean,
  { lines, commandLines }: Pick<AuditReport, 'lines' | 'commandLines'> = { lines: [], commandLines: [] },
): AuditReport {
  return {
    schema: AUDIT_SCHEMA,
    trace: traceOf(facts, commands),
    cachingModeTold: isOption ? 'option' : result.cachingMode === null ? 'nothing' : 'trace',
    interrupted: false,
    ...result,
    lines,
    commandLines,
  };
}

/** An audit that was stopped while it read. */
export function interruptedAudit(facts: TraceFacts, commands: string | null): AuditReport {
  return {
    schema: AUDIT_SCHEMA,
    trace: traceOf(facts, commands),
    cachingModeTold: 'nothing',
    interrupted: true,
    verdict: 'inconclusive',
    calls: { map: 0, unmap: 0 },
    covered: 0,
    queued: 0,
    findings: [],
    nrFindings: 0,
    overInvalidation: 0,
    commands: { total: 0, page: 0, domain: 0, useless: 0 },
    cachingMode: null,
    inconclusive: ['interrupted while reading: nothing was judged'],
    lines: [],
    commandLines: [],
  };
}

function traceOf({ file, format, events, skipped, lost }: TraceFacts, commands: string | null): AuditReport['trace'] {
  return { file, format, events, skippedLines: skipped, lost, commands };
}
