import { describe, expect, test } from 'vitest';
import type { AmdviConfig, AmdviInterruptKind, AmdviListener } from '../../../src/hw/index.ts';
import { all, allPages, device, DID, page, R, Rig, SID } from './rig.ts';

class Ear implements AmdviListener {
  readonly commands: number[][] = [];
  readonly doorbells: number[] = [];
  readonly interrupts: AmdviInterruptKind[] = [];

  command(...words: number[]): void {
    this.commands.push(words);
  }
  doorbell(tail: number): void {
    this.doorbells.push(tail);
  }
  interrupt(kind: AmdviInterruptKind): void {
    this.interrupts.push(kind);
  }
}

const setUp = (config: AmdviConfig = {}, control?: number): { rig: Rig; ear: Ear } => {
  const rig = new Rig(config);
  const ear = new Ear();
  rig.unit.listener = ear;
  return { rig: rig.enable(control), ear };
};
const head = (rig: Rig): number => rig.unit.read32(0x2000) / 16;
const isRunning = (rig: Rig): boolean => (rig.unit.read32(0x2020) & 0x10) !== 0;
const cell = (rig: Rig): number[] => [rig.mem.load32(rig.status) >>> 0, rig.mem.load32(rig.status + 4) >>> 0];

const completePpr = [SID, 0x70000000, 0, 0x1ff];
const prefetch = [SID | (3 << 24), 0x60000000, 0x5011, 0];
const iotlbPages = [SID | (32 << 24), 0x40000007, 0x7fff_f001, 0x7fff_ffff];
const interruptTable = [SID, 0x50000000, 0, 0];

describe('COMPLETION_WAIT', () => {
  test('stores 64 bits where it is told', () => {
    const { rig } = setUp();
    rig.submit(rig.wait(0x89abcdef, 0x01234567));
    expect(cell(rig)).toEqual([0x89abcdef, 0x01234567]);
    const high = 0xf_ffff_0000_1000;
    rig.mem.store32(high, 7);
    rig.submit([0x1001 | 8, 0x100fffff, 5, 6]);
    expect([rig.mem.load32(high), rig.mem.load32(high + 8), rig.mem.load32(high + 12)]).toEqual([7, 5, 6]);
  });

  test('stores nothing without S, and F asks for nothing more', () => {
    const { rig } = setUp();
    rig.submit([rig.status | 4, 0x10000000, 1, 1]);
    expect(cell(rig)).toEqual([0, 0]);
    rig.submit([rig.status | 5, 0x10000000, 1, 1]);
    expect(cell(rig)).toEqual([1, 1]);
  });

  test('sets ComWaitInt with I, which interrupts when that is enabled', () => {
    const { rig, ear } = setUp({}, 0x1015);
    const wait = [2, 0x10000000, 0, 0];
    rig.submit(wait);
    expect(rig.unit.read32(0x2020)).toBe(0x1c);
    expect(ear.interrupts).toEqual(['completion']);
    rig.submit(wait);
    expect(ear.interrupts, 'the bit still stands').toEqual(['completion']);
    rig.unit.write32(0x2020, 4);
    expect(rig.unit.read32(0x2020)).toBe(0x18);
    rig.submit(wait, wait);
    expect(ear.interrupts).toEqual(['completion', 'completion']);
  });

  test('enabling the interrupt with the bit already set sends it', () => {
    const { rig, ear } = setUp();
    rig.submit([2, 0x10000000, 0, 0]);
    expect(ear.interrupts).toEqual([]);
    rig.unit.write32(0x18, 0x1015);
    expect(ear.interrupts).toEqual(['completion']);
    rig.unit.write32(0x18, 0x1015);
    expect(ear.interrupts).toEqual(['completion']);
  });

  test('to where no memory is: COMMAND_HARDWARE_ERROR with that address, and the buffer stops', () => {
    const { rig } = setUp();
    rig.submit([0x1001, 0x10000080, 1, 1]);
    expect(rig.unit.pendingFaults()).toMatchObject([{ reason: 6, flags: 0x200, sid: 0, address: 0x80_0000_1000 }]);
    expect([head(rig), isRunning(rig)]).toEqual([0, false]);
  });
});

