import { describe, expect, it } from 'vitest';
import { EADDRINUSE, EINVAL } from '../../src/base/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import type { PageTableOptions } from '../../src/pt/index.ts';
import { AMD_V1_PGSIZES, AmdV1Format, PROT_CACHE, PROT_READ, PROT_WRITE, PageTable } from '../../src/pt/index.ts';
import { walkOneAmd } from './walker.ts';

const K4 = 4096;
const K64 = 65536;
const M2 = 2 ** 21;
const G1 = 2 ** 30;
const RW = PROT_READ | PROT_WRITE;
const IR = 1n << 61n;
const IW = 1n << 62n;
const FC = 1n << 60n;

/** Every size that the format has: GENMASK(51, 12) without 512 GiB. */
const SIZES = Array.from({ length: 40 }, (_, index) => index + 12).filter((sizeLg2) => sizeLg2 !== 39);

function setup(levels = 3, options: PageTableOptions = {}) {
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  const table = new PageTable(mem, pages, new AmdV1Format(), levels, options);
  const mapped = { bytes: 0 };
  const walk = (iova: number | bigint): ReturnType<typeof walkOneAmd> =>
    walkOneAmd(mem, table.rootPfn, table.levels, iova);
  /** As far as the walker sees: the physical address, or -1. */
  const to = (iova: number): number => Number(walk(iova)?.paddr ?? -1n);
  return { mem, pages, table, mapped, walk, to };
}

const entry = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

describe('entries (48882 2.2.3; kernel.md section 3)', () => {
  const format = new AmdV1Format();
  // paddr, size as log2, rights, the entry
  const leaves: [number, number, number, bigint][] = [
    [0x1000, 12, PROT_READ, 0x1001n | IR | FC],
    [0x1000, 12, PROT_WRITE, 0x1001n | IW | FC],
    [0x1000, 12, RW, 0x1001n | IR | IW | FC],
    [0x1000, 12, RW | PROT_CACHE, 0x1001n | IR | IW | FC],
    [0x2000, 13, RW, 0x2e01n | IR | IW | FC],
    [0x4000, 14, RW, 0x5e01n | IR | IW | FC],
    [0x9490000, 16, RW, 0x9497e01n | IR | IW | FC],
    [0x100000, 20, RW, 0x17fe01n | IR | IW | FC],
    [0x200000, 21, RW, 0x200001n | IR | IW | FC],
    [0x400000, 22, RW, 0x5ffe01n | IR | IW | FC],
    [G1, 30, PROT_READ, 0x40000001n | IR | FC],
    [2 ** 31, 31, RW, 0xbffffe01n | IR | IW | FC],
    [2 ** 32, 32, RW, 0x17ffffe01n | IR | IW | FC],
    [2 ** 33, 33, RW, 0x2fffffe01n | IR | IW | FC],
    [2 ** 34, 34, RW, 0x5fffffe01n | IR | IW | FC],
    [2 ** 51, 51, RW, 0x000b_ffff_ffff_fe01n | IR | IW | FC],
    [2 ** 52 - K4, 12, RW, 0x000f_ffff_ffff_f001n | IR | IW | FC],
  ];
  it.each(leaves)('leaf 0x%x lg2 %i prot %i', (paddr, sizeLg2, prot, expected) => {
    const lo = format.leafLo(paddr, sizeLg2, prot);
    const hi = format.leafHi(paddr, sizeLg2, prot);
    expect(entry(lo, hi)).toBe(expected);
    const level = Math.floor((sizeLg2 - 12) / 9) + 1;
    expect(format.leafPaddr(lo, hi, level)).toBe(paddr);
    expect(format.leafSizeLg2(lo, hi, level)).toBe(sizeLg2);
    expect(format.leafProt(lo, hi)).toBe((prot & RW) | PROT_CACHE);
  });

  it('points to tables with their level and both rights', () => {
    expect(entry(format.tableLo(0x12345, 1), format.tableHi(0x12345, 1))).toBe(0x12345201n | IR | IW);
    expect(entry(format.tableLo(0xff_ffff_ffff, 5), format.tableHi(0xff_ffff_ffff, 5))).toBe(
      0xf_ffff_ffff_fa01n | IR | IW,
    );
  });

  it('has every power of two up to 2^51 but 512 GiB', () => {
    expect(BigInt(AMD_V1_PGSIZES)).toBe(((1n << 52n) - 1n - 0xfffn) ^ (1n << 39n));
  });
});

