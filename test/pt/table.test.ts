import { describe, expect, it } from 'vitest';
import { EADDRINUSE, EINVAL, ENOMEM, Rng } from '../../src/base/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { PageTable, VtdSsFormat, visitLeaves } from '../../src/pt/index.ts';
import type { PageTableHooks } from '../../src/pt/index.ts';
import { walkOneVtd, walkVtd } from './walker.ts';

const K4 = 4096;
const M2 = 2 ** 21;
const G1 = 2 ** 30;
const RW = 3;

interface Options {
  levels?: number;
  nrPages?: number;
  hooks?: PageTableHooks;
  mem?: PhysMem;
  pgsizeBitmap?: number;
}

/** A table and short words for what the tests do with it: map, unmap (returns bytes and frees tables), leaves, tables. */
function setup({ levels = 4, nrPages = 1 << 16, hooks = {}, mem = new PhysMem(), pgsizeBitmap }: Options = {}) {
  const pages = new PageAllocator(mem, { nrPages });
  const table = new PageTable(mem, pages, new VtdSsFormat(pgsizeBitmap), levels, hooks);
  const mapped = { bytes: -1 };
  return {
    mem,
    pages,
    table,
    mapped,
    map: (iova: number, paddr: number, pgsize: number, count = 1, prot = RW) =>
      table.mapRange(iova, paddr, pgsize, count, prot, mapped),
    mapBytes: (iova: number, paddr: number, bytes: number) => table.mapBytes(iova, paddr, bytes, RW, mapped),
    unmap: (iova: number, bytes: number) => {
      const freelist: number[] = [];
      const gone = table.unmapBytes(iova, bytes, freelist);
      for (const pfn of freelist) pages.free(pfn);
      return gone;
    },
    /** `iova>paddr+bytes` of every leaf, by the test's own walker. */
    leaves: () =>
      walkVtd(mem, table.rootPfn, table.levels).leaves.map(
        (leaf) => `${leaf.iova.toString(16)}>${leaf.paddr.toString(16)}+${leaf.bytes.toString(16)}`,
      ),
    tables: () => walkVtd(mem, table.rootPfn, table.levels).tables,
  };
}

