/**
 * The part of a trace line before the event's own text, in the three shapes tools print:
 *
 *   ftrace text        ` task-pid   (tgid) [cpu] flags  time: event: text`      kernel/trace/trace_output.c, 3.13 to 7.0;
 *                      flags 4 characters up to 5.11, 5 after (migrate-disable); the tgid column is an option
 *   trace-cmd report   ` task-pid   [cpu]  time: event:        text`            flags in some versions, event name padded
 *   perf script        ` task  pid [cpu]  time: system:event: text`             also pid/tid, also a period before the event
 *
 * A task name holds anything, so the line is read from the CPU column, not from its start. Task names have at most 15
 * characters: too few for a forged column with a pid before it and a time and an event name behind it.
 */
import { IrqContext } from './events.ts';

/** Which tool wrote a line, as far as its shape tells. */
export const LineShape = { ftrace: 0, traceCmd: 1, perf: 2 } as const;

/** The CPU column is looked for in this many bytes: the widest known prefix has 50. */
const COLUMN_LIMIT = 256;

/**
 * First time that is refused, about 285 years. Times are exact below 2^53 ns (104 days); above, as in a trace of the `tai`
 * clock or of a host long up, they are rounded to at most 512 ns and keep their order.
 */
export const MAX_SECONDS = 9e9;
const MAX_TIME_NS = 9e18;

const BLANK = 32;
const TAB = 9;

function isBlank(byte: number): boolean {
  return byte === BLANK || byte === TAB;
}

function isDigit(byte: number): boolean {
  return byte >= 48 && byte <= 57;
}

function isNameByte(byte: number): boolean {
  return (byte >= 97 && byte <= 122) || (byte >= 65 && byte <= 90) || isDigit(byte) || byte === 95;
}

/** IrqContext of the third character of the flags column (print_lat_fmt). */
export function irqContextOf(flag: number): number {
  switch (flag) {
    case 115: // s
      return IrqContext.softirq;
    case 104: // h
    case 72: // H: hard interrupt that came in a softirq
      return IrqContext.hardirq;
    case 122: // z
    case 90: // Z
      return IrqContext.nmi;
    default:
      return IrqContext.task;
  }
}

const NANO_SCALE = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1];

/** A parsed header; its fields are valid after a `parse` that returned true. */
export class LineHeader {
  pid: number = 0;
  cpu: number = 0;
  irqContext: number = 0;
  timeNs: number = 0;
  /** One of LineShape. */
  shape: number = 0;
  /** Index of the '[' of the CPU column. */
  column: number = 0;
  /** Whether flags stand between the CPU and the time. */
  hasFlags: boolean = false;
  /** The system before the event name (`iommu` of `iommu:map`); empty range when there is none. */
  systemStart: number = 0;
  systemEnd: number = 0;
  /** The event name; an empty range in a line of the function tracer, which has none. */
  nameStart: number = 0;
  nameEnd: number = 0;
  /** First byte of the event's own text. */
  textStart: number = 0;

  /** Reads the header of the line [start, end). False when the line has none. */
  parse(bytes: Uint8Array, start: number, end: number): boolean {
    const limit = Math.min(end, start + COLUMN_LIMIT);
    for (let at = start + 1; at < limit; at++) {
      if (bytes[at] === 91 && isBlank(bytes[at - 1]) && this.#parseAt(bytes, start, at, end)) {
        this.column = at;
        return true;
      }
    }
    return false;
  }

