import { describe, expect, test } from 'vitest';
import type { VtdConfig } from '../../src/hw/index.ts';
import { GiB, R, Rig, SID, W } from './rig.ts';

const PFO = 1;
const PPF = 2;

/** A unit whose bus 0 has no contexts: every request faults with reason 2. */
function faulty(config: VtdConfig = {}): {
  rig: Rig;
  messages: string[];
  fault: (sid: number, access?: number) => void;
} {
  const rig = new Rig(config);
  rig.context(SID + 0x80, { present: false });
  rig.enable();
  const messages: string[] = [];
  rig.unit.listener = {
    descriptor() {},
    doorbell() {},
    interrupt: (kind, address, data) => messages.push(`${kind} ${address} ${data}`),
  };
  return { rig, messages, fault: (sid, access = R) => void rig.unit.translate(sid, GiB + 0x789, access) };
}
const record = (rig: Rig, index = 0): number[] =>
  [0, 4, 8, 12].map((offset) => rig.unit.read32(0x220 + index * 16 + offset));

describe('fault records', () => {
  test('the words of one record: page, source id, reason, type, F; cleared by writing F', () => {
    const { rig, fault } = faulty();
    fault(SID);
    expect(record(rig)).toEqual([GiB, 0, SID, 0xc0000002]);
    expect(rig.unit.read32(0x34)).toBe(PPF);
    rig.unit.write32(0x22c, 0x40000000);
    expect(rig.unit.read32(0x34)).toBe(PPF);
    rig.unit.write32(0x22c, 0x80000000);
    expect(rig.unit.read32(0x34)).toBe(0);
    expect(record(rig)).toEqual([GiB, 0, SID, 0x40000002]);
  });

  test('high addresses, writes, translation requests', () => {
    const { rig } = faulty();
    rig.unit.translate(SID, 0xabcdef123456, W);
    expect(record(rig)).toEqual([0xef123000, 0xabcd, SID, 0x80000002]);
    rig.clearFaults();
    rig.unit.translate(SID, GiB, R | 4);
    expect(record(rig)).toEqual([GiB, 0, SID, 0xd0000002]);
  });

  test('a 64-bit write clears as well', () => {
    const { rig, fault } = faulty();
    fault(SID);
    rig.unit.write64(0x228, 0, 0x80000000);
    expect(rig.unit.read32(0x34)).toBe(0);
  });

  test('one register: the same source is compressed, another overflows, PFO blocks all until cleared', () => {
    const { rig, fault } = faulty();
    fault(SID);
    fault(SID);
    expect(rig.unit.read32(0x34)).toBe(PPF);
    fault(SID + 1);
    expect(rig.unit.read32(0x34)).toBe(PPF | PFO);
    expect(rig.unit.pendingFaults().map((one) => one.sid)).toEqual([SID]);
    // The record is free again, but PFO still stands.
    rig.unit.write32(0x22c, 0x80000000);
    fault(SID + 2);
    expect(rig.unit.read32(0x34)).toBe(PFO);
    rig.unit.write32(0x34, PFO);
    fault(SID + 3);
    expect(rig.unit.pendingFaults().map((one) => one.sid)).toEqual([SID + 3]);
  });

  test('several registers are a ring; FRI names the oldest that is pending', () => {
    const { rig, fault } = faulty({ nfr: 3 });
    for (const sid of [1, 2, 3]) fault(sid);
    expect(rig.unit.read32(0x34)).toBe(PPF);
    fault(2);
    expect(rig.unit.read32(0x34)).toBe(PPF);
    fault(4);
    expect(rig.unit.read32(0x34)).toBe(PPF | PFO);
    rig.unit.write32(0x34, PFO);
    rig.unit.write32(0x22c, 0x80000000);
    expect(rig.unit.read32(0x34)).toBe(PPF | (1 << 8));
    // Slot 0 is next in turn, and the oldest is still slot 1.
    fault(5);
    expect(rig.unit.pendingFaults().map((one) => [one.index, one.sid])).toEqual([
      [1, 2],
      [2, 3],
      [0, 5],
    ]);
    expect(rig.unit.read32(0x34)).toBe(PPF | (1 << 8));
    rig.unit.write32(0x23c, 0x80000000);
    rig.unit.write32(0x24c, 0x80000000);
    expect(rig.unit.read32(0x34)).toBe(PPF);
  });
});

describe('fault event', () => {
  test('is sent once until everything is serviced', () => {
    const { rig, messages, fault } = faulty({ nfr: 2 });
    rig.unit.write32(0x3c, 0x41);
    rig.unit.write32(0x40, 0xfee00004);
    rig.unit.write32(0x38, 0);
    fault(1);
    fault(2);
    fault(3);
    rig.submit([0, 0, 0, 0]);
    expect(messages).toEqual(['fault 4276092932 65']);
    rig.clearFaults();
    fault(4);
    expect(messages).toHaveLength(2);
  });

  test('masked it is pending until unmasked, or until software has cleared the cause', () => {
    const { rig, messages, fault } = faulty();
    expect(rig.unit.read32(0x38)).toBe(0x80000000);
    fault(1);
    expect(rig.unit.read32(0x38)).toBe(0xc0000000);
    rig.clearFaults();
    expect(rig.unit.read32(0x38)).toBe(0x80000000);
    fault(1);
    // IP is not software's to write.
    rig.unit.write32(0x38, 0x80000000);
    expect(rig.unit.read32(0x38)).toBe(0xc0000000);
    rig.unit.write32(0x38, 0x40000000);
    expect(rig.unit.read32(0x38)).toBe(0);
    expect(messages).toHaveLength(1);
  });
});
