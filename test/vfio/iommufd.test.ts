/** What the kernel's own tests leave out: wrong use, the edges of the address space, cutting, accounting, groups. */
import { describe, expect, test } from 'vitest';
import {
  EADDRINUSE,
  EBUSY,
  EDEADLK,
  EEXIST,
  EINVAL,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
} from '../../src/base/index.ts';
import { Iommu, IommuGroup } from '../../src/iommu/index.ts';
import { IntelMachine } from '../../src/machine/index.ts';
import type { Process } from '../../src/vfio/index.ts';
import {
  HWPT_ALLOC_DIRTY_TRACKING,
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
  IommufdDevice,
  LAST_ADDRESS,
  LockAccount,
} from '../../src/vfio/index.ts';
import type { Fixture } from './iommufd-lab.ts';
import { BUFFER, BUFFER_SIZE, HALF, HUGE, fixture } from './iommufd-lab.ts';
import { KiB4, MOCK_LAST, MOCK_START, MiB2, newDevice } from './world.ts';

const RW = IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE;
const FIXED = RW | IOAS_MAP_FIXED_IOVA;
const one = { name: '', nrDomains: 1 };
const TOP = LAST_ADDRESS + 1;

/** Nothing besides the one area of `setup`. */
function unchanged(at: Fixture): void {
  expect(at.memory.nrPins).toBe(2);
  expect(at.process.userAccount?.nrLocked).toBe(2);
  expect(at.fd.ioas(at.ioas)?.table.areas.length).toBe(1);
}
function setup(): Fixture {
  const at = fixture(one);
  expect(at.map(BUFFER, 2 * KiB4, MOCK_START)).toBe(MOCK_START);
  return at;
}

