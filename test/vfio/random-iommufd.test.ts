/**
 * Random programs on one iommufd: three IOASes, devices that move between them, copies that share pages, in-kernel users that
 * pin. The reference keeps areas as ranges of bytes of page sets, and derives from that which pages must be pinned, once each.
 * IOMMUKIT_VFIO_OPS sets how many operations (default 50,000 over all seeds).
 */
import { describe, expect, test } from 'vitest';
import {
  EADDRINUSE,
  EEXIST,
  EFAULT,
  EINVAL,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EPERM,
  Rng,
  alignDown,
} from '../../src/base/index.ts';
import type { Device } from '../../src/iommu/index.ts';
import type { IommufdAccess } from '../../src/vfio/index.ts';
import {
  IOAS_MAP_FIXED_IOVA,
  IOAS_MAP_READABLE,
  IOAS_MAP_WRITEABLE,
  Iommufd,
  IommufdDevice,
  LAST_ADDRESS,
} from '../../src/vfio/index.ts';
import type { World } from './world.ts';
import { KiB4, MOCK_LAST, MOCK_START, newDevice, world } from './world.ts';

const NR_OPS = Number(process.env['IOMMUKIT_VFIO_OPS'] ?? 50_000);
const HALF = 2048;
const V = 0x7f0000000000;
const NR_VPAGES = 800;
/** Fixed IOVAs fall in here. */
const SPACE = 400 * KiB4;
const LIMIT = 120;

/** Pages that were mapped from a process together: what copies share. */
interface PageSet {
  readonly vpage: number;
  readonly writable: boolean;
}

interface Area {
  readonly iova: number;
  readonly nrBytes: number;
  readonly set: PageSet;
  /** Byte of the process at `iova`. */
  readonly vaddr: number;
  readonly flags: number;
}

interface Pin {
  readonly iova: number;
  readonly nrPages: number;
}

interface Space {
  readonly id: number;
  areas: Area[];
  /** Which of the devices are attached. */
  readonly devices: Set<Dev>;
  readonly access: IommufdAccess | null;
  readonly pins: Pin[];
}

interface Dev {
  readonly device: Device;
  readonly bound: IommufdDevice;
  space: Space | null;
}

class Program {
  readonly rng: Rng;
  readonly at: World;
  readonly fd: Iommufd;
  readonly spaces: Space[];
  readonly devices: Dev[];
  readonly counts = new Map<string, number>();

  constructor(seed: number) {
    this.rng = new Rng(seed);
    this.at = world({
      limitPages: LIMIT,
      pgsizeBitmap: seed % 2 === 0 ? HALF : HALF + 16 * HALF + 512 * HALF,
      apertureLast: MOCK_LAST,
      regions: [{ start: 0, nrBytes: MOCK_START, type: 'reserved', prot: 0 }],
    });
    const { memory, mock } = this.at;
    for (let page = 0; page < NR_VPAGES;) {
      const nr = 1 + this.rng.below(this.rng.chance(0.2) ? 60 : 6);
      const pfn = 0x1000 + this.rng.below(3000);
      if (this.rng.chance(0.97)) memory.place(V + page * KiB4, nr, pfn);
      page += nr;
    }
    this.fd = new Iommufd(this.at.core, { memoryLimit: [16, 100, 65536][seed % 3] });
    this.spaces = [0, 1, 2].map((index) => {
      const id = this.fd.ioasAlloc();
      const pins: Pin[] = [];
      const access: IommufdAccess | null =
        index !== 1
          ? null
          : this.fd.createAccess(
              {
                unmap: (iova, nrBytes) => {
                  for (const pin of pins.slice()) {
                    if (pin.iova < iova + nrBytes && iova < pin.iova + pin.nrPages * KiB4)
                      this.letGo(pin, pins, access);
                  }
                },
              },
              true,
            );
      expect(access?.attach(id) ?? 0).toBe(0);
      return { id, areas: [], devices: new Set(), access, pins };
    });
    this.devices = ['', '', 'other'].map((kind) => {
      const device = newDevice();
      mock.kinds.set(device, kind);
      const bound = this.fd.bind(device, this.at.group(device));
      if (!(bound instanceof IommufdDevice)) throw new Error('bind');
      return { device, bound, space: null };
    });
  }

  letGo(pin: Pin, pins: Pin[], access: IommufdAccess | null): void {
    access?.unpinPages(pin.iova, pin.nrPages * KiB4);
    pins.splice(pins.indexOf(pin), 1);
  }

