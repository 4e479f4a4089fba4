/** What is said of a trace in every result. */
import type { TraceSummary } from '../trace/index.ts';
import type { TraceFacts } from './replay-report.ts';

/** @param file `-` is standard input @param summary null when nothing was read */
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