describe('every size maps, translates and unmaps', () => {
  it.each(SIZES)('2^%i', (sizeLg2) => {
    const t = setup();
    const size = 2 ** sizeLg2;
    while (t.table.addressEnd < 2 * size || size >= t.table.addressEnd) expect(t.table.raiseTop()).toBe(0);
    const [iova, paddr] = sizeLg2 === 51 ? [size, size] : [size, (3 * size) % 2 ** 52];
    expect(t.table.mapRange(iova, paddr, size, 1, RW, t.mapped)).toBe(0);
    expect(t.mapped.bytes).toBe(size);
    // First, last, and where each replica begins.
    const replicas = 2 ** ((sizeLg2 - 12) % 9);
    for (let nr = 0; nr < replicas; nr++) {
      const at = iova + (nr * size) / replicas;
      expect(t.walk(at + 8)).toEqual({ paddr: BigInt(paddr + at + 8 - iova), bytes: BigInt(size), rights: 3 });
    }
    expect(t.to(iova + size - 1)).toBe(paddr + size - 1);
    expect(t.to(iova - 1)).toBe(-1);
    if (iova + size < t.table.addressEnd) expect(t.to(iova + size)).toBe(-1);
    expect(t.table.iovaToPhys(iova + size - 5)).toBe(paddr + size - 5);
    expect(t.table.leafBytes(iova)).toBe(size);
    expect(t.table.unmapBytes(iova, size, [])).toBe(size);
    for (let nr = 0; nr < replicas; nr++) expect(t.walk(iova + (nr * size) / replicas)).toBeNull();
  });

  it('one table holds all sizes of its level side by side', () => {
    const t = setup();
    let iova = 0;
    for (const sizeLg2 of [20, 19, 18, 17, 16, 15, 14, 13, 12]) {
      expect(t.table.mapRange(iova, G1, 2 ** sizeLg2, 1, PROT_READ, t.mapped)).toBe(0);
      expect(t.walk(iova)).toEqual({ paddr: BigInt(G1), bytes: 2n ** BigInt(sizeLg2), rights: 1 });
      iova += 2 ** sizeLg2;
    }
    expect(t.table.nrTables).toBe(3);
    const freelist: number[] = [];
    expect(t.table.unmapBytes(0, iova, freelist)).toBe(iova);
    for (let at = 0; at < M2; at += K4) expect(t.to(at)).toBe(-1);
  });

  it('512 GiB is refused', () => {
    const t = setup(4);
    expect(t.table.mapRange(2 ** 40, 0, 2 ** 39, 1, RW, t.mapped)).toBe(EINVAL);
  });

  it('a leaf above the levels of the table is refused, though its addresses are in reach', () => {
    const t = setup(4);
    expect(t.table.mapRange(0, 0, 2 ** 48, 1, RW, t.mapped)).toBe(EINVAL);
    t.table.raiseTop();
    expect(t.table.mapRange(0, 0, 2 ** 48, 1, RW, t.mapped)).toBe(0);
    expect(t.walk(2 ** 48 - 1)).toEqual({ paddr: 2n ** 48n - 1n, bytes: 2n ** 48n, rights: 3 });
  });
});

describe('growth', () => {
  it('keeps what was mapped, from three levels to six', () => {
    const t = setup();
    t.table.mapRange(0x5000, 0x6000, K4, 1, RW, t.mapped);
    for (const [levels, end] of [
      [4, 2 ** 48],
      [5, 2 ** 52],
      [6, 2 ** 52],
    ] as const) {
      expect(t.table.raiseTop()).toBe(0);
      expect([t.table.levels, t.table.addressEnd]).toEqual([levels, end]);
      expect(t.to(0x5abc)).toBe(0x6abc);
      expect(t.to(2 ** 39 + 0x5abc)).toBe(-1);
    }
    expect(t.table.raiseTop()).toBe(EINVAL);
    expect(t.table.mapRange(2 ** 52 - K4, 0x7000, K4, 1, RW, t.mapped)).toBe(0);
    expect(t.to(2 ** 52 - 1)).toBe(0x7fff);
    t.table.destroy();
    expect(t.pages.nrLive).toBe(0);
  });
});

