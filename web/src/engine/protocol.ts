/**
 * What the page and its worker say to each other. The library runs in the worker: the page stays fluent whatever it computes. A
 * job is a method of `Jobs` (jobs.ts); it reports progress, can be cancelled, and ends with a result or a message for people.
 */
import type { Jobs } from './jobs.ts';

export type JobName = keyof Jobs;
export type JobInput<N extends JobName> = Parameters<Jobs[N]>[0];
/** What arrives at the page: of a `Moved` its value. */
export type JobResult<N extends JobName> =
  Awaited<ReturnType<Jobs[N]>> extends Moved<infer T> ? T : Awaited<ReturnType<Jobs[N]>>;

/** Page to worker. */
export type ToWorker =
  | { readonly kind: 'run'; readonly id: number; readonly name: JobName; readonly input: unknown }
  | { readonly kind: 'cancel'; readonly id: number };

/** Worker to page. */
export type FromWorker =
  | {
      readonly kind: 'progress';
      readonly id: number;
      readonly stage: string;
      readonly done: number;
      readonly total: number;
    }
  | { readonly kind: 'result'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly message: string; readonly expected: boolean };

/** What a job gets besides its input. */
export interface JobContext {
  readonly signal: AbortSignal;
  /** Tells how far the work is. `total` 0: not known. Cheap: at most one message per frame leaves the worker. */
  progress(stage: string, done: number, total: number): void;
  /** Lets messages in (cancel). Await it between turns of work. */
  pause(): Promise<void>;
}

/** An error whose message is meant for the user: bad input, not a bug. */
export class JobError extends Error {
  override readonly name = 'JobError';
}

/** A result whose buffers are moved, not copied, to the page. */
export class Moved<T> {
  readonly value: T;
  readonly buffers: readonly ArrayBuffer[];

  constructor(value: T, buffers: readonly ArrayBuffer[]) {
    this.value = value;
    this.buffers = buffers;
  }
}
