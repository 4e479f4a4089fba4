/**
 * Every number that no register holds, in every argument of every call of VFIO type1 and iommufd: an errno, and nothing
 * changes. (Numbers that a register holds, and what the kernel says to them, are in type1.test.ts and iommufd.test.ts.)
 */
import { expect, test } from 'vitest';
import { EINVAL, EOVERFLOW } from '../../src/base/index.ts';
import {
  HWPT_ALLOC_DIRTY_TRACKING,
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Type1Iommu,
  VFIO_DIRTY_GET,
  VFIO_DIRTY_START,
} from '../../src/vfio/index.ts';
import { BUFFER, fixture } from './iommufd-lab.ts';
import { KiB4, MOCK_START, newDevice, world } from './world.ts';

const NO_WORD = [0.5, KiB4 + 0.25, -0.5, NaN, Infinity, -Infinity, 2 ** 53, 2 ** 53 + 2, 2 ** 64, -(2 ** 53)];
const V = 0x7f0000000000;
const IOVA = 0x100000;
const RW = 3;

function type1World() {
  const at = world();
  const type1 = new Type1Iommu(at.core);
  const group = at.group();
  expect(type1.attachGroup(group)).toBe(0);
  at.memory.place(V, 64, 0x40000);
  expect(type1.mapDma({ iova: IOVA, vaddr: V, size: 2 * KiB4, flags: RW }, at.process)).toBe(0);
  type1.registerDevice({ dmaUnmap: () => {} });
  expect(type1.dirtyPages(VFIO_DIRTY_START)).toBe(0);
  const now = (): unknown => [
    type1.dmas.length,
    type1.info.dmaAvail,
    at.process.account.nrLocked,
    [...at.memory.pins],
    [...at.mock.reach],
    at.mock.log.length,
  ];
  return { type1, group, process: at.process, now };
}

const bitmap = () => ({ pgsize: KiB4, nrBytes: 8, data: new Uint8Array(8) });
const pfns = new Float64Array(8);

test.each<[string, (at: ReturnType<typeof type1World>, bad: number) => number]>([
  ['mapDma: iova', ({ type1, process }, iova) => type1.mapDma({ iova, vaddr: V, size: KiB4, flags: RW }, process)],
  ['mapDma: vaddr', ({ type1, process }, vaddr) => type1.mapDma({ iova: 0, vaddr, size: KiB4, flags: RW }, process)],
  ['mapDma: size', ({ type1, process }, size) => type1.mapDma({ iova: 0, vaddr: V, size, flags: RW }, process)],
  ['unmapDma: iova', ({ type1 }, iova) => type1.unmapDma({ iova, size: KiB4 })],
  ['unmapDma: size', ({ type1 }, size) => type1.unmapDma({ iova: IOVA, size })],
  [
    'dirtyPages: iova',
    ({ type1 }, iova) => type1.dirtyPages(VFIO_DIRTY_GET, { iova, size: 2 * KiB4, bitmap: bitmap() }),
  ],
  ['dirtyPages: size', ({ type1 }, size) => type1.dirtyPages(VFIO_DIRTY_GET, { iova: IOVA, size, bitmap: bitmap() })],
  ['pinPages: iova', ({ type1, group }, iova) => type1.pinPages(group, iova, 1, 1, pfns)],
  ['dmaRw: iova', ({ type1 }, iova) => type1.dmaRw(iova, new Uint8Array(4), true)],
])('type1 %s', (_name, call) => {
  for (const bad of NO_WORD) {
    const at = type1World();
    const before = at.now();
    expect(call(at, bad), String(bad)).toBe(EINVAL);
    expect(at.now(), String(bad)).toEqual(before);
  }
});

test.each([0, -1, 1.5, 0.5, NaN, -Infinity])('type1 pinPages: %d pages', (nrPages) => {
  const at = type1World();
  const before = at.now();
  expect(at.type1.pinPages(at.group, IOVA, nrPages, 1, pfns)).toBe(EINVAL);
  at.type1.unpinPages(IOVA, nrPages);
  at.type1.unpinPages(NaN, 1);
  expect(at.now()).toEqual(before);
});

