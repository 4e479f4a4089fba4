/** The page about checking one's own driver, walked through: its files are written, its commands run and print what is shown. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { blocksOf, commandsOf, matches } from './blocks.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Inside the package, so that `iommukit/...` is the package itself. */
const FOLDER = join(ROOT, 'dist/.check-your-driver');
const page = readFileSync(join(ROOT, 'docs/check-your-driver.md'), 'utf8');
const blocks = blocksOf(page);
const files = blocks.filter(({ language }) => language === 'js');
const shells = blocks.filter(({ language }) => language === 'sh');

const wordOf = (words: readonly string[], name: string): string | undefined =>
  words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);

beforeAll(() => {
  mkdirSync(FOLDER, { recursive: true });
  for (const { words, text } of files) writeFileSync(join(FOLDER, wordOf(words, 'file') ?? ''), text);
});

afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

test('the modules import nothing but public subpaths of the package and each other', () => {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const { exports } = manifest as { exports: Record<string, unknown> };
  const imports = files.flatMap(({ text }) => [...text.matchAll(/from '([^']+)'/g)].map(([, name]) => name));
  expect(imports.length).toBeGreaterThan(3);
  for (const name of imports) {
    if (!name.startsWith('./')) expect(Object.keys(exports)).toContain(name.replace('iommukit', '.'));
  }
});

describe.each(shells.map((block) => [`line ${block.line}`, block] as const))('%s', (_line, { text, words }) => {
  test.each(commandsOf(text))(
    '$command',
    ({ command, output }) => {
      const args = command
        .replace(/^iommukit /, '')
        .split(' ')
        .map((word) => word.replaceAll("'", ''));
      const run = spawnSync(process.execPath, [join(ROOT, 'bin/iommukit.js'), ...args], {
        cwd: FOLDER,
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '1' },
      });
      const all = run.stderr + run.stdout;
      expect(run.status, all).toBe(Number(wordOf(words, 'exit') ?? 0));
      if (output !== undefined && !matches(all, output)) expect(all.trimEnd()).toBe(output);
    },
    60_000,
  );
});