describe('wrong use returns what the kernel would, and changes nothing', () => {
  test.each<[string, number, number, number, number, number]>([
    ['unknown flag', BUFFER, KiB4, FIXED | 8, MOCK_START + MiB2, EOPNOTSUPP],
    ['no right', BUFFER, KiB4, IOAS_MAP_FIXED_IOVA, MOCK_START + MiB2, EINVAL],
    ['no bytes', BUFFER, 0, FIXED, MOCK_START + MiB2, EINVAL],
    ['negative bytes', BUFFER, -KiB4, FIXED, MOCK_START + MiB2, EINVAL],
    ['all bytes', BUFFER, LAST_ADDRESS, FIXED, MOCK_START, EOVERFLOW],
    ['2^53 bytes', BUFFER, 2 ** 53, FIXED, MOCK_START, EOVERFLOW],
    ['NaN', BUFFER, Number.NaN, FIXED, MOCK_START, EOVERFLOW],
    ['a fraction of a byte', BUFFER, 0.5, FIXED, MOCK_START, EOVERFLOW],
    ['half a smallest page', BUFFER, 1024, FIXED, MOCK_START + MiB2, EINVAL],
    ['iova not aligned', BUFFER, KiB4, FIXED, MOCK_START + MiB2 + 1024, EINVAL],
    ['vaddr not aligned as the iova', BUFFER + 1024, KiB4, FIXED, MOCK_START + MiB2, EINVAL],
    ['iova at the very last byte', BUFFER, KiB4, FIXED, LAST_ADDRESS, EOVERFLOW],
    ['iova wraps', BUFFER, 2 * KiB4, FIXED, TOP - KiB4, EOVERFLOW],
    ['iova negative: reserved up there', BUFFER, KiB4, FIXED, -KiB4, EINVAL],
    ['vaddr wraps', TOP - KiB4, 2 * KiB4, FIXED, MOCK_START + MiB2, EOVERFLOW],
    ['2^53', BUFFER, KiB4, FIXED, 2 ** 53, EOVERFLOW],
    ['below the aperture', BUFFER, KiB4, FIXED, MOCK_START - KiB4, EINVAL],
    ['over its start', BUFFER, 2 * KiB4, FIXED, MOCK_START - KiB4, EINVAL],
    ['over its end (a mask too small)', BUFFER, 2 * KiB4, FIXED, MOCK_LAST + 1 - KiB4, EINVAL],
    ['over an area', BUFFER, KiB4, FIXED, MOCK_START + KiB4, EEXIST],
    ['half the address space, allocated', BUFFER, 2 ** 52, RW, 0, EOVERFLOW],
    ['more than the aperture, allocated', BUFFER, 2 ** 31, RW, 0, ENOSPC],
  ])('map: %s', (_, vaddr, nrBytes, flags, iova, errno) => {
    const at = setup();
    expect(at.fd.ioasMap(at.ioas, { vaddr, nrBytes, flags, iova }, at.process)).toBe(errno);
    expect(at.fd.ioasMap(99, { vaddr: BUFFER, nrBytes: KiB4, flags: RW }, at.process)).toBe(ENOENT);
    unchanged(at);
    at.close();
  });

  test.each<[string, number, number, number]>([
    ['no bytes', MOCK_START, 0, EINVAL],
    ['negative bytes: a range that wraps', MOCK_START, -KiB4, EOVERFLOW],
    ['the last byte of all', LAST_ADDRESS, 1, EOVERFLOW],
    ['wraps', TOP - KiB4, 2 * KiB4, EOVERFLOW],
    ['2^53', 2 ** 53, KiB4, EOVERFLOW],
    ['NaN', Number.NaN, KiB4, EOVERFLOW],
    ['nothing there', MOCK_START + MiB2, KiB4, ENOENT],
    ['a part', MOCK_START, KiB4, ENOENT],
    ['one byte too few', MOCK_START, 2 * KiB4 - 1, ENOENT],
    ['from the middle on', MOCK_START + KiB4, KiB4, ENOENT],
    ['all but the first address', 1, LAST_ADDRESS, EOVERFLOW],
  ])('unmap: %s', (_, iova, nrBytes, errno) => {
    const at = setup();
    expect(at.unmap(iova, nrBytes)).toBe(errno);
    expect(at.unmap(MOCK_START, KiB4, 99)).toBe(ENOENT);
    unchanged(at);
    expect(at.unmap(MOCK_START, 2 * KiB4)).toBe(2 * KiB4);
    expect(at.unmap(MOCK_START, 2 * KiB4)).toBe(ENOENT);
    at.close();
  });

  test.each<[string, Partial<Parameters<Iommufd['ioasCopy']>[1]>, number]>([
    ['unknown flag', { flags: 8 | RW }, EOPNOTSUPP],
    ['no right', { flags: IOAS_MAP_FIXED_IOVA }, EINVAL],
    ['no bytes', { nrBytes: 0 }, EINVAL],
    ['wraps', { sourceIova: TOP - KiB4, nrBytes: 2 * KiB4 }, EOVERFLOW],
    ['2^53', { sourceIova: 2 ** 53 }, EOVERFLOW],
    ['to the last byte', { iova: LAST_ADDRESS }, EOVERFLOW],
    ['from nowhere', { sourceIova: MOCK_START + MiB2 }, ENOENT],
    ['past the end', { nrBytes: 3 * KiB4 }, ENOENT],
    ['from no IOAS', { source: 99 }, ENOENT],
    ['onto itself', { iova: MOCK_START }, EEXIST],
    ['half a smallest page', { nrBytes: 1024 }, EINVAL],
  ])('copy: %s', (_, change, errno) => {
    const at = setup();
    const request = { source: at.ioas, sourceIova: MOCK_START, nrBytes: KiB4, flags: FIXED, iova: MOCK_START + MiB2 };
    expect(at.fd.ioasCopy(at.ioas, { ...request, ...change })).toBe(errno);
    expect(at.fd.ioasCopy(99, request)).toBe(ENOENT);
    unchanged(at);
    at.close();
  });

  test('allowed ranges: empty, backwards, overlapping, of one byte', () => {
    const at = setup();
    const range = (start: number, last: number) => ({ start, last });
    const base = MOCK_START + MiB2;
    for (const ranges of [
      [range(base, base)],
      [range(base + KiB4, base)],
      [range(base, base + KiB4), range(base + KiB4, base + 2 * KiB4)],
      [range(base, 2 ** 53)],
    ]) {
      expect(at.fd.allowIovas(at.ioas, ranges)).toBe(EINVAL);
    }
    expect(at.fd.allowIovas(at.ioas, [range(0, MOCK_START)])).toBe(EADDRINUSE);
    expect(at.fd.allowIovas(99, [])).toBe(ENOENT);
    // They bind allocation, nothing else.
    expect(at.fd.allowIovas(at.ioas, [range(base, base + KiB4 - 1)])).toBe(0);
    expect(at.map(BUFFER, KiB4)).toBe(base);
    expect(at.map(BUFFER, KiB4)).toBe(ENOSPC);
    expect(at.map(BUFFER, KiB4, base + KiB4)).toBe(base + KiB4);
    at.close();
  });

  test('an unmap that meets a cut area on its way: what came before is gone, as in the kernel', () => {
    const at = fixture(one);
    at.map(BUFFER, KiB4, MOCK_START);
    at.map(BUFFER, 2 * KiB4, MOCK_START + KiB4);
    expect(at.unmap(MOCK_START, 2 * KiB4)).toBe(ENOENT);
    expect(at.fd.ioas(at.ioas)?.table.areas.length).toBe(1);
    expect(at.memory.nrPins).toBe(2);
    at.close();
  });
});

