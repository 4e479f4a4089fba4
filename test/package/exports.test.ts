/** What package.json promises exists in the build: every subpath, the program, the files that users read. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

interface Manifest {
  readonly bin: Record<string, string>;
  readonly exports: Record<string, string | { readonly types: string; readonly default: string }>;
  readonly dependencies: Record<string, string>;
  readonly engines: { readonly node: string };
}
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;

describe.each(Object.entries(manifest.exports))('subpath %s', (subpath, target) => {
  test('has its files', () => {
    const files = typeof target === 'string' ? [target] : [target.types, target.default];
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  if (typeof target === 'string') return;
  test('can be imported by the name that users write', () => {
    const name = `iommukit${subpath.slice(1)}`;
    const code = `import * as layer from '${name}'; console.log(Object.keys(layer).length);`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(Number(stdout)).toBeGreaterThan(0);
  });
});

test('the program is there and may be executed', () => {
  for (const file of Object.values(manifest.bin)) expect(statSync(join(ROOT, file)).mode & 0o111).toBe(0o111);
});

test('dependencies are pinned to one version', () => {
  for (const version of Object.values(manifest.dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
});

test('the program and ensure-ready agree with engines on the oldest Node', () => {
  const [, major, minor] = /^>=(\d+)\.(\d+)$/.exec(manifest.engines.node)!;
  expect(readFileSync(join(ROOT, 'scripts/ensure-ready.js'), 'utf8')).toContain(`[${major}, ${minor}]`);
});
