/**
 * What the policies view shows, and the work behind it. The address says which trace and which policies; a dropped file is the one
 * thing it cannot say. The page reads the trace once in the worker and has each policy played there, so results come one by one.
 * What was shown before stays until the first result of something new is there: a file that is none costs nothing.
 */
import type { Signal } from '@preact/signals';
import { batch, effect, signal } from '@preact/signals';
import type { UnmapPolicy } from '../../../src/replay/index.ts';
import type { MapFlush } from '../../../src/drivers/index.ts';
import type { ReplayReport, Timeline } from '../../../src/report/index.ts';
import { address, go } from '../address.ts';
import { engine } from '../engine/engine.ts';
import { hasOpenedFile, openedFile, openedName } from '../opened.ts';
import bundledUrl from '../../../traces/intel-cmon-strict-small-6.12/trace.txt.gz?url';
import type { Choice } from './choice.ts';
import { LinkProblem, parseChoice, withChoice } from './choice.ts';
import { isResult, readResult } from './opened-result.ts';

/** A report, growing run by run, and the timelines of its runs; null where a run came without. */
export interface Shown {
  readonly report: ReplayReport;
  readonly timelines: readonly (Timeline | null)[];
  /** Policies asked for. */
  readonly nrAsked: number;
}

export interface Working {
  readonly stage: string;
  /** Of `total`; total 0 when that is not known. */
  readonly done: number;
  readonly total: number;
}

export const shown: Signal<Shown | null> = signal(null);
/** What is being done; null when nothing is. */
export const working: Signal<Working | null> = signal(null);
/** What went wrong with what was asked for last; empty when nothing did. */
export const problem: Signal<string> = signal('');
/** Work that was cancelled, in words; empty when none was. */
export const cancelled: Signal<string> = signal('');
/** What the address asks for; null when it cannot be read. */
export const choice: Signal<Choice | null> = signal(null);
/** The dropped file that an address without a trace means. */
const dropped: Signal<File | null> = signal(null);

/** Most events of one timeline, and of all of them: 31 bytes for each. */
const MOST_EVENTS = 2_000_000;
const MOST_EVENTS_OF_ALL = 8_000_000;

/** Where a trace comes from. Equal keys are the same trace. */
interface Source {
  readonly key: string;
  readonly name: string;
  file(signal: AbortSignal): Promise<File>;
}

interface Kept {
  readonly source: string;
  readonly tellsRecorded: boolean;
  readonly number: number;
}

let nrDropped = 0;
/** What was asked for last: nothing is done twice for it. */
let asked = '';
/** What `shown` is of: runs of the same are not played again. */
let shownOf = '';
let kept: Kept | null = null;
let running: AbortController | null = null;

/** Follows the address. Called once, when the view is first shown. */
export function follow(): void {
  effect(() => {
    const { view, params } = address.value;
    if (view !== 'policies') return;
    let wanted: Choice;
    try {
      wanted = parseChoice(params);
    } catch (error) {
      if (!(error instanceof LinkProblem)) throw error;
      choice.value = null;
      stop();
      asked = '';
      problem.value = error.message;
      return;
    }
    choice.value = wanted;
    const source = sourceOf(params, wanted);
    const key = `${source?.key ?? ''} ${JSON.stringify(wanted)}`;
    if (key === asked) return;
    asked = key;
    if (source === null) {
      stop();
      problem.value = '';
    } else void run(source, wanted, () => {});
  });
}

/** Opens a file that the user dropped or picked. The address follows when it turns out to be a trace. */
export function openFile(file: File): void {
  const { params } = address.value;
  let rest = new URLSearchParams(params);
  for (const key of ['trace', 'open', 'run', 'from', 'to']) rest.delete(key);
  let wanted: Choice;
  try {
    wanted = parseChoice(rest);
  } catch {
    // The file is opened as if the link had said nothing.
    rest = new URLSearchParams();
    wanted = parseChoice(rest);
  }
  nrDropped += 1;
  const source = droppedSource(file, nrDropped);
  void run(source, wanted, () => {
    asked = `${source.key} ${JSON.stringify(wanted)}`;
    batch(() => {
      dropped.value = file;
      go('policies', rest);
    });
  });
}

/** Asks for something else of the same trace. */
export function choose(change: Partial<Choice>): void {
  const now = choice.value;
  if (now !== null) go('policies', withChoice(address.value.params, { ...now, ...change }));
}

export function chooseBundled(trace: string): void {
  const params = new URLSearchParams(address.value.params);
  for (const key of ['open', 'run', 'from', 'to']) params.delete(key);
  // What a broken link said is gone then.
  const now = choice.value ?? parseChoice(new URLSearchParams());
  // Asked for again, it is done again.
  asked = '';
  go('policies', withChoice(choice.value === null ? new URLSearchParams() : params, { ...now, trace }));
}

/** Stops what is being done. What was done of it stays. */
export function cancel(): void {
  const now = working.value;
  stop();
  if (now === null) return;
  cancelled.value = `Cancelled while ${now.stage}.`;
}

