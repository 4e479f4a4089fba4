/**
 * The cases of Linux 6.12 tools/testing/selftests/iommu/iommufd.c that concern IOASes, hardware page tables and in-kernel
 * users, written anew. A test is named after the TEST_F whose facts it has; the variants are those of the fixture.
 */
import { describe, expect, test } from 'vitest';
import {
  EADDRINUSE,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  EMSGSIZE,
  ENODEV,
  ENOENT,
  EOPNOTSUPP,
  Rng,
} from '../../src/base/index.ts';
import {
  HWPT_ALLOC_DIRTY_TRACKING,
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  IommufdAccess,
  VFIO_DMA_MAP_READ,
  VFIO_DMA_MAP_WRITE,
  VFIO_DMA_UNMAP_ALL,
  VFIO_TYPE1V2_IOMMU,
  VFIO_TYPE1_IOMMU,
  VfioCompat,
  testBit,
} from '../../src/vfio/index.ts';
import type { Fixture, Stdev, Variant } from './iommufd-lab.ts';
import { BUFFER, BUFFER_SIZE, HALF, HUGE, LAST_ADDRESS, fixture, frames } from './iommufd-lab.ts';
import type { MockDomain } from './world.ts';
import { KiB4, MOCK_LAST, MOCK_START, newDevice } from './world.ts';

const PAGE = KiB4;

function made(result: Stdev | number): Stdev {
  expect(result).toBeTypeOf('object');
  return result as Stdev;
}

describe('iommufd', () => {
  test('simple_close', () => fixture().close());

  // The part about struct layouts and unknown requests has no counterpart: requests are calls here.
  test('cmd_fail: no such id', () => {
    const at = fixture();
    expect(at.fd.destroy(0)).toBe(ENOENT);
    expect(at.fd.destroy(77)).toBe(ENOENT);
    at.close();
  });

  test('global_options: who is charged, while there are no objects', () => {
    const at = fixture();
    expect(at.fd.accountMode).toBe('user');
    expect(at.fd.setAccountMode('mm')).toBe(EBUSY);
    expect(at.fd.destroy(at.ioas)).toBe(0);
    expect(at.fd.setAccountMode('mm')).toBe(0);
    expect(at.fd.accountMode).toBe('mm');
    expect(at.fd.optionHugePages(0)).toBe(ENOENT);
    expect(at.fd.optionHugePages(0, 1)).toBe(ENOENT);
    at.close();
  });
});

const IOAS_VARIANTS: Variant[] = [
  { name: 'no_domain', nrDomains: 0 },
  { name: 'mock_domain', nrDomains: 1 },
  { name: 'two_mock_domain', nrDomains: 2 },
  { name: 'mock_domain_limit', nrDomains: 1, memoryLimit: 16 },
];

