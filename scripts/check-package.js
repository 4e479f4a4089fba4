/**
 * Is the tarball usable? Packs the project, installs the tarball into an empty project elsewhere, imports every subpath
 * export there and runs the program. Needs a finished build and a registry for the dependencies; leaves nothing behind.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const temp = mkdtempSync(join(tmpdir(), 'iommukit-pack-'));
const shell = process.platform === 'win32';

/**
 * Runs a command; its stdout. Throws with everything it printed when it fails.
 * @param {string} command @param {string[]} args @param {string} cwd
 */
function run(command, args, cwd) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, shell, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${status}\n${stdout ?? ''}${stderr ?? ''}`);
  return stdout;
}

/** What must not be in the tarball: build state, declarations of tests, files of the repository only. */
const UNWANTED = /\.tsbuildinfo$|^dist\/\.|^(test|bench|scripts|\.ci)\/|\.tmp$/;

try {
  const answer = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', temp], root));
  // npm 11 answers a list, npm 12 an object by name.
  const packed = Array.isArray(answer) ? answer[0] : Object.values(answer)[0];
  const paths = packed.files.map((file) => file.path);
  const unwanted = paths.filter((path) => UNWANTED.test(path));
  if (unwanted.length > 0) throw new Error(`the tarball holds ${unwanted.slice(0, 5).join(', ')}`);

  const project = join(temp, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
  run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', join(temp, packed.filename)], project);

  const subpaths = Object.keys(manifest.exports).filter((name) => name !== './package.json');
  for (const subpath of subpaths) {
    const name = `${manifest.name}${subpath.slice(1)}`;
    const code = `const layer = await import('${name}'); if (Object.keys(layer).length === 0) throw new Error('${name} exports nothing');`;
    writeFileSync(join(project, 'probe.js'), code);
    run(process.execPath, ['probe.js'], project);
  }

  const program = join(project, 'node_modules', '.bin', manifest.name);
  const version = run(program, ['--version'], project).trim();
  if (version !== manifest.version)
    throw new Error(`--version printed "${version}", package.json says ${manifest.version}`);
  if (!run(program, ['--help'], project).includes('replay')) throw new Error('--help does not name the replay command');

  const size = (packed.size / 1e6).toFixed(1);
  process.stdout.write(
    `package: ${paths.length} files, ${size} MB; ${subpaths.length} subpaths and the program work installed\n`,
  );
} catch (error) {
  process.stderr.write(`package: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  rmSync(temp, { recursive: true, force: true });
}
