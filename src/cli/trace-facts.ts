/** What is said of a trace in every result. */
import type { TraceFacts } from '../report/index.ts';
import type { TraceSummary } from './input.ts';

/** @param summary null when nothing was read */
export function factsOf(file: string, summary: TraceSummary | null): TraceFacts {
  return {
    file: file === '-' ? 'standard input' : file,
    format: summary?.format ?? 'not read',
    events: summary?.events ?? 0,
    skipped: summary?.skipped ?? 0,
    lost: summary?.lost ?? 0,
    hasIrqContext: summary?.hasIrqContext ?? true,
  };
}
