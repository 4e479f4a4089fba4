/**
 * The cases of libvfio-user's Python tests (nutanix/libvfio-user, test/py/test_dma_map.py, test_dma_unmap.py,
 * test_dirty_pages.py, test_sgl_get_put.py, test_sgl_read_write.py) that are about mappings and not about messages, as facts
 * for type1, whose structures and flags they use. Where Linux answers otherwise than that server, Linux counts; it is said so.
 */
import { describe, expect, test } from 'vitest';
import { EFAULT, EINVAL, ENOSPC } from '../../src/base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../src/iommu/index.ts';
import type { Type1Options } from '../../src/vfio/index.ts';
import {
  Type1Iommu,
  VFIO_DIRTY_GET,
  VFIO_DIRTY_START,
  VFIO_DIRTY_STOP,
  VFIO_DMA_MAP_READ,
  VFIO_DMA_MAP_WRITE,
  VFIO_DMA_UNMAP_ALL,
  VFIO_DMA_UNMAP_GET_DIRTY,
  dirtyBitmapBytes,
} from '../../src/vfio/index.ts';
import { KiB4, world } from './world.ts';

const RW = VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE;
const V = 0x7f0000000000;

/** An emulated device, as their server's devices are: it touches memory through pins and copies only. */
function setup(options: Type1Options = {}) {
  const at = world();
  at.memory.place(V, 64, 0x40000);
  const type1 = new Type1Iommu(at.core, options);
  const group = at.group();
  expect(type1.attachGroup(group, 'emulated')).toBe(0);
  const pins = new Map<number, number>();
  const device = {
    dmaUnmap: (iova: number, nrBytes: number): void => {
      for (const [start, nr] of pins) if (start >= iova && start < iova + nrBytes) release(start, nr);
    },
  };
  type1.registerDevice(device);
  const hold = (iova: number, nrPages: number, prot = IOMMU_READ | IOMMU_WRITE): number => {
    const result = type1.pinPages(group, iova, nrPages, prot, new Float64Array(nrPages));
    if (result > 0) pins.set(iova, nrPages);
    return result;
  };
  const release = (iova: number, nrPages: number): void => {
    pins.delete(iova);
    type1.unpinPages(iova, nrPages);
  };
  const map = (iova: number, size: number, vaddr = V): number =>
    type1.mapDma({ iova, vaddr, size, flags: RW }, at.process);
  const bits = (iova: number, size: number, pgsize = KiB4, nrBytes = 8) => {
    const data = new Uint8Array(Math.min(nrBytes, 4096));
    const errno = type1.dirtyPages(VFIO_DIRTY_GET, { iova, size, bitmap: { pgsize, nrBytes, data } });
    return { errno, bits: data[0] + data[1] * 256 };
  };
  const end = (): void => {
    type1.detachGroup(group);
    expect(at.leaks()).toEqual([]);
  };
  return { ...at, type1, emulated: group, hold, release, map, bits, end };
}

describe('test_dma_map.py', () => {
  test('dma_region_too_big: more than the addresses there are', () => {
    const at = setup();
    expect(at.map(0x10000, 2 ** 53 - KiB4)).toBe(EINVAL);
    at.end();
  });

  test('dma_region_too_many: the limit can be reached, not passed (ENOSPC in Linux)', () => {
    const at = setup({ dmaEntryLimit: 16 });
    for (let nr = 1; nr <= 16; nr++) expect(at.map(nr * KiB4, KiB4)).toBe(0);
    expect(at.map(17 * KiB4, KiB4)).toBe(ENOSPC);
    at.end();
  });
});

