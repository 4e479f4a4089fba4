/** The timeline of one run: a picture to zoom and drag, and the same window as numbers and as a list. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Timeline } from '../../../src/report/index.ts';
import { TimelineKind } from '../../../src/report/index.ts';
import { themeChanges } from '../shell/theme-changes.ts';
import type { TimelineChoice } from './choice.ts';
import { TimelineCanvas, gutterOf, heightOf } from './timeline-canvas.ts';
import type { LaneNumbers } from './timeline-model.ts';
import { TimelineModel } from './timeline-model.ts';
import { count, counted, duration } from './words.ts';

/** Rests of this many ms end a movement: then the numbers and the address follow. */
const REST_MS = 200;
/** Shortest window, seconds: below it there is nothing between two events. */
const SHORTEST = 1e-7;
/** Events that are listed. */
const LISTED = 50;

const KIND_WORDS: Readonly<Record<number, string>> = {
  [TimelineKind.map]: 'map',
  [TimelineKind.unmap]: 'unmap',
  [TimelineKind.page]: 'invalidate pages',
  [TimelineKind.domain]: 'invalidate the domain',
  [TimelineKind.global]: 'invalidate everything',
  [TimelineKind.context]: 'invalidate the context',
  [TimelineKind.wait]: 'wait',
  [TimelineKind.notPresent]: 'violation: hit a stale “not present”',
  [TimelineKind.stale]: 'violation: reached old pages',
};

interface Span {
  readonly from: number;
  readonly to: number;
}

export interface TimelinePanelProps {
  /** By run, as in the report; null for one without. */
  readonly timelines: readonly (Timeline | null)[];
  readonly choice: TimelineChoice;
  /** @param replace for a step too small for the browser's history */
  readonly onChoice: (choice: TimelineChoice, replace: boolean) => void;
}

