/** Recordings as lists of events in memory, so that a test can change one and audit again. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { AuditResult } from '../../src/audit/index.ts';
import { CallReader, CommandFile, CommandMerge, judge } from '../../src/audit/index.ts';
import type { TraceSink } from '../../src/trace/index.ts';
import { EventKind, FtraceTextReader, Names, TraceEvent } from '../../src/trace/index.ts';

const root = join(import.meta.dirname, '../..');

/** One event or, `isAmd`, one AMD command. */
export interface Recorded {
  readonly isAmd: boolean;
  readonly kind: number;
  readonly line: number;
  readonly timeNs: number;
  readonly pid: number;
  readonly cpu: number;
  readonly irqContext: number;
  readonly iova: number;
  readonly nrBytes: number;
  readonly paddr: number;
  readonly extra: number;
  readonly device: number;
  /** First address of an sg event, -1 without. */
  readonly first: number;
  readonly text: string;
  readonly words: readonly number[];
}

export interface Recording {
  readonly name: string;
  readonly folder: string;
  readonly isAmd: boolean;
  readonly cachingMode: boolean;
}

/** The runs of the project, of ../shared where present, and of the folders in IOMMUKIT_AUDIT_RUNS (separated by colons). */
export const recordings: readonly Recording[] = [
  join(root, 'traces'),
  join(root, '../shared/traces'),
  ...(process.env['IOMMUKIT_AUDIT_RUNS'] ?? '').split(':').filter((folder) => folder !== ''),
]
  .filter((folder) => existsSync(folder))
  .flatMap((folder) => readdirSync(folder).map((name) => ({ name, folder: join(folder, name) })))
  .filter(({ folder }) => existsSync(join(folder, 'trace.txt.gz')))
  .filter(({ name }, index, all) => all.findIndex((other) => other.name === name) === index)
  .map((run) => {
    const isAmd = existsSync(join(run.folder, 'amd-commands.txt.gz'));
    // QEMU's amd-iommu has NpCache; its intel-iommu what the name of the run says.
    return { ...run, isAmd, cachingMode: isAmd || !run.name.includes('-cmoff-') };
  });

function read(path: string, names: Names, sink: TraceSink): void {
  const reader = new FtraceTextReader(names, sink);
  reader.push(gunzipSync(readFileSync(path)));
  reader.end();
}

/** Keeps what it is given, in that order. */
class Keeper extends CallReader {
  readonly events: Recorded[] = [];

  #keep(event: TraceEvent, isAmd: boolean): void {
    const { kind, line, timeNs, pid, cpu, irqContext, iova, nrBytes, paddr, extra, device, text } = event;
    const first = event.listLength > 0 ? event.list[0] : -1;
    const words = isAmd || kind === EventKind.qiSubmit ? Array.from(event.words.subarray(0, 4)) : [];
    this.events.push({
      isAmd,
      kind,
      line,
      timeNs,
      pid,
      cpu,
      irqContext,
      iova,
      nrBytes,
      paddr,
      extra,
      device,
      first,
      text,
      words,
    });
  }

  override event(event: TraceEvent): void {
    this.#keep(event, false);
    super.event(event);
  }

  override amdCommand(event: TraceEvent): void {
    this.#keep(event, true);
    super.amdCommand(event);
  }
}

export interface Loaded {
  readonly names: Names;
  readonly events: readonly Recorded[];
}

export function load({ folder, isAmd }: Recording): Loaded {
  const names = new Names();
  const keeper = new Keeper(names);
  if (isAmd) {
    const file = new CommandFile();
    read(join(folder, 'amd-commands.txt.gz'), new Names(), file);
    const merge = new CommandMerge(keeper, file);
    read(join(folder, 'trace.txt.gz'), names, merge);
    merge.finish();
  } else {
    read(join(folder, 'trace.txt.gz'), names, keeper);
  }
  return { names, events: keeper.events };
}

/** Audits a list of events. */
export function audit(names: Names, events: readonly Recorded[], cachingMode: boolean | null = null): AuditResult {
  const reader = new CallReader(names);
  const event = new TraceEvent();
  for (const from of events) {
    event.kind = from.kind as EventKind;
    event.line = from.line;
    event.timeNs = from.timeNs;
    event.pid = from.pid;
    event.cpu = from.cpu;
    event.irqContext = from.irqContext;
    event.iova = from.iova;
    event.nrBytes = from.nrBytes;
    event.paddr = from.paddr;
    event.extra = from.extra;
    event.device = from.device;
    event.listLength = from.first < 0 ? 0 : 1;
    event.list[0] = from.first;
    event.text = from.text;
    for (let i = 0; i < from.words.length; i++) event.words[i] = from.words[i];
    if (from.isAmd) reader.amdCommand(event);
    else reader.event(event);
  }
  reader.finish();
  return judge(reader, names, { cachingMode, hasIrqContext: true });
}
