/** The policies view of a report file: the same results, from the data that the file carries. No worker, no address of its own. */
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { ReplayLab } from '../../../src/report/index.ts';
import { unpackTimeline } from '../../../src/report/index.ts';
import type { TimelineChoice } from './choice.ts';
import { Results } from './results.tsx';

/** @throws RangeError when a timeline of the data is damaged */
export function PoliciesReport({ lab }: { readonly lab: ReplayLab }): JSX.Element {
  const timelines = useMemo(() => lab.timelines.map(unpackTimeline), [lab]);
  const [choice, setChoice] = useState<TimelineChoice>({ run: '', from: NaN, to: NaN });
  return (
    <div class="policies-view">
      <h2>Policies</h2>
      {lab.report.interrupted ? <p>This replay was interrupted; the last row is not complete.</p> : null}
      <Results report={lab.report} timelines={timelines} choice={choice} onChoice={setChoice} />
    </div>
  );
}
