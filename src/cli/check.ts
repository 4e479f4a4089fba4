/** `iommukit check [DRIVER]`: does this driver keep the contract, whatever the caches do? */
import type { Command } from 'commander';
import { Argument, InvalidArgumentError, Option } from 'commander';
import type { Arch } from '../check/index.ts';
import { ARCHES, KNOWN_WORLD, PRESETS_OF, SCENARIOS } from '../check/index.ts';
import { sequenceOf } from '../lab/index.ts';
import { LAB_SCHEMA, checkCsv } from '../report/index.ts';
import type { CheckChoice } from './check-run.ts';
import { replaySchedule, replayedText, scheduleFolder } from './check-replay.ts';
import { isExplorable, runCheck, scenariosLike } from './check-run.ts';
import { checkText } from './check-text.ts';
import { EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_INTERRUPTED, EXIT_OK, UsageError } from './exit.ts';
import { checkOwnDriver } from './own-check.ts';
import { Progress } from './progress.ts';
import type { Format } from './result-files.ts';
import { ResultFiles, addOutput, jsonText } from './result-files.ts';

const FORMATS: readonly Format[] = ['.html', '.csv', '.json'];
/** Of one schedule: steps are no table. */
const SCHEDULE_FORMATS: readonly Format[] = ['.html', '.json'];

interface CheckOptions {
  readonly driver?: Arch;
  readonly preset?: string;
  readonly scenario?: string;
  readonly cachingMode?: 'on' | 'off';
  readonly seed: number;
  readonly random: number;
  readonly mutants?: true;
  readonly explore?: true;
  readonly save?: string;
  readonly replay?: string;
  readonly budget?: number;
  readonly json?: true;
  readonly output: readonly string[];
}

/** A parser of whole numbers of at least `least`. */
function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least || text.trim() === '') {
      throw new InvalidArgumentError(`'${text}' is not a whole number of at least ${least}.`);
    }
    return value;
  };
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1e6)) throw new InvalidArgumentError(`'${text}' is not a number of seconds above 0.`);
  return value;
}

/** A path as the user gave it: an unset variable of a script makes an empty one. */
function pathOf(text: string): string {
  if (text === '') throw new InvalidArgumentError('The path is empty.');
  return text;
}

/** Adds the command. `run` gets the exit code. */
export function addCheck(
  program: Command,
  run: (work: (signal: AbortSignal) => Promise<number>) => Promise<void>,
): void {
  const command = program
    .command('check')
    .description('play scenarios on a driver and judge every call by all that the caches may hold')
    .addArgument(
      new Argument(
        '[module]',
        'a driver of your own: a module whose default export is (platform, setup) => IommuOps',
      ).argParser(pathOf),
    )
    .addOption(new Option('--driver <vendor>', 'one hardware and driver only (default: both)').choices(ARCHES))
    .option('--preset <kernel>', 'one kernel only, as of `iommukit replay` (default: all)')
    .option('--scenario <glob>', 'only scenarios of this name; * stands for anything')
    .addOption(
      new Option(
        '--caching-mode <mode>',
        'only hardware that may cache not-present entries, VT-d CM and AMD-Vi NpCache, or that may not (default: both)',
      ).choices(['on', 'off']),
    )
    .addOption(
      new Option('--random <n>', 'play n random operations instead of the scenarios')
        .argParser(wholeNumber(1))
        .default(0, 'none'),
    )
    .addOption(new Option('--seed <n>', 'where random programs begin').argParser(wholeNumber(0)).default(1))
    .option('--mutants', 'play known bugs of IOMMU drivers instead, and say which are caught')
    .option(
      '--explore',
      'try every schedule of the hardware on small scenarios instead, and compare with the sanitizer',
    )
    .option('--save <folder>', 'with --explore: write each counterexample to a file in this folder', pathOf)
    .option('--replay <file>', 'play a schedule that the explorer saved, step by step', pathOf)
    .option('--budget <seconds>', 'stop after so long; exits 3 when not everything was tried', seconds)
    .option('--json', 'print the result as JSON (schema iommukit.check/1)');
  addOutput(command, FORMATS).action(async (module: string | undefined, options: CheckOptions) => {
    await run(async (signal) => await check(module, options, signal));
  });
}

