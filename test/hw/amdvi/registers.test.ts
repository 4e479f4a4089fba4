import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../../src/base/index.ts';
import { AMDVI_DEFAULT, AMDVI_QEMU, AmdviUnit, type AmdviConfig } from '../../../src/hw/index.ts';
import { Bus, PhysMem } from '../../../src/mem/index.ts';
import { R, Rig, SID } from './rig.ts';

const unitOf = (config: AmdviConfig = {}): AmdviUnit => new AmdviUnit(new PhysMem(), new ManualClock(), config);
const status = (rig: Rig): number => rig.unit.read32(0x2020);

describe('what the unit says of itself', () => {
  test('capability header (3.2): NpCache 26, IotlbSup 24, EFRSup 27, CapExt 28, type IOMMU, capability id 0xf', () => {
    expect(unitOf().readCapability()).toBe(0x190b000f);
    expect(unitOf({ npCache: true }).readCapability()).toBe(0x1d0b000f);
    expect(unitOf({ iotlbSup: false, capRev: 0 }).readCapability()).toBe(0x1803000f);
  });

  test('QEMU 7.2 and 10.0: header 0x1f03000f, EFR 0x29d3, both read over qtest', () => {
    const unit = unitOf(AMDVI_QEMU);
    expect(unit.readCapability(0)).toBe(0x1f03000f);
    expect(unit.read32(0x30)).toBe(0x29d3);
    expect(unit.read32(0x34)).toBe(0);
  });

  test('EFR: PreFSup 0, PPRSup 1, IASup 6, HATS 11:10', () => {
    expect(unitOf().read32(0x30)).toBe(0x841);
    expect(unitOf({ prefetch: false, ppr: true, ia: false, levels: 4 }).read32(0x30)).toBe(0x2);
    expect(unitOf({ levels: 5 }).read32(0x30)).toBe(0x441);
  });

  test('address sizes, in the word at 0x10: physical in 14:8, of devices in 21:15', () => {
    expect(unitOf({ paBits: 48, vaBits: 64 }).readCapability(0x10)).toBe((48 << 8) | (64 << 15));
    expect(unitOf().readCapability(0x04)).toBe(0);
  });

  test('refuses what no hardware could report', () => {
    expect(() => unitOf({ holdsNotPresent: true })).toThrow(/npCache/);
    expect(() => unitOf({ levels: 7 })).toThrow(RangeError);
    expect(() => unitOf({ levels: 3 })).toThrow(RangeError);
    expect(() => unitOf({ paBits: 60 })).toThrow(RangeError);
    expect(() => unitOf({ vaBits: 2.5 })).toThrow(RangeError);
    expect(() => unitOf({ capRev: 32 })).toThrow(RangeError);
    expect(() => unitOf({ iotlb: { sets: 3, ways: 1 } })).toThrow(RangeError);
    expect(unitOf(AMDVI_DEFAULT).config.holdsNotPresent).toBe(false);
    expect(unitOf({ npCache: true }).config.holdsNotPresent).toBe(true);
  });
});

