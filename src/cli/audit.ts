/** `iommukit audit FILE`: did the recorded machine flush what it had to? */
import type { Command } from 'commander';
import { Argument, Option } from 'commander';
import type { AuditResult } from '../audit/index.ts';
import { CallReader, CommandFile, CommandMerge, judge } from '../audit/index.ts';
import type { AuditReport } from '../report/index.ts';
import { LAB_SCHEMA, auditCsv, auditReport, auditText, factsOf, interruptedAudit } from '../report/index.ts';
import type { TraceSummary } from '../trace/index.ts';
import { Names } from '../trace/index.ts';
import type { ReadOptions } from './byte-source.ts';
import { EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_INTERRUPTED, EXIT_OK } from './exit.ts';
import { FileError } from './file-error.ts';
import { ReadInterrupted, readLines, readTrace } from './input.ts';
import { pathOf } from './path-argument.ts';
import { Progress } from './progress.ts';
import type { Format } from './result-files.ts';
import { ResultFiles, addOutput, jsonText } from './result-files.ts';
import { counted } from './text-table.ts';
import { warnSkipped } from './skipped-lines.ts';
import { FileSpill } from './spill.ts';

const FORMATS: readonly Format[] = ['.html', '.csv', '.json'];

interface AuditOptions {
  readonly commands?: string;
  readonly cachingMode?: 'on' | 'off';
  readonly json?: true;
  readonly output: readonly string[];
}

const EXIT_OF = { held: EXIT_OK, violated: EXIT_FINDING, inconclusive: EXIT_INCONCLUSIVE } as const;

/** Adds the command. `run` gets the exit code. */
export function addAudit(
  program: Command,
  run: (work: (signal: AbortSignal) => Promise<number>) => Promise<void>,
): void {
  const command = program
    .command('audit')
    .description('check a recorded trace: was every map and unmap flushed in time, wide enough, in the right domain?')
    .showHelpAfterError('(iommukit audit --help shows the options)')
    .addArgument(
      new Argument(
        '<file>',
        'ftrace text or trace.dat with iommu:* and intel_iommu:* events, plain, gzip or zstd; - for standard input',
      ).argParser(pathOf),
    )
    .option(
      '--commands <file>',
      "the commands of the same run, from a probe on AMD's __iommu_queue_command_sync, when they are not in the trace",
      pathOf,
    )
    .addOption(
      new Option(
        '--caching-mode <mode>',
        'whether the hardware caches not-present entries, VT-d CM and AMD-Vi NpCache (default: as the trace shows)',
      ).choices(['on', 'off']),
    )
    .option('--json', 'print the result as JSON (schema iommukit.audit/1)');
  addOutput(command, FORMATS).action(async (file: string, options: AuditOptions) => {
    await run(async (signal) => await audit(file, options, signal));
  });
}

async function audit(file: string, options: AuditOptions, signal: AbortSignal): Promise<number> {
  const files = new ResultFiles(options.output, FORMATS, [file, options.commands]);
  try {
    const report = await audited(file, options, signal);
    process.stdout.write(options.json === true ? jsonText(report) : auditText(report));
    files.finish({
      json: report,
      csv: () => auditCsv(report),
      lab: () => ({ schema: LAB_SCHEMA, kind: 'audit', report }),
      title: `iommukit audit: ${report.trace.file}`,
    });
    return report.interrupted ? EXIT_INTERRUPTED : EXIT_OF[report.verdict];
  } finally {
    files.discard();
  }
}

async function audited(file: string, options: AuditOptions, signal: AbortSignal): Promise<AuditReport> {
  const progress = new Progress();
  const show = (stage: string): ReadOptions => ({
    signal,
    onProgress: (done, total) => progress.show(stage, done, total),
  });
  const callSpill = new FileSpill();
  const commandSpill = new FileSpill();
  const commands = options.commands ?? null;
  const names = new Names();
  const reader = new CallReader(names, callSpill);
  try {
    const merge =
      commands === null ? null : await readCommandFile(commands, reader, commandSpill, show('reading commands '));
    const summary = await readTrace(file, names, merge ?? reader, show('reading '));
    progress.end();
    (merge ?? reader).finish();
    const { nrMapEvents, nrUnmapEvents } = reader.found;
    if (nrMapEvents + nrUnmapEvents === 0) throw new FileError(file, nothingToAudit(summary));
    warnSkipped(file, summary);
    const { cachingMode } = options;
    const result = judge(reader, names, {
      cachingMode: cachingMode === undefined ? null : cachingMode === 'on',
      hasIrqContext: summary.hasIrqContext,
    });
    const lines = await evidenceOf(result, file, commands, show('reading lines of findings '));
    return auditReport(factsOf(file, summary), commands, result, cachingMode !== undefined, lines);
  } catch (error) {
    if (!(error instanceof ReadInterrupted)) throw error;
    return interruptedAudit(factsOf(file, error.summary), commands);
  } finally {
    progress.end();
    callSpill.close();
    commandSpill.close();
  }
}

/** The lines that findings name: they are known only now, so their file is read again. */
async function evidenceOf(
  { findings }: AuditResult,
  file: string,
  commands: string | null,
  options: ReadOptions,
): Promise<Pick<AuditReport, 'lines' | 'commandLines'>> {
  const own = new Set<number>();
  const others = commands === null ? own : new Set<number>();
  for (const { role, line } of findings.flatMap(({ evidence }) => evidence))
    (role === 'command' ? others : own).add(line);
  return {
    lines: await readLines(file, own, options),
    commandLines: commands === null ? [] : await readLines(commands, others, options),
  };
}

async function readCommandFile(
  path: string,
  reader: CallReader,
  spill: FileSpill,
  options: ReadOptions,
): Promise<CommandMerge> {
  const file = new CommandFile(spill);
  const summary = await readTrace(path, new Names(), file, options);
  if (file.count === 0) {
    throw new FileError(
      path,
      `holds no command of an AMD-Vi driver (${counted(summary.events, 'event')} read); a probe on __iommu_queue_command_sync ` +
        'with d0 to d3 records them. Commands of VT-d, intel_iommu:qi_submit, stand in the trace itself',
    );
  }
  warnSkipped(path, summary);
  return new CommandMerge(reader, file);
}

function nothingToAudit(summary: TraceSummary): string {
  return (
    `holds no iommu:map or iommu:unmap event (${summary.format}, ${counted(summary.events, 'event')} read, ${summary.skipped} skipped). ` +
    'Record with: trace-cmd record -e iommu -e dma -e intel_iommu'
  );
}
