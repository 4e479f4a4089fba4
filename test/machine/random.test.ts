import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { DmaIommu, Scatterlist } from '../../src/dma/index.ts';
import type { IntelDomain, MapFlush } from '../../src/drivers/index.ts';
import { INTEL_PRESETS, intelPreset } from '../../src/drivers/index.ts';
import type { VtdConfig } from '../../src/hw/index.ts';
import type { Device } from '../../src/iommu/index.ts';
import { device, KiB4, Lab, MiB2 } from '../drivers/lab.ts';

/** Devices on two units; the first three share one. */
const DEVICES = ['00:01.0', '00:02.0', '00:03.0', '01:01.0', '01:02.0'].map((address) => device(address));
const NAMES = new Map(DEVICES.map((one) => [one, one.name]));
/** Where the plain caller maps: few places, so that ranges meet again and again. */
const PLAIN_PAGES = 3 * 512;
const PLAIN_BASE = 2 ** 38 - MiB2;

/** What a page should lead to: nothing of the model but a Map. */
interface Space {
  readonly domain: IntelDomain;
  readonly pages: Map<number, { paddr: number; prot: number }>;
  /** Null for a domain that is used through iommu_map alone. */
  readonly dma: DmaIommu | null;
  readonly live: {
    address: number;
    nrBytes: number;
    list: Scatterlist | null;
    segments: number;
    first: number;
    nrPages: number;
  }[];
}

/** The whole stack, its naive shadow, and one random step at a time. */
class World {
  readonly rng: Rng;
  readonly lab: Lab;
  readonly spaces: Space[] = [];
  readonly attached = new Map<Device, Space | null>();
  readonly freedEarly: number[] = [];
  /** Old kernels miss the tail of an unaligned range (bug 6): they get aligned ones only. */
  readonly aligned: boolean;
  readonly lazy: boolean;
  nrChecked = 0;

  constructor(seed: number, preset: string, mapFlush: MapFlush, hardware: VtdConfig, coherent: boolean, lazy = false) {
    this.rng = new Rng(seed);
    this.aligned = intelPreset(preset).psiAlignment === 'none';
    this.lazy = lazy;
    this.lab = new Lab({ preset, mapFlush, coherent, units: [hardware, hardware] });
    this.watchFrees();
    for (let index = 0; index < 4; index++) {
      const domain = this.lab.driver.domainAlloc('paging') as IntelDomain;
      const options = {
        lazy,
        nrCpus: 3,
        freeTables: (tables: readonly number[]): void => tables.forEach((pfn) => this.lab.pages.free(pfn)),
      };
      const dma =
        index < 2 ? new DmaIommu(this.lab.core, domain, this.lab.clock, [[0xfee00000, 0x100000]], options) : null;
      this.spaces.push({ domain, pages: new Map(), dma, live: [] });
    }
    for (const one of DEVICES) this.attached.set(one, null);
  }

  /** C-TABLE-LIVE: at every free, no walk cache may lead to the page. */
  private watchFrees(): void {
    const { pages, units } = this.lab;
    const free = pages.free.bind(pages);
    pages.free = (pfn): void => {
      if (units.some((unit) => unit.structureEntries().some((entry) => entry.tablePfn === pfn)))
        this.freedEarly.push(pfn);
      free(pfn);
    };
  }

  private sees(one: Device, page: number, access: number): number {
    return this.lab.units[one.sid >> 8].translate(one.sid, page * KiB4 + 0x123, access);
  }

  /** Every device's view of a page, against the shadow. */
  private check(page: number, what: string): void {
    // Interrupt messages are not translated (VT-d 3.14).
    if (page >= 0xfee00 && page <= 0xfeeff) return;
    for (const [one, space] of this.attached) {
      const access = 1 + this.rng.below(3);
      const entry = space?.pages.get(page);
      const seen = this.sees(one, page, access);
      this.nrChecked += 1;
      // Fewer rights than asked for is a fault like none at all.
      const expected = entry !== undefined && (entry.prot & access) === access ? entry.paddr + 0x123 : -1;
      // A lazy unmap may leave the old page reachable; what is mapped must be right all the same.
      if (this.lazy && expected < 0) continue;
      if (Math.max(seen, -1) !== expected) {
        expect.fail(
          `${what}: ${NAMES.get(one)} page 0x${page.toString(16)} access ${access}: ${seen}, not ${expected}`,
        );
      }
    }
  }

  private checkAround(first: number, nrPages: number, what: string): void {
    if (nrPages <= 24) for (let page = first - 1; page <= first + nrPages; page++) this.check(page, what);
    else {
      for (const page of [-1, 0, 1, nrPages - 2, nrPages - 1, nrPages]) this.check(first + page, what);
      for (let count = 0; count < 16; count++) this.check(first + this.rng.below(nrPages), what);
    }
    for (let count = 0; count < 3; count++) this.check(this.somePage(), what);
  }

  private somePage(): number {
    return this.rng.chance(0.5)
      ? 2 ** 20 - 1 - this.rng.below(600)
      : PLAIN_BASE / KiB4 + this.rng.below(PLAIN_PAGES + 40);
  }

