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
  SID,
} from './rig.ts';

const PAGE = 0x7000000;
const IQE = 0x10;
const ICE = 0x20;
const ITE = 0x40;

function ready(config: VtdConfig = {}): { rig: Rig; top: number; events: string[] } {
  const rig = new Rig(config);
  const top = rig.context(SID);
  rig.map(top, GiB, PAGE);
  rig.enable();
  const events: string[] = [];
  rig.unit.listener = {
    descriptor: (w0, w1, w2, w3) => events.push([w0, w1, w2, w3].map((word) => (word >>> 0).toString(16)).join(' ')),
    doorbell: (tail) => events.push(`tail ${tail}`),
    interrupt: (kind, address, data) => events.push(`${kind} 0x${address.toString(16)} ${data}`),
  };
  return { rig, top, events };
}

describe('descriptors', () => {
  // kernel.md section 2.5, "worked words": qw0 and qw1 as the driver's authors compute them.
  test('worked words are accepted and do what they say', () => {
    const { rig, top, events } = ready();
    rig.map(top, 0x17f000, PAGE);
    rig.unit.translate(SID, 0x17f000, R);
    rig.unit.translate(SID, GiB, R);
    rig.submit([0x500f2, 0, 0x100008, 0]);
    expect(rig.unit.iotlbEntries().map((entry) => entry.iova)).toEqual([GiB]);
    rig.submit([0x31, 0xa0, 0, 0], [0x50032, 0, 0x100008, 0], [0x25, 2, rig.status, 0]);
    expect(rig.mem.load32(rig.status)).toBe(2);
    expect(rig.unit.read32(0x80)).toBe(4 << 4);
    expect(events).toEqual([
      'tail 1',
      '500f2 0 100008 0',
      'tail 4',
      '31 a0 0 0',
      '50032 0 100008 0',
      `25 2 ${rig.status.toString(16)} 0`,
    ]);
  });

  const good: [string, number[]][] = [
    ['context global', contextGlobal()],
    ['context domain', contextDomain(0xffff)],
    ['context device, all fields full', contextDevice(0xffff, 0xffff, 3)],
    ['IOTLB global', iotlbGlobal()],
    ['IOTLB domain', iotlbDomain(0xffff)],
    ['IOTLB page, largest mask', iotlbPage(0xffff, 0xfffffffff000, 18, 1)],
    ['IOTLB with drain bits', [0xd2, 0, 0, 0]],
    ['device TLB: PFSID, depth, SID, size', [0xf000 | (31 << 16) | 3, 0xfff0ffff, 0xfffff001, -1]],
    ['interrupt entry, global', [0x4, 0, 0, 0]],
    ['interrupt entry, index with mask', [0xf8000014, 0xffff, 0, 0]],
    ['wait with nothing', [0x5, 0, 0, 0]],
    ['fence', [0x45, 0, 0, 0]],
  ];
  test.each(good)('valid: %s', (_name, descriptor) => {
    const { rig } = ready();
    rig.submit(descriptor, rig.wait(7));
    expect([rig.mem.load32(rig.status), rig.unit.read32(0x34), rig.unit.read32(0x80)]).toEqual([7, 0, 0x20]);
  });

  // Third column: IQEI, 3 unknown type, 4 reserved field.
  const bad: [string, number[], number][] = [
    ['type 0', [0, 0, 0, 0], 3],
    ['type 6 in legacy mode', [6, 0, 0, 0], 3],
    ['type 7 in legacy mode', [7, 0, 0, 0], 3],
    ['type 15', [15, 0, 0, 0], 3],
    ['high type bit 9', [0x212, 0, 0, 0], 3],
    ['context granularity 0', [0x01, 0, 0, 0], 4],
    ['context bit 6', [0x51, 0, 0, 0], 4],
    ['context bit 50', [0x11, 0x40000, 0, 0], 4],
    ['context upper half', [0x11, 0, 1, 0], 4],
    ['IOTLB granularity 0', [0x02, 0, 0, 0], 4],
    ['IOTLB bit 8', [0x112, 0, 0, 0], 4],
    ['IOTLB bit 32', [0x12, 1, 0, 0], 4],
    ['IOTLB bit 71', [0x12, 0, 0x80, 0], 4],
    ['IOTLB mask 19', iotlbPage(5, 0, 19), 4],
    ['device TLB bit 4', [0x13, 0, 0, 0], 4],
    ['device TLB bit 65', [0x3, 0, 2, 0], 4],
    ['interrupt entry bit 12', [0x1004, 0, 0, 0], 4],
    ['interrupt entry bit 48', [0x14, 0x10000, 0, 0], 4],
    ['wait bit 7', [0xa5, 0, 0, 0], 4],
    ['wait bit 12', [0x1025, 0, 0, 0], 4],
    ['wait status not aligned', [0x25, 1, 2, 0], 4],
  ];
  test.each(bad)('refused: %s', (_name, descriptor, iqei) => {
    const { rig, events } = ready();
    rig.unit.write32(0x38, 0);
    rig.unit.translate(SID, GiB, R);
    rig.submit(contextGlobal(), descriptor, iotlbGlobal(), rig.wait(9));
    // Head at the bad one, nothing after it done, one event.
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80), rig.unit.read32(0xb0)]).toEqual([IQE, 0x10, iqei]);
    expect(rig.unit.iotlbEntries()).toHaveLength(1);
    expect(rig.mem.load32(rig.status)).toBe(0);
    expect(events.filter((event) => event.startsWith('fault'))).toHaveLength(1);
    // Ringing alone does not help, nor does clearing alone; as Linux does it: overwrite, clear, ring.
    rig.unit.write32(0x88, rig.tail << 4);
    expect(rig.unit.read32(0x80)).toBe(0x10);
    rig.mem.store64(rig.queue + 16, 0x11, 0);
    rig.mem.store64(rig.queue + 24, 0, 0);
    rig.unit.write32(0x34, IQE);
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80)]).toEqual([0, 0x10]);
    rig.unit.write32(0x88, rig.tail << 4);
    expect([rig.unit.read32(0x80), rig.mem.load32(rig.status)]).toEqual([0x40, 9]);
    expect(rig.unit.iotlbEntries()).toHaveLength(0);
  });

  test('a tail beyond the queue is IQE 1, a queue outside memory IQE 2', () => {
    const { rig } = ready();
    rig.unit.write32(0x88, 256 << 4);
    expect([rig.unit.read32(0x34), rig.unit.read32(0xb0), rig.unit.read32(0x80)]).toEqual([IQE, 1, 0]);
    const other = new Rig();
    other.unit.write64(0x90, 0, 0x50);
    other.unit.write32(0x18, 0x04000000);
    other.unit.write32(0x88, 0x10);
    expect([other.unit.read32(0x34), other.unit.read32(0xb0)]).toEqual([IQE, 2]);
  });
});

