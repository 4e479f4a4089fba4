/**
 * Makes a clone ready to run: dependencies as package-lock.json has them, then a build. Runs before `npm start` and
 * `npm test`. A second run installs nothing and only asks tsc whether sources changed.
 * Plain JavaScript without dependencies, and silent unless it does something: it runs where nothing is installed yet.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const FLOOR = [20, 19];

/** @param {string} text */
function say(text) {
  process.stderr.write(`iommukit: ${text}\n`);
}

/** @param {string} text */
function giveUp(text) {
  say(text);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > FLOOR[0] || (major === FLOOR[0] && minor >= FLOOR[1])) return;
  giveUp(`needs Node ${FLOOR.join('.')} or newer, this is Node ${process.versions.node} (${process.execPath})`);
}

/** @param {string} name */
function readJson(name) {
  try {
    return JSON.parse(readFileSync(join(root, name), 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Why node_modules is not what package-lock.json asks for; undefined when it is. npm keeps its own record of what it
 * installed, written when an install has finished: comparing with that needs no stamp of ours, and a clone where somebody
 * ran `npm ci` by hand is not installed twice.
 */
function reasonToInstall() {
  if (!existsSync(join(root, 'node_modules'))) return 'node_modules is missing';
  const installed = readJson('node_modules/.package-lock.json')?.packages;
  if (installed === undefined) return 'node_modules holds no finished install';
  const wanted = readJson('package-lock.json')?.packages ?? {};
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = installed[path];
    // Binaries for other platforms are in the lock file and never installed.
    if (found === undefined && entry.optional === true) continue;
    if (found?.version !== entry.version || found.integrity !== entry.integrity) {
      return `${path} is not the version of package-lock.json`;
    }
  }
  return undefined;
}

/**
 * Runs npm and keeps what it prints: stdout belongs to the command that follows.
 * @param {string[]} args
 */
function npm(args) {
  const cli = process.env.npm_execpath;
  // npm_execpath is the npm that started us; without it (called by hand) the one on PATH, a .cmd file on Windows.
  const [command, before] = cli !== undefined && /\.c?js$/.test(cli) ? [process.execPath, [cli]] : ['npm', []];
  // The build needs devDependencies, also where NODE_ENV=production would leave them out.
  const all = [...before, ...args, '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const shell = process.platform === 'win32' && command === 'npm';
  const { status, stdout, stderr } = spawnSync(command, all, { cwd: root, shell, encoding: 'utf8' });
  return { done: status === 0, text: `${stdout ?? ''}${stderr ?? ''}` };
}

function install() {
  const reason = reasonToInstall();
  if (reason === undefined) return;
  const locked = existsSync(join(root, 'package-lock.json'));
  say(`${reason}: npm ${locked ? 'ci' : 'install'}`);
  if (!locked) {
    const { done, text } = npm(['install']);
    if (!done) giveUp(`${text}npm install failed`);
    return;
  }
  const clean = npm(['ci']);
  if (clean.done) return;
  // A lock file written where the registry lacked binaries for other platforms does not name them, and `npm ci` refuses such
  // a file for all platforms. `npm install --no-save` takes the same locked versions and leaves the file as it is.
  say('npm ci refused package-lock.json: npm install --no-save');
  const kept = npm(['install', '--no-save']);
  if (!kept.done) giveUp(`${clean.text}${kept.text}npm install failed`);
}

function build() {
  // `npm start` needs the command line only; a type error in a test must not stop it.
  const target = process.env.npm_lifecycle_event === 'prestart' ? ['src/cli'] : [];
  const first = !existsSync(join(root, 'dist/cli/main.js'));
  if (first) say('building');
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-b', ...target], { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) giveUp('the build failed');
  // `iommukit ui` and report files need the lab, and the browser tests drive it as it is served.
  if (['prestart', 'pretest'].includes(process.env.npm_lifecycle_event ?? '')) buildWeb();
}

/** @param {string} path of a file or folder; its files' latest change */
function changedAt(path) {
  const found = statSync(path);
  if (!found.isDirectory()) return found.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => changedAt(join(path, name))));
}

function buildWeb() {
  // The one that is bundled last. Bundlers do not tell whether there is anything to do, and this takes five seconds.
  const last = join(root, 'dist/web/report.html');
  const sources = ['package-lock.json', 'src', 'web', 'traces', 'docs/counterexamples'].map((path) => join(root, path));
  if (existsSync(last) && sources.every((path) => !existsSync(path) || changedAt(path) < changedAt(last))) return;
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  for (const mode of ['production', 'report']) {
    const args = [vite, 'build', 'web', '--mode', mode, '--logLevel', 'warn'];
    const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 2, 2] });
    if (status !== 0) giveUp('the build of the lab failed');
  }
}

checkNode();
install();
build();
