import { describe, expect, test } from 'vitest';
import { E2BIG, EBUSY, EEXIST, EFAULT, EINVAL, ENODEV, ENOMEM, ENOSPC } from '../../src/base/index.ts';
import type { IommuGroup } from '../../src/iommu/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import type { Type1Options } from '../../src/vfio/index.ts';
import {
  LAST_ADDRESS,
  PIN_BATCH_PAGES,
  TLB_SYNC_MAX,
  Type1Iommu,
  VFIO_DMA_MAP_READ,
  VFIO_DMA_MAP_WRITE,
  VFIO_DMA_UNMAP_ALL,
  VFIO_TYPE1V2_IOMMU,
  VFIO_TYPE1_IOMMU,
  VfioContainer,
  VfioGroup,
} from '../../src/vfio/index.ts';
import type { MockOptions, World } from './world.ts';
import { KiB4, MiB2, newDevice, scattered, world } from './world.ts';

const RW = VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE;
const V = 0x7f0000000000;
const IOVA = 0x100000;

interface Bench extends World {
  type1: Type1Iommu;
  attached: IommuGroup;
  map: (iova: number, nrPages: number, vaddr?: number, flags?: number) => number;
  unmap: (iova: number, nrPages: number) => number;
  /** iommu_map and iommu_unmap callbacks since the last call. */
  said: () => string[];
}

/** A container with one group; memory from V on is 4096 contiguous pages. */
function bench(options: Type1Options & MockOptions & { limitPages?: number } = {}): Bench {
  const at = world(options);
  const type1 = new Type1Iommu(at.core, options);
  const attached = at.group();
  expect(type1.attachGroup(attached)).toBe(0);
  at.memory.place(V, 4096, 0x40000);
  at.mock.log.length = 0;
  return {
    ...at,
    type1,
    attached,
    map: (iova, nrPages, vaddr = V, flags = RW) =>
      type1.mapDma({ iova, vaddr, size: nrPages * KiB4, flags }, at.process),
    unmap: (iova, nrPages) => type1.unmapDma({ iova, size: nrPages * KiB4 }),
    said: () => at.mock.log.splice(0),
  };
}

/** A second domain in the container: a group whose devices the first domain does not take. */
function secondDomain(at: Bench): IommuGroup {
  const device = newDevice();
  at.mock.kinds.set(device, 'other');
  const group = at.group(device);
  expect(at.type1.attachGroup(group)).toBe(0);
  expect(at.type1.domains.length).toBe(2);
  at.mock.log.length = 0;
  return group;
}

function end(at: Bench): void {
  at.type1.release();
  expect(at.leaks()).toEqual([]);
}