describe('mapping and reading back', () => {
  it.each([
    [3, K4],
    [3, M2],
    [3, G1],
    [4, K4],
    [4, M2],
    [4, G1],
    [5, K4],
    [5, G1],
  ])('%i levels, leaf of %i bytes: first, last and middle address', (levels, pgsize) => {
    const t = setup({ levels });
    const top = 2 ** Math.min(52, 12 + 9 * levels);
    for (const iova of [0, pgsize * 3, top - pgsize]) {
      const paddr = 5 * G1;
      expect(t.map(iova, paddr, pgsize)).toBe(0);
      expect(t.mapped.bytes).toBe(pgsize);
      for (const offset of [0, 1, pgsize - 1]) {
        expect(t.table.iovaToPhys(iova + offset)).toBe(paddr + offset);
        expect(walkOneVtd(t.mem, t.table.rootPfn, levels, iova + offset)).toBe(BigInt(paddr + offset));
      }
      expect(t.table.leafBytes(iova)).toBe(pgsize);
      expect(t.table.iovaToPhys(iova + pgsize)).toBe(-1);
      expect(t.unmap(iova, pgsize)).toBe(pgsize);
      expect(t.table.iovaToPhys(iova)).toBe(-1);
    }
  });

  it('carries physical addresses over 4 GiB inside a run', () => {
    const t = setup();
    expect(t.map(0, 2 ** 32 - 3 * K4, K4, 6)).toBe(0);
    expect(t.leaves().slice(2, 5)).toEqual(['2000>fffff000+1000', '3000>100000000+1000', '4000>100001000+1000']);
    expect(t.map(G1, 2 ** 40 - G1, G1, 3)).toBe(0);
    expect(t.leaves().slice(6)).toEqual([
      '40000000>ffc0000000+40000000',
      '80000000>10000000000+40000000',
      'c0000000>10040000000+40000000',
    ]);
  });

  it('crosses tables of every level in one call', () => {
    const t = setup();
    const iova = 512 * G1 - 2 * K4;
    expect(t.map(iova, 7 * G1, K4, 4)).toBe(0);
    expect(t.leaves().length).toBe(4);
    // root, two paths of three tables each
    expect(t.tables().length).toBe(7);
    expect(t.table.nrTables).toBe(7);
  });

  it('refuses what no entry can say, and says what it mapped: nothing', () => {
    const t = setup({ levels: 3 });
    const bad: [string, number][] = [
      ['no rights', t.map(0, 0, K4, 1, 0)],
      ['cache alone is no right', t.map(0, 0, K4, 1, 4)],
      ['iova not aligned', t.map(0x800, 0, K4)],
      ['paddr not aligned', t.map(0, 0x800, K4)],
      ['paddr not aligned to the large leaf', t.map(0, K4, M2)],
      ['a size between', t.map(0, 0, 2 * K4)],
      ['a size that is a sum of sizes', t.map(0, 0, M2 + K4)],
      ['512 GiB', t.map(0, 0, 2 ** 39)],
      ['past the end', t.map(2 ** 39, 0, K4)],
      ['over the end', t.map(2 ** 39 - K4, 0, K4, 2)],
      ['nothing', t.map(0, 0, K4, 0)],
      ['negative', t.map(-K4, 0, K4)],
      ['mapBytes of nothing', t.mapBytes(0, 0, 0)],
      ['mapBytes not aligned', t.mapBytes(0, 0, 100)],
    ];
    expect(bad.filter(([, errno]) => errno !== EINVAL)).toEqual([]);
    expect(t.mapped.bytes).toBe(0);
    expect(t.leaves()).toEqual([]);
    expect(setup({ pgsizeBitmap: K4 }).map(0, 0, M2)).toBe(EINVAL);
    expect(() => setup({ levels: 6 })).toThrow(RangeError);
    for (const iova of [-1, -K4, 2 ** 39, 2 ** 52, 2 ** 53]) expect(t.table.iovaToPhys(iova)).toBe(-1);
    for (const [iova, bytes] of [
      [-K4, K4],
      [0, 0],
      [0, -K4],
      [0x800, K4],
      [0, 0x800],
      [2 ** 39, K4],
    ] as const) {
      expect(t.unmap(iova, bytes)).toBe(0);
    }
  });

  it('stays right next to the remembered table', () => {
    const t = setup();
    t.map(M2, 0x100000, K4);
    // Below, above, and negative neighbours of the remembered span must not be taken for it.
    for (const iova of [0, M2 - K4, 2 * M2, M2 + 2 ** 48, -K4]) expect(t.table.iovaToPhys(iova)).toBe(-1);
    expect(t.table.iovaToPhys(M2 + 5)).toBe(0x100005);
    expect(t.unmap(M2 + 0x1001, K4)).toBe(0);
    expect(t.map(M2 + K4, 0x801, K4)).toBe(EINVAL);
  });

  it('lists leaves and tables as the walker finds them', () => {
    const t = setup();
    t.mapBytes(0x1000, 0x1000, 3 * G1);
    const seen: string[] = [];
    const tables: number[] = [];
    visitLeaves(t.mem, t.table.format, t.table.rootPfn, 4, {
      leaf: (iova, paddr, bytes) => seen.push(`${iova.toString(16)}>${paddr.toString(16)}+${bytes.toString(16)}`),
      table: (_, pfn) => tables.push(pfn),
    });
    expect(seen).toEqual(t.leaves());
    expect(tables).toEqual(t.tables().map((one) => one.pfn));
  });

  it('says so when memory for the root is gone', () => {
    const mem = new PhysMem();
    const table = new PageTable(mem, new PageAllocator(mem, { nrPages: 0 }), new VtdSsFormat(), 4);
    expect(table.rootPfn).toBe(-1);
    expect(table.mapRange(0, 0, K4, 1, RW, { bytes: 0 })).toBe(EINVAL);
    expect(table.iovaToPhys(0)).toBe(-1);
    table.destroy();
  });

  it('stops at ENOMEM with the bytes written so far', () => {
    // Root, two tables, one leaf table: the second leaf table is the sixth page.
    const t = setup({ nrPages: 4 });
    expect(t.map(M2 - 2 * K4, 0, K4, 4)).toBe(ENOMEM);
    expect(t.mapped.bytes).toBe(2 * K4);
    expect(t.leaves().length).toBe(2);
    expect(t.unmap(M2 - 2 * K4, 2 * K4)).toBe(2 * K4);
    t.table.destroy();
    expect(t.pages.nrLive).toBe(0);
  });

  it('grows by a level on top without moving anything', () => {
    const t = setup({ levels: 3 });
    t.map(G1, 5 * G1, K4);
    const old = t.table.rootPfn;
    expect(t.map(2 ** 39, 0, K4)).toBe(EINVAL);
    expect(t.table.raiseTop()).toBe(0);
    expect(t.table.levels).toBe(4);
    expect(t.table.rootPfn).not.toBe(old);
    expect(t.map(2 ** 39, 0, K4)).toBe(0);
    expect(t.leaves()).toEqual(['40000000>140000000+1000', '8000000000>0+1000']);
    expect(t.table.iovaToPhys(G1)).toBe(5 * G1);
    t.table.destroy();
    expect(t.pages.nrLive).toBe(0);
  });
});