/** Does again, or goes on with, what was asked for last. */
export function again(): void {
  const wanted = choice.value;
  const source = wanted === null ? null : sourceOf(address.value.params, wanted);
  if (wanted !== null && source !== null) void run(source, wanted, () => {});
}

function stop(): void {
  running?.abort();
  running = null;
  working.value = null;
  cancelled.value = '';
}

function sourceOf(params: URLSearchParams, wanted: Choice): Source | null {
  if (wanted.trace !== '') {
    return { key: `trace ${wanted.trace}`, name: wanted.trace, file: bundledFile };
  }
  if (hasOpenedFile(params)) {
    const copy = new URLSearchParams(params);
    return {
      key: `open ${params.get('open') ?? ''}`,
      name: openedName(params),
      file: async (aborted) => await openedFile(copy, aborted),
    };
  }
  return dropped.value === null ? null : droppedSource(dropped.value, nrDropped);
}

function droppedSource(file: File, number: number): Source {
  return { key: `dropped ${number}`, name: file.name, file: async () => await Promise.resolve(file) };
}

async function bundledFile(aborted: AbortSignal): Promise<File> {
  let bytes: Blob;
  try {
    const answer = await fetch(bundledUrl, { signal: aborted });
    if (!answer.ok) throw new TypeError(`status ${answer.status}`);
    bytes = await answer.blob();
  } catch (error) {
    if (aborted.aborted) throw error;
    throw new Error('The recording could not be fetched. Reload the page.', { cause: error });
  }
  return new File([bytes], 'intel-cmon-strict-small-6.12/trace.txt.gz');
}

/** @param onKept called when the file has turned out to be of use */
async function run(source: Source, wanted: Choice, onKept: () => void): Promise<void> {
  stop();
  const controller = new AbortController();
  running = controller;
  const aborted = controller.signal;
  problem.value = '';
  working.value = { stage: `opening ${source.name}`, done: 0, total: 0 };
  try {
    await play(source, wanted, aborted, onKept);
  } catch (error) {
    if (!aborted.aborted) problem.value = error instanceof Error ? error.message : String(error);
  } finally {
    if (running === controller) {
      running = null;
      working.value = null;
    }
  }
}

async function play(source: Source, wanted: Choice, aborted: AbortSignal, onKept: () => void): Promise<void> {
  const tellsRecorded = wanted.unmapFlush.includes('recorded');
  if (kept?.source !== source.key || kept.tellsRecorded !== tellsRecorded) {
    const file = await source.file(aborted);
    if (await isResult(file)) {
      const report = await readResult(file);
      aborted.throwIfAborted();
      onKept();
      shownOf = '';
      shown.value = { report, timelines: report.runs.map(() => null), nrAsked: report.runs.length };
      return;
    }
    const { number } = await engine().run(
      'keepTrace',
      { file, name: file.name, tellsRecorded },
      { signal: aborted, onProgress: progress('') },
    );
    kept = { source: source.key, tellsRecorded, number };
  }
  onKept();
  const { hardware, preset, cachingMode } = wanted;
  const machine = {
    preset,
    ...(hardware === undefined ? {} : { hardware }),
    ...(cachingMode === undefined ? {} : { cachingMode }),
  };
  const { number } = kept;
  const report = await engine().run('describeTrace', { trace: number, choice: machine }, { signal: aborted });
  const of = JSON.stringify([number, machine]);
  const before = shownOf === of ? shown.value : null;
  const policies = wanted.mapFlush.flatMap((mapFlush) =>
    wanted.unmapFlush.map((unmapFlush) => ({ mapFlush, unmapFlush })),
  );
  const mostEvents = Math.min(MOST_EVENTS, Math.floor(MOST_EVENTS_OF_ALL / policies.length));
  const runs: ReplayReport['runs'][number][] = [];
  const timelines: (Timeline | null)[] = [];
  for (const [i, policy] of policies.entries()) {
    const done = before === null ? null : playedOf(before, policy.mapFlush, policy.unmapFlush);
    const next =
      done ??
      (await engine().run(
        'playPolicy',
        { trace: number, choice: machine, ...policy, mostEvents },
        {
          signal: aborted,
          onProgress: progress(` ${policy.mapFlush}, ${policy.unmapFlush} (${i + 1} of ${policies.length} policies)`),
        },
      ));
    runs.push(next.run);
    timelines.push(next.timeline);
    shownOf = of;
    shown.value = {
      report: { ...report, runs: [...runs], interrupted: runs.length < policies.length },
      timelines: [...timelines],
      nrAsked: policies.length,
    };
  }
}

function playedOf(
  { report, timelines }: Shown,
  mapFlush: MapFlush,
  unmapFlush: UnmapPolicy,
): { readonly run: ReplayReport['runs'][number]; readonly timeline: Timeline | null } | null {
  const at = report.runs.findIndex((one) => one.mapFlush === mapFlush && one.unmapFlush === unmapFlush);
  const played = report.runs[at];
  return played === undefined ? null : { run: played, timeline: timelines[at] ?? null };
}

function progress(of: string): (stage: string, done: number, total: number) => void {
  return (stage, done, total) => {
    if (working.value !== null) working.value = { stage: `${stage}${of}`, done, total };
  };
}
