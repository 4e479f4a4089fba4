import { describe, expect, test } from 'vitest';
import { ACCESS_TRANSLATED, ACCESS_TRANSLATION_REQUEST, type VtdConfig } from '../../src/hw/index.ts';
import { GiB, PS, R, Rig, RW, SID, W } from './rig.ts';

const MiB = 2 ** 20;
const PAGE = 0x7000000;

/** A machine with one device whose tables the case has spoilt; `access` of one request and what it must give. */
interface FaultCase {
  name: string;
  reason: number;
  spoil: (rig: Rig, top: number) => void;
  config?: VtdConfig;
  iova?: number;
  access?: number;
  sid?: number;
}

const context = (rig: Rig, lo: number, hi: number, word2: number, word3 = 0): void => {
  rig.store(rig.contextAt(SID), lo, hi);
  rig.store(rig.contextAt(SID) + 8, word2, word3);
};
const entry = (rig: Rig, top: number, level: number, lo: number, hi = 0): void =>
  rig.store(rig.entryAt(top, 4, GiB, level), lo, hi);

// The conditions of 7.1.3 that exist in legacy mode, each by each way to reach it.
const faults: FaultCase[] = [
  { name: 'root entry not present', reason: 0x1, spoil: (rig) => rig.store(rig.root, 0) },
  { name: 'root entry of another bus', reason: 0x1, spoil: () => {}, sid: 0x110 },
  { name: 'context entry not present', reason: 0x2, spoil: (rig) => context(rig, 0, 0, 0x502) },
  { name: 'context entry of another function', reason: 0x2, spoil: () => {}, sid: SID + 1 },
  { name: 'context width 57 bits', reason: 0x3, spoil: (rig, top) => context(rig, top | 1, 0, 0x503) },
  { name: 'context width 30 bits', reason: 0x3, spoil: (rig, top) => context(rig, top | 1, 0, 0x500) },
  { name: 'context width 48 of a 39-bit unit', reason: 0x3, spoil: () => {}, config: { sagaw: [3] } },
  { name: 'context type 3', reason: 0x3, spoil: (rig, top) => context(rig, top | 0xd, 0, 0x502) },
  {
    name: 'context type 1 without device TLBs',
    reason: 0x3,
    spoil: (rig, top) => context(rig, top | 5, 0, 0x502),
    config: { dt: false },
  },
  {
    name: 'leaf bit 62 of a unit that knows no TM',
    reason: 0xc,
    spoil: (rig, top) => entry(rig, top, 1, PAGE | RW, 1 << 30),
    config: { tm: false },
  },
  {
    name: 'pass-through not supported',
    reason: 0x3,
    spoil: (rig, top) => context(rig, top | 9, 0, 0x502),
    config: { pt: false },
  },
  { name: 'IOVA beyond 48 bits', reason: 0x4, spoil: () => {}, iova: 2 ** 48 },
  {
    name: 'IOVA beyond 39 bits of a 3-level context',
    reason: 0x4,
    spoil: (rig) => rig.context(SID, { levels: 3 }),
    iova: 2 ** 39,
  },
  { name: 'IOVA beyond MGAW', reason: 0x4, spoil: () => {}, config: { mgaw: 36 }, iova: 2 ** 36 },
  { name: 'IOVA at the end of numbers', reason: 0x4, spoil: () => {}, iova: 2 ** 53 - 1 },
  { name: 'write to a read-only leaf', reason: 0x5, spoil: (rig, top) => entry(rig, top, 1, PAGE | R), access: 2 },
  {
    name: 'write below a read-only level 2',
    reason: 0x5,
    spoil: (rig, top) => rig.mem.store32(rig.entryAt(top, 4, GiB, 2), (rig.entryAt(top, 4, GiB, 1) & -4096) | R),
    access: 2,
  },
  { name: 'write to a page not present', reason: 0x5, spoil: (rig, top) => entry(rig, top, 1, 0), access: 2 },
  {
    name: 'read and write of a read-only leaf',
    reason: 0x5,
    spoil: (rig, top) => entry(rig, top, 1, PAGE | R),
    access: 3,
  },
  { name: 'read of a write-only leaf', reason: 0x6, spoil: (rig, top) => entry(rig, top, 1, PAGE | W) },
  {
    name: 'read and write of a write-only leaf',
    reason: 0x6,
    spoil: (rig, top) => entry(rig, top, 1, PAGE | W),
    access: 3,
  },
  {
    name: 'read of a leaf that is not zero but not present',
    reason: 0x6,
    spoil: (rig, top) => entry(rig, top, 1, PAGE),
  },
  { name: 'read where level 4 is not present', reason: 0x6, spoil: (rig, top) => entry(rig, top, 4, 0) },
  {
    name: 'R above W: no rights left',
    reason: 0x6,
    spoil: (rig, top) => rig.mem.store32(rig.entryAt(top, 4, GiB, 3), (rig.entryAt(top, 4, GiB, 2) & -4096) | W),
  },
  { name: 'level 2 points outside memory', reason: 0x7, spoil: (rig, top) => entry(rig, top, 2, 0xf0000000 | RW, 1) },
  { name: 'top table outside memory', reason: 0x7, spoil: (rig) => context(rig, 1, 0x70, 0x502) },
  {
    name: 'root table outside memory',
    reason: 0x8,
    spoil: (rig) => {
      rig.unit.write64(0x20, 0, 0x70);
      rig.unit.write32(0x18, 0xc4000000);
    },
  },
  { name: 'context table outside memory', reason: 0x9, spoil: (rig) => rig.store(rig.root, 1, 0x70) },
  { name: 'root entry reserved bit 1', reason: 0xa, spoil: (rig) => rig.store(rig.root, rig.mem.load32(rig.root) | 2) },
  {
    name: 'root entry address beyond the host',
    reason: 0xa,
    spoil: (rig) => rig.store(rig.root, rig.mem.load32(rig.root), 1 << 16),
  },
  { name: 'root entry upper half', reason: 0xa, spoil: (rig) => rig.store(rig.root + 8, 0, 1) },
  { name: 'context entry bit 4', reason: 0xb, spoil: (rig, top) => context(rig, top | 0x11, 0, 0x502) },
  {
    name: 'context entry address beyond the host',
    reason: 0xb,
    spoil: (rig, top) => context(rig, top | 1, 1 << 16, 0x502),
  },
  { name: 'context entry bit 71', reason: 0xb, spoil: (rig, top) => context(rig, top | 1, 0, 0x582) },
  { name: 'context entry bit 88', reason: 0xb, spoil: (rig, top) => context(rig, top | 1, 0, 0x1000502) },
  { name: 'context entry bit 127', reason: 0xb, spoil: (rig, top) => context(rig, top | 1, 0, 0x502, 1 << 31) },
  { name: 'leaf address bit 51', reason: 0xc, spoil: (rig, top) => entry(rig, top, 1, PAGE | RW, 1 << 19) },
  // TM, which a leaf may have where device TLBs are supported (9.8).
  {
    name: 'leaf bit 62 without device TLBs',
    reason: 0xc,
    spoil: (rig, top) => entry(rig, top, 1, PAGE | RW, 1 << 30),
    config: { dt: false },
  },
  {
    name: 'non-leaf bit 62',
    reason: 0xc,
    spoil: (rig, top) => {
      const upper = rig.entryAt(top, 4, GiB, 2);
      rig.store(upper, rig.mem.load32(upper), 1 << 30);
    },
  },
  { name: 'SNP without snoop control', reason: 0xc, spoil: (rig, top) => entry(rig, top, 1, PAGE | RW | 0x800) },
  { name: 'page size bit at level 4', reason: 0xc, spoil: (rig, top) => entry(rig, top, 4, RW | PS) },
  {
    name: '2 MiB page without the capability',
    reason: 0xc,
    spoil: (rig, top) => entry(rig, top, 2, RW | PS),
    config: { sllps2m: false },
  },
  {
    name: '1 GiB page without the capability',
    reason: 0xc,
    spoil: (rig, top) => entry(rig, top, 3, RW | PS),
    config: { sllps1g: false },
  },
  { name: '2 MiB page not aligned', reason: 0xc, spoil: (rig, top) => entry(rig, top, 2, 0x101000 | RW | PS) },
  { name: '1 GiB page not aligned', reason: 0xc, spoil: (rig, top) => entry(rig, top, 3, 0x20000000 | RW | PS) },
  {
    name: 'non-leaf address beyond the host',
    reason: 0xc,
    spoil: (rig, top) => entry(rig, top, 3, 0x1000 | RW, 1 << 17),
  },
  {
    name: 'poison of a freed table',
    reason: 0xc,
    spoil: (rig, top) => rig.mem.fillFrame((rig.entryAt(top, 4, GiB, 1) / 4096) | 0, 0x6b6b6b6b),
  },
  { name: 'translation request with type 0', reason: 0xd, spoil: () => {}, access: R | ACCESS_TRANSLATION_REQUEST },
  { name: 'translated request with type 0', reason: 0xd, spoil: () => {}, access: R | ACCESS_TRANSLATED },
  {
    name: 'translated request with pass-through',
    reason: 0xd,
    spoil: (rig) => rig.context(SID, { tt: 2 }),
    access: R | ACCESS_TRANSLATED,
  },
  { name: 'output in the interrupt range', reason: 0xe, spoil: (rig, top) => entry(rig, top, 1, 0xfee00000 | RW) },
  {
    name: 'output at the end of the interrupt range',
    reason: 0xe,
    spoil: (rig, top) => entry(rig, top, 1, 0xfeeff000 | RW),
    access: 2,
  },
];