describe('test_dma_unmap.py', () => {
  const dirty = (pgsize: number, nrBytes: number) => ({
    flags: VFIO_DMA_UNMAP_GET_DIRTY,
    bitmap: { pgsize, nrBytes, data: new Uint8Array(8) },
  });

  test('dma_unmap_dirty_bad_argsz: a bitmap of impossible size', () => {
    const at = setup();
    at.map(0x1000, KiB4);
    at.type1.dirtyPages(VFIO_DIRTY_START);
    for (const nrBytes of [0, 2 ** 53 - 8, dirtyBitmapBytes(2 ** 31 - 1) + 8]) {
      expect(at.type1.unmapDma({ iova: 0x1000, size: KiB4, ...dirty(KiB4, nrBytes) })).toBe(EINVAL);
    }
    expect(at.type1.unmapDma({ iova: 0x1000, size: KiB4, flags: VFIO_DMA_UNMAP_GET_DIRTY })).toBe(EINVAL);
    expect(at.type1.dmas.length).toBe(1);
    at.end();
  });

  test('dma_unmap_dirty_not_tracking', () => {
    const at = setup();
    at.map(0x1000, KiB4);
    expect(at.type1.unmapDma({ iova: 0x1000, size: KiB4, ...dirty(KiB4, 8) })).toBe(EINVAL);
    expect(at.type1.dmas.length).toBe(1);
    at.end();
  });

  test('dma_unmap_dirty_not_mapped: Linux unmaps nothing, successfully (the server: EINVAL)', () => {
    const at = setup();
    at.map(0x1000, KiB4);
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.type1.unmapDma({ iova: 0x8000, size: KiB4, ...dirty(KiB4, 8) })).toBe(0);
    at.end();
  });

  test('dma_unmap_invalid_flags', () => {
    const at = setup();
    at.map(0, KiB4);
    expect(at.type1.unmapDma({ iova: 0x1000, size: KiB4, flags: 0x8 })).toBe(EINVAL);
    at.end();
  });

  test('dma_unmap', () => {
    const at = setup();
    at.map(0, KiB4);
    expect(at.type1.unmapDma({ iova: 0, size: KiB4 })).toBe(KiB4);
    at.end();
  });

  test('dma_unmap_invalid_addr: nothing there is 0 bytes (the server: ENOENT)', () => {
    const at = setup();
    at.map(0, KiB4);
    expect(at.type1.unmapDma({ iova: 0x10000, size: KiB4 })).toBe(0);
    at.end();
  });

  test('dma_unmap_async: a device that uses the pages lets go before the unmap returns', () => {
    const at = setup();
    at.map(0, 4 * KiB4);
    expect(at.hold(0x1000, 2)).toBe(2);
    expect(at.memory.nrPins).toBe(2);
    expect(at.type1.unmapDma({ iova: 0, size: 4 * KiB4 })).toBe(4 * KiB4);
    expect(at.memory.nrPins).toBe(0);
    at.end();
  });

  test('a device that never lets go breaks its contract', () => {
    const at = setup();
    at.map(0, KiB4);
    const stubborn = { dmaUnmap: (): void => {} };
    at.type1.registerDevice(stubborn);
    expect(at.type1.pinPages(at.emulated, 0, 1, IOMMU_READ, new Float64Array(1))).toBe(1);
    expect(() => at.type1.unmapDma({ iova: 0, size: KiB4 })).toThrow(/keeps pages/);
    at.type1.unpinPages(0, 1);
    at.type1.unregisterDevice(stubborn);
    at.end();
  });

  test('dma_unmap_all', () => {
    const at = setup();
    for (let nr = 0; nr < 16; nr++) at.map(nr * KiB4, KiB4);
    expect(at.type1.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(16 * KiB4);
    at.end();
  });

  test('dma_unmap_all_invalid_addr', () => {
    const at = setup();
    expect(at.type1.unmapDma({ iova: 0x10000, size: KiB4, flags: VFIO_DMA_UNMAP_ALL })).toBe(EINVAL);
    at.end();
  });

  test('dma_unmap_all_invalid_flags', () => {
    const at = setup();
    const flags = VFIO_DMA_UNMAP_ALL | VFIO_DMA_UNMAP_GET_DIRTY;
    expect(at.type1.unmapDma({ iova: 0, size: 0, ...dirty(KiB4, 8), flags })).toBe(EINVAL);
    at.end();
  });
});