describe('allocated IOVAs', () => {
  test('lowest first, never page 0, as aligned as size and address are, 2 MiB at most', () => {
    const at = fixture();
    expect(at.map(BUFFER, KiB4)).toBe(KiB4);
    expect(at.map(BUFFER, KiB4)).toBe(2 * KiB4);
    expect(at.map(BUFFER, 4 * KiB4)).toBe(4 * KiB4);
    // The gap before it is taken when it fits.
    expect(at.map(BUFFER, KiB4)).toBe(3 * KiB4);
    expect(at.map(BUFFER + KiB4, 8 * KiB4)).toBe(8 * KiB4);
    expect(at.map(BUFFER, 2 ** 30)).toBe(MiB2);
    expect(at.map(BUFFER + 0x123, 0x10)).toBe(0x10123);
    at.close();
  });

  test('an address that is less aligned than the domains need is EINVAL', () => {
    const at = fixture(one);
    expect(at.map(BUFFER + 512, HALF)).toBe(EINVAL);
    expect(at.map(BUFFER + HALF, KiB4)).toBe(MOCK_START + HALF);
    at.close();
  });

  test('the top of the address space: the last page is never allocated, and can be mapped', () => {
    const at = fixture();
    const table = at.fd.ioas(at.ioas)!.table;
    expect(table.reserve(0, TOP - 3 * KiB4 - 1, at)).toBe(0);
    expect(at.map(BUFFER, KiB4)).toBe(TOP - 3 * KiB4);
    expect(at.map(BUFFER, KiB4)).toBe(TOP - 2 * KiB4);
    expect(at.map(BUFFER, KiB4)).toBe(ENOSPC);
    expect(at.map(BUFFER, KiB4, TOP - KiB4)).toBe(TOP - KiB4);
    expect(at.unmap(TOP - 3 * KiB4, 3 * KiB4)).toBe(3 * KiB4);
    at.close();
  });

  test('a hole of one byte is not taken, though one byte would fit: the kernel’s comparison', () => {
    const at = fixture();
    const table = at.fd.ioas(at.ioas)!.table;
    expect(table.reserve(0, MOCK_START - 1, at)).toBe(0);
    expect(table.reserve(MOCK_START + 1, LAST_ADDRESS, at)).toBe(0);
    expect(at.map(BUFFER, 1)).toBe(ENOSPC);
    expect(at.map(BUFFER, 1, MOCK_START)).toBe(MOCK_START);
    at.close();
  });
});

