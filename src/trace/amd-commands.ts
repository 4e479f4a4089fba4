/** The commands in a trace (see amd-payload.ts), and nothing else of it: the guest's own answer to what a replay predicts. */
import type { TraceEvent, TraceSink } from './events.ts';
import { Names } from './events.ts';
import { FtraceTextReader } from './ftrace-text.ts';
import type { Skip } from './skips.ts';

/** What a reader of commands tells. */
export interface AmdCommandSink {
  /** One command: its words as int32, the line or record it stands in, and its time on the trace's clock in nanoseconds. */
  command(d0: number, d1: number, d2: number, d3: number, line: number, timeNs: number): void;
  skipped(line: number, what: string, excerpt: string): void;
}

/** A sink for any reader of traces that passes on the commands alone. */
export function commandsOf(sink: AmdCommandSink): TraceSink {
  return {
    wants: [],
    event() {},
    amdCommand({ words, line, timeNs }: TraceEvent) {
      sink.command(words[0], words[1], words[2], words[3], line, timeNs);
    },
    skipped: (line, what, excerpt) => sink.skipped(line, what, excerpt),
  };
}

/** What was in a text with commands. */
export interface AmdCommandSummary {
  readonly lines: number;
  readonly commands: number;
  /** Events of other kinds. */
  readonly otherEvents: number;
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
  /** Events the recorder lost: commands may be among them. */
  readonly lost: number;
}

/** Push parser of text: `push` chunks cut anywhere, then `end` once. */
export class AmdCommandReader {
  readonly #reader: FtraceTextReader;
  #commands = 0;

  constructor(sink: AmdCommandSink) {
    const commands: AmdCommandSink = {
      command: (d0, d1, d2, d3, line, timeNs) => {
        this.#commands++;
        sink.command(d0, d1, d2, d3, line, timeNs);
      },
      skipped: (line, what, excerpt) => sink.skipped(line, what, excerpt),
    };
    this.#reader = new FtraceTextReader(new Names(), commandsOf(commands));
  }

  push(chunk: Uint8Array): void {
    this.#reader.push(chunk);
  }

  /** The input is over. */
  end(): AmdCommandSummary {
    const { lines, events, skipped, firstSkipped, lost } = this.#reader.end();
    return { lines, commands: this.#commands, otherEvents: events - this.#commands, skipped, firstSkipped, lost };
  }
}
