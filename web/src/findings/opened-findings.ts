/** What the findings view looks at: an example, a file within the link or of `iommukit ui`, one that the user opened; and its stories. */
import { effect, signal } from '@preact/signals';
import { address, go } from '../address.ts';
import { engine } from '../engine/engine.ts';
import { JobError } from '../engine/protocol.ts';
import { openedFile } from '../opened.ts';
import { EXAMPLES } from './examples.ts';
import type { Wanted } from './finding-jobs.ts';
import { packed, unpacked } from './link-text.ts';
import type { CheckFile, Dropped } from './reports.ts';
import { FileProblem, MOST_TEXT, cut, readDropped } from './reports.ts';
import type { Story } from './story.ts';
import { storiesOfAudit, storyOfCheck, storyOfPlayed, storyOfSequence } from './story.ts';

export interface Opened {
  readonly stories: readonly Story[];
  /** By story: what to look for in order to play it; null for what is played or cannot be. */
  readonly wanted: readonly (Wanted | null)[];
  /** About the whole file; empty for nothing. */
  readonly note: string;
}

export type State =
  | { readonly kind: 'none' }
  | { readonly kind: 'loading' }
  /** A file that only this link's maker had. */
  | { readonly kind: 'missing'; readonly file: string }
  | { readonly kind: 'problem'; readonly message: string }
  | { readonly kind: 'ready'; readonly opened: Opened };

export const state = signal<State>({ kind: 'none' });
/** Why a file was not opened; empty for nothing. What was there before goes on being shown. */
export const refusal = signal('');
/** What is being looked for, by the index of the story; the text is for people. */
export const search = signal<Readonly<Record<number, string>>>({});

/** Texts of files that were opened here, by name: going back must not ask again. */
const texts = new Map<string, string>();
const PROBLEM = 'Something went wrong that should not have: ';

function messageOf(error: unknown): string {
  if (error instanceof FileProblem) return error.message;
  if (error instanceof JobError) return `The schedule cannot be played: ${error.message}.`;
  return PROBLEM + (error instanceof Error ? error.message : String(error));
}

async function openedOf(dropped: Dropped): Promise<Opened> {
  if (dropped.kind === 'schedule') {
    const sequence = await engine().run('playCounterexample', { text: dropped.text });
    return { stories: [storyOfSequence(sequence)], wanted: [null], note: '' };
  }
  if (dropped.kind === 'audit') {
    const { findings, nrFindings, trace } = dropped.report;
    const rest =
      nrFindings > findings.length ? ` The file has the first ${findings.length} of ${nrFindings} findings.` : '';
    const other = trace.commands === null ? '' : `, those of commands of ${cut(trace.commands)}`;
    const note = `Audit of ${cut(trace.file)}.${rest} Line numbers are those of the trace${other}.`;
    return { stories: storiesOfAudit(dropped.report), wanted: findings.map(() => null), note };
  }
  const { driver, findings } = dropped.report;
  return {
    stories: findings.map(storyOfCheck),
    wanted: findings.map((finding) => wantedOf(dropped.report, finding)),
    note:
      driver === null
        ? ''
        : `Check of the driver ${cut(driver)}, which is not here: the steps are those that the report tells. iommukit check ${cut(driver)} -o report.html plays them.`,
  };
}

function wantedOf(
  { driver }: CheckFile,
  { given, scenario, contract, iova }: CheckFile['findings'][number],
): Wanted | null {
  return driver !== null || given === null || contract === null ? null : { scenario, given, contract, iova };
}

/** Of the address: which source it names. */
function sourceOf(params: URLSearchParams): string {
  for (const key of ['example', 'z', 'file', 'open']) {
    const value = params.get(key);
    if (value !== null) return `${key}:${value}`;
  }
  return '';
}

let shownSource = '';
let nrLoads = 0;

async function load(source: string): Promise<void> {
  nrLoads += 1;
  const thisLoad = nrLoads;
  search.value = {};
  refusal.value = '';
  if (source === '') {
    state.value = { kind: 'none' };
    return;
  }
  const colon = source.indexOf(':');
  const [kind, value] = [source.slice(0, colon), source.slice(colon + 1)];
  if (kind === 'file' && !texts.has(value)) {
    state.value = { kind: 'missing', file: cut(value) };
    return;
  }
  state.value = { kind: 'loading' };
  let next: State;
  try {
    const text = await textOf(kind, value);
    next = { kind: 'ready', opened: await openedOf(readDropped(text)) };
    if (kind === 'open') await keepInLink(text, thisLoad);
  } catch (error) {
    next = { kind: 'problem', message: messageOf(error) };
  }
  // A later one may have been asked for meanwhile.
  if (thisLoad === nrLoads) state.value = next;
}

