/** Draws a window of a timeline: a lane per device, a track per kind, a bar per pixel, as high as there are many (logarithmic). */
import type { TimelineModel } from './timeline-model.ts';
import { TRACKS } from './timeline-model.ts';

const TRACK_HEIGHT = 16;
const TRACK_GAP = 2;
const LANE_TITLE = 20;
const LANE_GAP = 8;
const AXIS = 22;
const FONT = '12px system-ui, "DejaVu Sans", sans-serif';
const COLOURS: readonly string[] = ['--map', '--unmap', '--invalidate', '--stale', '--bad'];

export const LANE_HEIGHT: number = LANE_TITLE + TRACKS.length * (TRACK_HEIGHT + TRACK_GAP) + LANE_GAP;

/** Width of the names at the left. */
export function gutterOf(width: number): number {
  return Math.min(104, Math.floor(width / 3));
}

export function heightOf(model: TimelineModel): number {
  return AXIS + model.lanes.length * LANE_HEIGHT;
}

/** Keeps its arrays from one picture to the next. */
export class TimelineCanvas {
  readonly #canvas: HTMLCanvasElement;
  #counts: Uint32Array = new Uint32Array(0);

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
  }

  /** @param width in CSS pixels @returns milliseconds it took */
  draw(model: TimelineModel, from: number, to: number, width: number): number {
    const started = performance.now();
    const canvas = this.#canvas;
    const context = canvas.getContext('2d');
    if (context === null) return 0;
    const ratio = Math.max(1, globalThis.devicePixelRatio);
    const height = heightOf(model);
    const [pixelsX, pixelsY] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== pixelsX || canvas.height !== pixelsY) {
      canvas.width = pixelsX;
      canvas.height = pixelsY;
      canvas.style.height = `${height}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(canvas);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    context.fillStyle = colour('--page');
    context.fillRect(0, 0, width, height);
    context.font = FONT;
    context.textBaseline = 'middle';

    const gutter = gutterOf(width);
    const columns = Math.max(1, Math.floor(width - gutter));
    const size = model.lanes.length * TRACKS.length * columns;
    if (this.#counts.length !== size) this.#counts = new Uint32Array(size);
    const counts = this.#counts;
    model.columns(from, to, columns, counts);
    this.#axis(context, from, to, gutter, columns, height, colour);

    // The same scale for a track in all lanes, or they could not be compared.
    const highest = TRACKS.map((_, track) => {
      let most = 1;
      for (let lane = 0; lane < model.lanes.length; lane++) {
        const at = (lane * TRACKS.length + track) * columns;
        for (let column = 0; column < columns; column++) most = Math.max(most, counts[at + column]);
      }
      return most;
    });
    for (const [lane, name] of model.lanes.entries()) {
      const top = AXIS + lane * LANE_HEIGHT;
      context.fillStyle = colour('--text');
      context.textAlign = 'left';
      context.fillText(name, 2, top + LANE_TITLE / 2, width - 4);
      for (const [track, label] of TRACKS.entries()) {
        const bottom = top + LANE_TITLE + (track + 1) * (TRACK_HEIGHT + TRACK_GAP) - TRACK_GAP;
        context.fillStyle = colour('--quiet');
        context.fillText(label, 10, bottom - TRACK_HEIGHT / 2, gutter - 12);
        context.fillStyle = colour('--line');
        context.fillRect(gutter, bottom, columns, 1);
        context.fillStyle = colour(COLOURS[track] ?? '--text');
        const at = (lane * TRACKS.length + track) * columns;
        bars(context, counts, at, columns, gutter, bottom, TRACK_HEIGHT / Math.log2(1 + highest[track]));
      }
    }
    return performance.now() - started;
  }

  #axis(
    context: CanvasRenderingContext2D,
    from: number,
    to: number,
    gutter: number,
    columns: number,
    height: number,
    colour: (name: string) => string,
  ): void {
    const step = tickStep(to - from, columns / 110);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    context.textAlign = 'center';
    for (let tick = Math.ceil(from / step); tick * step <= to; tick++) {
      const seconds = tick * step;
      const x = gutter + ((seconds - from) / (to - from)) * columns;
      context.fillStyle = colour('--line');
      context.fillRect(Math.round(x), AXIS - 4, 1, height);
      context.fillStyle = colour('--quiet');
      const half = 40;
      if (x - half > gutter && x + half < gutter + columns)
        context.fillText(`${seconds.toFixed(digits)} s`, x, AXIS / 2);
    }
  }
}

/** One rectangle for neighbours of the same height. */
function bars(
  context: CanvasRenderingContext2D,
  counts: Uint32Array,
  at: number,
  columns: number,
  left: number,
  bottom: number,
  perLog2: number,
): void {
  let begin = 0;
  let height = 0;
  for (let column = 0; column <= columns; column++) {
    const count = column < columns ? counts[at + column] : 0;
    const next = count === 0 ? 0 : Math.max(3, Math.round(Math.log2(1 + count) * perLog2));
    if (next === height) continue;
    if (height > 0) context.fillRect(left + begin, bottom - height, column - begin, height);
    begin = column;
    height = next;
  }
}

/** A step of 1, 2 or 5 times a power of ten, so that there are at most so many. */
function tickStep(span: number, most: number): number {
  const least = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5]) if (power * factor >= least) return power * factor;
  return power * 10;
}
