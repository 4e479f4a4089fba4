/**
 * A check of a user's own driver, in a thread of its own: a driver that never returns can be stopped there, and Ctrl-C is heard
 * meanwhile. The other side is own-check.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { CheckChoice, Checked } from './check-run.ts';
import { runCheck } from './check-run.ts';
import { FileError } from './file-error.ts';
import { loadDriver } from './own-driver.ts';

/** What the thread says. */
export type CheckMessage =
  | { readonly type: 'case'; readonly name: string }
  | { readonly type: 'progress'; readonly stage: string; readonly done: number; readonly total: number }
  | { readonly type: 'report'; readonly checked: Checked }
  | { readonly type: 'refused'; readonly message: string };

/** What the thread is given. */
export interface CheckOrder {
  readonly path: string;
  readonly choice: CheckChoice & { readonly playsFindings: boolean };
}

const port = parentPort;
if (port === null) throw new Error('check-worker.js is a thread of iommukit check');
const say = (message: CheckMessage): void => port.postMessage(message);
const abort = new AbortController();
port.once('message', () => abort.abort());

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- own-check.ts is the only one who starts this thread
const { path, choice } = workerData as CheckOrder;
try {
  const own = await loadDriver(path);
  const checked = await runCheck(
    { ...choice, arches: choice.arches.length > 0 ? choice.arches : [own.arch ?? 'intel'], makeDriver: own.makeDriver },
    abort.signal,
    (stage, done, total) => say({ type: 'progress', stage, done, total }),
    (name) => say({ type: 'case', name }),
  );
  say({ type: 'report', checked });
} catch (error) {
  if (!(error instanceof FileError)) throw error;
  say({ type: 'refused', message: error.message });
} finally {
  port.close();
}
