/** A progress bar on standard error when that is a terminal, nothing otherwise. */
import { SingleBar } from 'cli-progress';

export class Progress {
  readonly #bar: SingleBar | null = process.stderr.isTTY
    ? new SingleBar({
        stream: process.stderr,
        format: '{stage} [{bar}] {percentage}%',
        hideCursor: true,
        clearOnComplete: true,
        etaBuffer: 50,
      })
    : null;
  #stage = '';

  /** Shows how far a stage is. @param total 0 when unknown: nothing is shown */
  show(stage: string, done: number, total: number): void {
    if (this.#bar === null || total <= 0) return;
    if (stage !== this.#stage) {
      this.end();
      this.#stage = stage;
      this.#bar.start(total, done, { stage });
    } else {
      this.#bar.update(done, { stage });
    }
  }

  /** Removes the bar, so that what follows starts on a clean line. */
  end(): void {
    if (this.#stage !== '') this.#bar?.stop();
    this.#stage = '';
  }
}
