import { describe, expect, test } from 'vitest';
import type { AmdviConfig, AmdviInterruptKind } from '../../../src/hw/index.ts';
import { device, DEV_TAB_ERROR, DID, GiB, ILLEGAL_DTE, INVALID_PPR, INVALID_REQUEST, PAGE_FAULT } from './rig.ts';
import { R, Rig, RW, SID, W } from './rig.ts';

const setUp = (config: AmdviConfig = {}): Rig => new Rig(config).enable();
const TRANSLATION_REQUEST = 4;
const TRANSLATED = 8;

describe('events, word by word (2.5.2 to 2.5.10)', () => {
  test('1 ILLEGAL_DEV_TABLE_ENTRY: reserved bits set RZ, a level that does not exist does not', () => {
    const rig = setUp();
    for (const w0 of [4, 8, 0x10, 0x20, 0x40]) {
      rig.dte(SID, { w0 });
      expect(rig.unit.translate(SID, 0x12345677, W)).toBe(ILLEGAL_DTE);
      expect(rig.event(rig.takeEvents()[0]?.index ?? -1)).toEqual([SID, 0x10a00000, 0x12345674, 0]);
      rig.submit(device(SID));
    }
    // Guest translation (GV 55, GLX, GCR3), GIoV 54 and page requests (PPR 52) are absent; 63 and 106 are reserved.
    for (const [w1, w3] of [
      [1 << 31, 0],
      [1 << 20, 0],
      [1 << 23, 0],
      [0, 1 << 10],
      [0, 1 << 31],
    ]) {
      rig.dte(SID, { w1, w3 });
      expect(rig.unit.translate(SID, 2 ** 40, R)).toBe(ILLEGAL_DTE);
      expect(rig.event(rig.takeEvents()[0]?.index ?? -1)).toEqual([SID, 0x10800000, 0, 0x100]);
      rig.submit(device(SID));
    }
    rig.dte(SID, { levels: 7 });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(ILLEGAL_DTE);
    expect(rig.event(rig.takeEvents()[0]?.index ?? -1)).toEqual([SID, 0x10000000, 0x1000, 0]);
    const four = setUp({ levels: 4 });
    four.dte(SID, { levels: 5 });
    expect(four.unit.translate(SID, 0x1000, R)).toBe(ILLEGAL_DTE);
  });

  test('2 IO_PAGE_FAULT: device, domain, flags RW 0x20, PR 0x10, PE 0x40, RZ 0x80', () => {
    const rig = setUp();
    const top = rig.dte(SID, { did: 0xabcd });
    const fault = (iova: number, access: number): number[] => {
      expect(rig.unit.translate(SID, iova, access)).toBe(PAGE_FAULT);
      return rig.event(rig.takeEvents()[0]?.index ?? -1);
    };
    expect(fault(0x5_4321_0123, R)).toEqual([SID, 0x2000abcd, 0x43210123, 5]);
    expect(fault(0x5_4321_0123, W)).toEqual([SID, 0x2020abcd, 0x43210123, 5]);
    expect(fault(0x5_4321_0123, RW)).toEqual([SID, 0x2020abcd, 0x43210123, 5]);
    rig.map(top, 0x1000, 0x5000, R);
    expect(fault(0x1004, W)).toEqual([SID, 0x2070abcd, 0x1004, 0]);
    rig.mem.store64(rig.entryAt(top, 4, 0x2000, 1), 0x5001, 0x60100000);
    expect(fault(0x2000, R)).toEqual([SID, 0x2090abcd, 0x2000, 0]);
    expect(fault(2 ** 48, R)).toEqual([SID, 0x2010abcd, 0, 0x10000]);
  });

  test('3 DEV_TAB_HARDWARE_ERROR: the table is not in memory', () => {
    const rig = setUp();
    rig.unit.write64(0x00, 0x7000_0000 | 0x1ff, 0x12);
    expect(rig.unit.translate(0x1234, 0x5000, W)).toBe(DEV_TAB_ERROR);
    expect(rig.event(0)).toEqual([0x1234, 0x32200000, 0x7000_0000 + 0x1234 * 32, 0x12]);
    // Not remembered.
    rig.mem.store64(0x12_7000_0000 + 0x1234 * 32, 0, 0);
    expect(rig.unit.translate(0x1234, 0x5000, W)).toBe(0x5000);
  });

  test('a device beyond the table: a page fault without domain', () => {
    const rig = setUp();
    expect(rig.unit.translate(256, 0x5000, W)).toBe(PAGE_FAULT);
    expect(rig.event(0)).toEqual([256, 0x20200000, 0x5000, 0]);
    expect(rig.unit.translate(255, 0x5000, W), 'the last one it has, V = 0').toBe(0x5000);
  });

  test('8 INVALID_DEVICE_REQUEST: a read of the interrupt range; ATS of a device with I = 0 or V = 0', () => {
    const rig = setUp();
    rig.dte(SID);
    expect(rig.unit.translate(SID, 0xfee01000, W)).toBe(0xfee01000);
    expect(rig.unit.translate(SID, 0xfee01000, R)).toBe(INVALID_REQUEST);
    expect(rig.event(0)).toEqual([SID, 0x80000000, 0xfee01000, 0]);
    expect(rig.unit.translate(SID, 0x1000, R | TRANSLATED)).toBe(INVALID_REQUEST);
    expect(rig.event(1)).toEqual([SID, 0x82000000, 0x1000, 0]);
    expect(rig.unit.translate(SID, 0x1000, R | TRANSLATION_REQUEST)).toBe(INVALID_REQUEST);
    expect(rig.event(2)).toEqual([SID, 0x83000000, 0x1000, 0]);
    rig.dte(SID + 1, { v: false, w3: 1 });
    expect(rig.unit.translate(SID + 1, 0x1000, W | TRANSLATED)).toBe(INVALID_REQUEST);
    expect(rig.event(3)).toEqual([SID + 1, 0x82200000, 0x1000, 0]);
    expect(rig.unit.translate(SID + 1, 0xfee00000, R), 'V = 0: forwarded').toBe(0xfee00000);
  });

  test('9 INVALID_PPR_REQUEST: this unit takes no page requests', () => {
    const rig = setUp();
    expect(rig.unit.requestPage(SID, 0x3_0000_1000)).toBe(INVALID_PPR);
    expect(rig.event(0)).toEqual([SID, 0x90000000, 0x1000, 3]);
  });

  test('decoded', () => {
    const rig = setUp();
    rig.dte(SID);
    rig.unit.translate(SID, 0x5_4321_0000, W);
    rig.unit.translate(SID, 0x1000, R);
    expect(rig.unit.pendingFaults()).toEqual([
      { index: 0, sid: SID, domain: DID, reason: 2, flags: 0x20, address: 0x5_4321_0000, isRead: false },
      { index: 1, sid: SID, domain: DID, reason: 2, flags: 0, address: 0x1000, isRead: true },
    ]);
  });
});

