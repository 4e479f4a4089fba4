// The Node layer: every way a trace may be packed gives the same events, and everything wrong with a file is one clear line.
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { TraceSummary } from '../../src/trace/index.ts';
import type { ReadOptions } from '../../src/cli/byte-source.ts';
import { FileError } from '../../src/cli/file-error.ts';
import { ReadInterrupted, readCommands, readTrace } from '../../src/cli/input.ts';
import type { Plain } from './collect.ts';
import { bytesOf, collector } from './collect.ts';
import * as dat from './dat-files.ts';

let folder = '';
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'input-test-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function read(path: string, options: ReadOptions = {}): Promise<{ events: Plain[]; summary: TraceSummary }> {
  const all = collector();
  const summary = await readTrace(path, all.names, all.sink, options);
  return { events: all.events, summary };
}

const LINE =
  ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096\n';
const TEXT = bytesOf(`# tracer: nop\n#\n${LINE.repeat(20_000)}`);
const DAT = dat.traceDat([
  { cpu: 0, pages: [dat.page(812_345_678_000, [dat.record(0, dat.mapData(0xffffe000, 0x123456000, 4096, 1234))])] },
]);
const QEMU = bytesOf('1@2.000003:vtd_inv_qi_tail write tail 18\n'.repeat(100));

/** A zstd frame of raw blocks: valid data made without a compressor. */
function zstdFrame(content: Uint8Array): Uint8Array {
  const out = new dat.Bytes().int(0xfd2fb528, 4).int(0x00, 1).int(0x58, 1);
  for (let at = 0; at < content.length; at += 65536) {
    const block = content.subarray(at, at + 65536);
    const last = at + 65536 >= content.length ? 1 : 0;
    out.int((block.length << 3) | last, 3).raw(block);
  }
  return out.bytes;
}

const half = Math.floor(TEXT.length / 2);
const PACKED: [string, Uint8Array][] = [
  ['plain', TEXT],
  ['gzip', gzipSync(TEXT)],
  ['gzip in two members', Buffer.concat([gzipSync(TEXT.subarray(0, half)), gzipSync(TEXT.subarray(half))])],
  ['zstd', zstdFrame(TEXT)],
  ['zstd in two frames', Buffer.concat([zstdFrame(TEXT.subarray(0, half)), zstdFrame(TEXT.subarray(half))])],
];

describe('a text trace', () => {
  test.each(PACKED)('%s', async (name, bytes) => {
    const { events, summary } = await read(file(name, bytes));
    expect(events).toHaveLength(20_000);
    expect(summary).toMatchObject({ format: 'ftrace text', lines: 20_002, skipped: 0 });
  });
});

describe('a trace.dat', () => {
  test.each([
    ['plain', DAT],
    ['gzip', gzipSync(DAT)],
    ['zstd', zstdFrame(DAT)],
  ] as [string, Uint8Array][])('%s, and no temporary file stays', async (name, bytes) => {
    const before = readdirSync(tmpdir()).filter((entry) => entry.startsWith('iommukit-'));
    const { events, summary } = await read(file(`dat ${name}`, bytes));
    expect(events).toMatchObject([{ kind: 'map', iova: 0xffffe000, pid: 1234 }]);
    expect(summary.format).toBe('trace.dat');
    expect(readdirSync(tmpdir()).filter((entry) => entry.startsWith('iommukit-'))).toEqual(before);
  });
});

test('a QEMU log, plain and packed', async () => {
  for (const [name, bytes] of [
    ['q', QEMU],
    ['q.gz', gzipSync(QEMU)],
  ] as const) {
    let tails = 0;
    const summary = await readCommands(
      file(name, bytes),
      { mark() {}, skipped() {}, tail: () => void tails++ },
      { command() {}, skipped() {} },
    );
    expect(tails).toBe(100);
    expect(summary.format).toBe('QEMU log');
  }
});

