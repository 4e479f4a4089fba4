import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { DmaIommu, Scatterlist } from '../../src/dma/index.ts';
import type { AmdDomain, MapFlush } from '../../src/drivers/index.ts';
import { AMDVI_QEMU } from '../../src/hw/index.ts';
import type { AmdviConfig } from '../../src/hw/index.ts';
import type { Device } from '../../src/iommu/index.ts';
import { AmdMachine } from '../../src/machine/index.ts';
import { device, KiB4, MiB2 } from '../drivers/lab.ts';

const DEVICES = ['00:01.0', '00:02.0', '00:03.0', '01:01.0'].map((address) => device(address));
/** Where the plain caller maps: few places, so that ranges meet again and again. The last two need a 4th and a 5th level. */
const PLAIN_PAGES = 3 * 512;
const PLAIN_BASES = [2 ** 38 - MiB2, 2 ** 39 - MiB2, 2 ** 50 + 2 ** 40];
const PROTS = { toDevice: 1, fromDevice: 2, bidirectional: 3 } as const;

interface Live {
  readonly first: number;
  readonly nrPages: number;
  readonly undo: () => void;
}

/** What a page should lead to: nothing of the model but a Map. */
interface Space {
  readonly domain: AmdDomain;
  readonly pages: Map<number, { paddr: number; prot: number }>;
  /** Null for a domain that is used through iommu_map alone. */
  readonly dma: DmaIommu | null;
  readonly live: Live[];
}

/** The whole stack, its naive shadow, and one random step at a time. */
class World {
  readonly rng: Rng;
  readonly machine: AmdMachine;
  readonly spaces: Space[] = [];
  readonly attached = new Map<Device, Space | null>();
  readonly freedEarly: number[] = [];
  readonly #pagesAtStart: number;
  nrChecked = 0;

  constructor(seed: number, preset: string, mapFlush: MapFlush, hardware: AmdviConfig) {
    this.rng = new Rng(seed);
    this.machine = new AmdMachine({ preset, mapFlush, hardware, lastBdf: 0x1ff });
    this.#pagesAtStart = this.machine.pages.nrLive;
    // C-TABLE-LIVE: at every free, no cached table entry may lead to the page.
    const { pages, unit } = this.machine;
    const free = pages.free.bind(pages);
    pages.free = (pfn): void => {
      if (unit.structureEntries().some((entry) => entry.tablePfn === pfn)) this.freedEarly.push(pfn);
      free(pfn);
    };
    for (let index = 0; index < 3; index++) {
      const domain = this.machine.driver.domainAlloc('paging') as AmdDomain;
      const dma =
        index === 0 ? new DmaIommu(this.machine.core, domain, this.machine.clock, [[0xfee00000, 0x100000]]) : null;
      this.spaces.push({ domain, pages: new Map(), dma, live: [] });
    }
    for (const one of DEVICES) this.attached.set(one, null);
    for (const one of DEVICES) this.machine.driver.probeDevice(one);
  }

  private sees(one: Device, page: number, access: number): number {
    return this.machine.unit.translate(one.sid, page * KiB4 + 0x123, access);
  }

