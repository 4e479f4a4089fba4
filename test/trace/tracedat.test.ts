// trace.dat files built by hand from the manual pages, and what a damaged one may do: an error with an offset, or skipped
// records; never a wrong kind of exception, never an endless loop.
import { deflateSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompressors } from '../../src/cli/expand.ts';
import { MemoryAccess, TraceDatReader, TraceError } from '../../src/trace/index.ts';
import { Rng } from '../../src/base/index.ts';
import type { Collected } from './collect.ts';
import { collector } from './collect.ts';
import type { Cpu, FileOptions } from './dat-files.ts';
import * as dat from './dat-files.ts';
import { gunzipped, runsWith } from './recordings.ts';

function readDat(bytes: Uint8Array): Collected & { summary: TraceDatReader['summary'] } {
  const all = collector();
  const reader = new TraceDatReader(new MemoryAccess(bytes), all.names, all.sink, decompressors);
  while (reader.read(100));
  return { ...all, summary: reader.summary };
}

const zlib = { name: 'zlib', pack: (bytes: Uint8Array): Uint8Array => deflateSync(bytes) };

const VARIANTS: [string, FileOptions][] = [
  ['version 6', { version: 6 }],
  ['version 6, 32-bit kernel', { version: 6, longBytes: 4 }],
  ['version 6, pages of 64 KiB', { version: 6, pageBytes: 65536 }],
  ['version 7', { version: 7 }],
  ['version 7, zlib', { version: 7, compression: zlib }],
  ['version 7, zlib, 32-bit kernel', { version: 7, longBytes: 4, compression: zlib }],
];