describe('cutting areas', () => {
  test('only without large pages, at page boundaries, and where nobody has pins', () => {
    const at = fixture();
    const table = at.fd.ioas(at.ioas)!.table;
    at.map(BUFFER, 8 * KiB4, MOCK_START);
    // No domain: anywhere.
    expect(table.cut([MOCK_START + 99])).toBe(0);
    expect(table.areas.length).toBe(2);
    expect(at.unmap(MOCK_START, 100)).toBe(100);
    expect(table.cut([MOCK_START + 100, MOCK_START + 8 * KiB4 - 1, MOCK_START])).toBe(0);
    expect(table.areas.length).toBe(1);
    at.unmap(0, LAST_ADDRESS);

    at.stdev();
    at.map(BUFFER, 8 * KiB4, MOCK_START);
    expect(table.cut([MOCK_START + KiB4 - 1])).toBe(EINVAL);
    expect(table.disableLargePages()).toBe(EINVAL);
    at.unmap(0, LAST_ADDRESS);
    expect(table.disableLargePages()).toBe(0);
    at.map(BUFFER, 8 * KiB4, MOCK_START);
    expect(at.mock.log.filter((line) => line.startsWith('map')).slice(-8)).toEqual(
      Array.from({ length: 8 }, (_, page) =>
        expect.stringContaining(`map ${(MOCK_START + page * KiB4).toString(16)}>`),
      ),
    );
    expect(table.cut([MOCK_START + HALF - 1])).toBe(EINVAL);
    const access = at.access(true);
    expect(access.attach(at.ioas)).toBe(0);
    expect(access.pinPages(MOCK_START, KiB4, new Float64Array(1))).toBe(0);
    expect(table.cut([MOCK_START + KiB4 - 1])).toBe(EINVAL);
    access.unpinPages(MOCK_START, KiB4);
    expect(table.cut([MOCK_START + KiB4 - 1])).toBe(0);
    expect(at.unmap(MOCK_START, KiB4)).toBe(KiB4);
    at.checkMap(BUFFER + KiB4, MOCK_START + KiB4, 7 * KiB4);
    expect(at.memory.nrPins).toBe(7);
    at.close();
  });
});

describe('accounts', () => {
  test('the user is charged, or the process, or nobody; each page once', () => {
    for (const mode of ['user', 'mm'] as const) {
      const at = fixture(one, 4);
      for (const dev of at.stdevs.slice()) dev.destroy();
      expect(at.fd.destroy(at.ioas)).toBe(0);
      expect(at.fd.setAccountMode(mode)).toBe(0);
      const ioas = at.fd.ioasAlloc();
      const dev = at.stdev(ioas);
      expect(dev).toBeTypeOf('object');
      expect(at.map(BUFFER, 5 * KiB4, MOCK_START, ioas)).toBe(ENOMEM);
      expect(at.map(BUFFER, 4 * KiB4, MOCK_START, ioas)).toBe(MOCK_START);
      const charged = [at.process.account.nrLocked, at.process.userAccount?.nrLocked];
      expect(charged).toEqual(mode === 'mm' ? [4, 0] : [0, 4]);
      // A copy shares the pages.
      const request = { source: ioas, sourceIova: MOCK_START, nrBytes: 4 * KiB4, flags: RW };
      expect(at.fd.ioasCopy(ioas, request)).toBeGreaterThan(0);
      expect(at.map(BUFFER, KiB4, undefined, ioas)).toBe(ENOMEM);
      at.close();
    }
    const at = fixture(one, 4);
    const free: Process = { memory: at.memory, account: new LockAccount(0, true) };
    expect(at.fd.ioasMap(at.ioas, { vaddr: BUFFER, nrBytes: BUFFER_SIZE, flags: RW }, free)).toBe(MOCK_START);
    expect(free.account.nrLocked).toBe(0);
    at.close();
  });
});