describe.each(IOAS_VARIANTS)('iommufd_ioas $name', (variant) => {
  const hasDomain = variant.nrDomains > 0;

  test('ioas_auto_destroy', () => fixture(variant).close());

  test('ioas_destroy: not while a page table uses it', () => {
    const at = fixture(variant);
    expect(at.fd.destroy(at.ioas)).toBe(hasDomain ? EBUSY : 0);
    at.close();
  });

  test('alloc_hwpt_nested: what it checks before nesting', () => {
    const at = fixture(variant);
    const { fd, ioas, stdevs } = at;
    if (hasDomain) {
      const [{ bound }] = stdevs;
      expect(fd.hwptAlloc(ioas, bound.id)).toBe(ENOENT);
      expect(fd.hwptAlloc(bound.id, bound.id)).toBe(EINVAL);
      expect(fd.hwptAlloc(bound.id, ioas, ~0)).toBe(EOPNOTSUPP);
      const parent = fd.hwptAlloc(bound.id, ioas);
      expect(bound.replace(parent)).toBe(parent);
      expect(fd.destroy(parent)).toBe(EBUSY);
      expect(bound.replace(ioas)).toBeGreaterThan(0);
      expect(fd.destroy(parent)).toBe(0);
    } else {
      expect(fd.hwptAlloc(0, ioas)).toBe(ENOENT);
    }
    at.close();
  });

  test('hwpt_attach: a device directly on a page table', () => {
    const at = fixture(variant);
    const device = newDevice();
    at.mock.kinds.set(device, 'kind 0');
    const result = at.stdev(hasDomain ? at.stdevs[0].hwptId : 99, device);
    if (hasDomain) expect(made(result).hwptId).toBe(at.stdevs[0].hwptId);
    else expect(result).toBe(ENOENT);
    at.close();
  });

  test('ioas_area_destroy: areas do not keep it', () => {
    const at = fixture(variant);
    expect(at.map(BUFFER, PAGE, at.base)).toBe(at.base);
    expect(at.fd.destroy(at.ioas)).toBe(hasDomain ? EBUSY : 0);
    at.close();
  });

  test('ioas_area_auto_destroy', () => {
    const at = fixture(variant);
    for (let page = 0; page < 10; page++)
      expect(at.map(BUFFER, PAGE, at.base + page * PAGE)).toBe(at.base + page * PAGE);
    at.close();
  });

  test('area', () => {
    const at = fixture(variant);
    const { base } = at;
    for (let page = 0; page < 10; page++) expect(at.unmap(page * PAGE, PAGE)).toBe(ENOENT);
    for (let page = 0; page < 10; page++) at.map(BUFFER, PAGE, base + page * PAGE);
    for (let page = 0; page < 10; page++) expect(at.unmap(base + page * PAGE, PAGE)).toBe(PAGE);
    // Split fails.
    expect(at.map(BUFFER, 2 * PAGE, base + 16 * PAGE)).toBe(base + 16 * PAGE);
    expect(at.unmap(base + 16 * PAGE, PAGE)).toBe(ENOENT);
    expect(at.unmap(base + 17 * PAGE, PAGE)).toBe(ENOENT);
    // Over map fails.
    for (const [page, nr] of [
      [16, 2],
      [16, 1],
      [17, 1],
      [15, 2],
      [15, 3],
    ]) {
      expect(at.map(BUFFER, nr * PAGE, base + page * PAGE)).toBe(EEXIST);
    }
    expect(at.unmap(0, LAST_ADDRESS)).toBe(2 * PAGE);
    expect(at.unmap(0, LAST_ADDRESS)).toBe(0);
    at.close();
  });

  test('unmap_fully_contained_areas', () => {
    const at = fixture(variant);
    const base = at.base + 4 * PAGE;
    for (let nr = 0; nr < 4; nr++) at.map(BUFFER, 8 * PAGE, base + nr * 16 * PAGE);
    expect(at.unmap(base - 4 * PAGE, 8 * PAGE)).toBe(ENOENT);
    expect(at.unmap(base + 3 * 16 * PAGE + 8 * PAGE - 4 * PAGE, 8 * PAGE)).toBe(ENOENT);
    expect(at.unmap(base - 4 * PAGE, 3 * 16 * PAGE + 8 * PAGE + 4 * PAGE)).toBe(32 * PAGE);
    at.close();
  });

  const lowBit = (value: number): number => value & -value;

  test('area_auto_iova', () => {
    const at = fixture(variant);
    const table = at.fd.ioas(at.ioas)!.table;
    const lengths = Array.from({ length: 10 }, (_, index) => (index + 1) * PAGE);
    const round = (vaddr: number, check: (iova: number, length: number) => void): void => {
      const iovas = lengths.map((length) => at.map(vaddr, length));
      iovas.forEach((iova, index) => {
        expect(iova).toBeGreaterThan(0);
        expect(iova % lowBit(lengths[index])).toBe(0);
        check(iova, lengths[index]);
      });
      iovas.forEach((iova, index) => expect(at.unmap(iova, lengths[index])).toBe(lengths[index]));
    };
    const single = Array.from({ length: 10 }, () => at.map(BUFFER, PAGE));
    for (const iova of single) expect(at.unmap(iova, PAGE)).toBe(PAGE);
    round(hasDomain ? BUFFER : 2 ** 31, () => {});
    // Avoids a reserved region.
    expect(table.reserve(4 * PAGE, 104 * PAGE - 1, at)).toBe(0);
    round(BUFFER, (iova) => expect(iova > 4 * PAGE && iova < 104 * PAGE).toBe(false));
    expect(at.fd.allowIovas(at.ioas, [{ start: PAGE, last: 600 * PAGE }])).toBe(EADDRINUSE);
    const allowed = hasDomain
      ? { start: MOCK_START + PAGE, last: MOCK_START + 600 * PAGE - 1 }
      : { start: 200 * PAGE, last: 600 * PAGE - 1 };
    expect(at.fd.allowIovas(at.ioas, [allowed])).toBe(0);
    round(BUFFER, (iova, length) => {
      expect(iova).toBeGreaterThanOrEqual(allowed.start);
      expect(iova + length - 1).toBeLessThanOrEqual(allowed.last);
    });
    at.close();
  });

  test('area_allowed', () => {
    const at = fixture(variant);
    const table = at.fd.ioas(at.ioas)!.table;
    const allowed = { start: at.base, last: at.base + 600 * PAGE };
    expect(at.fd.allowIovas(at.ioas, [allowed])).toBe(0);
    expect(table.reserve(at.base + PAGE, at.base + 2 * PAGE - 1, at)).toBe(EADDRINUSE);
    expect(at.fd.allowIovas(at.ioas, [])).toBe(0);
    expect(table.reserve(at.base + PAGE, at.base + 2 * PAGE - 1, at)).toBe(0);
    expect(at.fd.allowIovas(at.ioas, [allowed])).toBe(EADDRINUSE);
    at.close();
  });

  test('copy_area', () => {
    const at = fixture(variant);
    at.map(BUFFER, PAGE, at.base);
    const flags = IOAS_MAP_FIXED_IOVA | IOAS_MAP_WRITEABLE;
    const from = { source: at.ioas, sourceIova: at.base, nrBytes: PAGE, flags };
    expect(at.fd.ioasCopy(at.ioas, { ...from, iova: at.base + PAGE })).toBe(at.base + PAGE);
    at.checkMap(BUFFER, at.base + PAGE, PAGE);
    const other = at.fd.ioasAlloc();
    expect(at.fd.ioasCopy(other, { ...from, iova: 0 })).toBe(0);
    expect(at.memory.nrPins).toBe(hasDomain ? 1 : 0);
    at.close();
  });

  test('iova_ranges', () => {
    const at = fixture(variant);
    const { fd, ioas } = at;
    const aperture = { start: MOCK_START, last: MOCK_LAST };
    const all = hasDomain ? [aperture] : [{ start: 0, last: LAST_ADDRESS }];
    expect(fd.iovaRanges(ioas, 100)).toEqual({ errno: 0, ranges: all, nrRanges: 1, alignment: hasDomain ? HALF : 1 });
    expect(fd.iovaRanges(ioas, 0)).toMatchObject({ errno: EMSGSIZE, ranges: [], nrRanges: 1 });
    expect(fd.ioas(ioas)!.table.reserve(PAGE, 2 * PAGE - 1, at)).toBe(0);
    const two = hasDomain
      ? [aperture]
      : [
          { start: 0, last: PAGE - 1 },
          { start: 2 * PAGE, last: LAST_ADDRESS },
        ];
    expect(fd.iovaRanges(ioas, 100)).toMatchObject({ errno: 0, ranges: two, nrRanges: two.length });
    expect(fd.iovaRanges(ioas, 1)).toMatchObject({
      errno: hasDomain ? 0 : EMSGSIZE,
      ranges: two.slice(0, 1),
      nrRanges: two.length,
    });
    at.close();
  });

  test('access_domain_destory: unpinning across a large leaf that an in-kernel user holds a page of', () => {
    const at = fixture({ ...variant, huge: true });
    const nrPages = 1024;
    at.memory.place(2 ** 40, nrPages, 0x100000);
    expect(at.map(2 ** 40, nrPages * PAGE, at.base)).toBe(at.base);
    const access = at.access(true);
    expect(access.attach(at.ioas)).toBe(0);
    const pfns = new Float64Array(1);
    expect(access.pinPages(at.base + PAGE, PAGE, pfns)).toBe(0);
    expect(pfns[0]).toBe(0x100001);
    for (const one of at.stdevs.slice()) one.destroy();
    expect(at.memory.nrPins).toBe(1);
    expect(at.mock.reach.size).toBe(0);
    access.unpinPages(at.base + PAGE, PAGE);
    expect(at.memory.nrPins).toBe(0);
    at.close();
  });

  test('access_pin', () => {
    const at = fixture(variant);
    const access = at.access(true);
    expect(access.attach(at.ioas)).toBe(0);
    const pfns = new Float64Array(16);
    const pin = (nr: number): void => {
      expect(access.pinPages(MOCK_START, nr * PAGE, pfns)).toBe(0);
      for (let page = 0; page < nr; page++) expect(pfns[page]).toBe(at.memory.frames.get(BUFFER / PAGE + page));
    };
    for (let nr = 1; nr < 16; nr++) {
      expect(at.map(BUFFER, BUFFER_SIZE, MOCK_START)).toBe(MOCK_START);
      pin(nr);
      access.unpinPages(MOCK_START, nr * PAGE);
      // Double user.
      pin(nr);
      pin(nr);
      access.unpinPages(MOCK_START, nr * PAGE);
      access.unpinPages(MOCK_START, nr * PAGE);
      // Add and remove a domain with a user.
      pin(nr);
      const one = made(at.stdev());
      at.checkMap(BUFFER, MOCK_START, BUFFER_SIZE);
      at.checkRefs(BUFFER, BUFFER_SIZE, 1);
      one.destroy();
      access.unpinPages(MOCK_START, nr * PAGE);
      expect(at.unmap(MOCK_START, BUFFER_SIZE)).toBe(BUFFER_SIZE);
      expect(at.memory.nrPins).toBe(0);
    }
    at.close();
  });

  test('access_pin_unmap: the user is told and lets go', () => {
    const at = fixture(variant);
    const told: string[] = [];
    const access: IommufdAccess = at.fd.createAccess(
      {
        unmap: (iova, nrBytes) => {
          told.push(`${iova.toString(16)}+${nrBytes.toString(16)}`);
          access.unpinPages(MOCK_START, BUFFER_SIZE);
        },
      },
      true,
    );
    expect(access.attach(at.ioas)).toBe(0);
    at.map(BUFFER, BUFFER_SIZE, MOCK_START);
    expect(access.pinPages(MOCK_START, BUFFER_SIZE, new Float64Array(16))).toBe(0);
    expect(at.unmap(MOCK_START, BUFFER_SIZE)).toBe(BUFFER_SIZE);
    expect(told).toEqual(['1000000+10000']);
    expect(() => access.unpinPages(MOCK_START, BUFFER_SIZE)).toThrow(RangeError);
    access.unmapped = () => {};
    at.fd.destroyAccess(access);
    at.close();
  });

  /** check_access_rw: around a page boundary, every length, both directions; then all of it. */
  function checkRw(at: Fixture, access: IommufdAccess, iova: number, slow: boolean): void {
    const rng = new Rng(7);
    const random = (nr: number): Uint8Array => Uint8Array.from({ length: nr }, () => rng.below(256));
    at.memory.copyUser(BUFFER, random(BUFFER_SIZE), true);
    const behind = (offset: number, nr: number): Uint8Array => {
      const bytes = new Uint8Array(nr);
      at.memory.copyUser(BUFFER + offset, bytes, false);
      return bytes;
    };
    let wrong = 0;
    const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
    for (let offset = PAGE - 50; offset < PAGE + 50; offset += 7) {
      for (let nr = 1; nr < 64; nr += 3) {
        const got = new Uint8Array(nr);
        wrong -= access.rw(iova + offset, got, { slow });
        if (!same(got, behind(offset, nr))) wrong += 1;
        const put = random(nr);
        wrong -= access.rw(iova + offset, put, { slow, write: true });
        if (!same(put, behind(offset, nr))) wrong += 1;
      }
    }
    expect(wrong).toBe(0);
    const got = new Uint8Array(BUFFER_SIZE);
    expect(access.rw(iova, got, { slow })).toBe(0);
    expect(same(got, behind(0, BUFFER_SIZE))).toBe(true);
  }

  test('access_rw', () => {
    const at = fixture(variant);
    const access = at.access();
    expect(access.attach(at.ioas)).toBe(0);
    const iova = at.map(BUFFER, BUFFER_SIZE);
    checkRw(at, access, iova, false);
    checkRw(at, access, iova, true);
    expect(at.unmap(iova, BUFFER_SIZE)).toBe(BUFFER_SIZE);
    at.close();
  });

  test('access_rw_unaligned', () => {
    const at = fixture(variant);
    const access = at.access();
    expect(access.attach(at.ioas)).toBe(0);
    const iova = at.base + HALF;
    expect(at.map(BUFFER, BUFFER_SIZE, iova)).toBe(iova);
    checkRw(at, access, iova, false);
    checkRw(at, access, iova, true);
    expect(at.unmap(iova, BUFFER_SIZE)).toBe(BUFFER_SIZE);
    at.close();
  });

  test('fork_gone: what is pinned stays readable, what is not can no longer be pinned', () => {
    const at = fixture(variant);
    const access = at.access();
    expect(access.attach(at.ioas)).toBe(0);
    at.map(BUFFER, BUFFER_SIZE, MOCK_START);
    at.memory.exited = true;
    if (hasDomain) {
      made(at.stdev());
      at.checkMap(BUFFER, MOCK_START, BUFFER_SIZE);
      checkRw(at, access, MOCK_START, false);
    } else {
      expect(at.stdev()).toBe(EFAULT);
    }
    at.close();
  });

  test('fork_present: pages of another process', () => {
    const at = fixture(variant);
    const access = at.access();
    expect(access.attach(at.ioas)).toBe(0);
    at.map(BUFFER, BUFFER_SIZE, MOCK_START);
    made(at.stdev());
    checkRw(at, access, MOCK_START, true);
    at.close();
  });

  test('ioas_option_huge_pages', () => {
    const at = fixture(variant);
    expect(at.fd.optionHugePages(at.ioas)).toBe(1);
    expect(at.fd.optionHugePages(at.ioas, 0)).toBe(0);
    expect(at.fd.optionHugePages(at.ioas)).toBe(0);
    expect(at.fd.optionHugePages(at.ioas, 2)).toBe(EINVAL);
    expect(at.fd.optionHugePages(at.ioas, 1)).toBe(0);
    at.close();
  });

  test('ioas_iova_alloc: any length, in units of the smallest page', () => {
    const at = fixture(variant);
    const wrong: number[] = [];
    for (let length = 1; length < 2 * PAGE; length++) {
      const iova = at.map(BUFFER, length);
      if (hasDomain && length % HALF !== 0) {
        if (iova !== EINVAL) wrong.push(length);
      } else if (iova <= 0 || at.unmap(iova, length) !== length) {
        wrong.push(length);
      }
    }
    expect(wrong).toEqual([]);
    at.close();
  });

  test('ioas_align_change', () => {
    const at = fixture(variant);
    at.map(BUFFER, PAGE, MOCK_START);
    if (hasDomain) {
      expect(at.fd.optionHugePages(at.ioas, 0)).toBe(EINVAL);
      return at.close();
    }
    expect(at.fd.optionHugePages(at.ioas, 0)).toBe(0);
    expect(at.map(BUFFER + HALF, PAGE, MOCK_START + PAGE)).toBe(EINVAL);
    expect(at.fd.optionHugePages(at.ioas, 0)).toBe(0);
    expect(at.fd.optionHugePages(at.ioas, 1)).toBe(0);
    expect(at.map(BUFFER + HALF, PAGE, MOCK_START + PAGE)).toBe(MOCK_START + PAGE);
    expect(at.fd.optionHugePages(at.ioas, 0)).toBe(EADDRINUSE);
    expect(at.unmap(MOCK_START + PAGE, PAGE)).toBe(PAGE);
    expect(at.unmap(MOCK_START, PAGE)).toBe(PAGE);
    at.close();
  });

  test('copy_sweep: from every odd place', () => {
    const at = fixture(variant);
    const other = at.fd.ioasAlloc();
    const last = MOCK_START + BUFFER_SIZE - (hasDomain ? 1 : 2);
    expect(at.map(BUFFER, last - MOCK_START + 1, MOCK_START)).toBe(MOCK_START);
    for (let iova = MOCK_START - PAGE; iova <= last; iova += 511) {
      const result = at.fd.ioasCopy(other, {
        source: at.ioas,
        sourceIova: iova,
        nrBytes: HALF,
        flags: IOAS_MAP_FIXED_IOVA | IOAS_MAP_WRITEABLE,
        iova: MOCK_START,
      });
      if (iova < MOCK_START || iova + HALF - 1 > last) {
        expect(result).toBe(ENOENT);
      } else {
        expect(result).toBe(MOCK_START);
        expect(at.unmap(MOCK_START, HALF, other)).toBe(HALF);
      }
    }
    at.close();
  });
});