describe('map: one iommu_map per contiguous run', () => {
  test('runs end where frames do, not where batches do', () => {
    const at = bench();
    const second = [...Array.from({ length: 3 }, (_, page) => 0x80001 + page), 0x90000, 0x90001];
    at.memory.place(V, 5, second);
    expect(at.map(IOVA, 5)).toBe(0);
    expect(at.said()).toEqual(['map 100000>80001000 3x1000', 'map 103000>90000000 2x1000']);
    // 1100 pages at an odd address: three batches, one run.
    at.memory.asked.length = 0;
    expect(at.map(0x1001000, 1100, V + 5 * KiB4)).toBe(0);
    expect(at.memory.asked).toEqual([PIN_BATCH_PAGES, PIN_BATCH_PAGES, 76]);
    expect(at.said().length).toBe(1);
    end(at);
  });

  test('a run may begin in the middle of a batch: the rest of it waits', () => {
    const at = bench();
    at.memory.place(V, 600, [...scattered(300), ...Array.from({ length: 300 }, (_, page) => 0x90000 + page)]);
    expect(at.map(IOVA, 600)).toBe(0);
    expect(at.memory.asked).toEqual([512, 88]);
    expect(at.said().at(-1)).toBe('map 22c000>90000000 300x1000');
    expect(at.memory.nrPins).toBe(600);
    expect(at.process.account.nrLocked).toBe(600);
    end(at);
  });

  test('page by page with disable_hugepages', () => {
    const at = bench({ disableHugepages: true });
    expect(at.map(IOVA, 3)).toBe(0);
    expect(at.said()).toEqual([
      'map 100000>40000000 1x1000',
      'map 101000>40001000 1x1000',
      'map 102000>40002000 1x1000',
    ]);
    end(at);
  });

  test('rights are the flags', () => {
    const at = bench();
    expect(at.map(IOVA, 1, V, VFIO_DMA_MAP_READ)).toBe(0);
    expect(at.map(IOVA + KiB4, 1, V, VFIO_DMA_MAP_WRITE)).toBe(0);
    const [device] = at.attached.devices;
    expect([false, true].map((write) => at.mock.dma(device, IOVA, write))).toEqual([0x40000000, -1]);
    expect([false, true].map((write) => at.mock.dma(device, IOVA + KiB4, write))).toEqual([-1, 0x40000000]);
    at.unmap(IOVA, 2);
    // Only what could be written is made dirty when it is unpinned, here the same frame twice.
    expect([...at.memory.dirty]).toEqual([0x40000]);
    end(at);
  });

  test('device memory is mapped, neither counted nor unpinned, in runs of its own', () => {
    const at = bench({ limitPages: 2 });
    at.memory.place(V, 4, [0xfe000, 0xfe001, 0xfe002, 0xfe003]);
    at.memory.reserved.add(0xfe001).add(0xfe002);
    expect(at.map(IOVA, 4)).toBe(0);
    expect(at.said()).toEqual([
      'map 100000>fe000000 1x1000',
      'map 101000>fe001000 2x1000',
      'map 103000>fe003000 1x1000',
    ]);
    expect(at.process.account.nrLocked).toBe(2);
    expect(at.unmap(IOVA, 4)).toBe(4 * KiB4);
    end(at);
  });
});