describe('faults', () => {
  for (const cachingMode of [false, true]) {
    test.each(faults)(`reason $reason: $name (CM ${cachingMode})`, (one) => {
      const rig = new Rig({ ...one.config, cachingMode });
      const top = rig.context(SID);
      rig.map(top, GiB, PAGE);
      rig.enable();
      one.spoil(rig, top);
      const sid = one.sid ?? SID;
      const iova = one.iova ?? GiB + 0x123;
      const access = one.access ?? R;
      expect(rig.unit.translate(sid, iova, access)).toBe(-one.reason);
      const isRead = (access & 2) === 0;
      const address = iova - (iova % 4096);
      const record = { index: 0, sid, reason: one.reason, address, isRead, addressType: access >> 2 };
      expect(rig.unit.pendingFaults()).toEqual([record]);
      // Once more: from whatever cache holds it now, the same.
      rig.clearFaults();
      expect(rig.unit.translate(sid, iova, access)).toBe(-one.reason);
      expect(rig.unit.pendingFaults()).toEqual([record]);
    });
  }

  test('FPD blocks without a record, also in an entry that is not present', () => {
    const rig = new Rig();
    rig.context(SID, { fpd: true });
    rig.context(SID + 1, { fpd: true, present: false });
    rig.enable();
    expect(rig.unit.translate(SID, GiB, R)).toBe(-6);
    expect(rig.unit.translate(SID, 2 ** 48, R)).toBe(-4);
    expect(rig.unit.translate(SID + 1, GiB, R)).toBe(-2);
    expect(rig.unit.pendingFaults()).toEqual([]);
    expect(rig.unit.read32(0x34)).toBe(0);
  });
});

