/** Sparse physical memory against a Map of words: near and far frames, growth, the device's view, the observer. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PHYS_LIMIT, PhysMem } from '../../src/mem/index.ts';

/** Frames on both sides of every internal border: first slot table, its doublings, the far map, the last frame. */
const FRAMES = [0, 1, 4095, 4096, 8191, 8192, 0xfffff, 0x100000, (1 << 22) - 1, 1 << 22, 2 ** 32, 2 ** 40 - 1];
const PAGE = 4096;

const frame = fc.oneof(fc.constantFrom(...FRAMES), fc.integer({ min: 0, max: 1 << 23 }));
const place = fc.tuple(frame, fc.integer({ min: 0, max: 1023 })).map(([pfn, word]) => pfn * PAGE + word * 4);
const word = fc.integer();

describe('sparse memory', () => {
  test('reads zero where nothing was stored, and a read makes no frame', () => {
    const mem = new PhysMem();
    for (const pfn of FRAMES) {
      expect(mem.load32(pfn * PAGE)).toBe(0);
      expect(mem.deviceLoad32(pfn * PAGE + 4092)).toBe(0);
      expect(mem.slotOf(pfn)).toBe(-1);
    }
    expect(mem.nrFrames).toBe(0);
  });

  test('behaves as a Map from word address to word', () => {
    const store = fc.record({ paddr: place, value: word });
    fc.assert(
      fc.property(fc.array(store, { minLength: 1, maxLength: 150 }), (stores) => {
        const mem = new PhysMem();
        const model = new Map<number, number>();
        for (const { paddr, value } of stores) {
          mem.store32(paddr, value);
          model.set(paddr, value);
        }
        for (const [paddr, value] of model) {
          expect(mem.load32(paddr)).toBe(value);
          expect(mem.deviceLoad32(paddr)).toBe(value);
          const beside = paddr % 8 === 0 ? paddr + 4 : paddr - 4;
          expect(mem.load32(beside)).toBe(model.get(beside) ?? 0);
        }
        expect(mem.nrFrames).toBe(new Set([...model.keys()].map((paddr) => Math.floor(paddr / PAGE))).size);
      }),
    );
  });

  test('growth moves the arena and keeps every word', () => {
    const mem = new PhysMem();
    const before = mem.words;
    const frames = Array.from({ length: 1000 }, (_, i) => i * 7919);
    for (const pfn of frames) mem.store64(pfn * PAGE + 8, pfn, ~pfn);
    expect(mem.words).not.toBe(before);
    expect(mem.deviceWords).toBe(mem.words);
    for (const pfn of frames) {
      expect(mem.load32(pfn * PAGE + 8)).toBe(pfn);
      expect(mem.load32(pfn * PAGE + 12)).toBe(~pfn);
    }
  });

  test('slots, frames and word indexes lead back to the address', () => {
    const mem = new PhysMem();
    for (const pfn of FRAMES) {
      const slot = mem.ensure(pfn);
      expect(mem.ensure(pfn)).toBe(slot);
      expect(mem.slotOf(pfn)).toBe(slot);
      expect(mem.frameOfSlot(slot)).toBe(pfn);
      for (const offset of [0, 4, 4092]) {
        const index = mem.indexOf(pfn * PAGE + offset);
        expect(index).toBe(slot * 1024 + offset / 4);
        expect(mem.paddrOfIndex(index)).toBe(pfn * PAGE + offset);
      }
    }
  });

  test('fillFrame fills one frame and none beside it', () => {
    const mem = new PhysMem();
    mem.store32(5 * PAGE - 4, 1);
    mem.store32(6 * PAGE, 2);
    mem.fillFrame(5, -1);
    expect([5 * PAGE - 4, 5 * PAGE, 6 * PAGE - 4, 6 * PAGE].map((paddr) => mem.load32(paddr))).toEqual([1, -1, -1, 2]);
  });

  test.each([-1, 2 ** 40, 1.5, Number.NaN])('refuses frame %d', (pfn) => {
    expect(() => new PhysMem().ensure(pfn)).toThrow(RangeError);
  });

  test('PHYS_LIMIT is the first address that is refused', () => {
    const mem = new PhysMem();
    mem.store32(PHYS_LIMIT - 4, 1);
    expect(mem.load32(PHYS_LIMIT - 4)).toBe(1);
    expect(() => mem.store32(PHYS_LIMIT, 1)).toThrow(RangeError);
  });
});

