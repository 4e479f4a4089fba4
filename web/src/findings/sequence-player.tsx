/** Steps through a story, both ways: keys, buttons, a slider, the steps themselves, and the marks. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Mark } from '../../../src/check/index.ts';
import { machineAt } from '../../../src/lab/index.ts';
import { MachinePanel } from './machine-panel.tsx';
import type { Story } from './story.ts';
import { MARKS } from './story.ts';

function MarkBadge({ mark, story }: { readonly mark: Mark; readonly story: Story }): JSX.Element {
  const { word, shape } = MARKS[mark.mark];
  const held = story.held[mark.entry];
  return (
    <span class={`finding-mark finding-${mark.mark}`} data-mark={mark.mark}>
      <span aria-hidden="true">{shape}</span> {word}
      {held === undefined ? null : <span class="finding-held">: {held.text}</span>}
    </span>
  );
}

export interface SequencePlayerProps {
  readonly story: Story;
  /** From 0. */
  readonly step: number;
  /** @param isSmall a step too small for the browser's history */
  readonly onStep: (step: number, isSmall: boolean) => void;
}

export function SequencePlayer({ story, step, onStep }: SequencePlayerProps): JSX.Element {
  const { steps, marks, sequence } = story;
  const last = steps.length - 1;
  const current = useRef<HTMLLIElement>(null);
  useEffect(() => {
    // Within the list only: the page stays where the reader has it.
    const item = current.current;
    const list = item?.closest<HTMLElement>('.finding-steps');
    if (item === null || list === null || list === undefined) return;
    const above = item.getBoundingClientRect().top - list.getBoundingClientRect().top;
    const below = above + item.offsetHeight - list.clientHeight;
    if (above < 0) list.scrollTop += above;
    else if (below > 0) list.scrollTop += below;
  }, [step, story]);
  const to = (target: number, isSmall = true): void => {
    const next = Math.max(0, Math.min(last, target));
    if (next !== step) onStep(next, isSmall);
  };
  const key = (event: KeyboardEvent): void => {
    // The slider has arrow keys of its own, which do the same.
    if (event.altKey || event.ctrlKey || event.metaKey || event.target instanceof HTMLInputElement) return;
    const target = {
      ArrowLeft: step - 1,
      ArrowUp: step - 1,
      ArrowRight: step + 1,
      ArrowDown: step + 1,
      Home: 0,
      End: last,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    to(target);
  };
  const here = marks.filter(({ at }) => at === step);
  const machine = sequence === null ? null : machineAt(sequence, step);
  const before = sequence === null || step === 0 ? null : machineAt(sequence, step - 1);
  const { by, text } = steps[step];
  return (
    // oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- keys of the whole player, each with a button as well
    <div class="finding-player" onKeyDown={key}>
      <div class="finding-controls" role="group" aria-label="Step through the sequence">
        <button type="button" onClick={() => to(0)} disabled={step === 0}>
          First
        </button>
        <button type="button" onClick={() => to(step - 1)} disabled={step === 0}>
          Back
        </button>
        <button type="button" class="primary" onClick={() => to(step + 1)} disabled={step === last}>
          Forward
        </button>
        <button type="button" onClick={() => to(last)} disabled={step === last}>
          Last
        </button>
        <input
          type="range"
          min={1}
          max={steps.length}
          value={step + 1}
          aria-label="Step"
          aria-valuetext={`step ${step + 1} of ${steps.length}, ${by}: ${text}`}
          onInput={(event) => to(Number(event.currentTarget.value) - 1)}
        />
        <span class="quiet">
          {step + 1} of {steps.length}
        </span>
      </div>
      {marks.length === 0 ? null : (
        <ul class="finding-jumps" aria-label="Marked steps">
          {marks.map((mark, i) => (
            <li key={i}>
              <button type="button" onClick={() => to(mark.at, false)} aria-pressed={mark.at === step}>
                <span aria-hidden="true">{MARKS[mark.mark].shape}</span> {MARKS[mark.mark].word} (step {mark.at + 1})
              </button>
            </li>
          ))}
        </ul>
      )}
      <p role="status" class="finding-now">
        Step {step + 1} of {steps.length}, {by}: {text}
        {here.map((mark, i) => (
          <MarkBadge key={i} mark={mark} story={story} />
        ))}
      </p>
      <div class="finding-columns">
        <div
          class="finding-scroll finding-steps"
          tabIndex={0}
          role="region"
          aria-label="Steps; arrow keys go back and forward"
        >
          <ol>
            {steps.map((each, at) => (
              <li
                key={at}
                {...(at === step ? { ref: current } : {})}
                aria-current={at === step ? 'step' : undefined}
                data-step={at}
              >
                <button type="button" tabIndex={-1} onClick={() => to(at, false)}>
                  <span class="finding-by">{each.by}</span> {each.text}
                </button>
                {marks
                  .filter((mark) => mark.at === at)
                  .map((mark, i) => (
                    <MarkBadge key={i} mark={mark} story={story} />
                  ))}
              </li>
            ))}
          </ol>
        </div>
        {machine === null ? (
          <p class="quiet finding-machine">
            {sequence === null
              ? 'The report tells these steps only; it does not say what the machine held.'
              : 'The machine after this step is not kept: the sequence is too long.'}
          </p>
        ) : (
          <MachinePanel machine={machine} before={before} />
        )}
      </div>
    </div>
  );
}