describe('cases of Linux generic_pt KUnit (drivers/iommu/generic_pt/kunit_*.h), for VT-d', () => {
  it.each([K4, M2, G1])('test_map_simple: every leaf size, %i', (pgsize) => {
    const t = setup();
    const start = t.pages.nrLive;
    for (let turn = 0; turn < 3; turn++) {
      expect(t.map(turn * pgsize, 8 * G1 + turn * pgsize, pgsize)).toBe(0);
    }
    expect(t.leaves().length).toBe(3);
    for (let turn = 0; turn < 3; turn++) expect(t.unmap(turn * pgsize, pgsize)).toBe(pgsize);
    expect(t.leaves()).toEqual([]);
    t.table.destroy();
    expect(t.pages.nrLive).toBe(start - 1);
  });

  it('test_map_table_to_oa: a leaf takes the place of an emptied table', () => {
    for (const [small, large] of [
      [K4, M2],
      [M2, G1],
      [K4, G1],
    ] as const) {
      const t = setup();
      for (let at = 0; at < large; at += Math.max(small, large / 512)) t.map(at, at, small);
      // One by one: no unmap covers a table, so all stay behind, empty.
      for (let at = 0; at < large; at += Math.max(small, large / 512)) expect(t.unmap(at, small)).toBe(small);
      const before = t.tables().length;
      expect(t.map(0, 3 * G1, large)).toBe(0);
      expect(t.leaves()).toEqual([`0>${(3 * G1).toString(16)}+${large.toString(16)}`]);
      expect(t.tables().length).toBeLessThan(before);
      expect(t.pages.nrLive).toBe(t.tables().length);
    }
  });

  it('test_unmap_split: unmapping the first small part of a large leaf takes and returns the whole leaf', () => {
    for (const [small, large] of [
      [K4, M2],
      [M2, G1],
      [K4, G1],
    ] as const) {
      const t = setup();
      t.map(0, 4 * G1, large, 2);
      expect(t.unmap(0, small)).toBe(large);
      expect(t.leaves()).toEqual([`${large.toString(16)}>${(4 * G1 + large).toString(16)}+${large.toString(16)}`]);
      // Not the first part: nothing may go.
      expect(t.unmap(large + small, small)).toBe(0);
      expect(t.table.iovaToPhys(large)).toBe(4 * G1 + large);
    }
  });

  it('test_random_map: 1000 random overlaps are refused with EADDRINUSE and change nothing', () => {
    const t = setup();
    const rng = new Rng(7);
    const start = 4 * G1 - M2;
    t.mapBytes(start, start, 2 * G1);
    const before = t.leaves();
    for (let round = 0; round < 1000; round++) {
      const pgsize = rng.pick([K4, M2, G1]);
      const inside = start + rng.below(2 ** 19) * K4;
      expect(t.map(inside - (inside % pgsize), 0, pgsize)).toBe(EADDRINUSE);
      expect(t.mapped.bytes).toBe(0);
    }
    expect(t.leaves()).toEqual(before);
    // Whatever tables refusals made, none was lost.
    expect(t.pages.nrLive).toBe(t.tables().length);
  });

  it('test_pgsize_boundary: 0xfef80000 to 0x208b95d000, 0x80000 bytes', () => {
    const t = setup();
    expect(t.mapBytes(0xfef80000, 0x208b95d000, 0x80000)).toBe(0);
    expect(t.leaves().length).toBe(128);
    expect(t.table.iovaToPhys(0xfefffabc)).toBe(0x208b9dcabc);
  });

  it('test_mixed: [0x3fe400000, 0x4c0600000) is 14 leaves of 2 MiB, 3 of 1 GiB, 3 of 2 MiB', () => {
    const t = setup();
    const start = 0x3fe400000;
    const bytes = 0x4c0600000 - start;
    expect(t.mapBytes(start, start, bytes)).toBe(0);
    const sizes = t.leaves().map((leaf) => parseInt(leaf.slice(leaf.indexOf('+') + 1), 16));
    expect(sizes).toEqual([...Array(14).fill(M2), ...Array(3).fill(G1), ...Array(3).fill(M2)]);
    expect(t.unmap(start, bytes)).toBe(bytes);
    expect(t.leaves()).toEqual([]);
  });
});