describe('unmapping part of a large leaf', () => {
  it('stops before a leaf that begins earlier (generic_pt)', () => {
    const t = setup();
    t.table.mapRange(K64, G1, K64, 1, RW, t.mapped);
    expect(t.table.unmapBytes(K64 + 8 * K4, 8 * K4, [])).toBe(0);
    expect(t.to(K64 + 15 * K4)).toBe(G1 + 15 * K4);
  });

  it('takes a leaf that ends later as a whole, and says so', () => {
    const t = setup();
    t.table.mapRange(K64, G1, K64, 2, RW, t.mapped);
    expect(t.table.unmapBytes(K64, 17 * K4, [])).toBe(2 * K64);
    for (let at = 0; at < 4 * K64; at += K4) expect(t.to(at)).toBe(-1);
  });

  it.each([
    ['sized', K64, 3 * K4, K4],
    ['default-sized', M2, 5 * K4, K4],
    ['of 1 GiB', G1, G1 - K4, K4],
    ['sized, above level 1', 8 * M2, M2 + K4, 2 * M2],
  ])('whole-leaf: a %s leaf goes from its beginning (io_pgtable.c, fetch_pte)', (_name, size, offset, nrBytes) => {
    const t = setup(3, { partialUnmap: 'whole-leaf' });
    t.table.mapRange(size, 2 * size, size, 2, RW, t.mapped);
    expect(t.table.unmapBytes(size + offset, nrBytes, [])).toBe(size - offset);
    expect(t.table.removedFrom).toBe(size);
    for (const at of [0, offset, size / 2, size - 1]) expect(t.to(size + at)).toBe(-1);
    expect(t.to(2 * size)).toBe(3 * size);
    expect(t.table.unmapBytes(2 * size, size, [])).toBe(size);
    expect(t.table.removedFrom).toBe(2 * size);
  });
});

describe('tables that became empty', () => {
  it('go with an unmap of all they span, or stay with keepTables (io_pgtable.c up to 6.18)', () => {
    for (const keepTables of [false, true]) {
      const t = setup(3, { keepTables });
      t.table.mapRange(M2, G1 + K4, K4, 512, RW, t.mapped);
      const freelist: number[] = [];
      expect(t.table.unmapBytes(M2, M2, freelist)).toBe(M2);
      expect(freelist).toHaveLength(keepTables ? 0 : 1);
      expect(t.table.nrTables).toBe(keepTables ? 3 : 2);
      for (let at = M2; at < 2 * M2; at += K4) expect(t.to(at)).toBe(-1);
    }
  });

  it('give way to a large leaf, replicated or not', () => {
    const replaced: [number, number, number][] = [];
    const onTableReplaced = (iova: number, nrBytes: number, freelist: number[]): void => {
      replaced.push([iova, nrBytes, freelist.length]);
    };
    const t = setup(3, { keepTables: true, onTableReplaced });
    t.table.mapRange(0, G1 + K4, K4, 1024, RW, t.mapped);
    t.table.unmapBytes(0, 2 * M2, []);
    expect(t.table.mapRange(0, 8 * M2, 4 * M2, 1, RW, t.mapped)).toBe(0);
    expect(replaced).toEqual([[0, 4 * M2, 2]]);
    expect(t.walk(3 * M2)).toEqual({ paddr: BigInt(11 * M2), bytes: BigInt(4 * M2), rights: 3 });
  });
});

it('maps no leaf over another', () => {
  const t = setup();
  t.table.mapRange(K64, 0, K64, 1, RW, t.mapped);
  expect(t.table.mapRange(K64 + K4, 0, K4, 1, RW, t.mapped)).toBe(EADDRINUSE);
  expect(t.table.mapRange(0, 0, 2 * K64, 1, RW, t.mapped)).toBe(EADDRINUSE);
  expect(t.to(0)).toBe(-1);
});

it.each<[string, (table: PageTable) => unknown]>([
  ['an unmap from the middle of a leaf', (table): unknown => table.unmapBytes(K64 + 5 * K4, K4, [])],
  ['an unmap of several sizes', (table): unknown => table.unmapBytes(0, 3 * K64, [])],
  ['more levels', (table): unknown => table.raiseTop()],
])('every word that %s changes is reported to the observer of the memory', (_name, act) => {
  const t = setup(3, { partialUnmap: 'whole-leaf' });
  t.table.mapRange(0, G1, K4, 16, RW, t.mapped);
  t.table.mapRange(K64, G1, K64, 2, RW, t.mapped);
  t.table.mapRange(M2, G1, M2, 1, RW, t.mapped);
  const before = t.mem.words.slice();
  const reported = new Set<number>();
  t.mem.observer = {
    stored: (index, nrWords): void => {
      for (let word = index; word < index + nrWords; word++) reported.add(word);
    },
  };
  act(t.table);
  const changed = [...t.mem.words.keys()].filter((index) => t.mem.words[index] !== (before[index] ?? 0));
  expect(changed.length).toBeGreaterThan(0);
  expect(changed.filter((index) => !reported.has(index))).toEqual([]);
});
