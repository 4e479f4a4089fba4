/** Bounce buffers of untrusted devices (iommu_dma_map_page; kernel/dma/swiotlb.c). */
import { describe, expect, test } from 'vitest';
import { EINVAL, EIO, ENOSPC } from '../../src/base/index.ts';
import type { DmaDirection } from '../../src/dma/index.ts';
import { DMA_ATTR_MMIO, DMA_ATTR_SKIP_CPU_SYNC, Scatterlist, Swiotlb } from '../../src/dma/index.ts';
import { DmaBench, K4, POOL, POOL_BYTES } from './dma-bench.ts';

const UNTRUSTED = { untrusted: true };
const DIRECTIONS: DmaDirection[] = ['toDevice', 'fromDevice', 'bidirectional'];
const inPool = (paddr: number): boolean => paddr >= POOL && paddr < POOL + POOL_BYTES;

describe('what is bounced', () => {
  test.each([
    [0x5000, K4, false],
    [0x5000, 3 * K4, false],
    [0x5001, K4, true],
    [0x5000, K4 - 1, true],
    [0x5800, 0x800, true],
    [0x5000, K4 + 1, true],
  ])('0x%x, %i bytes: %s', (paddr, nrBytes, bounced) => {
    const bench = new DmaBench(UNTRUSTED);
    const address = bench.dma.mapPage(paddr, nrBytes, 'toDevice');
    expect(inPool(bench.at(address))).toBe(bounced);
    expect(bench.swiotlb.nrUsedSlots > 0).toBe(bounced);
    expect(bench.dma.unmapPage(address, nrBytes, 'toDevice')).toBe(0);
    expect(bench.state).toEqual([0, 0, 0, 0]);
    // Trusted: never.
    const trusted = new DmaBench();
    expect(trusted.at(trusted.dma.mapPage(paddr, nrBytes, 'toDevice'))).toBe(paddr);
  });
});

describe('what the device sees', () => {
  test.each([
    [0, 0],
    [K4 - 1, 0x123],
  ])('min_align_mask %i: the buffer at offset %i of a page of its own, zeroes around it', (minAlignMask, offset) => {
    const bench = new DmaBench({ ...UNTRUSTED, minAlignMask });
    for (let word = 0; word < POOL_BYTES; word += 4) bench.mem.store32(POOL + word, 0x5ec2e75);
    bench.put(0x5120, 9, 9, 9, 1, 2, 3, 4, 5, 9, 9);
    const address = bench.dma.mapPage(0x5123, 5, 'bidirectional');
    expect(address % K4).toBe(offset);
    const page = bench.at(address) - offset;
    const seen = bench.get(page, K4);
    expect(seen.slice(offset, offset + 5)).toEqual([1, 2, 3, 4, 5]);
    seen.fill(0, offset, offset + 5);
    expect(new Set(seen)).toEqual(new Set([0]));
  });

  test('two buffers never share a page of the pool', () => {
    const bench = new DmaBench(UNTRUSTED);
    const pages = Array.from({ length: 10 }, (_, nr) => bench.at(bench.dma.mapPage(0x5010 + nr * 32, 16, 'toDevice')));
    expect(new Set(pages.map((paddr) => Math.floor(paddr / K4))).size).toBe(10);
  });
});

