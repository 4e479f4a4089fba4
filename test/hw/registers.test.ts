import { describe, expect, test } from 'vitest';
import type { VtdConfig } from '../../src/hw/index.ts';
import { GiB, iotlbGlobal, Rig, RW, SID } from './rig.ts';

/** Every register below 0x100 that software can write: offset, pattern written, what must read back. */
const plain: [string, number, number, number][] = [
  ['RTADDR low drops its reserved bits', 0x20, 0xfffff7ff, 0xfffff000],
  ['RTADDR high', 0x24, 0x12345, 0x12345],
  ['CCMD low', 0x28, 0x00100005, 0x00100005],
  ['FEDATA', 0x3c, 0xabcd, 0xabcd],
  ['FEADDR', 0x40, 0xfee01000, 0xfee01000],
  ['FEUADDR', 0x44, 0x7, 0x7],
  ['IQA low keeps QS, not DW', 0x90, 0x12345fff, 0x12345007],
  ['IQA high', 0x94, 0x1, 0x1],
  ['IQT keeps 18:4', 0x88, 0xffffffff, 0x7fff0],
  ['IEDATA', 0xa4, 0x55, 0x55],
  ['IEADDR', 0xa8, 0xfee02000, 0xfee02000],
  ['IEUADDR', 0xac, 0x9, 0x9],
  ['IVA is write-only', 0xf0, 0xfffff000, 0],
  ['VER is read-only', 0x00, 0xffffffff, 0x10],
  ['GSTS is read-only', 0x1c, 0xffffffff, 0],
  ['IQH is read-only', 0x80, 0xffffffff, 0],
  ['IQERCD is read-only', 0xb0, 0xffffffff, 0],
  ['GCMD is write-only', 0x18, 0x01000000, 0],
  ['an offset with no register', 0xc0, 0xffffffff, 0],
  ['beyond everything', 0xff0, 0xffffffff, 0],
];