  step(): void {
    const { rng } = this;
    // The device looks ahead: fills the caches with "not present", and with what will be gone.
    for (let count = rng.below(12); count > 0; count--) this.sees(rng.pick(DEVICES), this.somePage(), 1 + rng.below(3));
    const space = rng.pick(this.spaces);
    if (rng.chance(0.04)) return this.move();
    if (space.dma === null) return rng.chance(0.55) ? this.plainMap(space) : this.plainUnmap(space);
    if (rng.chance(space.live.length < 40 ? 0.6 : 0.4)) return this.dmaMap(space, space.dma);
    return this.dmaUnmap(space, space.dma);
  }

  private move(): void {
    const { rng, lab } = this;
    const one = rng.pick(DEVICES);
    const before = this.attached.get(one) ?? null;
    if (rng.chance(0.25)) {
      if (before !== null) lab.driver.detachDev(before.domain, one);
      this.attached.set(one, null);
    } else {
      const space = rng.pick(this.spaces);
      expect(lab.attach(space.domain, one)).toBe(0);
      this.attached.set(one, space);
    }
    for (let count = 0; count < 20; count++) this.check(this.somePage(), 'attach');
  }

  private enter(space: Space, first: number, chunks: [paddr: number, nrPages: number][], prot: number): number {
    let page = first;
    for (const [paddr, nr] of chunks) {
      for (let index = 0; index < nr; index++, page++) {
        // No page twice: also what would show an IOVA that was handed out twice.
        if (space.pages.has(page)) expect.fail(`page 0x${page.toString(16)} was handed out twice`);
        space.pages.set(page, { paddr: paddr - (paddr % KiB4) + index * KiB4, prot });
      }
    }
    return page - first;
  }

  private dmaMap(space: Space, dma: DmaIommu): void {
    const { rng } = this;
    const [direction, prot] = rng.pick([
      ['toDevice', 1],
      ['fromDevice', 2],
      ['bidirectional', 3],
    ] as const);
    const address = (): number => (1 + rng.below(0xfe000)) * KiB4 + (rng.chance(0.5) ? 0 : rng.below(KiB4));
    if (rng.chance(0.5)) {
      const paddr = address();
      const nrBytes = 1 + rng.below(rng.pick([KiB4, 16 * KiB4, 600 * KiB4]));
      const dmaAddress = dma.mapPage(paddr, nrBytes, direction);
      expect(dmaAddress % KiB4).toBe(paddr % KiB4);
      const first = Math.floor(dmaAddress / KiB4);
      const nrPages = this.enter(space, first, [[paddr, Math.ceil(((paddr % KiB4) + nrBytes) / KiB4)]], prot);
      space.live.push({ address: dmaAddress, nrBytes, list: null, segments: 0, first, nrPages });
      return this.checkAround(first, nrPages, 'mapPage');
    }
    const elements: [number, number][] = [];
    let next = address();
    for (let count = 1 + rng.below(12); count > 0; count--) {
      const nrBytes = rng.chance(0.5) ? KiB4 * (1 + rng.below(4)) : 1 + rng.below(3 * KiB4);
      elements.push([next, nrBytes]);
      next = rng.chance(0.4) ? next + nrBytes : address();
    }
    const list = Scatterlist.of(elements);
    const segments = dma.mapSg(list, direction);
    expect(segments).toBeGreaterThan(0);
    const first = Math.floor(list.dmaAddress[0] / KiB4);
    // Below the default boundary of 4 GiB no padding is possible: elements follow each other page by page.
    const nrPages = this.enter(
      space,
      first,
      elements.map(([paddr, nrBytes]) => [paddr, Math.ceil(((paddr % KiB4) + nrBytes) / KiB4)]),
      prot,
    );
    space.live.push({ address: 0, nrBytes: 0, list, segments, first, nrPages });
    this.checkAround(first, nrPages, 'mapSg');
  }

  private dmaUnmap(space: Space, dma: DmaIommu): void {
    if (space.live.length === 0) return;
    const [gone] = space.live.splice(this.rng.below(space.live.length), 1);
    dma.space.cpu = this.rng.below(3);
    if (gone.list === null) dma.unmapPage(gone.address, gone.nrBytes, 'bidirectional');
    else dma.unmapSg(gone.list, gone.list.nents, 'bidirectional');
    for (let page = 0; page < gone.nrPages; page++) space.pages.delete(gone.first + page);
    if (this.lazy) {
      this.lab.clock.advanceBy(this.rng.below(400_000));
      dma.cookie.timeout();
    }
    this.checkAround(gone.first, gone.nrPages, 'dma unmap');
  }

