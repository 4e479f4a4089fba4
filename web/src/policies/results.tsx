/** The policies side by side: as a table, as bars, as windows, and one of them along time. Knows no worker, so a report file shows it too. */
import type { JSX } from 'preact';
import type { RunResult } from '../../../src/replay/index.ts';
import { MODEL_NAMES } from '../../../src/replay/index.ts';
import type { ReplayReport, Timeline } from '../../../src/report/index.ts';
import { Mark } from '../walk/marks.tsx';
import type { TimelineChoice } from './choice.ts';
import { Later } from './later.tsx';
import { TimelinePanel } from './timeline-panel.tsx';
import { WindowsPanel } from './windows-panel.tsx';
import { count, counted } from './words.ts';
import './policies.css';

export interface ResultsProps {
  readonly report: ReplayReport;
  /** By run; null for one without. */
  readonly timelines: readonly (Timeline | null)[];
  /** What the timeline shows, and how that changes. @param replace for a step too small for the browser's history */
  readonly choice: TimelineChoice;
  readonly onChoice: (choice: TimelineChoice, replace: boolean) => void;
}

export function Results({ report, timelines, choice, onChoice }: ResultsProps): JSX.Element {
  return (
    <>
      <Facts report={report} />
      {report.runs.length === 0 ? (
        <p>Nothing was played.</p>
      ) : (
        <>
          <PolicyTable report={report} />
          <Later after={1}>
            <Charts runs={report.runs} />
          </Later>
          <Later after={2}>
            <WindowsPanel runs={report.runs} timelines={timelines} />
          </Later>
          <Later after={3}>
            <TimelinePanel timelines={timelines} choice={choice} onChoice={onChoice} />
          </Later>
        </>
      )}
    </>
  );
}

function Facts({ report }: { readonly report: ReplayReport }): JSX.Element {
  const { trace, grouping, hardware, runs } = report;
  const doubts = [
    grouping.ambiguous > 0 ? `${count(grouping.ambiguous)} ambiguous` : '',
    grouping.overlapping > 0 ? `${count(grouping.overlapping)} overlapping` : '',
    grouping.unmapWithoutMap > 0
      ? counted(grouping.unmapWithoutMap, 'unmap of an earlier mapping', 'unmaps of earlier mappings')
      : '',
    grouping.inferredDomains > 0 ? `${counted(grouping.inferredDomains, 'domain')} inferred` : '',
  ].filter((text) => text !== '');
  const caching = hardware.model === 'vtd' ? 'caching mode' : 'NpCache';
  return (
    <section class="panel" aria-labelledby="facts-title">
      <h3 id="facts-title">{trace.file}</h3>
      <p>
        {trace.format}, {counted(trace.events, 'event')}: {count(trace.map)} map, {count(trace.unmap)} unmap,{' '}
        {count(trace.dma)} dma
        {trace.skippedLines > 0 ? `; ${counted(trace.skippedLines, 'line')} skipped` : ''}
        {trace.lost > 0 ? `; ${counted(trace.lost, 'event')} lost by the recorder` : ''}
      </p>
      <p>
        {counted(grouping.mapCalls, 'map call')}, told by: {grouping.rule}
        {doubts.length > 0 ? ` (${doubts.join(', ')})` : ''}
      </p>
      <p>
        {MODEL_NAMES[hardware.model] ?? hardware.model}
        {hardware.told === 'default' ? ' (assumed, the trace does not tell)' : ''}, {caching}{' '}
        {hardware.cachingMode ? 'on' : 'off'}; driver: {runs[0]?.preset ?? 'none yet'}
      </p>
      {trace.hasIrqContext ? null : (
        <p>
          This text has no flags column, so what an interrupt did looks as if its task had done it, and a few flushes
          may be predicted out of order; the trace.dat tells it.
        </p>
      )}
    </section>
  );
}

const COLUMNS: readonly (readonly [title: string, cell: (run: RunResult) => string, what: string])[] = [
  ['page', (run) => count(run.commands.page), 'invalidations of pages'],
  ['domain', (run) => count(run.commands.domain), 'invalidations of a whole domain'],
  ['waits', (run) => count(run.commands.wait), 'commands that wait for those before them'],
  ['exits', (run) => count(run.doorbells), 'doorbells: each is a VM exit on a virtual IOMMU'],
  ['per map call', (run) => run.perMapCall.toFixed(3), 'invalidations per map call'],
  ['per unmap', (run) => run.perUnmap.toFixed(3), 'invalidations per unmap'],
  [
    'window p50 ms',
    (run) => run.staleWindowMs.p50.toFixed(1),
    'how long an unmapped range stayed reachable: half of them shorter',
  ],
  ['p99 ms', (run) => run.staleWindowMs.p99.toFixed(1), 'and 99 of 100 shorter'],
  ['max ms', (run) => run.staleWindowMs.max.toFixed(1), 'and the longest'],
  ['not-present', (run) => count(run.violations.notPresent), 'accesses that hit a stale “not present”'],
  ['stale', (run) => count(run.violations.stale), 'accesses that reached old pages'],
];

