import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { IovaAllocator } from '../../src/dma/index.ts';

/** Every page of the space by itself: what an allocator is, without any structure. */
class Naive {
  readonly taken: boolean[] = [];
  readonly start: number;

  constructor(start: number) {
    this.start = start;
  }

  /** alloc_iova with size_aligned (iova.c): the highest place, a multiple of the size rounded up to a power of two. */
  alloc(nrPages: number, limit: number): number {
    let align = 1;
    while (align < nrPages) align *= 2;
    for (let first = limit + 1 - nrPages; first >= this.start; first--) {
      if (first % align !== 0) continue;
      let isFree = true;
      for (let page = first; page < first + nrPages; page++) isFree &&= !this.taken[page];
      if (!isFree) continue;
      for (let page = first; page < first + nrPages; page++) this.taken[page] = true;
      return first;
    }
    return -1;
  }

  free(first: number, nrPages: number): void {
    for (let page = first; page < first + nrPages; page++) this.taken[page] = false;
  }
}

describe('IovaAllocator', () => {
  test.each([1, 2, 3, 4, 5])('agrees with a naive one, seed %i', (seed) => {
    const rng = new Rng(seed);
    const top = 400;
    const start = rng.below(5);
    const [iova, naive] = [new IovaAllocator(start), new Naive(start)];
    const live: [first: number, nrPages: number][] = [];
    for (let count = rng.below(6); count > 0; count--) {
      const first = rng.below(top);
      const last = first + rng.below(30);
      iova.reserve(first, last);
      for (let page = first; page <= last; page++) naive.taken[page] = true;
    }
    const nrReserved = iova.nrRanges;
    let nrFailed = 0;
    for (let step = 0; step < 4000; step++) {
      if (live.length === 0 || rng.chance(0.55)) {
        const nrPages = 1 + rng.below(rng.pick([1, 4, 33]));
        const limit = rng.pick([top, top, 300, 63, 17]);
        const first = iova.alloc(nrPages, limit);
        expect(first, `step ${step}: ${nrPages} pages below ${limit}`).toBe(naive.alloc(nrPages, limit));
        if (first < 0) nrFailed += 1;
        else live.push([first, nrPages]);
      } else {
        const [[first, nrPages]] = live.splice(rng.below(live.length), 1);
        expect(iova.free(first)).toBe(true);
        naive.free(first, nrPages);
      }
      expect(iova.nrRanges).toBe(live.length + nrReserved);
    }
    expect(nrFailed).toBeGreaterThan(50);
  });

  // Linux: new_pfn = (high - size) & align_mask, from the limit down (kernel.md 1.7).
  test.each([
    [1, 0xfffff, 0xfffff],
    [2, 0xfffff, 0xffffe],
    [3, 0xfffff, 0xffffc],
    [5, 0xfffff, 0xffff8],
    [32, 0xfffff, 0xfffe0],
    [33, 0xfffff, 0xfffc0],
    [1, 0, -1],
    [1, 1, 1],
    [2, 1, -1],
    [2, 2, -1],
    [2, 3, 2],
    [4, 3, -1],
    [0, 10, -1],
    [-3, 10, -1],
    [Number.NaN, 10, -1],
    [1, 2 ** 36 - 1, 2 ** 36 - 1],
    [2 ** 20, 2 ** 20 - 1, -1],
  ])('%d pages with limit page %i, page 0 excluded: page %i', (nrPages, limit, expected) => {
    expect(new IovaAllocator(1).alloc(nrPages, limit)).toBe(expected);
  });

  test('page 0 is never handed out, not when all else is taken (dma-iommu: base_pfn at least 1)', () => {
    const iova = new IovaAllocator(1);
    const got = new Set<number>();
    for (let first = iova.alloc(1, 63); first >= 0; first = iova.alloc(1, 63)) got.add(first);
    expect([...got].sort((a, b) => a - b)).toEqual(Array.from({ length: 63 }, (_, index) => index + 1));
  });

  test('limits are inclusive, and a low limit does not see what lies above', () => {
    const iova = new IovaAllocator(1);
    expect([iova.alloc(4, 100), iova.alloc(4, 11), iova.alloc(4, 11), iova.alloc(4, 11)]).toEqual([96, 8, 4, -1]);
    expect(iova.alloc(4, 100)).toBe(92);
  });

  test('reserve fills gaps around what is held; free takes the start of a range only', () => {
    const iova = new IovaAllocator(1);
    expect(iova.alloc(2, 15)).toBe(14);
    expect(iova.alloc(2, 11)).toBe(10);
    iova.reserve(9, 14);
    // 9; 12, 13 are new.
    expect(iova.nrRanges).toBe(4);
    expect([iova.alloc(1, 15), iova.alloc(1, 15)]).toEqual([8, 7]);
    expect([iova.free(15), iova.free(11), iova.free(10), iova.free(10)]).toEqual([false, false, true, false]);
    expect(iova.alloc(2, 15)).toBe(10);
  });

  test('1000 ranges: the sorted store grows', () => {
    const iova = new IovaAllocator(1);
    const got = Array.from({ length: 1000 }, () => iova.alloc(1, 0xfffff));
    expect(got).toEqual(Array.from({ length: 1000 }, (_, index) => 0xfffff - index));
    for (const first of got) expect(iova.free(first)).toBe(true);
    expect(iova.nrRanges).toBe(0);
  });
});
