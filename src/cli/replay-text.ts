/** The result of `iommukit replay` for people: one row per policy, at most 120 columns wide for counts of millions. */
import type { Comparison, PageCommand, RunResult } from '../replay/index.ts';
import { MODEL_NAMES } from '../replay/index.ts';
import type { ReplayReport } from '../report/index.ts';
import { NOT_GROUPED } from '../report/index.ts';
import { count, counted, textTable } from './text-table.ts';

function ratio(value: number): string {
  return value.toFixed(3);
}

/** Renders a report. */
export function replayText(report: ReplayReport): string {
  const { trace, grouping, runs, compare } = report;
  const lines = [
    `${trace.file}: ${trace.format}, ${counted(trace.events, 'event')}: ${count(trace.map)} map, ${count(trace.unmap)} unmap, ${count(trace.dma)} dma` +
      (trace.skippedLines > 0 ? `; ${counted(trace.skippedLines, 'line')} skipped` : '') +
      (trace.lost > 0 ? `; ${counted(trace.lost, 'event')} lost by the recorder` : ''),
  ];
  if (grouping.rule === NOT_GROUPED) return `${lines[0]}\ninterrupted while reading: nothing was replayed\n`;
  const doubts = [
    grouping.ambiguous > 0 ? `${count(grouping.ambiguous)} ambiguous` : '',
    grouping.overlapping > 0 ? `${count(grouping.overlapping)} overlapping` : '',
    grouping.unmapWithoutMap > 0
      ? counted(grouping.unmapWithoutMap, 'unmap of an earlier mapping', 'unmaps of earlier mappings')
      : '',
    grouping.inferredDomains > 0 ? `${counted(grouping.inferredDomains, 'domain')} inferred` : '',
  ].filter((text) => text !== '');
  lines.push(
    `${counted(grouping.mapCalls, 'map call')}, told by: ${grouping.rule}${doubts.length > 0 ? ` (${doubts.join(', ')})` : ''}`,
    hardwareText(report),
    ...(trace.hasIrqContext
      ? []
      : [
          'This text has no flags column, so what an interrupt did looks as if its task had done it, and a few flushes may be',
          'predicted out of order; the trace.dat, or the text of the `trace` file, tells it.',
        ]),
    '',
    policyTable(runs),
    '',
    ...notes(report),
  );
  if (report.interrupted) lines.push('interrupted: the last row, if any, is not complete');
  if (compare !== undefined) lines.push('', ...compareText(compare));
  return `${lines.join('\n')}\n`;
}

function hardwareText({ hardware, runs }: ReplayReport): string {
  const model = `${MODEL_NAMES[hardware.model]}${hardware.told === 'default' ? ' (assumed, the trace does not tell)' : ''}`;
  const caching = hardware.model === 'vtd' ? 'caching mode' : 'NpCache';
  return `hardware: ${model}, ${caching} ${hardware.cachingMode ? 'on' : 'off'}; driver: ${runs[0]?.preset ?? 'none'}`;
}

function policyTable(runs: readonly RunResult[]): string {
  return textTable(
    [
      'map-flush',
      'unmap-\nflush',
      'page',
      'domain',
      'waits',
      'door-\nbells',
      'per map\ncall',
      'per\nunmap',
      'window\np50 ms',
      'p99 ms',
      'max ms',
      'not-\npresent',
      'stale',
    ],
    runs.map((run) => [
      run.mapFlush,
      run.unmapFlush,
      count(run.commands.page),
      count(run.commands.domain),
      count(run.commands.wait),
      count(run.doorbells),
      ratio(run.perMapCall),
      ratio(run.perUnmap),
      run.staleWindowMs.p50.toFixed(1),
      run.staleWindowMs.p99.toFixed(1),
      run.staleWindowMs.max.toFixed(1),
      count(run.violations.notPresent),
      count(run.violations.stale),
    ]),
  );
}

