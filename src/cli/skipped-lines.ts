/** Skipped lines are never silent: how many, and the first few with their place and what was expected there. */
import type { TraceSummary } from '../trace/index.ts';
import { counted } from './text-table.ts';

export function warnSkipped(file: string, summary: TraceSummary): void {
  if (summary.skipped === 0) return;
  const lines = [
    `${file}: ${counted(summary.skipped, 'malformed line or record', 'malformed lines or records')} skipped`,
  ];
  for (const skip of summary.firstSkipped.slice(0, 5)) {
    lines.push(`${file}:${skip.line}: expected ${skip.what}, found: ${skip.excerpt}`);
  }
  process.stderr.write(`${lines.join('\n')}\n`);
}
