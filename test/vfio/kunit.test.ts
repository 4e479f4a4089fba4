/**
 * Numbers of Linux's generic_pt KUnit suite (drivers/iommu/generic_pt/kunit_iommu.h, kunit_iommu_pt.h; 6.19) as mappings of a
 * process: the same IOVAs, frames and leaves, made by VFIO's runs on the Intel driver's tables.
 */
import { describe, expect, test } from 'vitest';
import { EEXIST, Rng } from '../../src/base/index.ts';
import type { IntelDomain } from '../../src/drivers/index.ts';
import { IommuGroup } from '../../src/iommu/index.ts';
import { IntelMachine } from '../../src/machine/index.ts';
import { visitLeaves } from '../../src/pt/index.ts';
import type { ProcessMemory } from '../../src/vfio/index.ts';
import { LockAccount, Type1Iommu, VFIO_DMA_MAP_READ, VFIO_DMA_MAP_WRITE } from '../../src/vfio/index.ts';
import { GiB, KiB4, MiB2, newDevice } from './world.ts';

const RW = VFIO_DMA_MAP_READ | VFIO_DMA_MAP_WRITE;
const V = 2 ** 46;

/** Memory where the page at V + n is frame `first` + n, without holes. */
class Straight implements ProcessMemory {
  first = 0;
  nrPins = 0;
  readonly exited = false;
  pin(vaddr: number, nrPages: number, _write: boolean, pfns: Float64Array): number {
    for (let page = 0; page < nrPages; page++) pfns[page] = this.first + (vaddr - V) / KiB4 + page;
    this.nrPins += nrPages;
    return nrPages;
  }
  unpin(_pfn: number, nrPages: number): void {
    this.nrPins -= nrPages;
  }
  copyUser(): number {
    return 0;
  }
  copyFrame(): void {}
}

function setup() {
  const machine = new IntelMachine({ hardware: { cachingMode: true } });
  const memory = new Straight();
  const process = { memory, account: new LockAccount() };
  const group = new IommuGroup(machine.core, machine.driver, 1);
  expect(group.addDevice(newDevice())).toBe(0);
  const type1 = new Type1Iommu(machine.core);
  expect(type1.attachGroup(group)).toBe(0);
  const domain = type1.domains[0].domain as IntelDomain;
  const map = (iova: number, paddr: number, size: number): number => {
    memory.first = paddr / KiB4;
    return type1.mapDma({ iova, vaddr: V, size, flags: RW }, process);
  };
  const leaves = (): number[] => {
    const sizes: number[] = [];
    const { table } = domain;
    if (table === null) return sizes;
    visitLeaves(machine.mem, table.format, table.rootPfn, table.levels, {
      leaf: (_iova, _paddr, nrBytes) => sizes.push(nrBytes),
    });
    return sizes;
  };
  const check = (iova: number, paddr: number, size: number): void => {
    for (let at = 0; at < size; at += Math.max(KiB4, size / 64 - ((size / 64) % KiB4))) {
      if (machine.core.iovaToPhys(domain, iova + at) !== paddr + at)
        expect.fail(`${(iova + at).toString(16)} is wrong`);
    }
  };
  return { type1, memory, map, leaves, check };
}

describe('generic_pt KUnit', () => {
  test('test_pgsize_boundary: 0xfef80000 to 0x208b95d000, 32 pages that no large leaf fits', () => {
    const at = setup();
    // Just behind the interrupt range, so VFIO may have it.
    const iova = 0xfef80000;
    expect(at.map(iova, 0x208b95d000, 0x20000)).toBe(0);
    expect(at.leaves()).toEqual(Array.from({ length: 32 }, () => KiB4));
    at.check(iova, 0x208b95d000, 0x20000);
    expect(at.type1.unmapDma({ iova, size: 0x20000 })).toBe(0x20000);
    expect([at.leaves(), at.memory.nrPins]).toEqual([[], 0]);
  });

  test('test_mixed: 20 leaves: 14 of 2 MiB, 3 of 1 GiB, 3 of 2 MiB', () => {
    const at = setup();
    const start = 0x3fe400 * KiB4;
    const end = 0x4c0600 * KiB4;
    expect(at.map(start, start, end - start)).toBe(0);
    expect(at.leaves()).toEqual([...Array(14).fill(MiB2), ...Array(3).fill(GiB), ...Array(3).fill(MiB2)]);
    at.check(start, start, end - start);
    expect(at.type1.unmapDma({ iova: start, size: end - start })).toBe(end - start);
    expect([at.leaves(), at.memory.nrPins]).toEqual([[], 0]);
  });

  test.each([KiB4, MiB2, GiB])('test_map_simple: one leaf of %i bytes, which nothing can be mapped into', (size) => {
    const at = setup();
    expect(at.map(4 * GiB, 8 * GiB, size)).toBe(0);
    expect(at.leaves()).toEqual([size]);
    expect(at.map(4 * GiB + size - KiB4, 0, KiB4)).toBe(EEXIST);
    expect(at.type1.unmapDma({ iova: 4 * GiB, size })).toBe(size);
    expect(at.leaves()).toEqual([]);
  });

  test.each([MiB2, GiB])('test_map_table_to_oa: a leaf of %i bytes where a table was', (size) => {
    const at = setup();
    expect(at.map(4 * GiB, 8 * GiB, KiB4)).toBe(0);
    expect(at.type1.unmapDma({ iova: 4 * GiB, size: KiB4 })).toBe(KiB4);
    expect(at.map(4 * GiB, 8 * GiB, size)).toBe(0);
    expect(at.leaves()).toEqual([size]);
    at.check(4 * GiB, 8 * GiB, size);
  });

  test('test_random_map: 1000 maps at random, those that overlap are refused', () => {
    const at = setup();
    const rng = new Rng(11);
    const live: { iova: number; size: number; paddr: number }[] = [];
    let nrRefused = 0;
    for (let nr = 0; nr < 1000; nr++) {
      const iova = 4 * GiB + rng.below(1 << 14) * KiB4;
      const size = (1 + rng.below(600)) * KiB4;
      const paddr = rng.below(1 << 22) * KiB4;
      const hit = live.filter((one) => one.iova < iova + size && iova < one.iova + one.size);
      expect(at.map(iova, paddr, size)).toBe(hit.length > 0 ? EEXIST : 0);
      if (hit.length > 0) {
        nrRefused += 1;
        for (const one of hit) {
          expect(at.type1.unmapDma({ iova: one.iova, size: one.size })).toBe(one.size);
          live.splice(live.indexOf(one), 1);
        }
        expect(at.map(iova, paddr, size)).toBe(0);
      }
      live.push({ iova, size, paddr });
      at.check(iova, paddr, size);
    }
    expect(nrRefused).toBeGreaterThan(100);
    for (const one of live) expect(at.type1.unmapDma(one)).toBe(one.size);
    expect([at.leaves(), at.memory.nrPins]).toEqual([[], 0]);
  });
});
