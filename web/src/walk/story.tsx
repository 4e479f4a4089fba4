/** The dispute of April 2019: the same three steps under each policy, vendor and caller, one link each. */
import type { JSX } from 'preact';
import { DEFAULT_IOVA, STORY_STEP, formatActions, formatConfig } from '../../../src/lab/index.ts';
import type { LabState, StoryEnd } from '../../../src/lab/index.ts';
import { RESULT_TONES, Mark } from './marks.tsx';
import { Scroll } from './machine-panels.tsx';
import { linkOf, story } from './state.ts';
import { CALLER_WORDS, POLICY_WORDS } from './words.ts';

const ARCH_WORDS = { intel: 'Intel', amd: 'AMD' } as const;

function stateOf({ program }: StoryEnd, step: number): LabState {
  return { program, step, iova: DEFAULT_IOVA, device: 0 };
}

function isShownBy({ program }: StoryEnd, state: LabState | null): boolean {
  return (
    state !== null &&
    state.program.scenario === '' &&
    formatConfig(state.program.config) === formatConfig(program.config) &&
    formatActions(state.program.actions) === formatActions(program.actions)
  );
}

function Cell({ end, state }: { readonly end: StoryEnd; readonly state: LabState | null }): JSX.Element {
  const isShown = isShownBy(end, state);
  const name = `${end.mapFlush}, ${ARCH_WORDS[end.arch]}, ${CALLER_WORDS[end.caller]}`;
  return (
    <td class={isShown ? 'shown' : ''}>
      <a href={linkOf(stateOf(end, STORY_STEP))} aria-current={isShown ? 'true' : undefined} title={end.text}>
        <Mark tone={RESULT_TONES[end.result]}>{end.result === 'fault' ? 'fault' : 'works'}</Mark>
        <span class="visually-hidden"> {name}</span>
      </a>
      <span class="quiet">
        {end.nrCommands === 1 ? '1 invalidation' : `${end.nrCommands} invalidations`}
        {isShown ? ' (shown below)' : ''}
      </span>
    </td>
  );
}

export function Story({ state }: { readonly state: LabState | null }): JSX.Element {
  const ends = story.value;
  const policies = [...new Set(ends.map(({ mapFlush }) => mapFlush))];
  const columns = ends.filter(({ mapFlush }) => mapFlush === policies[0]);
  const current = ends.find((end) => isShownBy(end, state));
  return (
    <section class="panel story" aria-labelledby="story-title">
      <h3 id="story-title">The 2019 dispute</h3>
      <p>
        Hardware that says so may remember that an address leads <em>nowhere</em>. In April 2019 a Linux thread asked
        who has to make it forget after a mapping was made. Three steps show it, on four pages scattered over memory:
      </p>
      <ol>
        <li>The unit looks at the page ahead of time, as hardware may, and caches “nothing is mapped”.</li>
        <li>The caller maps the pages. The call returns: from now on the mapping is promised to work.</li>
        <li>The device writes. If the stale entry is still there, the write faults.</li>
      </ol>
      <p>Choose an end; the machine below is then the one it happened on, and its steps can be walked back.</p>
      {ends.length === 0 ? (
        <p>Playing…</p>
      ) : (
        <Scroll label="Ends of the story">
          <table>
            <thead>
              <tr>
                <th scope="col">Who flushes after a map</th>
                {columns.map(({ arch, caller }) => (
                  <th scope="col" key={`${arch} ${caller}`}>
                    {ARCH_WORDS[arch]}, {CALLER_WORDS[caller]}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {policies.map((policy) => (
                <tr key={policy}>
                  <th scope="row">
                    {policy}: <span class="normal">{POLICY_WORDS[policy]}</span>
                  </th>
                  {ends
                    .filter(({ mapFlush }) => mapFlush === policy)
                    .map((end) => (
                      <Cell key={`${end.arch} ${end.caller}`} end={end} state={state} />
                    ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      <p class="quiet">
        “caller” is the patch of 2019: it mends the DMA API, and VFIO, which calls the core directly, still faults. The
        answer was that the core must keep the promise for everybody: per callback (“map”), or once per call
        (“sync-map”). The DMA API maps the four pages in one call and saves commands by that; VFIO makes a call for each
        piece of memory.
      </p>
      {current === undefined ? null : (
        <p>
          <a href={linkOf(stateOf(current, 1))}>Go through this one from its first step</a>, then press the right arrow
          key.
        </p>
      )}
    </section>
  );
}
