/** The timeline's counts against plain loops over all of its events. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Timeline } from '../../src/report/index.ts';
import { NO_DEVICE, TimelineKind } from '../../src/report/index.ts';
import { TRACKS, TimelineModel } from '../../web/src/policies/timeline-model.ts';
import { DURATIONS_MS, atLeast } from '../../web/src/policies/windows.ts';

interface Event {
  readonly gap: number;
  readonly kind: number;
  readonly device: number;
  readonly pages: number;
  /** Of an unmap: seconds, Infinity for no end. */
  readonly window: number;
}

const event: fc.Arbitrary<Event> = fc.record({
  gap: fc.constantFrom(0, 1 / 64, 1 / 8, 3),
  kind: fc.integer({ min: 0, max: 8 }),
  device: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 11 }) }, fc.constant(NO_DEVICE)),
  pages: fc.integer({ min: 1, max: 9 }),
  window: fc.constantFrom(0, 1 / 32, 1, 40, Infinity),
});

/** Binary fractions: sums of them are exact. */
function timelineOf(events: readonly Event[]): Timeline {
  let now = 100;
  const times = events.map(({ gap }) => (now += gap));
  return {
    name: 'test',
    devices: Array.from({ length: 12 }, (_, i) => `dev${i}`),
    length: events.length,
    nrEvents: events.length,
    time: Float64Array.from(times),
    kind: Uint8Array.from(events, ({ kind }) => kind),
    device: Uint16Array.from(events, ({ device }) => device),
    iova: new Float64Array(events.length),
    pages: Uint32Array.from(events, ({ pages }) => pages),
    windowEnd: Float64Array.from(events, ({ kind, window }, i) =>
      kind === TimelineKind.unmap ? (times[i] ?? 0) + window : NaN,
    ),
    line: null,
  };
}

const KINDS_OF_TRACK: readonly (readonly number[])[] = [
  [TimelineKind.map],
  [TimelineKind.unmap],
  [TimelineKind.page, TimelineKind.domain, TimelineKind.global, TimelineKind.context],
  [],
  [TimelineKind.notPresent, TimelineKind.stale],
];

/** Lane of a device, by the names alone. */
function laneOf(model: TimelineModel, device: number): number {
  const own = model.lanes.indexOf(`dev${device}`);
  return own >= 0 ? own : model.lanes.length - 1;
}

/** Long lists too: the model passes over blocks of 1024 events. */
const events = fc.oneof(
  fc.array(event, { minLength: 1, maxLength: 60 }),
  fc.array(event, { minLength: 2500, maxLength: 3500, size: 'max' }),
);
const window = fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0.001, max: 1, noNaN: true }));

describe('a window of a timeline', () => {
  test('counts per pixel are those of a loop over all events', () => {
    fc.assert(
      fc.property(events, window, fc.integer({ min: 1, max: 90 }), (list, [at, share], width) => {
        const timeline = timelineOf(list);
        const model = new TimelineModel(timeline);
        const from = model.begin + at * (model.end - model.begin);
        const to = from + share * (model.end - model.begin);
        const got = new Uint32Array(model.lanes.length * TRACKS.length * width);
        model.columns(from, to, width, got);
        const expected = new Uint32Array(got.length);
        const pixel = (seconds: number): number =>
          Math.max(0, Math.min(width - 1, Math.floor((seconds - from) * (width / (to - from)))));
        for (let i = 0; i < timeline.length; i++) {
          const [time, end, kind] = [timeline.time[i], timeline.windowEnd[i], timeline.kind[i]];
          const lane = laneOf(model, timeline.device[i]) * TRACKS.length;
          const track = KINDS_OF_TRACK.findIndex((kinds) => kinds.includes(kind));
          if (time >= from && time <= to && track >= 0) expected[(lane + track) * width + pixel(time)] += 1;
          if (kind !== TimelineKind.unmap || end === time || time > to || end < from) continue;
          const last = end >= to ? width - 1 : pixel(end);
          for (let x = pixel(Math.max(time, from)); x <= last; x++) expected[(lane + 3) * width + x] += 1;
        }
        expect(got).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  test('and so are its numbers; of the whole, all events are in them', () => {
    fc.assert(
      fc.property(events, window, (list, [at, share]) => {
        const timeline = timelineOf(list);
        const model = new TimelineModel(timeline);
        const length = model.end - model.begin;
        for (const [from, to] of [
          [model.begin + at * length, model.begin + (at + share) * length],
          [model.begin, model.end],
        ] as const) {
          const all = [...list.keys()].map((i) => ({
            time: timeline.time[i],
            end: timeline.windowEnd[i],
            kind: timeline.kind[i],
            pages: timeline.pages[i],
            lane: laneOf(model, timeline.device[i]),
          }));
          const inside = all.filter(({ time }) => time >= from && time <= to);
          expect(model.numbers(from, to)).toEqual(
            model.lanes.map((lane, number) => {
              const of = (...kinds: readonly number[]): typeof all =>
                inside.filter((one) => one.lane === number && kinds.includes(one.kind));
              const open = all.filter(
                (one) => one.lane === number && one.time <= to && one.end > one.time && one.end >= from,
              );
              return {
                lane,
                maps: of(TimelineKind.map).length,
                unmaps: of(TimelineKind.unmap).length,
                invalidations: of(...(KINDS_OF_TRACK[2] ?? [])).length,
                waits: of(TimelineKind.wait).length,
                windows: open.length,
                longest: Math.max(0, ...open.map(({ time, end }) => end - time)),
                violations: of(...(KINDS_OF_TRACK[4] ?? [])).reduce((sum, { pages }) => sum + pages, 0),
              };
            }),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  test('the busiest devices have lanes of their own, the others share the last', () => {
    const list = Array.from({ length: 12 }, (_, device) =>
      Array.from({ length: device + 1 }, () => ({ gap: 1, kind: TimelineKind.map, device, pages: 1, window: 0 })),
    ).flat();
    expect(new TimelineModel(timelineOf(list)).lanes).toEqual([
      'dev11',
      'dev10',
      'dev9',
      'dev8',
      'dev7',
      'dev6',
      'dev5',
      '5 other devices, and what is of none',
    ]);
    expect(new TimelineModel(timelineOf(list.slice(0, 3))).lanes).toEqual(['dev1', 'dev0']);
  });
});

test('shares of windows: at each duration, the unmaps that took at least as long', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 200, noNaN: true }), { minLength: 1, maxLength: 50 }), (windows) => {
      const list = windows.map((seconds) => ({
        gap: 0,
        kind: TimelineKind.unmap,
        device: 0,
        pages: 1,
        window: seconds,
      }));
      const timeline = timelineOf([...list, { gap: 0, kind: TimelineKind.map, device: 0, pages: 1, window: 0 }]);
      // What the timeline can hold of them: ends are doubles near 100.
      const held = windows.map((_, i) => Math.fround(timeline.windowEnd[i] - timeline.time[i]));
      expect(atLeast(timeline)).toEqual(
        DURATIONS_MS.map((ms) => (100 * held.filter((seconds) => seconds * 1e3 >= ms).length) / windows.length),
      );
    }),
  );
});