describe('device table entries (2.2.2.1)', () => {
  test('V = 0 passes, with all other bits set', () => {
    const rig = setUp();
    rig.mem.store64(rig.devices + SID * 32, -2, -1);
    rig.mem.store64(rig.devices + SID * 32 + 8, -1, -1);
    expect(rig.unit.translate(SID, 0x1234, RW)).toBe(0x1234);
  });

  test('V = 1 and TV = 0 ends the walk before it begins, whatever mode and rights say', () => {
    const rig = setUp();
    for (const levels of [0, 4, 7]) {
      rig.dte(SID, { tv: false, levels });
      expect(rig.unit.translate(SID, 0x1000, R), `mode ${levels}`).toBe(PAGE_FAULT);
      expect(rig.event(rig.takeEvents()[0]?.index ?? -1)).toEqual([SID, 0x20000005, 0x1000, 0]);
      rig.submit(device(SID));
    }
  });

  test('mode 0 passes as far as IR and IW go: neither of them is a closed door', () => {
    const rig = setUp();
    for (const rights of [0, R, W, RW]) {
      rig.dte(SID, { levels: 0, top: 0, rights });
      expect(rig.unit.translate(SID, 0x1000, R)).toBe((rights & R) !== 0 ? 0x1000 : PAGE_FAULT);
      expect(rig.unit.translate(SID, 2 ** 52, W)).toBe((rights & W) !== 0 ? 2 ** 52 : PAGE_FAULT);
      rig.submit(device(SID));
    }
    expect(rig.takeEvents().map((event) => event.flags)).toEqual([0x50, 0x70, 0x70, 0x50]);
  });

  test('I = 1: translated requests pass, translation requests are answered, and denied without an event', () => {
    const rig = setUp();
    const top = rig.dte(SID, { w3: 1 });
    rig.map(top, 0x1000, 0x5000, R);
    expect(rig.unit.translate(SID, 0x9_9999_9000, W | TRANSLATED)).toBe(0x9_9999_9000);
    for (const _ of [1, 2]) expect(rig.unit.translate(SID, 0x1000, R | TRANSLATION_REQUEST)).toBe(0x5000);
    expect(rig.unit.translate(SID, 0x1000, W | TRANSLATION_REQUEST)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, GiB, R | TRANSLATION_REQUEST)).toBe(PAGE_FAULT);
    expect(rig.unit.pendingFaults()).toEqual([]);
    expect(rig.unit.translate(SID, 0x1000, W)).toBe(PAGE_FAULT);
    expect(rig.unit.pendingFaults()).toHaveLength(1);
  });

  test('SA = 1: page faults of the device are not logged, other events are', () => {
    const rig = setUp();
    rig.dte(SID, { w3: 4 });
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(PAGE_FAULT);
    expect(rig.unit.pendingFaults()).toEqual([]);
    expect(rig.unit.translate(SID, 0xfee00000, R)).toBe(INVALID_REQUEST);
    expect(rig.unit.pendingFaults()).toHaveLength(1);
  });

  test('SE = 1: one page fault of the device is logged until its entry is invalidated', () => {
    const rig = setUp();
    const top = rig.dte(SID, { w3: 2 });
    rig.dte(SID + 1, { top, w3: 2 });
    rig.map(top, 0x1000, 0x5000);
    for (const iova of [GiB, 2 * GiB]) rig.unit.translate(SID, iova, R);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
    rig.unit.translate(SID, 3 * GiB, W);
    expect(rig.takeEvents().map((event) => event.address)).toEqual([GiB]);
    rig.unit.translate(SID + 1, GiB, R);
    rig.unit.translate(SID, 4 * GiB, W);
    expect(rig.takeEvents().map((event) => event.sid)).toEqual([SID + 1]);
    rig.submit(device(SID));
    rig.unit.translate(SID, 5 * GiB, W);
    rig.unit.translate(SID, 6 * GiB, W);
    expect(rig.takeEvents().map((event) => event.address)).toEqual([5 * GiB]);
  });
});

