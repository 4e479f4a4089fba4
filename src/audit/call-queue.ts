/**
 * Records in the order in which they began, though they end in another: a ring of those that are not written yet. A record that
 * stays open for `RECORDS` later ones is closed by force, so that one silent context does not make the ring grow.
 */
import type { RecordLog } from '../replay/index.ts';
import { RECORD_DOUBLES } from './call-record.ts';

const RECORDS = 4096;
const DOUBLES: number = RECORD_DOUBLES;

export class CallQueue<Owner> {
  readonly #log: RecordLog;
  /** Closes the record of an owner, which must call `done`. */
  readonly #settle: (owner: Owner) => void;
  readonly #data = new Float64Array(RECORDS * RECORD_DOUBLES);
  readonly #owners: (Owner | null)[] = Array.from({ length: RECORDS }, () => null);
  #head = 0;
  #tail = 0;

  constructor(log: RecordLog, settle: (owner: Owner) => void) {
    this.#log = log;
    this.#settle = settle;
  }

  /** Records given out so far: the number of the next. */
  get length(): number {
    return this.#tail;
  }

  /** Takes the next place. @returns the number of the record */
  open(owner: Owner): number {
    if (this.#tail - this.#head === RECORDS) {
      const oldest = this.#owners[this.#head % RECORDS];
      if (oldest !== null) this.#settle(oldest);
    }
    const number = this.#tail++;
    this.#owners[number % RECORDS] = owner;
    return number;
  }

  /** The doubles of an open record, to be filled before `done`: index of its first in `data`. */
  at(number: number): number {
    return (number % RECORDS) * DOUBLES;
  }

  get data(): Float64Array {
    return this.#data;
  }

  /** A record is filled: it and those behind it that waited for it go to the log. */
  done(number: number): void {
    this.#owners[number % RECORDS] = null;
    while (this.#head < this.#tail && this.#owners[this.#head % RECORDS] === null) {
      const from = this.at(this.#head);
      const to = this.#log.reserve(DOUBLES);
      this.#log.data.set(this.#data.subarray(from, from + DOUBLES), to);
      this.#head += 1;
    }
  }
}