describe('map fails as a whole', () => {
  test('ENOMEM above the limit, also in a later run; the limit itself is allowed', () => {
    const at = bench({ limitPages: 8 });
    expect(at.map(IOVA, 9)).toBe(ENOMEM);
    at.memory.place(V, 16, scattered(16));
    expect(at.map(IOVA, 9)).toBe(ENOMEM);
    expect(at.leaks()).toEqual(['1 domains']);
    expect(at.type1.info.dmaAvail).toBe(65535);
    expect(at.map(IOVA, 8)).toBe(0);
    expect(at.map(0x200000, 1)).toBe(ENOMEM);
    expect(at.unmap(IOVA, 8)).toBe(8 * KiB4);
    expect(at.map(0x200000, 1)).toBe(0);
    end(at);
  });

  test('EFAULT half way', () => {
    const at = bench();
    at.memory.remove(V + 700 * KiB4, 1);
    expect(at.map(IOVA, 1000)).toBe(EFAULT);
    expect(at.leaks()).toEqual(['1 domains']);
    expect(at.type1.dmas.length).toBe(0);
    end(at);
  });

  test('a domain that refuses: the ones before it are undone in reverse, then earlier runs', () => {
    const at = bench();
    at.memory.place(V, 2, [0x80000, 0x90000]);
    secondDomain(at);
    at.injector.arm(5); // pin, map, map, map (second run, newest domain), map (second run, other domain)
    expect(at.map(IOVA, 2)).toBe(ENOMEM);
    expect(at.said()).toEqual([
      'map 100000>80000000 1x1000',
      'map 100000>80000000 1x1000',
      'map 101000>90000000 1x1000',
      'map 101000>90000000 1x1000',
      'unmap 101000 1x1000',
      'sync',
      'unmap 100000 1x1000',
      'sync',
      'unmap 100000 1x1000',
      'sync',
    ]);
    expect(at.leaks()).toEqual(['2 domains']);
    end(at);
  });

  test('at every point where something can fail, with pages of a batch still waiting', () => {
    for (let nth = 1; ; nth++) {
      const at = bench();
      at.memory.place(V, 600, [...scattered(5), ...Array.from({ length: 595 }, (_, page) => 0x90000 + 2 * page)]);
      secondDomain(at);
      at.injector.arm(nth);
      const errno = at.map(IOVA, 12);
      const { fired } = at.injector;
      expect(errno).toBe(!fired ? 0 : nth === 1 ? EFAULT : ENOMEM);
      if (fired) expect(at.leaks()).toEqual(['2 domains']);
      end(at);
      if (!fired) break;
    }
  });

  const wrong: [string, number, number, number, number, number][] = [
    ['no flags', IOVA, V, KiB4, 0, EINVAL],
    ['unknown flag', IOVA, V, KiB4, RW | 8, EINVAL],
    ['size 0', IOVA, V, 0, RW, EINVAL],
    ['size not a page', IOVA, V, 100, RW, EINVAL],
    ['iova not aligned', IOVA + 1, V, KiB4, RW, EINVAL],
    ['vaddr not aligned', IOVA, V + 8, KiB4, RW, EINVAL],
    ['size negative', IOVA, V, -KiB4, RW, EINVAL],
    ['iova negative: a page at the top, outside of every range', -KiB4, V, KiB4, RW, EINVAL],
    ['iova wraps', LAST_ADDRESS + 1 - KiB4, V, 2 * KiB4, RW, EINVAL],
    ['vaddr wraps', IOVA, LAST_ADDRESS + 1 - KiB4, 2 * KiB4, RW, EINVAL],
    ['last page of all', LAST_ADDRESS + 1 - KiB4, V, KiB4, RW, EINVAL],
    ['2^53', 2 ** 53, V, KiB4, RW, EINVAL],
    ['size 2^53', IOVA, V, 2 ** 53, RW, EINVAL],
    ['not a number', Number.NaN, V, KiB4, RW, EINVAL],
    ['a fraction', IOVA + 0.5, V, KiB4, RW, EINVAL],
    ['over the end of the aperture', 2 ** 39 - KiB4, V, 2 * KiB4, RW, EINVAL],
    ['behind the aperture (a mask too small)', 2 ** 39, V, KiB4, RW, EINVAL],
    ['into the MSI window', 0xfee00000 - KiB4, V, 2 * KiB4, RW, EINVAL],
    ['around the MSI window', 0xfe000000, V, 2 ** 25, RW, EINVAL],
    ['in the MSI window', 0xfee01000, V, KiB4, RW, EINVAL],
    ['nothing behind vaddr', IOVA, 0x1000, KiB4, RW, EFAULT],
    ['over a mapping', 0x10000, V, KiB4, RW, EEXIST],
    ['over its last page', 0xf000, V, 2 * KiB4, RW, EEXIST],
    ['around a mapping', 0, V, MiB2, RW, EEXIST],
  ];
  test.each(wrong)('wrong use, nothing changes: %s', (_, iova, vaddr, size, flags, errno) => {
    const at = bench({ regions: [{ start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 }] });
    expect(at.map(0x10000, 1)).toBe(0);
    at.said();
    expect(at.type1.mapDma({ iova, vaddr, size, flags }, at.process)).toBe(errno);
    expect(at.said()).toEqual([]);
    expect([at.memory.nrPins, at.process.account.nrLocked, at.type1.dmas.length]).toEqual([1, 1, 1]);
    end(at);
  });

  test('the last page of the aperture and the pages around the MSI window can be mapped', () => {
    const at = bench({ regions: [{ start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 }] });
    expect(at.map(2 ** 39 - KiB4, 1)).toBe(0);
    expect(at.map(0xfee00000 - KiB4, 1)).toBe(0);
    expect(at.map(0xfef00000, 1)).toBe(0);
    expect(at.map(0, 1)).toBe(0);
    end(at);
  });

  test('ENOSPC at the limit of mappings (dma_entry_limit), counted in the info', () => {
    const at = bench({ dmaEntryLimit: 3 });
    for (let nr = 0; nr < 3; nr++) expect(at.map(IOVA + nr * KiB4, 1)).toBe(0);
    expect(at.type1.info.dmaAvail).toBe(0);
    expect(at.map(IOVA + 3 * KiB4, 1)).toBe(ENOSPC);
    expect(at.unmap(IOVA, 1)).toBe(KiB4);
    expect(at.map(IOVA + 3 * KiB4, 1)).toBe(0);
    end(at);
  });
});

