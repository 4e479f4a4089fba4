/**
 * What a run sends to the hardware: commands counted by kind, doorbells, and the sequence of page-selective invalidations
 * for a comparison. Listens at the hardware's end of the queue, so it counts what was executed, not what was meant.
 */
import type { Clock } from '../base/index.ts';
import type { AmdviListener, VtdListener } from '../hw/index.ts';
import type { CommandCounts, CommandSet } from './commands.ts';
import { CommandKind, PageLog, countCommand, noCommands } from './commands.ts';
import { CALL_WINDOW } from './plan.ts';
import type { RunObserver } from './run-observer.ts';

export class CommandRecorder implements VtdListener, AmdviListener {
  readonly counts: CommandCounts = noCommands();
  doorbells = 0;
  /** Null when nobody will compare. */
  readonly pages: PageLog | null;
  /** Window of the running call, packed as in its record. */
  window = 0;
  /** False while the player does what the trace did not show. */
  counting = true;
  /** Recorded minus actual IOVA of the running call, in pages: a renamed range is compared under its recorded address. */
  renamedBy = 0;
  /** Domain of the running call. */
  domain = 0;
  readonly #commands: CommandSet;
  #observer: RunObserver | null = null;
  #clock: Clock | null = null;

  constructor(commands: CommandSet, keepPages: boolean) {
    this.#commands = commands;
    this.pages = keepPages ? new PageLog() : null;
  }

  /** Tells of all commands from now on. */
  watch(observer: RunObserver, clock: Clock): void {
    this.#observer = observer;
    this.#clock = clock;
  }

  /** As VT-d calls it. */
  descriptor(w0: number, w1: number, w2: number, w3: number): void {
    this.command(w0, w1, w2, w3);
  }

  command(w0: number, w1: number, w2: number, w3: number): void {
    if (!this.counting) return;
    const commands = this.#commands;
    const kind = commands.kindOf(w0, w1);
    if (this.#observer !== null) this.#show(this.#observer, kind, w2, w3);
    if (countCommand(this.counts, kind) && this.pages !== null) {
      this.pages.key.push(commands.pageKey(w2, w3) + this.renamedBy * commands.keysPerPage);
      this.pages.domain.push(commands.pageDomain(w0, w1));
      const delay = this.window % CALL_WINDOW;
      const event = (this.window - delay) / CALL_WINDOW;
      this.pages.event.push(event);
      this.pages.latest.push(event + delay);
    }
  }

  #show(observer: RunObserver, kind: CommandKind, w2: number, w3: number): void {
    const commands = this.#commands;
    const timeNs = this.#clock?.nowNs() ?? 0;
    if (kind === CommandKind.page) {
      const key = commands.pageKey(w2, w3);
      observer.command(kind, this.domain, commands.firstPage(key) * 4096, commands.nrPages(key), timeNs);
    } else {
      observer.command(kind, kind === CommandKind.global ? -1 : this.domain, 0, 0, timeNs);
    }
  }

  doorbell(_tail: number): void {
    if (this.counting) this.doorbells += 1;
  }
}
