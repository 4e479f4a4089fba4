/**
 * What the policies view is asked for, as the page's address says it. Keys: `trace` (a bundled recording) or `open` (opened.ts),
 * `map`, `unmap`, `hardware`, `preset`, `caching` as the options of `iommukit replay`; `run`, `from`, `to` say what the
 * timeline shows. What is left out is as the command line has it. A dropped file has no address: the link then holds the rest.
 */
import type { MapFlush } from '../../../src/drivers/index.ts';
import { MAP_FLUSHES, UNMAP_FLUSHES } from '../../../src/drivers/index.ts';
import type { HardwareModel, UnmapPolicy } from '../../../src/replay/index.ts';
import { HARDWARE_MODELS, PRESETS_OF, UNMAP_POLICIES } from '../../../src/replay/index.ts';

/** A recording that comes with the page. */
export interface Bundled {
  readonly name: string;
  readonly title: string;
}

export interface Choice {
  /** Name of a bundled recording, '' for none. */
  readonly trace: string;
  readonly mapFlush: readonly MapFlush[];
  readonly unmapFlush: readonly UnmapPolicy[];
  readonly hardware: HardwareModel | undefined;
  readonly preset: string;
  readonly cachingMode: 'on' | 'off' | undefined;
}

/** What the timeline shows. */
export interface TimelineChoice {
  /** Name of the run's timeline, `sync-map, lazy`; '' for the first. */
  readonly run: string;
  /** Seconds of the trace's clock; NaN for its begin and end. */
  readonly from: number;
  readonly to: number;
}

export const BUNDLED: readonly Bundled[] = [
  {
    name: 'intel-cmon-strict-small-6.12',
    title: 'Linux 6.12 under QEMU’s VT-d with caching mode: NVMe, network and disk, 15,072 events',
  },
];

export const PRESETS: readonly string[] = [...new Set(Object.values(PRESETS_OF).flat())].toSorted((a, b) =>
  a.localeCompare(b, 'en', { numeric: true }),
);

export const DEFAULT_CHOICE: Choice = {
  trace: '',
  mapFlush: MAP_FLUSHES,
  unmapFlush: UNMAP_FLUSHES,
  hardware: undefined,
  preset: 'linux-6.12',
  cachingMode: undefined,
};

/** A link that cannot be read. The message says which part. */
export class LinkProblem extends Error {
  override readonly name = 'LinkProblem';
}

/** @throws LinkProblem */
export function parseChoice(params: URLSearchParams): Choice {
  const trace = params.get('trace') ?? '';
  if (trace !== '' && !BUNDLED.some(({ name }) => name === trace)) {
    throw new LinkProblem(
      `'${excerpt(trace)}' is no recording that comes with the page; there is ${BUNDLED.map(({ name }) => name).join(', ')}.`,
    );
  }
  if (trace !== '' && params.has('open')) throw new LinkProblem('This link names two traces, trace= and open=.');
  return {
    trace,
    mapFlush: listOf(params, 'map', MAP_FLUSHES, DEFAULT_CHOICE.mapFlush),
    unmapFlush: listOf(params, 'unmap', UNMAP_POLICIES, DEFAULT_CHOICE.unmapFlush),
    hardware: wordOf(params, 'hardware', HARDWARE_MODELS),
    preset: wordOf(params, 'preset', PRESETS) ?? DEFAULT_CHOICE.preset,
    cachingMode: wordOf(params, 'caching', ['on', 'off']),
  };
}

/** @throws LinkProblem */
export function parseTimeline(params: URLSearchParams): TimelineChoice {
  const [from, to] = [secondsOf(params, 'from'), secondsOf(params, 'to')];
  if (from >= to) throw new LinkProblem(`The timeline of this link begins at ${from} s and ends before, at ${to} s.`);
  return { run: params.get('run') ?? '', from, to };
}

/** Writes a choice over what the address says of one; other keys stay. */
export function withChoice(params: URLSearchParams, choice: Choice): URLSearchParams {
  return written(params, {
    trace: choice.trace,
    map: sameList(choice.mapFlush, DEFAULT_CHOICE.mapFlush) ? '' : choice.mapFlush.join(','),
    unmap: sameList(choice.unmapFlush, DEFAULT_CHOICE.unmapFlush) ? '' : choice.unmapFlush.join(','),
    hardware: choice.hardware ?? '',
    preset: choice.preset === DEFAULT_CHOICE.preset ? '' : choice.preset,
    caching: choice.cachingMode ?? '',
  });
}

export function withTimeline(params: URLSearchParams, { run, from, to }: TimelineChoice): URLSearchParams {
  return written(params, {
    run,
    from: Number.isNaN(from) ? '' : from.toFixed(9),
    to: Number.isNaN(to) ? '' : to.toFixed(9),
  });
}

function written(params: URLSearchParams, values: Readonly<Record<string, string>>): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const [key, value] of Object.entries(values)) {
    if (value === '') next.delete(key);
    else next.set(key, value);
  }
  return next;
}

function listOf<T extends string>(
  params: URLSearchParams,
  key: string,
  known: readonly T[],
  otherwise: readonly T[],
): readonly T[] {
  const text = params.get(key);
  if (text === null) return otherwise;
  return [...new Set(text.split(',').map((word) => knownWord(word, key, known)))];
}

function wordOf<T extends string>(params: URLSearchParams, key: string, known: readonly T[]): T | undefined {
  const text = params.get(key);
  return text === null ? undefined : knownWord(text, key, known);
}

function knownWord<T extends string>(word: string, key: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === word);
  if (found === undefined) {
    throw new LinkProblem(`${key}= of this link says '${excerpt(word)}'; there are ${known.join(', ')}.`);
  }
  return found;
}

function secondsOf(params: URLSearchParams, key: string): number {
  const text = params.get(key);
  if (text === null) return NaN;
  if (!/^\d{1,12}(\.\d{1,12})?$/.test(text)) {
    throw new LinkProblem(`${key}= of this link says '${excerpt(text)}', which are no seconds of a trace's clock.`);
  }
  return Number(text);
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((word, i) => word === b[i]);
}

function excerpt(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 80)}…`;
}
