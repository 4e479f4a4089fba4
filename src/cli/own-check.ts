/** Starts a check of a user's own driver in a thread, and ends it when the driver does not return. */
import { Worker } from 'node:worker_threads';
import type { Checked } from './check-run.ts';
import type { CheckMessage, CheckOrder } from './check-worker.ts';
import { UsageError } from './exit.ts';
import { FileError } from './file-error.ts';

/** A case takes milliseconds; one that takes so long has a driver that does not return. */
const PATIENCE_MS = 20_000;
/** After Ctrl-C a thread that is alive says what it has. */
const GRACE_MS = 2_000;

/**
 * @returns null when it was interrupted and the driver did not return
 * @throws FileError for a module that is no driver, or one that does not return
 */
export async function checkOwnDriver(
  path: string,
  choice: CheckOrder['choice'],
  signal: AbortSignal,
  show: (stage: string, done: number, total: number) => void,
): Promise<Checked | null> {
  const order: CheckOrder = { path, choice };
  const worker = new Worker(new URL('./check-worker.js', import.meta.url), { workerData: order });
  try {
    return await answerOf(worker, path, signal, show);
  } finally {
    await worker.terminate();
  }
}

function answerOf(
  worker: Worker,
  path: string,
  signal: AbortSignal,
  show: (stage: string, done: number, total: number) => void,
): Promise<Checked | null> {
  return new Promise((resolve, reject) => {
    let running = 'while it was loaded';
    const tooLong = (): void => {
      if (signal.aborted) resolve(null);
      else reject(new FileError(path, `does not return (${running}, ${PATIENCE_MS / 1000} s)`));
    };
    let timer = setTimeout(tooLong, PATIENCE_MS);
    const wait = (ms: number): void => {
      clearTimeout(timer);
      timer = setTimeout(tooLong, ms);
    };
    signal.addEventListener('abort', () => {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread of Node, no window
      worker.postMessage('stop');
      wait(GRACE_MS);
    });
    worker.on('message', (message: CheckMessage) => {
      switch (message.type) {
        case 'case':
          running = `in ${message.name}`;
          break;
        case 'progress':
          show(message.stage, message.done, message.total);
          break;
        case 'report':
          resolve(message.checked);
          break;
        case 'refused':
          reject(new UsageError(message.message));
          break;
        default:
          message satisfies never;
      }
      if (!signal.aborted) wait(PATIENCE_MS);
    });
    worker.on('error', reject);
    worker.on('exit', (code) => {
      clearTimeout(timer);
      // A driver that calls process.exit() ends its thread only.
      reject(new FileError(path, `ended its thread with code ${code} (${running})`));
    });
  });
}
