/** Who watches the runs of a replay for its output files: a recorder of timelines for a page, a writer of a Perfetto trace, both. */
import type { RunObserver } from '../replay/index.ts';
import type { Timeline } from '../report/index.ts';
import { MAX_REPORT_EVENTS, PerfettoTrace, TimelineRecorder } from '../report/index.ts';
import type { ResultFiles } from './result-files.ts';

export class RunWatch {
  readonly #devices: readonly string[];
  readonly #recorders: TimelineRecorder[] = [];
  readonly #keepsTimelines: boolean;
  /** Events of one timeline. */
  readonly #limit: number;
  readonly #trace: PerfettoTrace | null;

  /** @param devices names of address spaces, by domain @param nrRuns that there will be */
  constructor(files: ResultFiles, devices: readonly string[], nrRuns: number) {
    this.#devices = devices;
    this.#keepsTimelines = files.wants('.html');
    this.#limit = MAX_REPORT_EVENTS / nrRuns;
    this.#trace = files.wants('.perfetto-trace')
      ? new PerfettoTrace((bytes) => files.append('.perfetto-trace', bytes))
      : null;
  }

  /** Who watches the next run; null for nobody, which is faster. */
  observerOf(mapFlush: string, unmapFlush: string): RunObserver | null {
    const name = `${mapFlush}, ${unmapFlush}`;
    const writer = this.#trace?.run(name, this.#devices) ?? null;
    if (!this.#keepsTimelines) return writer;
    const recorder = new TimelineRecorder(name, this.#limit);
    this.#recorders.push(recorder);
    return writer === null ? recorder : new Both(recorder, writer);
  }

  /** After the last run. @returns one timeline per run, none when no file wants them */
  finish(): Timeline[] {
    this.#trace?.finish();
    return this.#recorders.map((recorder) => recorder.timeline(this.#devices));
  }
}

class Both implements RunObserver {
  readonly #first: RunObserver;
  readonly #second: RunObserver;

  constructor(first: RunObserver, second: RunObserver) {
    this.#first = first;
    this.#second = second;
  }

  map(...call: Parameters<RunObserver['map']>): void {
    this.#first.map(...call);
    this.#second.map(...call);
  }

  unmap(...call: Parameters<RunObserver['unmap']>): void {
    this.#first.unmap(...call);
    this.#second.unmap(...call);
  }

  command(...call: Parameters<RunObserver['command']>): void {
    this.#first.command(...call);
    this.#second.command(...call);
  }

  violation(...call: Parameters<RunObserver['violation']>): void {
    this.#first.violation(...call);
    this.#second.violation(...call);
  }

  windowClosed(...call: Parameters<RunObserver['windowClosed']>): void {
    this.#first.windowClosed(...call);
    this.#second.windowClosed(...call);
  }
}