describe('copies', () => {
  const ORIGINAL = [10, 11, 12, 13];
  // Device and CPU write different bytes while the buffer is mapped; who wins where.
  test.each<[DmaDirection, string, number[]]>([
    ['toDevice', 'unmap', [10, 77, 12, 13]],
    ['fromDevice', 'unmap', [99, 11, 12, 13]],
    ['bidirectional', 'unmap', [99, 11, 12, 13]],
    ['toDevice', 'for CPU', [10, 77, 12, 13]],
    ['fromDevice', 'for CPU', [99, 11, 12, 13]],
    ['bidirectional', 'for CPU', [99, 11, 12, 13]],
    ['fromDevice', 'unmap, SKIP_CPU_SYNC', [10, 77, 12, 13]],
  ])('%s, %s', (direction, what, expected) => {
    const bench = new DmaBench(UNTRUSTED);
    bench.put(0x5001, ...ORIGINAL);
    const address = bench.dma.mapPage(0x5001, 4, direction);
    const pool = bench.at(address);
    bench.put(pool, 99);
    bench.put(0x5002, 77);
    if (what === 'for CPU') bench.dma.syncForCpu(address, 4, direction);
    else bench.dma.unmapPage(address, 4, direction, what === 'unmap' ? 0 : DMA_ATTR_SKIP_CPU_SYNC);
    expect(bench.get(0x5001, 4)).toEqual(expected);
    expect(bench.get(0x5000, 1)).toEqual([0]);
    expect(bench.get(0x5005, 1)).toEqual([0]);
  });

  test.each<[DmaDirection, number[]]>([
    ['toDevice', [10, 77, 12, 13]],
    ['fromDevice', [10, 11, 12, 13]],
    ['bidirectional', [10, 77, 12, 13]],
  ])('%s for the device', (direction, expected) => {
    const bench = new DmaBench(UNTRUSTED);
    bench.put(0x5001, ...ORIGINAL);
    const address = bench.dma.mapPage(0x5001, 4, direction);
    bench.put(0x5002, 77);
    bench.dma.syncForDevice(address, 4, direction);
    expect(bench.get(bench.at(address), 4)).toEqual(expected);
  });

  test.each(DIRECTIONS)(
    'a %s buffer the device never writes comes back as it was, not as the pool was (ddbd89deb7d3, kernel.md 5 #30: info leak)',
    (direction) => {
      const bench = new DmaBench(UNTRUSTED);
      for (let word = 0; word < POOL_BYTES; word += 4) bench.mem.store32(POOL + word, 0x5ec2e75);
      bench.put(0x5001, ...ORIGINAL);
      const address = bench.dma.mapPage(0x5001, 4, direction);
      bench.dma.unmapPage(address, 4, direction);
      expect(bench.get(0x5001, 4)).toEqual(ORIGINAL);
    },
  );

  test('a sync in the middle copies to the middle (list mail 59cd201b45, kernel.md 5 #30)', () => {
    const bench = new DmaBench({ ...UNTRUSTED, minAlignMask: K4 - 1 });
    const address = bench.dma.mapPage(0x5f00, 5000, 'fromDevice');
    const pool = bench.at(address);
    bench.put(pool + 3000, 1, 2, 3);
    bench.dma.syncForCpu(address + 3001, 1, 'fromDevice');
    expect(bench.get(0x5f00 + 2999, 5)).toEqual([0, 0, 2, 0, 0]);
    expect(bench.get(0x5f00, 4)).toEqual([0, 0, 0, 0]);
    // Beyond the end nothing is copied.
    bench.put(pool + 4999, 7, 8);
    bench.dma.syncForCpu(address + 4998, 100, 'fromDevice');
    expect(bench.get(0x5f00 + 4998, 4)).toEqual([0, 7, 0, 0]);
  });
});