export function TimelinePanel({ timelines, choice, onChoice }: TimelinePanelProps): JSX.Element | null {
  const there = timelines.filter((timeline) => timeline !== null);
  const timeline = there.find(({ name }) => name === choice.run) ?? there[0];
  if (timeline === undefined) return null;
  return (
    <section class="panel timeline-panel" aria-labelledby="timeline-title">
      <h3 id="timeline-title">Timeline</h3>
      <div class="group">
        <label>
          Policy{' '}
          <select
            value={timeline.name}
            onChange={(event) => onChoice({ ...choice, run: event.currentTarget.value }, false)}
          >
            {there.map(({ name }) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <span class="quiet">
          {timeline.length === timeline.nrEvents
            ? counted(timeline.length, 'event')
            : `${count(timeline.length)} of ${counted(timeline.nrEvents, 'event')}: whole calls are left out, evenly`}
        </span>
      </div>
      {timeline.length === 0 ? (
        <p>Nothing happened in this run.</p>
      ) : (
        <Picture timeline={timeline} choice={choice} onChoice={onChoice} />
      )}
    </section>
  );
}

function Picture({
  timeline,
  choice,
  onChoice,
}: {
  readonly timeline: Timeline;
  readonly choice: TimelineChoice;
  readonly onChoice: (choice: TimelineChoice, replace: boolean) => void;
}): JSX.Element {
  const model = useMemo(() => new TimelineModel(timeline), [timeline]);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<{ canvas: TimelineCanvas | null; frame: number; rest: number }>({
    canvas: null,
    frame: 0,
    rest: 0,
  });
  /** What the picture shows; the state below follows when a movement rests. */
  const span = useRef<Span>(spanOf(model, choice));
  const [rested, setRested] = useState<Span>(span.current);
  const latest = useRef({ model, choice, onChoice });
  latest.current = { model, choice, onChoice };

  const draw = (): void => {
    if (drawn.current.frame !== 0) return;
    drawn.current.frame = requestAnimationFrame(() => {
      drawn.current.frame = 0;
      const element = canvas.current;
      if (element === null) return;
      drawn.current.canvas ??= new TimelineCanvas(element);
      const { from, to } = span.current;
      drawn.current.canvas.draw(latest.current.model, from, to, element.clientWidth);
    });
  };
  const show = (next: Span): void => {
    const now = latest.current;
    span.current = clamped(now.model, next);
    draw();
    clearTimeout(drawn.current.rest);
    drawn.current.rest = window.setTimeout(() => {
      const { from, to } = span.current;
      setRested(span.current);
      const isWhole = from <= now.model.begin && to >= now.model.end;
      const { choice: asked } = latest.current;
      latest.current.onChoice(isWhole ? { ...asked, from: NaN, to: NaN } : { ...asked, from, to }, true);
    }, REST_MS);
  };

  useEffect(() => {
    const element = canvas.current;
    if (element === null) return undefined;
    const sizes = new ResizeObserver(draw);
    sizes.observe(element);
    const stopThemes = themeChanges(draw);
    // As an attribute it would be passive, and the page would scroll too.
    const wheel = (event: WheelEvent): void => onWheel(event, element, span.current, show);
    element.addEventListener('wheel', wheel, { passive: false });
    return () => {
      sizes.disconnect();
      stopThemes();
      element.removeEventListener('wheel', wheel);
      cancelAnimationFrame(drawn.current.frame);
      clearTimeout(drawn.current.rest);
    };
  }, []);
  // A link, back, forward, another run.
  useEffect(() => {
    const asked = spanOf(model, choice);
    if (Math.abs(asked.from - span.current.from) > 2e-9 || Math.abs(asked.to - span.current.to) > 2e-9) {
      span.current = asked;
      setRested(asked);
    }
    draw();
  }, [model, choice.from, choice.to]);

  return (
    <>
      <div class="group" role="group" aria-label="Window of the timeline">
        <button type="button" onClick={() => show(zoomed(span.current, 0.5))}>
          Zoom in
        </button>
        <button type="button" onClick={() => show(zoomed(span.current, 2))}>
          Zoom out
        </button>
        <button type="button" onClick={() => show(moved(span.current, -0.5))}>
          Earlier
        </button>
        <button type="button" onClick={() => show(moved(span.current, 0.5))}>
          Later
        </button>
        <button type="button" onClick={() => show({ from: model.begin, to: model.end })}>
          Whole trace
        </button>
        <span>
          {rested.from.toFixed(6)} s to {rested.to.toFixed(6)} s, {duration(rested.to - rested.from)}
        </span>
      </div>
      <p class="quiet">
        The wheel zooms, dragging and Shift with the wheel move. With the picture in focus: arrow keys move, + and −
        zoom, Home and End go to the begin and the end, 0 shows all. A bar is as high as there are many at its place
        (logarithmic); of stale windows, how many are open.
      </p>
      <canvas
        ref={canvas}
        class="timeline-canvas"
        tabIndex={0}
        role="application"
        aria-roledescription="timeline"
        aria-label={`Timeline of ${timeline.name}; the tables below say what it shows`}
        style={{ height: `${heightOf(model)}px` }}
        onKeyDown={(event) => onKey(event, model, span.current, show)}
        onPointerDown={(event) => onDrag(event, () => span.current, show)}
      />
      <Numbers model={model} span={rested} />
    </>
  );
}

/** The window as text. */
function Numbers({ model, span }: { readonly model: TimelineModel; readonly span: Span }): JSX.Element {
  const [rows, setRows] = useState<readonly LaneNumbers[]>([]);
  // A task of its own: with the picture's it would be a long one.
  useEffect(() => {
    const soon = setTimeout(() => setRows(model.numbers(span.from, span.to)), 0);
    return () => clearTimeout(soon);
  }, [model, span]);
  const { time, kind, iova, pages, windowEnd, length } = model.timeline;
  const first = model.indexOf(span.from);
  const listed: number[] = [];
  for (let i = first; i < length && time[i] <= span.to && listed.length < LISTED; i++) listed.push(i);
  return (
    <>
      <h4 id="window-numbers">In this window</h4>
      <div class="scroll" role="region" aria-labelledby="window-numbers" tabIndex={0}>
        <table data-window>
          <thead>
            <tr>
              <th scope="col">device</th>
              {['maps', 'unmaps', 'invalidations', 'waits', 'stale windows', 'longest', 'violations'].map((title) => (
                <th key={title} scope="col" class="number">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.lane}>
                <th scope="row">{row.lane}</th>
                {[row.maps, row.unmaps, row.invalidations, row.waits, row.windows].map((value, i) => (
                  <td key={i} class="number">
                    {count(value)}
                  </td>
                ))}
                <td class="number">{row.windows === 0 ? '' : duration(row.longest)}</td>
                <td class="number">{count(row.violations)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <details>
        <summary>{listed.length < LISTED ? 'Its events' : `Its first ${LISTED} events`}</summary>
        <div class="scroll" role="region" aria-label="Events of this window" tabIndex={0}>
          <table data-events>
            <thead>
              <tr>
                <th scope="col" class="number">
                  seconds
                </th>
                <th scope="col">what</th>
                <th scope="col">device</th>
                <th scope="col">IOVA</th>
                <th scope="col" class="number">
                  pages
                </th>
                <th scope="col" class="number">
                  reachable for
                </th>
              </tr>
            </thead>
            <tbody>
              {listed.map((i) => (
                <tr key={i}>
                  <td class="number">{time[i].toFixed(6)}</td>
                  <td>{KIND_WORDS[kind[i]] ?? ''}</td>
                  <td>{model.deviceOf(i)}</td>
                  <td class="mono">{pages[i] === 0 ? '' : `0x${iova[i].toString(16)}`}</td>
                  <td class="number">{pages[i] === 0 ? '' : count(pages[i])}</td>
                  <td class="number">{windowEnd[i] > time[i] ? duration(windowEnd[i] - time[i]) : ''}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </>
  );
}

function spanOf(model: TimelineModel, { from, to }: TimelineChoice): Span {
  return clamped(model, {
    from: Number.isNaN(from) ? model.begin : from,
    to: Number.isNaN(to) ? model.end : to,
  });
}

/** Inside of the trace, and neither empty nor longer than it. */
function clamped({ begin, end }: TimelineModel, { from, to }: Span): Span {
  const length = Math.min(end - begin, Math.max(SHORTEST, to - from));
  const start = Math.max(begin, Math.min(from, end - length));
  return { from: start, to: start + length };
}

/** @param factor of the length @param at share of the window that stays where it is */
function zoomed({ from, to }: Span, factor: number, at: number = 0.5): Span {
  const length = Math.max(SHORTEST, (to - from) * factor);
  const fixed = from + (to - from) * at;
  return { from: fixed - length * at, to: fixed + length * (1 - at) };
}

/** @param by part of the window's length */
function moved({ from, to }: Span, by: number): Span {
  const seconds = (to - from) * by;
  return { from: from + seconds, to: to + seconds };
}

function onWheel(event: WheelEvent, element: HTMLElement, span: Span, show: (span: Span) => void): void {
  // The browser's own zoom stays.
  if (event.ctrlKey) return;
  event.preventDefault();
  const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
  const across = event.shiftKey ? event.deltaX + event.deltaY : event.deltaX;
  // Fingers never move quite straight.
  const isAcross = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
  const box = element.getBoundingClientRect();
  const gutter = gutterOf(box.width);
  const width = Math.max(1, box.width - gutter);
  if (isAcross) show(moved(span, (across * pixels) / width));
  else show(zoomed(span, Math.exp(event.deltaY * pixels * 0.0015), share(event.clientX - box.left - gutter, width)));
}

function share(x: number, width: number): number {
  return Math.max(0, Math.min(1, x / width));
}

function onKey(event: KeyboardEvent, model: TimelineModel, span: Span, show: (span: Span) => void): void {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const length = span.to - span.from;
  const next = {
    ArrowLeft: moved(span, -0.1),
    ArrowRight: moved(span, 0.1),
    PageUp: moved(span, -0.9),
    PageDown: moved(span, 0.9),
    '+': zoomed(span, 0.7),
    '=': zoomed(span, 0.7),
    '-': zoomed(span, 1 / 0.7),
    Home: { from: model.begin, to: model.begin + length },
    End: { from: model.end - length, to: model.end },
    '0': { from: model.begin, to: model.end },
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  show(next);
}

function onDrag(
  event: PointerEvent & { readonly currentTarget: HTMLCanvasElement },
  spanNow: () => Span,
  show: (span: Span) => void,
): void {
  if (event.button !== 0) return;
  const element = event.currentTarget;
  element.setPointerCapture(event.pointerId);
  const width = Math.max(1, element.clientWidth - gutterOf(element.clientWidth));
  let x = event.clientX;
  const move = (to: PointerEvent): void => {
    show(moved(spanNow(), (x - to.clientX) / width));
    x = to.clientX;
  };
  const end = (): void => {
    element.removeEventListener('pointermove', move);
    element.removeEventListener('pointerup', end);
    element.removeEventListener('pointercancel', end);
  };
  element.addEventListener('pointermove', move);
  element.addEventListener('pointerup', end);
  element.addEventListener('pointercancel', end);
}
