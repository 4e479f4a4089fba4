/**
 * A format that VT-d does not exercise: leaves replicated over several entries and table entries that name their level, as
 * AMD v1 has them (kernel.md section 3). Toy implementation of the interface; the entries are read back by bigint.
 */
import { describe, expect, it } from 'vitest';
import { EADDRINUSE, Rng, ctz32 } from '../../src/base/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { PageTable } from '../../src/pt/index.ts';
import type { PtFormat } from '../../src/pt/index.ts';

const K4 = 4096;
const M2 = 2 ** 21;

/** Native sizes have next level 0; others 7, with the size as a run of ones above bit 12. */
class ToyAmd implements PtFormat {
  readonly name = 'toy-amd';
  readonly pgsizeBitmap = 2 ** 39 - 4096;
  readonly maxLevels = 6;
  readonly presentMaskLo = 1;
  readonly tableMaskLo = 0xe01;
  readonly tableBitsLo = 1;
  readonly tableBitsPerLevel = 0x200;
  readonly contiguous = true;
  readonly plainMaskLo = 0xe01;
  readonly plainBitsLo = 1;

  leafLo(paddr: number, sizeLg2: number, _prot: number): number {
    if ((sizeLg2 - 12) % 9 === 0) return (paddr | 1) & ~0xe00;
    const ones = sizeLg2 > 33 ? ~0xfff : ((2 ** (sizeLg2 - 1) - 1) & ~0xfff) | 0;
    return paddr | ones | 0xe01;
  }
  leafHi(paddr: number, sizeLg2: number, prot: number): number {
    const ones = sizeLg2 > 32 ? 2 ** (sizeLg2 - 33) - 1 : 0;
    return Math.floor(paddr / 2 ** 32) | ones | ((prot & 3) << 29);
  }
  tableLo(pfn: number, childLevel: number): number {
    return (pfn * K4) | (childLevel << 9) | 1 | 0;
  }
  tableHi(pfn: number, _childLevel: number): number {
    return Math.floor(pfn / 2 ** 20) | (3 << 29);
  }
  leafSizeLg2(lo: number, hi: number, level: number): number {
    if ((lo & 0xe00) === 0) return 12 + 9 * (level - 1);
    const low = ctz32(~(lo | 0xfff));
    return (low < 32 ? low : 32 + ctz32(~hi)) + 1;
  }
  leafPaddr(lo: number, hi: number, level: number): number {
    const address = (hi & 0xfffff) * 2 ** 32 + ((lo & ~0xfff) >>> 0);
    return address - (address % 2 ** this.leafSizeLg2(lo, hi, level));
  }
  leafProt(_lo: number, hi: number): number {
    return (hi >>> 29) & 3;
  }
}

function setup() {
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  const table = new PageTable(mem, pages, new ToyAmd(), 3);
  const mapped = { bytes: 0 };
  /** Entry `index` of the table of `level` for an IOVA. */
  const entry = (iova: number, level: number, plus = 0): bigint => {
    let address = table.rootPfn * K4;
    for (let at = table.levels; ; at--) {
      const index = Math.floor(iova / 2 ** (12 + 9 * (at - 1))) % 512;
      const where = address + (index + (at === level ? plus : 0)) * 8;
      const word = (BigInt(mem.load32(where + 4) >>> 0) << 32n) | BigInt(mem.load32(where) >>> 0);
      if (at === level) return word;
      address = Number(word & 0x000f_ffff_ffff_f000n);
    }
  };
  return { mem, pages, table, mapped, entry };
}

