/**
 * Random programs on one VFIO container: several groups on shared domains, an emulated device that pins, dirty tracking, a
 * limit on locked memory. The reference is a list of mappings; it knows nothing of runs, batches, domains or replays.
 * IOMMUKIT_VFIO_OPS sets how many operations (default 50,000 over all seeds).
 */
import { describe, expect, test } from 'vitest';
import { EEXIST, EFAULT, EINVAL, ENOMEM, ENOSPC, Rng } from '../../src/base/index.ts';
import type { IommuGroup } from '../../src/iommu/index.ts';
import { IOMMU_READ } from '../../src/iommu/index.ts';
import {
  Type1Iommu,
  VFIO_DIRTY_GET,
  VFIO_DIRTY_START,
  VFIO_DIRTY_STOP,
  VFIO_DMA_UNMAP_ALL,
  testBit,
} from '../../src/vfio/index.ts';
import type { World } from './world.ts';
import { KiB4, newDevice, world } from './world.ts';

const NR_OPS = Number(process.env['IOMMUKIT_VFIO_OPS'] ?? 50_000);
const V = 0x7f0000000000;
const NR_VPAGES = 1024;
/** Mappings are made in here, and sometimes over its ends. */
const NR_IPAGES = 600;
const LIMIT = 500;
const MAX_MAPPINGS = 40;

interface Mapping {
  iova: number;
  nr: number;
  vpage: number;
  flags: number;
}

class Program {
  readonly rng: Rng;
  readonly at: World;
  readonly type1: Type1Iommu;
  readonly v2: boolean;
  readonly groups: { group: IommuGroup; attached: boolean }[] = [];
  readonly emulated: IommuGroup;
  readonly mappings: Mapping[] = [];
  /** Pages the emulated device holds, by IOVA page: how often. */
  readonly held = new Map<number, number>();
  tracking = false;
  readonly dirty = new Set<number>();

  constructor(seed: number) {
    this.rng = new Rng(seed);
    this.v2 = seed % 4 !== 0;
    const bitmap = [0x40201000, 0x7ffff000, 0x201000][seed % 3];
    this.at = world({
      limitPages: LIMIT,
      pgsizeBitmap: bitmap,
      regions: [{ start: 0xfee00000, nrBytes: 0x100000, type: 'msi', prot: 0 }],
    });
    const { memory } = this.at;
    // Runs of every length, some frames behind several pages, some pages without any.
    for (let page = 0; page < NR_VPAGES;) {
      const nr = 1 + this.rng.below(this.rng.chance(0.2) ? 80 : 6);
      const pfn = 0x1000 + this.rng.below(3000);
      if (this.rng.chance(0.97)) memory.place(V + page * KiB4, nr, pfn);
      page += nr;
    }
    this.type1 = new Type1Iommu(this.at.core, { v2: this.v2, dmaEntryLimit: MAX_MAPPINGS });
    for (const kind of ['', '', 'other']) {
      const device = newDevice();
      this.at.mock.kinds.set(device, kind);
      this.groups.push({ group: this.at.group(device), attached: false });
    }
    this.emulated = this.at.group();
    expect(this.type1.attachGroup(this.emulated, 'emulated')).toBe(0);
    this.type1.registerDevice({
      dmaUnmap: (iova, nrBytes) => {
        for (const [page, nr] of this.held) {
          if (page * KiB4 < iova || page * KiB4 >= iova + nrBytes) continue;
          for (let user = 0; user < nr; user++) this.type1.unpinPages(page * KiB4, 1);
          this.held.delete(page);
        }
      },
    });
  }

  get hasDomain(): boolean {
    return this.groups.some(({ attached }) => attached);
  }

  pfnOf(vpage: number): number | undefined {
    return this.at.memory.frames.get(V / KiB4 + vpage);
  }

  find(page: number): Mapping | undefined {
    return this.mappings.find((one) => page >= one.iova && page < one.iova + one.nr);
  }

  /** What pinning `mappings` gives, when `room` more pages may be charged: the first page that fails decides. */
  pinResult(mappings: readonly Mapping[], room: number): number {
    let left = room;
    for (const { vpage, nr, iova } of mappings) {
      for (let page = 0; page < nr; page++) {
        if (this.pfnOf(vpage + page) === undefined) return EFAULT;
        if (this.held.has(iova + page)) continue;
        if (left === 0) return ENOMEM;
        left -= 1;
      }
    }
    return 0;
  }

  get charged(): number {
    if (!this.hasDomain) return this.held.size;
    return this.mappings.reduce((sum, { nr }) => sum + nr, 0);
  }

