/** Perfetto traces, read by another decoder: against QEMU's log, the run's own totals, and a plain list of all that happened. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RunObserver } from '../../src/replay/index.ts';
import { CommandKind } from '../../src/replay/index.ts';
import { PerfettoTrace } from '../../src/report/index.ts';
import { planOf, play, recording, traceText } from '../replay/recordings.ts';
import type { Shown } from './perfetto-decoder.ts';
import { shownBy } from './perfetto-decoder.ts';

/** What is written, and in how many pieces. */
function written(fill: (trace: PerfettoTrace) => void): { bytes: Uint8Array; nrPieces: number } {
  const pieces: Uint8Array[] = [];
  // The writer reuses its memory, so a piece is copied.
  const trace = new PerfettoTrace((bytes) => pieces.push(bytes.slice()));
  fill(trace);
  trace.finish();
  return { bytes: Buffer.concat(pieces), nrPieces: pieces.length };
}

const kindOf = ({ track }: Shown): string => track.slice(track.lastIndexOf('/') + 1);

describe('a recorded run', () => {
  const run = recording('intel-cmon-strict-small-6.1');
  const plan = planOf(traceText(run));
  const devices = plan.domains.map((domain) => domain.devices.map(({ name }) => name).join(', '));

  test('its page-selective invalidations are those that QEMU logged', () => {
    const log = gunzipSync(readFileSync(join(run.folder, 'qemu-inval.log.gz'))).toString('latin1');
    const logged = [...log.matchAll(/vtd_inv_desc_iotlb_pages .*?addr 0x([0-9a-f]+) mask 0x([0-9a-f]+)/g)].map(
      ([, addr = '', mask = '']) => `${parseInt(addr, 16)}+${2 ** parseInt(mask, 16)}`,
    );
    const { bytes } = written((trace) => play(plan, { ...run, observer: trace.run('run', devices) }));
    const pages = shownBy(bytes).filter(({ name }) => name === 'page-selective');
    expect(pages.length).toBeGreaterThan(4000);
    // What the log has after the trace's end is left out.
    expect(pages.map(({ args }) => `${args['iova']}+${args['pages']}`).sort()).toEqual(
      logged.slice(0, pages.length).sort(),
    );
  });

  test.each([
    ['none', 'strict'],
    ['none', 'lazy'],
    ['sync-map', 'lazy'],
  ] as const)('%s, %s: what the table counts is what the trace shows', (mapFlush, unmapFlush) => {
    let totals: ReturnType<typeof play>['result'] | undefined;
    const { bytes, nrPieces } = written((trace) => {
      totals = play(plan, { ...run, mapFlush, unmapFlush, observer: trace.run('run', devices) }).result;
    });
    if (totals === undefined) throw new Error('not played');
    const { commands, violations, staleWindowMs } = totals;
    expect(nrPieces).toBeGreaterThan(5);
    const shown = shownBy(bytes);
    const nr = (name: string): number => shown.filter((event) => event.name === name).length;
    const pagesOf = (name: string): number =>
      shown.filter((event) => event.name === name).reduce((sum, { args }) => sum + (args['pages'] ?? NaN), 0);
    expect(nr('map')).toBe(plan.mapCalls);
    expect(nr('unmap') + nr('unmap (queued)')).toBe(plan.counts.unmap);
    expect({ page: nr('page-selective'), domain: nr('domain-selective') }).toEqual({
      page: commands.page,
      domain: commands.domain,
    });
    expect({ notPresent: pagesOf('not present'), stale: pagesOf('stale') }).toEqual(violations);
    const windows = shown.filter(({ isSlice }) => isSlice).map(({ from, to }) => (to - from) / 1e6);
    expect(windows.length).toBe(nr('unmap (queued)'));
    if (unmapFlush === 'lazy') {
      expect(windows.length).toBeGreaterThan(1000);
      const sorted = windows.toSorted((a, b) => a - b);
      expect(sorted.at(-1)).toBeCloseTo(staleWindowMs.max, 2);
      // The table's percentiles come from a histogram with bins of a few percent.
      const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
      expect(Math.abs(median / staleWindowMs.p50 - 1)).toBeLessThan(0.05);
    }
    expect(new Set(shown.map(kindOf))).toEqual(
      new Set([
        'maps',
        'unmaps',
        'invalidations',
        ...(unmapFlush === 'lazy' ? ['stale windows'] : []),
        ...(violations.notPresent + violations.stale > 0 ? ['violations'] : []),
      ]),
    );
    expect(new Set(shown.map(({ track }) => track.split('/')[1]))).toEqual(new Set(devices));
    // Seconds of the recording's clock: its first and last event.
    const [first = '', last = ''] = [/ ([0-9]+\.[0-9]+): map:/, /.* ([0-9]+\.[0-9]+): unmap:/s].map(
      (pattern) => pattern.exec(traceText(run))?.[1],
    );
    expect(Math.min(...shown.filter(({ name }) => name === 'map').map(({ from }) => from)) / 1e9).toBeLessThanOrEqual(
      Number(first),
    );
    const unmaps = shown.filter(({ track }) => track.endsWith('unmaps'));
    expect(unmaps.at(-1)?.from).toBe(Math.round(Number(last) * 1e9));
  });
});