describe('registers', () => {
  // Written with all ones; what is left are the bits that exist (3.4).
  test.each([
    ['device table base', 0x00, 0xfffff1ff, 0x000fffff],
    ['command buffer base', 0x08, 0xfffff000, 0x0f0fffff],
    ['event log base', 0x10, 0xfffff000, 0x0f0fffff],
    ['exclusion base', 0x20, 0xfffff003, 0x000fffff],
    ['exclusion limit', 0x28, 0xfffff000, 0x000fffff],
    ['extended features', 0x30, 0x00000841, 0],
    ['page request log base, absent', 0x38, 0, 0],
    ['command head', 0x2000, 0x7fff0, 0],
    ['event head', 0x2010, 0x7fff0, 0],
    ['event tail', 0x2018, 0x7fff0, 0],
    ['status', 0x2020, 0, 0],
    ['nothing', 0x40, 0, 0],
    ['nothing', 0x1ff8, 0, 0],
    ['nothing', 0x2040, 0, 0],
  ])('%s at %i', (_, offset, lo, hi) => {
    const unit = unitOf();
    // Heads and tails exist only within their rings: the largest ones.
    unit.write64(0x08, 0, 15 << 24);
    unit.write64(0x10, 0, 15 << 24);
    unit.write64(offset, -1, -1);
    expect(unit.read32(offset)).toBe(lo);
    expect(unit.read32(offset + 4)).toBe(hi);
  });

  test('page request registers exist with PPRSup', () => {
    const unit = unitOf({ ppr: true });
    unit.write64(0x38, 0x5000, 8 << 24);
    unit.write32(0x2030, 0x20);
    unit.write32(0x2038, 0x30);
    expect([unit.read32(0x38), unit.read32(0x3c), unit.read32(0x2030), unit.read32(0x2038)]).toEqual([
      0x5000,
      8 << 24,
      0x20,
      0x30,
    ]);
  });

  test('halves of 32 bits are written one by one', () => {
    const unit = unitOf();
    unit.write32(0x00, 0x1234_5001);
    unit.write32(0x04, 0x77);
    unit.write32(0x18, 0);
    unit.write32(0x1c, 0x123);
    expect([unit.read32(0x00), unit.read32(0x04), unit.read32(0x1c)]).toEqual([0x12345001, 0x77, 0x123]);
  });

  test('a base puts head and tail to zero; while its ring runs it cannot be written', () => {
    const rig = new Rig();
    rig.unit.write64(0x08, rig.buffer, 8 << 24);
    rig.unit.write64(0x10, rig.log, 8 << 24);
    for (const offset of [0x2000, 0x2008, 0x2010, 0x2018]) rig.unit.write32(offset, 0x40);
    rig.unit.write64(0x08, rig.buffer, 9 << 24);
    expect([0x2000, 0x2008, 0x2010, 0x2018].map((offset) => rig.unit.read32(offset))).toEqual([0, 0, 0x40, 0x40]);
    rig.unit.write64(0x10, rig.log, 9 << 24);
    expect([0x2010, 0x2018].map((offset) => rig.unit.read32(offset))).toEqual([0, 0]);
    rig.enable();
    const before = [0x08, 0x0c, 0x10, 0x14].map((offset) => rig.unit.read32(offset));
    rig.unit.write64(0x08, 0x5000, 8 << 24);
    rig.unit.write64(0x10, 0x5000, 8 << 24);
    rig.unit.write32(0x2000, 0x50);
    rig.unit.write32(0x2018, 0x50);
    expect([0x08, 0x0c, 0x10, 0x14].map((offset) => rig.unit.read32(offset))).toEqual(before);
    expect([rig.unit.read32(0x2000), rig.unit.read32(0x2018)]).toEqual([0, 0]);
  });

  test('pointers beyond the ring are not taken', () => {
    const rig = new Rig().enable();
    rig.unit.write32(0x2008, 256 * 16);
    rig.unit.write32(0x2010, 256 * 16);
    expect([rig.unit.read32(0x2008), rig.unit.read32(0x2010)]).toEqual([0, 0]);
    rig.unit.write32(0x2010, 255 * 16);
    expect(rig.unit.read32(0x2010)).toBe(255 * 16);
  });

  test('CmdBufRun and EventLogRun follow IommuEn with their enable bits, and need a length that exists', () => {
    const rig = new Rig();
    rig.unit.write64(0x08, rig.buffer, 8 << 24);
    rig.unit.write64(0x10, rig.log, 8 << 24);
    const after = (control: number): number => {
      rig.unit.write32(0x18, control);
      return status(rig);
    };
    expect(after(0x1004)).toBe(0);
    expect(after(0x1005)).toBe(0x18);
    expect(after(0x1001)).toBe(0x10);
    expect(after(0x0005)).toBe(0x08);
    expect(after(0x1004)).toBe(0);
    rig.unit.write64(0x08, rig.buffer, 7 << 24);
    rig.unit.write64(0x10, rig.log, 0);
    expect(after(0x1005)).toBe(0);
  });

  test('the unit sits on a bus', () => {
    const rig = new Rig();
    const bus = new Bus(rig.mem);
    bus.attach(0xfed80000, 0x4000, rig.unit);
    bus.write64(0xfed80000, rig.devices | 1, 0);
    expect(bus.read32(0xfed80000)).toBe(rig.devices | 1);
    expect(bus.read32(0xfed80030)).toBe(0x841);
  });
});

describe('IommuEn', () => {
  test('off: every address is physical, whatever the tables say', () => {
    const rig = new Rig().enable(0);
    rig.dte(SID);
    expect(rig.unit.translate(SID, 0x1234, R)).toBe(0x1234);
    rig.unit.write32(0x18, 1);
    expect(rig.unit.translate(SID, 0x1234, R)).toBe(-2);
    rig.unit.write32(0x18, 0);
    expect(rig.unit.translate(SID, 0x1234, R)).toBe(0x1234);
  });

  test('off and on again leaves the caches: software invalidates', () => {
    const rig = new Rig().enable();
    const top = rig.dte(SID);
    rig.map(top, 0x1000, 0x5000);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    rig.unit.write32(0x18, 0);
    rig.map(top, 0x1000, 0x6000);
    rig.unit.write32(0x18, 0x1005);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
  });
});
