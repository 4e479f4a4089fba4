/**
 * The policies view's work, in the worker: reads a trace, keeps its calls, and plays them under one policy at a time, so that the
 * page shows each as it ends and a change of the driver or the hardware reads nothing again. One trace is kept; one that cannot be
 * used does not replace it.
 */
import type { MapFlush } from '../../../src/drivers/index.ts';
import type { Plan, ReplayChoice, RunResult, UnmapPolicy } from '../../../src/replay/index.ts';
import { ChoiceProblem, Grouper, chooseHardware, planTrace, playPolicies } from '../../../src/replay/index.ts';
import type { ReplayReport, Timeline } from '../../../src/report/index.ts';
import { TimelineRecorder, factsOf, replayReport } from '../../../src/report/index.ts';
import type { TraceSummary } from '../../../src/trace/index.ts';
import { InputProblem, Names, inputProblemOf } from '../../../src/trace/index.ts';
import type { JobContext } from '../engine/protocol.ts';
import { JobError, Moved } from '../engine/protocol.ts';
import { readTrace } from './trace-input.ts';

/** A choice as the command line has it, without what is asked for per run. */
export type MachineChoice = Omit<ReplayChoice, 'mapFlush' | 'unmapFlush'>;

/** A trace that the worker keeps. */
export interface KeptTrace {
  readonly number: number;
  /** Bytes of it as the file is. */
  readonly size: number;
}

/** A run, and its timeline. */
export interface PlayedPolicy {
  readonly run: RunResult;
  readonly timeline: Timeline;
}

/** Maps and unmaps of one trace: at 100 bytes for each, what a tab can hold. */
const MOST_EVENTS = 8_000_000;

interface Kept {
  readonly number: number;
  readonly name: string;
  readonly plan: Plan;
  readonly summary: TraceSummary;
  readonly devices: readonly string[];
}

let kept: Kept | null = null;
let nrKept = 0;

/** @param tellsRecorded whether `recorded` is among the unmap policies: which domains are lazy is then found out */
export async function keepTrace(
  { file, name, tellsRecorded }: { readonly file: Blob; readonly name: string; readonly tellsRecorded: boolean },
  context: JobContext,
): Promise<KeptTrace> {
  const names = new Names();
  const grouper = new Grouper(names);
  const summary = await readTrace(file, name, names, grouper, limited(context, grouper));
  context.progress('grouping', 0, 0);
  const plan = inWords(name, () =>
    planTrace(grouper, { mapFlush: [], unmapFlush: tellsRecorded ? ['recorded'] : [], preset: '' }, summary),
  );
  const devices = plan.domains.map((domain) => domain.devices.map((device) => device.name).join(', '));
  nrKept += 1;
  kept = { number: nrKept, name, plan, summary, devices };
  return { number: nrKept, size: file.size };
}

/** The report of a kept trace before anything was played. */
export function describeTrace(number: number, choice: MachineChoice): ReplayReport {
  const { name, plan, summary } = keptTrace(number);
  const hardware = inWords('', () => chooseHardware({ ...choice, mapFlush: [], unmapFlush: [] }, null, summary, plan));
  return replayReport(factsOf(name, summary), plan, hardware, [], false);
}

export interface PlayInput {
  readonly trace: number;
  readonly choice: MachineChoice;
  readonly mapFlush: MapFlush;
  readonly unmapFlush: UnmapPolicy;
  /** Most events of the timeline. */
  readonly mostEvents: number;
}

export async function playPolicy(
  { trace, choice, mapFlush, unmapFlush, mostEvents }: PlayInput,
  context: JobContext,
): Promise<Moved<PlayedPolicy>> {
  const { plan, devices } = keptTrace(trace);
  const { hardware } = describeTrace(trace, choice);
  const recorder = new TimelineRecorder(`${mapFlush}, ${unmapFlush}`, mostEvents);
  const { runs } = await playPolicies(
    plan,
    {
      ...hardware,
      preset: choice.preset,
      mapFlush: [mapFlush],
      unmapFlush: [unmapFlush],
      observed: null,
      observedFile: '',
      observerOf: () => recorder,
    },
    {
      onProgress: (done, total) => context.progress('playing', done, total),
      pause: async () => {
        await context.pause();
        return true;
      },
    },
  );
  const [run] = runs;
  if (run === undefined) throw new RangeError('nothing was played');
  const timeline = recorder.timeline(devices);
  return new Moved({ run, timeline }, buffersOf(timeline));
}

function buffersOf({ time, kind, device, iova, pages, windowEnd }: Timeline): ArrayBuffer[] {
  return [time, kind, device, iova, pages, windowEnd].map((column) => {
    if (column.buffer instanceof ArrayBuffer) return column.buffer;
    throw new TypeError('a column of the timeline is shared');
  });
}

function keptTrace(number: number): Kept {
  if (kept?.number === number) return kept;
  throw new JobError('The trace is not in memory any more; open it again.');
}

/** Gives up before the tab does. */
function limited(context: JobContext, grouper: Grouper): JobContext {
  const { counts } = grouper;
  return {
    signal: context.signal,
    progress: (stage, done, total) => context.progress(stage, done, total),
    async pause() {
      if (counts.map + counts.unmap > MOST_EVENTS) {
        throw new InputProblem(
          `holds more than ${MOST_EVENTS.toLocaleString('en-US')} maps and unmaps, which is more than a page should keep in memory; use iommukit replay`,
        );
      }
      await context.pause();
    },
  };
}

/** Problems with the input or the choice as errors for people. */
function inWords<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ChoiceProblem) throw new JobError(error.message);
    const problem = inputProblemOf(error);
    throw problem === null ? error : new JobError(`${name}: ${problem}`);
  }
}