describe('translation', () => {
  test('off: every address is physical', () => {
    expect(new Rig().unit.translate(SID, 0x123456789abc, RW)).toBe(0x123456789abc);
  });

  test.each([3, 4])('%i levels: 4 KiB, 2 MiB and 1 GiB leaves, first and last byte', (levels) => {
    const rig = new Rig();
    const top = rig.context(SID, { levels });
    rig.map(top, 5 * GiB, 0x12345678000, RW, 1, levels);
    rig.map(top, 6 * GiB, 0x7fffffe00000, RW, 2, levels);
    rig.map(top, 7 * GiB, 0x7fffc0000000, RW, 3, levels);
    rig.map(top, 2 ** (levels === 3 ? 39 : 48) - 4096, 0x8000, RW, 1, levels);
    rig.enable();
    for (const again of [1, 2]) {
      for (const [iova, paddr] of [
        [5 * GiB, 0x12345678000],
        [5 * GiB + 0xfff, 0x12345678fff],
        [6 * GiB, 0x7fffffe00000],
        [6 * GiB + 2 * MiB - 1, 0x7fffffffffff],
        [7 * GiB + 0x3fffffff, 0x7fffffffffff],
        [7 * GiB, 0x7fffc0000000],
        [2 ** (levels === 3 ? 39 : 48) - 1, 0x8fff],
      ] as [number, number][]) {
        expect(rig.unit.translate(SID, iova, again), `0x${iova.toString(16)}`).toBe(paddr);
      }
    }
    expect(rig.unit.pendingFaults()).toEqual([]);
  });

  test('ignored bits of entries do not matter: 2, 6:3, A, D, 10, 61:52, 63', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.store(rig.entryAt(top, 4, GiB, 1), PAGE | RW | 0x7fc, 0xbff00000);
    const upper = rig.entryAt(top, 4, GiB, 2);
    rig.store(upper, rig.mem.load32(upper) | 0x77c, 0xbff00000);
    rig.enable();
    expect(rig.unit.translate(SID, GiB + 8, RW)).toBe(PAGE + 8);
  });

  test('TM is a normal bit of a leaf with device TLBs', () => {
    const rig = new Rig({ dt: true });
    const top = rig.context(SID);
    rig.store(rig.entryAt(top, 4, GiB, 1), PAGE | RW, 1 << 30);
    rig.enable();
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
  });

  test('SNP is a normal bit with snoop control', () => {
    const rig = new Rig({ sc: true });
    const top = rig.context(SID);
    rig.map(top, GiB, PAGE, RW | 0x800);
    rig.enable();
    expect(rig.unit.translate(SID, GiB, R)).toBe(PAGE);
  });

  test('pass-through gives the address back, type 1 translates and lets device TLBs work', () => {
    const rig = new Rig();
    rig.context(SID, { tt: 2 });
    const top = rig.context(SID + 1, { tt: 1 });
    rig.map(top, GiB, PAGE, R);
    rig.enable();
    expect(rig.unit.translate(SID, 0xabcdef123, RW)).toBe(0xabcdef123);
    expect(rig.unit.translate(SID + 1, GiB, R)).toBe(PAGE);
    expect(rig.unit.translate(SID + 1, GiB + 5, R | ACCESS_TRANSLATION_REQUEST)).toBe(PAGE + 5);
    expect(rig.unit.translate(SID + 1, 0x4445000, R | ACCESS_TRANSLATED)).toBe(0x4445000);
    // A translation request that finds no rights is an answer, not a fault.
    expect(rig.unit.translate(SID + 1, GiB, W | ACCESS_TRANSLATION_REQUEST)).toBe(-5);
    // One that asks for no rights at all still does not find a page where there is none.
    expect(rig.unit.translate(SID + 1, GiB + 4096, ACCESS_TRANSLATION_REQUEST)).toBe(-6);
    expect(rig.unit.pendingFaults()).toEqual([]);
  });

  test('the interrupt range is never translated, whatever the tables say', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, 0xfee00000, PAGE);
    rig.map(top, 0xfedff000, PAGE);
    rig.map(top, 0xfef00000, PAGE);
    rig.enable();
    expect(rig.unit.translate(SID, 0xfee00000, W)).toBe(0xfee00000);
    expect(rig.unit.translate(SID, 0xfeefffff, W)).toBe(0xfeefffff);
    expect(rig.unit.translate(0xffff, 0xfee01004, W)).toBe(0xfee01004);
    expect(rig.unit.translate(SID, 0xfedfffff, W)).toBe(PAGE + 0xfff);
    expect(rig.unit.translate(SID, 0xfef00000, W)).toBe(PAGE);
    expect(rig.unit.iotlbEntries()).toHaveLength(2);
  });

  test('of a superpage that reaches into the interrupt range only that part faults, cached or not', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, GiB, 0xfee00000, RW, 2);
    rig.enable();
    expect(rig.unit.translate(SID, GiB + 0x1000, R)).toBe(-0xe);
    expect(rig.unit.translate(SID, GiB + 0x100000, R)).toBe(0xfef00000);
    expect(rig.unit.iotlbEntries()).toHaveLength(1);
    expect(rig.unit.translate(SID, GiB + 0x1000, R)).toBe(-0xe);
  });

  test('a read-only page kept by a denied write does not let reads into the interrupt range', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, GiB, 0xfee00000, R);
    rig.enable();
    expect(rig.unit.translate(SID, GiB, W)).toBe(-5);
    rig.clearFaults();
    expect(rig.unit.translate(SID, GiB, R)).toBe(-0xe);
  });

  test('devices of one domain share IOTLB entries, of two domains they do not', () => {
    const rig = new Rig();
    const top = rig.context(SID, { did: 5 });
    rig.context(SID + 1, { did: 5, top });
    const other = rig.context(SID + 2, { did: 6 });
    rig.map(top, GiB, PAGE);
    rig.map(other, GiB, PAGE + 0x1000);
    rig.enable();
    expect([0, 1, 2, 0, 2].map((index) => rig.unit.translate(SID + index, GiB, R))).toEqual([
      PAGE,
      PAGE,
      PAGE + 0x1000,
      PAGE,
      PAGE + 0x1000,
    ]);
    expect(
      rig.unit
        .iotlbEntries()
        .map((one) => one.domain)
        .sort((a, b) => a - b),
    ).toEqual([5, 6]);
  });
});