describe('what cannot be read is one line: the file, the trouble, the remedy', () => {
  const cases: [string, () => string, RegExp][] = [
    ['a missing file', () => join(folder, 'missing'), /missing: no such file; check the path/],
    ['a folder', () => folder, /is a directory; give a trace file/],
    ['an empty file', () => file('empty', ''), /empty: is empty; expected a text trace/],
    ['an empty gzip', () => file('empty.gz', gzipSync(new Uint8Array(0))), /is empty inside gzip data/],
    [
      'a letter',
      () => file('letter', 'Dear reader,\nhello\n'),
      /is text without a trace line in its first 2 lines; expected/,
    ],
    [
      'random bytes',
      () =>
        file(
          'random',
          Uint8Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251),
        ),
      /binary data/,
    ],
    ['perf.data', () => file('perf.data', `PERFILE2${'\0'.repeat(100)}`), /is a perf\.data file; run `perf script/],
    ['a gzip that ends early', () => file('cut.gz', gzipSync(TEXT).subarray(0, -20)), /gzip data ends early/],
    ['a gzip cut in its first bytes', () => file('cut2.gz', gzipSync(TEXT).subarray(0, 5)), /gzip data ends early/],
    [
      'a damaged gzip',
      () => {
        const bytes = gzipSync(TEXT);
        bytes.fill(0xff, 20, 60);
        return file('bad.gz', bytes);
      },
      /gzip data is damaged/,
    ],
    ['a zstd that ends early', () => file('cut.zst', zstdFrame(TEXT).subarray(0, -20)), /zstd data ends early/],
    [
      'a zstd cut at a block',
      () => file('cut2.zst', zstdFrame(TEXT).subarray(0, 6 + 3 + 65536)),
      /zstd data ends early/,
    ],
    [
      'a damaged zstd',
      () =>
        file(
          'bad.zst',
          Buffer.concat([zstdFrame(TEXT).subarray(0, 6), Uint8Array.of(0x57, 0, 0), new Uint8Array(100)]),
        ),
      /zstd data is damaged/,
    ],
    [
      'a cut trace.dat',
      () => file('cut.dat', DAT.subarray(0, 2000)),
      /truncated trace: expected .* at offset \d+.*; copy or record/,
    ],
    ['gzip in gzip', () => file('twice.gz', gzipSync(gzipSync(TEXT))), /is gzip data inside gzip data; expand it once/],
    ['a QEMU log as a trace', () => file('q2', QEMU), /is a QEMU log/],
  ];

  test.each(cases)('%s', async (_name, path, message) => {
    const error = await read(path()).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FileError);
    expect((error as FileError).message).toMatch(message);
    expect((error as FileError).message).not.toContain('\n');
  });

  test.skipIf(process.getuid?.() === 0)('a file of somebody else', async () => {
    const path = file('secret', TEXT);
    chmodSync(path, 0);
    await expect(read(path)).rejects.toThrow(/permission denied/);
  });
});

describe('progress and abort', () => {
  const big = bytesOf(LINE.repeat(40_000));

  test('progress grows to the size', async () => {
    const seen: number[] = [];
    await read(file('big', big), { onProgress: (done, total) => void seen.push(done / total) });
    expect(seen.length).toBeGreaterThan(3);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
  });

  const bigDat = dat.traceDat([
    {
      cpu: 0,
      pages: Array.from({ length: 3000 }, (_, page) =>
        dat.page(
          1000 + page * 1000,
          Array.from({ length: 50 }, () => dat.record(1, dat.mapData(0xffffe000, 0x123456000, 4096, 1234))),
        ),
      ),
    },
  ]);

  test.each<[string, () => Uint8Array]>([
    ['big', () => big],
    ['big.gz', () => gzipSync(Buffer.concat(Array.from({ length: 10 }, () => big)))],
    ['big.dat', () => bigDat],
  ])('abort stops between chunks and tells what was read: %s', async (name, bytes) => {
    const path = file(name, bytes());
    const controller = new AbortController();
    const all = collector();
    let events = 0;
    const sink = {
      skipped() {},
      event() {
        events++;
        controller.abort();
      },
    };
    const error = await readTrace(path, all.names, sink, { signal: controller.signal }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ReadInterrupted);
    // A line that a chunk cut is not an error of the trace.
    expect((error as ReadInterrupted).summary).toMatchObject({ events, skipped: 0 });
    expect(events).toBeGreaterThan(1000);
    expect(events).toBeLessThan(100_000);
  });

  test('aborted before anything was read', async () => {
    const all = collector();
    const reading = readTrace(file('big', big), all.names, all.sink, { signal: AbortSignal.abort() });
    await expect(reading).rejects.toMatchObject({ name: 'ReadInterrupted', summary: null });
  });

  test('an error of the caller comes out as it is', async () => {
    const all = collector();
    const sink = {
      skipped() {},
      event() {
        throw new TypeError('mine');
      },
    };
    for (const [name, bytes] of PACKED) {
      await expect(readTrace(file(`throw ${name}`, bytes), all.names, sink)).rejects.toThrow(TypeError);
    }
  });
});

test('damaged archives end in an error or in fewer events, never in a crash', async () => {
  const text = TEXT.subarray(0, 300_000);
  for (const [name, bytes] of [
    ['gzip', gzipSync(text)],
    ['zstd', zstdFrame(text)],
  ] as const) {
    for (let at = 3; at < bytes.length; at += Math.ceil(bytes.length / 40)) {
      const damaged = Uint8Array.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 0xff;
      const result = await read(file('damaged', damaged)).catch((error: unknown) => error);
      if (result instanceof Error) expect(result, `${name} at ${at}: ${result.stack}`).toBeInstanceOf(FileError);
    }
  }
});

describe('standard input', () => {
  const original = Object.getOwnPropertyDescriptor(process, 'stdin');
  afterEach(() => {
    if (original !== undefined) Object.defineProperty(process, 'stdin', original);
  });

  test.each([
    ['text', TEXT, 20_000],
    ['gzip', gzipSync(TEXT), 20_000],
    ['trace.dat', DAT, 1],
    ['trace.dat in gzip', gzipSync(DAT), 1],
  ] as [string, Uint8Array, number][])('%s', async (_name, bytes, count) => {
    const chunks = Array.from({ length: Math.ceil(bytes.length / 5000) }, (_, i) =>
      bytes.subarray(i * 5000, i * 5000 + 5000),
    );
    Object.defineProperty(process, 'stdin', { configurable: true, value: Readable.from(chunks) });
    expect((await read('-')).events).toHaveLength(count);
  });

  test('nothing on it', async () => {
    Object.defineProperty(process, 'stdin', { configurable: true, value: Readable.from([]) });
    await expect(read('-')).rejects.toThrow(/^standard input: is empty/);
  });
});
