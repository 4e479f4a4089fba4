import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANCHOR, IovaTree, NO_RANGE, largestFit } from '../../src/dma/iova-tree.ts';

/** Does a range of n pages, aligned to n rounded up to a power of two, lie in [start, end)? Tried page by page. */
function fits(n: number, start: number, end: number): boolean {
  let align = 1;
  while (align < n) align *= 2;
  for (let first = start; first + n <= end; first++) if (first % align === 0) return true;
  return false;
}

describe('largestFit', () => {
  test('of every gap in 0..70: what fits and everything below it, nothing above', () => {
    const wrong: string[] = [];
    for (let start = 0; start < 70; start++) {
      for (let end = start; end <= 70; end++) {
        const fit = largestFit(start, end);
        for (let n = 1; n <= 71; n++) if (fits(n, start, end) !== n <= fit) wrong.push(`${n} in [${start}, ${end})`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test.each([
    [0, 2 ** 52, 1024],
    [2 ** 52 - 5, 2 ** 52, 4],
    [2 ** 40 + 1, 2 ** 40 + 1025, 512],
    [2 ** 40, 2 ** 40 + 1024, 1024],
    [2 ** 40 + 1, 2 ** 40 + 2048, 1024],
    [5, 5, 0],
    [6, 5, 0],
  ])('of [%d, %d): %d pages', (start, end, expected) => {
    expect(largestFit(start, end)).toBe(expected);
  });
});

/** The same ranges in a sorted array. */
class Naive {
  readonly ranges: [first: number, last: number][] = [];

  search(startAt: number, end: number, nrPages: number, align: number): number {
    for (let index = startAt; index >= 0; index--) {
      const top = index < this.ranges.length ? this.ranges[index][0] : Infinity;
      const below = index > 0 ? this.ranges[index - 1][1] : -1;
      const place = Math.floor((Math.min(end, top) - nrPages) / align) * align;
      if (place > below) return place;
    }
    return -1;
  }
}

/** The tree's ranges in order, and its handle of each. */
function listed(tree: IovaTree): { ranges: [number, number][]; handles: number[] } {
  const ranges: [number, number][] = [];
  const handles: number[] = [];
  for (let range = tree.lowest; range !== ANCHOR; range = tree.next(range)) {
    ranges.push([tree.first(range), tree.last(range)]);
    handles.push(range);
  }
  return { ranges, handles };
}

const page = fc.nat(300);
const size = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 90 }));
const step = fc.oneof(
  fc.record({ op: fc.constant('take' as const), at: fc.nat(), end: page, size, aligned: fc.boolean() }),
  fc.record({ op: fc.constant('drop' as const), at: fc.nat() }),
  fc.record({ op: fc.constant('grow' as const), at: fc.nat(), by: fc.nat(9) }),
);

describe('IovaTree', () => {
  test('searches, finds and keeps order as a sorted array does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const tree = new IovaTree();
        const naive = new Naive();
        for (const todo of steps) {
          const { handles } = listed(tree);
          if (todo.op === 'take') {
            const startAt = todo.at % (handles.length + 1);
            const align = todo.aligned ? 2 ** Math.ceil(Math.log2(todo.size)) : 1;
            const place = tree.search(handles[startAt] ?? ANCHOR, todo.end, todo.size, align);
            expect(place).toBe(naive.search(startAt, todo.end, todo.size, align));
            if (place < 0) continue;
            tree.insertBelow(tree.above, place, place + todo.size - 1);
            naive.ranges.push([place, place + todo.size - 1]);
            naive.ranges.sort(([a], [b]) => a - b);
          } else if (handles.length > 0) {
            const index = todo.at % handles.length;
            if (todo.op === 'drop') {
              tree.remove(handles[index]);
              naive.ranges.splice(index, 1);
            } else {
              const below = index > 0 ? naive.ranges[index - 1][1] : -1;
              const first = Math.max(below + 1, naive.ranges[index][0] - todo.by);
              tree.setFirst(handles[index], first);
              naive.ranges[index][0] = first;
            }
          }
          const { ranges, handles: now } = listed(tree);
          expect(ranges).toEqual(naive.ranges);
          expect(tree.nrRanges).toBe(ranges.length);
          const pfn = todo.at % 310;
          const held = ranges.findIndex(([first, last]) => first <= pfn && pfn <= last);
          expect(tree.find(pfn)).toBe(held < 0 ? NO_RANGE : now[held]);
          const reaching = ranges.findIndex(([, last]) => last >= pfn);
          expect(tree.firstReaching(pfn)).toBe(reaching < 0 ? ANCHOR : now[reaching]);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('20000 ranges in and out in three orders leave an empty tree', () => {
    const tree = new IovaTree();
    for (const orderOf of [(at: number) => at, (at: number) => 19999 - at, (at: number) => (at * 7919) % 20000]) {
      for (let at = 0; at < 20000; at++)
        tree.insertBelow(tree.firstReaching(orderOf(at) * 2), orderOf(at) * 2, orderOf(at) * 2);
      expect(tree.search(ANCHOR, 40000, 1, 1)).toBe(39999);
      expect(tree.search(ANCHOR, 39999, 2, 2)).toBe(-1);
      for (let at = 0; at < 20000; at++) tree.remove(tree.find(orderOf(at) * 2));
      expect([tree.nrRanges, tree.lowest, tree.search(ANCHOR, 40000, 1024, 1024)]).toEqual([0, ANCHOR, 38912]);
    }
  });
});
