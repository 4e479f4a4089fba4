import { describe, expect, test } from 'vitest';
import type { VtdConfig } from '../../src/hw/index.ts';
import {
  contextDevice,
  contextDomain,
  contextGlobal,
  GiB,
  iotlbDomain,
  iotlbGlobal,
  iotlbPage,
  R,
  Rig,
  RW,
  SID,
  W,
} from './rig.ts';

const PAGE = 0x7000000;
const OTHER = 0x9000000;
const MiB = 2 ** 20;

/** Domain 5 (00:02.0) and domain 6 (00:02.1), each with GiB mapped and cached. */
function twoDomains(config: VtdConfig = {}): { rig: Rig; top: number; top6: number } {
  const rig = new Rig(config);
  const top = rig.context(SID, { did: 5 });
  const top6 = rig.context(SID + 1, { did: 6 });
  rig.map(top, GiB, PAGE);
  rig.map(top6, GiB, PAGE + 0x1000);
  rig.enable();
  rig.unit.translate(SID, GiB, R);
  rig.unit.translate(SID + 1, GiB, R);
  return { rig, top, top6 };
}

describe('what an IOTLB invalidation covers', () => {
  // Each row: descriptors, and whether a page of domain 5 at 1 GiB that was remapped still shows its old frame.
  const rows: [string, number[], 'stale' | 'fresh'][] = [
    ['its page', iotlbPage(5, GiB), 'fresh'],
    ['its page with the hint', iotlbPage(5, GiB, 0, 1), 'fresh'],
    ['its page, wrong domain', iotlbPage(6, GiB), 'stale'],
    ['the next page', iotlbPage(5, GiB + 4096), 'stale'],
    ['the page before', iotlbPage(5, GiB - 4096), 'stale'],
    ['16 pages around an address inside', iotlbPage(5, GiB + 15 * 4096, 4), 'fresh'],
    ['16 pages just above', iotlbPage(5, GiB + 16 * 4096, 4), 'stale'],
    ['1 GiB from there', iotlbPage(5, GiB, 18), 'fresh'],
    ['1 GiB before', iotlbPage(5, 0, 18), 'stale'],
    ['1 GiB, wrong domain', iotlbPage(6, GiB, 18), 'stale'],
    ['same low address 4 GiB higher', iotlbPage(5, 5 * GiB), 'stale'],
    ['domain', iotlbDomain(5), 'fresh'],
    ['wrong domain', iotlbDomain(6), 'stale'],
    ['global', iotlbGlobal(), 'fresh'],
    ['the context cache only', contextGlobal(), 'stale'],
  ];
  for (const iotlb of [
    { sets: 2048, ways: 2 },
    { sets: 1, ways: 4 },
    { sets: 16, ways: 4, replacement: 'fifo' as const },
  ]) {
    for (const tagBySid of [false, true]) {
      test.each(rows)(`%s (${iotlb.sets} sets, by source id ${tagBySid})`, (_name, descriptor, outcome) => {
        const { rig, top } = twoDomains({ iotlb, tagBySid });
        rig.map(top, GiB, OTHER);
        rig.submit(descriptor);
        expect(rig.unit.translate(SID, GiB + 1, R)).toBe((outcome === 'stale' ? PAGE : OTHER) + 1);
        expect(rig.unit.translate(SID + 1, GiB + 1, R)).toBe(PAGE + 0x1001);
      });
    }
  }

  test.each<[string, number, number[], boolean]>([
    ['2 MiB by one page inside', 2, iotlbPage(5, 4 * GiB + 0x5000), true],
    ['2 MiB by one page outside', 2, iotlbPage(5, 4 * GiB + 2 * MiB), false],
    ['2 MiB by its mask', 2, iotlbPage(5, 4 * GiB, 9), true],
    ['2 MiB, wrong domain', 2, iotlbPage(6, 4 * GiB, 9), false],
    ['1 GiB by one page inside', 3, iotlbPage(5, 4 * GiB + 0x3ffff000), true],
    ['1 GiB by 2 MiB inside', 3, iotlbPage(5, 4 * GiB + 0x200000, 9), true],
    ['1 GiB by one page outside', 3, iotlbPage(5, 5 * GiB), false],
  ])('a superpage goes as a whole: %s', (_name, level, descriptor, isDropped) => {
    const { rig, top } = twoDomains();
    rig.map(top, 4 * GiB, 0x80000000, RW, level);
    expect(rig.unit.translate(SID, 4 * GiB + 0x7123, R)).toBe(0x80007123);
    expect(rig.unit.iotlbEntries().some((entry) => entry.level === level)).toBe(true);
    rig.map(top, 4 * GiB, 0xc0000000, RW, level);
    rig.submit(descriptor);
    expect(rig.unit.translate(SID, 4 * GiB + 0x7123, R)).toBe(isDropped ? 0xc0007123 : 0x80007123);
  });

  test('cached in 4 KiB pieces, a superpage loses only the pieces that are named', () => {
    const { rig, top } = twoDomains({ psiDropsWholeSuperpage: false });
    rig.map(top, 4 * GiB, 0x80000000, RW, 2);
    rig.unit.translate(SID, 4 * GiB + 0x1234, R);
    rig.unit.translate(SID, 4 * GiB + 0x2234, R);
    rig.map(top, 4 * GiB, 0xc0000000, RW, 2);
    rig.submit(iotlbPage(5, 4 * GiB + 0x1000));
    expect(rig.unit.translate(SID, 4 * GiB + 0x1234, R)).toBe(0xc0001234);
    expect(rig.unit.translate(SID, 4 * GiB + 0x2234, R)).toBe(0x80002234);
    rig.submit(iotlbPage(5, 4 * GiB, 9));
    expect(rig.unit.translate(SID, 4 * GiB + 0x2234, R)).toBe(0xc0002234);
  });

  test('a scan over a large mask drops exactly the range', () => {
    const rig = new Rig({ iotlb: { sets: 16, ways: 4 } });
    const top = rig.context(SID);
    for (let page = 0; page < 40; page++) rig.map(top, GiB + page * 4096, PAGE + page * 4096);
    rig.enable();
    for (let page = 0; page < 40; page++) rig.unit.translate(SID, GiB + page * 4096, R);
    const before = rig.unit.iotlbEntries().map((entry) => (entry.iova - GiB) / 4096);
    rig.submit(iotlbPage(5, GiB + 7 * 4096, 5));
    expect(rig.unit.iotlbEntries().map((entry) => (entry.iova - GiB) / 4096)).toEqual(
      before.filter((page) => page >= 32),
    );
  });

  test('without CAP.PSI a page-selective request is done for the domain', () => {
    const { rig, top } = twoDomains({ psi: false });
    rig.map(top, GiB, OTHER);
    rig.submit(iotlbPage(5, 7 * GiB));
    expect(rig.unit.translate(SID, GiB, R)).toBe(OTHER);
  });
});