describe('in-kernel users', () => {
  test('wrong use', () => {
    const at = fixture(one);
    at.map(BUFFER, 2 * KiB4, MOCK_START);
    at.map(BUFFER, KiB4, MOCK_START + 2 * KiB4, undefined, IOAS_MAP_READABLE);
    at.map(BUFFER, KiB4, MOCK_START + 4 * KiB4, undefined, IOAS_MAP_WRITEABLE);
    const access = at.access(true);
    const pfns = new Float64Array(8);
    expect(access.pinPages(MOCK_START, KiB4, pfns)).toBe(ENOENT);
    expect(access.replace(at.ioas)).toBe(ENOENT);
    expect(access.attach(99)).toBe(ENOENT);
    expect(access.attach(at.ioas)).toBe(0);
    expect(access.attach(at.ioas)).toBe(EINVAL);
    expect(at.fd.destroy(access.id)).toBe(EBUSY);
    for (const [iova, nrBytes, write, errno] of [
      [MOCK_START, 0, false, EINVAL],
      [TOP - KiB4, 2 * KiB4, false, EOVERFLOW],
      [2 ** 53, KiB4, false, EOVERFLOW],
      [MOCK_START + HALF, KiB4, false, EINVAL],
      [MOCK_START, 4 * KiB4, false, ENOENT],
      [MOCK_START, 3 * KiB4, true, -1],
      [MOCK_START + 4 * KiB4, KiB4, false, -1],
      [MOCK_START + MiB2, KiB4, false, ENOENT],
    ] as const) {
      expect(access.pinPages(iova, nrBytes, pfns, write), iova.toString(16)).toBe(errno);
    }
    expect(at.memory.nrPins).toBe(4);
    expect(access.rw(MOCK_START, new Uint8Array(0))).toBe(EINVAL);
    expect(access.rw(MOCK_START + 2 * KiB4, new Uint8Array(8), { write: true })).toBe(-1);
    expect(access.rw(MOCK_START + 3 * KiB4 - 4, new Uint8Array(8))).toBe(ENOENT);
    expect(() => access.unpinPages(MOCK_START, KiB4)).toThrow(RangeError);
    expect(() => at.fd.createAccess({}, true)).toThrow(RangeError);
    at.close();
  });

  test('one that does not let go: EDEADLK, the area stays and takes no new pins', () => {
    const at = fixture(one);
    at.map(BUFFER, KiB4, MOCK_START);
    let nrTold = 0;
    const access = at.fd.createAccess({ unmap: () => (nrTold += 1) }, true);
    expect(access.attach(at.ioas)).toBe(0);
    expect(access.pinPages(MOCK_START, KiB4, new Float64Array(1))).toBe(0);
    expect(at.unmap(MOCK_START, KiB4)).toBe(EDEADLK);
    expect(nrTold).toBe(101);
    expect(access.pinPages(MOCK_START, KiB4, new Float64Array(1))).toBe(EINVAL);
    expect(access.rw(MOCK_START, new Uint8Array(1))).toBe(EINVAL);
    access.unpinPages(MOCK_START, KiB4);
    expect(at.unmap(MOCK_START, KiB4)).toBe(KiB4);
    at.fd.destroyAccess(access);
    at.close();
  });

  test('a user that pins keeps an IOAS page-aligned', () => {
    const at = fixture();
    expect(at.map(BUFFER, 100, MOCK_START)).toBe(MOCK_START);
    const access = at.access(true);
    expect(access.attach(at.ioas)).toBe(EADDRINUSE);
    at.unmap(MOCK_START, 100);
    expect(access.attach(at.ioas)).toBe(0);
    expect(at.map(BUFFER, 100, MOCK_START)).toBe(EINVAL);
    access.detach();
    expect(at.map(BUFFER, 100, MOCK_START)).toBe(MOCK_START);
    at.close();
  });
});

