/** The worker's side: runs jobs one after the other as they come, and hears `cancel` between their turns. */
import { JOBS } from './jobs.ts';
import type { FromWorker, JobContext, JobName, ToWorker } from './protocol.ts';
import { JobError, Moved } from './protocol.ts';

const running = new Map<number, AbortController>();

function send(message: FromWorker, buffers: readonly ArrayBuffer[] = []): void {
  globalThis.postMessage(message, { transfer: [...buffers] });
}

/** Milliseconds between two progress messages. */
const PROGRESS_MS = 50;

// A message to oneself comes after those already waiting, and without the 4 ms that nested timers are held back.
const turn = new MessageChannel();
const waiting: (() => void)[] = [];
turn.port1.addEventListener('message', () => waiting.shift()?.());
turn.port1.start();

function contextOf(id: number, signal: AbortSignal): JobContext {
  let shown = 0;
  return {
    signal,
    progress(stage, done, total) {
      const now = performance.now();
      if (now - shown < PROGRESS_MS) return;
      shown = now;
      send({ kind: 'progress', id, stage, done, total });
    },
    pause: async () => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        turn.port2.postMessage(null);
      });
      signal.throwIfAborted();
    },
  };
}

async function run(id: number, name: JobName, input: unknown): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const job = JOBS[name] as (given: unknown, context: JobContext) => Promise<unknown>;
    const result = await job(input, contextOf(id, controller.signal));
    if (result instanceof Moved) send({ kind: 'result', id, result: result.value }, result.buffers);
    else send({ kind: 'result', id, result });
  } catch (error) {
    if (controller.signal.aborted) return;
    const message = error instanceof Error ? error.message : String(error);
    send({ kind: 'error', id, message, expected: error instanceof JobError });
    if (!(error instanceof JobError)) console.error(error);
  } finally {
    running.delete(id);
  }
}

globalThis.addEventListener('message', (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if (message.kind === 'run') void run(message.id, message.name, message.input);
  else running.get(message.id)?.abort();
});