describe('mapping over something', () => {
  it('stops exactly at the page in use', () => {
    const t = setup();
    t.map(M2 + 5 * K4, 0, K4);
    expect(t.map(M2 - 3 * K4, 7 * G1, K4, 20)).toBe(EADDRINUSE);
    expect(t.mapped.bytes).toBe(8 * K4);
    expect(t.table.iovaToPhys(M2 + 4 * K4)).toBe(7 * G1 + 7 * K4);
    expect(t.table.iovaToPhys(M2 + 5 * K4)).toBe(0);
    expect(t.table.iovaToPhys(M2 + 6 * K4)).toBe(-1);
  });

  it('mapBytes counts what earlier sizes mapped', () => {
    const t = setup();
    t.map(2 * M2 + K4, 0, K4);
    expect(t.mapBytes(M2 - K4, M2 - K4, 2 * M2)).toBe(EADDRINUSE);
    // One small leaf, one large, then the next small run up to the page in use.
    expect(t.mapped.bytes).toBe(K4 + M2 + K4);
  });

  it('refuses a small page under a large leaf and a large leaf over a small page', () => {
    const t = setup();
    t.map(0, 0, G1);
    expect(t.map(5 * M2, 0, K4)).toBe(EADDRINUSE);
    expect(t.map(5 * M2, 0, M2)).toBe(EADDRINUSE);
    t.map(G1 + 7 * M2 + K4, 0, K4);
    const before = t.leaves();
    expect(t.map(G1, 0, M2, 10)).toBe(EADDRINUSE);
    expect(t.mapped.bytes).toBe(7 * M2);
    expect(t.unmap(G1, 7 * M2)).toBe(7 * M2);
    expect(t.map(G1, 0, G1)).toBe(EADDRINUSE);
    expect(t.leaves()).toEqual(before);
  });
});