describe('the exclusion range', () => {
  const range = (rig: Rig, flags: number): void => {
    rig.unit.write64(0x28, 0x0000_4000, 1);
    rig.unit.write64(0x20, 0xffff_f000 | flags, 0);
  };

  test.each([
    ['open to all', 3, 0, true],
    ['open to devices with EX, and this has it', 1, 0x80, true],
    ['open to devices with EX, and this has not', 1, 0, false],
    ['not enabled', 2, 0x80, false],
  ])('%s', (_, flags, w3, isOpen) => {
    const rig = setUp();
    const top = rig.dte(SID, { w3, rights: 0 });
    rig.map(top, 0xffff_f000, 0x5000);
    range(rig, flags);
    // [0xfffff000, 0x100004fff], both ends included; rights do not count in it.
    for (const iova of [0xffff_f000, 0x1_0000_4fff]) {
      expect(rig.unit.translate(SID, iova, RW)).toBe(isOpen ? iova : PAGE_FAULT);
    }
    for (const iova of [0xffff_efff, 0x1_0000_5000]) expect(rig.unit.translate(SID, iova, RW)).toBe(PAGE_FAULT);
  });

  test('counts for the next request after it was written, cached translation or not', () => {
    const rig = setUp();
    const top = rig.dte(SID);
    rig.map(top, 0xffff_f000, 0x5000);
    expect(rig.unit.translate(SID, 0xffff_f000, R)).toBe(0x5000);
    range(rig, 3);
    expect(rig.unit.translate(SID, 0xffff_f000, R)).toBe(0xffff_f000);
    expect(rig.unit.translate(SID, 0xffff_f008, R)).toBe(0xffff_f008);
    rig.unit.write32(0x20, 0);
    expect(rig.unit.translate(SID, 0xffff_f000, R)).toBe(0x5000);
  });

  test('counts whatever was asked for in between, and when only its low word is written', () => {
    const rig = setUp();
    const top = rig.dte(SID);
    rig.map(top, 0x5000, 0x7000);
    rig.map(top, 0x9000, 0x8000);
    for (const iova of [0x5000, 0x9000]) rig.unit.translate(SID, iova, R);
    rig.unit.write32(0x28, 0x5000);
    rig.unit.write32(0x20, 0x5003);
    expect(rig.unit.translate(SID, 0x5000, R)).toBe(0x5000);
    // A hit outside of it must not make the next one inside a hit.
    expect(rig.unit.translate(SID, 0x9000, R)).toBe(0x8000);
    expect(rig.unit.translate(SID, 0x5000, R)).toBe(0x5000);
    rig.unit.write32(0x28, 0x4000);
    expect(rig.unit.translate(SID, 0x5000, R), 'the limit lies below the base').toBe(0x7000);
    rig.unit.write32(0x28, 0x9000);
    expect(rig.unit.translate(SID, 0x9000, R)).toBe(0x9000);
    rig.unit.write32(0x20, 0);
    rig.unit.translate(SID, 0x9000, R);
    rig.unit.write32(0x20, 0x9003);
    expect(rig.unit.translate(SID, 0x9000, R)).toBe(0x9000);
  });

  test('holds only for entries that are not illegal', () => {
    const rig = setUp();
    rig.dte(SID, { w0: 4 });
    range(rig, 3);
    expect(rig.unit.translate(SID, 0xffff_f000, R)).toBe(ILLEGAL_DTE);
  });
});