describe('the ring', () => {
  test('wraps: 1000 waits one by one, head follows tail', () => {
    const { rig } = ready();
    for (let count = 1; count <= 1000; count++) {
      rig.submit(rig.wait(count));
      if (rig.mem.load32(rig.status) !== count) throw new Error(`wait ${count} was not done`);
      expect(rig.unit.read32(0x80)).toBe((count % 256) << 4);
    }
  });

  test('a batch across the end of a 512-entry queue', () => {
    const rig = new Rig();
    rig.table();
    // Two pages that follow each other: the queue page was the second one taken, so take two new ones.
    const first = rig.table();
    expect(rig.table()).toBe(first + 4096);
    (rig as { queue: number }).queue = first;
    rig.unit.write64(0x90, first | 1, 0);
    rig.unit.write32(0x18, 0x04000000);
    rig.submit(...Array.from({ length: 500 }, () => iotlbGlobal()));
    rig.submit(...Array.from({ length: 20 }, () => contextGlobal()), rig.wait(3));
    expect([rig.unit.read32(0x80), rig.mem.load32(rig.status)]).toEqual([(521 - 512) << 4, 3]);
  });

  test('a tail written before QIE is served when QIE comes; turning QIE off drains and resets the head', () => {
    const rig = new Rig();
    rig.unit.write64(0x90, rig.queue, 0);
    rig.submit(iotlbGlobal(), rig.wait(5));
    expect(rig.mem.load32(rig.status)).toBe(0);
    rig.unit.write32(0x18, 0x04000000);
    expect([rig.mem.load32(rig.status), rig.unit.read32(0x80)]).toEqual([5, 0x20]);
    rig.unit.write32(0x18, 0);
    expect([rig.unit.read32(0x1c), rig.unit.read32(0x80)]).toEqual([0, 0]);
  });

  test('the queue is read coherently also by a unit that does not snoop tables', () => {
    const rig = new Rig({}, false).enable();
    rig.submit(rig.wait(6));
    expect(rig.mem.load32(rig.status)).toBe(6);
  });
});