describe('a superpage over an emptied table (list mail 4ccc2f63b4: flush between clear and install)', () => {
  it("clears, calls back, then writes; the pages are the callback's", () => {
    const log: string[] = [];
    const kept: number[] = [];
    const t = setup({
      hooks: {
        onTableReplaced: (iova, nrBytes, freelist) => {
          const now = walkOneVtd(t.mem, t.table.rootPfn, 4, iova);
          const linked = t.tables().map((one) => one.pfn);
          log.push(`${iova.toString(16)}+${nrBytes.toString(16)} leads to ${now}`);
          // Still allocated, no longer reachable.
          for (const pfn of freelist)
            log.push(`${t.pages.isFreed(pfn) ? 'freed' : 'live'} ${linked.includes(pfn) ? 'linked' : 'unlinked'}`);
          kept.push(...freelist);
        },
      },
    });
    t.map(0xa0000, 0xa0000, K4);
    t.unmap(0xa0000, K4);
    expect(t.map(0, 0xc0000000, M2)).toBe(0);
    expect(log).toEqual(['0+200000 leads to null', 'live unlinked']);
    expect(t.table.iovaToPhys(0xa0000)).toBe(0xc00a0000);
    expect(t.pages.nrLive).toBe(t.tables().length + 1);
    for (const pfn of kept) t.pages.free(pfn);
  });

  it('has made the cleared entry visible to hardware when it calls back', () => {
    const mem = new PhysMem({ coherent: false });
    const seen: number[] = [];
    const t = setup({
      mem,
      levels: 3,
      hooks: {
        onWritten: (paddr, nrBytes) => mem.flush(paddr, nrBytes),
        onTableReplaced: () => seen.push(mem.deviceLoad32(entry)),
      },
    });
    t.map(K4, 0, K4);
    t.unmap(K4, K4);
    // The 2 MiB entry for IOVA 0, by hand: entry 0 of the table that entry 0 of the root points to.
    const entry = mem.deviceLoad32(t.table.rootPfn * K4) - 3;
    expect(mem.deviceLoad32(entry) & 3).toBe(3);
    t.map(0, M2, M2);
    expect(seen).toEqual([0]);
    expect(mem.deviceLoad32(entry)).toBe(M2 + 0x83);
  });

  it('reports each leaf of a run with its own address, and only those that had a table', () => {
    const calls: string[] = [];
    const t = setup({
      hooks: {
        onTableReplaced: (iova, nrBytes, freelist) => {
          calls.push(`${iova / M2}:${nrBytes / M2}:${freelist.length}`);
          for (const pfn of freelist) t.pages.free(pfn);
        },
      },
    });
    for (const at of [2, 3, 7]) {
      t.map(at * M2 + K4, 0, K4);
      t.unmap(at * M2 + K4, K4);
    }
    expect(t.map(0, 5 * G1, M2, 9)).toBe(0);
    expect(calls).toEqual(['2:1:1', '3:1:1', '7:1:1']);
    expect(t.leaves().length).toBe(9);
    for (let at = 0; at < 9; at++) expect(t.table.iovaToPhys(at * M2)).toBe(5 * G1 + at * M2);
  });

  it('hands over subtables before the table above them', () => {
    const lists: number[][] = [];
    const t = setup({ hooks: { onTableReplaced: (_iova, _bytes, freelist) => lists.push(freelist) } });
    t.map(G1, 0, K4);
    t.map(G1 + 3 * M2, 0, K4);
    const levels = new Map(t.tables().map((one) => [one.pfn, one.level]));
    t.unmap(G1, K4);
    t.unmap(G1 + 3 * M2, K4);
    expect(t.map(G1, G1, G1)).toBe(0);
    expect(lists.length).toBe(1);
    expect(lists[0]?.map((pfn) => levels.get(pfn))).toEqual([1, 1, 2]);
  });

  it('forgets the remembered table that it replaced', () => {
    const t = setup();
    t.map(0x1000, 0x5000, K4);
    t.unmap(0x1000, K4);
    t.map(0, 4 * G1, M2);
    expect(t.map(0x1000, 0x5000, K4)).toBe(EADDRINUSE);
    expect(t.table.iovaToPhys(0x1000)).toBe(4 * G1 + 0x1000);
    // Were the freed page still written to, the poison would be broken.
    expect(t.leaves().length).toBe(1);
  });
});

