/** `iommukit replay` from outside: a process, its output, its exit code. Runs the built program, as users do. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const bin = join(root, 'bin/iommukit.js');
const TRACE = join(root, 'traces/intel-cmon-strict-small-6.12/trace.txt.gz');
const LOG = join(root, 'traces/intel-cmon-strict-small-6.12/qemu-inval.log.gz');
const DAT = join(root, 'traces/intel-cmon-strict-small-6.1/trace.dat.gz');
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommukit-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[], input?: Uint8Array): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    cwd: folder,
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    timeout: 60_000,
  });
  return { code: status, out: stdout, err: stderr };
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const one = ['--map-flush', 'sync-map', '--unmap-flush', 'strict'];
const MAP =
  '  nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096\n';
const UNMAP =
  '  nvme-1234    [003] d..1.  812.345990: unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096\n';

describe('what it prints', () => {
  test('JSON with the documented fields, and nothing else on stdout', () => {
    const { code, out, err } = run(['replay', TRACE, '--json']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const report = JSON.parse(out);
    expect(report).toMatchObject({
      schema: 'iommukit.replay/1',
      trace: { file: TRACE, format: 'ftrace text', map: 4684, unmap: 1250, dma: 3023, skippedLines: 0 },
      grouping: { mapCalls: 1774, ambiguous: 0 },
      hardware: { model: 'vtd', cachingMode: true },
    });
    const policies = report.runs.map((r: { mapFlush: string; unmapFlush: string }) => `${r.mapFlush} ${r.unmapFlush}`);
    expect(policies).toEqual(['none', 'caller', 'map', 'sync-map'].flatMap((map) => [`${map} strict`, `${map} lazy`]));
    expect(Object.keys(report.runs[0])).toEqual(
      expect.arrayContaining([
        'preset',
        'commands',
        'doorbells',
        'perMapCall',
        'perUnmap',
        'staleWindowMs',
        'violations',
      ]),
    );
    expect(Object.keys(report.runs[0].commands).sort()).toEqual([
      'context',
      'domain',
      'global',
      'page',
      'total',
      'wait',
    ]);
  });

  test('-o writes the same to a file and nothing to stdout', () => {
    const path = join(folder, 'out.json');
    const { code, out } = run(['replay', TRACE, ...one, '--json', '-o', path]);
    expect({ code, out }).toEqual({ code: 0, out: '' });
    expect(JSON.parse(readFileSync(path, 'utf8')).schema).toBe('iommukit.replay/1');
  });

  test('plain, gzip, two gzip members, standard input, trace.dat: the same run', () => {
    const text = gunzipSync(readFileSync(TRACE));
    const half = text.lastIndexOf(10, text.length / 2) + 1;
    const members = Buffer.concat([gzipSync(text.subarray(0, half)), gzipSync(text.subarray(half))]);
    const runsOf = ({ code, out }: Outcome): unknown => ({ code, runs: JSON.parse(out).runs });
    const expected = runsOf(run(['replay', TRACE, ...one, '--json']));
    expect(runsOf(run(['replay', file('plain.txt', text), ...one, '--json']))).toEqual(expected);
    expect(runsOf(run(['replay', file('members.gz', members), ...one, '--json']))).toEqual(expected);
    expect(runsOf(run(['replay', '-', ...one, '--json'], text))).toEqual(expected);
    const dat = runsOf(run(['replay', DAT, ...one, '--json', '--preset', 'linux-6.1']));
    const datText = join(root, 'traces/intel-cmon-strict-small-6.1/trace.txt.gz');
    expect(dat).toEqual(runsOf(run(['replay', datText, ...one, '--json', '--preset', 'linux-6.1'])));
  });

  test('CRLF lines and a trace without final line end are read', () => {
    const { code, out } = run(['replay', file('crlf.txt', (MAP + UNMAP).replaceAll('\n', '\r\n')), ...one, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out).trace).toMatchObject({ map: 1, unmap: 1, skippedLines: 0 });
  });

  test('lost events and malformed lines are counted and shown with their place', () => {
    const bad = `${MAP}CPU:3 [LOST 17 EVENTS]\n${MAP.replace('size=4096', 'size=8192')}${UNMAP}`;
    const { code, out, err } = run(['replay', file('bad.txt', bad), ...one, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out).trace).toMatchObject({ map: 1, unmap: 1, skippedLines: 1, lost: 17 });
    expect(err).toMatch(/bad\.txt:3: expected/);
  });

  test('an unmap without its map is counted, and its flush predicted all the same', () => {
    const { out } = run(['replay', file('late.txt', UNMAP), ...one, '--json']);
    expect(JSON.parse(out)).toMatchObject({ grouping: { unmapWithoutMap: 1 }, runs: [{ commands: { page: 1 } }] });
  });
});

test('a guest of 256 GiB mapped in one piece, and a damaged line that maps 16 TiB in 4 KiB pages, end soon', () => {
  const guest = [MAP, UNMAP].map((line) =>
    line
      .replace('0x00000000ffffe000 - 0x00000000fffff000', '0x0000001000000000 - 0x0000005000000000')
      .replace('0x0000000123456000', '0x0000002000000000')
      .replaceAll('=4096', `=${2 ** 38}`),
  );
  const whole = JSON.parse(run(['replay', file('guest.txt', guest.join('')), ...one, '--json']).out);
  expect(whole.runs[0]).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
  // Each of the three accesses is made for every 1,024th page.
  expect(whole.runs[0].untouchedPages).toBe(2 * (2 ** 26 - 65536));
  const damaged = MAP.replace(
    '0x00000000ffffe000 - 0x00000000fffff000',
    '0x0000100000000000 - 0x0000200000000000',
  ).replace('size=4096', `size=${2 ** 44}`);
  const refused = JSON.parse(run(['replay', file('damaged.txt', damaged), ...one, '--json']).out);
  expect(refused.runs[0]).toMatchObject({ failed: 1 });
});

describe('compare', () => {
  test('identical: exit 0; hardware and policy are found in the log', () => {
    const { code, out } = run(['replay', TRACE, '--compare', LOG, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out).compare).toMatchObject({
      mapFlush: 'sync-map',
      unmapFlush: 'strict',
      matching: 3023,
      identical: true,
      afterTrace: 255,
      firstDifference: null,
    });
    const off = 'traces/intel-cmoff-lazy-small-6.12';
    const lazy = run([
      'replay',
      join(root, off, 'trace.txt.gz'),
      '--compare',
      join(root, off, 'qemu-inval.log.gz'),
      '--json',
    ]);
    expect(JSON.parse(lazy.out)).toMatchObject({ hardware: { cachingMode: false }, compare: { unmapFlush: 'lazy' } });
  });

  test('different: exit 1, and the first difference is named', () => {
    const { code, out } = run(['replay', TRACE, '--compare', LOG, '--preset', 'linux-6.1']);
    expect(code).toBe(1);
    expect(out).toMatch(
      /first difference at command \d+: observed 0x[0-9a-f]+ am \d+ ih \(line \d+\), predicted 0x[0-9a-f]+ am/,
    );
  });
});

describe('wrong usage and unusable input: exit 2, one clear line, no stack', () => {
  const cut = readFileSync(TRACE).subarray(0, 5000);
  test.each<[string, () => readonly string[], RegExp]>([
    ['no file', () => ['replay'], /missing required argument 'file'/],
    ['unknown option', () => ['replay', TRACE, '--flush', 'x'], /unknown option '--flush'/],
    [
      'unknown policy',
      () => ['replay', TRACE, '--map-flush', 'sync-map,some'],
      /'some' is not one of none, caller, map, sync-map/,
    ],
    ['unknown preset', () => ['replay', TRACE, '--preset', 'linux-2.6'], /Allowed choices are linux-5\.1, /],
    ['no such file', () => ['replay', 'nowhere.txt'], /nowhere\.txt: /],
    ['a folder', () => ['replay', folder], /: is a folder|: is a directory/i],
    ['an empty file', () => ['replay', file('empty', '')], /empty: .*empty/],
    [
      'binary garbage',
      () => [
        'replay',
        file(
          'garbage',
          Uint8Array.from({ length: 4096 }, (_, i) => (i * 37) & 255),
        ),
      ],
      /garbage: /,
    ],
    [
      'text that is no trace',
      () => ['replay', file('novel.txt', 'It was a dark and stormy night.\n'.repeat(50))],
      /novel\.txt: /,
    ],
    ['a cut gzip', () => ['replay', file('cut.gz', cut)], /cut\.gz: .*(truncated|cut|ends|incomplete)/i],
    [
      'a trace without map events',
      () => ['replay', file('other.txt', MAP.replace(': map:', ': sched_switch:'))],
      /no iommu:map or iommu:unmap event/,
    ],
    ['a guest trace as log', () => ['replay', TRACE, '--compare', TRACE], /trace\.txt\.gz: /],
    [
      'an output that cannot be written',
      () => ['replay', TRACE, ...one, '-o', join(folder, 'no/such/folder')],
      /cannot be written/,
    ],
  ])('%s', (_name, args, message) => {
    const { code, out, err } = run(args());
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\bat .*\.js:\d+/);
  });
});

test('--version, --help and their exit codes', () => {
  expect(run(['--version'])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  const help = run(['--help']);
  expect(help).toMatchObject({ code: 0, out: expect.stringContaining('Exit codes:') });
  expect(run(['replay', '--help']).out).toContain('--caching-mode');
});

test('Ctrl-C prints what is known and exits 130', async () => {
  // Long enough to be interrupted: the same recording many times over, on later and later times.
  const text = gunzipSync(readFileSync(TRACE)).toString('latin1');
  const path = file('long.txt', Array.from({ length: 60 }, () => text).join(''));
  const child = spawn(process.execPath, [bin, 'replay', path, '--json'], { cwd: folder });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk;
  });
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', (code) => resolve(code));
  });
  await new Promise((resolve) => {
    setTimeout(resolve, 2500);
  });
  child.kill('SIGINT');
  expect(await ended).toBe(130);
  // Interrupted while replaying it prints what it has; while reading there is nothing yet.
  if (out !== '') expect(JSON.parse(out)).toMatchObject({ schema: 'iommukit.replay/1', interrupted: true });
});

test('a reader that closes the pipe ends it silently', () => {
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', `"${process.execPath}" "${bin}" replay "${TRACE}" --json | head -1`],
    {
      encoding: 'utf8',
    },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
