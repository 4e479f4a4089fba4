/** The page allocator: what it hands out, what it refuses, and that a freed page shows. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { POISON, PageAllocator, PhysMem } from '../../src/mem/index.ts';

const PAGE = 4096;
const FIRST = 0x100;

function small(nrPages = 8, coherent = true): { mem: PhysMem; pages: PageAllocator } {
  const mem = new PhysMem({ coherent });
  return { mem, pages: new PageAllocator(mem, { basePfn: FIRST, nrPages }) };
}

/** All 1024 words of a frame, as a device sees them. */
const frameWords = (mem: PhysMem, pfn: number): Set<number> =>
  new Set(Array.from({ length: 1024 }, (_, i) => mem.deviceLoad32(pfn * PAGE + i * 4)));

describe.each([true, false])('contents (coherent: %s)', (coherent) => {
  test('a page is zero for a device too, also when it was used before', () => {
    const { mem, pages } = small(8, coherent);
    const pfn = pages.alloc();
    mem.fillFrame(pfn, 0x1234);
    pages.free(pfn);
    expect(pages.alloc()).toBe(pfn);
    expect(frameWords(mem, pfn)).toEqual(new Set([0]));
  });

  test('a freed page is poison for a device too', () => {
    const { mem, pages } = small(8, coherent);
    const pfn = pages.alloc();
    pages.free(pfn);
    expect(frameWords(mem, pfn)).toEqual(new Set([POISON]));
  });
});

test('the poison reads as a present, writable entry that points where no memory is', () => {
  const { mem, pages } = small();
  const pfn = pages.alloc();
  pages.free(pfn);
  expect(POISON & 3).toBe(3);
  expect(mem.slotOf(Math.floor((POISON * 2 ** 32 + POISON) / PAGE) % 2 ** 40)).toBe(-1);
});

test('double frees and foreign frames are refused and change nothing', () => {
  const { pages } = small();
  const pfn = pages.alloc();
  pages.free(pfn);
  for (const bad of [pfn, FIRST + 1, FIRST - 1, 0, FIRST + 1_000_000, FIRST + 0.5]) {
    expect(() => pages.free(bad)).toThrow(RangeError);
  }
  expect(pages.nrLive).toBe(0);
  expect(pages.alloc()).toBe(pfn);
});

test('isFreed holds between free and the next alloc only', () => {
  const { pages } = small();
  const pfn = pages.alloc();
  expect(pages.isFreed(pfn)).toBe(false);
  pages.free(pfn);
  expect(pages.isFreed(pfn)).toBe(true);
  expect(pages.isFreed(FIRST + 1)).toBe(false);
  pages.alloc();
  expect(pages.isFreed(pfn)).toBe(false);
});

test('exhaustion gives -1, and a freed page ends it', () => {
  const { pages } = small(3);
  const all = [pages.alloc(), pages.alloc(), pages.alloc()];
  expect(all).toEqual([FIRST, FIRST + 1, FIRST + 2]);
  expect(pages.alloc()).toBe(-1);
  pages.free(FIRST + 1);
  expect(pages.alloc()).toBe(FIRST + 1);
  expect(pages.alloc()).toBe(-1);
  expect(pages.nrLive).toBe(3);
});

describe('runs', () => {
  test('a run is contiguous, zero and live page by page', () => {
    const { mem, pages } = small(8);
    const first = pages.allocRun(4);
    expect(first).toBe(FIRST);
    expect(pages.nrLive).toBe(4);
    for (let pfn = FIRST; pfn < FIRST + 4; pfn++) {
      expect(frameWords(mem, pfn)).toEqual(new Set([0]));
      pages.free(pfn);
    }
    expect(pages.nrLive).toBe(0);
  });

  test('a run that does not fit gives -1 and takes nothing', () => {
    const { pages } = small(4);
    pages.alloc();
    expect(pages.allocRun(4)).toBe(-1);
    expect(pages.nrLive).toBe(1);
    expect(pages.allocRun(3)).toBe(FIRST + 1);
    expect(pages.allocRun(1)).toBe(-1);
  });

  test('a run never reuses freed pages', () => {
    const { pages } = small(8);
    pages.free(pages.alloc());
    expect(pages.allocRun(1)).toBe(FIRST + 1);
    expect(pages.isFreed(FIRST)).toBe(true);
  });
});

test('pages and runs over the first table of 1024 keep their state through growth', () => {
  const { pages } = small(5000);
  const first = pages.allocRun(3000);
  for (let i = 0; i < 3000; i++) pages.free(first + i);
  const again = new Set(Array.from({ length: 3000 }, () => pages.alloc()));
  expect(again.size).toBe(3000);
  expect(Math.max(...again)).toBe(FIRST + 2999);
  expect(pages.nrLive).toBe(3000);
});

test('agrees with a set of live pages and a stack of freed ones, whatever the order of calls', () => {
  const step = fc.oneof(fc.constant(-1), fc.nat({ max: 20 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const { pages } = small(12);
      const live: number[] = [];
      const freed: number[] = [];
      let nrEver = 0;
      for (const at of steps) {
        if (at < 0 || live.length === 0) {
          const expected = freed.pop() ?? (nrEver < 12 ? FIRST + nrEver++ : -1);
          expect(pages.alloc()).toBe(expected);
          if (expected >= 0) live.push(expected);
        } else {
          const [pfn] = live.splice(at % live.length, 1);
          pages.free(pfn);
          freed.push(pfn);
        }
        expect(pages.nrLive).toBe(live.length);
      }
      for (const pfn of freed) expect(pages.isFreed(pfn)).toBe(true);
      for (const pfn of live) expect(pages.isFreed(pfn)).toBe(false);
    }),
  );
});
