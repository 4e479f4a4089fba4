/**
 * The header of a line up to its event's name, read a word at a time, in the shapes that tools print by default today:
 *
 *   ftrace since 5.12          `task-pid [cpu] flags seconds.micros: `
 *   trace-cmd report           the same, without flags up to version 3.1
 *   perf script                `task pid [cpu] seconds.micros: `
 *
 * The CPU column is expected where the last line had it. What seldom changes from line to line is compared with what it was and
 * not read again: the seconds, the flags, and task and pid, by a table. Anything unusual is for LineHeader, which accepts every
 * line that is accepted here and reads the same from it.
 */
import type { TraceEvent } from './events.ts';
import { IrqContext } from './events.ts';
import type { LineHeader } from './ftrace-header.ts';
import { LineShape, MAX_SECONDS as IMPORTED_MAX_SECONDS, irqContextOf } from './ftrace-header.ts';
import { INDEX_MASK as IMPORTED_MASK, text2, text4 } from './words.ts';

// An imported constant is loaded and checked at every use, a constant of this file is part of the code.
const MAX_SECONDS = IMPORTED_MAX_SECONDS;
const INDEX_MASK = IMPORTED_MASK;
const CPU = text4('[000');
const MILLIS = text4('.000');
const MICROS = text4('000:');
const CPU_END = text2('] ');
/** Where the seconds, with blanks in front, begin behind the column: `[001] d..1. ` or `[001] `. */
const TIME_AFTER_FLAGS = 12;
const TIME_AFTER_CPU = 6;
const SHAPE_FTRACE = LineShape.ftrace;
const SHAPE_TRACE_CMD = LineShape.traceCmd;
const SHAPE_PERF = LineShape.perf;
const TASK_CONTEXT = IrqContext.task;
const BLANK = 32;
const DASH = 45;
const COMMENT = 35;

/**
 * Texts of tasks and what they mean, by a hash of their end: the eight bytes before the column (`300     `), the eight before
 * those (`     fio-`), and the eight from the second of the line. It remembers a function of the text, so all readers share it.
 */
const TASK_SLOTS = 512;
const PID_TEXTS = new Float64Array(TASK_SLOTS).fill(Number.NaN);
const NAME_ENDS = new Float64Array(TASK_SLOTS);
const NAME_STARTS = new Float64Array(TASK_SLOTS);
const TASKS = new Int32Array(TASK_SLOTS);
/** In a task's number: a blank and no dash stands before the pid, which has at most nine digits. */
const PERF_BIT = 1 << 30;
/** Columns for which those three and the first byte are all of the text. The kernel prints column 25, the tools 23. */
const FIRST_HELD_COLUMN = 17;
const LAST_HELD_COLUMN = 25;

export class FastHeader {
  /** Index of the '[' in the line before: the same in all lines of a trace but those with very long pids. */
  column: number = 0;
  /** One of LineShape, of the line that was read last. */
  shape: number = SHAPE_FTRACE;

  #hasFlags = true;
  /** Of a line with a dash before the pid. */
  #bareShape: number = SHAPE_FTRACE;
  /** "] d..1. ", the flags and the text around them. */
  #flags = Number.NaN;
  #irqContext = 0;
  /** First and last four bytes of the seconds with their blanks in front; overlapping, and never equal at first. */
  #seconds = 0;
  #secondsTail = 1;
  #secondsLength = 4;
  #secondsNs = 0;

