/** The page's side of the worker: `engine.run('job', input)`. */
import type { FromWorker, JobInput, JobName, JobResult, ToWorker } from './protocol.ts';
import { JobError } from './protocol.ts';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (stage: string, done: number, total: number) => void;
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: Error) => void;
  readonly options: RunOptions;
}

export class Engine {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;

  constructor() {
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    this.#worker.addEventListener('message', (event: MessageEvent<FromWorker>) => this.#take(event.data));
    this.#worker.addEventListener('error', (event) => {
      const reason = new Error(`The worker stopped: ${event.message}. Reload the page.`);
      for (const pending of this.#pending.values()) pending.reject(reason);
      this.#pending.clear();
    });
  }

  /** @throws JobError for input that cannot be used; the signal's reason when it fires; Error for a bug. */
  async run<N extends JobName>(name: N, input: JobInput<N>, options: RunOptions = {}): Promise<JobResult<N>> {
    options.signal?.throwIfAborted();
    const id = this.#nextId;
    this.#nextId += 1;
    const result = await new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, options });
      options.signal?.addEventListener('abort', () => {
        this.#post({ kind: 'cancel', id });
        this.#pending.delete(id);
        reject(new DOMException('cancelled', 'AbortError'));
      });
      this.#post({ kind: 'run', id, name, input });
    });
    return result as JobResult<N>;
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #take(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.kind === 'progress') {
      pending.options.onProgress?.(message.stage, message.done, message.total);
      return;
    }
    this.#pending.delete(message.id);
    if (message.kind === 'result') pending.resolve(message.result);
    else pending.reject(message.expected ? new JobError(message.message) : new Error(message.message));
  }
}

let started: Engine | undefined;

/** The one worker of the page, started when first asked for. */
export function engine(): Engine {
  started ??= new Engine();
  return started;
}
