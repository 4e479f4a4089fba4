/**
 * A finding as the view shows it: what is broken, and the steps that lead there. A played counterexample has all steps and the
 * machine after each; a finding of a report alone has those that the report tells.
 */
import type { AuditFinding, EvidenceRole } from '../../../src/audit/index.ts';
import type { FindingReport, Mark, MarkKind } from '../../../src/check/index.ts';
import type { Sequence } from '../../../src/lab/index.ts';
import type { AuditReport } from '../../../src/report/index.ts';

export interface StoryStep {
  /** Who acts, or the line of a trace. */
  readonly by: string;
  readonly text: string;
  /** The line as it was recorded, null where there is none. From a stranger. */
  readonly quote: string | null;
}

export interface Story {
  /** The promise; or, for what is none, the verdict. */
  readonly contract: string;
  /** One line for the list. */
  readonly title: string;
  readonly facts: readonly (readonly [string, string])[];
  readonly steps: readonly StoryStep[];
  readonly marks: readonly Mark[];
  /** What marks name by `entry`: the stale entries, in words. */
  readonly held: readonly string[];
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
  const held = (broken?.held ?? []).map(({ text }) => text);
  return {
    contract,
    title: `${title || scenario}: ${setup}`,
    facts: [
      ['Scenario', title === '' ? scenario : `${scenario}: ${title}`],
      ['Machine and caller', setup],
      ...(driver === null ? [] : [['Driver', driver === 'own' ? 'your own' : `with known bug ${driver}`] as const]),
      ...(isShown ? [] : [['Result', `${contract} held: the schedule shows nothing on this version`] as const]),
      ...(failure === '' ? [] : [['The scenario says', failure] as const]),
      ...held.map((text) => ['To blame', text] as const),
      ...facts,
    ],
    steps: steps.map(({ by, text }) => ({ by: ACTORS[by] ?? by, text, quote: null })),
    marks: broken?.marks ?? [],
    held,
    sequence,
  };
}

/** What of a report's finding the played counterexample does not tell. */
export function storyOfPlayed(sequence: Sequence, told: Story): Story {
  const rest = told.facts.filter(([name]) => ['Missing', 'Sent, and not enough', 'More'].includes(name));
  return storyOfSequence(sequence, rest);
}

/** What `iommukit check` says of a finding, in the order in which it happened. */
export function storyOfCheck(finding: Omit<FindingReport, 'given'>): Story {
  const { scenario, setup, verdict, contract, call, iova, nrBytes, message, detail, more, seed, calls = [] } = finding;
  const steps: StoryStep[] = calls.map((text) => ({ by: 'caller', text, quote: null }));
  const marks: Mark[] = [];
  const { stale, store, missing, nearest } = detail;
  const held = typeof stale === 'string' ? [stale] : [];
  const add = (by: string, text: string, mark: MarkKind): void => {
    const isOfEntry = mark === 'made-stale' || mark === 'used-stale';
    marks.push({ at: steps.length, mark, entry: isOfEntry && held.length > 0 ? 0 : -1 });
    steps.push({ by, text, quote: null });
  };
  if (typeof store === 'object' && store !== null) {
    const { paddr, before, after }: { paddr?: unknown; before?: unknown; after?: unknown } = store;
    const at = typeof paddr === 'number' ? ` at 0x${paddr.toString(16)}` : '';
    add('driver', `writes ${wordOf(after)}${at}, where ${wordOf(before)} was`, 'made-stale');
  }
  if (call !== null) {
    if (contract === 'C-TABLE-LIVE') add('driver', `gives the table back, in ${call}`, 'freed-too-early');
    else add('caller', `${call} returns`, 'returned-too-early');
  }
  if (held.length > 0) add('device', 'may be served as memory no longer says', 'used-stale');
  const sent = (Array.isArray(nearest) ? nearest : []).filter((text) => typeof text === 'string');
  return {
    contract: contract ?? verdict,
    title: `${scenario}: ${setup}`,
    facts: [
      ['Scenario', scenario],
      ['Machine and caller', setup],
      ...(iova === null ? [] : [['Pages', `${iova}+0x${nrBytes.toString(16)}`] as const]),
      ...held.map((text) => ['To blame', text] as const),
      ...(typeof missing === 'string' && missing !== '' ? [['Missing', missing] as const] : []),
      ...(sent.length === 0 ? [] : [['Sent, and not enough', sent.join('; ')] as const]),
      ...(message === null ? [] : [['Message', message] as const]),
      ...(seed === undefined ? [] : [['Random program', `seed ${seed}, shortened`] as const]),
      ...(more > 0 ? [['More', `${more} further cases of this scenario`] as const] : []),
    ],
    steps,
    marks,
    held,
    sequence: null,
  };
}

