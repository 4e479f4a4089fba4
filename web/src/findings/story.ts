/**
 * A finding as the view shows it: what is broken, and the steps that lead there. A played counterexample has all steps and the
 * machine after each; a finding of a report alone has those that the report tells.
 */
import type { FindingReport, HeldEntry, Mark, MarkKind } from '../../../src/check/index.ts';
import type { Sequence } from '../../../src/lab/index.ts';
import type { AuditFinding } from './reports.ts';

export interface StoryStep {
  /** Who acts, or the line of a trace. */
  readonly by: string;
  readonly text: string;
}

export interface Story {
  /** The promise; or, for what is none, the verdict. */
  readonly contract: string;
  /** One line for the list. */
  readonly title: string;
  readonly facts: readonly (readonly [string, string])[];
  readonly steps: readonly StoryStep[];
  readonly marks: readonly Mark[];
  readonly held: readonly HeldEntry[];
  /** The played counterexample with its machines; null where there are only words. */
  readonly sequence: Sequence | null;
}

/** Word and shape of each mark: the shape repeats what the colour says. */
export const MARKS: Readonly<Record<MarkKind, { readonly word: string; readonly shape: string }>> = {
  cached: { word: 'cached here', shape: '●' },
  'made-stale': { word: 'made stale here', shape: '▲' },
  'returned-too-early': { word: 'returned too early', shape: '■' },
  'freed-too-early': { word: 'freed too early', shape: '■' },
  'used-stale': { word: 'used while stale', shape: '✖' },
  'left-wrong': { word: 'wrong from here on, no cache to blame', shape: '◆' },
};

const ACTORS: Readonly<Record<string, string>> = {
  call: 'caller',
  driver: 'driver',
  hardware: 'hardware',
  time: 'time',
  judge: 'device',
};

export function storyOfSequence(sequence: Sequence, facts: Story['facts'] = []): Story {
  const { contract, scenario, title, setup, driver, broken, failure, isShown, steps } = sequence;
  return {
    contract,
    title: `${title || scenario}: ${setup}`,
    facts: [
      ['Scenario', title === '' ? scenario : `${scenario}: ${title}`],
      ['Machine and caller', setup],
      ...(driver === null ? [] : [['Driver', driver === 'own' ? 'your own' : `with known bug ${driver}`] as const]),
      ...(isShown ? [] : [['Result', `${contract} held: the schedule shows nothing on this version`] as const]),
      ...(failure === '' ? [] : [['The scenario says', failure] as const]),
      ...(broken?.held ?? []).map(({ text }) => ['To blame', text] as const),
      ...facts,
    ],
    steps: steps.map(({ by, text }) => ({ by: ACTORS[by] ?? by, text })),
    marks: broken?.marks ?? [],
    held: broken?.held ?? [],
    sequence,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}

/** What `iommukit check` says of a finding, in the order in which it happened. */
export function storyOfCheck(finding: Omit<FindingReport, 'given'>): Story {
  const { scenario, setup, verdict, contract, call, iova, nrBytes, message, detail, more, seed, calls = [] } = finding;
  const steps: StoryStep[] = calls.map((text) => ({ by: 'caller', text }));
  const marks: Mark[] = [];
  const add = (by: string, text: string, mark: MarkKind | null): void => {
    if (mark !== null) marks.push({ at: steps.length, mark, entry: -1 });
    steps.push({ by, text });
  };
  const { stale, store, kind, missing, nearest } = detail;
  if (typeof store === 'object' && store !== null) {
    const { paddr, before, after }: { paddr?: unknown; before?: unknown; after?: unknown } = store;
    const at = typeof paddr === 'number' ? `0x${paddr.toString(16)}` : textOf(paddr);
    add('driver', `writes ${textOf(after)} at ${at}, where ${textOf(before)} was`, 'made-stale');
  }
  if (Array.isArray(nearest))
    for (const one of nearest) add('hardware', `does, and it does not cover it: ${textOf(one)}`, null);
  if (call !== null) add('caller', `${call} returns`, contract === 'C-TABLE-LIVE' ? null : 'returned-too-early');
  if (typeof stale === 'string') add('device', `may be served by ${stale} (${textOf(kind)})`, 'used-stale');
  return {
    contract: contract ?? verdict,
    title: `${scenario}: ${setup}`,
    facts: [
      ['Scenario', scenario],
      ['Machine and caller', setup],
      ...(iova === null ? [] : [['Pages', `${iova}+0x${nrBytes.toString(16)}`] as const]),
      ...(typeof missing === 'string' && missing !== '' ? [['Missing', missing] as const] : []),
      ...(message === null ? [] : [['Message', message] as const]),
      ...(seed === undefined ? [] : [['Random program', `seed ${seed}, shortened`] as const]),
      ...(more > 0 ? [['More', `${more} further cases of this scenario`] as const] : []),
    ],
    steps,
    marks,
    held: [],
    sequence: null,
  };
}

/** What `iommukit audit` says of a call: lines of the trace, in their order. */
export function storyOfAudit({ contract, line, iova, domain, detail }: AuditFinding): Story {
  const place = iova === null ? 'an attachment' : `the call at ${iova}`;
  const lines = new Map<number, { text: string; mark: MarkKind | null }>();
  lines.set(line, { text: place, mark: 'made-stale' });
  // Where the result names further lines of the trace, they are steps too.
  for (const part of detail.split(/; |, and |, (?=other )/)) {
    for (const [, number] of part.matchAll(/\bline (\d{1,15})\b/g)) {
      const at = Number(number);
      const isEnd = part.includes(`ended (line ${number})`);
      const known = lines.get(at);
      if (known === undefined) lines.set(at, { text: part, mark: isEnd ? 'returned-too-early' : null });
    }
  }
  const sorted = [...lines].toSorted(([a], [b]) => a - b);
  const marks = sorted.flatMap(([, { mark }], at): Mark[] => (mark === null ? [] : [{ at, mark, entry: -1 }]));
  const hasEnd = marks.some(({ mark }) => mark === 'returned-too-early');
  const call = sorted.findIndex(([at]) => at === line);
  return {
    contract,
    title: `line ${line}${iova === null ? '' : `, ${iova}`}${domain === null ? '' : `, domain ${domain}`}: ${detail}`,
    facts: [
      ['Line of the trace', String(line)],
      ...(iova === null ? [] : [['Address', iova] as const]),
      ['Domain', domain === null ? 'the trace tells none' : String(domain)],
      ['What is wrong', detail],
    ],
    steps: sorted.map(([at, { text }]) => ({ by: `line ${at}`, text })),
    marks:
      hasEnd || contract === 'C-LAZY-BOUND' ? marks : [...marks, { at: call, mark: 'returned-too-early', entry: -1 }],
    held: [],
    sequence: null,
  };
}
