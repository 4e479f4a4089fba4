/** `iommukit ui [FILE]`: the lab page, served to this machine's browser, with a trace or a result loaded. */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Argument, InvalidArgumentError, Option } from 'commander';
import { DETECT_BYTES, detect } from '../trace/index.ts';
import { EXIT_OK } from './exit.ts';
import { FileError, codeOf } from './file-error.ts';
import { LabServer, OpenedFile, readSite } from './lab-server.ts';
import { pathOf } from './path-argument.ts';

interface UiOptions {
  readonly port: number;
  readonly host: string;
}

/** Where the build leaves the site; the same from src/cli and dist/cli. */
const SITE = join(import.meta.dirname, '../../dist/web');
/** Results are JSON; what is longer is none of ours. */
const MAX_JSON = 256 << 20;
/** Which view shows a result, by its schema up to the version. */
const VIEW_OF: Readonly<Record<string, string>> = {
  'iommukit.replay': 'policies',
  'iommukit.audit': 'findings',
  'iommukit.check': 'findings',
  'iommukit.schedule': 'findings',
};

export function addUi(program: Command, run: (work: (signal: AbortSignal) => Promise<number>) => Promise<void>): void {
  program
    .command('ui')
    .description('serve the lab page to a browser on this machine, until Ctrl-C')
    .showHelpAfterError('(iommukit ui --help shows the options)')
    .addArgument(
      new Argument(
        '[file]',
        'a trace, a schedule that check saved, or the JSON of replay, audit or check, to open with',
      ).argParser(pathOf),
    )
    .addOption(new Option('--port <number>', 'where to listen').argParser(portOf).default(0, 'a free one'))
    .option('--host <address>', 'on which address; any but the default lets other machines in', '127.0.0.1')
    .action(async (file: string | undefined, options: UiOptions) => {
      await run(async (signal) => await ui(file, options, signal));
    });
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535) throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return port;
}

async function ui(file: string | undefined, options: UiOptions, signal: AbortSignal): Promise<number> {
  const site = readSite(SITE);
  const view = file === undefined ? 'policies' : viewOf(file);
  const opened = file === undefined ? null : new OpenedFile(file);
  try {
    const server = await LabServer.start(site, { ...options, opened });
    process.stdout.write(`${server.url}${opened === null ? '' : `#/${view}?open=${opened.address}`}\n`);
    process.stderr.write('Open this address in a browser; Ctrl-C stops.\n');
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await server.close();
    // Ctrl-C is how it ends: nothing was cut short.
    return EXIT_OK;
  } finally {
    opened?.close();
  }
}

/** Which view opens a file. @throws FileError for one that none does */
function viewOf(path: string): string {
  let head: Uint8Array;
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new FileError(path, 'is no regular file; save it as one first');
    head = headOf(path);
    if (isJson(head)) {
      if (stat.size > MAX_JSON) throw new FileError(path, `is JSON of ${stat.size} bytes; no result is that long`);
      return viewOfJson(path, readFileSync(path, 'utf8'));
    }
  } catch (error) {
    if (error instanceof FileError) throw error;
    const code = codeOf(error);
    throw new FileError(path, code === 'ENOENT' ? 'no such file; check the path' : `cannot be read (${code})`);
  }
  const { kind, found, advice } = detect(head);
  if (kind === 'empty') throw new FileError(path, `is empty; ${advice}`);
  if (kind === 'refused') throw new FileError(path, `is ${found}; ${advice}`);
  return 'policies';
}

function headOf(path: string): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const head = new Uint8Array(DETECT_BYTES);
    return head.subarray(0, readSync(fd, head));
  } finally {
    closeSync(fd);
  }
}

function isJson(head: Uint8Array): boolean {
  const first = head.find((byte) => byte > 32);
  return first === 0x7b;
}

function viewOfJson(path: string, text: string): string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new FileError(path, 'begins like JSON and is none; write it again with --json');
  }
  const schema = typeof json === 'object' && json !== null && 'schema' in json ? String(json.schema) : '';
  const view = VIEW_OF[schema.split('/', 1)[0] ?? ''];
  if (view !== undefined) return view;
  const known = Object.keys(VIEW_OF).join(', ');
  throw new FileError(path, `is JSON without a schema of ours; expected one of ${known}`);
}
