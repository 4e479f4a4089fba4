/**
 * The call that one context (a task, or an interrupt of one) is in, as far as its events and commands tell: the pages that it
 * owes a flush, and the commands queued for it.
 */
import type { Command } from './command.ts';
import { Effect } from './command.ts';

/** Commands kept per call: far more than the 63 of AMD's longest flush. More of them count, but reach nothing. */
const MAX_COMMANDS = 1024;

/** What the commands of a call reach of it under one domain. */
export class Coverage {
  domain = -1;
  /** First page that is not reached, -1 for none. */
  badPage = -1;
  /** Pages in front of that, or of the call: more is better. */
  reached = 0;
  keepsTables = false;
  wide = false;
  /** A command would have reached it, had it been waited for. */
  unwaited = false;
}

export class ContextCall {
  /** A RecordKind, 0 when there is no call. */
  kind = 0;
  /** Numbers of its records: of a map one; of unmaps one for each, since those without a command count each for itself. */
  readonly records: number[] = [];
  /** Pages [start, end). */
  start = 0;
  end = 0;
  timeNs = 0;
  /** Attachment of the device that a dma:* event named, or -1. */
  device = -1;
  /** Every piece is mapped one to one. */
  isIdentity = true;
  /** First page and line of each iommu:* event, and whether it may be one large page. */
  readonly pieceStarts: number[] = [];
  readonly pieceLines: number[] = [];
  nrLarge = 0;
  nrCommands = 0;
  /** Its commands were waited for: what comes now is not of it, but the dma:* event that names its device. */
  isSealed = false;

  readonly #domains: number[] = [];
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #effects: number[] = [];
  readonly #keepsTables: boolean[] = [];
  readonly lines: number[] = [];
  /** Waits queued before the command. */
  readonly #waits: number[] = [];

  open(kind: number, start: number, end: number, line: number, timeNs: number): void {
    this.kind = kind;
    this.start = start;
    this.end = start;
    this.timeNs = timeNs;
    this.device = -1;
    this.isIdentity = true;
    this.nrCommands = 0;
    this.nrLarge = 0;
    this.isSealed = false;
    for (const list of [
      this.records,
      this.pieceStarts,
      this.pieceLines,
      this.lines,
      this.#domains,
      this.#starts,
      this.#ends,
      this.#effects,
      this.#waits,
    ]) {
      list.length = 0;
    }
    this.#keepsTables.length = 0;
    this.extend(end, line);
  }

  /** One more event of the call: the pages behind the last ones. */
  extend(end: number, line: number): void {
    this.pieceStarts.push(this.end);
    this.pieceLines.push(line);
    this.end = end;
  }

  /** Line of the event that a page belongs to. */
  lineOf(page: number): number {
    let found = this.pieceLines[0] ?? -1;
    for (let i = 1; i < this.pieceStarts.length && this.pieceStarts[i] <= page; i++) found = this.pieceLines[i];
    return found;
  }

  /** Whether a command reaches pages of the call. */
  meets({ effect, start, nrPages }: Command): boolean {
    if (effect === Effect.pages) return start < this.end && start + nrPages > this.start;
    return effect === Effect.domain || effect === Effect.global;
  }

  /** A command of this context that meets the call. @param waits waits queued so far */
  add({ effect, domain, start, nrPages, keepsTables }: Command, line: number, waits: number): void {
    this.nrCommands += 1;
    if (this.lines.length >= MAX_COMMANDS) return;
    this.#effects.push(effect);
    this.#domains.push(domain);
    this.#starts.push(effect === Effect.pages ? start : 0);
    this.#ends.push(effect === Effect.pages ? start + nrPages : Infinity);
    this.#keepsTables.push(keepsTables && effect === Effect.pages);
    this.lines.push(line);
    this.#waits.push(waits);
  }

  /**
   * The domain whose commands reach most. @param waits waits queued so far, or -1 when commands are done as soon as traced
   * @returns the other domain that was named, or -1
   */
  coverage(best: Coverage, waits: number): number {
    best.domain = -1;
    best.reached = -1;
    let other = -1;
    for (let i = 0; i < this.lines.length; i++) {
      const domain = this.#domains[i];
      if (this.#effects[i] === Effect.global || this.#domains.indexOf(domain) < i) continue;
      const before = best.domain;
      this.#cover(domain, best, waits);
      if (before !== -1) other = best.domain === before ? domain : before;
    }
    if (best.domain === -1) this.#cover(-1, best, waits);
    return other;
  }

  #cover(domain: number, best: Coverage, waits: number): void {
    let page = this.start;
    let keepsTables = false;
    let wide = false;
    let unwaited = false;
    while (page < this.end) {
      let found = -1;
      for (let i = 0; i < this.lines.length; i++) {
        const isGlobal = this.#effects[i] === Effect.global;
        if (!isGlobal && this.#domains[i] !== domain) continue;
        if (this.#starts[i] > page || this.#ends[i] <= page) continue;
        if (waits >= 0 && this.#waits[i] >= waits) unwaited = true;
        // One that drops the tables' entries too is the better proof.
        else if (found < 0 || (this.#keepsTables[found] && !this.#keepsTables[i])) found = i;
      }
      if (found < 0) break;
      keepsTables ||= this.#keepsTables[found];
      wide ||= this.#effects[found] !== Effect.pages;
      page = this.#ends[found];
    }
    const reached = Math.min(page, this.end) - this.start;
    if (reached <= best.reached) return;
    best.domain = domain;
    best.reached = reached;
    best.badPage = page < this.end ? page : -1;
    best.keepsTables = keepsTables;
    best.wide = wide;
    best.unwaited = unwaited && page < this.end;
  }

  /** Pages that the page-selective commands of a domain select. */
  selected(domain: number): number {
    let pages = 0;
    for (let i = 0; i < this.lines.length; i++) {
      if (this.#effects[i] === Effect.pages && this.#domains[i] === domain) pages += this.#ends[i] - this.#starts[i];
    }
    return pages;
  }

  /**
   * End of the first events, when the first command is for just these and others follow; -1 otherwise. VT-d drivers queue one
   * command per call and unit, so the first events then were a call of their own, flushed after the next one had begun.
   */
  get flushedPart(): number {
    if (this.#effects[0] !== Effect.pages || this.#starts[0] > this.start) return -1;
    const reached = this.#ends[0];
    return reached < this.end && this.pieceStarts.includes(reached) ? reached : -1;
  }

  /** Whether the first events have a command of their own, and those behind them another one. */
  get hasLateFlush(): boolean {
    const part = this.flushedPart;
    if (part < 0) return false;
    for (let i = 1; i < this.lines.length; i++) {
      if (this.#domains[i] === this.#domains[0] && this.#starts[i] >= part) return true;
    }
    return false;
  }

  /** Takes the events from a page on away. @returns their first pages and lines, and the end of the last */
  split(page: number): { readonly starts: number[]; readonly lines: number[]; readonly end: number } {
    const index = this.pieceStarts.indexOf(page);
    const { end } = this;
    this.end = page;
    return { starts: this.pieceStarts.splice(index), lines: this.pieceLines.splice(index), end };
  }
}
