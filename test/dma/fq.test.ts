import { describe, expect, test } from 'vitest';
import { ManualClock, Rng } from '../../src/base/index.ts';
import type { FlushQueueOptions } from '../../src/dma/index.ts';
import { FQ_SIZE, FQ_TIMEOUT_MS, FlushQueue } from '../../src/dma/index.ts';

const MS = 1e6;

/** A flush queue that writes down what it does to its domain; entries are numbered pages. */
class Bench {
  readonly clock: ManualClock = new ManualClock();
  readonly log: string[] = [];
  readonly windows: [queuedNs: number, flushedNs: number][] = [];
  readonly released: number[] = [];
  nrFlushes = 0;
  onFlush: (() => void) | null = null;
  readonly fq: FlushQueue;

  constructor(options: FlushQueueOptions = {}) {
    const owner = {
      flushAll: (): void => {
        this.log.push('flush');
        this.nrFlushes += 1;
        this.onFlush?.();
      },
      release: (iova: number, nrBytes: number): void => {
        this.log.push(`release ${iova / 4096}${nrBytes === 4096 ? '' : `+${nrBytes}`}`);
        this.released.push(iova / 4096);
      },
      freeTables: (tables: readonly number[]): void => {
        this.log.push(`tables ${tables.join(' ')}`);
      },
      windowClosed: (queuedNs: number, flushedNs: number): void => {
        this.windows.push([queuedNs, flushedNs]);
      },
    };
    this.fq = new FlushQueue(owner, this.clock, options);
  }

  put(page: number, cpu = 0, tables: readonly number[] = []): void {
    this.fq.queue(cpu, page * 4096, 4096, tables);
  }

  /** Moves time, calling the timer as the owner of a clock does. */
  pass(ns: number): void {
    const end = this.clock.nowNs() + ns;
    while (this.fq.deadlineNs <= end) {
      this.clock.advanceTo(this.fq.deadlineNs);
      this.fq.timeout();
    }
    this.clock.advanceTo(end);
  }
}

describe('FQ-WINDOW: 256 slots per CPU, 10 ms (kernel.md 1.6, papers.md row 18)', () => {
  test('the constants of 6.x', () => expect([FQ_SIZE, FQ_TIMEOUT_MS]).toEqual([256, 10]));

  test('255 entries fit; the 256th flushes first, and only then queues', () => {
    const bench = new Bench();
    for (let page = 0; page < 255; page++) bench.put(page);
    expect(bench.log).toEqual([]);
    bench.put(255);
    expect(bench.log).toEqual(['flush', ...Array.from({ length: 255 }, (_, page) => `release ${page}`)]);
    expect(bench.fq.nrOpen).toBe(1);
    // And so every 255.
    for (let page = 256; page < 256 + 254; page++) bench.put(page);
    expect(bench.nrFlushes).toBe(1);
    bench.put(510);
    expect(bench.nrFlushes).toBe(2);
  });

  test.each([2, 3, 5, 17])('%i slots hold one less', (size) => {
    const bench = new Bench({ size });
    for (let page = 0; page < 100; page++) bench.put(page);
    expect(bench.nrFlushes).toBe(Math.floor(99 / (size - 1)));
    expect(bench.fq.nrOpen + bench.windows.length).toBe(100);
  });

  test.each([1, 0, -1])('%i slots are refused', (size) => expect(() => new Bench({ size })).toThrow(RangeError));

  test('rings are per CPU: each takes 255; a flush for one covers all, the others free when they next queue or time out', () => {
    const bench = new Bench();
    for (let page = 0; page < 255; page++) {
      bench.put(page, 0);
      bench.put(1000 + page, 3);
    }
    expect(bench.nrFlushes).toBe(0);
    bench.put(255, 0);
    expect(bench.nrFlushes).toBe(1);
    expect(bench.released).toHaveLength(255);
    expect(bench.windows).toHaveLength(510);
    bench.put(1255, 3);
    expect(bench.nrFlushes).toBe(1);
    expect(bench.released).toHaveLength(510);
    bench.pass(10 * MS);
    expect(bench.released).toHaveLength(512);
    expect(bench.nrFlushes).toBe(2);
  });

  test('the timer starts with the first entry and fires 10 ms later, not earlier', () => {
    const bench = new Bench();
    bench.clock.advanceTo(123_456);
    bench.put(1);
    bench.pass(4 * MS);
    bench.put(2);
    expect(bench.fq.deadlineNs).toBe(123_456 + 10 * MS);
    bench.clock.advanceTo(123_456 + 10 * MS - 1);
    bench.fq.timeout();
    expect(bench.log).toEqual([]);
    bench.clock.advanceBy(1);
    bench.fq.timeout();
    expect(bench.log).toEqual(['flush', 'release 1', 'release 2']);
    expect(bench.windows).toEqual([
      [123_456, 123_456 + 10 * MS],
      [123_456 + 4 * MS, 123_456 + 10 * MS],
    ]);
    expect(bench.fq.deadlineNs).toBe(Infinity);
    bench.pass(1000 * MS);
    expect(bench.nrFlushes).toBe(1);
  });

  test('a flush because of a full ring leaves the timer armed, as the kernel does', () => {
    const bench = new Bench({ size: 3 });
    for (let page = 0; page < 3; page++) bench.put(page);
    expect(bench.nrFlushes).toBe(1);
    expect(bench.fq.deadlineNs).toBe(10 * MS);
  });

  // 3 M unmaps/s fill a ring in 85 us; 10 K/s leave it to the timer. max = min(255 / rate, 10 ms).
  test.each([
    [3_000_000, 255 / 3e6],
    [10_000, 10e-3],
    [25_499, 10e-3],
    [25_600, 255 / 25_600],
    [100, 10e-3],
  ])('%i unmaps per second: the longest window is %d s', (rate, longest) => {
    const bench = new Bench();
    for (let page = 0; page < 2000; page++) {
      bench.put(page);
      bench.pass(1e9 / rate);
    }
    bench.pass(10 * MS);
    expect(bench.windows).toHaveLength(2000);
    // The last ring is not filled any more and waits for the timer.
    const widths = bench.windows.slice(0, -300).map(([from, to]) => to - from);
    expect(Math.max(...widths) / 1e9).toBeCloseTo(longest, 9);
  });
});

