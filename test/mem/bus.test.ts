/** The bus: which addresses reach a device, with which offset, and that windows do not overlap. */
import { expect, test } from 'vitest';
import { Bus, PhysMem } from '../../src/mem/index.ts';
import type { MmioDevice } from '../../src/mem/index.ts';

/** A device that writes down what it is asked and answers its offset plus a base. */
function recorder(answer: number): MmioDevice & { readonly log: string[] } {
  const log: string[] = [];
  return {
    log,
    read32(offset) {
      log.push(`r32 ${offset}`);
      return answer + offset;
    },
    write32(offset, value) {
      log.push(`w32 ${offset} ${value}`);
    },
    write64(offset, lo, hi) {
      log.push(`w64 ${offset} ${lo} ${hi}`);
    },
  };
}

const BASE = 0xfed90000;

test('a window reaches its device from first to last byte, with offsets; outside is memory', () => {
  const mem = new PhysMem();
  const bus = new Bus(mem);
  const device = recorder(100);
  bus.attach(BASE, 0x1000, device);
  mem.store32(BASE - 4, 1);
  mem.store32(BASE + 0x1000, 2);
  mem.store32(BASE, 3);
  expect([BASE - 4, BASE, BASE + 0xffc, BASE + 0x1000].map((paddr) => bus.read32(paddr))).toEqual([1, 100, 4192, 2]);
  bus.write32(BASE + 8, 5);
  bus.write64(BASE + 16, 6, 7);
  expect(device.log).toEqual(['r32 0', 'r32 4092', 'w32 8 5', 'w64 16 6 7']);
  expect(mem.load32(BASE + 8)).toBe(0);
});

test('writes outside of windows are stores, seen by the observer once each', () => {
  const mem = new PhysMem();
  const bus = new Bus(mem);
  const stores: number[] = [];
  mem.observer = { stored: (_, nrWords) => stores.push(nrWords) };
  bus.write32(0x1000, 1);
  bus.write64(0x1008, 2, 3);
  expect([0x1000, 0x1008, 0x100c].map((paddr) => bus.read32(paddr))).toEqual([1, 2, 3]);
  expect(stores).toEqual([1, 2]);
});

test('several windows, above 4 GiB too, keep apart in any order of access', () => {
  const bus = new Bus(new PhysMem());
  const devices = [recorder(1000), recorder(2000), recorder(3000)];
  const bases = [BASE, BASE + 0x1000, 2 ** 40];
  devices.forEach((device, i) => bus.attach(bases[i], 0x1000, device));
  for (const i of [0, 1, 0, 2, 1, 2, 0]) expect(bus.read32(bases[i] + 4)).toBe((i + 1) * 1000 + 4);
});

test.each([
  ['the same window', 0, 0x1000],
  ['one inside', 0x10, 0x10],
  ['one around', -0x1000, 0x3000],
  ['one over the start', -0x10, 0x20],
  ['one over the end', 0xff0, 0x20],
])('%s is refused, and names both', (_, offset, nrBytes) => {
  const bus = new Bus(new PhysMem());
  bus.attach(BASE, 0x1000, recorder(0));
  expect(() => bus.attach(BASE + offset, nrBytes, recorder(1))).toThrow(/overlaps 0xfed90000-0xfed91000/);
  bus.attach(BASE + 0x1000, 0x10, recorder(2));
  bus.attach(BASE - 0x10, 0x10, recorder(3));
  expect(bus.read32(BASE)).toBe(0);
});