  private plainMap(space: Space): void {
    const { rng } = this;
    let nrPages = 1 + rng.below(rng.pick([4, 40, 1100]));
    if (rng.chance(0.2)) nrPages = 512 * (1 + rng.below(2));
    let at = rng.below(PLAIN_PAGES);
    if (this.aligned || rng.chance(0.3)) at -= at % 2 ** Math.ceil(Math.log2(nrPages));
    const first = PLAIN_BASE / KiB4 + at;
    // Often congruent with the IOVA modulo 2 MiB, so that superpages appear.
    const paddr = (1 + rng.below(500)) * MiB2 + (rng.chance(0.6) ? (first % 512) * KiB4 : rng.below(512) * KiB4);
    const prot = 1 + rng.below(3);
    let isTaken = false;
    for (let page = 0; page < nrPages; page++) isTaken ||= space.pages.has(first + page);
    const result = this.lab.core.map(space.domain, first * KiB4, paddr, nrPages * KiB4, prot);
    if (isTaken) expect(result).toBeLessThan(0);
    else {
      expect(result).toBe(0);
      this.enter(space, first, [[paddr, nrPages]], prot);
    }
    this.checkAround(first, nrPages, isTaken ? 'refused map (C-ROLLBACK)' : 'map');
  }

  private plainUnmap(space: Space): void {
    const { rng } = this;
    const first = this.aligned
      ? PLAIN_BASE / KiB4 + rng.below(PLAIN_PAGES / 512) * 512
      : PLAIN_BASE / KiB4 + rng.below(PLAIN_PAGES);
    const asked = this.aligned ? 2 ** rng.below(11) : 1 + rng.below(rng.pick([8, 1024]));
    const bytes = this.lab.core.unmap(space.domain, first * KiB4, asked * KiB4);
    for (let page = first; page < first + bytes / KiB4; page++) {
      if (!space.pages.delete(page)) expect.fail(`page 0x${page.toString(16)} was unmapped, and was not there`);
    }
    // It stopped at a hole, at the end, or in the middle of a large leaf; a large leaf goes as a whole.
    if (bytes < asked * KiB4 && bytes > 0) expect(space.pages.has(first + bytes / KiB4)).toBe(false);
    this.checkAround(first, Math.max(asked, bytes / KiB4), 'unmap');
  }

  /** Everything goes. @returns pages still held, above those of the start */
  finish(): number {
    const { lab } = this;
    for (const space of this.spaces) {
      const { dma } = space;
      if (dma !== null) while (space.live.length > 0) this.dmaUnmap(space, dma);
      dma?.cookie.drain();
      if (dma !== null) expect(dma.nrIovaRanges).toBe(1);
      for (const page of space.pages.keys()) lab.core.unmap(space.domain, page * KiB4, KiB4);
    }
    for (const [one, space] of this.attached) if (space !== null) lab.driver.detachDev(space.domain, one);
    for (const { domain } of this.spaces) lab.driver.domainFree(domain);
    // Per unit: a queue and its status cells (with QI), a root table, one context table.
    const fixed = lab.units[0].config.qi ? 8 : 4;
    return lab.pages.nrLive - fixed;
  }
}

const HARDWARE: [name: string, hardware: VtdConfig, coherent: boolean][] = [
  ['caching mode', { cachingMode: true }, true],
  ['caching mode, small caches, no PSI', { cachingMode: true, psi: false, iotlb: { sets: 4, ways: 2 } }, true],
  ['no caching mode, not coherent', {}, false],
  [
    'registers only, MAMV 4, pieces of superpages',
    { cachingMode: true, qi: false, mamv: 4, psiDropsWholeSuperpage: false },
    true,
  ],
  [
    'tags by source id, 3 levels, slow',
    { cachingMode: true, tagBySid: true, sagaw: [3], completionDelayNs: 700 },
    true,
  ],
];

describe('random use of the whole stack agrees with a Map after every call', () => {
  const NR_STEPS = 700;
  for (const [index, [name, hardware, coherent]] of HARDWARE.entries()) {
    test.each(INTEL_PRESETS.flatMap((preset) => [[preset, 'sync-map'] as const, [preset, 'map'] as const]))(
      `${name}: %s, %s`,
      (preset, policy) => {
        const world = new World(index * 1000 + INTEL_PRESETS.indexOf(preset), preset, policy, hardware, coherent);
        for (const one of DEVICES) if (one.sid % 16 === 8) world.lab.attach(world.spaces[0].domain, one);
        for (const one of DEVICES) if (one.sid % 16 === 8) world.attached.set(one, world.spaces[0]);
        for (let step = 0; step < NR_STEPS; step++) world.step();
        expect(world.freedEarly).toEqual([]);
        expect(world.nrChecked).toBeGreaterThan(NR_STEPS * 20);
        expect(world.finish()).toBe(0);
      },
    );
  }

  test.each(['linux-5.12', 'linux-6.1', 'linux-6.12'])(
    '%s, lazy: what is mapped is right, and no table is freed early',
    (preset) => {
      const world = new World(77, preset, 'sync-map', {}, true, true);
      for (let step = 0; step < 3000; step++) world.step();
      expect(world.freedEarly).toEqual([]);
      expect(world.finish()).toBe(0);
    },
  );

  test.each(['none', 'caller'] as const)('the same steps find policy %s broken', (policy) => {
    expect(() => {
      const world = new World(1, 'linux-6.12', policy, { cachingMode: true }, true);
      for (let step = 0; step < 400; step++) world.step();
    }).toThrow(/map.*not/);
  });
});