describe('registers', () => {
  test.each(plain)('%s', (_name, offset, written, expected) => {
    const rig = new Rig();
    rig.unit.write32(offset, written);
    expect(rig.unit.read32(offset)).toBe(expected);
  });

  // CAP words: the recordings' sysfs files (caching mode on, 39 bits) and qemu-qtest.md (48 bits, on and off).
  test.each<[string, VtdConfig, number, number]>([
    ['recorded, CM on', { cachingMode: true, sagaw: [3], mgaw: 39 }, 0x22260286, 0x00d2008c],
    ['recorded, CM off', { sagaw: [3], mgaw: 39 }, 0x22260206, 0x00d2008c],
    ['QEMU aw-bits=48, CM on', { cachingMode: true, sagaw: [3, 4] }, 0x222f0686, 0x00d2008c],
    ['default', {}, 0x222f0606, 0x00d2008c],
    [
      'nothing optional',
      { psi: false, sllps1g: false, sllps2m: false, dwd: false, drd: false, mamv: 0 },
      0x222f0606,
      0,
    ],
    ['RWBF, ZLR, 8 records, ND 2', { rwbf: true, zlr: true, nfr: 8, nd: 2 }, 0x226f0612, 0x00d2078c],
  ])('CAP: %s', (_name, config, lo, hi) => {
    const { unit } = new Rig(config);
    expect([unit.read32(0x08), unit.read32(0x0c)]).toEqual([lo, hi]);
  });

  test.each<[string, VtdConfig, boolean, number]>([
    ['the recordings', { dt: false, coherent: false }, true, 0xf42],
    ['coherent memory', { dt: false }, true, 0xf43],
    ['non-coherent memory', { dt: false }, false, 0xf42],
    [
      'device TLBs, snoop control, no queue, no pass-through',
      { dt: true, sc: true, qi: false, pt: false },
      true,
      0xf85,
    ],
    ['interrupt remapping brings MHMV', { dt: false, ir: true, coherent: false }, true, 0xf00f4a],
  ])('ECAP: %s', (_name, config, coherent, lo) => {
    expect(new Rig(config, coherent).unit.read32(0x10)).toBe(lo);
  });

  test('the start-up sequence shows the status words that QEMU shows', () => {
    const { unit, root, queue } = new Rig();
    unit.write64(0x20, root, 0);
    unit.write32(0x18, 0x40000000);
    expect(unit.read32(0x1c)).toBe(0x40000000);
    unit.write64(0x88, 0, 0);
    unit.write64(0x90, queue, 0);
    unit.write32(0x18, 0x04000000);
    expect(unit.read32(0x1c)).toBe(0x44000000);
    unit.write32(0x18, 0x84000000);
    expect(unit.read32(0x1c)).toBe(0xc4000000);
    // Sticky bits follow each write; one-shot ones do not: SRTP stays set although it is not written again.
    unit.write32(0x18, 0x00000000);
    expect(unit.read32(0x1c)).toBe(0x40000000);
  });

  test('WBF, SIRTP, IRE, CFI: one-shot and sticky bits', () => {
    const { unit } = new Rig();
    unit.write32(0x18, 0x08000000);
    expect(unit.read32(0x1c)).toBe(0);
    unit.write32(0x18, 0x01000000);
    unit.write32(0x18, 0x02800000);
    expect(unit.read32(0x1c)).toBe(0x03800000);
    unit.write32(0x18, 0);
    expect(unit.read32(0x1c)).toBe(0x01000000);
  });

  test('QIE cannot be set without ECAP.QI', () => {
    const { unit } = new Rig({ qi: false });
    unit.write32(0x18, 0x04000000);
    expect(unit.read32(0x1c)).toBe(0);
  });

  test('writing RTADDR changes nothing before SRTP', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, GiB, 0x7000000);
    rig.enable();
    rig.unit.write64(0x20, 0x00000000, 0x70);
    expect(rig.unit.translate(SID, GiB, 1)).toBe(0x7000000);
  });

  test('CCMD and IOTLB execute, clear the busy bit and report the granularity', () => {
    const rig = new Rig({ qi: false });
    rig.enable();
    const { unit } = rig;
    for (const [written, read] of [
      [0xa0000000, 0x28000000], // global
      [0xc0000000, 0x50000000], // domain
      [0xe0000000, 0x78000000], // device
      [0x80000000, 0x00000000], // reserved: nothing done
    ] as [number, number][]) {
      unit.write64(0x28, 5, written);
      expect(unit.read32(0x2c)).toBe(read);
    }
    unit.write64(0xf0, 0x100000 | 8, 0);
    for (const [written, read] of [
      [0x90000005, 0x12000005],
      [0xa0000005, 0x24000005],
      [0xb0000005, 0x36000005],
      [0x80000005, 0x00000005],
    ] as [number, number][]) {
      unit.write64(0xf8, 0, written);
      expect(unit.read32(0xfc)).toBe(read);
    }
    // AM above MAMV (18) is refused: IAIG (26:25) is 0, IIRG (29:28) stays as asked.
    unit.write64(0xf0, 19, 0);
    unit.write64(0xf8, 0, 0xb0000005);
    expect(unit.read32(0xfc)).toBe(0x30000005);
    // Two 32-bit halves do the same as one 64-bit write; only the high half starts it.
    unit.write32(0x28, 7);
    expect(unit.read32(0x2c)).toBe(0x00000000);
    unit.write32(0x2c, 0xa0000000);
    expect(unit.read32(0x2c)).toBe(0x28000000);
  });

  test('with the queue on, register requests are not taken and stay busy', () => {
    const rig = new Rig();
    const top = rig.context(SID);
    rig.map(top, GiB, 0x7000000);
    rig.enable();
    rig.unit.translate(SID, GiB, 1);
    rig.unit.write64(0x28, 0, 0xa0000000);
    rig.unit.write64(0xf8, 0, 0x90000000);
    expect([rig.unit.read32(0x2c), rig.unit.read32(0xfc)]).toEqual([0xa0000000, 0x90000000]);
    expect(rig.unit.iotlbEntries()).toHaveLength(1);
    expect(rig.unit.contextEntries()).toHaveLength(1);
  });

  test('register-based invalidation drops what it names', () => {
    const rig = new Rig({ qi: false });
    const top = rig.context(SID);
    rig.map(top, GiB, 0x7000000);
    rig.map(top, GiB + 4096, 0x7001000);
    rig.enable();
    const heard: unknown[] = [];
    rig.unit.listener = { descriptor() {}, doorbell() {}, registerInvalidation: (...words) => heard.push(words) };
    rig.unit.translate(SID, GiB, 1);
    rig.unit.translate(SID, GiB + 4096, 1);
    rig.unit.write64(0xf0, GiB | 0x40, 0);
    rig.unit.write64(0xf8, 0, 0xb0000004);
    expect(rig.unit.iotlbEntries()).toHaveLength(2);
    rig.unit.write64(0xf8, 0, 0xb0000005);
    expect(rig.unit.iotlbEntries().map((entry) => entry.iova)).toEqual([GiB + 4096]);
    expect(rig.unit.structureEntries()).toHaveLength(3);
    rig.unit.write64(0x28, 0x00100005, 0xe0000000);
    expect(rig.unit.contextEntries()).toHaveLength(0);
    expect(heard).toEqual([
      ['iotlb', 0, 0xb0000004 | 0, GiB | 0x40, 0],
      ['iotlb', 0, 0xb0000005 | 0, GiB | 0x40, 0],
      ['context', 0x00100005, 0xe0000000 | 0, 0, 0],
    ]);
  });

  test('RWBF: stores reach the walker by a flush or an invalidation, not before', () => {
    for (const drain of ['wbf', 'queue'] as const) {
      const rig = new Rig({ rwbf: true }, false);
      const top = rig.context(SID);
      rig.map(top, GiB, 0x7000000);
      rig.enable();
      expect(rig.unit.translate(SID, GiB, 1)).toBe(0x7000000);
      rig.mem.store64(rig.entryAt(top, 4, GiB + 4096, 1), 0x7001000 | RW, 0);
      expect(rig.unit.translate(SID, GiB + 4096, 1)).toBe(-6);
      if (drain === 'wbf') rig.unit.write32(0x18, 0x8c000000);
      else rig.submit(iotlbGlobal());
      expect(rig.unit.translate(SID, GiB + 4096, 1)).toBe(0x7001000);
    }
  });

  test('a walker that does not snoop sees tables only after a flush', () => {
    const rig = new Rig({}, false);
    const top = rig.context(SID);
    const at = rig.entryAt(top, 4, GiB, 1);
    rig.enable();
    rig.mem.store64(at, 0x7000000 | RW, 0);
    expect(rig.unit.translate(SID, GiB, 2)).toBe(-5);
    rig.mem.flush(at, 8);
    expect(rig.unit.translate(SID, GiB, 2)).toBe(0x7000000);
  });

  test.each<[string, VtdConfig]>([
    ['nd', { nd: 7 }],
    ['mgaw', { mgaw: 57 }],
    ['haw', { haw: 53 }],
    ['nfr', { nfr: 0 }],
    ['sagaw', { sagaw: [5] }],
    ['sagaw', { sagaw: [] }],
    ['holdsNotPresent', { holdsNotPresent: true }],
    ['sets', { iotlb: { sets: 3, ways: 1 } }],
    ['ways', { pageCache: { sets: 4, ways: 17 } }],
  ])('refuses an impossible %s', (field, config) => {
    expect(() => new Rig(config)).toThrow(field);
  });
});
