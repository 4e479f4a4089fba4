/** `iommukit replay FILE`: what would another flush policy cost on this trace, and would it be safe? */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { Command } from 'commander';
import { Argument, InvalidArgumentError, Option } from 'commander';
import { MAP_FLUSHES, UNMAP_FLUSHES } from '../drivers/index.ts';
import type { Observed, ReplayChoice } from '../replay/index.ts';
import {
  ChoiceProblem,
  Grouper,
  HARDWARE_MODELS,
  MODEL_NAMES,
  PRESETS_OF,
  UNMAP_POLICIES,
  agrees,
  chooseHardware,
  planTrace,
  playPolicies,
} from '../replay/index.ts';
import type { ReplayReport, Timeline } from '../report/index.ts';
import { LAB_SCHEMA, factsOf, interruptedReport, packTimeline, replayCsv, replayReport } from '../report/index.ts';
import { InputProblem, Names } from '../trace/index.ts';
import type { ReadOptions } from './byte-source.ts';
import { readCommandLog } from './command-log.ts';
import { EXIT_FINDING, EXIT_INTERRUPTED, EXIT_OK, UsageError } from './exit.ts';
import { FileError } from './file-error.ts';
import { ReadInterrupted, readTrace } from './input.ts';
import { pathOf } from './path-argument.ts';
import { Progress } from './progress.ts';
import type { Format } from './result-files.ts';
import { ResultFiles, addOutput, jsonText } from './result-files.ts';
import { replayText } from './replay-text.ts';
import { RunWatch } from './run-watch.ts';
import { warnSkipped } from './skipped-lines.ts';
import { FileSpill } from './spill.ts';

interface ReplayOptions extends ReplayChoice {
  readonly compare?: string;
  readonly json?: true;
  readonly output: readonly string[];
}

const FORMATS: readonly Format[] = ['.html', '.perfetto-trace', '.csv', '.json'];

const PRESETS: readonly string[] = [...new Set(Object.values(PRESETS_OF).flat())].toSorted((a, b) =>
  a.localeCompare(b, 'en', { numeric: true }),
);

/** A parser of comma-separated lists of known words. */
function listOf<T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) => {
    const words = text.split(',').map((word) => {
      const found = known.find((candidate) => candidate === word.trim());
      if (found === undefined) throw new InvalidArgumentError(`'${word}' is not one of ${known.join(', ')}.`);
      return found;
    });
    return [...new Set(words)];
  };
}

/** Adds the command. `run` gets the exit code. */
export function addReplay(
  program: Command,
  run: (work: (signal: AbortSignal) => Promise<number>) => Promise<void>,
): void {
  const command = program
    .command('replay')
    .description('run a recorded trace through the IOMMU stack under each flush policy and show what each costs')
    .addArgument(
      new Argument('<file>', 'ftrace text or trace.dat, plain, gzip or zstd; - for standard input').argParser(pathOf),
    )
    .addOption(
      new Option('--map-flush <list>', `who flushes cached not-present entries after a map: ${MAP_FLUSHES.join(', ')}`)
        .argParser(listOf(MAP_FLUSHES))
        .default([...MAP_FLUSHES], 'all'),
    )
    .addOption(
      new Option(
        '--unmap-flush <list>',
        `whether an unmap waits for its invalidation: ${UNMAP_FLUSHES.join(', ')}, or recorded: in each domain as the trace's addresses show it`,
      )
        .argParser(listOf(UNMAP_POLICIES))
        .default([...UNMAP_FLUSHES], 'strict and lazy'),
    )
    .addOption(
      new Option(
        '--hardware <model>',
        'whose IOMMU is played (default: as --compare or the trace shows, else vtd)',
      ).choices(HARDWARE_MODELS),
    )
    .addOption(new Option('--preset <kernel>', 'whose driver').choices(PRESETS).default('linux-6.12'))
    .addOption(
      new Option(
        '--caching-mode <mode>',
        'whether the hardware caches not-present entries, VT-d CM and AMD-Vi NpCache (default: on, or as --compare shows)',
      ).choices(['on', 'off']),
    )
    .option(
      '--compare <log>',
      "the same run's commands, as QEMU's vtd_* trace log or an AMD guest's probe has them: exits 1 when the prediction differs",
      pathOf,
    )
    .option('--json', 'print the result as JSON (schema iommukit.replay/1)');
  addOutput(command, FORMATS).action(async (file: string, options: ReplayOptions) => {
    await run(async (signal) => await replay(file, options, signal));
  });
}

