/** The parts of a replay, each against something naive. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Contexts } from '../../src/replay/contexts.ts';
import { Histogram } from '../../src/replay/histogram.ts';
import { PageSet } from '../../src/replay/page-set.ts';
import { BLOCK_DOUBLES, RecordLog } from '../../src/replay/record-log.ts';
import { Renames } from '../../src/replay/renames.ts';
import { sidOf } from '../../src/replay/topology.ts';

describe('RecordLog', () => {
  class MemorySpill {
    readonly blocks: Float64Array[] = [];
    write(block: number, data: Float64Array): void {
      this.blocks[block] = data.slice();
    }
    read(block: number, into: Float64Array): void {
      into.set(this.blocks[block]);
    }
  }

  test.each([
    { name: 'in memory', spill: null },
    { name: 'spilled', spill: new MemorySpill() },
  ])('$name: parts of any size come back in order, also when they cross a block', ({ spill }) => {
    const log = new RecordLog(spill, 2);
    // Sizes that leave gaps at the ends of blocks; 6 blocks in all, so that spilled ones are read again.
    const sizes = [6, 2, 2, 5, 1000, 7];
    let value = 0;
    for (let nr = 0; log.end < 6 * BLOCK_DOUBLES; nr++) {
      const count = sizes[nr % sizes.length];
      const at = log.reserve(count);
      for (let i = 0; i < count; i++) log.data[at + i] = value++;
    }
    for (let round = 0; round < 2; round++) {
      const reader = log.reader();
      let expected = 0;
      let wrong = 0;
      for (let nr = 0; !reader.atEnd; nr++) {
        const count = sizes[nr % sizes.length];
        const at = reader.take(count);
        for (let i = 0; i < count; i++) if (reader.data[at + i] !== expected++) wrong += 1;
      }
      expect({ expected, wrong }).toEqual({ expected: value, wrong: 0 });
    }
    if (spill !== null) expect(spill.blocks.length).toBeGreaterThanOrEqual(3);
  });

  test('an empty log is at its end', () => {
    expect(new RecordLog().reader().atEnd).toBe(true);
  });
});

test('Histogram: percentiles within 1/64 of the exact ones, the maximum exact', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 1e12, noNaN: true }), { minLength: 1, maxLength: 200 }),
      (samples) => {
        const histogram = new Histogram();
        for (const sample of samples) histogram.add(sample);
        const sorted = samples.toSorted((a, b) => a - b);
        for (const share of [0.5, 0.99, 1]) {
          const exact = sorted[Math.ceil(share * sorted.length) - 1];
          expect(histogram.percentile(share)).toBeGreaterThanOrEqual(
            exact < 64 ? Math.floor(exact) : exact * (1 - 1e-9),
          );
          expect(histogram.percentile(share)).toBeLessThanOrEqual(exact < 64 ? exact + 1 : exact * (1 + 1 / 64 + 1e-9));
        }
        expect(histogram.max).toBe(sorted.at(-1));
      },
    ),
  );
  expect(new Histogram().percentile(0.5)).toBe(0);
});

test('PageSet agrees with a byte per page, across word borders, region borders and whole regions', () => {
  const range = fc.tuple(
    fc.integer({ min: 0, max: 100_000 }),
    fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 90_000 })),
  );
  const step = fc.tuple(fc.constantFrom('add', 'remove', 'test', 'contains'), range);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const set = new PageSet();
      const naive = new Uint8Array(200_000);
      for (const [operation, [first, count]] of steps) {
        const [start, end] = [first * 4096, (first + count) * 4096];
        if (operation === 'add') {
          set.add(start, end);
          naive.fill(1, first, first + count);
        } else if (operation === 'remove') {
          set.remove(start, end);
          naive.fill(0, first, first + count);
        } else if (operation === 'contains') {
          expect(set.contains(start, end)).toBe(!naive.subarray(first, first + count).includes(0));
        } else {
          expect(set.intersects(start, end)).toBe(naive.subarray(first, first + count).includes(1));
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('Contexts: one number per task and interrupt depth; idle tasks are told apart by their CPU', () => {
  const contexts = new Contexts();
  const numbers = new Map<string, number>();
  for (let round = 0; round < 2; round++) {
    for (let pid = 0; pid < 400; pid++) {
      for (const depth of [0, 1, 2]) {
        for (const cpu of [0, 1]) {
          const name = pid === 0 ? `idle ${cpu} ${depth}` : `${pid} ${depth}`;
          const id = contexts.idOf(pid, cpu, depth);
          if (!numbers.has(name)) numbers.set(name, id);
          expect(id).toBe(numbers.get(name));
        }
      }
    }
  }
  expect(new Set(numbers.values()).size).toBe(numbers.size);
});

test.each([
  ['0000:00:04.0', 0x20],
  ['0000:00:1f.2', 0xfa],
  ['0001:3b:00.0', 0x3b00],
  ['dmar0', -1],
  ['0000:00:04.9', -1],
])('requester id of %s is %d', (name, sid) => {
  expect(sidOf(name)).toBe(sid);
});

test('Renames: never two live ranges on one page, aligned like an IOVA allocator does, given back after their flush', () => {
  const step = fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 300 }), fc.nat());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const renames = new Renames();
      const live = new Map<number, { start: number; nrBytes: number }>();
      const pages = new Set<number>();
      let nr = 0;
      for (const [take, nrPages, pick] of steps) {
        if (take || live.size === 0) {
          const recorded = nr++ * 4096;
          const start = renames.take(recorded, nrPages * 4096);
          expect(renames.owns(start)).toBe(true);
          expect(renames.owns(recorded)).toBe(false);
          expect(start % (4096 * 2 ** Math.ceil(Math.log2(nrPages)))).toBe(0);
          for (let page = start / 4096; page < start / 4096 + nrPages; page++) {
            expect(pages.has(page)).toBe(false);
            pages.add(page);
          }
          live.set(recorded, { start, nrBytes: nrPages * 4096 });
        } else {
          const [recorded, { start, nrBytes }] = [...live][pick % live.size];
          expect(renames.end(recorded)).toBe(start);
          expect(renames.end(recorded)).toBe(-1);
          renames.release(start, nrBytes);
          for (let page = start / 4096; page < (start + nrBytes) / 4096; page++) pages.delete(page);
          live.delete(recorded);
        }
        expect(renames.count).toBe(live.size);
      }
    }),
  );
});