describe('test_dirty_pages.py', () => {
  function tracked() {
    const at = setup();
    at.map(0x10000, 0x10000);
    at.map(0x20000, 0x10000, V + 0x10000);
    return at;
  }

  test('dirty_pages_start_bad_flags: one at a time', () => {
    const at = tracked();
    expect(at.type1.dirtyPages(VFIO_DIRTY_START | VFIO_DIRTY_STOP)).toBe(EINVAL);
    expect(at.type1.dirtyPages(VFIO_DIRTY_START | VFIO_DIRTY_GET)).toBe(EINVAL);
    expect(at.type1.dirtyPages(0)).toBe(EINVAL);
    expect(at.type1.dirtyPages(8)).toBe(EINVAL);
    at.end();
  });

  test('dirty_pages_start: twice is once', () => {
    const at = tracked();
    expect(at.type1.dirtyPages(VFIO_DIRTY_START)).toBe(0);
    expect(at.type1.dirtyPages(VFIO_DIRTY_START)).toBe(0);
    at.end();
  });

  test('dirty_pages_get_short_read: no range', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.type1.dirtyPages(VFIO_DIRTY_GET)).toBe(EINVAL);
    at.end();
  });

  test('dirty_pages_get_sub_range: a part of a mapping is EINVAL', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.bits(0x11000, 0x1000).errno).toBe(EINVAL);
    expect(at.bits(0x10000, 0x1000).errno).toBe(EINVAL);
    expect(at.bits(0x10000, 0x18000).errno).toBe(EINVAL);
    at.end();
  });

  test('dirty_pages_get_bad_page_size', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    for (const pgsize of [0x2000, 0x800, 0, -4096]) expect(at.bits(0x10000, 0x10000, pgsize).errno).toBe(EINVAL);
    at.end();
  });

  test('dirty_pages_get_bad_bitmap_size, dirty_pages_get_bad_argsz', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    for (const nrBytes of [1, 7, 0, 2 ** 40]) expect(at.bits(0x10000, 0x10000, KiB4, nrBytes).errno).toBe(EINVAL);
    at.end();
  });

  test('get_dirty_page_bitmap_unmapped: nothing is dirty there (the server: EINVAL)', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.bits(0x80000, 0x10000)).toEqual({ errno: 0, bits: 0 });
    at.end();
  });

  test('dirty_pages_get_unmodified', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.bits(0x10000, 0x10000)).toEqual({ errno: 0, bits: 0 });
    at.end();
  });

  test('dirty_pages_get_modified, dirty_pages_stop: pinned pages are dirty until a read after their release', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.hold(0x10000, 1)).toBe(1);
    expect(at.hold(0x14000, 4)).toBe(4);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0b11110001);
    at.release(0x10000, 1);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0b11110001);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0b11110000);
    // Stopped and started: what is still pinned is dirty.
    expect(at.type1.dirtyPages(VFIO_DIRTY_STOP)).toBe(0);
    expect(at.type1.dirtyPages(VFIO_DIRTY_STOP)).toBe(0);
    expect(at.bits(0x10000, 0x10000).errno).toBe(EINVAL);
    at.type1.dirtyPages(VFIO_DIRTY_START);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0b11110000);
    at.release(0x14000, 4);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0b11110000);
    expect(at.bits(0x10000, 0x10000).bits).toBe(0);
    at.end();
  });

  test('whole 64-bit words are written: what lies behind a mapping in its last word becomes 0, what lies before it stays', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    const data = new Uint8Array(16).fill(0xff);
    const bitmap = { pgsize: KiB4, nrBytes: 16, data };
    expect(at.type1.dirtyPages(VFIO_DIRTY_GET, { iova: 0, size: 128 * KiB4, bitmap })).toBe(0);
    // Pages 16 to 47 are mapped and clean; nobody says anything of 0 to 15 and of 64 on.
    expect([...data]).toEqual([255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    at.end();
  });

  test('an unmap hands its dirty bits over (VFIO_DMA_UNMAP_GET_DIRTY)', () => {
    const at = tracked();
    at.type1.dirtyPages(VFIO_DIRTY_START);
    at.hold(0x12000, 1);
    at.hold(0x2f000, 1);
    at.release(0x12000, 1);
    at.release(0x2f000, 1);
    const data = new Uint8Array(8);
    const bitmap = { pgsize: KiB4, nrBytes: 8, data };
    expect(at.type1.unmapDma({ iova: 0x10000, size: 0x20000, flags: VFIO_DMA_UNMAP_GET_DIRTY, bitmap })).toBe(0x20000);
    expect([...data]).toEqual([0b100, 0, 0, 0x80, 0, 0, 0, 0]);
    at.end();
  });
});

describe('test_sgl_get_put.py', () => {
  test('sgl_get_with_invalid_region: nothing mapped there', () => {
    const at = setup();
    expect(at.hold(0x1000, 1)).toBe(EINVAL);
    at.end();
  });

  test('sgl_get_without_fd: a mapping without memory behind it', () => {
    const at = setup();
    expect(at.map(0x1000, KiB4, 0x1000)).toBe(0);
    expect(at.hold(0x1000, 1)).toBe(EFAULT);
    at.end();
  });

  test('get_multiple_sge, sgl_put: over several mappings, and back', () => {
    const at = setup();
    for (let nr = 1; nr < 4; nr++) at.map(nr * KiB4, KiB4, V + (4 - nr) * KiB4);
    const pfns = new Float64Array(3);
    expect(at.type1.pinPages(at.emulated, KiB4, 3, IOMMU_READ, pfns)).toBe(3);
    expect([...pfns]).toEqual([0x40003, 0x40002, 0x40001]);
    at.type1.unpinPages(KiB4, 3);
    expect(at.memory.nrPins).toBe(0);
    // One page too far: none is held.
    expect(at.hold(KiB4, 4)).toBe(EINVAL);
    expect(at.memory.nrPins).toBe(0);
    at.end();
  });
});

describe('test_sgl_read_write.py', () => {
  const bytes = (nr: number): Uint8Array => Uint8Array.from({ length: nr }, (_, index) => index & 0xff);
  test.each([
    ['dma_read_write', 64],
    ['dma_read_write_large', 2 * KiB4],
  ])('%s: what is written is in memory, and is read back', (_, nr) => {
    const at = setup();
    at.map(0x10000000, 16 * KiB4);
    expect(at.type1.dmaRw(0x10001000, bytes(nr), true)).toBe(0);
    const got = new Uint8Array(nr);
    expect(at.type1.dmaRw(0x10001000, got, false)).toBe(0);
    expect(got).toEqual(bytes(nr));
    expect(at.memory.bytesOf(0x40001).subarray(0, 64)).toEqual(bytes(64));
    at.end();
  });

  test('dma_read_write_error: memory that is gone', () => {
    const at = setup();
    at.map(0x10000000, 16 * KiB4);
    at.memory.remove(V, 16);
    expect(at.type1.dmaRw(0x10001000, new Uint8Array(64), false)).toBe(EFAULT);
    expect(at.type1.dmaRw(0x20000000, new Uint8Array(64), false)).toBe(EINVAL);
    at.end();
  });
});