describe('every command', () => {
  test.each([
    ['COMPLETION_WAIT', [0, 0x10000000, 0, 0], {}],
    ['INVALIDATE_DEVTAB_ENTRY', device(0xffff), {}],
    ['INVALIDATE_IOMMU_PAGES', page(0xffff, 0x1000), {}],
    ['INVALIDATE_IOMMU_PAGES, all', allPages(1), {}],
    ['INVALIDATE_IOTLB_PAGES', iotlbPages, {}],
    ['INVALIDATE_INTERRUPT_TABLE', interruptTable, {}],
    ['PREFETCH_IOMMU_PAGES', prefetch, {}],
    ['COMPLETE_PPR_REQUEST', completePpr, { ppr: true }],
    ['INVALIDATE_IOMMU_ALL', all(), {}],
  ] as [string, number[], AmdviConfig][])('%s is accepted and heard', (_, command, config) => {
    const { rig, ear } = setUp(config);
    rig.submit(command, rig.wait(9));
    expect(cell(rig)).toEqual([9, 0]);
    expect([head(rig), isRunning(rig)]).toEqual([2, true]);
    expect(ear.commands).toEqual([command, rig.wait(9)]);
    expect(ear.doorbells).toEqual([2]);
    expect(rig.unit.pendingFaults()).toEqual([]);
  });

  test.each([
    ['operation 0', [0, 0, 0, 0], {}],
    ['operation 9', [0, 0x90000000, 0, 0], {}],
    ['operation 15', [0, 0xf0000000, 0, 0], {}],
    ['a wait with reserved bits 59:52', [0, 0x10100000, 0, 0], {}],
    ['a device with reserved bits', [0x10000, 0x20000000, 0, 0], {}],
    ['a device with an operand', [0, 0x20000001, 0, 0], {}],
    ['a device with a second half', [0, 0x20000000, 0, 1], {}],
    ['pages with a PASID', [1, 0x30000005, 0, 0], {}],
    ['pages with reserved bits', [0, 0x30010005, 0, 0], {}],
    ['guest pages', [0, 0x30000005, 4, 0], {}],
    ['pages with bits 11:3', [0, 0x30000005, 0x800, 0], {}],
    ['device pages with bit 1', [SID, 0x40000000, 2, 0], {}],
    ['device pages without IotlbSup', iotlbPages, { iotlbSup: false }],
    ['an interrupt table with a second half', [0, 0x50000000, 1, 0], {}],
    ['a prefetch with bits 23:16', [0x10000, 0x60000000, 0, 0], {}],
    ['a prefetch without PreFSup', prefetch, { prefetch: false }],
    ['an answer to a page request without PPRSup', completePpr, {}],
    ['an answer with reserved bits', [SID, 0x70000000, 1, 0], { ppr: true }],
    ['all with an operand', [1, 0x80000000, 0, 0], {}],
    ['all without IASup', all(), { ia: false }],
  ] as [string, number[], AmdviConfig][])('%s is illegal: logged, and the buffer stops at it', (_, command, config) => {
    const { rig, ear } = setUp(config);
    rig.submit(rig.wait(1), command, rig.wait(2));
    expect(rig.event(0)).toEqual([0, 0x50000000, rig.buffer + 16, 0]);
    expect([head(rig), isRunning(rig)]).toEqual([1, false]);
    expect(cell(rig)).toEqual([1, 0]);
    expect(ear.commands).toHaveLength(1);
    // Nothing moves until CmdBufEn goes from 0 to 1: not by a doorbell.
    rig.submit(rig.wait(3));
    expect([head(rig), cell(rig)]).toEqual([1, [1, 0]]);
    rig.unit.write32(0x18, 0x1005);
    expect(isRunning(rig), 'the bit was 1 already').toBe(false);
    // Restart with the command mended.
    rig.unit.write32(0x18, 0x0005);
    rig.mem.store64(rig.buffer + 16, 0, 0x10000000);
    rig.mem.store64(rig.buffer + 24, 0, 0);
    rig.unit.write32(0x18, 0x1005);
    expect([head(rig), isRunning(rig), cell(rig)]).toEqual([4, true, [3, 0]]);
  });

  test('a buffer outside of memory: COMMAND_HARDWARE_ERROR with the address of the command', () => {
    const { rig } = setUp();
    rig.unit.write32(0x18, 0x0005);
    rig.unit.write64(0x08, 0x12340000, (8 << 24) | 0x81);
    rig.unit.write32(0x18, 0x1005);
    rig.unit.write32(0x2008, 0x10);
    expect(rig.event(0)).toEqual([0, 0x62000000, 0x12340000, 0x81]);
    expect([head(rig), isRunning(rig)]).toEqual([0, false]);
  });

  test('software that resets the buffer goes on at its start', () => {
    const { rig } = setUp();
    rig.submit([0, 0, 0, 0]);
    rig.unit.write32(0x18, 0x0005);
    rig.unit.write32(0x2000, 0);
    rig.unit.write32(0x2008, 0);
    rig.unit.write32(0x18, 0x1005);
    rig.tail = 0;
    rig.submit(rig.wait(7));
    expect([head(rig), cell(rig)]).toEqual([1, [7, 0]]);
  });
});