/** Puts a served file into the link, if it is small enough: the link then works when its server has ended. */
async function keepInLink(text: string, thisLoad: number): Promise<void> {
  const link = await packed(shortened(text));
  if (link === null || thisLoad !== nrLoads) return;
  const params = new URLSearchParams(address.value.params);
  params.delete('open');
  params.set('z', link);
  shownSource = sourceOf(params);
  go('findings', params, true);
}

/** Without what comes out when it is played: the story of a schedule. */
function shortened(text: string): string {
  const json: unknown = JSON.parse(text);
  return JSON.stringify(typeof json === 'object' && json !== null && 'tape' in json ? { ...json, steps: [] } : json);
}

async function textOf(kind: string, value: string): Promise<string> {
  if (kind === 'z') return await unpacked(value);
  if (kind === 'file') return texts.get(value) ?? '';
  if (kind === 'open') return await readFile(await served(value));
  const example = EXAMPLES.find(({ id }) => id === value);
  if (example === undefined) {
    throw new FileProblem(
      `This link asks for an example '${cut(value)}'; there are ${EXAMPLES.map(({ id }) => id).join(', ')}.`,
    );
  }
  return example.text;
}

effect(() => {
  const { view, params } = address.value;
  const source = sourceOf(params);
  if (view !== 'findings' || source === shownSource) return;
  shownSource = source;
  void load(source);
});

export function openExample(id: string): void {
  go('findings', new URLSearchParams({ example: id }));
}

/** The file that `iommukit ui FILE` serves. */
async function served(path: string): Promise<File> {
  try {
    return await openedFile(new URLSearchParams({ open: path }));
  } catch (error) {
    throw new FileProblem(error instanceof Error ? error.message : String(error));
  }
}

async function readFile(file: File): Promise<string> {
  if (file.size > MOST_TEXT) throw new FileProblem(`The file has ${file.size} bytes; at most ${MOST_TEXT} are read.`);
  return await file.text();
}

/** Opens a file of the user's. What is shown stays when it cannot be used. */
export async function openFile(file: File): Promise<void> {
  refusal.value = '';
  try {
    const text = await readFile(file);
    // A schedule is played before anything else is given up.
    await openedOf(readDropped(text));
    texts.set(file.name, text);
    const link = await packed(shortened(text));
    const { params } = address.value;
    // Somebody's link to this very file: his finding and step stay.
    const next = params.get('file') === file.name ? new URLSearchParams(params) : new URLSearchParams();
    next.delete('file');
    if (link === null) next.set('file', file.name);
    else next.set('z', link);
    shownSource = '';
    go('findings', next);
  } catch (error) {
    refusal.value = `${cut(file.name)}: ${messageOf(error)}`;
  }
}

/** Looks for a schedule of a story, and puts it in its place. */
export async function lookFor(index: number): Promise<void> {
  const before = state.value;
  if (before.kind !== 'ready' || search.value[index] !== undefined) return;
  const wanted = before.opened.wanted[index];
  if (wanted === undefined || wanted === null) return;
  /** What is open now, unless something else was opened meanwhile. */
  const same = (): Opened | null => {
    const now = state.value;
    return now.kind === 'ready' && now.opened.wanted === before.opened.wanted ? now.opened : null;
  };
  const say = (text: string): void => {
    if (same() !== null) search.value = { ...search.value, [index]: text };
  };
  say('Looking for a schedule of the hardware that shows this…');
  try {
    const sequence = await engine().run('findCounterexample', wanted);
    const opened = same();
    if (opened === null) return;
    if (sequence === null) {
      say('No schedule of the hardware was found that shows this; the steps are those that the report tells.');
      return;
    }
    const stories = opened.stories.with(index, storyOfPlayed(sequence, opened.stories[index]));
    state.value = { kind: 'ready', opened: { ...opened, stories } };
    say('Played: a shortest schedule of the hardware that shows this.');
  } catch (error) {
    say(messageOf(error));
  }
}
