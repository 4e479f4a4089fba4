/** Random maps, unmaps, splits and growth over mixed sizes, against a Map of pages; the tables are read by bigint. */
import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { AmdV1Format, PageTable } from '../../src/pt/index.ts';
import { walkOneAmd } from './walker.ts';

const K4 = 4096;
const M2 = 2 ** 21;
/** Three windows far from each other; the second needs a fourth level, the third a fifth. */
const WINDOWS = [0, 2 ** 39, 2 ** 48 + 2 ** 40];
const WINDOW_BYTES = 6 * M2;

interface Leaf {
  start: number;
  bytes: number;
  paddr: number;
  prot: number;
}

describe.each([
  ['generic_pt', 1, false],
  ['io_pgtable.c', 2, true],
])('as %s', (_name, seed, old) => {
  it('agrees with the shadow after every step', () => {
    const mem = new PhysMem();
    const pages = new PageAllocator(mem);
    const table = new PageTable(mem, pages, new AmdV1Format(), 3, {
      keepTables: old,
      partialUnmap: old ? 'whole-leaf' : 'stop',
    });
    const rng = new Rng(seed);
    const mapped = { bytes: 0 };
    /** Page address to the leaf that maps it. */
    const shadow = new Map<number, Leaf>();
    const add = (leaf: Leaf): void => {
      for (let at = leaf.start; at < leaf.start + leaf.bytes; at += K4) shadow.set(at, leaf);
    };
    const remove = (leaf: Leaf): void => {
      for (let at = leaf.start; at < leaf.start + leaf.bytes; at += K4) shadow.delete(at);
    };

    for (let op = 0; op < 4000; op++) {
      const window = rng.pick(WINDOWS);
      const size = 2 ** rng.pick([12, 12, 12, 13, 14, 16, 17, 19, 20, 21, 21, 22]);
      const start = window + rng.below(Math.floor(WINDOW_BYTES / size) || 1) * size;
      const kind = rng.below(10);
      if (kind < 5) {
        while (start + size > table.addressEnd) expect(table.raiseTop()).toBe(0);
        const count = Math.min(1 + rng.below(4), Math.floor((window + WINDOW_BYTES - start) / size) || 1);
        const paddr = (1 + rng.below(500)) * 4 * M2;
        const prot = 1 + rng.below(3);
        let free = 0;
        while (free < count * size && !shadow.has(start + free)) free += K4;
        const written = Math.floor(free / size) * size;
        const errno = table.mapRange(start, paddr, size, count, prot, mapped);
        if ((errno === 0) !== (written === count * size) || mapped.bytes !== written) {
          expect.fail(`op ${op}: map 0x${start.toString(16)} ${count} x ${size} gave ${errno}, ${mapped.bytes}`);
        }
        for (let at = 0; at < written; at += size) add({ start: start + at, bytes: size, paddr: paddr + at, prot });
      } else {
        const freelist: number[] = [];
        const asked = size * (1 + rng.below(3));
        const got = table.unmapBytes(start, asked, freelist);
        for (const pfn of freelist) pages.free(pfn);
        let at = start;
        let from = start;
        while (at < start + asked) {
          const leaf = shadow.get(at);
          if (leaf === undefined || (leaf.start !== at && !old)) break;
          from = Math.min(from, leaf.start);
          remove(leaf);
          at = leaf.start + leaf.bytes;
        }
        const reachable = start + asked <= table.addressEnd;
        if (got !== (reachable ? at - start : 0) || (reachable && table.removedFrom !== from)) {
          expect.fail(`op ${op}: unmap 0x${start.toString(16)}+${asked} gave ${got}, not ${at - start}`);
        }
      }
      for (let probe = 0; probe < 6; probe++) {
        const page = rng.pick(WINDOWS) + rng.below((WINDOW_BYTES + M2) / K4) * K4;
        const leaf = shadow.get(page);
        const walked = walkOneAmd(mem, table.rootPfn, table.levels, page + 0x123);
        const want = leaf === undefined ? -1 : leaf.paddr + page - leaf.start + 0x123;
        if (Number(walked?.paddr ?? -1n) !== want || (leaf !== undefined && walked?.rights !== leaf.prot)) {
          expect.fail(`op ${op}: 0x${page.toString(16)} is ${walked?.paddr}, not ${want}`);
        }
        if (leaf !== undefined && Number(walked?.bytes) !== leaf.bytes) expect.fail(`op ${op}: size at ${page}`);
        if (table.iovaToPhys(page + 0x123) !== want) expect.fail(`op ${op}: iovaToPhys 0x${page.toString(16)}`);
      }
      if (table.nrTables !== pages.nrLive) expect.fail(`op ${op}: ${pages.nrLive} pages, ${table.nrTables} tables`);
    }
    expect(table.levels).toBe(5);
    expect(shadow.size).toBeGreaterThan(0);
    table.destroy();
    expect(pages.nrLive).toBe(0);
  });
});
