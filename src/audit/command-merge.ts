/**
 * Commands that were recorded in another file than the calls, put back between them. Both files have the same clock. Texts tell
 * microseconds, so times are compared as such; within one, a command goes before the next event of a context that is in a call,
 * which it belongs to, and behind the event that begins one.
 */
import type { TraceSink } from '../trace/index.ts';
import { EventKind, TraceEvent } from '../trace/index.ts';
import type { RecordReader, SpillStore } from '../replay/index.ts';
import { RecordLog } from '../replay/index.ts';
import type { CallReader } from './call-reader.ts';

/** Doubles per command: time, task, CPU, interrupt context, line, four words. */
const DOUBLES = 9;

/** The commands of a file, in its order. */
export class CommandFile implements TraceSink {
  readonly wants: readonly EventKind[] = [EventKind.lost];
  readonly log: RecordLog;
  count = 0;
  hasGap = false;

  constructor(spill: SpillStore | null = null) {
    this.log = new RecordLog(spill);
  }

  event({ kind }: TraceEvent): void {
    if (kind === EventKind.lost) this.hasGap = true;
  }

  skipped(): void {
    this.hasGap = true;
  }

  amdCommand(event: TraceEvent): void {
    const at = this.log.reserve(DOUBLES);
    const { data } = this.log;
    data[at] = event.timeNs;
    data[at + 1] = event.pid;
    data[at + 2] = event.cpu;
    data[at + 3] = event.irqContext;
    data[at + 4] = event.line;
    for (let i = 0; i < 4; i++) data[at + 5 + i] = event.words[i];
    this.count += 1;
  }
}

/** Gives a reader of calls the events of a trace, and the commands of a file at their times. */
export class CommandMerge implements TraceSink {
  readonly wants: readonly EventKind[];
  readonly #reader: CallReader;
  readonly #commands: RecordReader;
  readonly #command = new TraceEvent();
  #isHeld: boolean;

  constructor(reader: CallReader, file: CommandFile) {
    this.#reader = reader;
    this.wants = reader.wants;
    this.#commands = file.log.reader();
    this.#isHeld = this.#next();
    if (file.hasGap) reader.skipped();
  }

  skipped(): void {
    this.#reader.skipped();
  }

  event(event: TraceEvent): void {
    const time = micros(event.timeNs);
    while (this.#isHeld) {
      const command = this.#command;
      const commandTime = micros(command.timeNs);
      if (commandTime > time || (commandTime === time && !this.#reader.isInCall(command))) break;
      this.#reader.amdCommand(command);
      this.#isHeld = this.#next();
    }
    this.#reader.event(event);
  }

  /** The trace is over; what is left of the commands comes now. */
  finish(): void {
    for (; this.#isHeld; this.#isHeld = this.#next()) this.#reader.amdCommand(this.#command);
    this.#reader.finish();
  }

  #next(): boolean {
    if (this.#commands.atEnd) return false;
    const at = this.#commands.take(DOUBLES);
    const { data } = this.#commands;
    const command = this.#command;
    command.kind = EventKind.other;
    command.timeNs = data[at];
    command.pid = data[at + 1];
    command.cpu = data[at + 2];
    command.irqContext = data[at + 3];
    command.line = data[at + 4];
    for (let i = 0; i < 4; i++) command.words[i] = data[at + 5 + i];
    return true;
  }
}

/** As the kernel rounds times for texts (ns2usecs). */
function micros(timeNs: number): number {
  return Math.floor((timeNs + 500) / 1000);
}