const MOCK_VARIANTS: Variant[] = [
  { name: 'one_domain', nrDomains: 1 },
  { name: 'two_domains', nrDomains: 2 },
  { name: 'one_domain_hugepage', nrDomains: 1, huge: true },
  { name: 'two_domains_hugepage', nrDomains: 2, huge: true },
];

describe.each(MOCK_VARIANTS)('iommufd_mock_domain $name', (variant) => {
  const huge = variant.huge === true;
  const nrPages = huge ? 1024 : 8;
  const size = nrPages * PAGE;
  const BUF = 2 ** 41;
  function mapped(): Fixture {
    const at = fixture(variant);
    at.memory.place(BUF, nrPages, huge ? 0x200000 : frames(nrPages, 0x200000));
    return at;
  }

  test('basic', () => {
    const at = mapped();
    const iova = at.map(BUFFER, PAGE);
    at.checkMap(BUFFER, iova, PAGE);
    at.memory.remove(BUF + size / 2, nrPages / 2);
    expect(at.map(BUF, size)).toBe(EFAULT);
    at.memory.remove(BUF, nrPages / 2);
    expect(at.map(BUF, size)).toBe(EFAULT);
    expect(at.memory.nrPins).toBe(1);
    at.close();
  });

  test('ro_unshare: read-only pages can be mapped for reading', () => {
    const at = mapped();
    at.memory.readOnly.add(BUF / PAGE);
    expect(at.map(BUF, PAGE)).toBe(EFAULT);
    const iova = at.map(BUF, PAGE, undefined, undefined, IOAS_MAP_READABLE);
    expect(iova).toBeGreaterThan(0);
    at.checkMap(BUF, iova, PAGE);
    at.close();
  });

  /** Calls with every start and end within the buffer, fewer for the large one. */
  function* aligns(): Generator<[start: number, length: number]> {
    const step = huge ? size / 16 : HALF;
    for (let start = 0; start < size; start += step) {
      for (let last = huge ? size - 3 * HALF : start + HALF; last < size; last += HALF) yield [start, last - start];
    }
  }

  test('all_aligns', () => {
    const at = mapped();
    for (const [start, length] of aligns()) {
      const iova = at.map(BUF + start, length);
      expect(iova).toBeGreaterThan(0);
      at.checkMap(BUF + start, iova, Math.min(length, 64 * HALF));
      at.checkRefs(BUF + start - (start % PAGE), Math.min(length, 64 * PAGE), 1);
      expect(at.unmap(iova, length)).toBe(length);
    }
    at.checkRefs(BUF, size, 0);
    at.close();
  });

  test('all_aligns_copy: a domain comes and goes while the area exists', () => {
    const at = mapped();
    for (const [start, length] of aligns()) {
      const iova = at.map(BUF + start, length);
      const one = made(at.stdev());
      at.checkMap(BUF + start, iova, Math.min(length, 64 * HALF));
      at.checkRefs(BUF + start - (start % PAGE), Math.min(length, 64 * PAGE), 1);
      one.destroy();
      expect(at.unmap(iova, length)).toBe(length);
    }
    at.checkRefs(BUF, size, 0);
    at.close();
  });

  test('user_copy: pinned by an in-kernel user, copied into domains, the IOAS replaced under it', () => {
    const at = mapped();
    const { fd } = at;
    const pfns = new Float64Array(16);
    const first = fd.ioasAlloc();
    let source = at.map(BUFFER, BUFFER_SIZE, undefined, first);
    let held = 0;
    const access: IommufdAccess = fd.createAccess(
      { unmap: () => held > 0 && access.unpinPages(held, BUFFER_SIZE) },
      true,
    );
    expect(access.attach(first)).toBe(0);
    const copy = (from: number): number =>
      fd.ioasCopy(at.ioas, {
        source: from,
        sourceIova: source,
        nrBytes: BUFFER_SIZE,
        flags: IOAS_MAP_FIXED_IOVA | IOAS_MAP_WRITEABLE,
        iova: MOCK_START,
      });
    expect(access.pinPages(source, BUFFER_SIZE, pfns)).toBe(0);
    held = source;
    expect(copy(first)).toBe(MOCK_START);
    at.checkMap(BUFFER, MOCK_START, BUFFER_SIZE);
    at.checkRefs(BUFFER, BUFFER_SIZE, 1);
    const second = fd.ioasAlloc();
    const next = at.map(BUFFER, BUFFER_SIZE, undefined, second);
    expect(access.replace(second)).toBe(0);
    held = 0;
    expect(at.unmap(MOCK_START, BUFFER_SIZE)).toBe(BUFFER_SIZE);
    expect(fd.destroy(first)).toBe(0);
    source = next;
    expect(access.pinPages(source, BUFFER_SIZE, pfns)).toBe(0);
    expect(copy(second)).toBe(MOCK_START);
    at.checkMap(BUFFER, MOCK_START, BUFFER_SIZE);
    access.unpinPages(source, BUFFER_SIZE);
    fd.destroyAccess(access);
    expect(fd.destroy(second)).toBe(0);
    at.close();
  });

  test('replace', () => {
    const at = mapped();
    const [one, other] = at.stdevs;
    // The two must be able to change places here.
    at.mock.kinds.clear();
    for (const domain of at.mock.domains) domain.kind = '';
    const ioas = at.fd.ioasAlloc();
    const before = one.hwptId;
    expect(one.bound.replace(ioas)).toBeGreaterThan(0);
    expect(one.bound.replace(before)).toBe(ENOENT);
    expect(one.bound.replace(ioas)).toBeGreaterThan(0);
    if (other !== undefined) {
      expect(one.bound.replace(other.hwptId)).toBe(other.hwptId);
      expect(one.bound.replace(other.hwptId)).toBe(other.hwptId);
    }
    expect(one.bound.replace(at.ioas)).toBeGreaterThan(0);
    expect(at.fd.destroy(ioas)).toBe(0);
    at.close();
  });

  test('alloc_hwpt: rotation between page tables', () => {
    const at = mapped();
    const { fd, ioas } = at;
    at.mock.kinds.clear();
    for (const domain of at.mock.domains) domain.kind = '';
    at.map(BUFFER, BUFFER_SIZE, MOCK_START);
    for (const { bound, device } of at.stdevs.slice()) {
      expect(fd.hwptAlloc(bound.id, ioas, ~HWPT_ALLOC_DIRTY_TRACKING)).toBe(EOPNOTSUPP);
      const first = fd.hwptAlloc(bound.id, ioas);
      const second = fd.hwptAlloc(bound.id, ioas);
      at.checkMap(BUFFER, MOCK_START, BUFFER_SIZE);
      for (const id of [first, second]) {
        expect(bound.replace(id)).toBe(id);
        expect(fd.destroy(id)).toBe(EBUSY);
        expect(at.mock.dma(device, MOCK_START, true)).toBe(0x50000 * PAGE);
      }
      expect(bound.replace(ioas)).toBeGreaterThan(0);
      expect(fd.destroy(second)).toBe(0);
      made(at.stdev(first)).destroy();
      expect(fd.destroy(first)).toBe(0);
    }
    at.close();
  });
});

