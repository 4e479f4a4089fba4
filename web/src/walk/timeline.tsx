/** The steps of the program; the arrow keys go back and forth. */
import type { JSX } from 'preact';
import type { LabRun, LabState } from '../../../src/lab/index.ts';
import { Mark, ResultMark } from './marks.tsx';
import { change, goTo } from './state.ts';

/** As many steps are listed before and after the shown one: scenarios have thousands. */
const NEAR = 40;

export function Timeline({ state, run }: { readonly state: LabState; readonly run: LabRun }): JSX.Element {
  const { step } = state;
  const last = run.steps.length - 1;
  const listed = run.steps.slice(Math.max(0, step - NEAR), step + NEAR + 1);
  return (
    <nav class="panel timeline" aria-label="Steps">
      <h3>Steps</h3>
      <div class="group">
        <button type="button" onClick={() => goTo((at) => at - 1)} disabled={step === 0}>
          <span aria-hidden="true">← </span>Back
        </button>
        <button type="button" onClick={() => goTo((at) => at + 1)} disabled={step === last}>
          Forward<span aria-hidden="true"> →</span>
        </button>
        <span>
          step {step} of {last}
        </span>
        <button
          type="button"
          onClick={() => change((from) => ({ ...from, program: { ...from.program, actions: [] }, step: 0 }))}
          disabled={last === 0}
        >
          Start anew
        </button>
      </div>
      <p class="quiet">
        Arrow keys left and right, Home and End go through the steps. A new action drops the steps after this one.
      </p>
      <ol start={listed[0]?.step ?? 0}>
        {listed.map((report) => (
          <li key={report.step} class={report.step === step ? 'shown' : ''}>
            <button
              type="button"
              class="step"
              aria-current={report.step === step ? 'step' : undefined}
              onClick={() => goTo(() => report.step)}
            >
              {report.step}. {report.label}
            </button>{' '}
            {report.result === 'done' ? null : <ResultMark result={report.result} />}
            {report.nrCommands === 0 ? null : (
              <span class="quiet">
                {' '}
                {report.nrCommands} {report.nrCommands === 1 ? 'invalidation' : 'invalidations'}
              </span>
            )}
            {report.nrFindings === 0 ? null : (
              <>
                {' '}
                <Mark tone="bad">
                  {report.nrFindings === 1 ? '1 promise broken' : `${report.nrFindings} promises broken`}
                </Mark>
              </>
            )}
          </li>
        ))}
      </ol>
    </nav>
  );
}
