/** Where results and temporary files go, and what happens when they cannot: a clear line, the right exit code, nothing destroyed. */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DAT, LOG, MAP, TRACE, UNMAP, bash, file, folder, one, run, useFolder } from './program.ts';

useFolder();

describe('-o', () => {
  test('a path that cannot be written is found before the work: the trace is not even looked for', () => {
    const { code, out, err } = run(['replay', 'no-such-trace', ...one, '-o', join(folder, 'no/such/folder')]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(
      /no\/such\/folder: cannot be written \(a folder of the path does not exist\); give another path/,
    );
    expect(err).not.toContain('no-such-trace');
  });

  test('a folder', () => {
    expect(run(['replay', TRACE, '-o', folder])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/: cannot be written \(it is a folder\)/),
    });
  });

  test('an existing file stays as it is when the replay fails, and is replaced as a whole when it succeeds', () => {
    const path = file('kept.txt', 'x'.repeat(100_000));
    expect(run(['replay', 'no-such-trace', ...one, '-o', path]).code).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('x'.repeat(100_000));
    expect(run(['replay', file('small.txt', MAP + UNMAP), ...one, '-o', path])).toEqual({ code: 0, out: '', err: '' });
    expect(readFileSync(path, 'utf8')).toMatch(/^.*small\.txt: ftrace text, 2 events[^x]*/);
    expect(readFileSync(path, 'utf8')).not.toContain('xxx');
  });

  test('a file that was not there is not left behind when the replay fails', () => {
    const path = join(folder, 'fresh.txt');
    expect(run(['replay', 'no-such-trace', ...one, '-o', path]).code).toBe(2);
    expect(existsSync(path)).toBe(false);
  });

  test('the trace itself is refused, also by another name', () => {
    const path = file('own.txt', MAP + UNMAP);
    const { code, err } = run(['replay', path, ...one, '-o', join(folder, '.', 'own.txt')]);
    expect(code).toBe(2);
    expect(err).toMatch(/own\.txt: is the output too/);
    expect(readFileSync(path, 'utf8')).toBe(MAP + UNMAP);
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