describe('paging-structure caches', () => {
  /** Moves the level 1 table of GiB to a new place with another leaf; what a page not yet in the IOTLB then gives. */
  function moved(descriptor: number[] | null, config: VtdConfig = {}): number {
    const { rig, top } = twoDomains(config);
    rig.map(top, GiB + 4096, PAGE + 4096);
    const fresh = rig.table();
    rig.store(fresh + 8, OTHER | RW);
    rig.store(rig.entryAt(top, 4, GiB, 2), fresh | RW);
    if (descriptor !== null) rig.submit(descriptor);
    return rig.unit.translate(SID, GiB + 4096, R);
  }
  test.each<[string, number[] | null, number]>([
    ['nothing', null, PAGE + 4096],
    ['a page below it', iotlbPage(5, GiB), OTHER],
    ['a page below it, with the hint', iotlbPage(5, GiB, 0, 1), PAGE + 4096],
    ['any page of the 2 MiB that it covers', iotlbPage(5, GiB + 2 * MiB - 4096), OTHER],
    ['the next 2 MiB', iotlbPage(5, GiB + 2 * MiB), PAGE + 4096],
    ['1 GiB with the hint', iotlbPage(5, GiB, 18, 1), PAGE + 4096],
    ['1 GiB', iotlbPage(5, GiB, 18), OTHER],
    ['another domain', iotlbDomain(6), PAGE + 4096],
    ['its domain', iotlbDomain(5), OTHER],
    ['global', iotlbGlobal(), OTHER],
    ['the context', contextGlobal(), PAGE + 4096],
  ])('an entry is dropped or kept by: %s', (_name, descriptor, paddr) => {
    expect(moved(descriptor)).toBe(paddr);
    expect(moved(descriptor, { holdsStructure: false })).toBe(OTHER);
  });

  test('a mask of several 2 MiB regions drops the entries of all of them and of no other', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    const iovas = [0, 1, 2, 3, 4, 512].map((index) => 4 * GiB + index * 2 * MiB);
    for (const iova of iovas) rig.map(top, iova, PAGE);
    rig.enable();
    for (const iova of iovas) rig.unit.translate(SID, iova, R);
    rig.submit(iotlbPage(5, 4 * GiB + 2 * MiB, 11));
    const left = rig.unit.structureEntries().filter((entry) => entry.level === 2);
    expect(left.map((entry) => entry.iova).sort((a, b) => a - b)).toEqual([4 * GiB + 8 * MiB, 5 * GiB]);
  });

  test('levels 2, 3 and 4 are held with the tables they lead to', () => {
    const { rig, top } = twoDomains();
    const leadsTo = (level: number): number => Math.floor(rig.entryAt(top, 4, GiB, level) / 4096);
    const held = rig.unit.structureEntries().filter((entry) => entry.domain === 5);
    held.sort((a, b) => a.level - b.level);
    expect(held).toEqual([
      { domain: 5, level: 2, iova: GiB, tablePfn: leadsTo(1), rights: 3, reason: 0 },
      { domain: 5, level: 3, iova: GiB, tablePfn: leadsTo(2), rights: 3, reason: 0 },
      { domain: 5, level: 4, iova: 0, tablePfn: leadsTo(3), rights: 3, reason: 0 },
    ]);
  });

  test('rights of held levels count', () => {
    const { rig, top } = twoDomains();
    const at = rig.entryAt(top, 4, GiB, 3);
    rig.store(at, (rig.mem.load32(at) & -4096) | R);
    rig.map(top, GiB + 4096, OTHER);
    rig.submit(iotlbGlobal());
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
    expect(rig.unit.translate(SID, GiB + 4096, W)).toBe(-5);
    expect(rig.unit.iotlbEntries().map((entry) => entry.rights)).toEqual([R, R]);
  });
});

