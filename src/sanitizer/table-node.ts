/** One table page as the sanitizer mirrors it. */
import type { EntryFormat } from './entry-format.ts';
import type { Space } from './space.ts';

/** A table page that hardware can reach. */
export class TableNode {
  readonly pfn: number;
  readonly level: number;
  /** First page of the range it translates. */
  readonly base: number;
  readonly format: EntryFormat;
  readonly words: Int32Array;
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
}