  #parseAt(bytes: Uint8Array, start: number, column: number, end: number): boolean {
    let at = column + 1;
    let cpu = 0;
    while (at < end && isDigit(bytes[at])) cpu = cpu * 10 + bytes[at++] - 48;
    const nrDigits = at - column - 1;
    if (nrDigits < 3 || nrDigits > 6 || at + 1 >= end || bytes[at] !== 93 || !isBlank(bytes[at + 1])) return false;
    this.cpu = cpu;
    return this.#parsePid(bytes, start, column) && this.#parseTime(bytes, at + 1, end);
  }

  /** Backwards from the CPU column: blanks, perhaps `(tgid)`, the pid, and what is before it. */
  #parsePid(bytes: Uint8Array, start: number, column: number): boolean {
    let at = column - 1;
    while (at >= start && isBlank(bytes[at])) at--;
    if (at >= start && bytes[at] === 41) {
      at--;
      while (at >= start && (bytes[at] === BLANK || bytes[at] === 45 || isDigit(bytes[at]))) at--;
      if (at < start || bytes[at] !== 40) return false;
      at--;
      while (at >= start && isBlank(bytes[at])) at--;
    }
    let pid = 0;
    let scale = 1;
    const last = at;
    while (at >= start && isDigit(bytes[at])) {
      pid += (bytes[at] - 48) * scale;
      scale *= 10;
      at--;
    }
    if (at === last || last - at > 10 || at < start) return false;
    if (bytes[at] === 47) {
      // perf's pid/tid: ftrace's pid is the tid, which was just read.
      at--;
      while (at >= start && isDigit(bytes[at])) at--;
      if (at < start) return false;
    }
    this.pid = pid;
    if (bytes[at] === 45) this.shape = LineShape.ftrace;
    else if (isBlank(bytes[at])) this.shape = LineShape.perf;
    else return false;
    return true;
  }

  #parseTime(bytes: Uint8Array, from: number, end: number): boolean {
    let at = from;
    while (at < end && isBlank(bytes[at])) at++;
    const token = at;
    while (at < end && !isBlank(bytes[at])) at++;
    this.irqContext = IrqContext.task;
    this.hasFlags = !this.#parseStamp(bytes, token, at);
    if (!this.hasFlags) {
      if (this.shape === LineShape.ftrace) this.shape = LineShape.traceCmd;
    } else {
      const width = at - token;
      // perf prints no flags: a blank before the pid and flags behind the CPU is a damaged line.
      if (width < 4 || width > 8 || this.shape === LineShape.perf) return false;
      this.irqContext = irqContextOf(bytes[token + 2]);
      while (at < end && isBlank(bytes[at])) at++;
      const stamp = at;
      while (at < end && !isBlank(bytes[at])) at++;
      if (!this.#parseStamp(bytes, stamp, at)) return false;
    }
    return this.parseName(bytes, at, end);
  }

  /** `digits[.digits]:` up to exactly `end`. A stamp without a dot is a counter and taken as it is. */
  #parseStamp(bytes: Uint8Array, start: number, end: number): boolean {
    let at = start;
    let whole = 0;
    while (at < end && isDigit(bytes[at])) whole = whole * 10 + bytes[at++] - 48;
    if (at === start) return false;
    if (at < end && bytes[at] === 46) {
      const point = ++at;
      let fraction = 0;
      while (at < end && isDigit(bytes[at])) fraction = fraction * 10 + bytes[at++] - 48;
      const nrDigits = at - point;
      if (nrDigits < 1 || nrDigits > 9) return false;
      whole = whole * 1e9 + fraction * NANO_SCALE[nrDigits];
    }
    this.timeNs = whole;
    return at === end - 1 && bytes[at] === 58 && whole < MAX_TIME_NS;
  }

  /**
   * Reads `[system:]event: ` from `from`, behind the time. The first half of a header read elsewhere can be completed with it:
   * set pid, cpu, irqContext, timeNs and shape before.
   */
  parseName(bytes: Uint8Array, from: number, end: number): boolean {
    let at = from;
    while (at < end && isBlank(bytes[at])) at++;
    const token = at;
    while (at < end && isDigit(bytes[at])) at++;
    // perf prints the period of the sample before the event in some configurations.
    if (at > token && at < end && isBlank(bytes[at])) while (at < end && isBlank(bytes[at])) at++;
    else at = token;
    let start = at;
    this.systemStart = start;
    this.systemEnd = start;
    for (;;) {
      while (at < end && isNameByte(bytes[at])) at++;
      if (at > start && at + 1 < end && bytes[at] === 58 && isNameByte(bytes[at + 1])) {
        this.systemEnd = at;
        start = ++at;
        continue;
      }
      break;
    }
    this.nameStart = start;
    this.nameEnd = at;
    if (at > start && at < end && bytes[at] === 58 && (at + 1 === end || isBlank(bytes[at + 1]))) {
      at++;
      const text = at;
      while (at < end && isBlank(bytes[at])) at++;
      this.textStart = at;
      if (at - text > 1 && this.shape === LineShape.ftrace) this.shape = LineShape.traceCmd;
      return true;
    }
    // `function <-caller`: a line of the function tracer.
    for (at = token; at + 2 < end; at++) {
      if (bytes[at] === BLANK && bytes[at + 1] === 60 && bytes[at + 2] === 45) {
        this.nameEnd = this.nameStart;
        this.textStart = token;
        return true;
      }
    }
    return false;
  }
}
