/** The recorded runs: those in the project, and those of ../shared where that folder is present. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { MapFlush } from '../../src/drivers/index.ts';
import type { Comparison, RunResult } from '../../src/replay/index.ts';
import { Grouper, Player, VtdObserved, attribute, compareRun, planCalls } from '../../src/replay/index.ts';
import type { HardwareModel, Observed, Plan, RunObserver, UnmapPolicy } from '../../src/replay/index.ts';
import { FtraceTextReader, Names, QemuLogReader } from '../../src/trace/index.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const folders = [join(root, 'traces'), join(root, '../shared/traces')];

export interface AmdRecording extends Recording {
  readonly model: 'amdvi';
}

export interface Recording {
  readonly name: string;
  readonly folder: string;
  readonly preset: string;
  readonly cachingMode: boolean;
}

/** Runs of an architecture that have a log of commands, each once. Its kernel is in its name. */
function runFolders(prefix: string, log: string): { name: string; folder: string; preset: string }[] {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => ({ name, folder: join(folder, name) })))
    .filter(({ name, folder }) => name.startsWith(prefix) && existsSync(join(folder, log)))
    .filter(({ name }, index, all) => all.findIndex((other) => other.name === name) === index)
    .map((run) => ({ ...run, preset: `linux-${run.name.slice(run.name.lastIndexOf('-') + 1)}` }));
}

/** Every Intel run once; its hardware is in its name. */
export const recordings: readonly Recording[] = runFolders('intel-', 'qemu-inval.log.gz').map((run) => ({
  ...run,
  cachingMode: run.name.includes('-cmon-'),
}));

/** Every AMD run once, as played: QEMU's unit has NpCache, which makes the kernel strict whatever its command line says. */
export const amdRecordings: readonly AmdRecording[] = runFolders('amd-', 'amd-commands.txt.gz').map((run) => ({
  ...run,
  model: 'amdvi',
  cachingMode: true,
}));

export function recording(name: string): Recording {
  const found = recordings.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no recording ${name}`);
  return found;
}

export function traceText({ folder }: Recording): string {
  return gunzipSync(readFileSync(join(folder, 'trace.txt.gz'))).toString('latin1');
}

/** The plan of a text trace. @param options attributed: with the pass that finds the domain and mode of each call */
export function planOf(text: string, { attributed = false }: { attributed?: boolean } = {}): Plan {
  const names = new Names();
  const grouper = new Grouper(names);
  const reader = new FtraceTextReader(names, grouper);
  reader.push(Buffer.from(text, 'latin1'));
  reader.end();
  grouper.finish();
  return planCalls(grouper, null, attributed ? attribute(grouper) : null);
}

export function observedOf({ folder }: Recording): Observed {
  const observed = new VtdObserved();
  const reader = new QemuLogReader({
    descriptor: (w0, w1, w2, w3, line) => observed.command(w0, w1, w2, w3, line),
    mark: (name) => observed.mark(name),
    tail: () => {},
    skipped: () => {},
  });
  reader.push(gunzipSync(readFileSync(join(folder, 'qemu-inval.log.gz'))));
  reader.end();
  return observed;
}

/** Plays a plan to its end. */
export function play(
  plan: Plan,
  options: {
    preset: string;
    cachingMode: boolean;
    model?: HardwareModel;
    mapFlush?: MapFlush;
    unmapFlush?: UnmapPolicy;
    observer?: RunObserver;
  },
): { player: Player; result: RunResult } {
  const player = new Player(plan, {
    model: options.model ?? 'vtd',
    preset: options.preset,
    cachingMode: options.cachingMode,
    mapFlush: options.mapFlush ?? 'sync-map',
    unmapFlush: options.unmapFlush ?? 'strict',
    keepPages: true,
    ...(options.observer === undefined ? {} : { observer: options.observer }),
  });
  while (player.step(1e6));
  return { player, result: player.result() };
}

export function compare(run: ReturnType<typeof play>, observed: Observed): Comparison {
  const { pages, marks } = run.player;
  if (pages === null) throw new Error('played without keepPages');
  return compareRun({ pages, counts: run.result.commands, domainsTold: true, marks }, observed);
}
