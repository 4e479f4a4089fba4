import { describe, expect, test } from 'vitest';
import { Rng } from '../../../src/base/index.ts';
import { AMDVI_QEMU, type AmdviConfig } from '../../../src/hw/index.ts';
import { all, allPages, device, DID, GiB, page, PAGE_FAULT, pages, R, Rig, RW, SID, W } from './rig.ts';

const setUp = (config: AmdviConfig = {}): { rig: Rig; top: number } => {
  const rig = new Rig(config).enable();
  return { rig, top: rig.dte(SID) };
};

describe('translations', () => {
  test('stay until they are invalidated', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    rig.map(top, 0x1000, 0x6000);
    expect(rig.unit.translate(SID, 0x1000, R), 'stale').toBe(0x5000);
    rig.unmap(top, 0x1000);
    expect(rig.unit.translate(SID, 0x1000, R), 'stale').toBe(0x5000);
    rig.submit(page(DID, 0x2000), page(DID + 1, 0x1000));
    expect(rig.unit.translate(SID, 0x1000, R), 'other page, other domain').toBe(0x5000);
    rig.submit(page(DID, 0x1000));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
  });

  test('that lack a right deny until they are invalidated: more rights need a flush like fewer', () => {
    for (const first of [R, W]) {
      const { rig, top } = setUp();
      rig.map(top, 0x1000, 0x5000, R);
      expect(rig.unit.translate(SID, 0x1000, first)).toBe(first === R ? 0x5000 : PAGE_FAULT);
      rig.map(top, 0x1000, 0x5000, RW);
      expect(rig.unit.translate(SID, 0x1000, W), 'stale rights').toBe(PAGE_FAULT);
      rig.submit(page(DID, 0x1000));
      expect(rig.unit.translate(SID, 0x1000, W)).toBe(0x5000);
    }
  });

  test('malformed entries are present, so they may be kept without NpCache', () => {
    const { rig, top } = setUp();
    const at = rig.entryAt(top, 4, 0x1000, 1);
    rig.mem.store64(at, 0x5001, 0x60100000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    rig.map(top, 0x1000, 0x5000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    rig.submit(page(DID, 0x1000));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
  });

  test('of a large page are one entry, and go when any part of them is invalidated', () => {
    for (const sizeLg2 of [13, 16, 20, 21, 25, 30, 33, 38, 39, 45]) {
      const rig = new Rig().enable();
      const top = rig.dte(SID, { levels: 5 });
      const size = 2 ** sizeLg2;
      rig.map(top, size, 0, RW, sizeLg2, 5);
      expect(rig.unit.translate(SID, size + 0x1000, R)).toBe(0x1000);
      const level = Math.floor((sizeLg2 - 12) / 9) + 1;
      for (let copy = 0; copy < 2 ** (sizeLg2 - 3 - 9 * level); copy++) {
        rig.mem.store64(rig.entryAt(top, 5, size, level) + copy * 8, 0, 0);
      }
      expect(rig.unit.translate(SID, size * 2 - 4096, R), 'another part of it').toBe(size - 4096);
      rig.submit(page(DID, size * 2), page(DID, size - 4096));
      expect(rig.unit.translate(SID, size, R), 'its neighbours').toBe(0);
      rig.submit(page(DID, size * 2 - 4096));
      expect(rig.unit.translate(SID, size, R), `2^${sizeLg2}`).toBe(PAGE_FAULT);
    }
  });

  test('of many sizes at once are found and dropped each', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 5 });
    const sizes = [12, 13, 15, 21, 24, 30, 34, 39, 44];
    const iovaOf = (sizeLg2: number): number => 2 ** sizeLg2 * 3;
    for (const sizeLg2 of sizes) rig.map(top, iovaOf(sizeLg2), 2 ** sizeLg2, RW, sizeLg2, 5);
    for (const sizeLg2 of sizes) {
      expect(rig.unit.translate(SID, iovaOf(sizeLg2) + 8, R)).toBe(2 ** sizeLg2 + 8);
    }
    const held = (): number[] => rig.unit.iotlbEntries().map((entry) => entry.sizeLg2);
    expect(held().toSorted((a, b) => a - b)).toEqual(sizes);
    for (const sizeLg2 of sizes) {
      rig.submit(page(DID, iovaOf(sizeLg2)));
      expect(held(), `2^${sizeLg2}`).not.toContain(sizeLg2);
    }
    expect(held()).toEqual([]);
  });
});