describe('devices and groups', () => {
  test('a group has one page table; its devices join and move together; the last one leaves it', () => {
    const at = fixture();
    const [first, second] = [newDevice(), newDevice()];
    const group = at.group(first, second);
    const bound = [first, second].map((device) => {
      const result = at.fd.bind(device, group);
      if (!(result instanceof IommufdDevice)) throw new Error('bind');
      return result;
    });
    at.map(BUFFER, KiB4, MOCK_START);
    const id = bound[0].attach(at.ioas);
    expect(id).toBeGreaterThan(0);
    expect(bound[0].attach(at.ioas)).toBe(EINVAL);
    expect(bound[1].replace(at.ioas)).toBe(EINVAL);
    const other = at.fd.ioasAlloc();
    expect(bound[1].attach(other)).toBe(EINVAL);
    expect(bound[1].attach(id)).toBe(id);
    expect(at.fd.destroy(id)).toBe(EBUSY);
    expect(bound[1].replace(other)).toBeGreaterThan(0);
    expect(at.mock.dma(first, MOCK_START, false)).toBe(-1);
    // Their reserved ranges moved with them.
    expect(at.fd.iovaRanges(at.ioas, 9).nrRanges).toBe(1);
    expect(at.fd.iovaRanges(at.ioas, 9).ranges[0].start).toBe(0);
    expect(at.fd.iovaRanges(other, 9).ranges[0].start).toBe(MOCK_START);
    bound[0].detach();
    expect(at.mock.attached.size).toBe(2);
    bound[1].detach();
    expect(at.mock.attached.size).toBe(0);
    expect(() => bound[1].detach()).toThrow(RangeError);
    for (const dev of bound) dev.unbind();
    expect(group.isClaimed).toBe(false);
    at.close();
  });

  test('somebody else’s device; a device of no group of ours', () => {
    const at = fixture();
    const device = newDevice();
    const group = at.group(device);
    expect(group.claimDma({})).toBe(0);
    expect(at.fd.bind(device, group)).toBe(EBUSY);
    expect(at.fd.bind(newDevice(), group)).toBe(EINVAL);
    at.close();
  });

  test('a replace that fails leaves everything where it was', () => {
    for (let nth = 1; ; nth++) {
      const at = fixture();
      const other = at.fd.ioasAlloc();
      at.map(BUFFER, 4 * KiB4, MOCK_START);
      at.map(BUFFER + 8 * KiB4, 4 * KiB4, MOCK_START, other);
      const dev = at.stdev();
      if (typeof dev === 'number') throw new Error('attach');
      at.injector.arm(nth);
      const result = dev.bound.replace(other);
      const expected = at.injector.fired ? BUFFER : BUFFER + 8 * KiB4;
      expect(result < 0).toBe(at.injector.fired);
      const pfn = at.memory.frames.get(expected / KiB4) ?? -1;
      expect(at.mock.dma(dev.device, MOCK_START, true)).toBe(pfn * KiB4);
      expect(at.memory.nrPins).toBe(4);
      at.close();
      if (!at.injector.fired) break;
    }
  });

  test('a domain without leaves of a page is of no use', () => {
    const machine = new IntelMachine();
    const group = new IommuGroup(machine.core, machine.driver, 0);
    const device = newDevice();
    expect(group.addDevice(device)).toBe(0);
    const domainAlloc = machine.driver.domainAlloc.bind(machine.driver);
    machine.driver.domainAlloc = (type) => {
      const domain = domainAlloc(type);
      if (domain !== null) Object.defineProperty(domain, 'pgsizeBitmap', { value: 0x10000 });
      return domain;
    };
    const fd = new Iommufd(new Iommu());
    const bound = fd.bind(device, group);
    if (!(bound instanceof IommufdDevice)) throw new Error('bind');
    expect(bound.attach(fd.ioasAlloc())).toBe(EINVAL);
    expect(group.domain).toBeNull();
    // And the driver has no dirty tracking.
    machine.driver.domainAlloc = domainAlloc;
    const ioas = fd.ioasAlloc();
    expect(fd.hwptAlloc(bound.id, ioas, HWPT_ALLOC_DIRTY_TRACKING)).toBe(EOPNOTSUPP);
    const hwpt = fd.hwptAlloc(bound.id, ioas);
    expect(fd.setDirtyTracking(hwpt, true)).toBe(EOPNOTSUPP);
    expect(fd.dirtyBitmap(hwpt, { iova: 0, nrBytes: KiB4, pageSize: KiB4, data: new Uint8Array(1) })).toBe(EOPNOTSUPP);
    bound.unbind();
    fd.close();
  });
});