describe.each(VARIANTS)('%s', (_name, options) => {
  const read = (cpus: readonly Cpu[]): ReturnType<typeof readDat> => readDat(dat.traceDat(cpus, options));
  const onePage = (time: number | bigint, records: readonly Uint8Array[], flags = 0): Cpu[] => [
    { cpu: 0, pages: [dat.page(time, records, options, flags)] },
  ];

  test('records and their fields', () => {
    const { events, skipped, summary } = read(
      onePage(1_000_000, [
        dat.record(5, dat.mapData(0xffffe000, 0x123456000, 4096, 42, 0x08)),
        dat.record(7, dat.attachData('0000:00:04.0')),
        dat.record(1, dat.markData('LAB 101-boot-done')),
        dat.record(1, dat.plainData(dat.OTHER)),
      ]),
    );
    expect(skipped).toEqual([]);
    expect(events).toEqual([
      {
        kind: 'map',
        timeNs: 1_000_005,
        pid: 42,
        cpu: 0,
        irqContext: 2,
        iova: 0xffffe000,
        nrBytes: 4096,
        paddr: 0x123456000,
      },
      { kind: 'attach', timeNs: 1_000_012, pid: 7, cpu: 0, irqContext: 0, device: '0000:00:04.0' },
      { kind: 'mark', timeNs: 1_000_013, pid: 9, cpu: 0, irqContext: 0, text: 'LAB 101-boot-done' },
      { kind: 'other', timeNs: 1_000_014, pid: 1, cpu: 0, irqContext: 0, text: 'sched_switch' },
    ]);
    expect(summary).toMatchObject({ records: 4, events: 4, lost: 0, nrCpus: 1 });
  });

  test('time extensions, absolute times, padding, length words', () => {
    const map = dat.mapData(0x1000, 0x2000, 4096);
    const { events, skipped } = read(
      onePage(100, [
        dat.timeExtend(2n ** 30n),
        dat.record(1, map),
        dat.padding(24, 3),
        dat.record(1, map, true),
        dat.timeStamp(5_000_000_000n),
        dat.record(0, map),
        dat.endOfPage(),
        dat.record(0, map),
      ]),
    );
    expect(skipped).toEqual([]);
    expect(events.map((event) => event['timeNs'])).toEqual([2 ** 30 + 101, 2 ** 30 + 105, 5_000_000_000]);
  });

  test('CPUs are merged by time, the lower one first at equal times', () => {
    const pages = (times: readonly number[]): Uint8Array[] =>
      times.map((time) => dat.page(time, [dat.record(0, dat.mapData(time * 4096, 0, 4096))], options));
    const { events } = read([
      { cpu: 0, pages: pages([10, 30, 30, 90]) },
      { cpu: 1, pages: pages([20, 30, 40, 50, 60]) },
      { cpu: 2, pages: pages([5]) },
      { cpu: 3, pages: [] },
    ]);
    expect(events.map((event) => [event['timeNs'], event['cpu']])).toEqual([
      [5, 2],
      [10, 0],
      [20, 1],
      [30, 0],
      [30, 0],
      [30, 1],
      [40, 1],
      [50, 1],
      [60, 1],
      [90, 0],
    ]);
  });

  test('missed events', () => {
    const map = dat.record(0, dat.mapData(0x1000, 0x2000, 4096));
    const unknown = read(onePage(5, [map], 0x80000000));
    expect(unknown.events.map((event) => [event['kind'], event['extra']])).toEqual([
      ['lost', -1],
      ['map', undefined],
    ]);
    // A count is stored behind the data.
    const page = dat.page(5, [map], options, 0xc0000000);
    page[8 + (options.longBytes ?? 8) + map.length] = 17;
    const counted = read([{ cpu: 0, pages: [page] }]);
    expect(counted.events[0]).toMatchObject({ kind: 'lost', extra: 17, cpu: 0 });
    expect(counted.summary).toMatchObject({ lost: 17 });
  });

  test('fields are found by their format', () => {
    const file = dat.traceDat(onePage(5, [dat.record(0, dat.mapData(0x7000, 0x1000, 4096))]), {
      ...options,
      swapped: true,
    });
    expect(readDat(file).events[0]).toMatchObject({ iova: 0x1000, paddr: 0x7000 });
  });

  test('an event id without a format is counted and reported', () => {
    const { events, skipped, summary } = read(
      onePage(5, [
        dat.record(0, dat.plainData(999)),
        dat.record(0, dat.plainData(999)),
        dat.record(0, dat.mapData(0, 0, 4096)),
      ]),
    );
    expect(events).toHaveLength(1);
    expect(skipped).toMatchObject([{ line: 1, excerpt: 'event id 999' }, { line: 2 }]);
    expect(summary.unknownIds).toEqual([{ id: 999, records: 2 }]);
  });

  test('a record that contradicts itself is skipped, the next one read', () => {
    const good = dat.mapData(0x1000, 0x2000, 4096);
    const badString = dat.attachData('dev');
    badString[10] = 0xff;
    badString[11] = 0xff;
    const { events, skipped } = read(
      onePage(5, [
        dat.record(0, dat.mapData(2n ** 60n, 0, 4096)),
        dat.record(0, good.subarray(0, 20)),
        dat.record(0, badString),
        dat.record(0, good),
      ]),
    );
    expect(events).toHaveLength(1);
    expect(skipped.map((skip) => skip.what)).toEqual([
      expect.stringMatching(/2\^53/),
      expect.stringMatching(/inside the record/),
      expect.stringMatching(/inside the record/),
    ]);
  });

  test('a record that leaves its page ends the page, not the trace', () => {
    const map = dat.mapData(0x1000, 0x2000, 4096);
    const long = dat.record(0, map, true);
    new DataView(long.buffer).setUint32(4, 60000, true);
    const { events, skipped } = read([
      { cpu: 0, pages: [dat.page(1, [dat.record(0, map), long], options), dat.page(2, [dat.record(0, map)], options)] },
    ]);
    expect(events).toHaveLength(2);
    expect(skipped).toMatchObject([{ what: 'a record inside the page' }]);
  });
});