describe('the address of INVALIDATE_IOMMU_PAGES codes its size', () => {
  // Worked encodings: build_inv_address of drivers/iommu/amd/iommu.c, where [address, first, pages] is what the command covers.
  test.each([
    ['one page', 0x1000n, false, 0x1000, 1],
    ['two pages at 0x1000 need 16 KiB', 0x1000n, true, 0x0, 4],
    ['two pages at 0x2000 are 8 KiB', 0x2000n, true, 0x2000, 2],
    ['two pages at 0x3000 need 32 KiB', 0x3000n, true, 0x0, 8],
    ['a page of 2 MiB', 0x2ff000n, true, 0x200000, 512],
    ['two pages at 0xff000 need 2 MiB', 0xff000n, true, 0x0, 512],
    ['64 KiB at 0x10000', 0x17000n, true, 0x10000, 16],
  ])('%s', (_, address, s, first, nrPages) => {
    const { rig, top } = setUp({ iotlb: { sets: 4096, ways: 4 } });
    const last = 0x500000;
    for (let iova = 0; iova < last; iova += 4096) rig.map(top, iova, iova + GiB);
    for (let iova = 0; iova < last; iova += 4096) rig.unit.translate(SID, iova, R);
    rig.submit(pages(DID, address, { s }));
    const held = new Set(rig.unit.iotlbEntries().map((entry) => entry.iova));
    const gone: number[] = [];
    for (let iova = 0; iova < last; iova += 4096) if (!held.has(iova)) gone.push(iova);
    expect(gone).toEqual(Array.from({ length: nrPages }, (__, index) => first + index * 4096));
  });

  test.each([
    // 2^(43): ones in 41:12, zero at 42. 2^52: ones in 50:12. Everything: ones in 62:12, and also all ones.
    ['8 TiB', 0x3fffffff000n, [2 ** 43 - 4096, 0], [2 ** 43]],
    ['8 TiB, the second', 0xbfffffff000n, [2 ** 43, 2 ** 44 - 4096], [0, 2 ** 44]],
    ['2^51', 0x3fffffffff000n, [0, 2 ** 48, 2 ** 50], [2 ** 51]],
    ['2^52', 0x7ffffffffffffn & ~0xfffn, [0, 2 ** 48, 2 ** 51], [2 ** 52]],
    ['2^53', 0xffffffffff000n, [0, 2 ** 48, 2 ** 52], []],
    ['all', 0x7ffffffffffff000n, [0, 2 ** 43, 2 ** 52], []],
    ['all ones', 0xfffffffffffff000n, [0, 2 ** 43, 2 ** 52], []],
    ['2^52, above every address', 0xf7ffffffff000n | (1n << 60n), [], [0, 2 ** 43, 2 ** 52]],
    ['one page above every address', 1n << 60n, [], [0, 2 ** 43, 2 ** 52]],
  ])('%s', (name, address, gone, stays) => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 6 });
    const s = !name.startsWith('one page');
    for (const iova of [...gone, ...stays]) {
      rig.map(top, iova, 0x5000, RW, 12, 6);
      expect(rig.unit.translate(SID, iova, R)).toBe(0x5000);
    }
    rig.submit(pages(DID, address, { s }));
    const held = rig.unit.iotlbEntries().map((entry) => entry.iova);
    expect(held.toSorted((a, b) => a - b)).toEqual(stays);
  });

  test('an address above what caches hold is not taken for a domain or a size', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    rig.map(top, 0x400000, 0x400000, RW, 22);
    const held = (): number => rig.unit.iotlbEntries().length + rig.unit.structureEntries().length;
    for (const iova of [0x1000, 0x400000]) rig.unit.translate(SID, iova, R);
    const before = held();
    for (let bit = 53n; bit < 64n; bit++) {
      for (const did of [DID, DID - 1, DID ^ 4]) {
        rig.submit(pages(did, (1n << bit) | 0x1000n), pages(did, (1n << bit) | 0x1000n, { s: true }));
        rig.submit(pages(did, (1n << bit) | 0x400000n));
      }
    }
    expect(held()).toBe(before);
  });

  test('other domains stay, whatever the size', () => {
    const { rig, top } = setUp();
    rig.dte(SID + 1, { top, did: 0xffff });
    rig.map(top, 0x1000, 0x5000);
    rig.unit.translate(SID, 0x1000, R);
    rig.unit.translate(SID + 1, 0x1000, R);
    rig.submit(allPages(DID));
    expect(rig.unit.iotlbEntries().map((entry) => entry.domain)).toEqual([0xffff]);
    expect(rig.unit.structureEntries().every((entry) => entry.domain === 0xffff)).toBe(true);
    rig.submit(allPages(0xffff));
    expect(rig.unit.iotlbEntries()).toEqual([]);
  });
});

