/**
 * One machine, five devices in four groups, three kinds of callers of its IOMMU at the same time: the DMA API on the groups'
 * default domains, VFIO containers of both versions, and an iommufd with two address spaces. Groups move between them. Every
 * call has the answer that naive bookkeeping (space.ts) gives, and devices look: at what was mapped, at what is gone, at what
 * never was there, so that the hardware caches "not present" where it may.
 */
import { ENOMEM, Rng } from '../../src/base/index.ts';
import { DmaSpace } from '../../src/dma/index.ts';
import type { MapFlush } from '../../src/drivers/index.ts';
import type { Device, ResvRegion } from '../../src/iommu/index.ts';
import { IommuGroup } from '../../src/iommu/index.ts';
import type { Machine } from '../../src/machine/index.ts';
import { AmdMachine, IntelMachine } from '../../src/machine/index.ts';
import { DmaCaller } from './dma-caller.ts';
import { FdCaller } from './fd-caller.ts';
import { SoakMemory } from './memory.ts';
import { PAGE, READ, RESERVED_PAGE, RESERVED_PAGES, Space, WRITE } from './space.ts';
import { VfioCaller } from './vfio-caller.ts';

export interface SoakConfig {
  readonly vendor: 'intel' | 'amd';
  readonly preset: string;
  /** CAP.CM, NpCache. */
  readonly cachesNotPresent?: boolean;
  /** The DMA API unmaps through flush queues; under `cachesNotPresent` by an administrator's will. */
  readonly lazy?: boolean;
  /** Intel: tables are not snooped. */
  readonly coherent?: boolean;
  /** Invalidations take as long. */
  readonly completionDelayNs?: number;
  /** Highest address of the first device of each group. Default 2^32 - 1; little of it runs out. */
  readonly dmaMask?: number;
  /** Table pages there are. Default: enough; calls may fail with ENOMEM when there are few, and must change nothing then. */
  readonly nrPages?: number;
  /** A driver with a bug, to see that it is found. */
  readonly mapFlush?: MapFlush;
}

/** What the firmware of the last device uses: mapped one to one as long as it is attached. */
const DIRECT_PAGE = 0x7b800;
const DIRECT_PAGES = 24;

export type Owner = 'dma' | VfioCaller | FdCaller;

/** A group: its devices, the DMA API above its default domain, and who has it now. */
export class SoakGroup {
  readonly group: IommuGroup;
  readonly devices: readonly Device[];
  readonly dma: DmaCaller;
  readonly reserved: readonly ResvRegion[];
  owner: Owner = 'dma';

  constructor(group: IommuGroup, devices: readonly Device[], dma: DmaCaller, reserved: readonly ResvRegion[]) {
    this.group = group;
    this.devices = devices;
    this.dma = dma;
    this.reserved = reserved;
  }

  /** True when a page may not be mapped for this group. */
  reserves(page: number, nr: number): boolean {
    return this.reserved.some(({ start, nrBytes }) => page * PAGE < start + nrBytes && (page + nr) * PAGE > start);
  }
}

const DEVICES: readonly Device[] = [0x20, 0x28, 0x30, 0x38, 0x40].map((sid) => ({
  name: `0000:00:${(sid >> 3).toString(16).padStart(2, '0')}.0`,
  sid,
}));
const GROUPS = [[0, 1], [2], [3], [4]];

export class SoakWorld {
  readonly rng: Rng;
  readonly machine: Machine;
  readonly memory: SoakMemory;
  readonly groups: readonly SoakGroup[];
  readonly callers: readonly (VfioCaller | FdCaller)[];
  readonly #tablesAtStart: number;
  /** What is being unmapped, to be looked at while its frames are unpinned. */
  #ending: { space: Space; page: number; nr: number } | null = null;
  readonly #runsOut: boolean;
  nrCalls = 0;
  nrOut = 0;
  nrRefused = 0;
  nrLooks = 0;
  nrMoves = 0;

