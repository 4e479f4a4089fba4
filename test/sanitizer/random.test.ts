/**
 * Random stores into a table of leaves and random flushes, beside a naive model: for every page the list of all values that it
 * ever had since a flush covered it. Runs, parts of runs, large and small leaves, and pages that lead past 4 GiB.
 */
import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import type { Hand, HandOptions } from './hand.ts';
import { HandAmdvi } from './hand-amdvi.ts';
import { HandVtd } from './hand-vtd.ts';

const DID = 5;
const NR_PAGES = 64;
/** What a page leads to: frame * 4 + rights, -1 for nothing. */
type Value = number;

class Naive {
  readonly now: Value[] = Array.from({ length: NR_PAGES }, () => -1);
  readonly stale: Set<Value>[] = Array.from({ length: NR_PAGES }, () => new Set());
  readonly #np: boolean;

  constructor(np: boolean) {
    this.#np = np;
  }

  set(page: number, value: Value): void {
    const old = this.now[page];
    this.now[page] = value;
    if (value !== old && (old >= 0 || this.#np)) this.stale[page].add(old);
  }

  flush(page: number): void {
    this.stale[page].clear();
  }

  isSure(page: number): boolean {
    return [...this.stale[page]].every((value) => value === this.now[page]);
  }
}

const same = (nr: number, [lo, hi]: readonly [number, number]): [number, number][] =>
  Array.from({ length: nr }, () => [lo, hi]);

/** Writes a run as a driver's loop does: all words, then one report. */
function writeRun(
  hand: Hand,
  table: number,
  first: number,
  entries: readonly (readonly [lo: number, hi: number])[],
): void {
  const index = hand.mem.indexOf(table * 4096 + first * 8);
  for (const [i, [lo, hi]] of entries.entries()) {
    hand.mem.words[index + 2 * i] = lo;
    hand.mem.words[index + 2 * i + 1] = hi;
  }
  hand.mem.stored(index, 2 * entries.length);
}

function program(make: (options: HandOptions) => Hand, isAmd: boolean, seed: number): { found: number; held: number } {
  const rng = new Rng(seed);
  const np = rng.chance(0.5);
  const hand = make({ np });
  const naive = new Naive(np);
  const space = hand.attached(DID);
  const counts = { found: 0, held: 0 };
  /** Leaves of several entries go as a whole: a part of one is no table. */
  const sized = new Map<number, number>();
  const makeRoom = (first: number, nr: number): void => {
    for (const [at, size] of sized) {
      if (at + size <= first || at >= first + nr) continue;
      sized.delete(at);
      writeRun(hand, space.leaves, at, same(size, [0, 0]));
      for (let i = 0; i < size; i++) naive.set(at + i, -1);
    }
  };
  const entry = (pfn: number, rights: number): [number, number] =>
    isAmd
      ? [((pfn * 4096) | 0) + 1, Math.floor(pfn / 2 ** 20) + rights * 2 ** 29]
      : [((pfn * 4096) | 0) + rights, Math.floor(pfn / 2 ** 20)];
  for (let step = 0; step < 60; step++) {
    const lg2 = rng.below(5);
    const nr = rng.chance(0.5) ? 2 ** lg2 : 1 + rng.below(24);
    const first = Math.min(rng.below(NR_PAGES), NR_PAGES - nr);
    switch (rng.below(isAmd ? 5 : 4)) {
      case 0:
        makeRoom(first, nr);
        writeRun(hand, space.leaves, first, same(nr, [0, 0]));
        for (let i = 0; i < nr; i++) naive.set(first + i, -1);
        break;
      case 1: {
        // Frames that follow each other, here and there across a multiple of 4 GiB, and here and there with a jump back to it.
        const base = rng.chance(0.3) ? 2 ** 20 - 1 - rng.below(nr) : 0x9000 + rng.below(4) * 64;
        const wraps = rng.chance(0.3);
        const rights = 1 + rng.below(3);
        makeRoom(first, nr);
        const pfns = Array.from({ length: nr }, (_, i) => (wraps ? (base + i) % 2 ** 20 : base + i));
        writeRun(
          hand,
          space.leaves,
          first,
          pfns.map((pfn) => entry(pfn, rights)),
        );
        for (const [i, pfn] of pfns.entries()) naive.set(first + i, pfn * 4 + rights);
        break;
      }
      case 2: {
        const at = first - (first % 2 ** lg2);
        hand.invPages(DID, at, lg2, rng.chance(0.5));
        hand.sync();
        for (let i = 0; i < 2 ** lg2; i++) naive.flush(at + i);
        break;
      }
      case 3: {
        // The map or unmap of one page, which a caller is told to be done.
        const value = naive.now[first];
        const before = hand.findings.length;
        if (value < 0) hand.unmap(space, first, () => undefined);
        else hand.map(space, first, Math.floor(value / 4), () => undefined, 1, value % 4);
        const isFound = hand.findings.length > before;
        expect([seed, step, first, isFound]).toEqual([seed, step, first, !naive.isSure(first)]);
        counts[isFound ? 'found' : 'held'] += 1;
        break;
      }
      case 4: {
        const size = 2 ** (1 + rng.below(4));
        const at = first - (first % size);
        const pfn = 0x20000 + rng.below(4) * size;
        const lo = (pfn + size / 2 - 1) * 4096 + 1 + (7 << 9);
        makeRoom(at, size);
        sized.set(at, size);
        for (let i = 0; i < size; i++) naive.set(at + i, (pfn + i) * 4 + 3);
        writeRun(hand, space.leaves, at, same(size, [lo, 3 * 2 ** 29]));
        break;
      }
    }
    if (hand.findings.length > 90) break;
  }
  return counts;
}

describe.each<[string, (options: HandOptions) => Hand, boolean]>([
  ['vtd', (options) => new HandVtd(options), false],
  ['amdvi', (options) => new HandAmdvi(options), true],
])('%s', (_name, make, isAmd) => {
  test('finds a page exactly when a cache may hold something else', () => {
    const sum = { found: 0, held: 0 };
    for (let seed = 1; seed <= 300; seed++) {
      const { found, held } = program(make, isAmd, seed);
      sum.found += found;
      sum.held += held;
    }
    // Both happen often.
    expect(sum.found).toBeGreaterThan(500);
    expect(sum.held).toBeGreaterThan(500);
  });
});