async function replay(file: string, options: ReplayOptions, signal: AbortSignal): Promise<number> {
  const files = new ResultFiles(options.output, FORMATS, [file, options.compare]);
  try {
    const { report, timelines } = await replayed(file, options, files, signal);
    process.stdout.write(options.json === true ? jsonText(report) : replayText(report));
    files.finish({
      json: report,
      csv: () => replayCsv(report),
      lab: () => ({ schema: LAB_SCHEMA, kind: 'replay', report, timelines: timelines.map(packTimeline) }),
      title: `iommukit replay: ${report.trace.file}`,
    });
    if (report.interrupted) return EXIT_INTERRUPTED;
    return report.compare !== undefined && !agrees(report.compare) ? EXIT_FINDING : EXIT_OK;
  } finally {
    files.discard();
  }
}

interface Replayed {
  readonly report: ReplayReport;
  /** One per run, when asked for. */
  readonly timelines: readonly Timeline[];
}

async function replayed(
  file: string,
  options: ReplayOptions,
  files: ResultFiles,
  signal: AbortSignal,
): Promise<Replayed> {
  const progress = new Progress();
  const show = (stage: string): ReadOptions => ({
    signal,
    onProgress: (done, total) => progress.show(stage, done, total),
  });
  const eventSpill = new FileSpill();
  const callSpill = new FileSpill();
  const names = new Names();
  const grouper = new Grouper(names, eventSpill);
  let observed: Observed | null = null;
  try {
    if (options.compare !== undefined) observed = await readCommandLog(options.compare, show('reading log '));
    requireSameHardware(options, observed);
    const summary = await readTrace(file, names, grouper, show('reading '));
    progress.end();
    const plan = planTrace(grouper, options, summary, callSpill);
    warnSkipped(file, summary);
    const hardware = chooseHardware(options, observed, summary, plan);
    const { preset, mapFlush, unmapFlush } = options;
    const devices = plan.domains.map((domain) => domain.devices.map(({ name }) => name).join(', '));
    const watch = new RunWatch(files, devices, mapFlush.length * unmapFlush.length);
    const { runs, isComplete, compare } = await playPolicies(
      plan,
      {
        ...hardware,
        preset,
        mapFlush,
        unmapFlush,
        observed,
        observedFile: options.compare ?? '',
        observerOf: (map, unmap) => watch.observerOf(map, unmap),
      },
      {
        onProgress: (done, total) => progress.show('replaying ', done, total),
        pause: async () => {
          await yieldToEvents();
          return !signal.aborted;
        },
      },
    );
    return {
      report: replayReport(factsOf(file, summary), plan, hardware, runs, !isComplete, compare),
      timelines: watch.finish(),
    };
  } catch (error) {
    if (error instanceof InputProblem) throw new FileError(file, error.message);
    if (error instanceof ChoiceProblem) throw new UsageError(`--${error.message}`);
    if (!(error instanceof ReadInterrupted)) throw error;
    const hardware = chooseHardware(options, observed, error.summary, null);
    return { report: interruptedReport(factsOf(file, error.summary), grouper.counts, hardware), timelines: [] };
  } finally {
    progress.end();
    eventSpill.close();
    callSpill.close();
  }
}

/** A log can only be compared with a replay on hardware that takes such commands. */
function requireSameHardware({ hardware, compare = '' }: ReplayOptions, observed: Observed | null): void {
  const model = observed?.commands.model;
  if (model === undefined || hardware === undefined || model === hardware) return;
  throw new FileError(
    compare,
    `has commands of ${MODEL_NAMES[model]}, and --hardware asks for ${MODEL_NAMES[hardware]}; leave one of the two out`,
  );
}
