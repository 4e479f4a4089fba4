/** `iommukit audit` as users run it: results, exit codes, inputs that cannot be used. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { MAP, TRACE, UNMAP, file, folder, root, run, useFolder } from './program.ts';

useFolder();

const AMD = join(root, 'traces/amd-strict-boot-6.1/trace.txt.gz');
const COMMANDS = join(root, 'traces/amd-strict-boot-6.1/amd-commands.txt.gz');

function json(args: readonly string[]): Record<string, unknown> {
  const parsed: unknown = JSON.parse(run(['audit', ...args, '--json']).out);
  expect(parsed).toBeTypeOf('object');
  return parsed as Record<string, unknown>;
}

describe('verdicts', () => {
  test('held: exit 0, as text and as JSON', () => {
    const { code, out, err } = run(['audit', TRACE]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^held: 3,023 calls flushed in time/m);
    // Numbers of calls and commands: counts.json of the run, made from both sides' logs by another program.
    expect(json([TRACE])).toMatchObject({
      schema: 'iommukit.audit/1',
      verdict: 'held',
      calls: { map: 1774, unmap: 1250 },
      covered: 3023,
      findings: [],
      inconclusive: [],
      commands: { total: 3043, page: 3023, domain: 9 },
    });
  });

  test('violated: exit 1, and the line of the call', () => {
    const lines = gunzipSync(readFileSync(TRACE)).toString('latin1').split('\n');
    const dropped = lines.findIndex((line, index) => index > 1000 && line.includes('qi_submit: iotlb_inv'));
    let call = dropped;
    while (!/ (un)?map: IOMMU/.test(lines[call])) call--;
    const path = file('broken.txt', lines.toSpliced(dropped, 1).join('\n'));
    const { code, out } = run(['audit', path]);
    expect(code).toBe(1);
    expect(out).toMatch(
      new RegExp(`^line ${call + 1}: C-(MAP-VISIBLE|UNMAP-GONE) iova 0x[0-9a-f]+ domain \\d+: no invalid`, 'm'),
    );
    expect(json([path])).toMatchObject({
      verdict: 'violated',
      findings: [{ contract: expect.stringMatching(/^C-/), line: call + 1, iova: expect.stringMatching(/^0x/) }],
    });
    // The lines that the finding names stand beside it, from any kind of text file; a pipe cannot be read again.
    const zipped = file('broken.txt.gz', gzipSync(readFileSync(path)));
    for (const input of [path, zipped]) {
      const { findings, lines: quoted } = json([input]) as {
        findings: { evidence: { role: string; line: number }[] }[];
        lines: { line: number; text: string }[];
      };
      const [{ evidence }] = findings;
      expect(evidence.map(({ role }) => role)).toEqual(['change', 'end']);
      const left = lines.toSpliced(dropped, 1);
      expect(quoted).toEqual(evidence.map(({ line }) => ({ line, text: left[line - 1] })));
    }
    const piped = run(['audit', '-', '--json'], { input: readFileSync(path, 'utf8') });
    expect(JSON.parse(piped.out)).toMatchObject({ verdict: 'violated', lines: [] });
  });

  test('inconclusive: exit 3, and what to record', () => {
    const { code, out } = run(['audit', AMD]);
    expect(code).toBe(3);
    expect(out).toMatch(/cannot tell: .*intel_iommu:qi_submit.*kprobe.*--commands/);
    expect(json([AMD])).toMatchObject({ verdict: 'inconclusive', findings: [], inconclusive: [expect.any(String)] });
  });

  test('commands of a second file', () => {
    expect(run(['audit', AMD, '--commands', COMMANDS])).toMatchObject({ code: 0, err: '' });
    expect(json([AMD, '--commands', COMMANDS])).toMatchObject({
      verdict: 'held',
      calls: { map: 617, unmap: 86 },
      covered: 703,
      cachingMode: true,
      cachingModeTold: 'trace',
    });
  });

  test('a trace.dat says the same as its text', () => {
    const [text, dat] = ['trace.txt.gz', 'trace.dat.gz'].map((name) => {
      const { trace, ...rest } = json([join(root, 'traces/intel-cmon-strict-small-6.1', name)]);
      expect(trace).toBeTypeOf('object');
      return rest;
    });
    expect(dat).toEqual(text);
  });

  test('--caching-mode is believed', () => {
    const off = join(root, 'traces/intel-cmoff-strict-small-6.1/trace.txt.gz');
    expect(run(['audit', off]).code).toBe(0);
    const { code, out } = run(['audit', off, '--caching-mode', 'on']);
    expect(code).toBe(1);
    expect(out).toMatch(/cached \(as said\)/);
    expect(out).toMatch(/and [\d,]+ more; --json shows the first 1,000/);
  });
});

describe('inputs', () => {
  test.each([
    ['no such file', () => ['no-such-trace'], /no-such-trace: no such file/],
    ['no such commands', () => [TRACE, '--commands', 'gone'], /gone: no such file/],
    ['commands without one', () => [AMD, '--commands', TRACE], /holds no command of an AMD-Vi driver/],
    [
      'no event',
      () => [file('none.txt', MAP.replace('map: IOMMU', 'xap: IOMMU'))],
      /holds no iommu:map or iommu:unmap/,
    ],
    ['a QEMU log', () => [join(root, 'traces/intel-cmon-strict-small-6.12/qemu-inval.log.gz')], /is a QEMU log/],
    ['an empty path', () => [''], /The path is empty/],
    ['a wrong option', () => [TRACE, '--cachingmode', 'on'], /\(iommukit audit --help shows the options\)/],
  ])('%s', (_name, args, message) => {
    const { code, out, err } = run(['audit', ...args()]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\n {4}at /);
  });

  test('standard input, and a malformed line with its number', () => {
    const { code, out, err } = run(['audit', '-'], { input: `${MAP}nonsense\n${UNMAP}` });
    expect(code).toBe(3);
    expect(out).toMatch(/^standard input: ftrace text/);
    expect(err).toMatch(/^standard input: 1 malformed line or record skipped\nstandard input:2: |^-: 1 malformed/);
  });

  test('the output is not an input', () => {
    const path = file('own.csv', MAP + UNMAP);
    expect(run(['audit', path, '-o', path])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/is the output too/),
    });
    expect(readFileSync(path, 'utf8')).toBe(MAP + UNMAP);
  });

  test('-o writes the result, and the exit code stays', () => {
    const path = join(folder, 'result.json');
    const { code, out, err } = run(['audit', AMD, '--json', '-o', path]);
    expect({ code, err }).toEqual({ code: 3, err: '' });
    expect(out).toMatch(/"schema": "iommukit.audit\/1"/);
    expect(readFileSync(path, 'utf8')).toBe(out);
  });
});