describe('entries that lead to tables', () => {
  /** A second level 1 table that maps the same page elsewhere. */
  const relink = (rig: Rig, top: number): void => {
    const other = rig.table();
    rig.entry(other + 8, 0, 0x9000);
    rig.entry(rig.entryAt(top, 4, 0x1000, 2), 1, other);
  };

  test.each([
    ['without the PDE bit they stay', false, 0x5000],
    ['with it they go', true, 0x9000],
  ])('%s', (_, pde, expected) => {
    for (const command of [
      page(DID, 0x1000, { pde }),
      pages(DID, 0x2ff000n - 0x200000n, { s: true, pde }),
      allPages(DID, { pde }),
    ]) {
      const { rig, top } = setUp();
      rig.map(top, 0x1000, 0x5000);
      expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
      relink(rig, top);
      expect(rig.unit.translate(SID, 0x1000, R), 'the page itself').toBe(0x5000);
      rig.submit(command);
      expect(rig.unit.iotlbEntries()).toEqual([]);
      expect(rig.unit.translate(SID, 0x1000, R)).toBe(expected);
    }
  });

  test('are dropped at every level that covers the page, and no other', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 6 });
    for (const iova of [0, 2 ** 21, 2 ** 30, 2 ** 39, 2 ** 48]) {
      rig.map(top, iova, 0x5000, RW, 12, 6);
      rig.unit.translate(SID, iova, R);
    }
    const held = (): string[] =>
      rig.unit
        .structureEntries()
        .map((entry) => `${entry.level}@${entry.iova}`)
        .toSorted();
    expect(held()).toHaveLength(5 + 4 + 3 + 2 + 1);
    rig.submit(page(DID, 2 ** 30 + 0x5000));
    expect(held()).toEqual(
      ['2@0', '2@2097152', `2@${2 ** 39}`, `2@${2 ** 48}`, '3@0', `3@${2 ** 39}`, `3@${2 ** 48}`, `4@${2 ** 39}`]
        .concat([`4@${2 ** 48}`, `5@${2 ** 48}`])
        .toSorted(),
    );
  });

  test('that are malformed stay too: they are present', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    const at = rig.entryAt(top, 4, 0x1000, 2);
    const good = [rig.mem.load32(at), rig.mem.load32(at + 4)] as const;
    rig.mem.store64(at, good[0], good[1] | (1 << 20));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    expect(rig.unit.structureEntries().find((entry) => entry.level === 2)).toMatchObject({ fault: 3, tablePfn: -1 });
    rig.mem.store64(at, good[0], good[1]);
    rig.submit(page(DID, 0x1000, { pde: false }));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    rig.submit(page(DID, 0x1000));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
  });

  test('keep how many levels they skip', () => {
    const { rig, top } = setUp();
    const table = rig.table();
    rig.entry(top, 1, table);
    rig.entry(table + 8, 0, 0x5000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.structureEntries()).toMatchObject([
      { domain: DID, level: 4, nextLevel: 1, iova: 0, tablePfn: table / 4096, rights: RW, fault: 0 },
    ]);
    rig.submit(page(DID, 0x1000, { pde: false }));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID, 0x201000, R)).toBe(PAGE_FAULT);
  });

  test('carry the rights of all above them', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    rig.map(top, 0x2000, 0x6000);
    rig.entry(top, 3, (rig.mem.load32(top) & -4096) >>> 0, R);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID, 0x2000, W)).toBe(PAGE_FAULT);
    expect(rig.unit.structureEntries().map((entry) => entry.rights)).toEqual([R, R, R]);
  });
});