  map(): void {
    const { rng } = this;
    const iova = rng.below(NR_IPAGES);
    const nr = 1 + rng.below(rng.chance(0.1) ? 200 : 12);
    const vpage = rng.below(NR_VPAGES - 20);
    const flags = 1 + rng.below(3);
    const bad = rng.below(40);
    const size = nr * KiB4 + (bad === 1 ? 512 : 0);
    const start =
      bad === 2 ? 0xfee00000 - KiB4 * rng.below(2) : bad === 3 ? 2 ** 39 - KiB4 * rng.below(nr) : iova * KiB4;
    let expected = 0;
    if (bad === 1) expected = EINVAL;
    else if (bad !== 2 && bad !== 3 && this.mappings.some((one) => one.iova < iova + nr && iova < one.iova + one.nr)) {
      expected = EEXIST;
    } else if (this.mappings.length === MAX_MAPPINGS) expected = ENOSPC;
    else if (bad === 2 || bad === 3) {
      if (!this.hasDomain && this.type1.info.iovaRanges.length === 0) return;
      const end = start + size;
      const last = this.hasDomain ? 2 ** 39 : 2 ** 53;
      if ((start < 0xfef00000 && end > 0xfee00000 && this.hasDomain) || end > last) expected = EINVAL;
      else return;
    } else if (this.hasDomain) expected = this.pinResult([{ iova, nr, vpage, flags }], LIMIT - this.charged);
    const result = this.type1.mapDma({ iova: start, vaddr: V + vpage * KiB4, size, flags }, this.at.process);
    expect(result, `map ${start.toString(16)}+${size.toString(16)}`).toBe(expected);
    if (result === 0) {
      this.mappings.push({ iova, nr, vpage, flags });
      this.mappings.sort((a, b) => a.iova - b.iova);
    }
  }

  forget(gone: readonly Mapping[]): void {
    for (const one of gone) {
      this.mappings.splice(this.mappings.indexOf(one), 1);
      for (let page = one.iova; page < one.iova + one.nr; page++) this.dirty.delete(page);
    }
  }

  unmap(): void {
    const { rng } = this;
    let first = rng.below(NR_IPAGES);
    let nr = 1 + rng.below(60);
    if (rng.chance(0.7) && this.mappings.length > 0) {
      const one = rng.pick(this.mappings);
      first = one.iova;
      ({ nr } = one);
    }
    const inside = this.mappings.filter((one) => one.iova < first + nr && first < one.iova + one.nr);
    let expected = EINVAL;
    let gone: Mapping[] = [];
    if (this.v2) {
      const cut = inside.some((one) => one.iova < first || one.iova + one.nr > first + nr);
      if (!cut) gone = inside;
      if (!cut) expected = inside.reduce((sum, one) => sum + one.nr, 0) * KiB4;
    } else {
      gone = inside.length > 0 && inside[0].iova < first ? [] : inside;
      expected = gone.reduce((sum, one) => sum + one.nr, 0) * KiB4;
    }
    expect(this.type1.unmapDma({ iova: first * KiB4, size: nr * KiB4 }), `unmap ${first}+${nr}`).toBe(expected);
    this.forget(gone);
  }

