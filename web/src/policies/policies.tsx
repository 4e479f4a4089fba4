/** The policies view: what would another flush policy cost on this trace, and would it be safe? */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { MAP_FLUSHES } from '../../../src/drivers/index.ts';
import { HARDWARE_MODELS, MODEL_NAMES, PRESETS_OF, UNMAP_POLICIES } from '../../../src/replay/index.ts';
import { address, formatAddress, go } from '../address.ts';
import type { Choice, TimelineChoice } from './choice.ts';
import { BUNDLED, LinkProblem, PRESETS, parseTimeline, withTimeline } from './choice.ts';
import { Results } from './results.tsx';
import {
  again,
  cancel,
  cancelled,
  choice,
  choose,
  chooseBundled,
  follow,
  openFile,
  problem,
  shown,
  working,
} from './state.ts';
import { counted } from './words.ts';
import './policies.css';

follow();

const WHOLE: TimelineChoice = { run: '', from: NaN, to: NaN };

export function Policies(): JSX.Element {
  const isOver = useDrops();
  const wanted = choice.value;
  const result = shown.value;
  const [timeline, timelineProblem] = timelineOf(address.value.params);
  return (
    <div class={`policies-view ${isOver ? 'dropping' : ''}`}>
      <h2>Policies</h2>
      <p>
        A recorded trace is played on a model of the hardware, once under each flush policy: what does each cost, and
        does a device ever see what it should not? Nothing leaves this page.
      </p>
      <Source />
      {wanted === null ? null : <Choices wanted={wanted} />}
      <Problem text={problem.value} isBrokenLink={wanted === null} hasResult={result !== null} />
      <Work hasResult={result !== null} />
      <p class="visually-hidden" role="status">
        {saidAloud()}
      </p>
      {timelineProblem === '' ? null : (
        <p role="alert" class="problem">
          {timelineProblem} The whole trace is shown.
        </p>
      )}
      {result === null ? null : (
        <Results
          report={result.report}
          timelines={result.timelines}
          choice={timeline}
          onChoice={(next, replace) => go('policies', withTimeline(address.value.params, next), replace)}
        />
      )}
    </div>
  );
}

/** Where the work is: not each step of it, or it would never be quiet. */
function saidAloud(): string {
  if (working.value !== null) return working.value.stage.replace(/ .*/, '');
  if (cancelled.value !== '') return cancelled.value;
  return shown.value === null ? '' : `${counted(shown.value.report.runs.length, 'policy', 'policies')} played`;
}

function timelineOf(params: URLSearchParams): [TimelineChoice, string] {
  try {
    return [parseTimeline(params), ''];
  } catch (error) {
    if (error instanceof LinkProblem) return [WHOLE, error.message];
    throw error;
  }
}

/** Files may be dropped anywhere on the page. @returns whether one is held over it */
function useDrops(): boolean {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const over = (event: DragEvent): void => {
      if (event.dataTransfer?.types.includes('Files') !== true) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent): void => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent): void => {
      setOver(false);
      if (event.dataTransfer?.types.includes('Files') !== true) return;
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file !== undefined) openFile(file);
    };
    globalThis.addEventListener('dragover', over);
    globalThis.addEventListener('dragleave', leave);
    globalThis.addEventListener('drop', drop);
    return () => {
      globalThis.removeEventListener('dragover', over);
      globalThis.removeEventListener('dragleave', leave);
      globalThis.removeEventListener('drop', drop);
    };
  }, []);
  return isOver;
}

function Source(): JSX.Element {
  return (
    <section class="panel source" aria-labelledby="source-title">
      <h3 id="source-title">The trace</h3>
      <p>
        Drop a file anywhere on this page, or choose one: ftrace text or trace.dat, plain, gzip or zstd; or the JSON of{' '}
        <code>iommukit replay</code>. Record one with <code>trace-cmd record -e iommu -e dma -e intel_iommu</code>.
      </p>
      <div class="group">
        <label>
          Your file{' '}
          <input
            type="file"
            onChange={(event) => {
              const [file] = event.currentTarget.files ?? [];
              if (file !== undefined) openFile(file);
              // Choosing the same one again should do it again.
              event.currentTarget.value = '';
            }}
          />
        </label>
        {BUNDLED.map(({ name, title }) => (
          <button key={name} type="button" class="primary" title={title} onClick={() => chooseBundled(name)}>
            Play the recording that comes with the page
          </button>
        ))}
      </div>
    </section>
  );
}

