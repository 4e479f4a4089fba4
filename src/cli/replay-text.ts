/** The result of `iommukit replay` for people: one row per policy. */
import Table from 'cli-table3';
import type { PageCommand } from '../replay/index.ts';
import type { ReplayReport } from '../report/index.ts';

/** Table borders: a rule under the head, nothing else. */
const CHARS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function ratio(value: number): string {
  return value.toFixed(3);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const made = new Table({
    head: [...head],
    chars: CHARS,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: head.map((_, column) => (column < 2 ? 'left' : 'right')),
  });
  for (const row of rows) made.push([...row]);
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Renders a report. */
export function replayText(report: ReplayReport): string {
  const { trace, grouping, hardware, runs, compare } = report;
  const lines: string[] = [];
  lines.push(
    `${trace.file}: ${trace.format}, ${count(trace.events)} events: ${count(trace.map)} map, ${count(trace.unmap)} unmap, ${count(trace.dma)} dma` +
      (trace.skippedLines > 0 ? `; ${count(trace.skippedLines)} lines skipped` : '') +
      (trace.lost > 0 ? `; ${count(trace.lost)} events lost by the recorder` : ''),
  );
  const doubts = [
    grouping.ambiguous > 0 ? `${count(grouping.ambiguous)} of them ambiguous` : '',
    grouping.overlapping > 0 ? `${count(grouping.overlapping)} overlapping` : '',
    grouping.unmapWithoutMap > 0 ? `${count(grouping.unmapWithoutMap)} unmaps of earlier mappings` : '',
    grouping.inferredDomains > 0 ? `${count(grouping.inferredDomains)} domains inferred` : '',
  ].filter((text) => text !== '');
  lines.push(
    `${count(grouping.mapCalls)} map calls, told by: ${grouping.rule}${doubts.length > 0 ? ` (${doubts.join(', ')})` : ''}`,
    `hardware: VT-d, caching mode ${hardware.cachingMode ? 'on' : 'off'}; driver: ${runs[0]?.preset ?? 'none'}`,
    '',
    table(
      [
        'map-flush',
        'unmap-flush',
        'page',
        'domain',
        'global',
        'context',
        'waits',
        'doorbells',
        'per map call',
        'per unmap',
        'window p50',
        'p99',
        'max ms',
        'not-present',
        'stale',
      ],
      runs.map((run) => [
        run.mapFlush,
        run.unmapFlush,
        count(run.commands.page),
        count(run.commands.domain),
        count(run.commands.global),
        count(run.commands.context),
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
    ),
    '',
    'page, domain, global, context: invalidation commands by reach. A doorbell is a VM exit on a virtual IOMMU.',
    'window: how long an unmapped range stayed reachable. not-present, stale: device accesses that hit what should have been',
    'flushed, when a device touches each page once before its map (as one that prefetches might), once after, once after its unmap.',
  );
  if (hardware.cachingMode && runs.some((run) => run.unmapFlush === 'lazy')) {
    lines.push(
      'Linux forces strict unmapping under caching mode unless DMA-FQ is written to a group; lazy rows show what that would do.',
    );
  }
  if (runs.some((run) => run.mapFlush === 'none' && run.unmapFlush === 'lazy' && run.violations.notPresent > 0)) {
    lines.push(
      'none with lazy: pages that the device never saw mapped cannot be stale; fewer stale accesses do not make it safer.',
    );
  }
  const renamed = Math.max(0, ...runs.map((run) => run.renamed));
  if (renamed > 0) {
    lines.push(
      `lazy: up to ${count(renamed)} maps got another IOVA, since the recorded one would still have waited for its flush.`,
    );
  }
  const untouched = Math.max(0, ...runs.map((run) => run.untouchedPages));
  if (untouched > 0) lines.push(`${count(untouched)} page accesses were left out, in calls of more than 65,536 pages.`);
  const failed = Math.max(0, ...runs.map((run) => run.failed));
  if (failed > 0) lines.push(`${count(failed)} calls were refused by the stack: the trace contradicts itself there.`);
  if (report.interrupted) lines.push('interrupted: the last row, if any, is not complete');
  if (compare !== undefined) lines.push('', ...compareText(compare));
  return `${lines.join('\n')}\n`;
}

function compareText(compare: NonNullable<ReplayReport['compare']>): string[] {
  const { observed, predicted } = compare;
  const kinds = ['page', 'domain', 'global', 'context', 'wait'] as const;
  const lines = [
    `compared with ${compare.file}${compare.upTo === null ? '' : ` up to mark ${compare.upTo}`}: ` +
      `map-flush ${compare.mapFlush}, unmap-flush ${compare.unmapFlush}`,
    table(
      ['', '', ...kinds],
      [
        ['observed', '', ...kinds.map((kind) => count(observed[kind]))],
        ['predicted', '', ...kinds.map((kind) => count(predicted[kind]))],
      ],
    ),
    compare.identical && observed.page === 0
      ? 'page-selective invalidations: none on either side'
      : compare.identical
        ? `page-selective invalidations: identical, all ${count(observed.page)} in order`
        : `page-selective invalidations: ${count(compare.matching)} of ${count(observed.page)} match in order`,
  ];
  if (compare.concurrent > 0) {
    lines.push(
      `${count(compare.concurrent)} of them belong to calls that ran at the same time on several CPUs; their order is the log's.`,
    );
  }
  if (compare.afterTrace > 0) lines.push(`${count(compare.afterTrace)} more commands in the log after the trace ended`);
  const difference = compare.firstDifference;
  if (difference !== null) {
    const show = (side: typeof difference.observed): string =>
      side === null ? 'nothing' : pageCommandText(side);
    lines.push(
      `first difference at command ${count(difference.index + 1)}: observed ${show(difference.observed)}` +
        `${difference.logLine === null ? '' : ` (line ${difference.logLine})`}, predicted ${show(difference.predicted)}`,
    );
  }
  return lines;
}

function pageCommandText(command: PageCommand): string {
  if ('am' in command) return `${command.iova} am ${command.am}${command.ih ? ' ih' : ''}`;
  return `${command.iova} ${command.pages} pages${command.pde ? ' pde' : ''}`;
}
