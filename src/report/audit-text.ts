/** The result of `iommukit audit` for people. */
import type { AuditFinding } from '../audit/index.ts';
import type { AuditReport } from './audit-report.ts';

/** Findings shown; --json has more. */
const SHOWN = 20;

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function counted(value: number, one: string, many: string = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function auditText(report: AuditReport): string {
  const { findings, nrFindings } = report;
  const lines = auditFacts(report);
  if (findings.length > 0) lines.push('', ...findings.slice(0, SHOWN).map(findingText));
  if (nrFindings > SHOWN)
    lines.push(`and ${count(nrFindings - SHOWN)} more; --json shows the first ${count(findings.length)}`);
  return `${lines.join('\n')}\n`;
}

/** What was read, what held and what cannot be told, line by line: all but the findings. */
export function auditFacts(report: AuditReport): string[] {
  const { trace, calls, commands, verdict, nrFindings, inconclusive } = report;
  const lines = [
    `${trace.file}: ${trace.format}, ${counted(trace.events, 'event')}: ${counted(calls.map, 'map call')}, ` +
      `${counted(calls.unmap, 'unmap call')}, ${counted(commands.total, 'command')}` +
      (trace.skippedLines > 0 ? `; ${counted(trace.skippedLines, 'line')} skipped` : '') +
      (trace.lost > 0 ? `; ${counted(trace.lost, 'event')} lost by the recorder` : ''),
  ];
  if (report.interrupted) return [...lines, ...inconclusive];
  lines.push(
    `not-present entries: ${cachingText(report)}`,
    `${verdict}: ${counted(report.covered, 'call')} flushed in time, every page, in the right domain` +
      (report.queued > 0 ? `; ${counted(report.queued, 'unmap')} left to flush queues` : '') +
      (nrFindings > 0 ? `; ${counted(nrFindings, 'finding')}` : ''),
  );
  if (commands.total > 0) {
    lines.push(
      `over-invalidation: ${(report.overInvalidation * 100).toFixed(1)} % more pages than the calls had; ` +
        `${counted(commands.useless, 'command')} for pages of no call`,
    );
  }
  for (const reason of inconclusive) lines.push(`cannot tell: ${reason}`);
  return lines;
}

function cachingText({ cachingMode, cachingModeTold }: AuditReport): string {
  const told = cachingModeTold === 'option' ? 'as said' : 'as the trace shows';
  if (cachingMode === null) return 'the trace does not tell whether the hardware caches them';
  return cachingMode ? `cached (${told}), so maps are flushed too` : `not cached (${told}), so maps need no flush`;
}

function findingText({ contract, line, iova, domain, detail }: AuditFinding): string {
  const place = [iova === null ? '' : ` iova ${iova}`, domain === null ? '' : ` domain ${domain}`].join('');
  return `line ${line}: ${contract}${place}: ${detail}`;
}
