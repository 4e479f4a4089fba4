/** Timelines: against QEMU's log of a recorded run, a plain list of all events, and the bytes as the format says them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RunObserver } from '../../src/replay/index.ts';
import { CommandKind } from '../../src/replay/index.ts';
import type { Timeline } from '../../src/report/index.ts';
import { NO_DEVICE, TimelineKind, TimelineRecorder, packTimeline, unpackTimeline } from '../../src/report/index.ts';
import { planOf, play, recording, traceText } from '../replay/recordings.ts';

interface Row {
  readonly kind: number;
  readonly device: number;
  readonly iova: number;
  readonly pages: number;
  readonly time: number;
  readonly windowEnd: number;
}

function rowsOf(timeline: Timeline): Row[] {
  return Array.from({ length: timeline.length }, (_, i) => ({
    kind: timeline.kind[i],
    device: timeline.device[i],
    iova: timeline.iova[i],
    pages: timeline.pages[i],
    time: timeline.time[i],
    windowEnd: timeline.windowEnd[i],
  }));
}

/** Page-selective invalidations of QEMU's log. */
function loggedPages(folder: string): { iova: number; pages: number }[] {
  const log = gunzipSync(readFileSync(join(folder, 'qemu-inval.log.gz'))).toString('latin1');
  return [...log.matchAll(/vtd_inv_desc_iotlb_pages .*?addr 0x([0-9a-f]+) mask 0x([0-9a-f]+)/g)].map(
    ([, addr = '', mask = '']) => ({ iova: parseInt(addr, 16), pages: 2 ** parseInt(mask, 16) }),
  );
}

const textOf = ({ iova, pages }: { iova: number; pages: number }): string => `${iova.toString(16)}+${pages}`;

describe('a recorded run', () => {
  const run = recording('intel-cmon-strict-small-6.1');
  const plan = planOf(traceText(run));

  test('its page-selective invalidations are those that QEMU logged', () => {
    const recorder = new TimelineRecorder('sync-map, strict', 1e6);
    play(plan, { ...run, observer: recorder });
    const pages = rowsOf(recorder.timeline([])).filter(({ kind }) => kind === TimelineKind.page);
    const logged = loggedPages(run.folder);
    expect(pages.length).toBeGreaterThan(4000);
    // Calls that ran at once on two CPUs have no order in the trace; what the log has after the trace's end is left out.
    expect(pages.map(textOf).sort()).toEqual(logged.slice(0, pages.length).map(textOf).sort());
  });

  test.each(['strict', 'lazy'] as const)('none, %s: what the table counts is what the timeline shows', (unmapFlush) => {
    const recorder = new TimelineRecorder('', 1e6);
    const { result } = play(plan, { ...run, mapFlush: 'none', unmapFlush, observer: recorder });
    const timeline = recorder.timeline([]);
    const rows = rowsOf(timeline);
    const of = (kind: number): Row[] => rows.filter((row) => row.kind === kind);
    const pagesOf = (kind: number): number => of(kind).reduce((sum, { pages }) => sum + pages, 0);
    expect(timeline.nrEvents).toBe(timeline.length);
    expect(of(TimelineKind.map).length).toBe(plan.mapCalls);
    expect(of(TimelineKind.unmap).length).toBe(plan.counts.unmap);
    expect(of(TimelineKind.page).length).toBe(result.commands.page);
    expect(of(TimelineKind.domain).length).toBe(result.commands.domain);
    expect(pagesOf(TimelineKind.notPresent)).toBe(result.violations.notPresent);
    expect(pagesOf(TimelineKind.stale)).toBe(result.violations.stale);
    const windows = of(TimelineKind.unmap).map(({ time, windowEnd }) => (windowEnd - time) * 1e3);
    expect(Math.max(...windows)).toBeCloseTo(result.staleWindowMs.max, 2);
    expect(Math.min(...windows)).toBeGreaterThanOrEqual(0);
    expect(
      rows.filter(({ kind }) => kind !== TimelineKind.unmap).every(({ windowEnd }) => Number.isNaN(windowEnd)),
    ).toBe(true);
    for (let i = 1; i < rows.length; i++) expect(rows[i].time >= rows[i - 1].time).toBe(true);
    expect(rows[0].time).toBeGreaterThan(0);
  });
});