  pfnOf(vpage: number): number | undefined {
    return this.at.memory.frames.get(vpage);
  }

  alignment(space: Space): number {
    return space.access !== null ? KiB4 : space.devices.size > 0 ? HALF : 1;
  }

  /** Pages that must be pinned: a set and a page of it, once. `extra` areas count as if they were in domains. */
  pinned(extra: readonly Area[] = []): Map<PageSet, Set<number>> {
    const pages = new Map<PageSet, Set<number>>();
    const add = (set: PageSet, from: number, nrBytes: number): void => {
      let indexes = pages.get(set);
      if (indexes === undefined) pages.set(set, (indexes = new Set()));
      for (let page = Math.floor(from / KiB4); page <= Math.floor((from + nrBytes - 1) / KiB4); page++)
        indexes.add(page);
    };
    for (const space of this.spaces) {
      if (space.devices.size > 0) for (const { set, vaddr, nrBytes } of space.areas) add(set, vaddr, nrBytes);
      for (const pin of space.pins) {
        for (const area of this.cover(space, pin.iova, pin.nrPages * KiB4) ?? []) {
          const from = Math.max(area.iova, pin.iova);
          const end = Math.min(area.iova + area.nrBytes, pin.iova + pin.nrPages * KiB4);
          add(area.set, area.vaddr + from - area.iova, end - from);
        }
      }
    }
    for (const { set, vaddr, nrBytes } of extra) add(set, vaddr, nrBytes);
    return pages;
  }

  /** Whether everything that must be pinned can be: 0, or some failure. */
  pinFails(extra: readonly Area[]): boolean {
    const pages = this.pinned(extra);
    let nr = 0;
    for (const indexes of pages.values()) nr += indexes.size;
    if (nr > LIMIT) return true;
    return extra.some(({ vaddr, nrBytes }) => {
      for (let page = Math.floor(vaddr / KiB4); page * KiB4 < vaddr + nrBytes; page++) {
        if (this.pfnOf(page) === undefined) return true;
      }
      return false;
    });
  }

  /** The areas of a range, or null when there is a gap. */
  cover(space: Space, iova: number, nrBytes: number): Area[] | null {
    const found = space.areas.filter((area) => area.iova < iova + nrBytes && iova < area.iova + area.nrBytes);
    let at = iova;
    for (const area of found) {
      if (area.iova > at) return null;
      at = area.iova + area.nrBytes;
    }
    return found.length > 0 && at >= iova + nrBytes ? found : null;
  }

  overlaps(space: Space, iova: number, nrBytes: number): boolean {
    return space.areas.some((area) => area.iova < iova + nrBytes && iova < area.iova + area.nrBytes);
  }

