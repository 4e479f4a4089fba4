/** The lint rules that the design leans on really fire: one wrong file per rule, linted with the project's configuration. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

/** [file, source, rule that must fire, or null where the file is right]. */
const CASES: readonly (readonly [file: string, source: string, rule: string | null])[] = [
  ['src/hw/a.ts', "export { here } from '../drivers/index.ts';", 'no-restricted-imports'],
  ['src/hw/b.ts', "export { here } from '../../pt/index.ts';", 'no-restricted-imports'],
  ['src/hw/c.ts', "export { here } from 'iommukit/drivers';", 'no-restricted-imports'],
  ['src/drivers/a.ts', "export { here } from '../hw/index.ts';", 'no-restricted-imports'],
  ['src/drivers/b.ts', "export type { Here } from '../../dist/hw/index.js';", 'no-restricted-imports'],
  ['src/dma/a.ts', "export type { Here } from '../hw/index.ts';", 'no-restricted-imports'],
  ['src/pt/a.ts', "export { here } from '../hw/index.ts';", 'no-restricted-imports'],
  ['src/machine/a.ts', "export { here } from '../hw/index.ts';", null],
  ['src/replay/a.ts', "export { readFileSync } from 'node:fs';", 'no-restricted-imports'],
  ['src/base/a.ts', 'export const value: number = Math.random();', 'no-restricted-properties'],
  ['src/base/b.ts', 'export const value: number = Date.now();', 'no-restricted-globals'],
  ['src/base/c.ts', 'export const value: number = new Date().getTime();', 'no-restricted-globals'],
  ['src/machine/b.ts', 'export const value: number = performance.now();', 'no-restricted-globals'],
  ['src/report/a.ts', 'setTimeout(() => undefined, 1);', 'no-restricted-globals'],
  ['src/trace/a.ts', "console.log('x');", 'no-console'],
  ['src/cli/a.ts', 'console.log(Date.now(), Math.random(), process.pid);', null],
  ['src/mem/a.ts', 'export default 1;', 'no-default-export'],
  ['src/mem/b.ts', 'export const value: any = 1;', 'no-explicit-any'],
  [
    'src/mem/c.ts',
    'export const first = (list: readonly (string | null)[]): string => list[0]!;',
    'no-non-null-assertion',
  ],
  ['src/mem/d.ts', '// @ts-ignore\nexport const value: number = 1;', 'ban-ts-comment'],
  ['src/mem/e.ts', "import { f } from './f.ts';\nexport const e: number = f;", 'no-cycle'],
  ['src/mem/f.ts', "import { e } from './e.ts';\nexport const f: number = e;", 'no-cycle'],
  // With types.
  ['src/cli/b.ts', 'export async function go(): Promise<void> {}\ngo();', 'no-floating-promises'],
  [
    'src/mem/g.ts',
    "export function name(kind: 'a' | 'b'): string {\n  switch (kind) {\n    case 'a':\n      return 'A';\n  }\n  return '';\n}",
    'switch-exhaustiveness-check',
  ],
  [
    'src/mem/h.ts',
    'declare const space: unique symbol;\ntype Iova = number & { readonly [space]: 1 };\nexport const brand = (value: number): Iova => value as Iova;',
    'no-unsafe-type-assertion',
  ],
];

interface Diagnostic {
  readonly code: string;
  readonly filename: string;
}

let tree = '';
const fired = new Map<string, string[]>();

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'iommukit-lint-'));
  cpSync(join(ROOT, '.oxlintrc.json'), join(tree, '.oxlintrc.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  cpSync(join(ROOT, 'tsconfig.base.json'), join(tree, 'tsconfig.json'));
  for (const [file, source] of CASES) {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), `${source}\n`);
  }
  const oxlint = join(ROOT, 'node_modules/oxlint/bin/oxlint');
  const args = [oxlint, '--type-aware', '--deny-warnings', '--format=json', 'src'];
  const { stdout } = spawnSync(process.execPath, args, { cwd: tree, encoding: 'utf8' });
  for (const { code, filename } of (JSON.parse(stdout) as { diagnostics: Diagnostic[] }).diagnostics) {
    const rule = code.replace(/^.*\((.*)\)$/, '$1');
    fired.set(filename, [...(fired.get(filename) ?? []), rule]);
  }
});

afterAll(() => rmSync(tree, { recursive: true, force: true }));

describe('oxlint', () => {
  test.each(CASES.filter(([, , rule]) => rule !== null))('%s: %s', (file, _, rule) => {
    expect(fired.get(file) ?? []).toContain(rule);
  });

  test.each(CASES.filter(([, , rule]) => rule === null))('%s is right: %s', (file) => {
    expect(fired.get(file) ?? []).toEqual([]);
  });
});