describe('a file that cannot be read', () => {
  const page = (): Cpu[] => [{ cpu: 0, pages: [dat.page(1, [dat.record(0, dat.mapData(0x1000, 0x2000, 4096))])] }];
  const file = (version: 6 | 7): Uint8Array => dat.traceDat(page(), { version });
  const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
    bytes[at] = value;
    return bytes;
  };

  test.each([
    ['nothing', new Uint8Array(0), 'not-a-trace', 0],
    ['another file', new TextEncoder().encode('hello, this is no trace'), 'not-a-trace', 0],
    ['version 8', changed(file(6), 10, 56), 'unsupported', 10],
    ['big endian', changed(file(6), 12, 1), 'unsupported', 12],
    ['byte order 9', changed(file(6), 12, 9), 'corrupt', 12],
    ['a long of 5 bytes', changed(file(6), 13, 5), 'corrupt', 13],
    ['no header_page', changed(file(6), 18, 0), 'corrupt', 18],
    ['a version 6 file cut in its data', file(6).subarray(0, -1), 'truncated', 4096],
    [
      'an algorithm nobody has',
      dat.traceDat(page(), { version: 7, compression: { name: 'lzma', pack: (bytes) => bytes } }),
      'unsupported',
      undefined,
    ],
    [
      'data that does not expand',
      dat.traceDat(page(), { version: 7, compression: { name: 'zlib', pack: (bytes) => bytes } }),
      'corrupt',
      undefined,
    ],
  ])('%s', (_name, bytes, code, offset) => {
    let caught: unknown;
    try {
      readDat(bytes);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(TraceError);
    expect(caught).toMatchObject({ code, ...(offset === undefined ? {} : { offset }) });
    expect((caught as TraceError).expected).not.toBe('');
    expect((caught as TraceError).message).toMatch(/expected .* found /);
  });
});

/** Reads a damaged file: returns true when it was refused. Any other exception fails the test. */
function survives(bytes: Uint8Array, what: string): boolean {
  try {
    const { events } = readDat(bytes);
    for (const event of events) {
      for (const value of [event['iova'], event['nrBytes'], event['paddr']]) {
        if (value !== undefined && !(Number(value) >= 0 && Number(value) < 2 ** 53))
          expect.fail(`${what}: ${JSON.stringify(event)}`);
      }
    }
    return false;
  } catch (error) {
    if (!(error instanceof TraceError)) throw new Error(`${what}: ${String(error)}`, { cause: error });
    return true;
  }
}

describe('damaged files', () => {
  const samples = VARIANTS.map(([name, options]): [string, Uint8Array] => {
    const pages = (cpu: number): Uint8Array[] =>
      Array.from({ length: 3 }, (_, n) =>
        dat.page(
          n * 1000,
          Array.from({ length: 20 }, (_unused, i) => dat.record(cpu + i, dat.mapData(i * 4096, 0, 4096))),
          options,
        ),
      );
    return [
      name,
      dat.traceDat(
        [0, 1].map((cpu) => ({ cpu, pages: pages(cpu) })),
        options,
      ),
    ];
  });

  test.each(samples)('%s: byte flips', (name, file) => {
    const rng = new Rng(11);
    let refused = 0;
    const started = performance.now();
    for (let run = 0; run < 700; run++) {
      const bytes = file.slice();
      const nrFlips = 1 + rng.below(4);
      // Most of a file is page data; half of the flips go to the head, where a byte decides more.
      for (let i = 0; i < nrFlips; i++)
        bytes[rng.below(rng.chance(0.5) ? Math.min(3000, bytes.length) : bytes.length)] = rng.next32() & 255;
      if (survives(bytes, `${name}, run ${run}`)) refused++;
    }
    expect(refused).toBeGreaterThan(0);
    expect(performance.now() - started).toBeLessThan(30_000);
  });

  test.each(samples)('%s: cut anywhere', (name, file) => {
    const rng = new Rng(12);
    for (let run = 0; run < 400; run++) {
      const length = rng.chance(0.7) ? rng.below(Math.min(4200, file.length)) : rng.below(file.length);
      survives(file.subarray(0, length), `${name}, ${length} bytes`);
    }
  });

  test.skipIf(runsWith('trace.dat.gz').length === 0)('a recorded file with flips in its lists and data', () => {
    const run =
      runsWith('trace.dat.gz').find((one) => one.name === 'intel-cmon-strict-small-6.1') ?? runsWith('trace.dat.gz')[0];
    if (run === undefined) return;
    const file = gunzipped(run, 'trace.dat.gz');
    const rng = new Rng(13);
    const started = performance.now();
    let runs = 0;
    for (; runs < 60 && performance.now() - started < 20_000; runs++) {
      const bytes = file.slice();
      const from = rng.chance(0.5) ? bytes.length - 62_000 : 0;
      bytes[from + rng.below(from === 0 ? 3000 : 62_000)] = rng.next32() & 255;
      survives(bytes, `run ${runs}`);
    }
    expect(runs).toBeGreaterThan(5);
  });
});
