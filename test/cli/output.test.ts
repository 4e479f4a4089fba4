/** Where results and temporary files go, and what happens when they cannot: a clear line, the right exit code, nothing destroyed. */
import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DAT, LOG, MAP, TRACE, UNMAP, bash, file, folder, one, run, useFolder } from './program.ts';
import { shownBy } from '../report/perfetto-decoder.ts';

useFolder();

describe('-o', () => {
  test('a path that cannot be written is found before the work: the trace is not even looked for', () => {
    const { code, out, err } = run(['replay', 'no-such-trace', ...one, '-o', join(folder, 'no/such/folder.json')]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(
      /no\/such\/folder\.json: cannot be written \(a folder of the path does not exist\); give another path/,
    );
    expect(err).not.toContain('no-such-trace');
  });

  test.each([
    ['a folder', () => mkdirSync(join(folder, 'folder.csv')), 'folder.csv', 'it is a folder'],
    ['a FIFO', () => bash('mkfifo fifo.csv'), 'fifo.csv', 'it is no regular file'],
  ])('%s is no file', (_name, make, name, problem) => {
    make();
    expect(run(['replay', TRACE, '-o', name])).toEqual({
      code: 2,
      out: '',
      err: `iommukit: ${name}: cannot be written (${problem}); give another path to -o\n`,
    });
  });

  test.each(['result.txt', 'result', 'result.html.gz', '.json', '/dev/null'])(
    '%s: a name that does not say what to write is refused, and nothing is made of it',
    (name) => {
      const { code, out, err } = run(['replay', TRACE, '-o', name]);
      expect({ code, out }).toEqual({ code: 2, out: '' });
      expect(err).toBe(
        `iommukit: -o ${name}: the name must end in .html, .perfetto-trace, .csv, .json, which says what is written\n`,
      );
      expect(existsSync(join(folder, name))).toBe(false);
    },
  );

  test('a recording of a real machine has no runs to show: audit writes no Perfetto trace', () => {
    expect(run(['audit', TRACE, '-o', 'audit.perfetto-trace'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/must end in \.html, \.csv, \.json, which says/),
    });
  });

  test('an existing file stays as it is when the replay fails, and is replaced as a whole when it succeeds', () => {
    const path = file('kept.json', 'x'.repeat(100_000));
    chmodSync(path, 0o640);
    expect(run(['replay', 'no-such-trace', ...one, '-o', path]).code).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('x'.repeat(100_000));
    expect(run(['replay', file('small.txt', MAP + UNMAP), ...one, '-o', path]).code).toBe(0);
    expect(JSON.parse(readFileSync(path, 'utf8')).trace).toMatchObject({ map: 1, unmap: 1 });
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  test('a full disk leaves an existing file as it was, and nothing beside it', () => {
    const path = file('full.json', 'before');
    // As below: a limit on file sizes, of 1024 bytes.
    const { code, err } = bash(`trap '' XFSZ; ulimit -f 1; iommukit replay "${TRACE}" -o full.json`);
    expect(code).toBe(2);
    expect(err).toMatch(/full\.json: cannot be written \(the limit of file sizes is reached\)/);
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a symbolic link stays one: the file that it leads to is replaced', () => {
    const path = file('behind.json', 'before');
    symlinkSync(path, join(folder, 'link.json'));
    expect(run(['replay', file('small.txt', MAP + UNMAP), ...one, '-o', 'link.json']).code).toBe(0);
    expect(lstatSync(join(folder, 'link.json')).isSymbolicLink()).toBe(true);
    expect(JSON.parse(readFileSync(path, 'utf8')).schema).toBe('iommukit.replay/1');
  });

  test('a file that was not there is not left behind when the replay fails', () => {
    const before = readdirSync(folder);
    expect(run(['replay', 'no-such-trace', ...one, '-o', 'fresh.csv', '-o', 'fresh.perfetto-trace']).code).toBe(2);
    expect(readdirSync(folder)).toEqual(before);
  });

  test('one file twice is refused', () => {
    expect(run(['replay', TRACE, '-o', 'twice.csv', '-o', './twice.csv'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/-o names one file twice/),
    });
  });

  test('the trace itself is refused, also by another name', () => {
    const path = file('own.json', MAP + UNMAP);
    const { code, err } = run(['replay', path, ...one, '-o', join(folder, '.', 'own.json')]);
    expect(code).toBe(2);
    expect(err).toMatch(/own\.json: is the output too/);
    expect(readFileSync(path, 'utf8')).toBe(MAP + UNMAP);
  });

  test('all formats at once: the same numbers in each', () => {
    const names = ['all.json', 'all.csv', 'all.html', 'all.perfetto-trace'];
    const policies = ['--map-flush', 'none,sync-map', '--unmap-flush', 'lazy'];
    const { code, out, err } = run(['replay', TRACE, ...policies, ...names.flatMap((name) => ['-o', name])]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toBe(run(['replay', TRACE, ...policies]).out);
    const read = (name: string): Buffer => readFileSync(join(folder, name));
    const report = JSON.parse(read('all.json').toString());
    const rows = read('all.csv').toString().trimEnd().split('\r\n');
    const [names_ = '', ...lines] = rows;
    const table = lines.map((line) =>
      Object.fromEntries(names_.split(',').map((name, i) => [name, line.split(',')[i]])),
    );
    const shown = shownBy(read('all.perfetto-trace'));
    for (const [i, { mapFlush, commands, staleWindowMs, violations }] of report.runs.entries()) {
      expect(table[i]).toMatchObject({
        mapFlush,
        unmapFlush: 'lazy',
        page: String(commands.page),
        total: String(commands.total),
        windowMaxMs: String(staleWindowMs.max),
        notPresent: String(violations.notPresent),
        stale: String(violations.stale),
      });
      const events = shown.filter(({ track }) => track.startsWith(`${mapFlush}, lazy/`));
      expect(events.filter(({ name }) => name === 'page-selective').length).toBe(commands.page);
      expect(Math.max(...events.map(({ from, to }) => (to - from) / 1e6))).toBeCloseTo(staleWindowMs.max, 2);
    }
    expect(table.length).toBe(report.runs.length);
    expect(read('all.html').toString()).toContain('"iommukit.lab/1"');
  });
});

describe('a closed output', () => {
  // `true` ends at once, so the result meets a closed pipe.
  const compare = `iommukit replay "${TRACE}" --compare "${LOG}"`;

  test.each([
    ['a comparison that differs', `${compare} --preset linux-6.1`, 1],
    ['a comparison that agrees', compare, 0],
    ['wrong usage', 'iommukit replay', 2],
  ])('%s keeps its exit code', (_name, line, code) => {
    const { out, err } = bash(`${line} | true\necho "code \${PIPESTATUS[0]}"`);
    expect(out).toBe(`code ${code}\n`);
    if (code !== 2) expect(err).toBe('');
  });

  test('a closed standard error changes nothing', () => {
    const bad = file('bad.txt', `${MAP}nonsense\n${UNMAP}`);
    const { out } = bash(
      `iommukit replay "${bad}" ${one.join(' ')} 2>&1 >/dev/null | true\necho "code \${PIPESTATUS[0]}"`,
    );
    expect(out).toBe('code 0\n');
  });
});

describe('temporary files', () => {
  test.each([
    ['missing', () => join(folder, 'nowhere'), 'there is no such folder'],
    ['a file', () => file('plain', ''), 'it is not a folder'],
  ])('a TMPDIR that is %s is named as the trouble, not the trace', (_name, place, problem) => {
    const TMPDIR = place();
    const { code, out, err } = run(['replay', DAT, ...one, '--preset', 'linux-6.1'], { env: { TMPDIR } });
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toBe(
      `iommukit: ${TMPDIR}: cannot hold a temporary file (${problem}); set TMPDIR to a folder with room that can be written\n`,
    );
  });

  test('a full disk: the last write that fits is short, and the next one tells', () => {
    // A limit on file sizes behaves so too: SIGXFSZ, ignored, becomes an error. It falls (in units of 1024 bytes) into the last
    // chunk of the expanded file, 1,099,724 bytes, so that only a loop over short writes finds out.
    const { code, err } = bash(`trap '' XFSZ; ulimit -f 1040; iommukit replay "${DAT}" ${one.join(' ')}`, {
      env: { TMPDIR: folder },
    });
    expect(code).toBe(2);
    expect(err).toMatch(/cannot hold a temporary file \(the limit of file sizes is reached\); set TMPDIR/);
    expect(readdirSync(folder).filter((name) => name.startsWith('iommukit-'))).toEqual([]);
  });

  test('what does not need one does not ask for one', () => {
    const path = file('no-tmp.txt', MAP + UNMAP);
    expect(run(['replay', path, ...one], { env: { TMPDIR: join(folder, 'nowhere') } }).code).toBe(0);
    expect(statSync(path).size).toBe((MAP + UNMAP).length);
  });
});
