/** What a reader could not use: counted in full, the first few kept for a message. */

/** One line or record that was left out. */
export interface Skip {
  /** Line or record number, from 1. */
  readonly line: number;
  /** What was expected there. */
  readonly what: string;
  /** The start of the line, control characters escaped. */
  readonly excerpt: string;
}

/** How many skips are kept. */
const KEPT = 8;

/** Counter of skips. */
export class SkipLog {
  count: number = 0;
  readonly first: Skip[] = [];

  add(line: number, what: string, excerpt: string): void {
    this.count++;
    if (this.first.length < KEPT) this.first.push({ line, what, excerpt });
  }
}
