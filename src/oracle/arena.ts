/**
 * Where a random program's tables and data are. Few tables and few indexes, so that edits hit what walks pass and walks hit
 * what edits left; the same physical layout on both machines.
 */
import { QEMU_MEMORY_BYTES } from '../qemu/index.ts';

const MIB = 2 ** 20;
/** Half of memory is tables, queues and low memory; data lies above, in three 2 MiB pages. */
const DATA: number = QEMU_MEMORY_BYTES / 2;
export const BIG_PAGES: readonly number[] = [DATA, DATA + 2 * MIB, DATA + 4 * MIB];
/** Table indexes that programs use at every level. 64: the first 1 GiB page and pass-through reach the data with it. */
export const INDEXES: readonly number[] = [0, 1, DATA / (2 * MIB), 511];
/** Pages of data: every page of the big ones that an index reaches. */
export const DATA_PAGES: readonly number[] = BIG_PAGES.flatMap((base) => INDEXES.map((index) => base + index * 4096));

const TABLES = 16 * MIB;
/** Address of the n-th table page. */
export function tableAt(n: number): number {
  return TABLES + n * 4096;
}

/** The words of memory that an access to an address may have changed. */
export function cellsOf(iova: number, nrBytes: number): number[] {
  const offset = iova % 4096;
  const cells: number[] = [];
  for (let at = offset; at < Math.min(offset + nrBytes, 4096); at += 4) {
    for (const page of DATA_PAGES) cells.push(page + at);
  }
  return cells;
}

/**
 * Pages that tables can be looked for in, by intent or by a stray bit in a pointer. QEMU's memory is all there and zero; ours
 * is made as it is used, and a table where nothing ever was counts as unreachable.
 */
export function* tablePages(): Iterable<number> {
  yield 0;
  for (let n = 0; n < 32; n++) {
    yield tableAt(n) / 4096;
    yield (tableAt(n) + MIB) / 4096;
  }
}
