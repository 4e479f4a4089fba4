/**
 * Random maps and unmaps of all sizes against a shadow that knows only pages: which leaf covers each, and where it leads.
 * The table is judged by its answers, by a walker of the test's own, and by the allocator's count.
 */
import { describe, expect, it } from 'vitest';
import { EADDRINUSE, Rng } from '../../src/base/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import { PageTable, VtdSsFormat } from '../../src/pt/index.ts';
import { walkOneVtd, walkVtd } from './walker.ts';
import type { WalkedTable } from './walker.ts';

const K4 = 4096;
const M2 = 2 ** 21;
const G1 = 2 ** 30;

interface Leaf {
  start: number;
  paddr: number;
  bytes: number;
}

/** Small pages one by one, large leaves in one Map each: the naive model. */
class Shadow {
  readonly #bySize = new Map<number, Map<number, Leaf>>([K4, M2, G1].map((size) => [size, new Map()]));

  at(iova: number): Leaf | undefined {
    for (const [size, leaves] of this.#bySize) {
      const leaf = leaves.get(Math.floor(iova / size));
      if (leaf !== undefined) return leaf;
    }
    return undefined;
  }

  #free(start: number, bytes: number): boolean {
    for (const [size, leaves] of this.#bySize) {
      if (size >= bytes) {
        if (leaves.has(Math.floor(start / size))) return false;
      } else {
        for (const leaf of leaves.values()) if (leaf.start >= start && leaf.start < start + bytes) return false;
      }
    }
    return true;
  }

  /** @returns bytes mapped before something was in the way */
  map(iova: number, paddr: number, size: number, count: number): number {
    for (let done = 0; done < count; done++) {
      const start = iova + done * size;
      if (!this.#free(start, size)) return done * size;
      this.#bySize.get(size)?.set(start / size, { start, paddr: paddr + done * size, bytes: size });
    }
    return count * size;
  }

  unmap(iova: number, bytes: number): number {
    let at = iova;
    while (at < iova + bytes) {
      const leaf = this.at(at);
      if (leaf === undefined || leaf.start !== at) break;
      this.#bySize.get(leaf.bytes)?.delete(at / leaf.bytes);
      at += leaf.bytes;
    }
    return at - iova;
  }

  all(): Leaf[] {
    return [...this.#bySize.values()].flatMap((leaves) => [...leaves.values()]).sort((a, b) => a.start - b.start);
  }
}

function play(seed: number, levels: number, nrOps: number): { nrRefused: number; nrOver: number; nrUnlinked: number } {
  const rng = new Rng(seed);
  const mem = new PhysMem();
  const pages = new PageAllocator(mem);
  const nrReplaced = { value: 0 };
  const table = new PageTable(mem, pages, new VtdSsFormat(), levels, {
    onTableReplaced: (iova, nrBytes, freelist) => {
      nrReplaced.value += freelist.length;
      if (walkOneVtd(mem, table.rootPfn, levels, iova) !== null || nrBytes < M2) throw new Error('replaced too early');
      for (const pfn of freelist) pages.free(pfn);
    },
  });
  const shadow = new Shadow();
  const mapped = { bytes: 0 };
  const counts = { nrRefused: 0, nrOver: 0, nrUnlinked: 0 };
  // Few places, so that operations meet: around 0, a 2 MiB and a 1 GiB boundary, and the end of the address space.
  const places = [0, 3 * M2, G1 - 2 * M2, G1, 3 * G1, 2 ** (12 + 9 * levels) - G1 - 2 * M2];
  const pageNear = (): number => rng.pick(places) + rng.below(rng.pick([4, 64, 512, 1536])) * K4;
  const touched: number[] = [];

  const check = (iova: number): void => {
    const leaf = shadow.at(iova);
    const want = leaf === undefined ? -1 : leaf.paddr + (iova - leaf.start);
    if (table.iovaToPhys(iova) !== want)
      expect.fail(`seed ${seed}: 0x${iova.toString(16)} leads to ${table.iovaToPhys(iova)}, not ${want}`);
    if (table.leafBytes(iova) !== (leaf?.bytes ?? 0)) expect.fail(`seed ${seed}: leaf size at 0x${iova.toString(16)}`);
  };

  for (let op = 0; op < nrOps; op++) {
    const start = pageNear();
    if (rng.chance(0.08)) {
      // Random ranges seldom fill a table. Empty a span of 2 MiB page by page, fill it, so that a later unmap can cover it.
      const span = start - (start % M2);
      for (let at = span; at < span + M2; at += K4) {
        if (table.unmapBytes(at, K4, []) !== shadow.unmap(at, K4))
          expect.fail(`seed ${seed} op ${op}: 0x${at.toString(16)}`);
      }
      const errno = table.mapRange(span, 4 * G1, K4, 512, 3, mapped);
      if (mapped.bytes !== shadow.map(span, 4 * G1, K4, 512))
        expect.fail(`seed ${seed} op ${op}: span, errno ${errno}`);
      places.push(span);
      continue;
    }
    if (rng.chance(0.55)) {
      const size = rng.pick([K4, K4, K4, M2, M2, G1]);
      const iova = start - (start % size);
      const count = size === K4 ? 1 + rng.below(rng.pick([2, 40, 1100])) : size === M2 ? 1 + rng.below(4) : 1;
      const paddr = (1 + rng.below(2000)) * (size === G1 ? G1 : M2) + (size === K4 ? rng.below(512) * K4 : 0);
      if (iova + size * count > 2 ** (12 + 9 * levels)) continue;
      const errno = table.mapRange(iova, paddr, size, count, 3, mapped);
      const want = shadow.map(iova, paddr, size, count);
      if (mapped.bytes !== want || errno !== (want === size * count ? 0 : EADDRINUSE)) {
        expect.fail(
          `seed ${seed} op ${op}: map 0x${iova.toString(16)} ${count} x ${size}: ${errno}, ${mapped.bytes} not ${want}`,
        );
      }
      if (errno !== 0) counts.nrRefused += 1;
      touched.push(iova, iova + want - K4, iova + want);
    } else {
      const bytes = rng.pick([1, 2, 30, 511, 512, 513, 1024, 3000, 512 * 512]) * K4;
      const iova = rng.chance(0.3) ? start : start - (start % M2);
      if (iova + bytes > 2 ** (12 + 9 * levels)) continue;
      const before = op % 20 === 0 ? walkVtd(mem, table.rootPfn, levels).tables : null;
      const freelist: number[] = [];
      const got = table.unmapBytes(iova, bytes, freelist);
      const want = shadow.unmap(iova, bytes);
      if (got !== want)
        expect.fail(`seed ${seed} op ${op}: unmap 0x${iova.toString(16)}+${bytes}: ${got}, not ${want}`);
      if (got > bytes) counts.nrOver += 1;
      counts.nrUnlinked += freelist.length;
      if (before !== null)
        checkUnlinked(before, walkVtd(mem, table.rootPfn, levels).tables, freelist, iova, bytes, got);
      for (const pfn of freelist) pages.free(pfn);
      touched.push(iova, iova + got - K4, iova + got);
    }
    for (const iova of touched.slice(-9)) check(Math.max(0, iova) + rng.below(K4));
    if (table.nrTables !== pages.nrLive)
      expect.fail(`seed ${seed} op ${op}: ${pages.nrLive} pages for ${table.nrTables} tables`);
    if (op % 50 === 49 || op === nrOps - 1) {
      const walked = walkVtd(mem, table.rootPfn, levels);
      expect(walked.leaves.map((leaf) => [Number(leaf.iova), Number(leaf.paddr), Number(leaf.bytes)])).toEqual(
        shadow.all().map((leaf) => [leaf.start, leaf.paddr, leaf.bytes]),
      );
      expect(walked.tables.length).toBe(pages.nrLive);
      for (const iova of touched) check(Math.max(0, iova));
    }
  }
  table.destroy();
  expect(pages.nrLive).toBe(0);
  return counts;
}

/** Exactly the tables whose span lies in the range and was mapped throughout are gone, listed children first. */
function checkUnlinked(
  before: WalkedTable[],
  after: WalkedTable[],
  freelist: number[],
  iova: number,
  bytes: number,
  removed: number,
): void {
  const left = new Set(after.map((one) => one.pfn));
  const gone = before.filter((one) => !left.has(one.pfn));
  expect([...freelist].sort((a, b) => a - b)).toEqual(gone.map((one) => one.pfn).sort((a, b) => a - b));
  for (const one of gone) {
    expect(one.iova >= iova && one.iova + one.bytes <= iova + bytes).toBe(true);
    for (const other of gone) {
      if (other.iova < one.iova + one.bytes && one.iova < other.iova + other.bytes && other.level < one.level) {
        expect(freelist.indexOf(other.pfn)).toBeLessThan(freelist.indexOf(one.pfn));
      }
    }
  }
  for (const one of after) {
    // A table that stays was not wholly inside what went, or the rule "covered tables go" was not kept.
    expect(one.iova >= iova && one.iova + one.bytes <= iova + Math.min(bytes, removed)).toBe(false);
  }
}

describe('random maps and unmaps against a shadow of pages', () => {
  it.each([1, 2, 3, 4, 5, 6])('seed %i', (seed) => {
    const counts = play(seed, seed % 2 === 0 ? 3 : 4, 500);
    // The run met what it is there for; otherwise it would agree with anything.
    expect(counts.nrRefused).toBeGreaterThan(10);
    expect(counts.nrOver).toBeGreaterThan(3);
    expect(counts.nrUnlinked).toBeGreaterThan(3);
  });
});
