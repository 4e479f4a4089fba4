/** `iommukit replay FILE`: what would another flush policy cost on this trace, and would it be safe? */
import { writeFileSync } from 'node:fs';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import type { MapFlush, UnmapFlush } from '../drivers/index.ts';
import { INTEL_PRESETS, MAP_FLUSHES, UNMAP_FLUSHES, intelPreset } from '../drivers/index.ts';
import type { Plan, RunResult } from '../replay/index.ts';
import type { Observed } from '../replay/index.ts';
import { Grouper, Player, VtdObserved, agrees, compareRun, planCalls } from '../replay/index.ts';
import type { ReplayReport } from '../report/index.ts';
import { replayReport } from '../report/index.ts';
import { Names } from '../trace/index.ts';
import { EXIT_FINDING, EXIT_INTERRUPTED, EXIT_OK } from './exit.ts';
import type { TraceSummary } from './input.ts';
import { InputError, readQemuLog, readTrace } from './input.ts';
import { Progress } from './progress.ts';
import { replayText } from './replay-text.ts';
import { FileSpill } from './spill.ts';

interface ReplayOptions {
  readonly mapFlush: readonly MapFlush[];
  readonly unmapFlush: readonly UnmapFlush[];
  readonly preset: string;
  readonly cachingMode?: 'on' | 'off';
  readonly compare?: string;
  readonly json?: true;
  readonly output?: string;
}

/** Calls played between two looks at the clock, the signal and the progress bar. */
const CALLS_PER_TURN = 50_000;

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
  program
    .command('replay')
    .description('run a recorded trace through the IOMMU stack under each flush policy and show what each costs')
    .argument('<file>', 'ftrace text or trace.dat, plain, gzip or zstd; - for standard input')
    .addOption(
      new Option('--map-flush <list>', `who flushes cached not-present entries after a map: ${MAP_FLUSHES.join(', ')}`)
        .argParser(listOf(MAP_FLUSHES))
        .default([...MAP_FLUSHES], 'all'),
    )
    .addOption(
      new Option('--unmap-flush <list>', `whether an unmap waits for its invalidation: ${UNMAP_FLUSHES.join(', ')}`)
        .argParser(listOf(UNMAP_FLUSHES))
        .default([...UNMAP_FLUSHES], 'both'),
    )
    .addOption(new Option('--preset <kernel>', 'whose driver').choices(INTEL_PRESETS).default('linux-6.12'))
    .addOption(
      new Option(
        '--caching-mode <mode>',
        'whether the hardware caches not-present entries (default: on, or as --compare shows)',
      ).choices(['on', 'off']),
    )
    .option('--compare <qemu-log>', 'a QEMU vtd_* trace log of the same run: exits 1 when the prediction differs')
    .option('--json', 'print the result as JSON (schema iommukit.replay/1)')
    .option('-o, --output <file>', 'write the result to a file instead of standard output')
    .action(async (file: string, options: ReplayOptions) => {
      await run(async (signal) => await replay(file, options, signal));
    });
}

async function replay(file: string, options: ReplayOptions, signal: AbortSignal): Promise<number> {
  const progress = new Progress(true);
  const eventSpill = new FileSpill();
  const callSpill = new FileSpill();
  try {
    const observed = options.compare === undefined ? null : await readObserved(options.compare, signal, progress);
    const names = new Names();
    const grouper = new Grouper(names, eventSpill);
    const summary = await readTrace(file, names, grouper, {
      signal,
      onProgress: (done, total) => progress.show('reading ', done, total),
    });
    progress.end();
    grouper.finish();
    if (grouper.counts.map + grouper.counts.unmap === 0) throw new InputError(file, nothingToReplay(summary));
    warnSkipped(file, summary);
    const plan = planCalls(grouper, callSpill);
    const report = await play(file, summary, plan, options, observed, signal, progress);
    progress.end();
    const text = options.json === true ? `${JSON.stringify(report, null, 2)}\n` : replayText(report);
    if (options.output === undefined) process.stdout.write(text);
    else writeOutput(options.output, text);
    if (report.interrupted) return EXIT_INTERRUPTED;
    return report.compare !== undefined && !agrees(report.compare) ? EXIT_FINDING : EXIT_OK;
  } finally {
    progress.end();
    eventSpill.close();
    callSpill.close();
  }
}

