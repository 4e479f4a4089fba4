/** What can be done next, and to which page. */
import { signal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { hex } from '../../../src/base/index.ts';
import { DEVICES } from '../../../src/check/index.ts';
import { LAST_PAGE, LabTextError, MOST_ACTIONS, MOST_PAGES, parseIova } from '../../../src/lab/index.ts';
import type { LabAction, LabState, Scope } from '../../../src/lab/index.ts';
import { act, change } from './state.ts';
import type { WalkAnswer } from './walk-jobs.ts';

const PAGE = 4096;
/** The form of the next map; what a step did is in the address, what is about to be done is not. */
const nrPages = signal(4);
const isScattered = signal(true);
const typed = signal<string | null>(null);
const wrong = signal('');

function Group({ title, children }: { readonly title: string; readonly children: ComponentChildren }): JSX.Element {
  return (
    <div class="group" role="group" aria-label={title}>
      <span class="quiet">{title}</span>
      {children}
    </div>
  );
}

function choosePage(text: string): void {
  try {
    const iova = parseIova(text);
    wrong.value = '';
    typed.value = null;
    change((state) => ({ ...state, iova }));
  } catch (error) {
    if (!(error instanceof LabTextError)) throw error;
    wrong.value = error.message;
  }
}

/** A page beside another, within 48-bit addresses. */
function nearPage(iova: number, nr: number): number {
  return Math.max(0, Math.min(LAST_PAGE * PAGE, iova + nr * PAGE));
}

function PageChoice({ state }: { readonly state: LabState }): JSX.Element {
  const { iova } = state;
  const near = (nr: number): void => change((from) => ({ ...from, iova: nearPage(from.iova, nr) }), true);
  return (
    <Group title="The page and the device that are looked at">
      <label>
        Page (IOVA)
        <input
          class="mono"
          size={16}
          value={typed.value ?? hex(iova)}
          aria-invalid={wrong.value !== ''}
          aria-describedby={wrong.value === '' ? undefined : 'page-wrong'}
          onInput={(event) => {
            typed.value = event.currentTarget.value;
          }}
          onChange={(event) => choosePage(event.currentTarget.value)}
        />
      </label>
      <button type="button" onClick={() => near(-1)} disabled={iova === 0}>
        Page before
      </button>
      <button type="button" onClick={() => near(1)}>
        Page after
      </button>
      <label>
        Device
        <select
          value={String(state.device)}
          onChange={(event) => {
            const device = Number(event.currentTarget.value);
            change((from) => ({ ...from, device }));
          }}
        >
          {DEVICES.map(({ name }, index) => (
            <option key={name} value={String(index)}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {wrong.value === '' ? null : (
        <p id="page-wrong" role="alert">
          {wrong.value}
        </p>
      )}
    </Group>
  );
}

const SCOPES: readonly (readonly [Scope, string])[] = [
  ['page', 'this page'],
  ['domain', 'the domain'],
  ['global', 'all translations'],
  ['device', 'the device’s entry'],
];

export function Actions({ answer }: { readonly answer: WalkAnswer }): JSX.Element {
  const { state } = answer;
  const page = state.iova / PAGE;
  const { device } = state;
  const isOwn = state.program.scenario === '';
  const isFull = state.step >= MOST_ACTIONS;
  const does = (action: LabAction, text: string): JSX.Element => (
    <button type="button" disabled={isFull} onClick={() => act(action)}>
      {text}
    </button>
  );
  return (
    <fieldset class="actions">
      <legend>The next step</legend>
      <PageChoice state={state} />
      {isOwn ? (
        <Group title="The caller">
          {does({ do: 'map', page, nr: nrPages.value, scattered: isScattered.value }, 'Map')}
          <label>
            Pages
            <input
              type="number"
              min={1}
              max={MOST_PAGES}
              value={nrPages.value}
              onChange={(event) => {
                const nr = Math.round(event.currentTarget.valueAsNumber);
                nrPages.value = nr >= 1 && nr <= MOST_PAGES ? nr : nrPages.value;
              }}
            />
          </label>
          <label class="check">
            <input
              type="checkbox"
              checked={isScattered.value}
              onChange={(event) => {
                isScattered.value = event.currentTarget.checked;
              }}
            />
            scattered
          </label>
          {does({ do: 'unmap', page }, 'Unmap')}
          {does({ do: 'attach', device }, 'Attach the device')}
          {does({ do: 'detach', device }, 'Detach it')}
        </Group>
      ) : (
        <Group title="The scenario">
          {does({ do: 'call' }, 'Next call')}
          <button type="button" onClick={() => act(...restOf(answer))}>
            All calls to its end
          </button>
        </Group>
      )}
      <Group title="The device">
        {does({ do: 'read', page, device }, 'Read')}
        {does({ do: 'write', page, device }, 'Write')}
      </Group>
      <Group title="The unit, by itself">{does({ do: 'prefetch', page, device }, 'Walk ahead of time')}</Group>
      <Group title="Time">{does({ do: 'pass', ms: 10 }, 'Let 10 ms pass')}</Group>
      <Group title="Invalidate by hand">
        {SCOPES.map(([scope, text]) => does({ do: 'invalidate', scope, page, device }, text))}
      </Group>
      <Group title="Change the page’s entry behind the driver’s back">
        {does({ do: 'edit', page, change: 'clear' }, 'Clear it')}
        {does({ do: 'edit', page, change: 'read-only' }, 'Make it read only')}
      </Group>
      {isFull ? <p>A program has at most {MOST_ACTIONS} steps.</p> : null}
    </fieldset>
  );
}

/** The calls of the scenario that the steps until now have not made. */
function restOf({ state, scenarios }: WalkAnswer): LabAction[] {
  const { program, step } = state;
  const nrCalls = scenarios.find(({ name }) => name === program.scenario)?.nrCalls ?? 0;
  const made = program.actions.slice(0, step).filter((action) => action.do === 'call').length;
  const nr = Math.min(nrCalls - made, MOST_ACTIONS - step);
  return Array.from({ length: Math.max(0, nr) }, (): LabAction => ({ do: 'call' }));
}