/** What a player may say of one call, and the windows that close after it. */
const call = fc.record({
  isMap: fc.boolean(),
  isQueued: fc.boolean(),
  domain: fc.integer({ min: 0, max: 3 }),
  page: fc.integer({ min: 0, max: 5 }),
  nrPages: fc.integer({ min: 1, max: 4 }),
  commands: fc.array(fc.constantFrom(CommandKind.page, CommandKind.wait, CommandKind.global, CommandKind.other), {
    maxLength: 4,
  }),
  stale: fc.integer({ min: 0, max: 2 }),
  closes: fc.boolean(),
});

describe('a limit', () => {
  test('leaves out whole calls, keeps the rest as it is, and says how many there were', () => {
    fc.assert(
      fc.property(fc.array(call, { maxLength: 300 }), fc.integer({ min: 64, max: 400 }), (calls, limit) => {
        const recorder = new TimelineRecorder('x', limit);
        // The plain list: rows by call, windows by the row they belong to.
        const expected: { rows: Row[] }[] = [];
        const open: { row: { windowEnd: number }; domain: number; iova: number; timeNs: number }[] = [];
        let timeNs = 0;
        for (const { isMap, isQueued, domain, page, nrPages, commands, stale, closes } of calls) {
          timeNs += 1e6;
          const time = timeNs / 1e9;
          const iova = page * 4096;
          const rows: Row[] = [];
          const add = (kind: number, device: number, at: number, pages: number, windowEnd: number): Row => {
            const row = { kind, device, iova: at, pages, time, windowEnd };
            rows.push(row);
            return row;
          };
          // An IOVA that waits in the queue is not handed out (C-LAZY-BOUND).
          if (open.some((one) => one.domain === domain && one.iova === iova)) continue;
          if (isMap) {
            recorder.map(domain, iova, nrPages * 4096, timeNs);
            add(TimelineKind.map, domain, iova, nrPages, NaN);
          } else {
            recorder.unmap(domain, iova, nrPages * 4096, timeNs, isQueued);
            const row = add(TimelineKind.unmap, domain, iova, nrPages, isQueued ? Infinity : time);
            if (isQueued) open.push({ row, domain, iova, timeNs });
          }
          for (const kind of commands) {
            if (kind === CommandKind.page) {
              recorder.command(kind, domain, iova, nrPages, timeNs);
              add(TimelineKind.page, domain, iova, nrPages, NaN);
            } else {
              recorder.command(kind, kind === CommandKind.global ? -1 : domain, 0, 0, timeNs);
              if (kind === CommandKind.wait) add(TimelineKind.wait, domain, 0, 0, NaN);
              if (kind === CommandKind.global) add(TimelineKind.global, NO_DEVICE, 0, 0, NaN);
            }
          }
          if (stale > 0) {
            recorder.violation(false, domain, iova, stale, timeNs);
            add(TimelineKind.stale, domain, iova, stale, NaN);
          }
          expected.push({ rows });
          if (!closes) continue;
          for (const one of open.splice(0)) {
            recorder.windowClosed(one.domain, one.iova, 0, one.timeNs, timeNs);
            one.row.windowEnd = time;
          }
        }
        const timeline = recorder.timeline(['a']);
        const rows = rowsOf(timeline);
        const all = expected.flatMap((one) => one.rows);
        expect(timeline.length).toBeLessThanOrEqual(limit);
        expect(timeline.nrEvents).toBe(all.length);
        // Below the limit of commands per call that a large limit has.
        if (all.length < limit && limit >= 64 * 8) expect(rows).toEqual(all);
        // What is kept of a call begins with the call itself and is what the list has, in order.
        let at = 0;
        for (const one of expected) {
          let inCall = 0;
          for (const row of one.rows) {
            if (at === rows.length || !same(rows[at], row)) {
              if (inCall === 0) break;
              continue;
            }
            at += 1;
            inCall += 1;
          }
        }
        expect(at).toBe(rows.length);
      }),
      { numRuns: 200 },
    );
  });

  test('of a million calls about half to all of the room is used, and what stays is spread over all of the time', () => {
    const recorder = new TimelineRecorder('', 1000);
    // A pattern of two: every other call is an unmap. Picking every n-th call would show one kind only.
    for (let i = 0; i < 1e6; i++) {
      if (i % 2 === 0) recorder.map(0, i, 4096, i * 1e3);
      else recorder.unmap(0, i, 4096, i * 1e3, false);
    }
    const timeline = recorder.timeline([]);
    expect(timeline.nrEvents).toBe(1e6);
    expect(timeline.length).toBeGreaterThan(350);
    expect(timeline.length).toBeLessThanOrEqual(1000);
    const unmaps = timeline.kind.filter((kind) => kind === TimelineKind.unmap).length;
    expect(unmaps / timeline.length).toBeGreaterThan(0.4);
    expect(unmaps / timeline.length).toBeLessThan(0.6);
    const tenths = Array.from({ length: 10 }, (_, i) => timeline.time.filter((t) => Math.floor(t * 10) === i).length);
    expect(Math.min(...tenths)).toBeGreaterThan(timeline.length / 30);
  });

  test('one call with more commands than there is room does not push out the others', () => {
    const recorder = new TimelineRecorder('', 640);
    const feed: RunObserver = recorder;
    for (let i = 0; i < 100; i++) feed.map(0, i * 4096, 4096, i);
    feed.map(0, 0, 4096 * 1e5, 100);
    for (let i = 0; i < 1e5; i++) feed.command(CommandKind.page, 0, i * 4096, 1, 100);
    feed.violation(true, 0, 0, 1e5, 100);
    const timeline = recorder.timeline([]);
    expect(timeline.nrEvents).toBe(100 + 1 + 1e5 + 1);
    expect(timeline.kind.filter((kind) => kind === TimelineKind.map).length).toBe(101);
    expect(timeline.kind.filter((kind) => kind === TimelineKind.notPresent).length).toBe(1);
  });
});

