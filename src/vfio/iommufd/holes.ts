/** What lies between ranges: the span iterators of Linux 6.12 lib/interval_tree.c and iommufd/double_span.h. */
import type { IovaRange } from '../iova-ranges.ts';

/** Parts of [first, last] that no range meets, ascending. `used` is sorted by start and may overlap. */
export function* holes(used: Iterable<IovaRange>, first: number, last: number): Generator<IovaRange> {
  let at = first;
  for (const range of used) {
    if (range.last < at) continue;
    if (range.start > last) break;
    if (range.start > at) yield { start: at, last: range.start - 1 };
    at = range.last + 1;
    if (at > last) return;
  }
  if (at <= last) yield { start: at, last };
}

/** Two lists sorted by start as one. */
export function* merged(a: Iterable<IovaRange>, b: Iterable<IovaRange>): Generator<IovaRange> {
  const right = b[Symbol.iterator]();
  let next = right.next();
  for (const range of a) {
    for (; next.done !== true && next.value.start < range.start; next = right.next()) yield next.value;
    yield range;
  }
  for (; next.done !== true; next = right.next()) yield next.value;
}

/** Sorted ranges with those that overlap or touch joined. */
export function joined(ranges: readonly IovaRange[]): IovaRange[] {
  const result: IovaRange[] = [];
  for (const range of ranges) {
    const before = result.at(-1);
    if (before !== undefined && range.start <= before.last + 1) {
      result[result.length - 1] = { start: before.start, last: Math.max(before.last, range.last) };
    } else {
      result.push(range);
    }
  }
  return result;
}
