/**
 * The cases of Linux's generic_pt KUnit suite (drivers/iommu/generic_pt/kunit_iommu_pt.h; 6.19) through the core on an AMD
 * machine, every translation asked of the hardware. For VT-d they are in test/pt/table.test.ts and, as mappings of a process, in
 * test/vfio/kunit.test.ts.
 */
import { describe, expect, test } from 'vitest';
import { EADDRINUSE, Rng } from '../../../src/base/index.ts';
import type { AmdDomain } from '../../../src/drivers/index.ts';
import { AmdMachine } from '../../../src/machine/index.ts';
import { visitLeaves } from '../../../src/pt/index.ts';
import { GiB, KiB4, MiB2, NVME, RW, WRITE } from '../lab.ts';

/** Leaf sizes of the v1 format that an x86 machine may want: every power of two. */
const SIZES = [KiB4, 4 * KiB4, 16 * KiB4, 256 * KiB4, MiB2, 32 * MiB2, GiB];

function setup() {
  const machine = new AmdMachine({ lastBdf: 0xff, hardware: { npCache: true } });
  const { core, driver, mem, pages, unit } = machine;
  const domain = driver.domainAlloc('paging') as AmdDomain;
  driver.probeDevice(NVME);
  driver.attachDev(domain, NVME);
  const table = domain.table!;
  return {
    table,
    map: (iova: number, paddr: number, nrBytes: number) => core.map(domain, iova, paddr, nrBytes, RW),
    unmap: (iova: number, nrBytes: number) => core.unmap(domain, iova, nrBytes),
    leaves: (): number[] => {
      const sizes: number[] = [];
      visitLeaves(mem, table.format, table.rootPfn, table.levels, { leaf: (_iova, _paddr, size) => sizes.push(size) });
      return sizes;
    },
    /** First and last byte of `nr` probes. */
    check: (iova: number, paddr: number, nrBytes: number): void => {
      const step = Math.max(KiB4, Math.floor(nrBytes / 64 / KiB4) * KiB4);
      for (let at = 0; at < nrBytes; at += step) {
        for (const one of [at, at + KiB4 - 1]) {
          const got = unit.translate(NVME.sid, iova + one, WRITE);
          if (got !== paddr + one) expect.fail(`0x${(iova + one).toString(16)} leads to ${got}`);
        }
      }
    },
    reaches: (iova: number): boolean => unit.translate(NVME.sid, iova, WRITE) >= 0,
    tablesLive: () => pages.nrLive,
  };
}

describe('generic_pt KUnit, AMD v1', () => {
  test.each(SIZES)('test_map_simple: one leaf of %d bytes', (size) => {
    const t = setup();
    expect(t.reaches(4 * GiB)).toBe(false);
    expect(t.map(4 * GiB, 8 * GiB, size)).toBe(0);
    expect(t.leaves()).toEqual([size]);
    t.check(4 * GiB, 8 * GiB, size);
    expect(t.map(4 * GiB + size - KiB4, 0, KiB4)).toBe(EADDRINUSE);
    expect(t.unmap(4 * GiB, size)).toBe(size);
    expect([t.leaves(), t.reaches(4 * GiB), t.reaches(4 * GiB + size - 1)]).toEqual([[], false, false]);
  });

  test.each([MiB2, 32 * MiB2, GiB])('test_map_table_to_oa: a leaf of %d bytes where a table was', (size) => {
    const t = setup();
    expect(t.map(4 * GiB, 8 * GiB, KiB4)).toBe(0);
    t.check(4 * GiB, 8 * GiB, KiB4);
    expect(t.unmap(4 * GiB, KiB4)).toBe(KiB4);
    expect(t.map(4 * GiB, 8 * GiB, size)).toBe(0);
    expect(t.leaves()).toEqual([size]);
    // A walk cache that held the table would give "not present" here (bug 10).
    t.check(4 * GiB, 8 * GiB, size);
  });

  test.each(SIZES.slice(1))(
    'test_unmap_split: unmapping 4 KiB of a leaf of %d bytes takes and returns all of it',
    (size) => {
      const t = setup();
      expect(t.map(4 * GiB, 8 * GiB, size)).toBe(0);
      t.check(4 * GiB, 8 * GiB, size);
      expect(t.unmap(4 * GiB, KiB4)).toBe(size);
      expect(t.leaves()).toEqual([]);
      // Flushed over all of it, not over what was asked for (bug 13).
      for (let at = 0; at < size; at += Math.max(KiB4, size / 16)) expect(t.reaches(4 * GiB + at)).toBe(false);
      expect(t.reaches(4 * GiB + size - 1)).toBe(false);
    },
  );

  test('test_random_map: 1000 random overlaps are EADDRINUSE and change nothing', () => {
    const t = setup();
    const rng = new Rng(7);
    const start = 4 * GiB - MiB2;
    expect(t.map(start, start, 2 * GiB)).toBe(0);
    const before = t.leaves();
    for (let round = 0; round < 1000; round++) {
      const size = rng.pick(SIZES.slice(0, 5));
      const inside = start + rng.below(2 ** 19) * KiB4;
      expect(t.map(inside - (inside % size), 0, size)).toBe(EADDRINUSE);
    }
    expect(t.leaves()).toEqual(before);
    t.check(start, start, 2 * GiB);
  });

  test('test_pgsize_boundary: 0xfef80000 to 0x208b95d000, small pages only, since no bit of both addresses agrees', () => {
    const t = setup();
    expect(t.map(0xfef80000, 0x208b95d000, 0x80000)).toBe(0);
    expect(t.leaves()).toEqual(Array.from({ length: 128 }, () => KiB4));
    t.check(0xfef80000, 0x208b95d000, 0x80000);
    expect(t.unmap(0xfef80000, 0x80000)).toBe(0x80000);
    expect(t.leaves()).toEqual([]);
  });

  test('test_mixed: the range of 20 VT-d leaves takes the largest powers of two that its ends allow', () => {
    const t = setup();
    const start = 0x3fe400 * KiB4;
    const end = 0x4c0600 * KiB4;
    expect(t.map(start, start, end - start)).toBe(0);
    // By hand: 28 MiB below a multiple of 16 GiB, then 3 GiB and 6 MiB.
    const MiB = MiB2 / 2;
    expect(t.leaves()).toEqual([4 * MiB, 8 * MiB, 16 * MiB, 2 * GiB, GiB, 4 * MiB, 2 * MiB]);
    t.check(start, start, end - start);
    expect(t.unmap(start, end - start)).toBe(end - start);
    expect(t.leaves()).toEqual([]);
  });

  test('test_increase_level: a table of 3 levels grows as far as it must, and what it maps stays', () => {
    const t = setup();
    expect(t.map(0, GiB, KiB4)).toBe(0);
    expect(t.table.levels).toBe(3);
    const steps = [
      [2 ** 39 - KiB4, 3],
      [2 ** 39, 4],
      [2 ** 48 - KiB4, 4],
      [2 ** 48, 5],
    ] as const;
    const mapped: number[] = [0];
    for (const [iova, levels] of steps) {
      expect(t.reaches(iova)).toBe(false);
      expect(t.map(iova, GiB, KiB4)).toBe(0);
      expect(t.table.levels).toBe(levels);
      mapped.push(iova);
      for (const one of mapped) t.check(one, GiB, KiB4);
    }
  });
});
