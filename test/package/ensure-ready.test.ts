/**
 * The set-up script in a small tree of its own: when it installs, what it tells npm, when it refuses. npm and tsc are stand-ins
 * that write down how they were called.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
/** What is built before the tests. */
const BUILDS = [
  'tsc -b',
  'vite build web --mode production --logLevel warn',
  'vite build web --mode report --logLevel warn',
];
let tree = '';

const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
};
const lock = (version: string, extra: object = {}): string =>
  JSON.stringify({ packages: { '': {}, 'node_modules/a': { version, integrity: `sha-${version}` }, ...extra } });

/** Writes a stand-in that notes its arguments and runs `code`. */
const standIn = (path: string, name: string, code = ''): void =>
  put(
    path,
    `const fs = require('node:fs');
     const args = process.argv.slice(2).filter((arg) => !arg.startsWith('--no-') || arg === '--no-save');
     fs.appendFileSync(${JSON.stringify(join(tree, 'calls'))}, '${name} ' + args.join(' ') + '\\n');
     ${code}`,
  );

/** Runs the script; what it called, said and ended with. */
function ready(
  env: Record<string, string> = {},
  node: readonly string[] = [],
): { calls: string[]; said: string; code: number | null } {
  writeFileSync(join(tree, 'calls'), '');
  const { stdout, stderr, status } = spawnSync(process.execPath, [...node, join(tree, 'scripts/ensure-ready.js')], {
    cwd: tmpdir(),
    encoding: 'utf8',
    env: { ...process.env, npm_execpath: join(tree, 'npm.cjs'), npm_lifecycle_event: 'pretest', ...env },
  });
  expect(stdout).toBe('');
  return { calls: readFileSync(join(tree, 'calls'), 'utf8').split('\n').filter(Boolean), said: stderr, code: status };
}

beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), 'iommukit-ready-'));
  mkdirSync(join(tree, 'scripts'));
  cpSync(join(ROOT, 'scripts/ensure-ready.js'), join(tree, 'scripts/ensure-ready.js'));
  put('package.json', '{ "type": "module" }');
  put('node_modules/typescript/package.json', '{ "type": "commonjs" }');
  standIn('node_modules/typescript/bin/tsc', 'tsc');
  put('node_modules/vite/package.json', '{ "type": "commonjs" }');
  standIn('node_modules/vite/bin/vite.js', 'vite');
  standIn('npm.cjs', 'npm');
  put('dist/cli/main.js', '');
  put('package-lock.json', lock('1.0.0'));
  put('node_modules/.package-lock.json', lock('1.0.0'));
});

afterEach(() => rmSync(tree, { recursive: true, force: true }));

test('installs nothing and says nothing when the locked versions are there', () => {
  expect(ready()).toEqual({ calls: BUILDS, said: '', code: 0 });
});

test('builds the command line and the lab before npm start', () => {
  const [, ...lab] = BUILDS;
  expect(ready({ npm_lifecycle_event: 'prestart' }).calls).toEqual(['tsc -b src/cli', ...lab]);
});

test('the lab is built again when something changed since', () => {
  const [first, ...lab] = BUILDS;
  put('web/src/deep/a.ts', '');
  put('dist/web/report.html', '');
  const at = (path: string, seconds: number): void => utimesSync(join(tree, path), seconds, seconds);
  at('package-lock.json', 1000);
  at('web/src/deep/a.ts', 1000);
  at('dist/web/report.html', 2000);
  expect(ready().calls).toEqual([first]);
  at('web/src/deep/a.ts', 3000);
  expect(ready().calls).toEqual([first, ...lab]);
});

test('the lab is not built for the oracle', () => {
  expect(ready({ npm_lifecycle_event: 'oracle' }).calls).toEqual(['tsc -b']);
});

test.each([
  ['another version', lock('0.9.0')],
  ['an unfinished install', ''],
  ['a missing package', JSON.stringify({ packages: {} })],
])('%s: npm ci', (_, installed) => {
  put('node_modules/.package-lock.json', installed);
  expect(ready()).toMatchObject({ calls: ['npm ci --include=dev --loglevel=error', ...BUILDS], code: 0 });
});

test('binaries for other platforms need not be there', () => {
  put('package-lock.json', lock('1.0.0', { 'node_modules/b-win32': { version: '1.0.0', optional: true } }));
  expect(ready().calls).toEqual(BUILDS);
});

test('without a lock file: npm install', () => {
  rmSync(join(tree, 'package-lock.json'));
  rmSync(join(tree, 'node_modules/.package-lock.json'));
  expect(ready().calls[0]).toBe('npm install --include=dev --loglevel=error');
});

test('a lock file that npm ci refuses is installed all the same, and not rewritten', () => {
  put('node_modules/.package-lock.json', lock('0.9.0'));
  standIn('npm.cjs', 'npm', "if (args[0] === 'ci') process.exit(1);");
  const { calls, said, code } = ready();
  expect(calls.slice(0, 2)).toEqual([
    'npm ci --include=dev --loglevel=error',
    'npm install --no-save --include=dev --loglevel=error',
  ]);
  expect(said).toContain('npm ci refused');
  expect(code).toBe(0);
});

test('a failed install or build ends it with npm’s or tsc’s own words', () => {
  standIn('node_modules/typescript/bin/tsc', 'tsc', "console.log('x.ts(1,1): error'); process.exitCode = 1;");
  expect(ready()).toMatchObject({ code: 1, said: 'x.ts(1,1): error\niommukit: the build failed\n' });
  put('node_modules/.package-lock.json', '');
  standIn('npm.cjs', 'npm', "console.error('no network'); process.exitCode = 1;");
  const { calls, said, code } = ready();
  expect(calls.some((call) => call.startsWith('tsc'))).toBe(false);
  expect(said).toContain('no network');
  expect(code).toBe(1);
});

test.each([
  ['18.20.1', false],
  ['20.18.3', false],
  ['20.19.0', true],
  ['22.0.0', true],
])('Node %s is accepted: %s', (version, accepted) => {
  const pretend = `Object.defineProperty(process, 'versions', { value: { node: '${version}' } });`;
  const { calls, said, code } = ready({}, ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`]);
  expect(code).toBe(accepted ? 0 : 1);
  expect(calls).toEqual(accepted ? BUILDS : []);
  if (!accepted) expect(said).toContain(`needs Node 20.19 or newer, this is Node ${version}`);
});

test('the program says what to do in a copy that is not built', () => {
  mkdirSync(join(tree, 'bin'));
  cpSync(join(ROOT, 'bin/iommukit.js'), join(tree, 'bin/iommukit.js'));
  rmSync(join(tree, 'dist'), { recursive: true });
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(tree, 'bin/iommukit.js')], { encoding: 'utf8' });
  expect([stdout, status]).toEqual(['', 2]);
  expect(stderr).toContain('run npm start or npm run build first');
});