  note(what: string, result: number): void {
    const key = `${what} ${result < 0 ? result : 'ok'}`;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  insert(space: Space, areas: readonly Area[]): void {
    space.areas = [...space.areas, ...areas].sort((a, b) => a.iova - b.iova);
  }

  /** Something for lengths and addresses: mostly pages, sometimes halves, sometimes odd. */
  grain(): number {
    const dice = this.rng.below(20);
    return dice < 15 ? KiB4 : dice < 19 ? HALF : 512;
  }

  /** Checks a map or copy of `areas` (their iova relative to 0) against what must come of it. */
  place(
    what: string,
    space: Space,
    fixed: number | null,
    areas: readonly Area[],
    nrBytes: number,
    call: () => number,
  ): void {
    const unit = this.alignment(space);
    const { devices } = space;
    let expected: number | 'auto' | 'pin' = 'auto';
    if (nrBytes % unit !== 0) expected = EINVAL;
    else if (fixed !== null) {
      if (fixed % unit !== 0) expected = EINVAL;
      else if (devices.size > 0 && (fixed < MOCK_START || fixed + nrBytes - 1 > MOCK_LAST)) expected = EINVAL;
      else if (this.overlaps(space, fixed, nrBytes)) expected = EEXIST;
      else expected = fixed;
    }
    if (typeof expected === 'string' || expected >= 0) {
      for (const { flags, set, vaddr } of areas) {
        if ((flags & IOAS_MAP_WRITEABLE) !== 0 && !set.writable) expected = EPERM;
        else if ((vaddr % KiB4) % unit !== 0) expected = EINVAL;
        if (typeof expected === 'number' && expected < 0) break;
      }
    }
    const fails = devices.size > 0 && this.pinFails(areas);
    const result = call();
    this.note(what, result);
    const told = `${what} ${fixed?.toString(16)}+${nrBytes.toString(16)}: ${result}`;
    if (typeof expected === 'number' && expected < 0) {
      // Which one, when an allocation is refused for more than one reason, is the allocator's business.
      if (fixed === null) expect([expected, EINVAL, ENOSPC], told).toContain(result);
      else expect(result, told).toBe(expected);
    } else if (fails) {
      expect([EFAULT, ENOMEM, EINVAL, ENOSPC], told).toContain(result);
    } else if (fixed !== null) {
      expect(result, told).toBe(expected);
    } else if (result < 0) {
      // Less aligned in the process than the IOAS wants, or full.
      expect([EINVAL, ENOSPC], told).toContain(result);
      if (result === EINVAL) expect(unit > 1 && areas[0].vaddr % unit !== 0, told).toBe(true);
    } else {
      expect(result >= KiB4 && result % unit === 0 && !this.overlaps(space, result, nrBytes), told).toBe(true);
      if (devices.size > 0) expect(result >= MOCK_START && result + nrBytes - 1 <= MOCK_LAST, told).toBe(true);
    }
    if (result < 0) return;
    let at = result;
    this.insert(
      space,
      areas.map((area) => {
        const placed = { ...area, iova: at };
        at += area.nrBytes;
        return placed;
      }),
    );
  }

  flags(): number {
    return [IOAS_MAP_READABLE, IOAS_MAP_WRITEABLE, IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE][this.rng.below(3)];
  }

  where(): number | null {
    if (this.rng.chance(0.4)) return null;
    const start = this.rng.chance(0.1) ? 0 : this.rng.chance(0.1) ? MOCK_LAST + 1 - 8 * KiB4 : MOCK_START;
    return start + alignDown(this.rng.below(SPACE), this.grain());
  }

  map(): void {
    const { rng } = this;
    const space = rng.pick(this.spaces);
    const grain = this.grain();
    const nrBytes = Math.max(grain, alignDown(1 + rng.below(rng.chance(0.1) ? 100 * KiB4 : 12 * KiB4), grain));
    const vaddr = V + alignDown(rng.below((NR_VPAGES - 120) * KiB4), this.grain());
    const flags = this.flags();
    const fixed = this.where();
    const set = { vpage: Math.floor(vaddr / KiB4), writable: (flags & IOAS_MAP_WRITEABLE) !== 0 };
    const request = {
      vaddr,
      nrBytes,
      ...(fixed === null ? { flags } : { iova: fixed, flags: flags | IOAS_MAP_FIXED_IOVA }),
    };
    this.place('map', space, fixed, [{ iova: 0, nrBytes, set, vaddr, flags }], nrBytes, () =>
      this.fd.ioasMap(space.id, request, this.at.process),
    );
  }

  copy(): void {
    const { rng } = this;
    const source = rng.pick(this.spaces);
    const target = rng.pick(this.spaces);
    if (source.areas.length === 0) return;
    const one = rng.pick(source.areas);
    const offset = rng.chance(0.5) ? 0 : alignDown(rng.below(one.nrBytes), this.grain());
    const sourceIova = one.iova + offset;
    const grain = this.grain();
    const nrBytes = rng.chance(0.5) ? one.nrBytes - offset : Math.max(grain, alignDown(rng.below(20 * KiB4), grain));
    const flags = this.flags();
    const fixed = this.where();
    const request = {
      source: source.id,
      sourceIova,
      nrBytes,
      ...(fixed === null ? { flags } : { iova: fixed, flags: flags | IOAS_MAP_FIXED_IOVA }),
    };
    const call = (): number => this.fd.ioasCopy(target.id, request);
    const covering = this.cover(source, sourceIova, nrBytes);
    if (covering === null) return expect(call()).toBe(ENOENT);
    const areas = covering.map((area) => {
      const from = Math.max(area.iova, sourceIova);
      const end = Math.min(area.iova + area.nrBytes, sourceIova + nrBytes);
      return { iova: 0, nrBytes: end - from, set: area.set, vaddr: area.vaddr + from - area.iova, flags };
    });
    this.place('copy', target, fixed, areas, nrBytes, call);
  }

  /** All pins of an area go with it. */
  forget(space: Space, gone: readonly Area[]): void {
    space.areas = space.areas.filter((area) => !gone.includes(area));
  }

  unmap(): void {
    const { rng } = this;
    const space = rng.pick(this.spaces);
    let iova = MOCK_START + alignDown(rng.below(SPACE), KiB4);
    let nrBytes = (1 + rng.below(30)) * KiB4;
    if (rng.chance(0.8) && space.areas.length > 0) ({ iova, nrBytes } = rng.pick(space.areas));
    const inside = space.areas.filter((area) => area.iova < iova + nrBytes && iova < area.iova + area.nrBytes);
    const cut = inside.findIndex((area) => area.iova < iova || area.iova + area.nrBytes > iova + nrBytes);
    const gone = cut < 0 ? inside : inside.slice(0, cut);
    const expected = cut >= 0 || inside.length === 0 ? ENOENT : gone.reduce((sum, area) => sum + area.nrBytes, 0);
    const result = this.fd.ioasUnmap(space.id, iova, nrBytes);
    this.note('unmap', result);
    expect(result).toBe(expected);
    this.forget(space, gone);
  }

  unmapAll(): void {
    const space = this.rng.pick(this.spaces);
    const expected = space.areas.reduce((sum, area) => sum + area.nrBytes, 0);
    expect(this.fd.ioasUnmap(space.id, 0, LAST_ADDRESS)).toBe(expected);
    space.areas = [];
  }

  move(): void {
    const { rng } = this;
    const one = rng.pick(this.devices);
    if (one.space !== null && rng.chance(0.4)) {
      one.bound.detach();
      one.space.devices.delete(one);
      one.space = null;
      return;
    }
    const next = rng.pick(this.spaces);
    const before = one.space;
    let expected: number = 0;
    if (before === next) expected = 0;
    else if (next.areas.some((area) => area.iova < MOCK_START || area.iova + area.nrBytes - 1 > MOCK_LAST))
      expected = EADDRINUSE;
    else if (
      next.areas.some(({ iova, nrBytes, vaddr }) => iova % HALF !== 0 || nrBytes % HALF !== 0 || vaddr % HALF !== 0)
    ) {
      expected = EADDRINUSE;
    }
    const fails = before !== next && next.devices.size === 0 && this.pinFails(next.areas);
    const result = before === null ? one.bound.attach(next.id) : one.bound.replace(next.id);
    this.note(before === null ? 'attach' : 'replace', result);
    // A page table that is made for a replacement is filled before the device's regions are looked at.
    if (fails) expect([EFAULT, ENOMEM, ...(expected < 0 ? [expected] : [])]).toContain(result);
    else if (expected < 0) expect(result).toBe(expected);
    else expect(result).toBeGreaterThan(0);
    if (result < 0) return;
    before?.devices.delete(one);
    next.devices.add(one);
    one.space = next;
  }

  pin(): void {
    const { rng } = this;
    const space = this.spaces[1];
    const { access } = space;
    if (access === null) return;
    if (space.pins.length > 0 && rng.chance(0.5)) return this.letGo(rng.pick(space.pins), space.pins, access);
    if (space.areas.length === 0) return;
    const one = rng.pick(space.areas);
    const iova = one.iova + KiB4 * rng.below(Math.ceil(one.nrBytes / KiB4));
    const nrPages = 1 + rng.below(8);
    const write = rng.chance(0.5);
    const pfns = new Float64Array(nrPages);
    const covering = this.cover(space, iova, nrPages * KiB4);
    const before = space.pins.length;
    const result = access.pinPages(iova, nrPages * KiB4, pfns, write);
    this.note('pin', result);
    if (result === 0) {
      expect(covering).not.toBeNull();
      for (let page = 0; page < nrPages; page++) {
        const area = covering?.find((at) => at.iova <= iova + page * KiB4 && iova + page * KiB4 < at.iova + at.nrBytes);
        const vaddr = area === undefined ? 0 : area.vaddr + iova + page * KiB4 - area.iova;
        expect(pfns[page]).toBe(this.pfnOf(vaddr / KiB4));
        expect((area?.flags ?? 0) & (write ? IOAS_MAP_WRITEABLE : IOAS_MAP_READABLE)).not.toBe(0);
      }
      space.pins.push({ iova, nrPages });
    } else {
      expect(space.pins.length).toBe(before);
      const needed = write ? IOAS_MAP_WRITEABLE : IOAS_MAP_READABLE;
      // ENOENT and EPERM by whichever comes first; the others need pages that are not there or no room.
      const denied = space.areas.some(
        (area) => area.iova < iova + nrPages * KiB4 && iova < area.iova + area.nrBytes && (area.flags & needed) === 0,
      );
      if (result === ENOENT) expect(covering).toBeNull();
      else if (result === EPERM) expect(denied).toBe(true);
      else expect([EFAULT, ENOMEM]).toContain(result);
    }
  }

  check(): void {
    const space = this.rng.pick(this.spaces);
    const iova = MOCK_START + this.rng.below(SPACE);
    const area = space.areas.find((one) => one.iova <= iova && iova < one.iova + one.nrBytes);
    for (const { device } of space.devices) {
      for (const write of [false, true]) {
        const allowed = area !== undefined && (area.flags & (write ? IOAS_MAP_WRITEABLE : IOAS_MAP_READABLE)) !== 0;
        const vaddr = area === undefined ? 0 : area.vaddr + iova - area.iova;
        const expected = allowed ? (this.pfnOf(Math.floor(vaddr / KiB4)) ?? -1) * KiB4 + (vaddr % KiB4) : -1;
        const seen = this.at.mock.dma(device, iova, write);
        if (seen !== expected) expect.fail(`${iova.toString(16)}: ${seen}, not ${expected}`);
      }
    }
    for (const { device, space: where } of this.devices) {
      if (where === null && this.at.mock.dma(device, iova, false) !== -1) expect.fail('a detached device does DMA');
    }
  }

  checkAll(): void {
    for (let nr = 0; nr < 100; nr++) this.check();
    const pins = new Map<number, number>();
    let nrPages = 0;
    for (const indexes of this.pinned().values()) {
      nrPages += indexes.size;
      for (const page of indexes) {
        const pfn = this.pfnOf(page) ?? -1;
        pins.set(pfn, (pins.get(pfn) ?? 0) + 1);
      }
    }
    const order = (map: ReadonlyMap<number, number>): [number, number][] => [...map].sort(([a], [b]) => a - b);
    expect(order(this.at.memory.pins)).toEqual(order(pins));
    expect(this.at.process.userAccount?.nrLocked).toBe(nrPages);
    expect(this.at.process.account.nrLocked).toBe(0);
    expect(this.at.memory.violations).toEqual([]);
  }

  step(): void {
    const dice = this.rng.below(100);
    if (dice < 34) this.map();
    else if (dice < 48) this.copy();
    else if (dice < 82) this.unmap();
    else if (dice < 84) this.unmapAll();
    else if (dice < 89) this.move();
    else this.pin();
    this.check();
  }

  close(): void {
    for (const { bound, space } of this.devices) {
      if (space !== null) bound.detach();
      bound.unbind();
    }
    for (const { access, pins } of this.spaces) {
      for (const pin of pins.slice()) this.letGo(pin, pins, access);
      if (access !== null) this.fd.destroyAccess(access);
    }
    this.fd.close();
    expect(this.at.leaks()).toEqual([]);
    expect(this.fd.nrObjects).toBe(0);
  }
}

describe('random programs on an iommufd', () => {
  const NR_SEEDS = 12;
  const counts = new Map<string, number>();
  test.each(Array.from({ length: NR_SEEDS }, (_, seed) => seed))('seed %i', (seed) => {
    const program = new Program(seed);
    const nrOps = Math.ceil(NR_OPS / NR_SEEDS);
    for (let op = 0; op < nrOps; op++) {
      program.step();
      if (op % 100 === 0) program.checkAll();
    }
    program.checkAll();
    program.close();
    for (const [key, nr] of program.counts) counts.set(key, (counts.get(key) ?? 0) + nr);
  });

  test('every outcome came up', () => {
    for (const what of ['map', 'copy', 'unmap', 'attach', 'replace', 'pin']) {
      expect(counts.get(`${what} ok`), what).toBeGreaterThan(NR_OPS / 1000);
    }
    for (const [what, errno] of [
      ['map', EINVAL],
      ['map', EEXIST],
      ['map', EFAULT],
      ['map', ENOMEM],
      ['copy', EPERM],
      ['unmap', ENOENT],
      ['attach', EADDRINUSE],
      ['pin', EFAULT],
      ['pin', EPERM],
      ['pin', ENOENT],
    ] as const) {
      expect(counts.get(`${what} ${errno}`) ?? 0, `${what} ${errno}`).toBeGreaterThan(NR_OPS / 10_000);
    }
  });
});