  /** Expects lines as the one that `header` read, which began at `start`. */
  expect(header: LineHeader, start: number): void {
    this.column = header.column - start;
    if (header.hasFlags === this.#hasFlags) return;
    this.#hasFlags = header.hasFlags;
    this.#bareShape = header.hasFlags ? SHAPE_FTRACE : SHAPE_TRACE_CMD;
    this.#irqContext = TASK_CONTEXT;
    this.#flags = Number.NaN;
    this.#seconds = 0;
    this.#secondsTail = 1;
  }

  /**
   * Reads the header of the line at `start` into `event`: pid, cpu, irqContext, timeNs. The view must reach 80 bytes behind the
   * column, with a line end behind the header.
   * @returns the byte behind the blank that ends the time, -1 for a header that is not of the usual shape
   */
  read(d: DataView, start: number, event: TraceEvent): number {
    const begin = start & INDEX_MASK;
    const column = (begin + this.column) & INDEX_MASK;
    // "[001": the first byte must be the bracket and the others digits. Likewise ".123" and "456:" below.
    const cpu = d.getInt32(column, true) ^ CPU;
    if (((cpu | (cpu + 0x76767600)) & 0x808080ff) !== 0) return -1;
    let time = column + TIME_AFTER_CPU;
    // Where the digits of pids that tell tasks apart begin: ftrace fills their column at its end.
    let pidAt = column - 6;
    if (this.#hasFlags) {
      if (d.getFloat64(column + 4, true) !== this.#flags && !this.#readFlags(d, column + 4)) return -1;
      time = column + TIME_AFTER_FLAGS;
      pidAt = column - 8;
    } else if (d.getUint16(column + 4, true) !== CPU_END) return -1;

    let dot = (time + this.#secondsLength) & INDEX_MASK;
    if (d.getInt32(time, true) !== this.#seconds || d.getInt32(dot - 4, true) !== this.#secondsTail) {
      dot = this.#readSeconds(d, time);
      if (dot < 0) return -1;
    }
    const millis = d.getInt32(dot, true) ^ MILLIS;
    const micros = d.getInt32(dot + 4, true) ^ MICROS;
    const wrong = ((millis | (millis + 0x76767600)) & 0x808080ff) | ((micros | (micros + 0x00767676)) & 0xff808080);
    if (wrong !== 0 || d.getUint8(dot + 8) !== BLANK) return -1;

    let task: number;
    if (this.column > LAST_HELD_COLUMN || this.column < FIRST_HELD_COLUMN) task = this.#readTask(d, begin, column, -1);
    else {
      const slot = Math.imul(d.getInt32(pidAt, true), 0x9e3779b1) >>> 23;
      if (
        d.getFloat64(column - 8, true) === PID_TEXTS[slot] &&
        d.getFloat64(column - 16, true) === NAME_ENDS[slot] &&
        d.getFloat64(begin + 1, true) === NAME_STARTS[slot] &&
        d.getUint8(begin) === BLANK
      )
        task = TASKS[slot];
      else task = this.#readTask(d, begin, column, slot);
    }
    if (task < 0) return -1;
    this.shape = this.#bareShape;
    if (task >= PERF_BIT) {
      // perf prints no flags.
      if (this.#hasFlags) return -1;
      this.shape = SHAPE_PERF;
      task -= PERF_BIT;
    }
    event.pid = task;
    event.irqContext = this.#irqContext;
    event.cpu = ((cpu >>> 8) & 15) * 100 + ((cpu >>> 16) & 15) * 10 + (cpu >>> 24);
    const high = ((millis >>> 8) & 15) * 100 + ((millis >>> 16) & 15) * 10 + (millis >>> 24);
    const low = (micros & 15) * 100 + ((micros >>> 8) & 15) * 10 + ((micros >>> 16) & 15);
    event.timeNs = this.#secondsNs + (high * 1000 + low) * 1000;
    return dot + 9;
  }

  /** "] d..1. ", the flags five characters that are not blank. */
  #readFlags(d: DataView, at: number): boolean {
    if (d.getUint8(at) !== 93 || d.getUint8(at + 1) !== BLANK || d.getUint8(at + 7) !== BLANK) return false;
    const first = d.getUint8(at + 2);
    // A digit: no flags column.
    if (first <= 57 && first !== 46) return false;
    for (let i = 3; i < 7; i++) if (d.getUint8(at + i) <= BLANK) return false;
    this.#flags = d.getFloat64(at, true);
    this.#irqContext = irqContextOf(d.getUint8(at + 4));
    return true;
  }

  /** Blanks and digits up to a dot. @returns the dot or -1 */
  #readSeconds(d: DataView, from: number): number {
    let at = from;
    while (d.getUint8(at) === BLANK && at - from < 40) at++;
    const first = at;
    let seconds = 0;
    for (; ; at++) {
      const digit = d.getUint8(at) - 48;
      if (digit >>> 0 > 9 || at - first > 20) break;
      seconds = seconds * 10 + digit;
    }
    const length = at - from;
    if (at === first || seconds >= MAX_SECONDS || d.getUint8(at) !== 46) return -1;
    this.#secondsNs = seconds * 1e9;
    // Two words hold four to eight bytes; else two different words for one place, so that no line ever has them.
    const isHeld = length >= 4 && length <= 8;
    this.#secondsLength = isHeld ? length : 4;
    this.#seconds = isHeld ? d.getInt32(from, true) : 0;
    this.#secondsTail = isHeld ? d.getInt32(at - 4, true) : 1;
    return at;
  }

  /**
   * Backwards from the column: blanks, the pid, a dash or blank, a name without control characters. Kept in
   * the table at `slot`. @returns pid and PERF_BIT, or -1
   */
  #readTask(d: DataView, start: number, column: number, slot: number): number {
    let at = column - 1;
    while (at > start && d.getUint8(at) === BLANK) at--;
    if (at === column - 1) return -1;
    let pid = 0;
    let scale = 1;
    const last = at;
    for (; at > start; at--) {
      const digit = d.getUint8(at) - 48;
      if (digit >>> 0 > 9) break;
      pid += digit * scale;
      scale *= 10;
    }
    // The shortest is `-1 [`.
    const before = d.getUint8(at);
    if (at < start || at === last || last - at > 9 || (before !== DASH && before !== BLANK)) return -1;
    // After a control character the line could be another one.
    for (let i = start; i < at; i++) if (d.getUint8(i) < 32) return -1;
    if (d.getUint8(start) === COMMENT) return -1;
    const task = before === BLANK ? pid + PERF_BIT : pid;
    if (slot >= 0 && d.getUint8(start) === BLANK) {
      PID_TEXTS[slot] = d.getFloat64(column - 8, true);
      NAME_ENDS[slot] = d.getFloat64(column - 16, true);
      NAME_STARTS[slot] = d.getFloat64(start + 1, true);
      TASKS[slot] = task;
    }
    return task;
  }
}