/** What the columns mean, and what is worth knowing about these rows. */
function notes({ hardware, runs }: ReplayReport): string[] {
  const most = (value: (run: RunResult) => number): number => Math.max(0, ...runs.map(value));
  const global = most((run) => run.commands.global);
  const context = most((run) => run.commands.context);
  const same = runs.every(({ commands }) => commands.global === global && commands.context === context);
  const lines = [
    'page, domain: invalidation commands by reach. A doorbell is a VM exit on a virtual IOMMU.',
    `Every row has ${same ? '' : 'up to '}${count(global)} global and ${count(context)} context invalidations too.`,
    'window: how long an unmapped range stayed reachable, in milliseconds.',
    'not-present, stale: device accesses that hit what should have been flushed, when a device touches each page',
    'once before its map (as one that prefetches might), once after, and once after its unmap.',
  ];
  if (hardware.cachingMode && runs.some((run) => run.unmapFlush === 'lazy')) {
    lines.push(
      `Linux forces strict unmapping under ${hardware.model === 'vtd' ? 'caching mode' : 'NpCache'} unless DMA-FQ is written to a group; lazy rows show what`,
      'that would do.',
    );
  }
  if (runs.some((run) => run.mapFlush === 'none' && run.unmapFlush === 'lazy' && run.violations.notPresent > 0)) {
    lines.push(
      'none with lazy: pages that the device never saw mapped cannot be stale; fewer stale accesses do not make it safer.',
    );
  }
  const renamed = most((run) => run.renamed);
  if (renamed > 0) {
    lines.push(
      `lazy: up to ${counted(renamed, 'map')} got another IOVA, since the recorded one would still have waited for its flush.`,
    );
  }
  const untouched = most((run) => run.untouchedPages);
  if (untouched > 0) {
    lines.push(
      `${counted(untouched, 'page access was', 'page accesses were')} left out, in calls of more than 65,536 pages.`,
    );
  }
  const failed = most((run) => run.failed);
  if (failed > 0) {
    lines.push(
      `${counted(failed, 'call was', 'calls were')} refused by the stack: the trace contradicts itself there.`,
    );
  }
  return lines;
}

function compareText(compare: NonNullable<ReplayReport['compare']>): string[] {
  const { observed, predicted } = compare;
  const kinds = ['page', 'domain', 'global', 'context', 'wait'] as const;
  const lines = [
    `compared with ${compare.file}${compare.upTo === null ? '' : ` up to mark ${compare.upTo}`}: ` +
      `map-flush ${compare.mapFlush}, unmap-flush ${compare.unmapFlush}`,
    textTable(
      ['', '', ...kinds],
      [
        ['observed', '', ...kinds.map((kind) => count(observed[kind]))],
        ['predicted', '', ...kinds.map((kind) => count(predicted[kind]))],
      ],
    ),
    matchText(compare),
  ];
  if (compare.concurrent > 0) {
    lines.push(
      `${counted(compare.concurrent, 'of them belongs', 'of them belong')} to calls that ran at the same time on several CPUs; their order is the log's.`,
    );
  }
  if (compare.afterTrace > 0)
    lines.push(`${counted(compare.afterTrace, 'more command', 'more commands')} in the log after the trace ended`);
  const difference = compare.firstDifference;
  if (difference !== null) {
    const show = (side: typeof difference.observed): string => (side === null ? 'nothing' : pageCommandText(side));
    lines.push(
      `first difference at command ${count(difference.index + 1)}: observed ${show(difference.observed)}` +
        `${difference.logLine === null ? '' : ` (line ${difference.logLine})`}, predicted ${show(difference.predicted)}`,
    );
  }
  return lines;
}

/** What is said of the page-selective invalidations, by what the log tells of them. */
function matchText({ by, identical, matching, observed }: Comparison): string {
  const what = {
    address: 'page-selective invalidations',
    domain: 'domains of the page-selective invalidations (the log has no addresses)',
    count: 'number of page-selective invalidations (the log has no addresses, the trace no domains)',
  }[by];
  if (identical && observed.page === 0) return `${what}: none on either side`;
  if (!identical) return `${what}: ${count(matching)} of ${count(observed.page)} match in order`;
  return `${what}: identical, ${by === 'count' ? count(observed.page) : `all ${count(observed.page)} in order`}`;
}

function pageCommandText(command: PageCommand): string {
  if ('domain' in command) return `domain ${command.domain}`;
  if ('am' in command) return `${command.iova} am ${command.am}${command.ih ? ' ih' : ''}`;
  return `${command.iova} ${command.pages === 1 ? '1 page' : `${command.pages} pages`}${command.pde ? ' pde' : ''}`;
}
