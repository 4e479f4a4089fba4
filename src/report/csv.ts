/** Results as CSV (RFC 4180): a line of names, then a row per policy, per finding, or per line of a check's tables. */
import type { CheckReport } from '../check/index.ts';
import type { AuditReport } from './audit-report.ts';
import type { ReplayReport } from './replay-report.ts';

type Cell = string | number | boolean | null;

/** A row per policy, with the numbers of the JSON under the same names. */
export function replayCsv({ runs }: ReplayReport): string {
  return csv(
    'preset,mapFlush,unmapFlush,page,domain,global,context,wait,total,doorbells,perMapCall,perUnmap,windowP50Ms,windowP99Ms,windowMaxMs,notPresent,stale,renamed,untouchedPages,failed',
    runs.map(({ commands, staleWindowMs, violations, ...run }) => [
      run.preset,
      run.mapFlush,
      run.unmapFlush,
      commands.page,
      commands.domain,
      commands.global,
      commands.context,
      commands.wait,
      commands.total,
      run.doorbells,
      run.perMapCall,
      run.perUnmap,
      staleWindowMs.p50,
      staleWindowMs.p99,
      staleWindowMs.max,
      violations.notPresent,
      violations.stale,
      run.renamed,
      run.untouchedPages,
      run.failed,
    ]),
  );
}

/** A row per finding; none when everything held. */
export function auditCsv({ findings }: AuditReport): string {
  return csv(
    'contract,line,iova,domain,detail',
    findings.map(({ contract, line, iova, domain, detail }) => [contract, line, iova, domain, detail]),
  );
}

/** A row per line of the tables (dispute, scenario, mutant) and per finding; `kind` says which. */
export function checkCsv({ table, scenarios, mutants, findings }: CheckReport): string {
  return csv('kind,name,setup,verdict,contract,cases,held,known,findings,commands,detail', [
    ...table.map(({ arch, preset, caller, mapFlush, verdict, contract, commands }): Cell[] => [
      'dispute',
      caller,
      `${arch} ${preset} ${mapFlush}`,
      verdict,
      contract,
      null,
      null,
      null,
      null,
      commands,
      null,
    ]),
    ...scenarios.map(({ name, title, cases, held, known, findings: nr }): Cell[] => [
      'scenario',
      name,
      null,
      nr === 0 ? 'held' : 'violated',
      null,
      cases,
      held,
      known,
      nr,
      null,
      title,
    ]),
    ...mutants.map(({ id, title, caught, contract, scenario }): Cell[] => [
      'mutant',
      id,
      scenario,
      caught ? 'caught' : 'not caught',
      contract,
      null,
      null,
      null,
      null,
      null,
      title,
    ]),
    ...findings.map(({ scenario, setup, verdict, contract, call, iova, message, more }): Cell[] => [
      'finding',
      scenario,
      setup,
      verdict,
      contract,
      null,
      null,
      null,
      1 + more,
      null,
      [call, iova, message].filter((part) => part !== null).join('; '),
    ]),
  ]);
}

function csv(names: string, rows: readonly (readonly Cell[])[]): string {
  return [names, ...rows.map((row) => row.map(cellText).join(','))].map((line) => `${line}\r\n`).join('');
}

function cellText(cell: Cell): string {
  const text = cell === null ? '' : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