describe('caching mode', () => {
  /** Touches GiB while a level of its path is missing, maps it, invalidates, touches it again. */
  function mapAfterTouch(level: number, descriptors: number[][], config: VtdConfig): number {
    const rig = new Rig(config);
    const top = rig.context(SID, { did: 5 });
    const at = rig.entryAt(top, 4, GiB, level);
    rig.enable();
    rig.store(rig.entryAt(top, 4, GiB, 1), PAGE | RW);
    const entry = rig.mem.load32(at);
    rig.store(at, 0);
    expect(rig.unit.translate(SID, GiB, R)).toBe(-6);
    rig.store(at, entry);
    rig.submit(...descriptors);
    return rig.unit.translate(SID, GiB, R);
  }
  const rows: [string, number, number[][], number][] = [
    ['leaf, nothing', 1, [], -6],
    ['leaf, its page', 1, [iotlbPage(5, GiB)], PAGE],
    ['leaf, its page with the hint', 1, [iotlbPage(5, GiB, 0, 1)], PAGE],
    ['leaf, another page', 1, [iotlbPage(5, GiB + 4096)], -6],
    ['leaf, another domain', 1, [iotlbPage(6, GiB)], -6],
    ['leaf, domain 0: not where PTEs are tagged', 1, [iotlbPage(0, GiB), iotlbDomain(0)], -6],
    ['leaf, its domain', 1, [iotlbDomain(5)], PAGE],
    ['leaf, global', 1, [iotlbGlobal()], PAGE],
    ['leaf, only the context cache', 1, [contextGlobal()], -6],
    ['level 2, its page', 2, [iotlbPage(5, GiB)], PAGE],
    ['level 2, its page with the hint: the entry above stays', 2, [iotlbPage(5, GiB, 0, 1)], -6],
    ['level 3, its page with the hint', 3, [iotlbPage(5, GiB, 0, 1)], -6],
    ['level 3, its page', 3, [iotlbPage(5, GiB)], PAGE],
    ['level 4, its page', 4, [iotlbPage(5, GiB)], PAGE],
    ['level 4, another page below it clears the entry but not the page', 4, [iotlbPage(5, 100 * GiB)], -6],
    ['level 4, both', 4, [iotlbPage(5, 100 * GiB), iotlbPage(5, GiB, 0, 1)], PAGE],
  ];
  test.each(rows)('not present: %s', (_name, level, descriptors, expected) => {
    expect(mapAfterTouch(level, descriptors, { cachingMode: true })).toBe(expected);
    // Without caching mode nothing of it is ever held, and so with a unit that may but does not.
    expect(mapAfterTouch(level, descriptors, {})).toBe(PAGE);
    expect(mapAfterTouch(level, descriptors, { cachingMode: true, holdsNotPresent: false })).toBe(PAGE);
  });

  test('the neighbour of a flushed page keeps its own not-present entry', () => {
    const rig = new Rig({ cachingMode: true });
    const top = rig.context(SID);
    rig.enable();
    rig.unit.translate(SID, GiB, R);
    rig.unit.translate(SID, GiB + 4096, R);
    rig.map(top, GiB, PAGE);
    rig.map(top, GiB + 4096, PAGE + 4096);
    rig.submit(iotlbPage(5, GiB));
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
    expect(rig.unit.translate(SID, GiB + 4096, W)).toBe(-5);
  });

  test.each<[string, (rig: Rig, top: number) => void, number]>([
    ['reserved bit', (rig, top) => rig.store(rig.entryAt(top, 4, GiB, 1), PAGE | RW | 0x800), -0xc],
    ['interrupt range', (rig, top) => rig.map(top, GiB, 0xfee00000), -0xe],
  ])('faulting entries are held as well: %s', (_name, spoil, result) => {
    for (const cachingMode of [true, false]) {
      const rig = new Rig({ cachingMode });
      const top = rig.context(SID);
      rig.enable();
      spoil(rig, top);
      expect(rig.unit.translate(SID, GiB, R)).toBe(result);
      rig.map(top, GiB, PAGE);
      expect(rig.unit.translate(SID, GiB, R)).toBe(cachingMode ? result : PAGE);
      rig.submit(iotlbPage(5, GiB));
      expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
    }
  });

  test('a page held for its output in the interrupt range still tells a write that it is read-only', () => {
    const rig = new Rig({ cachingMode: true });
    const top = rig.context(SID);
    rig.map(top, GiB, 0xfee00000, R);
    rig.enable();
    expect([R, W, R].map((access) => rig.unit.translate(SID, GiB, access))).toEqual([-0xe, -5, -0xe]);
  });

  // A context that faults is held under domain 0 (6.1), so only requests that name domain 0 reach it.
  const contextRows: [string, number[][], 'stale' | 'fresh'][] = [
    ['nothing', [], 'stale'],
    ['device with domain 0', [contextDevice(0, SID)], 'fresh'],
    ['device with the new domain', [contextDevice(5, SID)], 'stale'],
    ['another device', [contextDevice(0, SID + 1)], 'stale'],
    ['domain 0', [contextDomain(0)], 'fresh'],
    ['the new domain', [contextDomain(5)], 'stale'],
    ['global', [contextGlobal()], 'fresh'],
    ['only the IOTLB', [iotlbGlobal()], 'stale'],
  ];
  const makers: [string, number, (rig: Rig, at: number) => void][] = [
    ['root not present', -1, (rig) => rig.store(rig.root, 0)],
    ['context not present', -2, (rig, at) => rig.store(at, 0)],
    ['context of no known width', -3, (rig, at) => rig.store(at + 8, 0x507)],
    ['root reserved', -0xa, (rig) => rig.store(rig.root, rig.mem.load32(rig.root) | 4)],
    ['context reserved', -0xb, (rig, at) => rig.store(at, rig.mem.load32(at) | 0x80)],
  ];
  for (const [maker, reason, spoil] of makers) {
    test.each(contextRows)(`${maker}, then good, with: %s`, (_name, descriptors, outcome) => {
      for (const cachingMode of [true, false]) {
        const rig = new Rig({ cachingMode });
        const top = rig.context(SID, { did: 5 });
        rig.map(top, GiB, PAGE);
        const saved = [0, 8].map((offset) => [rig.mem.load32(rig.contextAt(SID) + offset), rig.mem.load32(rig.root)]);
        rig.enable();
        const at = rig.contextAt(SID);
        spoil(rig, at);
        expect(rig.unit.translate(SID, GiB, R)).toBe(reason);
        expect(rig.unit.contextEntries().map((entry) => entry.domain)).toEqual(cachingMode ? [0] : []);
        rig.store(rig.root, saved[0][1]);
        rig.store(at, saved[0][0]);
        rig.store(at + 8, saved[1][0]);
        rig.submit(...descriptors);
        expect(rig.unit.translate(SID, GiB, R)).toBe(cachingMode && outcome === 'stale' ? reason : PAGE);
      }
    });
  }

  test('tables outside memory are never held', () => {
    const rig = new Rig({ cachingMode: true });
    const top = rig.context(SID);
    rig.store(rig.entryAt(top, 4, GiB, 2), 0x50000000 | RW);
    rig.enable();
    expect(rig.unit.translate(SID, GiB, R)).toBe(-7);
    rig.store(0x50000000, PAGE | RW);
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
  });
});