describe('the log', () => {
  const fill = (rig: Rig, nr: number): void => {
    for (let count = 0; count < nr; count++) rig.unit.translate(SID, (count + 1) * 4096, R);
  };
  const status = (rig: Rig): number => rig.unit.read32(0x2020);
  const listen = (rig: Rig): AmdviInterruptKind[] => {
    const heard: AmdviInterruptKind[] = [];
    rig.unit.listener = { command: () => {}, doorbell: () => {}, interrupt: (kind) => heard.push(kind) };
    return heard;
  };

  test('writes nothing while it does not run', () => {
    const rig = new Rig().enable(0x1001);
    rig.dte(SID);
    fill(rig, 3);
    expect([rig.unit.read32(0x2018), status(rig)]).toEqual([0, 0x10]);
  });

  test('interrupts when EventLogInt comes to stand, once', () => {
    const rig = new Rig().enable(0x100d);
    const heard = listen(rig);
    rig.dte(SID);
    fill(rig, 3);
    expect([status(rig), heard]).toEqual([0x1a, ['event']]);
    rig.unit.write32(0x2020, 2);
    expect(status(rig)).toBe(0x18);
    fill(rig, 1);
    expect(heard).toEqual(['event', 'event']);
  });

  test('sends no interrupt that is not enabled', () => {
    const rig = setUp();
    const heard = listen(rig);
    rig.dte(SID);
    fill(rig, 3);
    expect(heard).toEqual([]);
    rig.unit.write32(0x18, 0x100d);
    expect(heard).toEqual(['event']);
  });

  test('wraps behind software that keeps up', () => {
    const rig = setUp();
    rig.dte(SID);
    for (let round = 0; round < 4; round++) {
      fill(rig, 200);
      expect(rig.takeEvents().map((event) => event.address)).toEqual(
        Array.from({ length: 200 }, (_, index) => (index + 1) * 4096),
      );
    }
    expect(status(rig) & 1).toBe(0);
    expect(rig.unit.read32(0x2018)).toBe((800 % 256) * 16);
  });

  test('overflows with one entry free, then loses everything until EventLogEn goes from 0 to 1 as well', () => {
    const rig = new Rig().enable(0x100d);
    const heard = listen(rig);
    rig.dte(SID);
    fill(rig, 255);
    expect([status(rig), rig.unit.pendingFaults().length]).toEqual([0x1a, 255]);
    fill(rig, 1);
    expect(status(rig), 'EventOverflow, and EventLogRun has gone').toBe(0x13);
    expect(heard).toEqual(['event', 'overflow']);
    fill(rig, 5);
    expect(rig.unit.pendingFaults()).toHaveLength(255);
    // Making room and clearing the bit is not enough.
    rig.takeEvents();
    rig.unit.write32(0x2020, 1);
    expect(status(rig)).toBe(0x10);
    fill(rig, 1);
    expect(rig.unit.pendingFaults()).toEqual([]);
    rig.unit.write32(0x18, 0x1009);
    rig.unit.write32(0x18, 0x100d);
    expect(status(rig)).toBe(0x18);
    fill(rig, 2);
    expect(rig.unit.pendingFaults().map((event) => event.index)).toEqual([255, 0]);
  });

  test('nothing is logged while EventOverflow stands: a restart does not clear it (3.4, RW1C)', () => {
    const rig = setUp();
    rig.dte(SID);
    fill(rig, 300);
    expect(status(rig) & 9).toBe(1);
    rig.takeEvents();
    rig.unit.write32(0x18, 0x1001);
    rig.unit.write32(0x18, 0x1005);
    expect(status(rig) & 9).toBe(1);
    fill(rig, 1);
    expect(rig.unit.pendingFaults()).toEqual([]);
    rig.unit.write32(0x2020, 1);
    rig.unit.write32(0x18, 0x1001);
    rig.unit.write32(0x18, 0x1005);
    expect(status(rig) & 9).toBe(8);
    fill(rig, 1);
    expect(rig.unit.pendingFaults()).toHaveLength(1);
  });

  test('outside of memory: the event is lost, the tail moves on, and no memory comes to be', () => {
    // The highest frame there is; the ring's second page would lie above all addresses.
    for (const [lo, hi] of [
      [0x5000_0000, 0],
      [0xfffff000 | 0, 0xfffff],
    ]) {
      const rig = new Rig();
      rig.unit.write64(0x00, rig.devices | 1, 0);
      rig.unit.write64(0x10, lo, hi | (9 << 24));
      rig.unit.write32(0x18, 5);
      rig.dte(SID);
      const before = rig.mem.nrFrames;
      fill(rig, 300);
      expect(rig.unit.read32(0x2018)).toBe(300 * 16);
      expect(status(rig)).toBe(0xa);
      expect(rig.unit.pendingFaults()).toEqual([]);
      expect(rig.mem.nrFrames).toBe(before);
    }
  });

  test('does not decide translations: what is lost is blocked all the same', () => {
    const rig = setUp();
    const top = rig.dte(SID);
    rig.map(top, 0x1000, 0x5000);
    fill(rig, 300);
    expect(rig.unit.translate(SID, 0x7000_0000, R)).toBe(PAGE_FAULT);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x5000);
  });
});