describe('unmap', () => {
  test('v2: whole mappings, several at a time, nothing for nothing; a cut one is refused and nothing happens', () => {
    const at = bench();
    for (const page of [0, 4, 8]) expect(at.map(IOVA + page * KiB4, 4)).toBe(0);
    at.said();
    for (const [page, nr] of [
      [0, 1],
      [0, 6],
      [1, 3],
      [2, 10],
      [5, 1],
    ]) {
      expect(at.unmap(IOVA + page * KiB4, nr), `${page}+${nr}`).toBe(EINVAL);
    }
    expect(at.said()).toEqual([]);
    expect(at.unmap(IOVA + 4 * KiB4, 8)).toBe(8 * KiB4);
    expect(at.unmap(IOVA + 4 * KiB4, 8)).toBe(0);
    expect(at.unmap(IOVA - 4 * KiB4, 40)).toBe(4 * KiB4);
    end(at);
  });

  test('v1: a range that holds the first byte takes the mapping whole, one that begins inside gets 0', () => {
    const at = bench({ v2: false });
    for (const page of [0, 4, 8]) expect(at.map(IOVA + page * KiB4, 4)).toBe(0);
    expect(at.unmap(IOVA + KiB4, 1)).toBe(0);
    expect(at.unmap(IOVA + KiB4, 11)).toBe(0);
    expect(at.unmap(IOVA, 1)).toBe(4 * KiB4);
    // Begins before the second mapping, ends inside of the third.
    expect(at.unmap(IOVA + 3 * KiB4, 6)).toBe(8 * KiB4);
    expect(at.type1.dmas.length).toBe(0);
    end(at);
  });

  test.each([
    ['size 0', IOVA, 0, 0],
    ['size not a page', IOVA, 1, 0],
    ['iova not aligned', IOVA + 1, KiB4, 0],
    ['negative size', IOVA, -KiB4, 0],
    ['wraps', LAST_ADDRESS + 1 - KiB4, 2 * KiB4, 0],
    ['2^53', 2 ** 53, KiB4, 0],
    ['not a number', IOVA, Number.NaN, 0],
    ['unknown flag', IOVA, KiB4, 64],
    ['all, with a range', IOVA, KiB4, VFIO_DMA_UNMAP_ALL],
    ['all, with a size', 0, KiB4, VFIO_DMA_UNMAP_ALL],
  ])('wrong use, nothing changes: %s', (_, iova, size, flags) => {
    for (const v2 of [true, false]) {
      const at = bench({ v2 });
      at.map(IOVA, 1);
      at.said();
      expect(at.type1.unmapDma({ iova, size, flags })).toBe(EINVAL);
      expect(at.said()).toEqual([]);
      end(at);
    }
  });

  test('negative iova is the top of the address space: nothing there', () => {
    const at = bench();
    expect(at.type1.unmapDma({ iova: -KiB4, size: KiB4 })).toBe(0);
    end(at);
  });

  test('all at once, and again', () => {
    const at = bench();
    expect(at.type1.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(0);
    at.map(0, 3);
    at.map(2 ** 38, 5);
    expect(at.type1.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(8 * KiB4);
    expect(at.type1.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(0);
    end(at);
  });

  test.each([
    [1, 1],
    [TLB_SYNC_MAX - 1, 1],
    [TLB_SYNC_MAX, 1],
    [TLB_SYNC_MAX + 1, 2],
    [1300, 3],
  ])('%i runs need %i syncs: one per 512', (nrRuns, nrSyncs) => {
    const at = bench();
    at.memory.place(V, nrRuns, scattered(nrRuns));
    expect(at.map(IOVA, nrRuns)).toBe(0);
    at.mock.nrSyncs = 0;
    expect(at.unmap(IOVA, nrRuns)).toBe(nrRuns * KiB4);
    expect(at.mock.nrSyncs).toBe(nrSyncs);
    end(at);
  });

  test('contiguous frames go in one unmap, found page by page', () => {
    const at = bench();
    at.map(MiB2 - KiB4, 514, V + 511 * KiB4);
    at.said();
    at.unmap(MiB2 - KiB4, 514);
    expect(at.said()).toEqual(['unmap 1ff000 1x1000', 'unmap 200000 1x200000', 'unmap 400000 1x1000', 'sync']);
    end(at);
  });

  test('the other domains are cleared first', () => {
    const at = bench();
    secondDomain(at);
    at.memory.place(V, 2, [5, 9]);
    at.map(IOVA, 2);
    at.said();
    at.unmap(IOVA, 2);
    expect(at.said()).toEqual(['unmap 100000 2x1000', 'sync', 'unmap 100000 1x1000', 'unmap 101000 1x1000', 'sync']);
    end(at);
  });

  test('a driver that refuses the fast way: what waits is settled, then the slow way syncs by itself', () => {
    const at = bench();
    at.memory.place(V, 3, [5, 9, 13]);
    at.map(IOVA, 3);
    at.said();
    at.mock.log.length = 0;
    const unmapPages = at.mock.unmapPages.bind(at.mock);
    at.mock.unmapPages = (domain, iova, ...rest): number => {
      if (iova === IOVA + KiB4 && !at.mock.log.includes('refused')) {
        at.mock.log.push('refused');
        return 0;
      }
      return unmapPages(domain, iova, ...rest);
    };
    expect(at.unmap(IOVA, 3)).toBe(3 * KiB4);
    expect(at.said()).toEqual([
      'unmap 100000 1x1000',
      'refused',
      'sync',
      'unmap 101000 1x1000',
      'sync',
      'unmap 102000 1x1000',
      'sync',
    ]);
    end(at);
  });
});

describe('fgsp: fine-grained superpages', () => {
  const probe = (pgsizeBitmap: number, regions: MockOptions['regions'] = [], apertureLast = 2 ** 39 - 1) => {
    const pages = new PageAllocator(new PhysMem());
    const at = bench({ pages, pgsizeBitmap, regions, apertureLast });
    const [domain] = at.type1.domains;
    expect(pages.nrLive).toBe(0);
    expect((domain.domain as unknown as { pages: Map<number, unknown> }).pages.size).toBe(0);
    return { at, fgsp: domain.fgsp };
  };

  test('a driver that makes one leaf of two pages has them (AMD), one with 4K and 2M has not (VT-d)', () => {
    expect(probe(0x40201000).fgsp).toBe(false);
    expect(probe(0x3000).fgsp).toBe(true);
    expect(probe(0x7ffff000).fgsp).toBe(true);
  });

  test('then unmap does not look for runs, and leaves come off as they are', () => {
    const { at } = probe(0x3000);
    at.map(IOVA, 8);
    at.said();
    expect(at.unmap(IOVA, 8)).toBe(8 * KiB4);
    expect(at.said()).toEqual([
      'unmap 100000 1x1000',
      'unmap 102000 1x1000',
      'unmap 104000 1x1000',
      'unmap 106000 1x1000',
      'sync',
    ]);
    end(at);
  });

  test('the probe uses the first range with more than two pages, and none without', () => {
    const hole = (start: number, nrBytes: number) => ({ start, nrBytes, type: 'reserved' as const, prot: 0 });
    expect(probe(0x3000, [hole(0x2000, 2 ** 32)], 0x1fff).fgsp).toBe(false);
    expect(probe(0x3000, [hole(0x2000, 0x1000)], 0x7fff).fgsp).toBe(true);
  });
});

describe('groups and domains', () => {
  test('groups of one driver share a domain; the mappings live until the last group leaves', () => {
    const at = bench();
    at.map(IOVA, 4);
    const second = at.group();
    expect(at.type1.attachGroup(second)).toBe(0);
    expect(at.type1.attachGroup(second)).toBe(EINVAL);
    expect(at.mock.domains.size).toBe(1);
    expect(at.mock.dma(second.devices[0], IOVA, true)).toBe(0x40000000);
    at.type1.detachGroup(at.attached);
    expect(at.mock.dma(at.attached.devices[0], IOVA, true)).toBe(-1);
    expect(at.mock.dma(second.devices[0], IOVA, true)).toBe(0x40000000);
    at.type1.detachGroup(second);
    expect(at.type1.dmas.length).toBe(0);
    end(at);
  });

  test('a new domain gets all mappings, in runs, without pinning; either may leave first', () => {
    for (const firstLeaves of [true, false]) {
      const at = bench();
      at.memory.place(V, 4, [0x100, 0x101, 0x200, 0x201]);
      at.map(IOVA, 4);
      const device = newDevice();
      at.mock.kinds.set(device, 'other');
      const other = at.group(device);
      at.said();
      expect(at.type1.attachGroup(other)).toBe(0);
      expect(at.said()).toEqual(['map 100000>100000 2x1000', 'map 102000>200000 2x1000']);
      expect(at.memory.nrPins).toBe(4);
      expect(at.mock.dma(device, IOVA + 2 * KiB4, true)).toBe(0x200000);
      at.type1.detachGroup(firstLeaves ? at.attached : other);
      expect(at.memory.nrPins).toBe(4);
      expect(at.unmap(IOVA, 4)).toBe(4 * KiB4);
      end(at);
    }
  });

  test('a replay that fails leaves the container and the group as they were', () => {
    for (let nth = 1; ; nth++) {
      const at = bench();
      at.map(IOVA, 4);
      at.map(0x300000, 2);
      const device = newDevice();
      at.mock.kinds.set(device, 'other');
      const other = at.group(device);
      at.injector.arm(nth);
      const errno = at.type1.attachGroup(other);
      if (!at.injector.fired) {
        expect(errno).toBe(0);
        end(at);
        break;
      }
      // The third is the first domain's refusal, which it would have given anyway.
      if (nth === 3) {
        expect(errno).toBe(0);
        end(at);
        continue;
      }
      expect(errno, `failure ${nth}`).toBe(ENOMEM);
      expect(at.mock.domains.size).toBe(1);
      expect(other.domain).toBeNull();
      expect(at.unmap(IOVA, 4)).toBe(4 * KiB4);
      end(at);
    }
  });

  test('emulated groups alone: maps pin nothing; the first real group pins what is there, its leaving unpins it', () => {
    const at = world({ limitPages: 6 });
    at.memory.place(V, 16, 0x40000);
    const type1 = new Type1Iommu(at.core);
    const mdev = at.group();
    expect(type1.attachGroup(mdev, 'emulated')).toBe(0);
    const request = { iova: IOVA, vaddr: V, size: 4 * KiB4, flags: RW };
    expect(type1.mapDma(request, at.process)).toBe(0);
    // Anywhere: no domain, no ranges.
    expect(type1.mapDma({ ...request, iova: 2 ** 52, vaddr: V + 4 * KiB4, size: 2 * KiB4 }, at.process)).toBe(0);
    expect(at.memory.nrPins).toBe(0);
    const real = at.group();
    // That mapping lies outside of the aperture. Without ranges nobody compares them; the domain refuses the replay.
    expect(type1.attachGroup(real)).toBe(EINVAL);
    expect(type1.unmapDma({ iova: 2 ** 52, size: 2 * KiB4 })).toBe(2 * KiB4);
    expect(type1.attachGroup(real)).toBe(0);
    expect([at.memory.nrPins, at.process.account.nrLocked]).toEqual([4, 4]);
    type1.detachGroup(real);
    expect([at.memory.nrPins, at.process.account.nrLocked]).toEqual([0, 0]);
    expect(type1.dmas.length).toBe(1);
    type1.detachGroup(mdev);
    expect(type1.dmas.length).toBe(0);
    expect(at.leaks()).toEqual([]);
  });

  test('valid ranges: apertures without reserved regions; a conflict with mappings keeps a group out', () => {
    const at = bench({ regions: [{ start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 }] });
    expect(at.type1.info.iovaRanges).toEqual([
      { start: 0, last: 0xfedfffff },
      { start: 0xfef00000, last: 2 ** 39 - 1 },
    ]);
    expect(at.map(0x5000, 1)).toBe(0);
    at.mock.regions = [{ start: 0x4000, nrBytes: 0x2000, type: 'reserved', prot: 0 }];
    const group = at.group();
    expect(at.type1.attachGroup(group)).toBe(EINVAL);
    expect(group.domain).toBeNull();
    at.unmap(0x5000, 1);
    expect(at.type1.attachGroup(group)).toBe(0);
    expect(at.type1.info.iovaRanges.map(({ start }) => start)).toEqual([0, 0x6000, 0xfef00000]);
    expect(at.map(0x5000, 1)).toBe(EINVAL);
    // What only the leaving group reserved is free again.
    at.mock.regions = [];
    at.type1.detachGroup(group);
    expect(at.type1.info.iovaRanges).toEqual([{ start: 0, last: 2 ** 39 - 1 }]);
    end(at);
  });

  test('the smallest aperture counts, until its domain leaves; mappings outside of it keep its group out', () => {
    const at = bench();
    const device = newDevice();
    at.mock.kinds.set(device, 'other');
    const other = at.group(device);
    at.mock.apertureLast = 2 ** 32 - 1;
    expect(at.map(2 ** 32, 1)).toBe(0);
    expect(at.type1.attachGroup(other)).toBe(EINVAL);
    expect(at.unmap(2 ** 32, 1)).toBe(KiB4);
    expect(at.type1.attachGroup(other)).toBe(0);
    expect(at.type1.info.iovaRanges).toEqual([{ start: 0, last: 2 ** 32 - 1 }]);
    expect(at.map(2 ** 32, 1)).toBe(EINVAL);
    at.type1.detachGroup(other);
    expect(at.type1.info.iovaRanges).toEqual([{ start: 0, last: 2 ** 39 - 1 }]);
    expect(at.map(2 ** 32, 1)).toBe(0);
    end(at);
  });

  test('reserved regions need not end on pages', () => {
    const at = bench({ apertureLast: 0x1fff, regions: [{ start: 0x1000, nrBytes: 0xfff, type: 'reserved', prot: 0 }] });
    expect(at.type1.info.iovaRanges).toEqual([
      { start: 0, last: 0xfff },
      { start: 0x1fff, last: 0x1fff },
    ]);
    expect(at.map(0x1000, 1)).toBe(EINVAL);
    end(at);
  });

  test('page sizes: those of all domains, never below a CPU page', () => {
    const at = bench({ pgsizeBitmap: 0x40201000 });
    expect(at.type1.info.pgsizeBitmap).toBe(0x40201000);
    expect(bench({ pgsizeBitmap: 0x200800 }).type1.info.pgsizeBitmap).toBe(0x201000);
    const large = bench({ pgsizeBitmap: 0x10000 });
    expect(large.map(IOVA, 1)).toBe(EINVAL);
    expect(large.map(IOVA, 16)).toBe(0);
    end(large);
  });
});

describe('containers', () => {
  function containers(nr: number) {
    const at = world();
    at.memory.place(V, 16, 0x40000);
    return { at, containers: Array.from({ length: nr }, () => new VfioContainer(at.core)) };
  }

  test('an IOMMU needs a group first, is chosen once, and goes with the last group', () => {
    const {
      at,
      containers: [container],
    } = containers(1);
    expect(container.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(EINVAL);
    const group = new VfioGroup(at.group());
    expect(group.openDevice()).toBe(EINVAL);
    expect(group.unsetContainer()).toBe(EINVAL);
    expect(group.setContainer(container)).toBe(0);
    expect(group.setContainer(container)).toBe(EINVAL);
    expect(container.setIommu(99)).toBe(ENODEV);
    expect(container.setIommu(VFIO_TYPE1_IOMMU)).toBe(0);
    expect(container.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(EINVAL);
    expect(container.iommu?.v2).toBe(false);
    expect(container.iommu?.mapDma({ iova: 0, vaddr: V, size: KiB4, flags: RW }, at.process)).toBe(0);
    expect(group.openDevice()).toBe(0);
    expect(group.unsetContainer()).toBe(EBUSY);
    group.closeDevice();
    expect(() => group.closeDevice()).toThrow(RangeError);
    expect(group.unsetContainer()).toBe(0);
    expect(container.iommu).toBeNull();
    expect(group.iommuGroup.isClaimed).toBe(false);
    expect(at.leaks()).toEqual([]);
  });

  test('a group belongs to one user, and is back with the DMA API when nobody wants it', () => {
    const {
      at,
      containers: [one, other],
    } = containers(2);
    const iommuGroup = at.group();
    expect(iommuGroup.setupDefaultDomain('paging')).toBe(0);
    const mine = new VfioGroup(iommuGroup);
    const theirs = new VfioGroup(iommuGroup);
    expect(mine.setContainer(one)).toBe(0);
    expect(theirs.setContainer(other)).toBe(EBUSY);
    expect(one.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(0);
    expect(iommuGroup.domain).not.toBe(iommuGroup.defaultDomain);
    expect(mine.unsetContainer()).toBe(0);
    expect(iommuGroup.domain).toBe(iommuGroup.defaultDomain);
    expect(theirs.setContainer(other)).toBe(0);
    expect(theirs.unsetContainer()).toBe(0);
  });

  test('a group that cannot be attached is not in the container', () => {
    const {
      at,
      containers: [container],
    } = containers(1);
    const first = new VfioGroup(at.group());
    const second = new VfioGroup(at.group());
    expect(first.setContainer(container)).toBe(0);
    at.injector.arm(2);
    expect(container.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(ENOMEM);
    expect(container.setIommu(VFIO_TYPE1V2_IOMMU)).toBe(0);
    at.injector.arm(1);
    expect(second.setContainer(container)).toBe(ENOMEM);
    expect(second.iommuGroup.isClaimed).toBe(false);
    expect(second.setContainer(container)).toBe(0);
    expect(second.unsetContainer()).toBe(0);
    expect(first.unsetContainer()).toBe(0);
    expect(at.leaks()).toEqual([]);
  });

  test('several groups before the IOMMU: all or none', () => {
    for (let nth = 1; ; nth++) {
      const {
        at,
        containers: [container],
      } = containers(1);
      const groups = [0, 1, 2].map(() => new VfioGroup(at.group()));
      for (const group of groups) expect(group.setContainer(container)).toBe(0);
      at.injector.arm(nth);
      const errno = container.setIommu(VFIO_TYPE1V2_IOMMU);
      const failed = at.injector.fired && errno !== 0;
      if (failed) expect(at.leaks()).toEqual([]);
      const done = !at.injector.fired;
      for (const group of groups) expect(group.unsetContainer()).toBe(0);
      expect(at.leaks()).toEqual([]);
      if (done) break;
    }
  });

  test('more than 512 pages at a time are too many to pin', () => {
    const at = bench();
    expect(at.type1.pinPages(at.attached, IOVA, PIN_BATCH_PAGES + 1, 1, new Float64Array(600))).toBe(E2BIG);
    end(at);
  });
});