const DIRTY_VARIANTS = [
  { name: 'domain_dirty8k', size: 8 * 1024, huge: false },
  { name: 'domain_dirty16k', size: 16 * 1024, huge: false },
  { name: 'domain_dirty64k', size: 64 * 1024, huge: false },
  { name: 'domain_dirty128k', size: 128 * 1024, huge: false },
  { name: 'domain_dirty320k', size: 320 * 1024, huge: false },
  { name: 'domain_dirty64M', size: 64 * 2 ** 20, huge: false },
  { name: 'domain_dirty64M_huge', size: 64 * 2 ** 20, huge: true },
  { name: 'domain_dirty128M', size: 128 * 2 ** 20, huge: false },
  { name: 'domain_dirty128M_huge', size: 128 * 2 ** 20, huge: true },
];

describe.each(DIRTY_VARIANTS)('iommufd_dirty_tracking $name', ({ name, size, huge }) => {
  const setup = () => {
    const at = fixture({ name, nrDomains: 0, huge });
    const { device, bound } = made(at.stdev());
    const hwptId = at.fd.hwptAlloc(bound.id, at.ioas, HWPT_ALLOC_DIRTY_TRACKING);
    expect(hwptId).toBeGreaterThan(0);
    return { at, device, bound, hwptId };
  };

  test('enforce_dirty: only devices that can tell', () => {
    const { at, hwptId } = setup();
    const device = newDevice();
    at.mock.untracked.add(device);
    const one = made(at.stdev(hwptId));
    expect(at.stdev(hwptId, device)).toBe(EINVAL);
    one.destroy();
    expect(at.fd.destroy(hwptId)).toBe(0);
    const ioas = at.fd.ioasAlloc();
    const other = made(at.stdev(ioas, device));
    expect(at.fd.hwptAlloc(other.bound.id, ioas, HWPT_ALLOC_DIRTY_TRACKING)).toBe(EOPNOTSUPP);
    at.close();
  });

  test('set_dirty_tracking', () => {
    const { at, hwptId } = setup();
    const one = made(at.stdev(hwptId));
    expect(at.fd.setDirtyTracking(hwptId, true)).toBe(0);
    expect(at.fd.setDirtyTracking(hwptId, false)).toBe(0);
    expect(at.fd.setDirtyTracking(9999, true)).toBe(ENOENT);
    expect(at.fd.setDirtyTracking(at.stdevs[0].hwptId, true)).toBe(EINVAL);
    one.destroy();
    at.close();
  });

  /** test_mock_dirty_bitmaps: every other unit is written to, the bits come back, then they are gone (or not). */
  const bitmaps = (noClear: boolean) => {
    const { at, bound } = setup();
    const { fd, memory } = at;
    const BUF = 2 ** 42;
    memory.place(BUF, size / PAGE, 0x400000);
    const ioas = fd.ioasAlloc();
    expect(at.map(BUF, size, MOCK_START, ioas)).toBe(MOCK_START);
    const hwptId = fd.hwptAlloc(bound.id, ioas, HWPT_ALLOC_DIRTY_TRACKING);
    const one = made(at.stdev(hwptId));
    expect(fd.setDirtyTracking(hwptId, true)).toBe(0);
    const unit = huge ? HUGE : HALF;
    const nrBits = size / HALF;
    for (const offset of [0, HALF, 0xff1]) {
      const written: number[] = [];
      for (let at2 = 0; at2 < size; at2 += 2 * unit) {
        if (at.mock.dma(one.device, MOCK_START + at2, true) > 0) written.push(at2);
      }
      expect(written.length).toBe(Math.ceil(size / (2 * unit)));
      const bytes = new Uint8Array(Math.ceil(nrBits / 8) + offset);
      const request = { iova: MOCK_START, nrBytes: size, pageSize: HALF, data: bytes.subarray(offset), noClear };
      expect(fd.dirtyBitmap(hwptId, request)).toBe(0);
      // A dirty leaf is dirty in all its pages.
      const expected = new Set<number>();
      for (const at2 of written) for (let page = at2; page < at2 + unit; page += HALF) expected.add(page / HALF);
      let wrong = 0;
      for (let bit = 0; bit < nrBits; bit++) if (testBit(request.data, bit) !== expected.has(bit)) wrong += 1;
      expect(wrong).toBe(0);
      request.data.fill(0);
      expect(fd.dirtyBitmap(hwptId, request)).toBe(0);
      expect(request.data.some((byte) => byte !== 0)).toBe(noClear);
      expect(fd.dirtyBitmap(hwptId, { ...request, noClear: false })).toBe(0);
    }
    one.destroy();
    at.close();
  };
  test('get_dirty_bitmap', () => bitmaps(false));
  test('get_dirty_bitmap_no_clear', () => bitmaps(true));

  test('device_dirty_capability', () => {
    const { at, device } = setup();
    expect(at.mock.tracksDirty(device)).toBe(true);
    at.close();
  });
});