describe('unmapping', () => {
  it('unlinks exactly the tables whose whole span the range covers, children first', () => {
    const t = setup();
    t.map(0, 0, K4, 3 * 512);
    const spans = new Map(t.tables().map((one) => [one.pfn, one]));
    const freelist: number[] = [];
    expect(t.table.unmapBytes(K4, 2 * M2, freelist)).toBe(2 * M2);
    expect(freelist.map((pfn) => spans.get(pfn)?.iova)).toEqual([M2]);
    // Emptied in two steps, a table stays: no single range covered it.
    expect(t.table.unmapBytes(0, K4, freelist)).toBe(K4);
    expect(t.table.unmapBytes(2 * M2 + K4, M2 - K4, freelist)).toBe(M2 - K4);
    expect(freelist.length).toBe(1);
    expect(t.leaves()).toEqual([]);
    expect(t.tables().length).toBe(5);
  });

  it('unlinks also the table it has just used', () => {
    const t = setup();
    t.map(M2, 0, K4, 512);
    const freelist: number[] = [];
    expect(t.table.unmapBytes(M2, M2, freelist)).toBe(M2);
    expect(freelist.length).toBe(1);
  });

  it('unlinks a 1 GiB subtree with one entry, bottom up, the root never', () => {
    const t = setup({ levels: 3 });
    t.map(0, 0, K4, 512 * 512);
    const spans = new Map(t.tables().map((one) => [one.pfn, one.level]));
    const freelist: number[] = [];
    expect(t.table.unmapBytes(0, G1, freelist)).toBe(G1);
    expect(freelist.length).toBe(513);
    expect(freelist.map((pfn) => spans.get(pfn))).toEqual([...Array(512).fill(1), 2]);
    expect(t.tables().length).toBe(1);
    expect(t.pages.nrLive).toBe(514);
    expect(t.table.iovaToPhys(0)).toBe(-1);
    for (const pfn of freelist) t.pages.free(pfn);
    t.table.destroy();
    expect(t.pages.nrLive).toBe(0);
  });

  it('does not go on past its end (Aug 2025: [0x3fe400, 0x4c0600] freed to 0x4fffff)', () => {
    const t = setup();
    const start = 0x3fe400 * K4;
    const end = 0x4c0601 * K4;
    t.mapBytes(start, start, end - start);
    t.map(end, 0, K4, 512);
    expect(t.unmap(start, end - start)).toBe(end - start);
    expect(t.leaves().length).toBe(512);
    expect(t.table.iovaToPhys(end)).toBe(0);
    expect(t.table.iovaToPhys(end + 511 * K4)).toBe(511 * K4);
  });

  it('goes on from the level it is at (3f34f1259776: 4 MiB at pfn 0x3fe00 left its second half mapped)', () => {
    const t = setup();
    const start = 0x3fe00 * K4;
    t.map(start, 0, K4, 1024);
    expect(t.unmap(start, 2 * M2)).toBe(2 * M2);
    expect(t.leaves()).toEqual([]);
  });

  it('stops at a hole and says how far it got', () => {
    const t = setup();
    t.map(0, 0, K4, 2048);
    t.unmap(700 * K4, K4);
    expect(t.unmap(0, 2048 * K4)).toBe(700 * K4);
    expect(t.leaves().length).toBe(2048 - 701);
    expect(t.unmap(700 * K4, K4)).toBe(0);
    expect(t.unmap(701 * K4, 4 * M2)).toBe((2048 - 701) * K4);
  });

  it('returns the end of a large leaf that the range only begins (ee6e69d03255)', () => {
    const t = setup();
    t.map(M2 - K4, 0, K4);
    t.map(M2, 0, M2, 2);
    expect(t.unmap(M2 - K4, K4 + M2 + K4)).toBe(K4 + 2 * M2);
    expect(t.leaves()).toEqual([]);
  });

  it('forgets a remembered table that it unlinked', () => {
    const t = setup();
    t.map(0, 0x10000, K4, 512);
    expect(t.unmap(0, M2)).toBe(M2);
    expect(t.table.iovaToPhys(0x1000)).toBe(-1);
    expect(t.unmap(0x1000, K4)).toBe(0);
    expect(t.map(0x1000, 0x7000, K4)).toBe(0);
    expect(t.leaves()).toEqual(['1000>7000+1000']);
  });
});