function writeOutput(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new InputError(path, `cannot be written (${error instanceof Error ? error.message : String(error)})`);
  }
}

function nothingToReplay(summary: TraceSummary): string {
  return (
    `holds no iommu:map or iommu:unmap event (${summary.format}, ${summary.events} events read, ${summary.skipped} skipped). ` +
    `Record with: trace-cmd record -e iommu -e dma -e intel_iommu`
  );
}

/** Skipped lines are never silent: how many, and the first few with their place and what was expected there. */
function warnSkipped(file: string, summary: TraceSummary): void {
  if (summary.skipped === 0) return;
  const lines = [`${file}: ${summary.skipped} malformed lines or records skipped`];
  for (const skip of summary.firstSkipped.slice(0, 5)) {
    lines.push(`${file}:${skip.line}: expected ${skip.what}, found: ${skip.excerpt}`);
  }
  process.stderr.write(`${lines.join('\n')}\n`);
}

async function readObserved(path: string, signal: AbortSignal, progress: Progress): Promise<Observed> {
  const observed = new VtdObserved();
  const summary = await readQemuLog(
    path,
    {
      descriptor: (w0, w1, w2, w3, line) => observed.command(w0, w1, w2, w3, line),
      mark: (name) => observed.mark(name),
      tail: () => {},
      skipped: () => {},
    },
    { signal, onProgress: (done, total) => progress.show('reading log ', done, total) },
  );
  progress.end();
  if (observed.counts.total === 0) {
    throw new InputError(
      path,
      `holds no vtd_inv_desc line (${summary.lines} lines read). Run QEMU with: -trace 'vtd_*' -D FILE`,
    );
  }
  return observed;
}

async function play(
  file: string,
  summary: TraceSummary,
  plan: Plan,
  options: ReplayOptions,
  observed: Observed | null,
  signal: AbortSignal,
  progress: Progress,
): Promise<ReplayReport> {
  const cachingMode =
    options.cachingMode === undefined
      ? observed === null
        ? true
        : observed.showsCachingMode(plan.counts.unmap)
      : options.cachingMode === 'on';
  const compared = observed === null ? null : comparedPolicy(options, observed);
  const runs: RunResult[] = [];
  let compare: ReplayReport['compare'];
  const nrCalls = plan.nrRecords * options.mapFlush.length * options.unmapFlush.length;
  let nrBefore = 0;
  for (const mapFlush of options.mapFlush) {
    for (const unmapFlush of options.unmapFlush) {
      const keepPages = compared?.mapFlush === mapFlush && compared.unmapFlush === unmapFlush;
      const player = new Player(plan, { preset: options.preset, mapFlush, unmapFlush, cachingMode, keepPages });
      while (!signal.aborted && player.step(CALLS_PER_TURN)) {
        progress.show('replaying ', nrBefore + player.nrDone, nrCalls);
        await yieldToEvents();
      }
      nrBefore += player.nrDone;
      const result = player.result();
      runs.push(result);
      if (signal.aborted) break;
      if (keepPages && observed !== null && player.pages !== null) {
        const side = { pages: player.pages, counts: result.commands, marks: player.marks };
        compare = { file: options.compare ?? '', mapFlush, unmapFlush, ...compareRun(side, observed) };
      }
    }
    if (signal.aborted) break;
  }
  const facts = {
    file: file === '-' ? 'standard input' : file,
    format: summary.format,
    events: summary.events,
    skipped: summary.skipped,
    lost: summary.lost,
  };
  return replayReport(facts, plan, cachingMode, runs, signal.aborted, compare);
}

/**
 * Which of the asked-for policies the log is held against: the kernel's own place for the map flush, and the unmap policy the
 * log shows when both were asked for.
 */
function comparedPolicy(
  options: ReplayOptions,
  observed: Observed,
): { readonly mapFlush: MapFlush | undefined; readonly unmapFlush: UnmapFlush | undefined } {
  const own = intelPreset(options.preset).mapFlush;
  const shown: UnmapFlush = observed.showsLazyUnmaps ? 'lazy' : 'strict';
  return {
    mapFlush: options.mapFlush.includes(own) ? own : options.mapFlush[0],
    unmapFlush: options.unmapFlush.includes(shown) ? shown : options.unmapFlush[0],
  };
}
