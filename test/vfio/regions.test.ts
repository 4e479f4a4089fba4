/** Apertures that do not begin at 0, and reserved regions of the rarer types, as all three callers see them. */
import { expect, test } from 'vitest';
import { EADDRINUSE, EINVAL } from '../../src/base/index.ts';
import { DmaDevice, DmaSpace } from '../../src/dma/index.ts';
import { ManualClock } from '../../src/base/index.ts';
import type { ResvRegion } from '../../src/iommu/index.ts';
import { IOAS_MAP_FIXED_IOVA, IOAS_MAP_READABLE, Iommufd, Type1Iommu } from '../../src/vfio/index.ts';
import { KiB4, world } from './world.ts';

const V = 0x7f0000000000;
const START = 0x1000_0000;
const LAST = 0x1fff_ffff;
const RELAXABLE: ResvRegion = { start: START + 0x10000, nrBytes: 2 * KiB4, type: 'direct-relaxable', prot: 3 };
const DOORBELLS: ResvRegion = { start: START + 0x20000, nrBytes: 16 * KiB4, type: 'software-msi', prot: 3 };

function setup() {
  const at = world({ apertureStart: START, apertureLast: LAST, regions: [RELAXABLE, DOORBELLS] });
  at.memory.place(V, 64, 0x40000);
  return at;
}

test('type1: the aperture without doorbells; relaxable regions may be mapped; mappings outside keep a group out', () => {
  const at = setup();
  const type1 = new Type1Iommu(at.core);
  expect(type1.attachGroup(at.group())).toBe(0);
  expect(type1.info.iovaRanges).toEqual([
    { start: START, last: DOORBELLS.start - 1 },
    { start: DOORBELLS.start + DOORBELLS.nrBytes, last: LAST },
  ]);
  expect(type1.domains[0].msiBase).toBe(DOORBELLS.start);
  const map = (iova: number): number => type1.mapDma({ iova, vaddr: V, size: KiB4, flags: 3 }, at.process);
  expect(
    [START - KiB4, START, RELAXABLE.start, DOORBELLS.start, LAST + 1 - KiB4, LAST + 1].map((iova) => map(iova)),
  ).toEqual([EINVAL, 0, 0, EINVAL, 0, EINVAL]);
  // Attached once more, with a mapping in its relaxable region: no conflict.
  expect(type1.attachGroup(at.group())).toBe(0);
  type1.release();
  expect(at.leaks()).toEqual([]);
});

test('iommufd: below the aperture and doorbells are reserved, relaxable regions are not', () => {
  const at = setup();
  const fd = new Iommufd(at.core);
  const ioas = fd.ioasAlloc();
  const flags = IOAS_MAP_READABLE | IOAS_MAP_FIXED_IOVA;
  const map = (iova: number): number => fd.ioasMap(ioas, { vaddr: V, nrBytes: KiB4, flags, iova }, at.process);
  const group = at.group();
  const device = fd.bind(group.devices[0], group);
  if (typeof device === 'number') throw new Error('bind');
  // What lies below the aperture keeps the device out, and nothing stays reserved for it.
  expect(map(START - KiB4)).toBe(START - KiB4);
  expect(device.attach(ioas)).toBe(EADDRINUSE);
  expect(fd.iovaRanges(ioas, 9).nrRanges).toBe(1);
  expect(fd.ioasUnmap(ioas, START - KiB4, KiB4)).toBe(KiB4);
  expect(device.attach(ioas)).toBeGreaterThan(0);
  expect([START - KiB4, START, RELAXABLE.start, DOORBELLS.start].map((iova) => map(iova))).toEqual([
    EINVAL,
    START,
    RELAXABLE.start,
    EINVAL,
  ]);
  const free = fd.ioasMap(ioas, { vaddr: V, nrBytes: KiB4, flags: IOAS_MAP_READABLE }, at.process);
  expect(free).toBe(START + KiB4);
  device.detach();
  expect(fd.iovaRanges(ioas, 9).nrRanges).toBe(1);
  device.unbind();
  fd.close();
  expect(at.leaks()).toEqual([]);
});

test('the DMA API: nothing below the aperture, relaxable regions kept, doorbells its own affair', () => {
  const at = setup();
  const domain = at.mock.domainAlloc('paging')!;
  const space = new DmaSpace(at.core, domain, new ManualClock());
  const [device] = at.group().devices;
  expect(space.reserveFor(device)).toBe(0);
  expect([space.iovas.startPfn, space.nrReserved]).toEqual([START / KiB4, 1]);
  // A device that reaches less than the aperture's second page.
  const dma = new DmaDevice(space, { limits: { dmaMask: START + KiB4 - 1 } });
  expect([dma.mapPage(0x5000, KiB4, 'toDevice'), dma.mapPage(0x6000, KiB4, 'toDevice')]).toEqual([START, -12]);
  expect(dma.unmapPage(START, KiB4, 'toDevice')).toBe(0);
});
