/** The findings of a report file: the same list and sequences over data that the page carries, with no worker. */
import type { JSX } from 'preact';
import type { CheckReport } from '../../../src/check/index.ts';
import type { Sequence } from '../../../src/lab/index.ts';
import { FindingsBrowser } from './findings-browser.tsx';
import type { Story, ToldAudit } from './story.ts';
import { storiesOfAudit, storyOfCheck, storyOfPlayed, storyOfSequence } from './story.ts';

/** Of the embedded data (src/report/lab-data.ts), what this view needs. */
export type FindingsLab =
  | {
      readonly kind: 'check';
      readonly report: Pick<CheckReport, 'findings'>;
      /** By finding; null, or none at all, where a finding was not played. */
      readonly sequences?: readonly (Sequence | null)[];
    }
  | { readonly kind: 'audit'; readonly report: ToldAudit }
  | { readonly kind: 'schedule'; readonly sequence: Sequence };

function storiesOf(lab: FindingsLab): Story[] {
  if (lab.kind === 'schedule') return [storyOfSequence(lab.sequence)];
  if (lab.kind === 'audit') return storiesOfAudit(lab.report);
  return lab.report.findings.map((finding, i) => {
    const told = storyOfCheck(finding);
    const sequence = lab.sequences?.[i] ?? null;
    return sequence === null ? told : storyOfPlayed(sequence, told);
  });
}

/** Stories by data: a report is read once. */
const known = new WeakMap<FindingsLab, Story[]>();

export function FindingsReport({ lab }: { readonly lab: FindingsLab }): JSX.Element {
  const stories = known.get(lab) ?? storiesOf(lab);
  known.set(lab, stories);
  return <FindingsBrowser stories={stories} />;
}
