/** A list of findings and the sequence of the chosen one. What is chosen stands in the address. */
import type { JSX } from 'preact';
import { address, go } from '../address.ts';
import { SequencePlayer } from './sequence-player.tsx';
import type { Story } from './story.ts';
import './findings.css';

/** A number of the address within its bounds; what is no number is the first. */
function numberOf(params: URLSearchParams, key: string, nr: number): number {
  const text = params.get(key) ?? '';
  return /^\d{1,9}$/.test(text) ? Math.min(Number(text) - 1, nr - 1) : 0;
}

/** The index of the finding that the address names. */
export function chosenFinding(nr: number): number {
  return Math.max(0, numberOf(address.value.params, 'finding', nr));
}

function change(keys: Readonly<Record<string, string | null>>, isSmall: boolean): void {
  const params = new URLSearchParams(address.value.params);
  for (const [key, value] of Object.entries(keys)) {
    if (value === null) params.delete(key);
    else params.set(key, value);
  }
  go('findings', params, isSmall);
}

export interface FindingsBrowserProps {
  readonly stories: readonly Story[];
  /** What is said above the sequence, as that one is looked for. */
  readonly note?: string;
}

export function FindingsBrowser({ stories, note = '' }: FindingsBrowserProps): JSX.Element {
  const { params } = address.value;
  if (stories.length === 0) return <p>There is no finding: everything that was tried held.</p>;
  const contracts = [...new Set(stories.map(({ contract }) => contract))].sort();
  const filter = contracts.find((contract) => contract === params.get('contract')) ?? '';
  const shown = stories.flatMap((story, index) =>
    filter === '' || story.contract === filter ? [{ story, index }] : [],
  );
  const asked = chosenFinding(stories.length);
  const chosen = shown.some(({ index }) => index === asked) ? asked : shown[0].index;
  const story = stories[chosen];
  const step = Math.max(0, numberOf(params, 'step', story.steps.length));
  const choose = (index: number): void => change({ finding: String(index + 1), step: null }, false);
  const listKey = (event: KeyboardEvent): void => {
    const at = shown.findIndex(({ index }) => index === chosen);
    const target = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: shown.length - 1 }[event.key];
    const found = target === undefined ? undefined : shown[target];
    if (found === undefined) return;
    event.preventDefault();
    choose(found.index);
    const { currentTarget } = event;
    if (currentTarget instanceof HTMLElement) {
      requestAnimationFrame(() => currentTarget.querySelector<HTMLElement>('[aria-current] button')?.focus());
    }
  };
  return (
    <div class="finding-browser">
      {stories.length === 1 ? null : (
        <section aria-label="Findings">
          <div class="finding-controls">
            <label>
              Contract{' '}
              <select
                value={filter}
                onChange={(event) => change({ contract: event.currentTarget.value || null, step: null }, false)}
              >
                <option value="">all ({stories.length})</option>
                {contracts.map((contract) => (
                  <option key={contract} value={contract}>
                    {contract} ({stories.filter((each) => each.contract === contract).length})
                  </option>
                ))}
              </select>
            </label>
          </div>
          {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- arrow keys between its buttons */}
          <ul class="finding-list" onKeyDown={listKey} aria-label="Findings; arrow keys go through them">
            {shown.map(({ story: each, index }) => (
              <li key={index} aria-current={index === chosen ? 'true' : undefined}>
                <button type="button" tabIndex={index === chosen ? 0 : -1} onClick={() => choose(index)}>
                  <strong>{each.contract}</strong> {each.title}
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
      <section aria-label="The finding">
        <h3>
          {story.contract} <span class="quiet">{story.title}</span>
        </h3>
        <dl class="finding-facts">
          {story.facts.map(([name, value], i) => [<dt key={`n${i}`}>{name}</dt>, <dd key={`v${i}`}>{value}</dd>])}
        </dl>
        {note === '' ? null : <p role="status">{note}</p>}
        {story.steps.length === 0 ? (
          <p class="quiet">The report tells no steps of this finding.</p>
        ) : (
          <SequencePlayer
            story={story}
            step={step}
            onStep={(to, isSmall) => change({ step: String(to + 1) }, isSmall)}
          />
        )}
      </section>
    </div>
  );
}
