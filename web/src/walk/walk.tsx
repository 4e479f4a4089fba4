/** The walk view: a machine that one can drive, step by step. */
import type { JSX } from 'preact';
import { DEFAULT_STATE } from '../../../src/lab/index.ts';
import type { LabSnapshot, LoggedFault } from '../../../src/lab/index.ts';
import { address } from '../address.ts';
import { Actions } from './actions.tsx';
import { Answers, FindingsPanel, MayHoldPanel } from './answers.tsx';
import { CachesPanel, CommandTable, FaultPanel, Panel, QueuePanel, WalkTables } from './machine-panels.tsx';
import { RESULT_WORDS, ResultMark } from './marks.tsx';
import { act, follow, goTo, linkOf, problem, shown } from './state.ts';
import { Story } from './story.tsx';
import { Timeline } from './timeline.tsx';
import { Toolbar } from './toolbar.tsx';
import type { WalkAnswer } from './walk-jobs.ts';
import { GLOSSARY } from './words.ts';
import './walk.css';

follow();
globalThis.addEventListener('keydown', onKey);

/** Where keys have a meaning of their own. */
const TAKES_KEYS = 'input, select, textarea, [role=region]';
const KEYS: Readonly<Record<string, (step: number) => number>> = {
  ArrowLeft: (step) => step - 1,
  ArrowRight: (step) => step + 1,
  Home: () => 0,
  End: () => Infinity,
};

function onKey(event: KeyboardEvent): void {
  if (address.value.view !== 'walk' || shown.value === null) return;
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target instanceof Element && event.target.closest(TAKES_KEYS) !== null) return;
  const next = KEYS[event.key];
  if (next === undefined) return;
  event.preventDefault();
  goTo(next);
}

export function Walk(): JSX.Element {
  const answer = shown.value;
  return (
    <div class="walk-view">
      <h2>Walk</h2>
      <p>
        A machine with devices, an IOMMU and a kernel&rsquo;s driver. Each step changes it; below is what is there then.
        The address of this page is the state: copy it to show the same to somebody else.
      </p>
      {problem.value === '' ? null : (
        <div role="alert" class="problem">
          <p>{problem.value}</p>
          <p>
            Nothing was played. <a href={linkOf(DEFAULT_STATE)}>Begin with a new machine</a>
          </p>
        </div>
      )}
      <Story state={answer?.state ?? null} />
      {answer === null ? null : <Machine answer={answer} />}
      <Glossary />
    </div>
  );
}

function Machine({ answer }: { readonly answer: WalkAnswer }): JSX.Element {
  const { state, run } = answer;
  const { now, before } = run;
  return (
    <>
      <Toolbar answer={answer} />
      <Actions answer={answer} />
      <div class="columns">
        <Timeline state={state} run={run} />
        <div>
          <Outcome now={now} />
          <Answers now={now} />
        </div>
      </div>
      <WalkTables machine={now.machine} before={before?.machine ?? null} />
      <div class="columns wide">
        <CachesPanel
          machine={now.machine}
          before={before?.machine ?? null}
          onEvict={(cache, nth) => act({ do: 'evict', cache, nth })}
        />
        <MayHoldPanel now={now} />
        <FindingsPanel now={now} />
        <FaultPanel faults={now.faults} lost={now.machine.lostFaults} note={faultNote} />
        <Panel title="Commands of this step" hint="What the unit was told while the step went on, waits included.">
          {now.commands.length === 0 ? <p class="quiet">none</p> : <CommandTable commands={now.commands} />}
          <p>
            {now.report.nrCommands} invalidations in this step, {now.nrCommands} since the start
          </p>
        </Panel>
        <QueuePanel queue={now.machine.queue} />
      </div>
    </>
  );
}

function faultNote({ step, isPending }: LoggedFault): string {
  return `step ${step}, ${isPending ? 'in the log' : 'taken out by the kernel'}`;
}

/** What came of the shown step; read aloud when it changes. */
function Outcome({ now }: { readonly now: LabSnapshot }): JSX.Element {
  const { step, label, result, text, nrFindings } = now.report;
  return (
    <section class={`panel outcome ${result}`} aria-labelledby="outcome-title">
      <h3 id="outcome-title">This step</h3>
      <p class="visually-hidden" role="status" aria-live="polite">
        {`Step ${step}, ${label}: ${RESULT_WORDS[result]}. ${text}.${nrFindings === 0 ? '' : ` ${nrFindings} promises broken.`}`}
      </p>
      <p>
        <strong>
          {step}. {label}
        </strong>{' '}
        <ResultMark result={result} />
      </p>
      <p>{text}.</p>
    </section>
  );
}

function Glossary(): JSX.Element {
  return (
    <details class="panel">
      <summary>Words on this page</summary>
      <dl>
        {GLOSSARY.map(([term, text]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