describe('who hears of stores', () => {
  /** A mix that touches every path: maps of all sizes, refusals, replaced tables, partial and whole unmaps, growth. */
  function work(t: ReturnType<typeof setup>): void {
    expect(t.mapBytes(M2 - 5 * K4, M2 - 5 * K4, G1 + 3 * M2)).toBe(0);
    expect(t.map(G1, 0, K4, 4)).toBe(EADDRINUSE);
    expect(t.unmap(M2 - 5 * K4, K4)).toBe(K4);
    expect(t.unmap(M2, 3 * M2)).toBe(3 * M2);
    expect(t.unmap(4 * M2, 5 * G1)).toBeGreaterThan(0);
    const far = 8 * G1;
    expect(t.map(far + 7 * M2, 0, K4, 30)).toBe(0);
    expect(t.unmap(far + 7 * M2, 30 * K4)).toBe(30 * K4);
    expect(t.map(far + 6 * M2, 9 * G1, M2, 4)).toBe(0);
    // A large leaf and then part of a table, in one unmap.
    expect(t.map(far + 20 * M2, 9 * G1, M2)).toBe(0);
    expect(t.map(far + 21 * M2, 9 * G1, K4, 3)).toBe(0);
    expect(t.unmap(far + 20 * M2, M2 + 2 * K4)).toBe(M2 + 2 * K4);
    // And a table that goes, after part of one.
    expect(t.map(far + 30 * M2 - 40 * K4, 0, K4, 552)).toBe(0);
    expect(t.unmap(far + 30 * M2 - 40 * K4, 552 * K4)).toBe(552 * K4);
    expect(t.table.raiseTop()).toBe(0);
  }

  it('reports every changed word to the observer of memory', () => {
    const mem = new PhysMem();
    let copy = new Int32Array(0);
    mem.observer = {
      stored: (index, nr) => {
        if (copy.length < mem.words.length) {
          const larger = new Int32Array(mem.words.length);
          larger.set(copy);
          copy = larger;
        }
        copy.set(mem.words.subarray(index, index + nr), index);
      },
    };
    work(setup({ mem }));
    expect(copy.findIndex((word, index) => word !== mem.words[index])).toBe(-1);
  });

  it('lets a driver flush every line: a walker behind the caches sees the same table', () => {
    const mem = new PhysMem({ coherent: false });
    const t = setup({ mem, levels: 4, hooks: { onWritten: (paddr, nrBytes) => mem.flush(paddr, nrBytes) } });
    work(t);
    for (const { pfn } of t.tables()) {
      const base = mem.slotOf(pfn) << 10;
      expect(mem.deviceWords.subarray(base, base + 1024)).toEqual(mem.words.subarray(base, base + 1024));
    }
    // The check above can fail: without the callback the device sees nothing of it.
    const blind = setup({ mem: new PhysMem({ coherent: false }) });
    blind.map(0, 0x1000, K4);
    expect(blind.mem.deviceLoad32(blind.table.rootPfn * K4)).toBe(0);
  });

  it('reports a new table before the entry that links it, in runs and not by entry', () => {
    const log: string[] = [];
    const t = setup({
      hooks: { onWritten: (paddr, nrBytes) => log.push(`${Math.floor(paddr / K4) - 0x1000}+${paddr % K4}:${nrBytes}`) },
    });
    t.map(M2 - 2 * K4, 0, K4, 5);
    expect(log).toEqual([
      '0+0:4096',
      '1+0:4096',
      '0+0:8',
      '2+0:4096',
      '1+0:8',
      '3+0:4096',
      '2+0:8',
      '3+4080:16',
      '4+0:4096',
      '2+8:8',
      '4+0:24',
    ]);
    log.length = 0;
    t.unmap(M2, 3 * K4);
    t.map(0, 0, K4);
    expect(log).toEqual(['4+0:24', '3+0:8']);
  });
});
