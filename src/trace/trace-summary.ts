import type { TextSummary } from './ftrace-text.ts';
import type { DatSummary } from './tracedat.ts';

/** What a trace held; `format` tells which. */
export type TraceSummary = TextSummary | DatSummary;