function wordOf(value: unknown): string {
  return typeof value === 'string' ? value : 'something';
}

/** What of an audit's report its stories need. */
export type ToldAudit = Pick<AuditReport, 'findings' | 'lines' | 'commandLines'> & {
  readonly trace: Pick<AuditReport['trace'], 'commands'>;
};

/** What `iommukit audit` says of each call: lines of the trace, in the order in which they happened. */
export function storiesOfAudit({ findings, lines, commandLines, trace }: ToldAudit): Story[] {
  const hasCommandFile = trace.commands !== null;
  const texts = new Map(lines.map(({ line, text }) => [line, text]));
  const commandTexts = hasCommandFile ? new Map(commandLines.map(({ line, text }) => [line, text])) : texts;
  return findings.map((finding) => {
    const { contract, line, iova, domain, detail } = finding;
    // Reports of the first version told the line alone.
    const evidence = finding.evidence.length > 0 ? finding.evidence : [{ role: 'change', line } as const];
    const steps = evidence.map((each) => {
      const isOther = hasCommandFile && each.role === 'command';
      const quote = (isOther ? commandTexts : texts).get(each.line) ?? null;
      const by = `${isOther ? 'commands, ' : ''}line ${each.line}`;
      return { by, text: evidenceText(finding, each.role), quote };
    });
    return {
      contract,
      title: `line ${line}${iova === null ? '' : `, ${iova}`}${domain === null ? '' : `, domain ${domain}`}: ${detail}`,
      facts: [
        ['What is wrong', detail],
        ['Caches may still hold', staleText(finding)],
        ['Line of the trace', String(line)],
        ...(iova === null ? [] : [['Address', iova] as const]),
        ['Domain', domain === null ? 'the trace tells none' : String(domain)],
      ],
      steps,
      marks: auditMarks(evidence.map(({ role }) => role)),
      held: [staleText(finding)],
      sequence: null,
    };
  });
}

/** The call is the one that changed the entry; where it ends is told by what its context does next, or by the reuse of its address. */
function auditMarks(roles: readonly EvidenceRole[]): Mark[] {
  const end = roles.findIndex((role) => role === 'end' || role === 'reuse');
  const marks = roles.flatMap((role, at): Mark[] => (role === 'change' ? [{ at, mark: 'made-stale', entry: 0 }] : []));
  const late = end < 0 ? roles.indexOf('change') : end;
  return [...marks, { at: Math.max(0, late), mark: 'returned-too-early', entry: -1 }];
}

function placeOf({ iova, domain }: AuditFinding): string {
  return `${iova ?? 'its pages'}${domain === null ? '' : ` in domain ${domain}`}`;
}

function staleText(finding: AuditFinding): string {
  switch (finding.contract) {
    case 'C-MAP-VISIBLE':
      return `that nothing is mapped at ${placeOf(finding)}`;
    case 'C-UNMAP-GONE':
    case 'C-LAZY-BOUND':
      return `the old translation of ${placeOf(finding)}`;
    case 'C-TABLE-LIVE':
      return `an entry that leads to the page table that was taken away at ${placeOf(finding)}`;
    case 'C-ATTACH':
      return 'the old entry of the device, or what was cached under its domain';
    default:
      return finding.contract satisfies never;
  }
}

function evidenceText(finding: AuditFinding, role: EvidenceRole): string {
  const place = placeOf(finding);
  switch (role) {
    case 'change':
      if (finding.contract === 'C-ATTACH') return 'a device is attached: its entry changes';
      return finding.contract === 'C-MAP-VISIBLE' ? `maps ${place}` : `unmaps ${place}`;
    case 'command':
      return 'a command of the call, which is not enough';
    case 'end':
      return 'what ran the call does the next thing: the call is over';
    case 'reuse':
      return `maps ${place} again`;
    case 'rival':
      return 'this call may be the wrong one instead';
    default:
      return role satisfies never;
  }
}