describe('memory that devices do not snoop', () => {
  test('a store is seen by a device after its cache line is flushed, not before, and no other line with it', () => {
    const mem = new PhysMem({ coherent: false });
    mem.store32(0x1000, 1);
    mem.store32(0x103c, 2);
    mem.store32(0x1040, 3);
    expect([0x1000, 0x103c, 0x1040].map((paddr) => mem.deviceLoad32(paddr))).toEqual([0, 0, 0]);
    mem.flush(0x1008, 8);
    expect([0x1000, 0x103c, 0x1040].map((paddr) => mem.deviceLoad32(paddr))).toEqual([1, 2, 0]);
    expect(mem.load32(0x1040)).toBe(3);
  });

  test('the device view is what was flushed last, for any stores and flushes', () => {
    const LINE = 64;
    const near = fc.integer({ min: 0, max: 3 * 1024 - 1 }).map((index) => 0xfff000 + index * 4);
    const step = fc.oneof(
      fc.record({ kind: fc.constant('store' as const), paddr: near, value: word }),
      fc.record({ kind: fc.constant('device' as const), paddr: near, value: word }),
      fc.record({ kind: fc.constant('flush' as const), paddr: near, value: fc.integer({ min: 1, max: 5000 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const mem = new PhysMem({ coherent: false });
        const cpu = new Map<number, number>();
        const device = new Map<number, number>();
        for (const { kind, paddr, value } of steps) {
          if (kind === 'store') {
            mem.store32(paddr, value);
            cpu.set(paddr, value);
          } else if (kind === 'device') {
            mem.deviceStore32(paddr, value);
            cpu.set(paddr, value);
            device.set(paddr, value);
          } else {
            mem.flush(paddr, value);
            const first = Math.floor(paddr / LINE);
            const last = Math.floor((paddr + value - 1) / LINE);
            for (const [at, now] of cpu) {
              const line = Math.floor(at / LINE);
              if (line >= first && line <= last) device.set(at, now);
            }
          }
        }
        for (const { paddr } of steps) {
          expect(mem.load32(paddr - (paddr % 4))).toBe(cpu.get(paddr) ?? 0);
          expect(mem.deviceLoad32(paddr)).toBe(device.get(paddr) ?? 0);
        }
      }),
    );
  });

  test('both views survive growth', () => {
    const mem = new PhysMem({ coherent: false });
    mem.store32(0x1000, 7);
    mem.flush(0x1000, 4);
    mem.store32(0x1000, 8);
    for (let pfn = 100; pfn < 400; pfn++) mem.ensure(pfn);
    expect(mem.load32(0x1000)).toBe(8);
    expect(mem.deviceLoad32(0x1000)).toBe(7);
  });
});

describe('the observer', () => {
  /** A memory whose software stores are written down as [address, words]. */
  function watched(coherent: boolean): { mem: PhysMem; seen: [number, number][] } {
    const mem = new PhysMem({ coherent });
    const seen: [number, number][] = [];
    mem.observer = { stored: (index, nrWords) => seen.push([mem.paddrOfIndex(index), nrWords]) };
    return { mem, seen };
  }

  test.each([true, false])('sees each store of software once, after it happened (coherent: %s)', (coherent) => {
    const { mem, seen } = watched(coherent);
    mem.store32(0x2004, 1);
    mem.store64(0x3008, 2, 3);
    mem.fillFrame(0x10, 4);
    mem.words.fill(9, mem.indexOf(0x4000), mem.indexOf(0x4000) + 16);
    mem.stored(mem.indexOf(0x4000), 16);
    expect(seen).toEqual([
      [0x2004, 1],
      [0x3008, 2],
      [0x10000, 1024],
      [0x4000, 16],
    ]);
  });

  test('sees no load, flush or store of a device', () => {
    const { mem, seen } = watched(false);
    mem.deviceStore32(0x5000, 1);
    mem.flush(0x5000, 4096);
    mem.load32(0x5000);
    mem.deviceLoad32(0x5000);
    expect(seen).toEqual([]);
  });

  test('finds the new value in memory when it is called, also in a store that made the arena grow', () => {
    const mem = new PhysMem();
    for (let pfn = 0; pfn < 64; pfn++) mem.ensure(pfn);
    const values: number[] = [];
    mem.observer = { stored: (index) => values.push(mem.words[index]) };
    mem.store32(64 * PAGE, 42);
    expect(values).toEqual([42]);
  });
});