function same(a: Row, b: Row): boolean {
  return (Object.keys(a) as (keyof Row)[]).every((key) => Object.is(a[key], b[key]));
}

describe('as JSON', () => {
  const small: Timeline = {
    name: 'map, lazy',
    devices: ['0000:00:04.0', '<b>'],
    length: 2,
    nrEvents: 5,
    time: Float64Array.of(0.5, 1),
    kind: Uint8Array.of(TimelineKind.unmap, TimelineKind.page),
    device: Uint16Array.of(1, NO_DEVICE),
    iova: Float64Array.of(4096, 0),
    pages: Uint32Array.of(1, 2 ** 32 - 1),
    windowEnd: Float64Array.of(Infinity, NaN),
    line: null,
  };

  test('the bytes are those that the format says', () => {
    const { data } = packTimeline(small);
    // IEEE 754 and little-endian by hand: 0.5, 1; 4096, 0; Infinity, NaN; 1, 2^32 - 1; 1, 65535; 1, 2.
    expect(Buffer.from(data, 'base64').toString('hex')).toBe(
      '000000000000e03f000000000000f03f' +
        '000000000000b0400000000000000000' +
        '000000000000f07f000000000000f87f' +
        '01000000ffffffff' +
        '0100ffff' +
        '0102',
    );
  });

  test('any timeline comes back through JSON as it was', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.double(), fc.nat(9), fc.nat(65535), fc.nat()), { maxLength: 40 }),
        fc.boolean(),
        (list, hasLines) => {
          const timeline: Timeline = {
            ...small,
            length: list.length,
            time: Float64Array.from(list, ([time]) => time),
            kind: Uint8Array.from(list, ([, kind]) => kind),
            device: Uint16Array.from(list, ([, , device]) => device),
            iova: Float64Array.from(list, ([, , , pages]) => pages * 4096),
            pages: Uint32Array.from(list, ([, , , pages]) => pages),
            windowEnd: Float64Array.from(list, ([time]) => time),
            line: hasLines ? Uint32Array.from(list, ([, , , pages]) => pages) : null,
          };
          expect(unpackTimeline(JSON.parse(JSON.stringify(packTimeline(timeline))))).toEqual(timeline);
        },
      ),
    );
  });

  test.each([
    ['cut short', (data: string) => data.slice(4)],
    ['not base64', (data: string) => `%${data.slice(1)}`],
    ['beyond ASCII', (data: string) => `é${data.slice(1)}`],
  ])('data that is %s is refused', (_name, damage) => {
    const packed = packTimeline(small);
    expect(() => unpackTimeline({ ...packed, data: damage(packed.data) })).toThrow(/the timeline map, lazy is damaged/);
  });

  test.each([-1, 1.5, 1e300, NaN])('a length of %d is refused', (length) => {
    expect(() => unpackTimeline({ ...packTimeline(small), length })).toThrow(RangeError);
  });
});