function PolicyTable({ report }: { readonly report: ReplayReport }): JSX.Element {
  const { runs, hardware } = report;
  const most = (value: (run: RunResult) => number): number => Math.max(0, ...runs.map(value));
  const [renamed, untouched, failed] = [
    most((run) => run.renamed),
    most((run) => run.untouchedPages),
    most((run) => run.failed),
  ];
  return (
    <section class="panel" aria-labelledby="policies-title">
      <h3 id="policies-title">Flush policies side by side</h3>
      <div class="scroll" role="region" aria-labelledby="policies-title" tabIndex={0}>
        <table data-policies>
          <thead>
            <tr>
              <th scope="col">map flush</th>
              <th scope="col">unmap flush</th>
              {COLUMNS.map(([title, , what]) => (
                <th key={title} scope="col" class="number" title={what}>
                  {title}
                </th>
              ))}
              <th scope="col">as promised?</th>
            </tr>
          </thead>
          <tbody>
            {runs.map((run) => (
              <tr key={nameOf(run)} data-run={nameOf(run)}>
                <th scope="row">{run.mapFlush}</th>
                <th scope="row">{run.unmapFlush}</th>
                {COLUMNS.map(([title, cell]) => (
                  <td key={title} class="number">
                    {cell(run)}
                  </td>
                ))}
                <td>
                  <Verdict run={run} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <details>
        <summary>What the columns mean</summary>
        <dl>
          {COLUMNS.map(([title, , what]) => (
            <div key={title}>
              <dt>{title}</dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <p>
          Every row has up to {count(most((run) => run.commands.global))} global and{' '}
          {count(most((run) => run.commands.context))} context invalidations too. Violations are counted with a device
          that touches each page once before its map (as one that prefetches might), once after, and once after its
          unmap.
        </p>
      </details>
      {hardware.cachingMode && runs.some((run) => run.unmapFlush === 'lazy') ? (
        <p class="quiet">
          Linux forces strict unmapping under {hardware.model === 'vtd' ? 'caching mode' : 'NpCache'} unless DMA-FQ is
          written to a group; lazy rows show what that would do.
        </p>
      ) : null}
      {renamed === 0 ? null : (
        <p class="quiet">
          lazy: up to {counted(renamed, 'map')} got another IOVA, since the recorded one would still have waited for its
          flush.
        </p>
      )}
      {untouched === 0 ? null : (
        <p class="quiet">
          {counted(untouched, 'page access was', 'page accesses were')} left out, in calls of more than 65,536 pages.
        </p>
      )}
      {failed === 0 ? null : (
        <p>{counted(failed, 'call was', 'calls were')} refused by the stack: the trace contradicts itself there.</p>
      )}
    </section>
  );
}

function Verdict({ run }: { readonly run: RunResult }): JSX.Element {
  const { notPresent, stale } = run.violations;
  if (notPresent > 0) return <Mark tone="bad">no: devices fault</Mark>;
  if (stale > 0 && run.unmapFlush === 'strict') return <Mark tone="bad">no: old pages in reach</Mark>;
  if (stale > 0) return <Mark tone="warn">within the lazy window</Mark>;
  return <Mark tone="good">yes</Mark>;
}

export function nameOf(run: Pick<RunResult, 'mapFlush' | 'unmapFlush'>): string {
  return `${run.mapFlush}, ${run.unmapFlush}`;
}

const CHARTS: readonly (readonly [
  title: string,
  value: (run: RunResult) => number,
  text: (value: number) => string,
])[] = [
  [
    'Invalidation commands',
    ({ commands }) => commands.page + commands.domain + commands.global + commands.context,
    count,
  ],
  ['Exits (doorbells)', (run) => run.doorbells, count],
  ['Invalidations per map call', (run) => run.perMapCall, (value) => value.toFixed(3)],
  [
    'Accesses that hit what should have been flushed',
    ({ violations }) => violations.notPresent + violations.stale,
    count,
  ],
];

function Charts({ runs }: { readonly runs: readonly RunResult[] }): JSX.Element {
  return (
    <section class="panel" aria-labelledby="charts-title">
      <h3 id="charts-title">As bars</h3>
      <div class="charts">
        {CHARTS.map(([title, value, text]) => {
          const most = Math.max(...runs.map(value), Number.MIN_VALUE);
          return (
            <figure key={title}>
              <figcaption>{title}</figcaption>
              <ul>
                {runs.map((run) => (
                  <li key={nameOf(run)}>
                    <span class="bar-name">{nameOf(run)}</span>
                    <span class="bar-room" aria-hidden="true">
                      <span
                        class={`bar ${run.unmapFlush === 'strict' ? '' : 'hatched'}`}
                        style={{ width: `${(100 * value(run)) / most}%` }}
                      />
                    </span>{' '}
                    <span class="bar-value">{text(value(run))}</span>
                  </li>
                ))}
              </ul>
            </figure>
          );
        })}
      </div>
    </section>
  );
}
