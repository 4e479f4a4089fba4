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
/** The same, local: V8 reloads an exported binding at every use, which for functions as small as `reserve` is half their time. */
const BLOCK: number = BLOCK_DOUBLES;

export class RecordLog {
  /** The block being filled. Write into it what `reserve` returned, before the next `reserve`. */
  data: Float64Array = new Float64Array(BLOCK_DOUBLES);
  readonly #spill: SpillStore | null;
  readonly #maxBlocks: number;
  /** Full blocks in memory; index = block number - spilled. */
  readonly #blocks: Float64Array[] = [];
  #nrSpilled = 0;
  #used = 0;

  /** @param spill null keeps everything in memory @param maxBlocks full blocks kept in memory when there is a spill store */
  constructor(spill: SpillStore | null = null, maxBlocks: number = 64) {
    this.#spill = spill;
    this.#maxBlocks = maxBlocks;
  }

  /** Where the next part would begin, in doubles from the start, gaps at the ends of blocks included. */
  get end(): number {
    return (this.#nrSpilled + this.#blocks.length) * BLOCK_DOUBLES + this.#used;
  }

  /** Doubles left in the block being filled. */
  get room(): number {
    return BLOCK - this.#used;
  }

  /**
   * Room for one part of a record, `count` doubles in a row, at most a block. What does not fit into the block goes to the next
   * one, a rule that the reader follows too, so no part needs a mark. @returns index of the first double in `data`
   */
  reserve(count: number): number {
    if (this.#used + count > BLOCK) this.#seal();
    const at = this.#used;
    this.#used = at + count;
    return at;
  }

  #seal(): void {
    this.#used = 0;
    const [oldest] = this.#blocks;
    this.#blocks.push(this.data);
    if (this.#spill === null || oldest === undefined || this.#blocks.length <= this.#maxBlocks) {
      this.data = new Float64Array(BLOCK);
      return;
    }
    this.#spill.write(this.#nrSpilled, oldest);
    this.#nrSpilled += 1;
    this.#blocks.shift();
    this.data = oldest;
  }

  /** A block by number: in memory, or read into `scratch`. */
  block(number: number, scratch: () => Float64Array): Float64Array {
    if (number < this.#nrSpilled) {
      const into = scratch();
      this.#spill?.read(number, into);
      return into;
    }
    return this.#blocks[number - this.#nrSpilled] ?? this.data;
  }

  /** A reader at the start. Several may read at once; appending meanwhile is not allowed. */
  reader(): RecordReader {
    return new RecordReader(this);
  }
}

export class RecordReader {
  /** The block being read; `take` replaces it. */
  data: Float64Array;
  readonly #log: RecordLog;
  readonly #end: number;
  #scratch: Float64Array | null = null;
  #number = 0;
  #at = 0;

  constructor(log: RecordLog) {
    this.#log = log;
    this.#end = log.end;
    this.data = this.#load();
  }

  #load(): Float64Array {
    return this.#log.block(this.#number, () => (this.#scratch ??= new Float64Array(BLOCK)));
  }

  /** True when nothing is left. */
  get atEnd(): boolean {
    return this.#number * BLOCK + this.#at >= this.#end;
  }

  /** Doubles left in the block being read. */
  get room(): number {
    return BLOCK - this.#at;
  }

  /** The next part, written by a `reserve` of the same count: index of its first double in `data`. Only before the end. */
  take(count: number): number {
    if (this.#at + count > BLOCK) {
      this.#number += 1;
      this.#at = 0;
      this.data = this.#load();
    }
    const at = this.#at;
    this.#at = at + count;
    return at;
  }
}