describe('context cache', () => {
  // A device moves from domain 5 to domain 7; each request, and whether the move is seen.
  test.each<[string, number[], 'stale' | 'fresh']>([
    ['device', contextDevice(5, SID), 'fresh'],
    ['device with its new domain', contextDevice(7, SID), 'stale'],
    ['device with domain 0', contextDevice(0, SID), 'stale'],
    ['function 2 with FM 0', contextDevice(5, SID | 2), 'stale'],
    ['function 4 with FM 1 (bit 2)', contextDevice(5, SID | 4, 1), 'fresh'],
    ['function 2 with FM 1 (bit 2)', contextDevice(5, SID | 2, 1), 'stale'],
    ['function 6 with FM 2 (bits 2:1)', contextDevice(5, SID | 6, 2), 'fresh'],
    ['function 1 with FM 2 (bits 2:1)', contextDevice(5, SID | 1, 2), 'stale'],
    ['function 7 with FM 3 (all)', contextDevice(5, SID | 7, 3), 'fresh'],
    ['another device with FM 3', contextDevice(5, SID + 8, 3), 'stale'],
    ['domain', contextDomain(5), 'fresh'],
    ['the new domain', contextDomain(7), 'stale'],
    ['global', contextGlobal(), 'fresh'],
    ['only the IOTLB', iotlbGlobal(), 'stale'],
  ])('%s', (_name, descriptor, outcome) => {
    const { rig } = twoDomains();
    const top7 = rig.context(SID, { did: 7 });
    rig.map(top7, GiB, OTHER);
    rig.submit(descriptor);
    expect(rig.unit.translate(SID, GiB, R)).toBe(outcome === 'stale' ? PAGE : OTHER);
  });

  test('an evicted context is read again, also the one used last', () => {
    const { rig } = twoDomains({ contextCache: { sets: 1, ways: 1 } });
    rig.unit.translate(SID, GiB, R);
    rig.context(SID + 2, { tt: 2 });
    rig.unit.translate(SID + 2, GiB, R);
    const top7 = rig.context(SID, { did: 7 });
    rig.map(top7, GiB, OTHER);
    expect(rig.unit.translate(SID, GiB, R)).toBe(OTHER);
  });

  test('SRTP and TE leave the caches alone', () => {
    const { rig, top } = twoDomains();
    rig.map(top, GiB, OTHER);
    rig.unit.write32(0x18, 0xc4000000);
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
    rig.unit.write32(0x18, 0x04000000);
    expect(rig.unit.translate(SID, GiB, R)).toBe(GiB);
    rig.unit.write32(0x18, 0x84000000);
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
  });
});

describe('rights', () => {
  test('a cached read-only translation faults a write, also after an upgrade without invalidation', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, GiB, PAGE, R);
    rig.enable();
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
    rig.map(top, GiB, PAGE, RW);
    expect(rig.unit.translate(SID, GiB, W)).toBe(-5);
    expect(rig.unit.pendingFaults()).toHaveLength(1);
    rig.submit(iotlbPage(5, GiB));
    expect(rig.unit.translate(SID, GiB, W)).toBe(PAGE);
  });

  test('a denied walk leaves its translation behind, or not, by policy', () => {
    for (const holdsDenied of [true, false]) {
      const rig = new Rig({ holdsDenied });
      const top = rig.context(SID);
      rig.map(top, GiB, PAGE, R);
      rig.enable();
      expect(rig.unit.translate(SID, GiB, W)).toBe(-5);
      rig.map(top, GiB, PAGE, RW);
      expect(rig.unit.translate(SID, GiB, W)).toBe(holdsDenied ? -5 : PAGE);
    }
  });
});
