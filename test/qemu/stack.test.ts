/**
 * Our drivers bring up the IOMMUs of a QEMU process and serve the core, the DMA API and VFIO on them: where DMA lands, and which
 * fault it gives, is QEMU's answer.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { AMD_PRESETS, INTEL_PRESETS } from '../../src/drivers/index.ts';
import { VtdUnit } from '../../src/hw/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../src/iommu/index.ts';
import { runStack } from '../../src/oracle/index.ts';
import { DATA_PFN, QemuError, QemuMachine, Qtest, VTD_BASE, sleepMs } from '../../src/qemu/index.ts';
import { needTool } from '../skip.ts';

beforeEach((context) => needTool(context, 'qemu-system-x86_64'));

const LIFETIME_S = 60;
const DATA = DATA_PFN * 4096;

describe.each(['intel', 'amd'] as const)('%s', (arch) => {
  test('map, write, read, unmap: the device reaches the page between the two and not after', () => {
    const machine = new QemuMachine({ arch, lifetimeS: LIFETIME_S });
    try {
      const { board, core, driver } = machine;
      const device = machine.device(0);
      const domain = driver.domainAlloc('paging')!;
      expect([driver.probeDevice(device), domain.ops.attachDev(domain, device)]).toEqual([0, 0]);
      expect(core.map(domain, 0x40000000, DATA, 8192, IOMMU_READ | IOMMU_WRITE)).toBe(0);
      const word = (paddr: number): number => board.qtest.readl(paddr);
      board.devices[0].writeWord(0x40001010, 0xabc);
      expect(word(DATA + 0x1010)).toBe(0xabc);
      board.devices[0].read(0x40001010, 4);
      board.devices[0].write(0x40000020, 4);
      expect(word(DATA + 0x20)).toBe(0xabc);
      expect(core.unmap(domain, 0x40000000, 8192)).toBe(8192);
      board.devices[0].writeWord(0x40001010, 0xdef);
      expect(word(DATA + 0x1010)).toBe(0xabc);
      // FRCD word 3: F, and reason 5, a write to what is not present. QEMU's AMD unit logs nothing.
      if (arch === 'intel') expect(board.qtest.readl(VTD_BASE + 0x22c) & 0x800000ff).toBe(0x80000005 | 0);
    } finally {
      machine.close();
    }
  });
});

describe('random programs of the core, the DMA API and VFIO', () => {
  const presets = [
    ...INTEL_PRESETS.map((preset) => ['intel', preset] as const),
    ...AMD_PRESETS.map((preset) => ['amd', preset] as const),
  ];
  test.each(presets)('%s, preset %s: every DMA lands where iovaToPhys says, or where our unit says', (arch, preset) => {
    for (const lazy of [false, true]) {
      // With caching mode a kernel never unmaps lazily.
      const result = runStack({ arch, preset, seed: 3, steps: 300, lazy, cachingMode: !lazy, lifetimeS: LIFETIME_S });
      expect(result.difference).toBeNull();
      expect(result.landed).toBeGreaterThan(50);
      if (!lazy) expect(result.stale).toBe(0);
    }
  });

  // Intel only: QEMU's AMD unit drops all of a domain at any flush, so its stale pages hardly live to be seen.
  test('lazily unmapped pages are reached until their flush, as our unit says', () => {
    const result = runStack({
      arch: 'intel',
      seed: 5,
      steps: 1500,
      lazy: true,
      cachingMode: false,
      lifetimeS: LIFETIME_S,
    });
    expect(result.difference).toBeNull();
    expect(result.stale).toBeGreaterThan(0);
  });

  test('a unit of ours that caches what QEMU does not is told apart', () => {
    const result = runStack({
      arch: 'intel',
      seed: 1,
      steps: 2000,
      lazy: true,
      makeUnit: (mem, clock) => new VtdUnit(mem, clock, { coherent: true, cachingMode: true }),
      lifetimeS: LIFETIME_S,
    });
    expect(result.difference).not.toBeNull();
  });
});

describe('a QEMU that cannot be used', () => {
  test('is not there', () => {
    expect(() => new Qtest({ binary: 'qemu-system-none', devices: [] })).toThrow(
      /qemu-system-none does not start.*apt-get/s,
    );
  });

  test('refuses its arguments', () => {
    expect(() => new Qtest({ devices: ['-device', 'no-such-device'] })).toThrow(/no-such-device/);
  });

  test('dies: what it was told last is in the message', () => {
    const qtest = new Qtest({ devices: ['-device', 'edu,addr=4'], lifetimeS: 1 });
    qtest.writel(0x1000, 7);
    expect(qtest.readl(0x1000)).toBe(7);
    sleepMs(1500);
    expect(() => qtest.readl(0x1000)).toThrow(/QEMU died[^]*writel 0x1000 0x7/);
    expect(() => qtest.readl(0x1000)).toThrow(QemuError);
    qtest.close();
  });
});