describe('replicated leaves', () => {
  it.each([12, 13, 14, 16, 20, 21, 22, 25, 29, 30, 32, 33, 38])('2^%i bytes', (sizeLg2) => {
    const t = setup();
    const size = 2 ** sizeLg2;
    expect(t.table.mapRange(size, 3 * size, size, 1, 3, t.mapped)).toBe(0);
    const level = Math.floor((sizeLg2 - 12) / 9) + 1;
    const replicas = 2 ** ((sizeLg2 - 12) % 9);
    const first = t.entry(size, level);
    for (let nr = 0; nr < replicas; nr++) expect(t.entry(size, level, nr)).toBe(first);
    expect(t.entry(size, level, replicas)).toBe(0n);
    if (replicas > 1) {
      expect((first >> 9n) & 7n).toBe(7n);
      // The lowest clear bit from 12 up, plus one, is the size (kernel.md section 3).
      let bit = 12;
      while (((first >> BigInt(bit)) & 1n) === 1n) bit += 1;
      expect(bit + 1).toBe(sizeLg2);
    }
    for (const offset of [0, 1, size / 2, size - 1]) expect(t.table.iovaToPhys(size + offset)).toBe(3 * size + offset);
    expect(t.table.leafBytes(size)).toBe(size);
    expect(t.table.iovaToPhys(size - 1)).toBe(-1);
    expect(t.table.iovaToPhys(2 * size)).toBe(-1);
  });

  it('all go with the first, none alone (list mail 7a33f5be7b)', () => {
    const t = setup();
    t.table.mapRange(0x10000, 0x20000, 0x10000, 2, 3, t.mapped);
    expect(t.table.unmapBytes(0x11000, K4, [])).toBe(0);
    expect(t.table.unmapBytes(0x10000, K4, [])).toBe(0x10000);
    for (let nr = 0; nr < 16; nr++) expect(t.entry(0x10000, 1, nr)).toBe(0n);
    expect(t.entry(0x20000, 1)).not.toBe(0n);
  });

  it('are refused as a whole when one of their entries is in use', () => {
    const t = setup();
    t.table.mapRange(0x1b000, 0, K4, 1, 3, t.mapped);
    expect(t.table.mapRange(0, 0, 0x8000, 5, 3, t.mapped)).toBe(EADDRINUSE);
    expect(t.mapped.bytes).toBe(3 * 0x8000);
    for (const iova of [0x18000, 0x1a000, 0x1c000]) expect(t.table.iovaToPhys(iova)).toBe(-1);
  });

  it('replace the tables under all their entries at once', () => {
    const replaced: string[] = [];
    const mem = new PhysMem();
    const pages = new PageAllocator(mem);
    const table = new PageTable(mem, pages, new ToyAmd(), 3, {
      onTableReplaced: (iova, bytes, freelist) => {
        replaced.push(`${iova / M2}+${bytes / M2}:${freelist.length}`);
        for (const pfn of freelist) pages.free(pfn);
      },
    });
    const mapped = { bytes: 0 };
    for (const at of [5, 6]) {
      table.mapRange(at * M2, 0, K4, 1, 3, mapped);
      table.unmapBytes(at * M2, K4, []);
    }
    expect(table.mapRange(4 * M2, 0, 4 * M2, 1, 3, mapped)).toBe(0);
    expect(replaced).toEqual(['4+4:2']);
    expect(table.nrTables).toBe(pages.nrLive);
  });

  it('grows on top: entry 0 of the new root names the old one and its level', () => {
    const t = setup();
    t.table.mapRange(0x5000, 0x6000, K4, 1, 3, t.mapped);
    const old = t.table.rootPfn;
    expect(t.table.raiseTop()).toBe(0);
    expect(t.entry(0, 4)).toBe((3n << 61n) | (BigInt(old) << 12n) | (3n << 9n) | 1n);
    expect(t.table.iovaToPhys(0x5abc)).toBe(0x6abc);
    expect(t.table.addressEnd).toBe(2 ** 48);
  });

  it('agrees with a shadow of pages over random maps and unmaps', () => {
    const t = setup();
    const rng = new Rng(11);
    const leafOf = new Map<number, { start: number; bytes: number; paddr: number }>();
    for (let op = 0; op < 3000; op++) {
      const size = 2 ** rng.pick([12, 12, 13, 15, 17, 20, 21, 22]);
      const start = rng.below(Math.ceil((6 * M2) / size)) * size;
      if (rng.chance(0.5)) {
        const paddr = (1 + rng.below(500)) * 4 * M2;
        let free = true;
        for (let at = start; at < start + size; at += K4) if (leafOf.has(at)) free = false;
        const errno = t.table.mapRange(start, paddr, size, 1, 3, t.mapped);
        if ((errno === 0) !== free) expect.fail(`op ${op}: map 0x${start.toString(16)} of ${size} gave ${errno}`);
        if (free) for (let at = start; at < start + size; at += K4) leafOf.set(at, { start, bytes: size, paddr });
      } else {
        const freelist: number[] = [];
        const got = t.table.unmapBytes(start, size, freelist);
        for (const pfn of freelist) t.pages.free(pfn);
        let at = start;
        while (at < start + size) {
          const leaf = leafOf.get(at);
          if (leaf === undefined || leaf.start !== at) break;
          for (let page = at; page < at + leaf.bytes; page += K4) leafOf.delete(page);
          at += leaf.bytes;
        }
        if (got !== at - start)
          expect.fail(`op ${op}: unmap 0x${start.toString(16)}+${size} gave ${got}, not ${at - start}`);
      }
      for (let probe = 0; probe < 4; probe++) {
        const page = rng.below((7 * M2) / K4) * K4;
        const leaf = leafOf.get(page);
        const want = leaf === undefined ? -1 : leaf.paddr + page - leaf.start;
        if (t.table.iovaToPhys(page) !== want) expect.fail(`op ${op}: 0x${page.toString(16)}`);
      }
      if (t.table.nrTables !== t.pages.nrLive)
        expect.fail(`op ${op}: ${t.pages.nrLive} pages, ${t.table.nrTables} tables`);
    }
    t.table.destroy();
    expect(t.pages.nrLive).toBe(0);
  });
});
