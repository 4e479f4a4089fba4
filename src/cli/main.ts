/** The command line: one file per command, common errors and signals here. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addAudit } from './audit.ts';
import { addCheck } from './check.ts';
import { EXIT_BUG, EXIT_CODES_HELP, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UsageError } from './exit.ts';
import { FileError } from './file-error.ts';
import { addReplay } from './replay.ts';
import { addUi } from './ui.ts';

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest) return String(manifest.version);
  return 'unknown';
}

/** Runs one command line. @param argv as process.argv @returns the exit code; never throws */
export async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT_OK;
  // A reader that closed the pipe (head, less) has seen enough; what the run found is as true as before.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    process.stderr.write(`iommukit: cannot write the result: ${error.message}\n`);
    process.exit(EXIT_USAGE);
  });
  // Without a standard error nobody can be told.
  process.stderr.on('error', () => {});
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  // The second Ctrl-C ends the process at once: `once` gives the signal back its default.
  process.once('SIGINT', interrupt);
  const program = new Command('iommukit');
  program
    .description('Run, replay and check IOMMU code: what a flush policy costs, and whether it is safe.')
    .version(version())
    .addHelpText('after', EXIT_CODES_HELP)
    .exitOverride()
    .showHelpAfterError('(iommukit replay --help shows the options)');
  const run = async (work: (signal: AbortSignal) => Promise<number>): Promise<void> => {
    code = await work(abort.signal);
  };
  addReplay(program, run);
  addAudit(program, run);
  addCheck(program, run);
  addUi(program, run);
  // Only now: the commands keep the hint above.
  const today = program.commands.map((command) => command.name()).join(', ');
  program.showHelpAfterError(`(commands: ${today}; iommukit --help shows more)`);
  try {
    await program.parseAsync([...argv]);
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    if (abort.signal.aborted) return EXIT_INTERRUPTED;
    if (error instanceof FileError || error instanceof UsageError) {
      process.stderr.write(`iommukit: ${error.message}\n`);
      return EXIT_USAGE;
    }
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`iommukit: a bug in iommukit, please report it with the command and this text:\n${text}\n`);
    return EXIT_BUG;
  } finally {
    process.off('SIGINT', interrupt);
  }
}
