/** The result of `iommukit check` for people. */
import type { CheckReport, DisputeRow, FindingReport, ScenarioReport } from '../check/index.ts';
import { count, counted, textTable } from './text-table.ts';

export function checkText(report: CheckReport): string {
  const lines: string[] = [];
  if (report.table.length > 0) lines.push(...disputeText(report.table), '');
  if (report.scenarios.length > 0) lines.push(...scenarioText(report), '');
  if (report.random !== null)
    lines.push(`${counted(report.random.operations, 'random operation')} from seed ${report.random.seed} on`, '');
  const { explored, agreement } = report;
  if (explored.schedules > 0) {
    lines.push(
      `${counted(explored.schedules, 'schedule')} and ${counted(explored.states, 'state')} of the hardware explored; ` +
        `the sanitizer agrees in ${count(agreement.cases - agreement.disagreements)} of ${counted(agreement.cases, 'case')}`,
      '',
    );
  }
  if (report.mutants.length > 0) lines.push(...mutantText(report), '');
  for (const finding of report.findings) lines.push(...findingText(finding), '');
  lines.push(lastLine(report));
  return `${lines.join('\n')}\n`;
}

/** Verdict and commands of a mapping, in one cell. */
function cell(row: DisputeRow | undefined): string {
  if (row === undefined) return '';
  return `${row.verdict === 'held' ? 'held' : 'VIOLATED'} ${String(row.commands).padStart(2)}`;
}

function disputeText(table: readonly DisputeRow[]): string[] {
  const policies = ['none', 'caller', 'map', 'sync-map'];
  const latest = table.filter(({ preset }) => preset === 'linux-6.12');
  const oldest = table.filter(({ preset }) => preset !== 'linux-6.12');
  const keys = [...new Set(latest.map(({ arch, caller }) => `${arch} ${caller}`))];
  const broken = [...new Set(table.flatMap(({ contract }) => (contract === null ? [] : [contract])))];
  const lines = [
    'The dispute of April 2019: 16 scattered pages are mapped in one call, on hardware that caches "not present".',
    `Who flushes after the map, whether every walk then sees the pages${broken.length > 0 ? ` (${broken.join(', ')})` : ''}, and with how many invalidations:`,
    '',
    textTable(
      ['driver', 'caller', ...policies],
      keys.map((key) => {
        const [arch, caller] = key.split(' ');
        const of = (policy: string): DisputeRow | undefined =>
          latest.find((row) => row.arch === arch && row.caller === caller && row.mapFlush === policy);
        return [arch, caller, ...policies.map((policy) => cell(of(policy)))];
      }),
    ),
  ];
  if (oldest.length > 0) {
    lines.push(
      '',
      'The drivers of that time as they were:',
      '',
      textTable(
        ['driver', 'caller', 'flushes', 'verdict'],
        oldest.map((row) => [`${row.arch} ${row.preset}`, row.caller, row.mapFlush, cell(row)]),
        3,
      ),
    );
  }
  return lines;
}

/** Scenarios by area: the part of a name before its first slash. */
function scenarioText({ scenarios, knownFaults }: CheckReport): string[] {
  const areas = new Map<string, ScenarioReport[]>();
  for (const one of scenarios) {
    const [area] = one.name.split('/');
    areas.set(area, [...(areas.get(area) ?? []), one]);
  }
  const sum = (list: readonly ScenarioReport[], of: (one: ScenarioReport) => number): string =>
    count(list.reduce((total, one) => total + of(one), 0));
  const row = (name: string, list: readonly ScenarioReport[]): string[] => [
    name,
    count(list.length),
    sum(list, ({ cases }) => cases),
    sum(list, ({ held }) => held),
    sum(list, ({ known }) => known),
    sum(list, ({ findings }) => findings),
  ];
  const lines = [
    textTable(
      ['area', 'scenarios', 'cases', 'held', 'known\nto fail', 'findings'],
      [...[...areas].map(([area, list]) => row(area, list)), row('all', scenarios)],
      1,
    ),
  ];
  const shown = knownFaults.filter(({ violated }) => violated > 0);
  if (shown.length > 0) {
    lines.push('', 'Known to fail, and why:');
    for (const { title, violated, cases } of shown) {
      lines.push(`  ${title}: ${count(violated)} of ${counted(cases, 'case')}`);
    }
  }
  return lines;
}

function mutantText({ mutants }: CheckReport): string[] {
  const caught = mutants.filter((mutant) => mutant.caught).length;
  return [
    textTable(
      ['known bug', 'caught by', 'what it is'],
      mutants.map(({ id, title, caught: isCaught, contract }) => [
        id,
        isCaught ? (contract ?? 'a test') : 'NOT CAUGHT',
        title,
      ]),
      3,
    ),
    `${count(caught)} of ${counted(mutants.length, 'known bug')} caught`,
  ];
}

function findingText(finding: FindingReport): string[] {
  const { scenario, setup, verdict, contract, call, iova, nrBytes, message, detail, more } = finding;
  const lines = [`FINDING ${contract ?? verdict} in ${scenario} (${setup})`];
  if (call !== null) lines.push(`  at the end of: ${call}`);
  if (iova !== null) lines.push(`  page: ${iova}+0x${nrBytes.toString(16)}`);
  const { access, seen, due, kind, level, domainId, stale, store, missing, nearest } = detail;
  if (typeof seen === 'number' && typeof due === 'number') {
    lines.push(`  a device's ${textOf(access)} ${reachText(seen)}, where it ${dueText(due)}`);
  }
  if (kind !== undefined)
    lines.push(`  held: ${textOf(stale)} (${textOf(kind)}, level ${textOf(level)}, domain ${textOf(domainId)})`);
  if (isStore(store))
    lines.push(`  stale since: a store to 0x${store.paddr.toString(16)}: ${store.before} -> ${store.after}`);
  if (typeof missing === 'string' && missing !== '') lines.push(`  missing: ${missing}`);
  if (Array.isArray(nearest)) for (const one of nearest) lines.push(`  did not cover it: ${textOf(one)}`);
  if (message !== null) lines.push(`  ${message}`);
  if (finding.seed !== undefined) lines.push(`  random program of seed ${finding.seed}, shortened:`);
  for (const one of finding.calls ?? []) lines.push(`    ${one}`);
  if (more > 0) lines.push(`  and ${counted(more, 'case')} more of this scenario`);
  return lines;
}

function reachText(paddr: number): string {
  return paddr < 0 ? 'is blocked' : `reaches 0x${paddr.toString(16)}`;
}

function dueText(paddr: number): string {
  return paddr < 0 ? 'must be blocked' : `must reach 0x${paddr.toString(16)}`;
}

function isStore(value: unknown): value is { paddr: number; before: string; after: string } {
  return typeof value === 'object' && value !== null && 'paddr' in value;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function lastLine({ findings, mutants, complete, interrupted }: CheckReport): string {
  const nr = findings.reduce((sum, { more }) => sum + 1 + more, 0) + mutants.filter(({ caught }) => !caught).length;
  const found = nr === 0 ? 'no finding' : counted(nr, 'finding');
  if (interrupted) return `interrupted, ${found} until then`;
  return complete ? found : `${found}, but not everything was tried: the bound of --budget was reached`;
}
