/** The rest of drivers/iommu/dma-iommu.c: limits, buffers, doorbells, reservations, policy. */
import { describe, expect, test } from 'vitest';
import { EINVAL, ENODEV, ENOMEM } from '../../src/base/index.ts';
import type { DmaModeFacts } from '../../src/dma/index.ts';
import {
  BuddyPages,
  DMA_ATTR_ALLOC_SINGLE_PAGES,
  DMA_ATTR_FORCE_CONTIGUOUS,
  DMA_ATTR_SKIP_CPU_SYNC,
  DmaDevice,
  FlushQueue,
  IOVA_LINUX_6_12,
  IOVA_LINUX_6_1,
  MsiCookie,
  Scatterlist,
  defaultDmaMode,
} from '../../src/dma/index.ts';
import { device } from '../drivers/lab.ts';
import { DmaBench, K4, PAGES_PFN } from './dma-bench.ts';

const TOP = 2 ** 32;

describe('limits (iommu_dma_alloc_iova)', () => {
  test.each([
    ['the mask', { dmaMask: 0xff_ffff }, 0xff_f000],
    ['the bus', { dmaMask: TOP - 1, busLimit: 0x7fff_ffff }, 0x7fff_f000],
    ['no bus limit', { dmaMask: 0xff_ffff, busLimit: 0 }, 0xff_f000],
    ['the lower of both', { dmaMask: 0xff_ffff, busLimit: TOP - 1 }, 0xff_f000],
  ])('%s', (_name, limits, first) => {
    expect(new DmaBench({ limits }).dma.mapPage(0x5000, K4, 'toDevice')).toBe(first);
  });

  test.each([
    ['PCI, 64 bits: below 4 GiB', {}, TOP - K4],
    ['iommu.forcedac=1', { forceDac: true }, 2 ** 48 - K4],
    ['not PCI', { isPci: false }, 2 ** 48 - K4],
  ])('%s', (_name, options, first) => {
    const bench = new DmaBench({ limits: { dmaMask: 2 ** 64 - 1 }, ...options });
    expect(bench.dma.mapPage(0x5000, K4, 'toDevice')).toBe(first);
  });

  test.each([
    ['6.12 never comes back below 4 GiB after the first failure', IOVA_LINUX_6_12, 2 ** 48 - 128 * K4],
    ['6.1 tries each time', IOVA_LINUX_6_1, 0x40000],
  ])('%s (pci_32bit_workaround)', (_name, iovaPreset, next) => {
    const said: number[] = [];
    const limits = { dmaMask: 2 ** 48 - 1 };
    const bench = new DmaBench({ limits, leftLow: (bits) => said.push(bits) }, { iovaPreset });
    // Room for 64 pages, once; too large for the magazines, which know no limit but the highest.
    bench.space.reserve(0x80000, TOP - 1);
    const map = (): number => bench.dma.mapPage(0x100000, 64 * K4, 'toDevice');
    expect([map(), map()]).toEqual([0x40000, 2 ** 48 - 64 * K4]);
    bench.dma.unmapPage(0x40000, 64 * K4, 'toDevice');
    expect(map()).toBe(next);
    expect(said).toEqual(iovaPreset.lowFirstOnce ? [48] : []);
  });

  test('alloc goes by the coherent mask, the rest by the other', () => {
    const bench = new DmaBench({ limits: { dmaMask: TOP - 1, coherentMask: 0xff_ffff } });
    expect(bench.dma.mapPage(0x5000, K4, 'toDevice')).toBe(TOP - K4);
    expect(bench.dma.alloc(K4)?.dmaAddress).toBe(0xff_f000);
    expect(bench.dma.alloc(K4, DMA_ATTR_FORCE_CONTIGUOUS)?.dmaAddress).toBe(0xff_e000);
  });

  test('two devices of a group share the IOVAs, each with its own limit', () => {
    const bench = new DmaBench();
    const old = new DmaDevice(bench.space, { limits: { dmaMask: 0xff_ffff } });
    expect([bench.dma, old, bench.dma, old].map((one) => one.mapPage(0x5000, K4, 'toDevice'))).toEqual([
      TOP - K4,
      0xff_f000,
      // The search goes on below the range placed last, whoever asked for it.
      0xff_e000,
      0xff_d000,
    ]);
  });

  test('sizes that pay: cached up to 128 KiB; merging at pages', () => {
    expect([new DmaBench().dma.optMappingBytes, new DmaBench().dma.mergeBoundaryMask]).toEqual([131072, 4095]);
  });
});