describe('not present', () => {
  test('without NpCache nothing is remembered at any level', () => {
    const { rig, top } = setUp();
    for (const level of [4, 3, 2, 1]) {
      const rigged = setUp();
      rigged.rig.entryAt(rigged.top, 4, 0x1000, level);
      expect(rigged.rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
      expect(rigged.rig.unit.iotlbEntries()).toEqual([]);
      rigged.rig.map(rigged.top, 0x1000, 0x5000);
      expect(rigged.rig.unit.translate(SID, 0x1000, R), `level ${level}`).toBe(0x5000);
    }
    expect(rig.unit.translate(SID, 0, R)).toBe(PAGE_FAULT);
    rig.map(top, 0, 0x5000);
    expect(rig.unit.translate(SID, 0, R)).toBe(0x5000);
  });

  test('with NpCache a mapping is invisible until the page is invalidated', () => {
    const { rig, top } = setUp({ npCache: true });
    rig.map(top, 0x2000, 0x7000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    expect(rig.unit.iotlbEntries()).toMatchObject([{ iova: 0x1000, fault: 1 }]);
    rig.map(top, 0x1000, 0x5000);
    expect(rig.unit.translate(SID, 0x1000, R), 'cached').toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, 0x1000, W), 'cached').toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, 0x2000, R), 'others').toBe(0x7000);
    rig.submit(page(DID, 0x1000, { pde: false }));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
  });

  test('a directory that was not present needs the PDE bit', () => {
    const { rig, top } = setUp({ npCache: true });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    rig.map(top, 0x1000, 0x5000);
    rig.submit(page(DID, 0x1000, { pde: false }));
    expect(rig.unit.translate(SID, 0x1000, R), 'the level 4 entry is still held').toBe(PAGE_FAULT);
    // And with it every other page below the same entry.
    rig.map(top, 0x40000000, 0x6000);
    expect(rig.unit.translate(SID, 0x40000000, R)).toBe(PAGE_FAULT);
    rig.submit(page(DID, 0x1000), page(DID, 0x40000000));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID, 0x40000000, R)).toBe(0x6000);
  });

  test('NpCache does not reach device table entries: those are always held', () => {
    const rig = new Rig().enable();
    rig.dte(SID, { v: false });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x1000);
    rig.dte(SID);
    expect(rig.unit.translate(SID, 0x1000, R), 'V = 0 is cached').toBe(0x1000);
    rig.submit(device(SID));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
  });
});

describe('device table entries', () => {
  test('stay until theirs is invalidated', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    rig.unit.translate(SID, 0x1000, R);
    const other = rig.dte(SID, { did: DID + 1 });
    rig.map(other, 0x1000, 0x6000);
    rig.map(other, 0x2000, 0x7000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID, 0x2000, R)).toBe(PAGE_FAULT);
    rig.submit(device(SID + 1), allPages(DID));
    expect(rig.unit.translate(SID, 0x2000, R), 'other device; pages only').toBe(PAGE_FAULT);
    rig.submit(device(SID));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x6000);
    expect(rig.unit.translate(SID, 0x2000, R)).toBe(0x7000);
  });

  test('an invalidation of one leaves the translations of its domain', () => {
    const { rig, top } = setUp();
    rig.map(top, 0x1000, 0x5000);
    rig.unit.translate(SID, 0x1000, R);
    const other = rig.dte(SID);
    rig.map(other, 0x1000, 0x6000);
    rig.submit(device(SID));
    expect(rig.unit.translate(SID, 0x1000, R), 'same domain id: the IOTLB answers').toBe(0x5000);
    rig.submit(page(DID, 0x1000));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x6000);
  });

  test('are seen by inspection', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID, { levels: 3, did: 77, rights: R });
    rig.dte(SID + 1, { v: false });
    rig.unit.translate(SID, 0, R);
    rig.unit.translate(SID + 1, 0, R);
    const entries = rig.unit.contextEntries().toSorted((a, b) => a.sid - b.sid);
    expect(entries).toEqual([
      { sid: SID, domain: 77, isValid: true, levels: 3, rights: R, fault: 0, rootPfn: top / 4096 },
      { sid: SID + 1, domain: 0, isValid: false, levels: 0, rights: 0, fault: 0, rootPfn: -1 },
    ]);
  });

  test('evictions do not outlive the entry used last', () => {
    const rig = new Rig({ deviceCache: { sets: 1, ways: 1 } }).enable();
    const top = rig.dte(SID);
    rig.map(top, 0x1000, 0x5000);
    rig.dte(SID + 1, { top });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID + 1, 0x1000, R)).toBe(0x5000);
    rig.dte(SID, { top, rights: W });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    // Also when what comes in passes untranslated, and so is not used like an entry that translates.
    rig.dte(SID, { top });
    rig.dte(SID + 1, { v: false });
    rig.submit(device(SID + 1), device(SID));
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    expect(rig.unit.translate(SID + 1, 0x1000, R)).toBe(0x1000);
    rig.dte(SID, { top, rights: W });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
  });
});