  constructor(config: SoakConfig, seed: number) {
    const { vendor, preset, cachesNotPresent = false, coherent = true, completionDelayNs = 0 } = config;
    this.rng = new Rng(seed);
    const resvRegions = ({ sid }: Device): ResvRegion[] => {
      const region = (page: number, nr: number, type: ResvRegion['type']): ResvRegion[] => [
        { start: page * PAGE, nrBytes: nr * PAGE, type, prot: READ | WRITE },
      ];
      if (sid === DEVICES[3].sid) return region(RESERVED_PAGE, RESERVED_PAGES, 'reserved');
      return sid === DEVICES[4].sid ? region(DIRECT_PAGE, DIRECT_PAGES, 'direct') : [];
    };
    const common = {
      resvRegions,
      ...(config.nrPages === undefined ? {} : { nrPages: config.nrPages }),
      ...(config.mapFlush === undefined ? {} : { mapFlush: config.mapFlush }),
    };
    this.#runsOut = config.nrPages !== undefined || config.dmaMask !== undefined;
    this.machine =
      vendor === 'intel'
        ? new IntelMachine({
            preset,
            hardware: { cachingMode: cachesNotPresent, completionDelayNs },
            coherent,
            ...common,
          })
        : new AmdMachine({
            preset,
            lastBdf: 0xff,
            hardware: { npCache: cachesNotPresent, completionDelayNs },
            ...common,
          });
    const { core, pages } = this.machine;
    this.#tablesAtStart = pages.nrLive;
    this.memory = new SoakMemory(this.rng);
    this.memory.onFree = (frame) => this.#lookAtFreed(frame);
    this.groups = GROUPS.map((members, id) =>
      this.#makeGroup(
        members.map((member) => DEVICES[member]),
        id,
        config,
      ),
    );
    this.callers = [
      new VfioCaller(this, 'type1 v2', 3),
      new VfioCaller(this, 'type1 v1', 1),
      ...FdCaller.pair(this, core),
    ];
  }

  #makeGroup(devices: readonly Device[], id: number, config: SoakConfig): SoakGroup {
    const { core, driver, clock, pages } = this.machine;
    const group = new IommuGroup(core, driver, id);
    for (const device of devices) this.same(group.addDevice(device), 0, 'addDevice');
    this.same(group.setupDefaultDomain('paging'), 0, 'setupDefaultDomain');
    const domain = group.defaultDomain;
    if (domain === null) return this.fail('no default domain');
    const space = new Space(`group ${id}`);
    space.sids = devices.map(({ sid }) => sid);
    const dmaSpace = new DmaSpace(core, domain, clock, {
      nrCpus: 3,
      freeTables: (tables) => {
        for (const pfn of tables) pages.free(pfn);
      },
      // A flush covers all that was queued.
      windowClosed: () => space.pending.clear(),
    });
    if (config.lazy === true) dmaSpace.cookie.startQueue();
    for (const device of devices) this.same(dmaSpace.reserveFor(device), 0, 'reserveFor');
    const reserved = devices.flatMap((device) => [...driver.getResvRegions(device)]);
    for (const { type, start, nrBytes } of reserved) {
      if (type !== 'direct') continue;
      for (let page = start / PAGE; page < (start + nrBytes) / PAGE; page++) space.map(page, page, READ | WRITE);
    }
    const masks = devices.map((_, nr) => (nr === 0 ? (config.dmaMask ?? 2 ** 32 - 1) : 2 ** 40 - 1));
    return new SoakGroup(group, devices, new DmaCaller(this, dmaSpace, space, masks, reserved), reserved);
  }

  fail(text: string): never {
    throw new Error(`call ${this.nrCalls}: ${text}`);
  }

  /** A call's result is what the bookkeeping says. */
  same(result: number, expected: number, what: string): void {
    if (result !== expected) this.fail(`${what} gave ${result}, not ${expected}`);
    if (expected < 0) this.nrRefused += 1;
  }

  /** As `same`, for calls that need memory: false when there was none, and the call must have changed nothing. */
  agrees(result: number, expected: number, what: string): boolean {
    if (this.#runsOut && result === ENOMEM) {
      this.nrOut += 1;
      return false;
    }
    this.same(result, expected, what);
    return true;
  }

  /** Devices of a space look at a page: both rights, any byte. */
  look(space: Space, page: number): void {
    for (const sid of space.sids) this.#look(space, sid, page);
  }

  #look(space: Space, sid: number, page: number): void {
    const entry = space.pages.get(page) ?? -1;
    const old = entry >= 0 ? -1 : (space.pending.get(page) ?? -1);
    const offset = this.rng.below(PAGE);
    for (let access = READ; access <= WRITE; access++) {
      const got = this.machine.unit.translate(sid, page * PAGE + offset, access);
      this.nrLooks += 1;
      const leads = entry >= 0 && (entry & access) !== 0 ? Math.floor(entry / 4) * PAGE + offset : -1;
      if (leads >= 0 ? got === leads : got < 0) continue;
      if (old >= 0 && (old & access) !== 0 && got === Math.floor(old / 4) * PAGE + offset) continue;
      this.fail(
        `${space.name}: device ${sid.toString(16)} ${access === READ ? 'reads' : 'writes'} page 0x${page.toString(16)}: ` +
          `0x${got.toString(16)}, not ${leads < 0 ? 'blocked' : `0x${leads.toString(16)}`}`,
      );
    }
  }

  /** Runs an unmap of a range; whoever is unpinned meanwhile must be out of reach. */
  ending<T>(space: Space, page: number, nr: number, act: () => T): T {
    this.#ending = { space, page, nr };
    const result = act();
    this.#ending = null;
    return result;
  }

  #lookAtFreed(frame: number): void {
    if (this.#ending === null || !this.rng.chance(0.25)) return;
    const { space, page, nr } = this.#ending;
    // Where the frame was mapped, if one of a few guesses finds it.
    for (let guess = 0; guess < 8; guess++) {
      const at = page + this.rng.below(nr);
      if (Math.floor((space.pages.get(at) ?? -4) / 4) !== frame) continue;
      for (const sid of space.sids) {
        for (let access = READ; access <= WRITE; access++) {
          this.nrLooks += 1;
          if (this.machine.unit.translate(sid, at * PAGE, access) === frame * PAGE) {
            this.fail(`${space.name}: frame 0x${frame.toString(16)} is unpinned while a device reaches it`);
          }
        }
      }
      return;
    }
  }

  step(): void {
    const { rng } = this;
    const dice = rng.below(1000);
    if (dice < 4) this.#move();
    else if (dice < 500) rng.pick(this.groups).dma.step();
    else rng.pick(this.callers).step();
    if (rng.chance(0.3)) this.#glance();
    if (this.nrCalls % 20_000 === 0) this.lookAtAll();
  }

  /** Somebody somewhere. */
  #glance(): void {
    const group = this.rng.pick(this.groups);
    const space = this.spaceOf(group);
    const page = space.recent(this.rng.next32());
    if (page >= 0) this.look(space, page);
  }

  spaceOf(group: SoakGroup): Space {
    return group.owner === 'dma' ? group.dma.space : group.owner.space;
  }

  /** A group gets another owner, back through the DMA API as a driver is bound and unbound. */
  #move(): void {
    const { rng } = this;
    const one = rng.pick(this.groups);
    this.nrCalls += 1;
    this.nrMoves += 1;
    if (one.owner === 'dma') {
      const caller = rng.pick(this.callers);
      const expected = one.reserved.some(({ type }) => type === 'direct') ? -22 : caller.expectsAttach(one);
      const isDone = this.agrees(caller.attach(one), expected, `${caller.name} takes group ${one.group.id}`);
      if (isDone && expected === 0) one.owner = caller;
    } else if (one.owner instanceof FdCaller && rng.chance(0.5)) {
      const { other } = one.owner;
      const expected = other.expectsAttach(one);
      const isDone = this.agrees(one.owner.replace(one), expected, `replace of group ${one.group.id}`);
      if (isDone && expected === 0) one.owner = other;
    } else {
      one.owner.detach(one);
      one.owner = 'dma';
    }
    this.#settle();
    for (const other of this.groups) for (let nr = 0; nr < 4; nr++) this.#lookAround(other);
  }

  /** Who uses which space now. */
  #settle(): void {
    for (const { dma } of this.groups) dma.space.sids = [];
    for (const { space } of this.callers) space.sids = [];
    for (const group of this.groups) {
      const space = this.spaceOf(group);
      space.sids = [...space.sids, ...group.devices.map(({ sid }) => sid)];
    }
  }

  /** Pages of other spaces too: after a move they lead nowhere, or elsewhere. */
  #lookAround(group: SoakGroup): void {
    const space = this.spaceOf(group);
    for (const other of [group.dma.space, ...this.callers.map((caller) => caller.space)]) {
      const page = other.recent(this.rng.next32());
      if (page >= 0) this.look(space, page);
      const [first] = other.pages.keys();
      if (first !== undefined) this.look(space, first);
    }
  }

  /** Every page of every space, and what counters say. */
  lookAtAll(): void {
    for (const group of this.groups) {
      const { space } = group.dma;
      for (const page of this.spaceOf(group).pages.keys()) this.look(this.spaceOf(group), page);
      for (const page of space.pending.keys()) this.look(this.spaceOf(group), page);
      group.dma.check();
    }
  }

  /** Everything ends, and all memory is back. */
  finish(): void {
    this.lookAtAll();
    for (const group of this.groups) {
      if (group.owner !== 'dma') group.owner.detach(group);
      group.owner = 'dma';
    }
    this.#settle();
    this.lookAtAll();
    for (const caller of this.callers) caller.finish();
    for (const group of this.groups) group.dma.finish();
    this.lookAtAll();
    for (const { group, devices } of this.groups) {
      for (const device of devices) this.same(group.removeDevice(device), 0, 'removeDevice');
      group.destroy();
    }
    if (this.memory.pins.size > 0) this.fail(`${this.memory.pins.size} frames are still pinned`);
    this.same(this.machine.pages.nrLive, this.#tablesAtStart + this.#tablesKept, 'table pages at the end');
  }

  /** A context table of VT-d stays with its bus. */
  get #tablesKept(): number {
    return this.machine instanceof IntelMachine ? 1 : 0;
  }
}