describe('ticks: timers fire on a tick, never early, one tick late at most (kernel/time/timer.c)', () => {
  test.each([
    [250, 12, 16],
    [100, 10, 20],
    [1000, 10, 11],
    [300, 10, 40 / 3],
  ])('HZ = %i: 10 ms become %d to %d ms', (hz, least, most) => {
    const tickMs = 1000 / hz;
    const rng = new Rng(hz);
    let [shortest, longest] = [Infinity, 0];
    for (let count = 0; count < 3000; count++) {
      const bench = new Bench({ tickMs });
      bench.clock.advanceTo(count % 10 === 0 ? (count / 10) * tickMs * MS : rng.below(1e9));
      const start = bench.clock.nowNs();
      bench.put(1);
      const due = bench.fq.deadlineNs;
      const ticks = due / (tickMs * MS);
      expect(Math.abs(ticks - Math.round(ticks))).toBeLessThan(1e-6);
      shortest = Math.min(shortest, (due - start) / MS);
      longest = Math.max(longest, (due - start) / MS);
    }
    expect(shortest).toBeGreaterThanOrEqual(least - 1e-6);
    expect(shortest).toBeLessThan(least + 0.1);
    expect(longest).toBeLessThanOrEqual(most + 1e-6);
    expect(longest).toBeGreaterThan(most - 0.1);
  });
});

describe('counters (queue_iova, fq_ring_free)', () => {
  test('an entry that is queued while a flush runs waits for the next one, and its window stays open', () => {
    const bench = new Bench();
    bench.put(1);
    bench.onFlush = (): void => {
      bench.onFlush = null;
      bench.put(2);
      bench.put(3, 7);
    };
    bench.fq.drain();
    expect(bench.released).toEqual([1]);
    expect(bench.windows).toHaveLength(1);
    expect(bench.fq.nrOpen).toBe(2);
    // Nobody else would flush them.
    expect(bench.fq.deadlineNs).toBeLessThan(Infinity);
    bench.pass(10 * MS);
    expect(bench.released).toEqual([1, 2, 3]);
    expect([bench.nrFlushes, bench.windows.length, bench.fq.nrOpen]).toEqual([2, 3, 0]);
  });

  test('windows end when the flush ends: a slow one makes them longer', () => {
    const bench = new Bench();
    bench.put(1);
    bench.onFlush = (): void => bench.clock.advanceBy(7000);
    bench.pass(10 * MS);
    expect(bench.windows).toEqual([[0, 10 * MS + 7000]]);
  });

  test('tables go back after the flush, before their IOVA; the list is copied', () => {
    const bench = new Bench();
    const tables = [11, 12];
    bench.put(1, 0, tables);
    tables.length = 0;
    bench.put(2);
    expect(bench.log).toEqual([]);
    bench.fq.drain();
    expect(bench.log).toEqual(['flush', 'tables 11 12', 'release 1', 'release 2']);
    bench.fq.drain();
    expect(bench.log.slice(4)).toEqual(['flush']);
  });

  test('sizes come back as they went in', () => {
    const bench = new Bench();
    bench.fq.queue(0, 0x10000, 0x30000, []);
    bench.fq.drain();
    expect(bench.log).toEqual(['flush', 'release 16+196608']);
  });
});

test('random use: each entry is released once, in ring order, after a flush that began after it was queued', () => {
  const rng = new Rng(4);
  for (let round = 0; round < 20; round++) {
    const bench = new Bench({ size: 4 + rng.below(12), tickMs: rng.pick([0, 4]) });
    const flushesBegun = new Map<number, number>();
    let next = 0;
    const put = (cpu: number): void => {
      flushesBegun.set(next, bench.nrFlushes);
      bench.put(next * 8 + cpu, cpu);
      next += 1;
    };
    bench.onFlush = (): void => {
      // Some arrive while it runs, on a CPU of their own: a ring that is full again would be a flush within a flush.
      if (rng.chance(0.3)) put(4);
    };
    for (let step = 0; step < 500; step++) {
      const seen = bench.released.length;
      if (rng.chance(0.8)) put(rng.below(4));
      else bench.pass(rng.below(8 * MS));
      for (const page of bench.released.slice(seen)) {
        expect(bench.nrFlushes).toBeGreaterThan(flushesBegun.get(Math.floor(page / 8))!);
      }
    }
    bench.onFlush = null;
    bench.fq.drain();
    expect(new Set(bench.released).size).toBe(next);
    expect([bench.released.length, bench.windows.length, bench.fq.nrOpen]).toEqual([next, next, 0]);
    for (let cpu = 0; cpu <= 4; cpu++) {
      const own = bench.released.filter((page) => page % 8 === cpu);
      expect(own).toEqual(own.toSorted((a, b) => a - b));
    }
  }
});