function fdWorld() {
  const at = fixture({ name: '', nrDomains: 1 });
  expect(at.map(BUFFER, 2 * KiB4, MOCK_START)).toBe(MOCK_START);
  const access = at.access(true);
  expect(access.attach(at.ioas)).toBe(0);
  const dev = at.stdev(at.ioas, newDevice());
  if (typeof dev === 'number') throw new Error('attach');
  const hwpt = at.fd.hwptAlloc(dev.bound.id, at.ioas, HWPT_ALLOC_DIRTY_TRACKING);
  expect(at.fd.setDirtyTracking(hwpt, true)).toBe(0);
  const now = (): unknown => [
    at.fd.ioas(at.ioas)?.table.areas.length,
    at.fd.iovaRanges(at.ioas, 99),
    [...at.memory.pins],
    [...at.mock.reach],
    at.process.userAccount?.nrLocked,
    at.fd.nrObjects,
  ];
  return { ...at, access, hwpt, now };
}

const FIXED = IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE | IOAS_MAP_FIXED_IOVA;
const TO = MOCK_START + 2 ** 21;

test.each<[string, (at: ReturnType<typeof fdWorld>, bad: number) => number, number]>([
  [
    'map: iova',
    ({ fd, ioas, process }, iova) => fd.ioasMap(ioas, { vaddr: BUFFER, nrBytes: KiB4, flags: FIXED, iova }, process),
    EOVERFLOW,
  ],
  [
    'map: vaddr',
    ({ fd, ioas, process }, vaddr) => fd.ioasMap(ioas, { vaddr, nrBytes: KiB4, flags: FIXED, iova: TO }, process),
    EOVERFLOW,
  ],
  [
    'map: size',
    ({ fd, ioas, process }, nrBytes) => fd.ioasMap(ioas, { vaddr: BUFFER, nrBytes, flags: FIXED, iova: TO }, process),
    EOVERFLOW,
  ],
  [
    'copy: source',
    ({ fd, ioas }, sourceIova) =>
      fd.ioasCopy(ioas, { source: ioas, sourceIova, nrBytes: KiB4, flags: FIXED, iova: TO }),
    EOVERFLOW,
  ],
  [
    'copy: iova',
    ({ fd, ioas }, iova) =>
      fd.ioasCopy(ioas, { source: ioas, sourceIova: MOCK_START, nrBytes: KiB4, flags: FIXED, iova }),
    EOVERFLOW,
  ],
  [
    'copy: size',
    ({ fd, ioas }, nrBytes) =>
      fd.ioasCopy(ioas, { source: ioas, sourceIova: MOCK_START, nrBytes, flags: FIXED, iova: TO }),
    EOVERFLOW,
  ],
  ['unmap: iova', ({ fd, ioas }, iova) => fd.ioasUnmap(ioas, iova, KiB4), EOVERFLOW],
  ['unmap: size', ({ fd, ioas }, nrBytes) => fd.ioasUnmap(ioas, MOCK_START, nrBytes), EOVERFLOW],
  ['allow: start', ({ fd, ioas }, start) => fd.allowIovas(ioas, [{ start, last: MOCK_START + 2 ** 24 }]), EINVAL],
  ['allow: last', ({ fd, ioas }, last) => fd.allowIovas(ioas, [{ start: MOCK_START, last }]), EINVAL],
  [
    'dirty: iova',
    ({ fd, hwpt }, iova) => fd.dirtyBitmap(hwpt, { iova, nrBytes: KiB4, pageSize: KiB4, data: new Uint8Array(8) }),
    EOVERFLOW,
  ],
  [
    'dirty: size',
    ({ fd, hwpt }, nrBytes) =>
      fd.dirtyBitmap(hwpt, { iova: MOCK_START, nrBytes, pageSize: KiB4, data: new Uint8Array(8) }),
    EOVERFLOW,
  ],
  ['pin: iova', ({ access }, iova) => access.pinPages(iova, KiB4, pfns), EOVERFLOW],
  ['pin: size', ({ access }, nrBytes) => access.pinPages(MOCK_START, nrBytes, pfns), EOVERFLOW],
  ['rw: iova', ({ access }, iova) => access.rw(iova, new Uint8Array(4)), EOVERFLOW],
  ['option', ({ fd, ioas }, value) => fd.optionHugePages(ioas, value), EINVAL],
])('iommufd %s', (_name, call, errno) => {
  for (const bad of NO_WORD) {
    const at = fdWorld();
    const before = at.now();
    expect(call(at, bad), String(bad)).toBe(errno);
    expect(at.now(), String(bad)).toEqual(before);
  }
});
