/** The findings of a report file: the same list and sequences over data that the page carries, with no worker. */
import type { JSX } from 'preact';
import type { CheckReport } from '../../../src/check/index.ts';
import type { Sequence } from '../../../src/lab/index.ts';
import { FindingsBrowser } from './findings-browser.tsx';
import type { AuditFinding } from './reports.ts';
import { storyOfAudit, storyOfCheck, storyOfSequence } from './story.ts';
import type { Story } from './story.ts';

/** Of the embedded data, what this view needs. */
export type FindingsData =
  | {
      readonly kind: 'check';
      readonly report: Pick<CheckReport, 'findings'>;
      readonly sequences?: readonly (Sequence | null)[];
    }
  | { readonly kind: 'audit'; readonly report: { readonly findings: readonly AuditFinding[] } }
  | { readonly kind: 'schedule'; readonly sequence: Sequence };

function storiesOf(data: FindingsData): Story[] {
  if (data.kind === 'schedule') return [storyOfSequence(data.sequence)];
  if (data.kind === 'audit') return data.report.findings.map(storyOfAudit);
  return data.report.findings.map((finding, i) => {
    const sequence = data.sequences?.[i] ?? null;
    const told = storyOfCheck(finding);
    return sequence === null
      ? told
      : storyOfSequence(
          sequence,
          told.facts.filter(([name]) => name === 'Missing' || name === 'More'),
        );
  });
}

/** Stories by data: a report is read once. */
const known = new WeakMap<FindingsData, Story[]>();

export function FindingsReport({ data }: { readonly data: FindingsData }): JSX.Element {
  const stories = known.get(data) ?? storiesOf(data);
  known.set(data, stories);
  return <FindingsBrowser stories={stories} />;
}