describe('refused, nothing changes', () => {
  test('no pool: EIO', () => {
    const bench = new DmaBench({ ...UNTRUSTED, swiotlb: null });
    expect(bench.dma.mapPage(0x5001, 4, 'toDevice')).toBe(EIO);
    expect(bench.dma.mapPage(0x5000, K4, 'toDevice')).toBeGreaterThan(0);
  });

  test('the pool is full: ENOSPC; and has room again after an unmap', () => {
    const bench = new DmaBench(UNTRUSTED);
    const nr = POOL_BYTES / K4;
    const all = Array.from({ length: nr }, () => bench.dma.mapPage(0x5001, 4, 'toDevice'));
    const before = bench.state;
    expect(bench.dma.mapPage(0x5001, 4, 'toDevice')).toBe(ENOSPC);
    expect(bench.state).toEqual(before);
    bench.dma.unmapPage(all[17], 4, 'toDevice');
    expect(inPool(bench.at(bench.dma.mapPage(0x5001, 4, 'toDevice')))).toBe(true);
  });

  test.each([
    [0, 2 ** 18, 2 ** 18 + 1],
    // Of a buffer that ends its first page, one byte more than promised still fits.
    [K4 - 1, 2 ** 18 - K4, 2 ** 18 - K4 + 2],
  ])('min_align_mask %i: %i bytes at most', (minAlignMask, most, tooMany) => {
    const bench = new DmaBench({ ...UNTRUSTED, minAlignMask });
    expect(bench.dma.maxMappingBytes).toBe(most);
    expect(bench.dma.mapPage(0x5fff, tooMany, 'toDevice')).toBe(ENOSPC);
    expect(bench.dma.mapPage(0x5fff, most, 'toDevice')).toBeGreaterThan(0);
    expect(new DmaBench().dma.maxMappingBytes).toBe(Infinity);
  });

  test('registers are not copied: EINVAL', () => {
    const bench = new DmaBench(UNTRUSTED);
    expect(bench.dma.mapPage(0x5001, 4, 'toDevice', DMA_ATTR_MMIO)).toBe(EINVAL);
    expect(bench.at(bench.dma.mapResource(0x5001, 4, 'toDevice'))).toBe(0x5001);
  });

  test('the IOMMU refuses: the bounce buffer goes back', () => {
    const bench = new DmaBench(UNTRUSTED);
    bench.driver.fail.set('sync', -5);
    expect(bench.dma.mapPage(0x5001, 4, 'toDevice')).toBe(-5);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('an alignment that IOVAs do not keep: EINVAL ("Unsupported alignment constraint")', () => {
    expect(new DmaBench({ minAlignMask: 0x1fff }).dma.mapPage(0x5000, K4, 'toDevice')).toBe(EINVAL);
  });
});

describe('lists', () => {
  const ELEMENTS: [number, number][] = [
    [0x5001, 4],
    [0x8000, K4],
    [0x9100, 300],
    [0x9300, 300],
  ];

  test('each element on its own, whatever could be joined', () => {
    const bench = new DmaBench(UNTRUSTED);
    const list = Scatterlist.of(ELEMENTS);
    bench.put(0x9100, 1, 2, 3);
    expect(bench.dma.mapSg(list, 'bidirectional')).toBe(4);
    expect(ELEMENTS.map((_, at) => inPool(bench.at(list.dmaAddress[at])))).toEqual([true, false, true, true]);
    bench.put(bench.at(list.dmaAddress[2]) + 1, 88);
    bench.dma.syncSgForCpu(list, 4, 'bidirectional');
    expect(bench.get(0x9100, 3)).toEqual([1, 88, 3]);
    bench.put(0x9102, 44);
    bench.dma.syncSgForDevice(list, 4, 'bidirectional');
    expect(bench.get(bench.at(list.dmaAddress[2]), 3)).toEqual([1, 88, 44]);
    expect(bench.dma.unmapSg(list, 4, 'bidirectional')).toBe(0);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('one that fails takes all back, without copying: EIO', () => {
    const bench = new DmaBench(UNTRUSTED);
    const list = Scatterlist.of([
      [0x5001, 4],
      [0x8001, 2 ** 19],
    ]);
    bench.put(0x5001, 1, 2, 3, 4);
    const write = bench.swiotlb.unmap.bind(bench.swiotlb);
    bench.swiotlb.unmap = (address, ...rest): number => {
      bench.put(address, 66);
      return write(address, ...rest);
    };
    expect(bench.dma.mapSg(list, 'fromDevice')).toBe(EIO);
    expect(bench.get(0x5001, 4)).toEqual([1, 2, 3, 4]);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });
});

test('a device that does not snoop: the copy is flushed to it', () => {
  const bench = new DmaBench({ ...UNTRUSTED, coherent: false });
  bench.put(0x5001, 1, 2, 3, 4);
  const address = bench.dma.mapPage(0x5001, 4, 'toDevice');
  const pool = bench.at(address);
  expect(bench.mem.deviceLoad32(pool)).toBe(0x04030201);
  bench.put(0x5001, 5);
  bench.dma.syncForDevice(address, 4, 'toDevice');
  expect(bench.mem.deviceLoad32(pool)).toBe(0x04030205);
  expect(bench.dma.nrLines).toBe(2);
});

test('Swiotlb refuses a pool that is no segments', () => {
  const { mem } = new DmaBench();
  expect(() => new Swiotlb(mem, 2 ** 17, 2 ** 18)).toThrow(RangeError);
  expect(() => new Swiotlb(mem, 0, 1000)).toThrow(RangeError);
  expect(new Swiotlb(mem, 0, 2 ** 18).unmap(64, 4, 'toDevice', false)).toBe(EINVAL);
});