describe('wait with interrupt', () => {
  test('sets IWC and, unmasked, sends one message per service', () => {
    const { rig, events } = ready();
    const { unit } = rig;
    unit.write32(0xa4, 0x31);
    unit.write32(0xa8, 0xfee00000);
    unit.write32(0xac, 1);
    unit.write32(0xa0, 0);
    const messages = (): number => events.filter((event) => event === 'invalidation 0x1fee00000 49').length;
    rig.submit([0x15, 0, 0, 0]);
    expect([unit.read32(0x9c), unit.read32(0xa0), messages()]).toEqual([1, 0, 1]);
    rig.submit([0x15, 0, 0, 0]);
    expect(messages()).toBe(1);
    unit.write32(0x9c, 1);
    expect(unit.read32(0x9c)).toBe(0);
    rig.submit([0x15, 0, 0, 0]);
    expect(messages()).toBe(2);
  });

  test('masked it is pending; unmasking sends it, clearing IWC withdraws it', () => {
    const { rig, events } = ready();
    rig.submit([0x15, 0, 0, 0]);
    expect(rig.unit.read32(0xa0)).toBe(0xc0000000);
    rig.unit.write32(0x9c, 1);
    expect(rig.unit.read32(0xa0)).toBe(0x80000000);
    rig.submit([0x15, 0, 0, 0]);
    rig.unit.write32(0xa0, 0);
    expect(rig.unit.read32(0xa0)).toBe(0);
    expect(events.filter((event) => event.startsWith('invalidation'))).toHaveLength(1);
  });
});

describe('ITE and ICE', () => {
  test('ITE drops the wait, stops, names the device, goes on when cleared', () => {
    const { rig } = ready();
    rig.unit.injectTimeout(0x1234);
    rig.submit([0x3, 0x1234, 0, 0], rig.wait(1), iotlbGlobal(), rig.wait(2));
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80), rig.unit.read32(0xb4)]).toEqual([ITE, 0x20, 0x1234]);
    expect(rig.mem.load32(rig.status)).toBe(0);
    rig.unit.write32(0x88, rig.tail << 4);
    expect(rig.unit.read32(0x80)).toBe(0x20);
    rig.unit.write32(0x34, ITE);
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80), rig.mem.load32(rig.status)]).toEqual([0, 0x40, 2]);
  });

  test('ICE stops before a descriptor and loses nothing', () => {
    const { rig } = ready();
    rig.unit.injectCompletionError(0x55);
    rig.submit(rig.wait(1));
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80), rig.unit.read32(0xb4)]).toEqual([ICE, 0, 0x550000]);
    rig.unit.write32(0x34, ICE);
    expect([rig.unit.read32(0x34), rig.unit.read32(0x80), rig.mem.load32(rig.status)]).toEqual([0, 0x10, 1]);
  });
});

describe('completion delay', () => {
  test('nothing shows before the time has come: status, head, caches', () => {
    const { rig, top } = ready({ completionDelayNs: 1000 });
    rig.unit.translate(SID, GiB, R);
    rig.map(top, GiB, PAGE + 0x1000);
    rig.submit(iotlbPage(5, GiB), rig.wait(4));
    const look = (): number[] => [rig.unit.read32(0x80), rig.mem.load32(rig.status), rig.unit.translate(SID, GiB, R)];
    expect(look()).toEqual([0, 0, PAGE]);
    rig.clock.advanceBy(999);
    rig.unit.step();
    expect(look()).toEqual([0, 0, PAGE]);
    rig.clock.advanceBy(1);
    // Neither step() nor a register read yet: still nothing.
    expect([rig.mem.load32(rig.status), rig.unit.translate(SID, GiB, R)]).toEqual([0, PAGE]);
    rig.unit.step();
    expect(look()).toEqual([0x20, 4, PAGE + 0x1000]);
  });

  test('a register read lets it complete too; a later doorbell joins the work under way', () => {
    const { rig } = ready({ completionDelayNs: 10 });
    rig.submit(rig.wait(1));
    rig.clock.advanceBy(6);
    rig.submit(rig.wait(2));
    rig.clock.advanceBy(4);
    expect(rig.unit.read32(0x80)).toBe(0x20);
    expect(rig.mem.load32(rig.status)).toBe(2);
    rig.submit(rig.wait(3));
    rig.unit.step();
    expect(rig.mem.load32(rig.status)).toBe(2);
  });

  test('register requests stay busy until then', () => {
    const rig = new Rig({ completionDelayNs: 5, qi: false });
    rig.context(SID, { tt: 2 });
    rig.enable();
    rig.unit.translate(SID, 0, R);
    rig.unit.write64(0x28, 0, 0xa0000000);
    rig.unit.write64(0xf8, 0, 0x90000000);
    expect([rig.unit.read32(0x2c), rig.unit.read32(0xfc)]).toEqual([0xa0000000, 0x90000000]);
    expect(rig.unit.contextEntries()).toHaveLength(1);
    rig.clock.advanceBy(5);
    expect([rig.unit.read32(0x2c), rig.unit.read32(0xfc)]).toEqual([0x28000000, 0x12000000]);
    expect(rig.unit.contextEntries()).toHaveLength(0);
  });
});
