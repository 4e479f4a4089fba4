/** One table page as the sanitizer mirrors it. */
import type { EntryFormat } from './entry-format.ts';
import { LEAF, spanPages } from './entry-format.ts';
import type { Space } from './space.ts';

/** A table page that hardware can reach. */
export class TableNode {
  readonly pfn: number;
  readonly level: number;
  /** First page of the range it translates. */
  readonly base: number;
  readonly format: EntryFormat;
  readonly words: Int32Array;
  /** Entries that are pieces of a leaf larger than they are. */
  nrPieces = 0;
  /** Rights that the entries above leave. */
  rights: number;
  /** Spaces that reach it, and by how many ways each. */
  readonly spaces: Space[] = [];
  readonly ways: number[] = [];

  constructor(pfn: number, level: number, base: number, rights: number, format: EntryFormat, words: Int32Array) {
    this.pfn = pfn;
    this.level = level;
    this.base = base;
    this.rights = rights;
    this.format = format;
    this.words = words;
  }

  /** Entries came, or went when `nr` is negative. */
  countPieces(lo: number, hi: number, nr: number): void {
    const { format, level } = this;
    if (!format.hasReplicas || (lo | hi) === 0 || format.kind(lo, hi, level) !== LEAF) return;
    if (format.leafPages(lo, hi, level) > spanPages(level)) this.nrPieces += nr;
  }
}