  unmapAll(): void {
    const expected = this.mappings.reduce((sum, one) => sum + one.nr, 0) * KiB4;
    expect(this.type1.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL })).toBe(expected);
    this.forget([...this.mappings]);
  }

  move(): void {
    const one = this.rng.pick(this.groups);
    if (one.attached) {
      this.type1.detachGroup(one.group);
      one.attached = false;
      // It could write anywhere, unseen.
      if (this.tracking) {
        for (const { iova, nr } of this.mappings) for (let page = iova; page < iova + nr; page++) this.dirty.add(page);
      }
      return;
    }
    const expected = this.hasDomain ? 0 : this.pinResult(this.mappings, LIMIT - this.held.size);
    expect(this.type1.attachGroup(one.group), 'attach').toBe(expected);
    one.attached = expected === 0;
  }

  hold(): void {
    const page = this.rng.below(NR_IPAGES);
    const one = this.find(page);
    const pfns = new Float64Array(1);
    const result = this.type1.pinPages(this.emulated, page * KiB4, 1, IOMMU_READ, pfns);
    if (!this.v2) return expect(result).toBe(-13);
    const pfn = one === undefined ? undefined : this.pfnOf(one.vpage + page - one.iova);
    let expected = 1;
    if (one === undefined) expected = EINVAL;
    else if ((one.flags & 1) === 0) expected = -1;
    else if (this.held.has(page)) expected = 1;
    else if (pfn === undefined) expected = EFAULT;
    else if (!this.hasDomain && this.held.size === LIMIT) expected = ENOMEM;
    expect(result, `pin ${page}`).toBe(expected);
    if (result !== 1) return;
    expect(pfns[0]).toBe(pfn);
    if (this.tracking && !this.held.has(page)) this.dirty.add(page);
    this.held.set(page, (this.held.get(page) ?? 0) + 1);
  }

  letGo(): void {
    const pages = [...this.held.keys()];
    if (pages.length === 0) return;
    const page = this.rng.pick(pages);
    this.type1.unpinPages(page * KiB4, 1);
    const nr = (this.held.get(page) ?? 0) - 1;
    if (nr === 0) this.held.delete(page);
    else this.held.set(page, nr);
  }

  track(): void {
    if (!this.v2) return;
    if (this.rng.chance(0.3)) {
      expect(this.type1.dirtyPages(this.tracking ? VFIO_DIRTY_STOP : VFIO_DIRTY_START)).toBe(0);
      this.tracking = !this.tracking;
      this.dirty.clear();
      if (this.tracking) for (const page of this.held.keys()) this.dirty.add(page);
      return;
    }
    const data = new Uint8Array(128);
    const range = { iova: 0, size: 1024 * KiB4, bitmap: { pgsize: KiB4, nrBytes: 128, data } };
    expect(this.type1.dirtyPages(VFIO_DIRTY_GET, range)).toBe(this.tracking ? 0 : EINVAL);
    if (!this.tracking) return;
    for (let page = 0; page < 1024; page++) {
      const mapped = this.find(page) !== undefined;
      const expected = mapped && (this.hasDomain || this.dirty.has(page));
      if (testBit(data, page) !== expected) expect.fail(`page ${page} is ${expected ? 'dirty' : 'clean'}`);
    }
    this.dirty.clear();
    for (const page of this.held.keys()) this.dirty.add(page);
  }

  check(page: number): void {
    const one = this.find(page);
    const pfn = one === undefined ? undefined : this.pfnOf(one.vpage + page - one.iova);
    for (const { group, attached } of this.groups) {
      for (const write of [false, true]) {
        const allowed = one !== undefined && (one.flags & (write ? 2 : 1)) !== 0;
        const expected = attached && allowed && pfn !== undefined ? pfn * KiB4 + 8 : -1;
        const seen = this.at.mock.dma(group.devices[0], page * KiB4 + 8, write);
        if (seen !== expected) expect.fail(`page ${page}: ${seen}, not ${expected}`);
      }
    }
  }

  checkAll(): void {
    for (let page = 0; page < NR_IPAGES + 210; page++) this.check(page);
    // Pins: one per page of every mapping while there is a domain, one per page that the emulated device holds.
    const pins = new Map<number, number>();
    const add = (pfn: number | undefined): void => {
      if (pfn !== undefined) pins.set(pfn, (pins.get(pfn) ?? 0) + 1);
    };
    if (this.hasDomain) {
      for (const { vpage, nr } of this.mappings) for (let page = 0; page < nr; page++) add(this.pfnOf(vpage + page));
    }
    for (const page of this.held.keys()) {
      const one = this.find(page);
      add(one && this.pfnOf(one.vpage + page - one.iova));
    }
    const order = (map: ReadonlyMap<number, number>): [number, number][] => [...map].sort(([a], [b]) => a - b);
    expect(order(this.at.memory.pins)).toEqual(order(pins));
    expect(this.at.process.account.nrLocked).toBe(this.charged);
    expect(this.type1.dmas.length).toBe(this.mappings.length);
    expect(this.type1.info.dmaAvail).toBe(MAX_MAPPINGS - this.mappings.length);
    expect(this.at.memory.violations).toEqual([]);
  }

  step(): void {
    const dice = this.rng.below(100);
    if (dice < 45) this.map();
    else if (dice < 78) this.unmap();
    else if (dice < 79) this.unmapAll();
    else if (dice < 83) this.move();
    else if (dice < 90) this.hold();
    else if (dice < 96) this.letGo();
    else this.track();
    for (let nr = 0; nr < 4; nr++) this.check(this.rng.below(NR_IPAGES + 20));
  }
}

describe('random programs on a type1 container', () => {
  const NR_SEEDS = 12;
  test.each(Array.from({ length: NR_SEEDS }, (_, seed) => seed))('seed %i', (seed) => {
    const program = new Program(seed);
    const nrOps = Math.ceil(NR_OPS / NR_SEEDS);
    for (let op = 0; op < nrOps; op++) {
      program.step();
      if (op % 250 === 0) program.checkAll();
    }
    program.checkAll();
    program.type1.release();
    expect(program.at.leaks()).toEqual([]);
  });
});