async function check(module: string | undefined, options: CheckOptions, signal: AbortSignal): Promise<number> {
  if (options.replay !== undefined) return replayed(options.replay, module, options);
  const choice = choiceOf(module, options);
  const { save: folder } = options;
  const save = folder === undefined ? {} : { save: scheduleFolder(folder) };
  const files = new ResultFiles(options.output, FORMATS, [module]);
  const progress = new Progress();
  const show = (stage: string, done: number, total: number): void => progress.show(stage, done, total);
  try {
    const run = { ...choice, ...save, playsFindings: files.wants('.html') };
    const checked =
      module === undefined ? await runCheck(run, signal, show) : await checkOwnDriver(module, run, signal, show);
    progress.end();
    if (checked === null) return EXIT_INTERRUPTED;
    const { report, sequences } = checked;
    process.stdout.write(options.json === true ? jsonText(report) : checkText(report));
    files.finish({
      json: report,
      csv: () => checkCsv(report),
      lab: () => ({ schema: LAB_SCHEMA, kind: 'check', report, sequences }),
      title: `iommukit check: ${report.driver ?? 'the drivers of iommukit'}`,
    });
    if (report.interrupted) return EXIT_INTERRUPTED;
    if (report.findings.length > 0 || report.mutants.some(({ caught }) => !caught)) return EXIT_FINDING;
    return report.complete ? EXIT_OK : EXIT_INCONCLUSIVE;
  } finally {
    progress.end();
    files.discard();
  }
}

/** @returns the exit code: 1 when the schedule shows what it says */
function replayed(path: string, module: string | undefined, options: CheckOptions): number {
  if (module !== undefined) throw new UsageError('--replay names its driver in the file; it goes with no module');
  const files = new ResultFiles(options.output, SCHEDULE_FORMATS, [path]);
  try {
    const result = replaySchedule(path);
    const { schedule, played } = result;
    process.stdout.write(options.json === true ? jsonText(played) : replayedText(result));
    files.finish({
      json: played,
      lab: () => ({ schema: LAB_SCHEMA, kind: 'schedule', sequence: sequenceOf(schedule, KNOWN_WORLD) }),
      title: `iommukit check: ${schedule.scenario}`,
    });
    return played.isShown ? EXIT_FINDING : EXIT_OK;
  } finally {
    files.discard();
  }
}

/** @throws UsageError for what does not go together */
function choiceOf(module: string | undefined, options: CheckOptions): CheckChoice {
  const { preset, scenario = '*', cachingMode, seed, random, budget } = options;
  const isOwn = module !== undefined;
  const mutants = options.mutants === true;
  const explore = options.explore === true;
  if (explore && (isOwn || mutants || random > 0)) {
    throw new UsageError(
      '--explore compares judges on the drivers of iommukit; it goes with no module, --mutants or --random',
    );
  }
  if (mutants && (isOwn || random > 0)) {
    throw new UsageError('--mutants plays drivers with known bugs; it goes with no module and no --random');
  }
  if (options.save !== undefined && !explore) throw new UsageError('--save is for the schedules that --explore finds');
  if (explore ? !isExplorable(scenario) : scenariosLike(scenario).length === 0) {
    throw new UsageError(`no scenario is named ${scenario}; there are ${SCENARIOS.map(({ name }) => name).join(', ')}`);
  }
  return {
    driver: module ?? null,
    arches: archesOf(options, isOwn),
    ...(preset === undefined ? {} : { preset }),
    ...(cachingMode === undefined ? {} : { npCache: cachingMode === 'on' }),
    scenarios: scenario,
    // The table answers a question about Linux's policies, for all of it or not at all.
    table: !isOwn && preset === undefined && options.scenario === undefined && random === 0 && !mutants && !explore,
    seed,
    random,
    mutants,
    explore,
    budgetMs: budget === undefined ? Infinity : budget * 1000,
  };
}

/** Whose hardware is played; none named for a module, which may say so itself. */
function archesOf({ driver, preset }: CheckOptions, isOwn: boolean): readonly Arch[] {
  if (isOwn) {
    if (preset !== undefined) throw new UsageError('--preset names a kernel of Linux; a driver of your own has none');
    return driver === undefined ? [] : [driver];
  }
  const arches = driver === undefined ? ARCHES : [driver];
  if (preset === undefined) return arches;
  const having = arches.filter((arch) => PRESETS_OF[arch].includes(preset));
  if (having.length === 0) {
    const known = arches.map((arch) => `${arch}: ${PRESETS_OF[arch].join(', ')}`).join('; ');
    throw new UsageError(`unknown --preset ${preset}; there are ${known}`);
  }
  return having;
}