function Choices({ wanted }: { readonly wanted: Choice }): JSX.Element {
  const presets = wanted.hardware === undefined ? PRESETS : PRESETS_OF[wanted.hardware];
  return (
    <fieldset class="choices">
      <legend>What is played</legend>
      <Checks
        title="Flush after a map"
        known={MAP_FLUSHES}
        chosen={wanted.mapFlush}
        onChoose={(mapFlush) => choose({ mapFlush })}
      />
      <Checks
        title="Flush after an unmap"
        known={UNMAP_POLICIES}
        chosen={wanted.unmapFlush}
        onChoose={(unmapFlush) => choose({ unmapFlush })}
      />
      <label>
        Hardware{' '}
        <select
          value={wanted.hardware ?? ''}
          onChange={(event) => {
            const hardware = HARDWARE_MODELS.find((model) => model === event.currentTarget.value);
            const known = hardware === undefined ? PRESETS : PRESETS_OF[hardware];
            const preset = known.includes(wanted.preset) ? wanted.preset : 'linux-6.12';
            choose({ hardware, preset });
          }}
        >
          <option value="">as the trace tells</option>
          {HARDWARE_MODELS.map((model) => (
            <option key={model} value={model}>
              {MODEL_NAMES[model]}
            </option>
          ))}
        </select>
      </label>
      <label>
        Kernel{' '}
        <select value={wanted.preset} onChange={(event) => choose({ preset: event.currentTarget.value })}>
          {presets.map((preset) => (
            <option key={preset} value={preset}>
              {preset}
            </option>
          ))}
        </select>
      </label>
      <label>
        Caches “not present”{' '}
        <select
          value={wanted.cachingMode ?? ''}
          onChange={(event) => {
            const { value } = event.currentTarget;
            choose({ cachingMode: value === 'on' || value === 'off' ? value : undefined });
          }}
        >
          <option value="">yes (as virtual machines do)</option>
          <option value="on">yes</option>
          <option value="off">no</option>
        </select>
      </label>
    </fieldset>
  );
}

function Checks<T extends string>({
  title,
  known,
  chosen,
  onChoose,
}: {
  readonly title: string;
  readonly known: readonly T[];
  readonly chosen: readonly T[];
  readonly onChoose: (chosen: readonly T[]) => void;
}): JSX.Element {
  return (
    <div role="group" aria-label={title} class="checks">
      <span>{title}</span>
      {known.map((word) => (
        <label key={word}>
          <input
            type="checkbox"
            checked={chosen.includes(word)}
            // One is left, or there would be nothing to play.
            disabled={chosen.length === 1 && chosen.includes(word)}
            onChange={(event) => {
              const { checked } = event.currentTarget;
              onChoose(known.filter((other) => (other === word ? checked : chosen.includes(other))));
            }}
          />{' '}
          {word}
        </label>
      ))}
    </div>
  );
}

function Problem({
  text,
  isBrokenLink,
  hasResult,
}: {
  readonly text: string;
  readonly isBrokenLink: boolean;
  readonly hasResult: boolean;
}): JSX.Element | null {
  if (text === '') return null;
  return (
    <div role="alert" class="problem">
      <p>{text}</p>
      {isBrokenLink ? (
        <p>
          Nothing was played. <a href={formatAddress('policies', new URLSearchParams())}>Begin anew</a>
        </p>
      ) : null}
      {hasResult ? <p>Below is still the result from before.</p> : null}
    </div>
  );
}

/** What is being done, and how it ended when it was stopped. */
function Work({ hasResult }: { readonly hasResult: boolean }): JSX.Element | null {
  const now = working.value;
  if (now === null) {
    if (cancelled.value === '') return null;
    return (
      <div class="panel cancelled">
        {cancelled.value} {hasResult ? 'What was there is below. ' : ''}
        <button type="button" onClick={again}>
          Go on
        </button>
      </div>
    );
  }
  const percent = now.total > 0 ? Math.floor((100 * now.done) / now.total) : null;
  return (
    <div class="panel work">
      <label for="work-progress">{now.stage}</label>
      <progress id="work-progress" max={100} {...(percent === null ? {} : { value: percent })} />
      <span>{percent === null ? '' : `${percent} %`}</span>
      <button type="button" onClick={cancel}>
        Cancel
      </button>
    </div>
  );
}
