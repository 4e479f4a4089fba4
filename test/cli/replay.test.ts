/** `iommukit replay` from outside: a process, its output, its exit code. Runs the built program, as users do. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Outcome } from './program.ts';
import { DAT, LOG, MAP, TRACE, UNMAP, file, folder, one, root, run, useFolder } from './program.ts';

useFolder();

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

  test('-o file.json writes what --json prints, beside what is printed', () => {
    const path = join(folder, 'out.json');
    const printed = run(['replay', TRACE, ...one, '--json']);
    const { code, out } = run(['replay', TRACE, ...one, '-o', path]);
    expect(code).toBe(0);
    expect(out).toMatch(/^map-flush +flush/m);
    expect(readFileSync(path, 'utf8')).toBe(printed.out);
    expect(JSON.parse(printed.out).schema).toBe('iommukit.replay/1');
  });

  test('plain, gzip, two gzip members, standard input, trace.dat: the same run', () => {
    const text = gunzipSync(readFileSync(TRACE));
    const half = text.lastIndexOf(10, text.length / 2) + 1;
    const members = Buffer.concat([gzipSync(text.subarray(0, half)), gzipSync(text.subarray(half))]);
    const runsOf = ({ code, out }: Outcome): unknown => ({ code, runs: JSON.parse(out).runs });
    const expected = runsOf(run(['replay', TRACE, ...one, '--json']));
    expect(runsOf(run(['replay', file('plain.txt', text), ...one, '--json']))).toEqual(expected);
    expect(runsOf(run(['replay', file('members.gz', members), ...one, '--json']))).toEqual(expected);
    expect(runsOf(run(['replay', '-', ...one, '--json'], { input: text }))).toEqual(expected);
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

  test('recorded: strict and lazy groups in one trace, told apart; alone or beside others it is what is compared', () => {
    const mixed = join(root, 'traces/intel-cmon-fq-small-6.1');
    const args = ['replay', join(mixed, 'trace.txt.gz'), '--compare', join(mixed, 'qemu-inval.log.gz'), '--json'];
    const policies = ['--preset', 'linux-6.1', '--map-flush', 'sync-map', '--unmap-flush'];
    const recorded = run([...args, ...policies, 'lazy,recorded']);
    expect(recorded.code).toBe(0);
    const report = JSON.parse(recorded.out);
    expect(report.compare).toMatchObject({ unmapFlush: 'recorded', matching: 2062, identical: true });
    expect(report.runs.map((played: { unmapFlush: string }) => played.unmapFlush)).toEqual(['lazy', 'recorded']);
    expect(run([...args, ...policies, 'lazy']).code).toBe(1);
  });

  test('different: exit 1, and the first difference is named', () => {
    const { code, out } = run(['replay', TRACE, '--compare', LOG, '--preset', 'linux-6.1']);
    expect(code).toBe(1);
    expect(out).toMatch(
      /first difference at command \d+: observed 0x[0-9a-f]+ am \d+ ih \(line \d+\), predicted 0x[0-9a-f]+ am/,
    );
  });
});

describe('hardware', () => {
  const amd = join(root, 'traces/amd-strict-boot-6.1');
  const trace = join(amd, 'trace.txt.gz');
  const log = join(amd, 'amd-commands.txt.gz');

  test('is told by the option, the log or the trace, and VT-d is assumed when none tells', () => {
    const hardwareOf = (...args: string[]): unknown =>
      JSON.parse(run(['replay', ...args, ...one, '--preset', 'linux-6.1', '--json']).out).hardware;
    expect(hardwareOf(TRACE)).toEqual({ model: 'vtd', told: 'trace', cachingMode: true });
    expect(hardwareOf(trace)).toEqual({ model: 'vtd', told: 'default', cachingMode: true });
    expect(hardwareOf(trace, '--hardware', 'amdvi')).toEqual({ model: 'amdvi', told: 'option', cachingMode: true });
    expect(hardwareOf(TRACE, '--hardware', 'amdvi')).toEqual({ model: 'amdvi', told: 'option', cachingMode: true });
    expect(hardwareOf(trace, '--compare', log)).toEqual({ model: 'amdvi', told: 'log', cachingMode: true });
    const probe = `${MAP.slice(0, MAP.indexOf('map:'))}amdcmd: (__iommu_queue_command_sync+0x0/0xd0) d0=0x1 d1=0x2 d2=0x0 d3=0x0\n`;
    expect(hardwareOf(file('probe.txt', probe + MAP + UNMAP))).toMatchObject({ model: 'amdvi', told: 'trace' });
    expect(run(['replay', trace, ...one]).out).toContain(
      'hardware: VT-d (assumed, the trace does not tell), caching mode on',
    );
    expect(run(['replay', trace, ...one, '--hardware', 'amdvi']).out).toContain('hardware: AMD-Vi, NpCache on; driver');
  });

  test('a text without flags says what it cannot tell', () => {
    const bare = (MAP + UNMAP).replaceAll(' d..1.', '');
    const { out } = run(['replay', file('bare.txt', bare), ...one]);
    expect(out).toContain('This text has no flags column');
    expect(JSON.parse(run(['replay', file('bare.txt', bare), ...one, '--json']).out).trace.hasIrqContext).toBe(false);
    expect(run(['replay', file('flags.txt', MAP + UNMAP), ...one]).out).not.toContain('no flags');
  });

  test("AMD-Vi against the guest's own record of its commands: identical", () => {
    const { code, out } = run(['replay', trace, '--compare', log, '--preset', 'linux-6.1', '--json']);
    expect(code).toBe(0);
    const { compare } = JSON.parse(out);
    expect(compare).toMatchObject({ mapFlush: 'sync-map', unmapFlush: 'strict', matching: 1540, identical: true });
    expect(compare.predicted).toEqual(compare.observed);
    const differs = run(['replay', trace, '--compare', log, '--preset', 'linux-5.1', ...one]);
    expect(differs.code).toBe(1);
    expect(differs.out).toMatch(/first difference at command [\d,]+: observed 0x[0-9a-f]+ (1 page|\w+ pages)/);
  });

  test("AMD-Vi against QEMU's log, which has no addresses: says what was compared instead", () => {
    const { code, out } = run([
      'replay',
      trace,
      '--compare',
      join(amd, 'qemu-inval.log.gz'),
      '--preset',
      'linux-6.1',
      ...one,
    ]);
    expect(code).toBe(0);
    expect(out).toContain('(the log has no addresses, the trace no domains): identical, 1,540');
  });

  test.each([
    [
      'a log of other hardware',
      () => ['--hardware', 'vtd', '--compare', log],
      /has commands of AMD-Vi, and --hardware asks for VT-d/,
    ],
    [
      'a preset that the hardware lacks',
      () => ['--hardware', 'amdvi', '--preset', 'linux-5.11'],
      /--preset linux-5\.11 has no driver of AMD-Vi; there are linux-5\.1, /,
    ],
    ['a preset that VT-d lacks', () => ['--hardware', 'vtd', '--preset', 'linux-5.3'], /has no driver of VT-d/],
    ['a trace without commands', () => ['--compare', trace], /holds no command \(\d+ events read\)/],
    ['hardware of another name', () => ['--hardware', 'smmu'], /Allowed choices are vtd, amdvi/],
  ])('%s: exit 2', (_name, args, message) => {
    const { code, out, err } = run(['replay', trace, ...one, ...args()]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(message);
    expect(err.trimEnd().split('\n').length).toBeLessThanOrEqual(2);
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
    ['an empty path', () => ['replay', ''], /'file'\. The path is empty/],
    ['an empty log path', () => ['replay', TRACE, '--compare', ''], /--compare .*The path is empty/],
    ['an empty output path', () => ['replay', TRACE, '-o', ''], /--output .*The path is empty/],
    [
      'a command that is not built',
      () => ['serve', TRACE],
      /unknown command 'serve'\n\(commands: replay, audit, check, ui;/,
    ],
  ])('%s', (_name, args, message) => {
    const { code, out, err } = run(args());
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\bat .*\.js:\d+/);
  });
});

describe('the text', () => {
  const widest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length));

  test('fits 120 columns, with the unit in the columns of the window', () => {
    const { out } = run(['replay', TRACE]);
    // The first line is as long as the path.
    expect(widest(out.slice(out.indexOf('\n') + 1))).toBeLessThanOrEqual(120);
    expect(out).toMatch(/window +not-\n.* p50 ms +p99 ms +max ms/);
  });

  test('one of anything is singular', () => {
    const { out } = run(['replay', file('one.txt', MAP), ...one]);
    expect(out).toContain('ftrace text, 1 event: 1 map, 0 unmap, 0 dma\n1 map call, told by');
    const bad = run(['replay', file('bad1.txt', `${MAP}nonsense\n${UNMAP}`), ...one]);
    expect(bad.out).toContain('2 events: 1 map, 1 unmap, 0 dma; 1 line skipped\n1 map call');
    expect(bad.err).toContain('bad1.txt: 1 malformed line or record skipped\n');
  });

  test('a cut last line reads as a sentence', () => {
    const { code, err } = run(['replay', file('cut.txt', MAP + UNMAP.slice(0, -30)), ...one]);
    expect(code).toBe(0);
    expect(err).toMatch(
      /cut\.txt:2: expected a whole line, with a line end \(the input is cut off here\), found: {3}nvme/,
    );
  });
});

test('--version, --help and their exit codes', () => {
  expect(run(['--version'])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  const help = run(['--help']);
  expect(help).toMatchObject({ code: 0, out: expect.stringContaining('Exit codes:') });
  expect(run(['replay', '--help']).out).toContain('--caching-mode');
});