test('INVALIDATE_IOMMU_ALL drops everything', () => {
  const { rig, top } = setUp({ npCache: true });
  rig.map(top, 0x1000, 0x5000);
  rig.map(top, 0x200000, 0x200000, RW, 21);
  for (const iova of [0x1000, 0x200000, 0x3000, GiB]) rig.unit.translate(SID, iova, R);
  expect(rig.unit.iotlbEntries()).toHaveLength(4);
  rig.submit(all());
  expect(rig.unit.iotlbEntries()).toEqual([]);
  expect(rig.unit.structureEntries()).toEqual([]);
  expect(rig.unit.contextEntries()).toEqual([]);
});

describe('snapshot and restore', () => {
  const configs: [string, AmdviConfig][] = [
    ['default', {}],
    ['NpCache', { npCache: true, completionDelayNs: 50 }],
    ['random victims', { npCache: true, iotlb: { sets: 2, ways: 2, replacement: 'random' } }],
    ['QEMU', AMDVI_QEMU],
  ];
  test.each(configs)('%s: a restored unit goes on as the original did', (_, config) => {
    const { rig, top } = setUp(config);
    for (let index = 0; index < 32; index += 2)
      rig.map(top, GiB + index * 4096, (index + 1) * 4096, index % 4 ? RW : R);
    rig.map(top, 2 * GiB, 0, RW, 14);
    const future = (seed: number): string => {
      const rng = new Rng(seed);
      const seen: number[] = [];
      for (let step = 0; step < 200; step++) {
        const iova = rng.pick([GiB, GiB, GiB, 2 * GiB]) + rng.below(32) * 4096;
        const choice = rng.below(10);
        if (choice < 7) seen.push(rig.unit.translate(SID + rng.below(2), iova, rng.pick([R, W])));
        else if (choice < 8) rig.submit(page(DID, iova), device(SID + rng.below(2)));
        else if (choice < 9) seen.push(rig.takeEvents().length);
        else seen.push(rig.unit.read32(rng.pick([0x2000, 0x2008, 0x2018, 0x2020])));
      }
      return [...seen, ...rig.unit.snapshot()].join();
    };
    future(1);
    const { tail } = rig;
    const saved = rig.unit.snapshot();
    const first = future(2);
    expect(rig.unit.snapshot()).not.toEqual(saved);
    rig.unit.restore(saved);
    rig.tail = tail;
    expect(rig.unit.snapshot()).toEqual(saved);
    expect(future(2)).toBe(first);
    const into = new Int32Array(saved.length);
    expect(rig.unit.snapshot(into)).toBe(into);
    expect(into).toEqual(rig.unit.snapshot());
  });

  test('a snapshot of another configuration is refused', () => {
    const small = new Rig({ iotlb: { sets: 1, ways: 1 } });
    expect(() => new Rig().unit.restore(small.unit.snapshot())).toThrow(RangeError);
  });
});
