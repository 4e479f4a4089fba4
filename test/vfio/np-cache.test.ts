/**
 * The dispute of April 2019 from the side of its victims. VFIO and iommufd call iommu_map() themselves, past the DMA API. On
 * hardware that caches "not present" (VT-d caching mode), with the flush after a map left to the DMA API (`caller`), a device
 * that had looked before does not see their mappings. With the flush in the driver (`map`, `sync-map`) it does.
 */
import { describe, expect, test } from 'vitest';
import type { MapFlush } from '../../src/drivers/index.ts';
import { MAP_FLUSHES } from '../../src/drivers/index.ts';
import type { Device } from '../../src/iommu/index.ts';
import { IommuGroup } from '../../src/iommu/index.ts';
import { IntelMachine } from '../../src/machine/index.ts';
import {
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
  IommufdDevice,
  LockAccount,
  Type1Iommu,
  VFIO_DMA_MAP_READ,
  VFIO_DMA_MAP_WRITE,
} from '../../src/vfio/index.ts';
import { Tape, isPsi, NVME, READ, RW } from '../drivers/lab.ts';
import { Injector, KiB4, TestMemory } from './world.ts';

const NR = 8;
const IOVA = 0x40000000;
const V = 0x7f0000000000;
/** Three runs: 3, 1 and 4 pages. */
const FRAMES = [0x50000, 0x50001, 0x50002, 0x60000, 0x70000, 0x70001, 0x70002, 0x70003];

interface Caller {
  map: () => void;
  unmap: () => void;
}

/** Ready to map NR pages of FRAMES at IOVA, for a device that is attached. */
const CALLERS: Record<string, (at: Bench) => Caller> = {
  'VFIO type1'(at) {
    const type1 = new Type1Iommu(at.machine.core, { pages: at.machine.pages });
    expect(type1.attachGroup(at.group)).toBe(0);
    const flags = VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE;
    const request = { iova: IOVA, vaddr: V, size: NR * KiB4, flags };
    return {
      map: () => expect(type1.mapDma(request, at)).toBe(0),
      unmap: () => expect(type1.unmapDma({ iova: IOVA, size: NR * KiB4 })).toBe(NR * KiB4),
    };
  },
  iommufd(at) {
    const fd = new Iommufd(at.machine.core);
    const ioas = fd.ioasAlloc();
    const bound = fd.bind(NVME, at.group);
    if (!(bound instanceof IommufdDevice)) throw new Error('bind failed');
    expect(bound.attach(ioas)).toBeGreaterThan(0);
    const flags = IOAS_MAP_FIXED_IOVA | IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE;
    return {
      map: () => expect(fd.ioasMap(ioas, { vaddr: V, nrBytes: NR * KiB4, iova: IOVA, flags }, at)).toBe(IOVA),
      unmap: () => expect(fd.ioasUnmap(ioas, IOVA, NR * KiB4)).toBe(NR * KiB4),
    };
  },
};

interface Bench {
  readonly machine: IntelMachine;
  readonly group: IommuGroup;
  readonly memory: TestMemory;
  readonly account: LockAccount;
  readonly psis: () => number;
  /** Pages that the device sees rightly, READ and RW. */
  readonly nrSeen: () => number;
}

function bench(mapFlush: MapFlush, cachingMode: boolean, device: Device = NVME): Bench {
  const tape = new Tape();
  const machine = new IntelMachine({ preset: 'linux-6.12', mapFlush, hardware: { cachingMode }, listener: tape });
  const memory = new TestMemory(new Injector(), new Map()).place(V, NR, FRAMES);
  const group = new IommuGroup(machine.core, machine.driver, 4);
  expect(group.addDevice(device)).toBe(0);
  return {
    machine,
    group,
    memory,
    account: new LockAccount(),
    psis: () => tape.take().filter((word) => isPsi(word)).length,
    nrSeen: () =>
      FRAMES.filter((pfn, page) =>
        [READ, RW].every((access) => machine.unit.translate(device.sid, IOVA + page * KiB4, access) === pfn * KiB4),
      ).length,
  };
}

describe.each(Object.keys(CALLERS))('%s on caching-mode hardware', (name) => {
  const caller = (at: Bench): Caller => CALLERS[name](at);

  test.each<[MapFlush, seen: number, psis: number]>([
    // Nobody flushes what this caller maps.
    ['none', 0, 0],
    ['caller', 0, 0],
    // One per run: each is an iommu_map() of one callback here.
    ['map', NR, 3],
    ['sync-map', NR, 3],
  ])('--map-flush %s: the device sees %i of 8 pages that it had looked at before', (policy, seen, psis) => {
    const at = bench(policy, true);
    const { map, unmap } = caller(at);
    expect(at.nrSeen()).toBe(0);
    at.psis();
    map();
    expect(at.psis()).toBe(psis);
    expect(at.nrSeen()).toBe(seen);
    // The table is right all the same: only the cache is not.
    expect(at.machine.core.iovaToPhys(at.group.domain!, IOVA)).toBe(FRAMES[0] * KiB4);
    unmap();
    expect(at.nrSeen()).toBe(0);
    expect([at.memory.nrPins, at.account.nrLocked]).toEqual([0, 0]);
  });

  test('a device that had not looked sees everything, whatever the policy', () => {
    for (const policy of MAP_FLUSHES) {
      const at = bench(policy, true);
      caller(at).map();
      expect(at.nrSeen()).toBe(NR);
    }
  });

  test('and so it does without caching mode: why nobody noticed', () => {
    for (const policy of MAP_FLUSHES) {
      const at = bench(policy, false);
      const { map, unmap } = caller(at);
      expect(at.nrSeen()).toBe(0);
      map();
      expect(at.nrSeen()).toBe(NR);
      unmap();
      expect(at.nrSeen()).toBe(0);
    }
  });

  test('a remap shows the new frames under sync-map, and nothing under caller', () => {
    for (const [policy, seen] of [
      ['sync-map', NR],
      ['caller', 0],
    ] as const) {
      const at = bench(policy, true);
      const { map, unmap } = caller(at);
      for (let round = 0; round < 3; round++) {
        map();
        // Round 0 is seen under any policy: nobody had looked.
        if (round > 0) expect(at.nrSeen()).toBe(seen);
        unmap();
        expect(at.nrSeen()).toBe(0);
      }
    }
  });
});

test('iommufd attaches before it fills: what the device looks up meanwhile is repaired by the maps, or not', () => {
  for (const [policy, seen] of [
    ['sync-map', NR],
    ['caller', 0],
  ] as const) {
    const at = bench(policy, true);
    const fd = new Iommufd(at.machine.core);
    const ioas = fd.ioasAlloc();
    const flags = IOAS_MAP_FIXED_IOVA | IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE;
    expect(fd.ioasMap(ioas, { vaddr: V, nrBytes: NR * KiB4, iova: IOVA, flags }, at)).toBe(IOVA);
    const bound = fd.bind(NVME, at.group);
    if (!(bound instanceof IommufdDevice)) throw new Error('bind failed');
    // The device does DMA while the pages are being pinned.
    const pin = at.memory.pin.bind(at.memory);
    at.memory.pin = (...args): number => {
      expect(at.nrSeen()).toBe(0);
      return pin(...args);
    };
    expect(bound.attach(ioas)).toBeGreaterThan(0);
    expect(at.nrSeen()).toBe(seen);
  }
});
