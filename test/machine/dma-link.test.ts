/** The 6.16 calls on whole machines: what one flush for many links saves, and what a forgotten one shows. */
import { describe, expect, test } from 'vitest';
import { DmaDevice, DmaSpace, Scatterlist } from '../../src/dma/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import type { Machine } from '../../src/machine/index.ts';
import { isPsi, KiB4, NVME, READ, Tape } from '../drivers/lab.ts';

const NR = 8;
const VENDORS = ['intel', 'amd'] as const;

interface Rig {
  readonly machine: Machine;
  readonly dma: DmaDevice;
  readonly sees: (iova: number) => number;
}

function rig(machine: Machine): Rig {
  const domain = machine.driver.domainAlloc('paging')!;
  machine.driver.probeDevice(NVME);
  machine.driver.attachDev(domain, NVME);
  const dma = new DmaDevice(new DmaSpace(machine.core, domain, machine.clock), { platform: machine.platform });
  return { machine, dma, sees: (iova) => machine.unit.translate(NVME.sid, iova, READ) };
}

/** Machines whose hardware caches what is not present. */
const machineOf = (vendor: (typeof VENDORS)[number], tape?: Tape): Machine =>
  vendor === 'intel'
    ? new IntelMachine({ hardware: { cachingMode: true }, ...(tape === undefined ? {} : { listener: tape }) })
    : new AmdMachine({ hardware: { npCache: true } });

describe.each(VENDORS)('%s', (vendor) => {
  test('links show at the sync; before it the device still finds nothing where it looked', () => {
    const { dma, sees } = rig(machineOf(vendor));
    const state = dma.iovaTryAlloc(0, NR * KiB4)!;
    const pages = Array.from({ length: NR }, (_, page) => state.dmaAddress + page * KiB4);
    for (const iova of pages) expect(sees(iova)).toBeLessThan(0);
    pages.forEach((_, page) =>
      expect(state.link(0x4000_0000 + page * 3 * KiB4, page * KiB4, KiB4, 'toDevice')).toBe(0),
    );
    // That is what a missing dma_iova_sync() looks like on such hardware.
    for (const iova of pages) expect(sees(iova)).toBeLessThan(0);
    expect(state.sync(0, NR * KiB4)).toBe(0);
    pages.forEach((iova, page) => expect(sees(iova)).toBe(0x4000_0000 + page * 3 * KiB4));
    expect(state.unlink(KiB4, 2 * KiB4, 'toDevice')).toBe(0);
    expect(pages.map((iova) => sees(iova) >= 0)).toEqual(pages.map((_, page) => page !== 1 && page !== 2));
    expect(state.link(0x5000_0000, KiB4, 2 * KiB4, 'toDevice')).toBe(0);
    expect(state.sync(KiB4, 2 * KiB4)).toBe(0);
    expect([sees(pages[1]), sees(pages[2])]).toEqual([0x5000_0000, 0x5000_1000]);
    expect(state.destroy(NR * KiB4, 'toDevice')).toBe(0);
    for (const iova of pages) expect(sees(iova)).toBeLessThan(0);
    expect(dma.space.nrLive).toBe(0);
  });
});

test('flushes of 8 separate pages under caching mode: 8 by dma_map_page, 1 by dma_map_sg, 1 by links', () => {
  const tape = new Tape();
  const { dma } = rig(machineOf('intel', tape));
  const psis = (): number => tape.take().filter((word) => isPsi(word)).length;
  const paddrs = Array.from({ length: NR }, (_, page) => 0x4000_0000 + page * 3 * KiB4);
  psis();
  for (const paddr of paddrs) dma.mapPage(paddr, KiB4, 'toDevice');
  const byPage = psis();
  dma.mapSg(Scatterlist.of(paddrs.map((paddr) => [paddr, KiB4] as const)), 'toDevice');
  const bySg = psis();
  const state = dma.iovaTryAlloc(0, NR * KiB4)!;
  paddrs.forEach((paddr, page) => state.link(paddr, page * KiB4, KiB4, 'toDevice'));
  state.sync(0, NR * KiB4);
  expect([byPage, bySg, psis()]).toEqual([8, 1, 1]);
});
