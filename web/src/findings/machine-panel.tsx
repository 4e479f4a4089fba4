/** The machine after a step: the walk in memory, what the caches hold, the commands that wait. */
import type { JSX } from 'preact';
import type { Answer, CacheView, MachineView } from '../../../src/lab/index.ts';

const hex = (value: number): string => `0x${value.toString(16)}`;

function answerText({ paddr, read, write }: Answer): string {
  if (paddr < 0) return 'nothing: it is blocked';
  return `${hex(paddr)}, ${read && write ? 'read and write' : read ? 'read only' : 'write only'}`;
}

const STATES = { current: 'as in memory', stale: '▲ stale', unknown: 'no device uses this domain now' } as const;

function Changed({ isNew }: { readonly isNew: boolean }): JSX.Element | null {
  return isNew ? <strong class="finding-changed"> (changed)</strong> : null;
}

function Walk({
  machine,
  before,
}: {
  readonly machine: MachineView;
  readonly before: MachineView | null;
}): JSX.Element {
  const was = new Map((before ?? machine).walk.entries.map(({ paddr, words }) => [paddr, words.join()]));
  return (
    <div class="finding-scroll" tabIndex={0} role="region" aria-label="Walk in memory">
      <table>
        <caption>Walk in memory</caption>
        <thead>
          <tr>
            <th scope="col">Entry</th>
            <th scope="col">At</th>
            <th scope="col">What it says</th>
          </tr>
        </thead>
        <tbody>
          {machine.walk.entries.map(({ name, paddr, words, text, unseen }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="mono">{hex(paddr)}</td>
              <td>
                {text}
                {unseen === null ? null : ' (a store of a CPU has not arrived)'}
                <Changed isNew={was.get(paddr) !== words.join()} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cache({ cache, before }: { readonly cache: CacheView; readonly before: CacheView | undefined }): JSX.Element {
  const was = new Set((before ?? cache).entries.map(({ key, text }) => `${key} ${text}`));
  return (
    <>
      <h4>{cache.name}</h4>
      {cache.entries.length === 0 ? <p class="quiet">empty</p> : null}
      <ul class="finding-cache">
        {cache.entries.map(({ nth, key, text, state, isUsed }) => (
          <li key={nth} class={state === 'stale' ? 'finding-stale' : undefined}>
            <span class="mono">{key}</span>: {text}
            <span class="quiet"> · {isUsed ? 'used by this walk · ' : ''}</span>
            <span class={state === 'stale' ? 'finding-state' : 'quiet'}>{STATES[state]}</span>
            <Changed isNew={!was.has(`${key} ${text}`)} />
          </li>
        ))}
      </ul>
    </>
  );
}

/** @param before the machine one step earlier: what differs is said so */
export function MachinePanel({
  machine,
  before,
}: {
  readonly machine: MachineView;
  readonly before: MachineView | null;
}): JSX.Element {
  const { focus, now, walk, caches, queue, faults } = machine;
  const waiting = queue?.entries.filter(({ state }) => state === 'waiting') ?? [];
  return (
    <section class="panel finding-machine" aria-label="The machine after this step">
      <h3>The machine after this step</h3>
      <dl class="finding-facts">
        <dt>Page {hex(focus.iova)}: a device gets</dt>
        <dd>{answerText(now)}</dd>
        <dt>Memory alone would give</dt>
        <dd>{answerText(walk.answer)}</dd>
      </dl>
      <Walk machine={machine} before={before} />
      {caches.map((cache, i) => (
        <Cache key={cache.cache} cache={cache} before={before?.caches[i]} />
      ))}
      <h4>{queue === null ? 'no queue: registers only' : `${queue.name}: commands that wait`}</h4>
      {waiting.length === 0 ? <p class="quiet">none</p> : null}
      <ul class="finding-cache">
        {waiting.map(({ index, text }) => (
          <li key={index}>{text}</li>
        ))}
      </ul>
      {faults.length === 0 ? null : <p>{faults.length} faults in the log</p>}
    </section>
  );
}