describe('dirty bitmaps', () => {
  test('tracking starts clean: what was dirty before it was stopped is forgotten', () => {
    const at = fixture();
    const dev = at.stdev();
    if (typeof dev === 'number') throw new Error('attach');
    const hwpt = at.fd.hwptAlloc(dev.bound.id, at.ioas, HWPT_ALLOC_DIRTY_TRACKING);
    expect(dev.bound.replace(hwpt)).toBe(hwpt);
    at.map(BUFFER, KiB4, MOCK_START);
    expect(at.fd.setDirtyTracking(hwpt, true)).toBe(0);
    at.mock.dma(dev.device, MOCK_START, true);
    expect(at.fd.setDirtyTracking(hwpt, false)).toBe(0);
    expect(at.fd.setDirtyTracking(hwpt, true)).toBe(0);
    const request = { iova: MOCK_START, nrBytes: KiB4, pageSize: HALF, data: new Uint8Array(1) };
    expect(at.fd.dirtyBitmap(hwpt, request)).toBe(0);
    expect([...request.data]).toEqual([0]);
    at.close();
  });

  test('wrong use; a gap ends the bits and is no error (6.12 drops it)', () => {
    const at = fixture();
    const dev = at.stdev();
    if (typeof dev === 'number') throw new Error('attach');
    const hwpt = at.fd.hwptAlloc(dev.bound.id, at.ioas, HWPT_ALLOC_DIRTY_TRACKING);
    expect(dev.bound.replace(hwpt)).toBe(hwpt);
    at.map(BUFFER, KiB4, MOCK_START);
    at.map(BUFFER, KiB4, MOCK_START + 2 * KiB4);
    expect(at.fd.setDirtyTracking(hwpt, true)).toBe(0);
    const good = { iova: MOCK_START, nrBytes: 4 * KiB4, pageSize: HALF, data: new Uint8Array(1) };
    for (const [change, errno] of [
      [{ nrBytes: 0 }, EINVAL],
      [{ iova: TOP - KiB4, nrBytes: 2 * KiB4 }, EOVERFLOW],
      [{ iova: 2 ** 53 }, EOVERFLOW],
      [{ iova: MOCK_START + 1024 }, EINVAL],
      [{ nrBytes: 1024 }, EINVAL],
      [{ pageSize: 0 }, EINVAL],
      [{ pageSize: HUGE }, EINVAL],
      [{ data: new Uint8Array(0) }, EINVAL],
    ] as const) {
      expect(at.fd.dirtyBitmap(hwpt, { ...good, ...change })).toBe(errno);
    }
    for (const iova of [MOCK_START, MOCK_START + 2 * KiB4]) at.mock.dma(dev.device, iova, true);
    expect(at.fd.dirtyBitmap(hwpt, good)).toBe(0);
    expect([...good.data]).toEqual([1]);
    const behind = { iova: MOCK_START + 2 * KiB4, nrBytes: KiB4, pageSize: KiB4, data: new Uint8Array(1) };
    expect(at.fd.dirtyBitmap(hwpt, behind)).toBe(0);
    expect([...behind.data]).toEqual([1]);
    expect(at.fd.dirtyBitmap(99, good)).toBe(ENOENT);
    at.close();
  });
});