describe('VFIO compatibility', () => {
  const RW = VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE;
  const request = { iova: MOCK_START, vaddr: BUFFER, size: PAGE };

  test('unmap_cmd, map_cmd, info_cmd, set_iommu_cmd: flags first, then ENODEV without an IOAS', () => {
    const at = fixture();
    const compat = new VfioCompat(at.fd);
    expect(compat.unmapDma({ ...request, flags: 2 ** 30 })).toBe(EINVAL);
    expect(compat.unmapDma(request)).toBe(ENODEV);
    expect(compat.mapDma({ ...request, flags: 2 ** 30 }, at.process)).toBe(EINVAL);
    expect(compat.mapDma({ ...request, flags: RW }, at.process)).toBe(ENODEV);
    expect(compat.info()).toBeNull();
    expect(compat.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(ENODEV);
    expect(compat.setIommu(VFIO_TYPE1_IOMMU)).toBe(ENODEV);
    at.close();
  });

  test('vfio_ioas: get, set, clear', () => {
    const at = fixture();
    const compat = new VfioCompat(at.fd);
    expect(compat.ioasId).toBe(ENODEV);
    expect(compat.setIoas(0)).toBe(ENOENT);
    expect(compat.setIoas(at.ioas)).toBe(0);
    expect(compat.ioasId).toBe(at.ioas);
    expect(compat.setIoas(null)).toBe(0);
    expect(compat.ioasId).toBe(ENODEV);
    compat.setIoas(at.ioas);
    expect(at.fd.destroy(at.ioas)).toBe(0);
    expect(compat.ioasId).toBe(ENODEV);
    at.close();
  });

  describe.each([
    ['Ver1v2', VFIO_TYPE1V2_IOMMU],
    ['Ver1v0', VFIO_TYPE1_IOMMU],
  ])('vfio_compat_mock_domain %s', (_, version) => {
    function setup(huge = false): { at: Fixture; compat: VfioCompat } {
      const at = fixture({ name: '', nrDomains: 1, huge });
      const compat = new VfioCompat(at.fd);
      expect(compat.setIoas(at.ioas)).toBe(0);
      expect(compat.setIommu(version)).toBe(0);
      return { at, compat };
    }

    test('simple_close', () => setup().at.close());

    test('option_huge_pages: version 1 does without', () => {
      const { at } = setup();
      expect(at.fd.optionHugePages(at.ioas)).toBe(version === VFIO_TYPE1_IOMMU ? 0 : 1);
      at.close();
    });

    test('get_info', () => {
      const { at, compat } = setup();
      expect(compat.info()).toEqual({
        pgsizeBitmap: PAGE,
        iovaRanges: [{ start: MOCK_START, last: MOCK_LAST }],
        dmaAvail: 2 ** 32 - 1,
      });
      at.close();
    });

    test('map', () => {
      const { at, compat } = setup();
      const all = { iova: MOCK_START, vaddr: BUFFER, size: BUFFER_SIZE, flags: RW };
      expect(compat.mapDma(all, at.process)).toBe(0);
      expect(compat.unmapDma({ iova: MOCK_START, size: BUFFER_SIZE })).toBe(BUFFER_SIZE);
      expect(compat.unmapDma({ iova: MOCK_START, size: BUFFER_SIZE })).toBe(0);
      expect(compat.mapDma(all, at.process)).toBe(0);
      expect(compat.unmapDma({ iova: MOCK_START, size: BUFFER_SIZE, flags: VFIO_DMA_UNMAP_ALL })).toBe(EINVAL);
      expect(compat.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(BUFFER_SIZE);
      const rng = new Rng(3);
      const pages = Array.from({ length: 16 }, (_unused, page) => page);
      for (const page of pages) {
        const one = { iova: MOCK_START + page * PAGE, vaddr: BUFFER + page * PAGE, size: PAGE, flags: RW };
        expect(compat.mapDma(one, at.process)).toBe(0);
      }
      while (pages.length > 0) {
        const [page] = pages.splice(rng.below(pages.length), 1);
        expect(compat.unmapDma({ iova: MOCK_START + page * PAGE, size: PAGE })).toBe(PAGE);
      }
      at.close();
    });

    test('huge_map: version 1 can be cut anywhere, v2 nowhere', () => {
      const { at, compat } = setup(true);
      const size = 1024 * PAGE;
      at.memory.place(2 ** 40, 1024, 0x100000);
      expect(compat.mapDma({ iova: MOCK_START, vaddr: 2 ** 40, size, flags: RW }, at.process)).toBe(0);
      const rng = new Rng(5);
      const parts = Array.from({ length: 16 }, (_unused, part) => part);
      let left = 1024;
      while (parts.length > 0) {
        const [part] = parts.splice(rng.below(parts.length), 1);
        const result = compat.unmapDma({ iova: MOCK_START + (part * size) / 16, size: size / 16 });
        expect(result).toBe(version === VFIO_TYPE1_IOMMU ? size / 16 : ENOENT);
        if (version === VFIO_TYPE1_IOMMU) left -= 64;
        expect(at.memory.nrPins).toBe(left);
        const [domain] = at.fd.ioas(at.ioas)!.table.domains;
        expect((domain as MockDomain).pages.size).toBe(left * 2);
      }
      at.close();
    });
  });
});
