/**
 * An append-only log of records made of doubles, read back any number of times. What a trace decodes to is kept here, so
 * that a file (or a pipe, which can be read only once) is parsed once and replayed under many policies.
 *
 * Memory stays bounded: full blocks beyond a limit go to a spill store, which the command line backs with a temporary file
 * and a browser leaves out.
 */

/** Where blocks go that do not fit into memory. Blocks are written once, in order, and read by number. */
export interface SpillStore {
  write(block: number, data: Float64Array): void;
  read(block: number, into: Float64Array): void;
}

/** Doubles per block: 1 MiB. */
export const BLOCK_DOUBLES: number = 1 << 17;

export class RecordLog {
  readonly #spill: SpillStore | null;
  readonly #maxBlocks: number;
  /** Blocks in memory; index = block number - spilled. */
  readonly #blocks: Float64Array[] = [];
  #nrSpilled = 0;
  #last: Float64Array = new Float64Array(BLOCK_DOUBLES);
  #used = 0;
  #total = 0;

  /** @param spill null keeps everything in memory @param maxBlocks full blocks kept in memory when there is a spill store */
  constructor(spill: SpillStore | null = null, maxBlocks: number = 64) {
    this.#spill = spill;
    this.#maxBlocks = maxBlocks;
  }

  /** Doubles appended so far. */
  get length(): number {
    return this.#total;
  }

  /** Appends one double. A record may cross from one block into the next. */
  push(value: number): void {
    if (this.#used === BLOCK_DOUBLES) this.#seal();
    this.#last[this.#used++] = value;
    this.#total += 1;
  }

  #seal(): void {
    this.#blocks.push(this.#last);
    if (this.#spill !== null && this.#blocks.length > this.#maxBlocks) {
      const oldest = this.#blocks.shift() as Float64Array;
      this.#spill.write(this.#nrSpilled, oldest);
      this.#nrSpilled += 1;
      this.#last = oldest;
    } else {
      this.#last = new Float64Array(BLOCK_DOUBLES);
    }
    this.#used = 0;
  }

  /** The block that holds position `at`, in memory or read into `scratch`. */
  block(number: number, scratch: Float64Array): Float64Array {
    if (number < this.#nrSpilled) {
      this.#spill?.read(number, scratch);
      return scratch;
    }
    return this.#blocks[number - this.#nrSpilled] ?? this.#last;
  }

  /** A reader at the start. Several may read at once; appending meanwhile is not allowed. */
  reader(): RecordReader {
    return new RecordReader(this);
  }
}

export class RecordReader {
  readonly #log: RecordLog;
  #scratch: Float64Array | null = null;
  #block: Float64Array;
  #number = 0;
  #at = 0;
  #left: number;

  constructor(log: RecordLog) {
    this.#log = log;
    this.#left = log.length;
    this.#block = this.#load(0);
  }

  #load(number: number): Float64Array {
    this.#scratch ??= new Float64Array(BLOCK_DOUBLES);
    return this.#log.block(number, this.#scratch);
  }

  /** True when nothing is left. */
  get atEnd(): boolean {
    return this.#left === 0;
  }

  /** The next double. Only before the end. */
  next(): number {
    if (this.#at === BLOCK_DOUBLES) {
      this.#number += 1;
      this.#block = this.#load(this.#number);
      this.#at = 0;
    }
    this.#left -= 1;
    return this.#block[this.#at++];
  }
}