describe('alloc, allocNoncontiguous (iommu_dma_alloc)', () => {
  test.each<[string, number, number, number, [pages: number, times: number][]]>([
    // Orders 0 and 9 alone.
    [
      'VT-d: 2 MiB and single pages',
      0x40201000,
      0,
      514,
      [
        [512, 1],
        [1, 2],
      ],
    ],
    ['single pages on request', 0x40201000, DMA_ATTR_ALLOC_SINGLE_PAGES, 514, [[1, 514]]],
    [
      'AMD: any power of two',
      0x7fff_f000,
      0,
      7,
      [
        [4, 1],
        [2, 1],
        [1, 1],
      ],
    ],
    [
      'AMD: 4 MiB is the largest there is',
      0x7fff_f000,
      0,
      1025,
      [
        [1024, 1],
        [1, 1],
      ],
    ],
  ])('%s', (_name, bitmap, attrs, nrPages, runs) => {
    const bench = new DmaBench({}, {}, bitmap);
    const asked = new Map<number, number>();
    const alloc = bench.buddies.alloc.bind(bench.buddies);
    bench.buddies.alloc = (order): number => {
      asked.set(2 ** order, (asked.get(2 ** order) ?? 0) + 1);
      return alloc(order);
    };
    const buffer = bench.dma.alloc(nrPages * K4, attrs)!;
    expect([...asked]).toEqual(runs);
    expect(buffer.pfns).toHaveLength(nrPages);
    expect(new Set(buffer.pfns).size).toBe(nrPages);
    buffer.pfns.forEach((pfn, page) => expect(bench.at(buffer.dmaAddress + page * K4)).toBe(pfn * K4));
    expect(buffer.list?.dmaBytes[0]).toBe(nrPages * K4);
    expect(bench.dma.free(buffer)).toBe(0);
    expect(bench.dma.free(buffer)).toBe(EINVAL);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('fragmented memory: smaller runs, one range of IOVAs, neighbours joined', () => {
    const bench = new DmaBench({}, {}, 0x7fff_f000);
    const all = Array.from({ length: 2048 }, () => bench.buddies.alloc(0));
    for (const pfn of all) if (pfn % 4 !== 0) bench.buddies.free(pfn);
    const buffer = bench.dma.allocNoncontiguous(9 * K4, 'toDevice')!;
    // Left are 1, 2 and 3 of each four.
    expect(buffer.pfns.every((pfn) => pfn % 4 !== 0)).toBe(true);
    expect(buffer.list!.nents).toBeLessThan(9);
    expect([...buffer.list!.nrBytes].reduce((sum, bytes) => sum + bytes)).toBe(9 * K4);
    expect(bench.dma.alloc(2 * K4, DMA_ATTR_FORCE_CONTIGUOUS)?.pfns).toHaveLength(2);
    expect(bench.dma.alloc(4 * K4, DMA_ATTR_FORCE_CONTIGUOUS)).toBeNull();
  });

  test.each([
    ['memory', {}, 2049, 0],
    ['memory in one run', {}, 1025, DMA_ATTR_FORCE_CONTIGUOUS],
    ['IOVAs', { dmaMask: 0x7fff }, 9, 0],
    ['IOVAs, one run', { dmaMask: 0x7fff }, 9, DMA_ATTR_FORCE_CONTIGUOUS],
  ])('no %s: null, everything back', (_name, limits, nrPages, attrs) => {
    const bench = new DmaBench({ limits });
    expect(bench.dma.alloc(nrPages * K4, attrs)).toBeNull();
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('the IOMMU refuses: null, everything back', () => {
    const bench = new DmaBench();
    bench.driver.fail.set('sync', -5);
    expect([bench.dma.alloc(3 * K4), bench.dma.alloc(3 * K4, DMA_ATTR_FORCE_CONTIGUOUS)]).toEqual([null, null]);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('pages are zeroed, for the device too, and poisoned when freed', () => {
    const bench = new DmaBench({ coherent: false });
    const buffer = bench.dma.alloc(K4)!;
    const paddr = buffer.pfns[0] * K4;
    bench.mem.store32(paddr, 1234);
    bench.platform.clflush(paddr, 64);
    bench.dma.free(buffer);
    expect(bench.mem.load32(paddr)).not.toBe(1234);
    expect(bench.mem.deviceLoad32(bench.dma.alloc(K4)!.pfns[0] * K4)).toBe(0);
    expect(bench.dma.nrLines).toBe(128);
  });
});

describe('BuddyPages', () => {
  test('halves join again, to the largest', () => {
    const { buddies } = new DmaBench();
    const first = buddies.alloc(3);
    expect(first % 8).toBe(0);
    buddies.split(first);
    for (let page = 7; page >= 0; page--) buddies.free(first + page);
    expect([buddies.alloc(10), buddies.alloc(10), buddies.alloc(0)].map((pfn) => pfn >= PAGES_PFN)).toEqual([
      true,
      true,
      false,
    ]);
  });

  test('misuse throws', () => {
    const { buddies, mem } = new DmaBench();
    const run = buddies.alloc(2);
    expect(() => buddies.free(run + 1)).toThrow(RangeError);
    expect(() => buddies.split(run + 1)).toThrow(RangeError);
    buddies.free(run);
    expect(() => buddies.free(run)).toThrow(RangeError);
    expect(() => new BuddyPages(mem, 1, 1024)).toThrow(RangeError);
  });
});

describe('a device that does not snoop (arch_sync_dma_for_*)', () => {
  test('lines are flushed at the map, invalidated at the unmap if the device wrote; SKIP_CPU_SYNC does neither', () => {
    const lines = (direction: 'toDevice' | 'fromDevice', attrs: number): number[] => {
      const bench = new DmaBench({ coherent: false });
      const address = bench.dma.mapPage(0x5020, 100, direction, attrs);
      const mapped = bench.dma.nrLines;
      bench.dma.unmapPage(address, 100, direction, attrs);
      return [mapped, bench.dma.nrLines];
    };
    // 0x5020 to 0x5083: 3 lines.
    expect(lines('toDevice', 0)).toEqual([3, 3]);
    expect(lines('fromDevice', 0)).toEqual([3, 6]);
    expect(lines('fromDevice', DMA_ATTR_SKIP_CPU_SYNC)).toEqual([0, 0]);
  });

  test('the device sees what the CPU wrote after a sync, not before', () => {
    const bench = new DmaBench({ coherent: false });
    bench.mem.store32(0x5000, 1);
    const list = Scatterlist.of([
      [0x5000, 64],
      [0x9000, 64],
    ]);
    bench.dma.mapSg(list, 'toDevice');
    expect(bench.mem.deviceLoad32(0x5000)).toBe(1);
    bench.mem.store32(0x9000, 2);
    expect(bench.mem.deviceLoad32(0x9000)).toBe(0);
    bench.dma.syncSgForDevice(list, 2, 'toDevice');
    expect(bench.mem.deviceLoad32(0x9000)).toBe(2);
    expect(bench.dma.syncForDevice(0x1000, 4, 'toDevice')).toBe(EINVAL);
    expect(new DmaBench().dma.nrLines).toBe(0);
  });

  test('not without a platform', () => {
    const { space } = new DmaBench();
    expect(() => new DmaDevice(space, { coherent: false })).toThrow(RangeError);
    expect(() => new DmaDevice(space).alloc(K4)).toThrow(RangeError);
  });
});

describe('mapResource', () => {
  test('registers: MMIO, not cached; unmapping twice is refused', () => {
    const bench = new DmaBench();
    const prots: number[] = [];
    const map = bench.driver.mapPages.bind(bench.driver);
    bench.driver.mapPages = (...args): number => {
      prots.push(args[5]);
      return map(...args);
    };
    const address = bench.dma.mapResource(0xe0000010, 16, 'bidirectional');
    expect([address % K4, bench.at(address), prots]).toEqual([0x10, 0xe0000010, [19]]);
    expect(bench.dma.unmapResource(address, 16)).toBe(0);
    expect(bench.dma.unmapResource(address, 16)).toBe(EINVAL);
    expect(bench.state).toEqual([0, 0, 0, 0]);
    // The IOVA went back once: two mappings get two.
    expect(new Set([1, 2].map(() => bench.dma.mapResource(0xe0000010, 16, 'toDevice'))).size).toBe(2);
  });
});

describe('doorbells (iommu_dma_get_msi_page)', () => {
  test('mapped once per page, WRITE | NOEXEC | MMIO', () => {
    const bench = new DmaBench();
    const first = bench.dma.msiDoorbell(0xfee00040);
    expect(bench.dma.msiDoorbell(0xfee00044)).toBe(first + 4);
    expect(bench.dma.msiDoorbell(0xfee01000)).toBe(first - 0x1040);
    expect([bench.at(first), bench.space.msi.nrPages, bench.space.nrLive]).toEqual([0xfee00040, 2, 2]);
    bench.driver.fail.set('sync', -5);
    expect(bench.dma.msiDoorbell(0xfee02000)).toBe(ENOMEM);
    expect([bench.space.msi.nrPages, bench.space.nrLive]).toEqual([2, 2]);
  });

  test('a window that the hardware leaves alone: as it is, and kept out of the IOVAs', () => {
    const bench = new DmaBench();
    const nic = device('00:04.0');
    bench.driver.regions.set(nic.name, [
      { start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 },
      { start: 0xffff_0000, nrBytes: 0xf000, type: 'direct', prot: 3 },
    ]);
    expect(bench.space.reserveFor(nic)).toBe(0);
    expect(bench.dma.msiDoorbell(0xfee12344)).toBe(0xfee12344);
    expect(bench.driver.pages.size).toBe(0);
    expect([1, 2].map(() => bench.dma.mapPage(0x5000, K4, 'toDevice'))).toEqual([0xfffff000, 0xfffef000]);
  });

  test('VFIO: from a base upwards; a failed one is taken back', () => {
    const bench = new DmaBench();
    const cookie = new MsiCookie(bench.core, bench.domain, 0x800_0000);
    expect(cookie.doorbell(0x1234_5678)).toBe(0x800_0678);
    bench.driver.fail.set('map 8001000', ENOMEM);
    expect(cookie.doorbell(0x2000_0000)).toBe(ENOMEM);
    bench.driver.fail.clear();
    expect(cookie.doorbell(0x2000_0000)).toBe(0x800_1000);
    expect(cookie.doorbell(0x1234_5000)).toBe(0x800_0000);
  });
});

describe('a host bridge (iova_reserve_pci_windows)', () => {
  const nic = device('00:04.0');

  test('its windows are kept out, as the bus sees them', () => {
    const bench = new DmaBench();
    const windows = [
      { start: 0xffff_f000, last: 0xffff_ffff },
      { start: 0x8_ffff_c000, last: 0x8_ffff_dfff, offset: 0x8_0000_0000 },
    ];
    expect(bench.space.reserveFor(nic, { windows })).toBe(0);
    expect([1, 2].map(() => bench.dma.mapPage(0x5000, K4, 'toDevice'))).toEqual([0xffff_e000, 0xffff_b000]);
  });

  test('only its DMA ranges are open, in any order', () => {
    const dmaRanges = [
      { start: 0x4000_0000, last: 0x4000_1fff },
      { start: 0x1000, last: 0x2fff },
    ];
    const bench = new DmaBench({ limits: { dmaMask: 2 ** 48 - 1 } });
    expect(bench.space.reserveFor(nic, { windows: [], dmaRanges })).toBe(0);
    // The page in which a gap ends is reserved with it: of each range the first page is lost.
    const got = [1, 2, 3].map(() => bench.dma.mapPage(0x5000, K4, 'toDevice'));
    expect(got).toEqual([0x4000_1000, 0x2000, ENOMEM]);
  });

  test('overlapping ranges: EINVAL', () => {
    const dmaRanges = [
      { start: 0x1000, last: 0x5fff },
      { start: 0x5000, last: 0x8fff },
    ];
    expect(new DmaBench().space.reserveFor(nic, { windows: [], dmaRanges })).toBe(EINVAL);
  });
});

test("deferred attach: before the first mapping, and its failure is the mapping's (iommu_deferred_attach)", () => {
  let errno: number = ENODEV;
  let nrCalls = 0;
  const bench = new DmaBench({
    deferredAttach: () => {
      nrCalls += 1;
      return errno;
    },
  });
  const list = Scatterlist.of([[0x5000, K4]]);
  expect([bench.dma.mapPage(0x5000, K4, 'toDevice'), bench.dma.mapSg(list, 'toDevice')]).toEqual([ENODEV, EINVAL]);
  expect([bench.dma.alloc(K4), bench.dma.iovaTryAlloc(0, K4)]).toEqual([null, null]);
  expect([bench.state, nrCalls]).toEqual([[0, 0, 0, 0], 4]);
  errno = 0;
  expect(bench.dma.mapSg(list, 'toDevice')).toBe(1);
});

describe('strict or lazy', () => {
  test.each<[Parameters<typeof defaultDmaMode>[1], DmaModeFacts, string]>([
    [{}, {}, 'lazy'],
    [{ forcesStrict: true }, {}, 'strict'],
    [{ cannotDeferFlush: true }, {}, 'strict'],
    [{}, { untrusted: true }, 'strict'],
  ])('%j %j: %s', (ops, facts, mode) => {
    expect(defaultDmaMode('lazy', ops, facts)).toBe(mode);
    expect(defaultDmaMode('strict', ops, facts)).toBe('strict');
  });

  test('a queue is started under live mappings (DMA to DMA-FQ by sysfs)', () => {
    const bench = new DmaBench();
    const { cookie } = bench.space;
    const [one, two] = [1, 2].map(() => bench.dma.mapPage(0x5000, K4, 'toDevice'));
    bench.dma.unmapPage(one, K4, 'toDevice');
    expect([cookie.isLazy, cookie.nrOpenWindows]).toEqual([false, 0]);
    cookie.startQueue();
    cookie.startQueue();
    bench.dma.unmapPage(two, K4, 'toDevice');
    expect([cookie.isLazy, cookie.nrOpenWindows]).toEqual([true, 1]);
    cookie.drain();
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('one queue for all CPUs: 32768 slots, 1 s (IOMMU_DMA_OPTS_SINGLE_QUEUE, 6.7)', () => {
    const bench = new DmaBench();
    const released: number[] = [];
    let nrFlushes = 0;
    const owner = {
      flushAll: (): void => void (nrFlushes += 1),
      release: (iova: number): void => void released.push(iova),
      freeTables: (): void => {},
      windowClosed: (): void => {},
    };
    const fq = new FlushQueue(owner, bench.clock, { single: true });
    for (let page = 0; page < 32767; page++) fq.queue(page % 5, page * K4, K4, []);
    expect([nrFlushes, fq.deadlineNs]).toEqual([0, 1e9]);
    fq.queue(3, 0, K4, []);
    expect([nrFlushes, released.length]).toEqual([1, 32767]);
    bench.clock.advanceTo(1e9);
    fq.timeout();
    expect([nrFlushes, released.length]).toEqual([2, 32768]);
  });
});

describe('C-TABLE-LIVE in lazy mode: tables wait in the queue with their range (list mail ee37fd9edf, kernel.md 5 #25)', () => {
  test('and go back after the flush, once', () => {
    const freed: number[] = [];
    const bench = new DmaBench({}, { lazy: true, freeTables: (tables) => freed.push(...tables) });
    const address = bench.dma.mapPage(0x5000, K4, 'toDevice');
    const unmap = bench.driver.unmapPages.bind(bench.driver);
    bench.driver.unmapPages = (domain, iova, pgsize, pgcount, gather): number => {
      gather.freelist.push(77);
      return unmap(domain, iova, pgsize, pgcount, gather);
    };
    bench.dma.unmapPage(address, K4, 'toDevice');
    expect(freed).toEqual([]);
    bench.space.cookie.drain();
    bench.space.cookie.drain();
    expect(freed).toEqual([77]);
  });
});
