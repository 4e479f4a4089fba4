/**
 * Every code block of the documentation runs, or says `no-run`. The rules for blocks are in blocks.ts. Programs run against the
 * build, as a user's would; all of them are type-checked in one tsc run.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { blocksOf, commandsOf, matches } from './blocks.ts';
import type { Block } from './blocks.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Inside the package (and not below node_modules), so that `import 'iommukit/...'` finds the package itself. Removed at the end. */
const PROGRAMS = join(ROOT, 'dist/.docs');
/** These would run this test again, reinstall under its feet, or reach for the network. */
const NEVER_RUN =
  /\b(npm (test|ci|i|install)|npm run (test|lint|format)|npx vitest|git (clone|pull)|\.ci\/run|sudo|curl)\b/;

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'DESIGN.md',
  'traces/README.md',
  ...(existsSync(join(ROOT, 'docs')) ? readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }) : [])
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
].filter((name) => existsSync(join(ROOT, name)));

interface Found extends Block {
  readonly where: string;
  /** The block that follows, for the output of a program. */
  readonly next: Block | undefined;
}

const all: Found[] = documents.flatMap((name) => {
  const blocks = blocksOf(readFileSync(join(ROOT, name), 'utf8'));
  return blocks.map((block, i) => Object.assign({ where: `${name}:${block.line}`, next: blocks[i + 1] }, block));
});
const runnable = all.filter((block) => !block.words.includes('no-run'));
const shells = runnable.filter((block) => block.language === 'sh');
const programs = runnable.filter((block) => block.language === 'ts');

/** A folder with a program `iommukit`, as an installation would put it on PATH. */
let bin = '';

beforeAll(() => {
  bin = mkdtempSync(join(tmpdir(), 'iommukit-bin-'));
  const program = join(bin, 'iommukit');
  writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${join(ROOT, 'bin/iommukit.js')}" "$@"\n`);
  chmodSync(program, 0o755);
});

afterAll(() => {
  for (const folder of [bin, PROGRAMS]) rmSync(folder, { recursive: true, force: true });
});

test('the documents that must be there are read', () => {
  expect(documents).toContain('CONTRIBUTING.md');
  expect(all.length).toBeGreaterThan(0);
});

test('a block of another language is spelled in a known way', () => {
  const known = ['sh', 'ts', 'js', 'text', 'json', 'jsonc', 'md', 'diff', 'c', ''];
  expect(
    all.filter(({ language }) => !known.includes(language)).map(({ where, language }) => `${where} ${language}`),
  ).toEqual([]);
});

for (const block of shells) {
  describe(`${block.where} sh`, () => {
    const code = Number(block.words.find((word) => word.startsWith('exit='))?.slice(5) ?? 0);
    test.each(commandsOf(block.text))('$command', ({ command, output }) => {
      expect(NEVER_RUN.test(command), 'must not run inside the tests: tag the block no-run').toBe(false);
      const run = spawnSync('bash', ['-c', `exec 2>&1\n${command}`], {
        cwd: ROOT,
        encoding: 'utf8',
        input: '',
        env: { ...process.env, NO_COLOR: '1', PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` },
      });
      expect(run.status, run.stdout).toBe(code);
      // On a mismatch this prints both as a diff.
      if (output !== undefined && !matches(run.stdout, output)) expect(run.stdout.trimEnd()).toBe(output);
    });
  });
}

describe.each(programs.length > 0 ? ['programs'] : [])('%s', () => {
  const fileOf = (block: Found): string => block.where.replaceAll(/[^\w]+/g, '-');

  beforeAll(() => {
    rmSync(PROGRAMS, { recursive: true, force: true });
    mkdirSync(PROGRAMS, { recursive: true });
    for (const block of programs) writeFileSync(join(PROGRAMS, `${fileOf(block)}.mts`), `${block.text}\nexport {};\n`);
  });

  test('all compile under strict', () => {
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2023', '--skipLibCheck', '--types', 'node'];
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const files = programs.map((block) => `${fileOf(block)}.mts`);
    const run = spawnSync(process.execPath, [tsc, '--ignoreConfig', ...options, ...files], {
      cwd: PROGRAMS,
      encoding: 'utf8',
    });
    expect(run.stdout).toBe('');
    expect(run.status).toBe(0);
  });

  test.each(programs)('$where runs', (block) => {
    // The repository root is where a reader stands: relative paths of an example start there.
    const run = spawnSync(process.execPath, [join(PROGRAMS, `${fileOf(block)}.mjs`)], { cwd: ROOT, encoding: 'utf8' });
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    const { next } = block;
    if (next?.language !== 'text' || !next.words.includes('output')) return;
    if (!matches(run.stdout, next.text)) expect(run.stdout.trimEnd()).toBe(next.text.trimEnd());
  });
});
