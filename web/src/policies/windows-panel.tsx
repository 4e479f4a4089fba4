/** The distribution of stale windows, as curves that fall: how many unmapped ranges were still reachable after so many milliseconds. */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { RunResult } from '../../../src/replay/index.ts';
import type { Timeline } from '../../../src/report/index.ts';
import { themeChanges } from '../shell/theme-changes.ts';
import { DURATIONS_MS, atLeast } from './windows.ts';

const HEIGHT = 240;
/** Curves are told apart by colour and by how they are dashed. */
const LOOKS: readonly (readonly [colour: string, dash: readonly number[]])[] = [
  ['--stale', []],
  ['--map', [8, 4]],
  ['--unmap', [2, 3]],
  ['--invalidate', [12, 3, 2, 3]],
];
const SHOWN_PERCENTILES = [90, 50, 10, 1] as const;

interface Curve {
  /** Equal for equal curves. */
  readonly key: string;
  /** The runs that have it. */
  readonly names: readonly string[];
  readonly shares: readonly number[];
}

export function WindowsPanel({
  runs,
  timelines,
}: {
  readonly runs: readonly RunResult[];
  readonly timelines: readonly (Timeline | null)[];
}): JSX.Element | null {
  const curves = useMemo(() => curvesOf(timelines), [timelines]);
  // Drawn anew only when there is another curve: runs come one by one, most of them with windows that are there already.
  const drawn = useMemo(() => curves.map(({ shares }) => shares), [curves.map(({ key }) => key).join('|')]);
  if (runs.every((run) => run.staleWindowMs.max === 0) || curves.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="windows-title">
      <h3 id="windows-title">Stale windows</h3>
      <p class="quiet">
        How many of the unmapped ranges the device could still reach, so many milliseconds after the unmap. Under
        strict: none.
      </p>
      <Chart curves={drawn} />
      <table>
        <thead>
          <tr>
            <th scope="col">policies</th>
            {SHOWN_PERCENTILES.map((percent) => (
              <th key={percent} scope="col" class="number">
                {percent} % at least
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {curves.map(({ key, names, shares }, i) => (
            <tr key={key}>
              <th scope="row">
                <Sample look={i} /> {names.join('; ')}
              </th>
              {SHOWN_PERCENTILES.map((percent) => (
                <td key={percent} class="number">
                  {durationAt(shares, percent)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Runs with the same windows share a curve: where the flush after a map stands changes nothing about them. */
function curvesOf(timelines: readonly (Timeline | null)[]): Curve[] {
  const curves = new Map<string, { key: string; names: string[]; shares: readonly number[] }>();
  for (const timeline of timelines) {
    if (timeline === null) continue;
    const shares = atLeast(timeline);
    if (shares[0] === 0) continue;
    const key = shares.map((share) => share.toFixed(2)).join();
    const curve = curves.get(key);
    if (curve === undefined) curves.set(key, { key, names: [timeline.name], shares });
    else curve.names.push(timeline.name);
  }
  return [...curves.values()];
}

function durationAt(shares: readonly number[], percent: number): string {
  const step = shares.findLastIndex((share) => share >= percent);
  return step < 0 ? '' : `${(DURATIONS_MS[step] ?? 0).toPrecision(2)} ms`;
}

function Chart({ curves }: { readonly curves: readonly (readonly number[])[] }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    let plot = plotOf(element, curves);
    const sizes = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    sizes.observe(element);
    const stopThemes = themeChanges(() => {
      plot.destroy();
      plot = plotOf(element, curves);
    });
    return () => {
      sizes.disconnect();
      stopThemes();
      plot.destroy();
    };
  }, [curves]);
  return <div ref={box} class="windows-chart" role="img" aria-label="The same as the table below, as curves" />;
}

function plotOf(element: HTMLElement, curves: readonly (readonly number[])[]): uPlot {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = { stroke: colour('--text'), grid: { stroke: colour('--line') }, ticks: { stroke: colour('--line') } };
  // From just before the first curve falls, to where all are done.
  const first = Math.max(0, Math.min(...curves.map((shares) => shares.findIndex((share) => share < shares[0]))) - 2);
  const last = Math.max(...curves.map((shares) => shares.findLastIndex((share) => share > 0))) + 2;
  const durations = DURATIONS_MS.slice(first, last);
  return new uPlot(
    {
      width: Math.max(200, element.clientWidth),
      height: HEIGHT,
      cursor: { show: false },
      legend: { show: false },
      // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- 3 is logarithmic; the enum is there for tsc only
      scales: { x: { time: false, distr: 3 }, y: { range: [0, 100] } },
      axes: [
        { ...axis, label: 'milliseconds after the unmap', values: (_, splits) => splits.map(tickText) },
        { ...axis, label: '% still reachable' },
      ],
      series: [
        {},
        ...curves.map((_, i) => {
          const [stroke, dash] = lookOf(i);
          return { stroke: colour(stroke), dash: [...dash], width: 2, points: { show: false } };
        }),
      ],
    },
    [durations, ...curves.map((shares) => shares.slice(first, last))],
    element,
  );
}

function lookOf(curve: number): (typeof LOOKS)[number] {
  return LOOKS[curve % LOOKS.length] ?? ['--text', []];
}

/** A piece of a curve, as the chart draws it. */
function Sample({ look }: { readonly look: number }): JSX.Element {
  const [colour, dash] = lookOf(look);
  return (
    <svg width="36" height="10" aria-hidden="true">
      <line
        x1="0"
        y1="5"
        x2="36"
        y2="5"
        stroke-width="2"
        stroke-dasharray={dash.join(' ')}
        style={{ stroke: `var(${colour})` }}
      />
    </svg>
  );
}

/** uPlot leaves null where there is no room for a number. */
function tickText(value: number | null): string {
  return value === null ? '' : String(value);
}