  /** Every device's view of a page, against the shadow. */
  private check(page: number, what: string): void {
    if (page >= 0xfee00 && page <= 0xfeeff) return;
    for (const [one, space] of this.attached) {
      const access = 1 + this.rng.below(3);
      const entry = space?.pages.get(page);
      const seen = this.sees(one, page, access);
      this.nrChecked += 1;
      // Fewer rights than asked for is a fault like none at all.
      const expected = entry !== undefined && (entry.prot & access) === access ? entry.paddr + 0x123 : -1;
      if (Math.max(seen, -1) !== expected) {
        expect.fail(`${what}: ${one.name} page 0x${page.toString(16)} access ${access}: ${seen}, not ${expected}`);
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
    const { rng } = this;
    if (rng.chance(0.4)) return 2 ** 20 - 1 - rng.below(600);
    return rng.pick(PLAIN_BASES) / KiB4 + rng.below(PLAIN_PAGES + 40);
  }

  step(): void {
    const { rng } = this;
    // The device looks ahead: fills the caches with "not present", and with what will be gone.
    for (let count = rng.below(12); count > 0; count--) this.sees(rng.pick(DEVICES), this.somePage(), 1 + rng.below(3));
    const space = rng.pick(this.spaces);
    if (rng.chance(0.04)) return this.move();
    if (space.dma === null) return rng.chance(0.55) ? this.plainMap(space) : this.plainUnmap(space);
    if (rng.chance(space.live.length < 40 ? 0.6 : 0.4)) return this.dmaMap(space, space.dma);
    return this.dmaUnmap(space);
  }

  private move(): void {
    const { rng } = this;
    const { driver } = this.machine;
    const one = rng.pick(DEVICES);
    const before = this.attached.get(one) ?? null;
    if (rng.chance(0.25)) {
      if (before !== null) driver.detachDev(before.domain, one);
      this.attached.set(one, null);
    } else {
      const space = rng.pick(this.spaces);
      expect(driver.attachDev(space.domain, one)).toBe(0);
      this.attached.set(one, space);
    }
    for (let count = 0; count < 20; count++) this.check(this.somePage(), 'attach');
  }

  private enter(space: Space, first: number, chunks: [paddr: number, nrPages: number][], prot: number): number {
    let page = first;
    for (const [paddr, nr] of chunks) {
      for (let index = 0; index < nr; index++, page++) {
        space.pages.set(page, { paddr: paddr - (paddr % KiB4) + index * KiB4, prot });
      }
    }
    return page - first;
  }

  private dmaMap(space: Space, dma: DmaIommu): void {
    const { rng } = this;
    const direction = rng.pick(['toDevice', 'fromDevice', 'bidirectional'] as const);
    const address = (): number => (1 + rng.below(0xfe000)) * KiB4 + (rng.chance(0.5) ? 0 : rng.below(KiB4));
    const elements: [number, number][] = [];
    let next = address();
    for (let count = 1 + rng.below(rng.chance(0.5) ? 1 : 12); count > 0; count--) {
      const nrBytes = 1 + rng.below(rng.pick([KiB4, 4 * KiB4, 300 * KiB4]));
      elements.push([next, nrBytes]);
      next = rng.chance(0.4) ? next + nrBytes : address();
    }
    const list = Scatterlist.of(elements);
    const single = elements.length === 1;
    const result = single ? dma.mapPage(...elements[0], direction) : dma.mapSg(list, direction);
    expect(result).toBeGreaterThan(0);
    const first = Math.floor((single ? result : list.dmaAddress[0]) / KiB4);
    const chunks = elements.map(([at, nrBytes]): [number, number] => [at, Math.ceil(((at % KiB4) + nrBytes) / KiB4)]);
    const nrPages = this.enter(space, first, chunks, PROTS[direction]);
    const undo = (): number =>
      single ? dma.unmapPage(result, elements[0][1], direction) : dma.unmapSg(list, list.nents, direction);
    space.live.push({ first, nrPages, undo });
    this.checkAround(first, nrPages, 'dma map');
  }

  private dmaUnmap(space: Space): void {
    if (space.live.length === 0) return;
    const [gone] = space.live.splice(this.rng.below(space.live.length), 1);
    gone.undo();
    for (let page = 0; page < gone.nrPages; page++) space.pages.delete(gone.first + page);
    this.checkAround(gone.first, gone.nrPages, 'dma unmap');
  }

  private plainMap(space: Space): void {
    const { rng } = this;
    let nrPages = 1 + rng.below(rng.pick([4, 40, 1100]));
    if (rng.chance(0.2)) nrPages = 512 * (1 + rng.below(2));
    const first = rng.pick(PLAIN_BASES) / KiB4 + rng.below(PLAIN_PAGES);
    // Often congruent with the IOVA, so that larger leaves appear.
    const paddr = (1 + rng.below(500)) * MiB2 + (rng.chance(0.6) ? (first % 512) * KiB4 : rng.below(512) * KiB4);
    const prot = 1 + rng.below(3);
    let isTaken = false;
    for (let page = 0; page < nrPages; page++) isTaken ||= space.pages.has(first + page);
    const result = this.machine.core.map(space.domain, first * KiB4, paddr, nrPages * KiB4, prot);
    if (isTaken) expect(result).toBeLessThan(0);
    else {
      expect(result).toBe(0);
      this.enter(space, first, [[paddr, nrPages]], prot);
    }
    this.checkAround(first, nrPages, isTaken ? 'refused map (C-ROLLBACK)' : 'map');
  }

  private plainUnmap(space: Space): void {
    const { rng } = this;
    const first = rng.pick(PLAIN_BASES) / KiB4 + rng.below(PLAIN_PAGES);
    const asked = 1 + rng.below(rng.pick([8, 1024]));
    const before = space.domain.table!.leafBytes(first * KiB4);
    const bytes = this.machine.core.unmap(space.domain, first * KiB4, asked * KiB4);
    if (bytes > 0) {
      // All of the leaf that the first page was in.
      const start = Math.floor((first * KiB4) / before) * before;
      for (let page = start / KiB4; page < first + bytes / KiB4; page++) {
        if (!space.pages.delete(page)) expect.fail(`page 0x${page.toString(16)} was unmapped, and was not there`);
      }
      this.checkAround(start / KiB4, first + bytes / KiB4 - start / KiB4, 'unmap');
    } else expect(space.pages.has(first)).toBe(false);
    this.checkAround(first, asked, 'unmap');
  }

  /** Everything goes. @returns pages still held, above those of the start */
  finish(): number {
    const { core, driver, pages } = this.machine;
    for (const space of this.spaces) {
      while (space.live.length > 0) this.dmaUnmap(space);
      for (const page of space.pages.keys()) core.unmap(space.domain, page * KiB4, KiB4);
    }
    for (const [one, space] of this.attached) if (space !== null) driver.detachDev(space.domain, one);
    for (const { domain } of this.spaces) driver.domainFree(domain);
    return pages.nrLive - this.#pagesAtStart;
  }
}

const SMALL = { sets: 4, ways: 2 };
const HARDWARE: [name: string, hardware: AmdviConfig][] = [
  ['NpCache', { npCache: true }],
  [
    'NpCache, small caches, pieces of large pages',
    { npCache: true, iotlb: SMALL, pdeCache: SMALL, holdsWholePages: false },
  ],
  ['no NpCache', {}],
  ['NpCache, tags by source id, slow', { npCache: true, tagBySid: true, completionDelayNs: 700 }],
  ['as QEMU', AMDVI_QEMU],
];

describe('random use of the whole stack agrees with a Map after every call', () => {
  const NR_STEPS = 600;
  for (const [index, [name, hardware]] of HARDWARE.entries()) {
    test.each([
      ['linux-6.1', 'sync-map'],
      ['linux-6.1', 'map'],
      ['linux-6.1.184', 'sync-map'],
      ['linux-6.12', 'sync-map'],
      ['linux-6.12', 'map'],
      ['linux-6.12.96', 'sync-map'],
    ] as const)(`${name}: %s, %s`, (preset, policy) => {
      passes(new World(index * 100 + policy.length + preset.length, preset, policy, hardware));
    });
  }

  function passes(world: World): void {
    for (let step = 0; step < NR_STEPS; step++) world.step();
    expect(world.freedEarly).toEqual([]);
    expect(world.nrChecked).toBeGreaterThan(NR_STEPS * 20);
    expect(world.finish()).toBe(0);
  }

  // Kernels before 5.15 flushed ranges without the PDE bit: right as long as hardware caches no absent table.
  test.each<[string, string, MapFlush, AmdviConfig]>([
    ['no NpCache', 'linux-5.1', 'none', {}],
    ['no NpCache', 'linux-5.3', 'map', {}],
    ['NpCache without a cache for tables', 'linux-5.3', 'sync-map', { npCache: true, holdsStructure: false }],
    ['as QEMU', 'linux-5.3', 'map', AMDVI_QEMU],
  ])('%s: %s, %s', (_name, preset, policy, hardware) => {
    passes(new World(500 + policy.length, preset, policy, hardware));
  });

  test.each([
    ['linux-6.12', 'none'],
    ['linux-6.12', 'caller'],
    ['linux-5.1', 'caller'],
    ['linux-5.3', 'sync-map'],
  ] as const)('the same steps find %s with policy %s broken', (preset, policy) => {
    expect(() => {
      const world = new World(1, preset, policy, { npCache: true });
      for (let step = 0; step < 400; step++) world.step();
    }).toThrow(/map.*not/);
  });
});