const DOMAINS = ['0000:00:04.0', '</script><img src=x onerror=alert(1)>', 'ü 😀 \ud800'];
/** As UTF-8 gives it back. */
const SHOWN_DOMAINS = DOMAINS.map((name) => name.replace('\ud800', '\ufffd'));
const KINDS = [
  [CommandKind.page, 'page-selective'],
  [CommandKind.domain, 'domain-selective'],
  [CommandKind.global, 'global'],
  [CommandKind.context, 'context or device entry'],
  [CommandKind.wait, ''],
  [CommandKind.other, 'other command'],
] as const;

const step = fc.record({
  what: fc.constantFrom('map', 'unmap', 'queue', 'command', 'violation', 'close'),
  domain: fc.integer({ min: 0, max: 2 }),
  // Beyond 32 bits too, and what a double still holds.
  iova: fc.oneof(fc.nat(), fc.constantFrom(0, 2 ** 31, 2 ** 32, 2 ** 48 - 4096, 2 ** 53 - 4096)),
  pages: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(2 ** 32)),
  kind: fc.constantFrom(...KINDS),
  isNotPresent: fc.boolean(),
  ns: fc.oneof(fc.constant(0), fc.nat(), fc.constant(2 ** 40)),
});

type Row = readonly [track: string, name: string, from: number, to: number, iova: number, pages: number];

test('whatever happens is shown as it was, in as many tracks as windows overlap', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const expected: Row[] = [];
      const open: { domain: number; iova: number; pages: number; ns: number }[] = [];
      let now = 0;
      const { bytes } = written((trace) => {
        const observer: RunObserver = trace.run('a, b', DOMAINS);
        for (const { what, domain, iova, pages, kind, isNotPresent, ns } of steps) {
          now += ns;
          const add = (track: string, name: string, ...at: readonly [number, number]): void => {
            expected.push([`a, b/${track}`, name, now, now, ...at]);
          };
          const device = SHOWN_DOMAINS[domain] ?? '';
          if (what === 'map') {
            observer.map(domain, iova, pages * 4096, now);
            add(`${device}/maps`, 'map', iova, pages);
          } else if (what === 'unmap' || what === 'queue') {
            observer.unmap(domain, iova, pages * 4096, now, what === 'queue');
            add(`${device}/unmaps`, what === 'queue' ? 'unmap (queued)' : 'unmap', iova, pages);
            if (what === 'queue') open.push({ domain, iova, pages, ns: now });
          } else if (what === 'command') {
            const [number, name] = kind;
            const isGlobal = number === CommandKind.global;
            observer.command(number, isGlobal ? -1 : domain, iova, pages, now);
            const hasPages = number === CommandKind.page;
            if (name !== '') {
              const track = isGlobal ? 'invalidations' : `${device}/invalidations`;
              add(track, name, hasPages ? iova : NaN, hasPages ? pages : NaN);
            }
          } else if (what === 'violation') {
            observer.violation(isNotPresent, domain, iova, pages, now);
            add(`${device}/violations`, isNotPresent ? 'not present' : 'stale', iova, pages);
          } else {
            for (const window of open.splice(0, pages % 4)) {
              observer.windowClosed(window.domain, window.iova, window.pages * 4096, window.ns, now);
              const track = `a, b/${SHOWN_DOMAINS[window.domain]}/stale windows`;
              expected.push([track, 'stale window', window.ns, now, window.iova, window.pages]);
            }
          }
        }
      });
      const rows = shownBy(bytes).map(({ track, name, from, to, args }): Row => [
        track,
        name,
        from,
        to,
        args['iova'] ?? NaN,
        args['pages'] ?? NaN,
      ]);
      const sorted = (list: readonly Row[]): string[] => list.map((row) => row.join('|')).sort();
      expect(sorted(rows)).toEqual(sorted(expected));
    }),
  );
});

test('runs of one file have tracks of their own', () => {
  const { bytes } = written((trace) => {
    for (const name of ['none, strict', 'none, lazy']) trace.run(name, ['0000:00:01.0']).map(0, 4096, 4096, 5);
  });
  expect(shownBy(bytes).map(({ track }) => track)).toEqual([
    'none, strict/0000:00:01.0/maps',
    'none, lazy/0000:00:01.0/maps',
  ]);
});
