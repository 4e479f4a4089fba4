/**
 * Strict unmapping forced by the hardware: 29b32839725f (Intel, v5.11, "Do not use flush-queue when caching-mode is on") and
 * Nadav Amit's series of July 2021 (AMD, v5.15), through IommuOps.forcesStrict; what an administrator may still do.
 */
import { expect, test } from 'vitest';
import { DmaDevice, DmaSpace } from '../../src/dma/index.ts';
import { AMD_PRESETS, INTEL_PRESETS } from '../../src/drivers/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import { KiB4, NVME, READ } from '../drivers/lab.ts';

const CASES = [
  ...INTEL_PRESETS.map((preset) => ['intel', preset, preset !== 'linux-5.1'] as const),
  ...AMD_PRESETS.map((preset) => ['amd', preset, preset !== 'linux-5.1' && preset !== 'linux-5.3'] as const),
];

test.each(CASES)('%s %s: forced under caching mode: %s', (vendor, preset, forced) => {
  for (const caches of [false, true]) {
    const machine =
      vendor === 'intel'
        ? new IntelMachine({ preset, hardware: { cachingMode: caches } })
        : new AmdMachine({ preset, hardware: { npCache: caches } });
    const { driver, core, clock, pages, unit } = machine;
    const domain = driver.domainAlloc('paging')!;
    driver.probeDevice(NVME);
    driver.attachDev(domain, NVME);
    const freeTables = (tables: readonly number[]): void => tables.forEach((pfn) => pages.free(pfn));
    const space = new DmaSpace(core, domain, clock, { lazy: true, freeTables });
    const isStrict = forced && caches;
    expect(space.cookie.isLazy).toBe(!isStrict);

    const device = new DmaDevice(space);
    const use = (): boolean => {
      const iova = device.mapPage(0x5000_0000, KiB4, 'toDevice');
      expect(device.unmapPage(iova, KiB4, 'toDevice')).toBe(0);
      return space.cookie.nrOpenWindows > 0;
    };
    expect(use()).toBe(!isStrict);
    const wasMapped = device.mapPage(0x6000_0000, KiB4, 'toDevice');
    unit.translate(NVME.sid, wasMapped, READ);
    space.cookie.startQueue();
    device.unmapPage(wasMapped, KiB4, 'toDevice');
    // DMA-FQ by sysfs is not refused, and the device can then reach what was unmapped.
    expect(space.cookie.isLazy).toBe(true);
    expect(unit.translate(NVME.sid, wasMapped, READ)).toBe(0x6000_0000);
    space.cookie.drain();
    expect(unit.translate(NVME.sid, wasMapped, READ)).toBeLessThan(0);
  }
});
