/** Where an access to the chosen page ends: as promised, by memory, by this unit, and by any hardware that the specifications allow. */
import type { JSX } from 'preact';
import { hex } from '../../../src/base/index.ts';
import { answerText } from '../../../src/lab/index.ts';
import type { Answer, LabSnapshot, MayHold } from '../../../src/lab/index.ts';
import { Panel, Scroll } from './machine-panels.tsx';
import type { Tone } from './marks.tsx';
import { Mark } from './marks.tsx';
import { CONTRACT_WORDS } from './words.ts';

function isSame(a: Answer, b: Answer): boolean {
  return a.paddr === b.paddr && a.read === b.read && a.write === b.write;
}

function Row({
  who,
  says,
  tone,
  word,
}: {
  readonly who: string;
  readonly says: string;
  readonly tone: Tone;
  readonly word: string;
}): JSX.Element {
  return (
    <tr>
      <th scope="row">{who}</th>
      <td>{says}</td>
      <td>
        <Mark tone={tone}>{word}</Mark>
      </td>
    </tr>
  );
}

/** Four answers to the same question. */
export function Answers({ now }: { readonly now: LabSnapshot }): JSX.Element {
  const { promise, machine, mayHold } = now;
  const isOpen = promise.state === 'queued';
  const judged = (answer: Answer): readonly [Tone, string] =>
    isOpen
      ? ['warn', 'either is allowed']
      : isSame(answer, promise.answer)
        ? ['good', 'as promised']
        : ['bad', 'not as promised'];
  const [memoryTone, memoryWord] = judged(machine.walk.answer);
  const [unitTone, unitWord] = judged(machine.now);
  const nrWrong = mayHold.filter(({ isWrong }) => isWrong).length;
  return (
    <Panel
      title="Where the page leads"
      hint="Four answers about the chosen page. They must be the same whenever no call is under way."
    >
      <Scroll label="Where the page leads">
        <table class="answers">
          <thead>
            <tr>
              <th scope="col">Who</th>
              <th scope="col">Says</th>
              <th scope="col">Judged</th>
            </tr>
          </thead>
          <tbody>
            <Row who="The callers were promised" says={promise.text} tone="plain" word="the measure" />
            <Row
              who="The tables in memory"
              says={answerText(machine.walk.answer)}
              tone={memoryTone}
              word={memoryWord}
            />
            <Row who="This unit, caches first" says={answerText(machine.now)} tone={unitTone} word={unitWord} />
            <Row
              who="Any hardware, says the sanitizer"
              says={
                nrWrong === 0
                  ? 'nothing else'
                  : `${nrWrong} stale ${nrWrong === 1 ? 'value' : 'values'} may still be held`
              }
              tone={nrWrong === 0 ? 'good' : 'bad'}
              word={nrWrong === 0 ? 'as promised' : 'not as promised'}
            />
          </tbody>
        </table>
      </Scroll>
    </Panel>
  );
}

const PLACES: Readonly<Record<MayHold['from'], string>> = {
  memory: 'memory',
  context: 'cache of device entries',
  iotlb: 'IOTLB',
  structure: 'cache of table entries',
  'device-tlb': 'TLB of the device',
  'old-root': 'what other tables left',
  'late-store': 'memory, store not flushed',
};

/** The sanitizer's sets beside what this unit holds. */
export function MayHoldPanel({ now }: { readonly now: LabSnapshot }): JSX.Element {
  return (
    <Panel
      title="What hardware may hold"
      hint="The sanitizer knows no hardware. From the driver's stores and commands it keeps everything that some legal unit could still use for this page, beside what this unit really holds."
    >
      <Scroll label="What hardware may hold">
        <table class="may-hold">
          <thead>
            <tr>
              <th scope="col">Where</th>
              <th scope="col">May say</th>
              <th scope="col">Leads to</th>
              <th scope="col">Judged</th>
              <th scope="col">This unit</th>
            </tr>
          </thead>
          <tbody>
            {now.mayHold.map((value, at) => (
              <tr key={at}>
                <th scope="row">{PLACES[value.from]}</th>
                <td>
                  {value.text}
                  {value.store === null ? null : (
                    <span class="quiet">
                      {' '}
                      (since the store of <code>{value.store.after}</code> over <code>{value.store.before}</code> at{' '}
                      <code>{hex(value.store.paddr)}</code>)
                    </span>
                  )}
                </td>
                <td class="mono">{value.paddr < 0 ? 'nowhere' : hex(value.paddr)}</td>
                <td>
                  {value.isWrong ? <Mark tone="bad">not as promised</Mark> : <Mark tone="good">as promised</Mark>}
                </td>
                <td>{value.isHeld === null ? 'reads it anew' : value.isHeld ? 'holds it' : 'does not hold it'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {now.mayHold.length === 0 ? <p class="quiet">No entry of this device was ever written.</p> : null}
    </Panel>
  );
}

export function FindingsPanel({ now }: { readonly now: LabSnapshot }): JSX.Element {
  const { findings } = now;
  return (
    <Panel
      title="Broken promises"
      hint="What the sanitizer found at the end of each call until now: hardware that behaves as the specifications allow could go wrong here, whether or not this unit did."
    >
      {findings.length === 0 ? (
        <p>
          <Mark tone="good">none so far</Mark>
        </p>
      ) : (
        <ol class="findings">
          {findings.map((finding, at) => (
            <li key={at}>
              <p>
                <Mark tone="bad">{finding.contract}</Mark> ({CONTRACT_WORDS[finding.contract]}), in{' '}
                <code>{finding.call}</code>: {finding.stale}.
              </p>
              <details>
                <summary>What would have helped</summary>
                <p>{finding.missing}</p>
                <ul>
                  {finding.nearest.map((line) => (
                    <li key={line}>{line}</li>
                  ))}
                </ul>
              </details>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}