describe('the ring', () => {
  test('wraps: 600 waits through 256 entries', () => {
    const { rig } = setUp();
    for (let count = 1; count <= 600; count++) {
      rig.submit(rig.wait(count));
      expect(cell(rig)[0]).toBe(count);
    }
    expect(head(rig)).toBe(600 % 256);
  });

  test('of 32768 entries is read through all its pages', () => {
    const { rig, ear } = setUp();
    const ring = rig.table();
    for (let count = 1; count < 128; count++) expect(rig.table()).toBe(ring + count * 4096);
    rig.unit.write32(0x18, 0x0005);
    rig.unit.write64(0x08, ring, 15 << 24);
    for (let index = 0; index < 32768; index++) rig.mem.store64(ring + index * 16, index & 0xffff, 0x20000000);
    rig.unit.write32(0x18, 0x1005);
    rig.unit.write32(0x2008, 32767 * 16);
    expect(ear.commands).toHaveLength(32767);
    expect(ear.commands.every(([w0], index) => w0 === index)).toBe(true);
    rig.unit.write32(0x2008, 0);
    expect([ear.commands.length, head(rig)]).toEqual([32768, 0]);
  });

  test('with what it already holds when the buffer is enabled', () => {
    const { rig } = setUp({}, 0x0005);
    rig.submit(rig.wait(5));
    expect(cell(rig)).toEqual([0, 0]);
    rig.unit.write32(0x18, 0x1005);
    expect(cell(rig)).toEqual([5, 0]);
  });
});

describe('a device TLB that does not answer', () => {
  test('is logged with the place of the command, and stops nothing', () => {
    const { rig } = setUp();
    rig.unit.injectTimeout(SID);
    rig.submit(rig.wait(1), [SID + 1, 0x40000000, 0, 0], iotlbPages, iotlbPages, rig.wait(2));
    expect(rig.unit.pendingFaults()).toHaveLength(1);
    expect(rig.event(0)).toEqual([SID, 0x70000000, rig.buffer + 2 * 16, 0]);
    expect([cell(rig), isRunning(rig)]).toEqual([[2, 0], true]);
  });
});

describe('delayed completion', () => {
  test('nothing happens before its time, and all of it then', () => {
    const { rig, ear } = setUp({ completionDelayNs: 500 });
    const top = rig.dte(SID);
    rig.map(top, 0x1000, 0x5000);
    rig.unit.translate(SID, 0x1000, R);
    rig.map(top, 0x1000, 0x6000);
    rig.clock.advanceBy(100);
    rig.submit(page(DID, 0x1000));
    rig.clock.advanceBy(400);
    rig.submit(rig.wait(1));
    rig.unit.step();
    expect([head(rig), cell(rig), ear.commands]).toEqual([0, [0, 0], []]);
    expect(rig.unit.translate(SID, 0x1000, R), 'still cached').toBe(0x5000);
    rig.clock.advanceBy(99);
    expect(head(rig)).toBe(0);
    // The first doorbell set the time; what followed is done with it.
    rig.clock.advanceBy(1);
    rig.unit.step();
    expect([head(rig), cell(rig)]).toEqual([2, [1, 0]]);
    expect(rig.unit.translate(SID, 0x1000, R)).toBe(0x6000);
    rig.submit(rig.wait(2));
    expect(cell(rig)).toEqual([1, 0]);
    rig.clock.advanceBy(500);
    expect(head(rig), 'a register access lets it act').toBe(3);
    expect(cell(rig)).toEqual([2, 0]);
  });

  test('a buffer enabled anew takes its time anew', () => {
    const { rig } = setUp({ completionDelayNs: 500 });
    rig.submit(rig.wait(1));
    rig.clock.advanceBy(400);
    rig.unit.write32(0x18, 0x0005);
    rig.unit.write32(0x18, 0x1005);
    rig.clock.advanceBy(499);
    rig.unit.step();
    expect(cell(rig)).toEqual([0, 0]);
    rig.clock.advanceBy(1);
    rig.unit.step();
    expect(cell(rig)).toEqual([1, 0]);
  });

  test('a buffer that is disabled meanwhile keeps its commands', () => {
    const { rig } = setUp({ completionDelayNs: 500 });
    rig.submit(rig.wait(1));
    rig.unit.write32(0x18, 0x0005);
    rig.clock.advanceBy(5000);
    rig.unit.step();
    expect(cell(rig)).toEqual([0, 0]);
    rig.unit.write32(0x18, 0x1005);
    rig.clock.advanceBy(500);
    rig.unit.step();
    expect(cell(rig)).toEqual([1, 0]);
  });
});
