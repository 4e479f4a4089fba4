/**
 * A machine with callers on it, for scenarios to play on. Every call that a scenario makes is bracketed for the judge and
 * entered in the table of promises.
 */
import { PAGE_SIZE, errnoName, hexRange } from '../base/index.ts';
import { amdPreset, intelPreset } from '../drivers/index.ts';
import type { Device, IommuOps } from '../iommu/index.ts';
import { IommuGroup } from '../iommu/index.ts';
import type { Machine } from '../machine/index.ts';
import { CommandCounter } from './command-counter.ts';
import type { Judge } from './judge.ts';
import { makeMachine } from './machines.ts';
import { Promises } from './promises.ts';
import type { CallerKind, StageSetup } from './setup.ts';
import type { SpaceHost } from './space-host.ts';
import { StageError } from './space-host.ts';
import type { Chunks, Space } from './space.ts';
import { CookieSpace } from './spaces/cookie-space.ts';
import { CoreSpace } from './spaces/core-space.ts';
import { DmaDeviceSpace } from './spaces/dma-device-space.ts';
import type { IommufdFile } from './spaces/iommufd-space.ts';
import { IommufdSpace, openIommufd } from './spaces/iommufd-space.ts';
import { VfioSpace } from './spaces/vfio-space.ts';

/** Devices of every stage: two on bus 0, one on bus 1, whose context entries lie in another table. */
export const DEVICES: readonly Device[] = [
  { name: '0000:00:02.0', sid: 0x0010 },
  { name: '0000:00:1f.3', sid: 0x00fb },
  { name: '0000:01:00.0', sid: 0x0100 },
];

const PASS_STEP_NS = 1_000_000;

export class Stage implements SpaceHost {
  readonly setup: StageSetup;
  readonly judge: Judge;
  readonly machine: Machine;
  readonly promises: Promises = new Promises();
  /** Invalidation commands since the last look. */
  readonly commands: CommandCounter = new CommandCounter();
  readonly #groups = new Map<Device, IommuGroup>();
  readonly #spaces: Space[] = [];
  readonly #stolen: number[] = [];
  #iommufd: IommufdFile | null = null;
  #driver: IommuOps;
  readonly #bringUpAgain: () => IommuOps;

  constructor(setup: StageSetup, judge: Judge) {
    this.setup = setup;
    this.judge = judge;
    const { machine, bringUpAgain } = makeMachine(setup, judge, this.commands);
    this.machine = machine;
    this.#driver = machine.driver;
    this.#bringUpAgain = bringUpAgain;
    this.#probe();
    judge.started(this.machine, this.promises);
  }

  get driver(): IommuOps {
    return this.#driver;
  }

  #probe(): void {
    DEVICES.forEach((device, id) => {
      const group = new IommuGroup(this.machine.core, this.#driver, id);
      this.must(group.addDevice(device), `probeDevice(${device.name})`);
      this.#groups.set(device, group);
      this.promises.devices.set(device.sid, null);
    });
  }

  /**
   * Another kernel starts on the running machine: translation is turned off, as firmware and kexec leave it, and a second
   * driver comes up. Memory and caches are as they were; nothing is attached at return. Intel only.
   */
  takeOver(): void {
    this.call('bring-up of the new kernel', () => {
      this.#driver = this.#bringUpAgain();
      this.#probe();
    });
  }

  get spaces(): readonly Space[] {
    return this.#spaces;
  }

  /** An address space of the setup's caller, with no device in it. */
  space(caller: CallerKind = this.setup.caller): Space {
    return this.#add(this.#make(caller, `${caller} ${this.#spaces.length}`));
  }

  #make(caller: CallerKind, name: string): Space {
    switch (caller) {
      case 'core':
        return new CoreSpace(this, name);
      case 'dma-iommu':
        return new CookieSpace(this, name);
      case 'vfio':
        return new VfioSpace(this, name);
      case 'iommufd':
        this.#iommufd ??= openIommufd(this.machine.core);
        return new IommufdSpace(this, name, this.#iommufd);
      default:
        throw new RangeError(`unknown caller ${String(caller satisfies never)}`);
    }
  }

  /** A domain of iommu_domain_alloc, for what only callers of the core can do. */
  coreSpace(): CoreSpace {
    return this.#add(new CoreSpace(this, `core ${this.#spaces.length}`));
  }

  /** The DMA API with its own addresses. */
  dmaSpace(): DmaDeviceSpace {
    return this.#add(new DmaDeviceSpace(this, `dma-iommu ${this.#spaces.length}`));
  }

  #add<S extends Space>(space: S): S {
    this.#spaces.push(space);
    return space;
  }

  group(device: Device): IommuGroup {
    const group = this.#groups.get(device);
    if (group === undefined) throw new RangeError(`${device.name} is no device of the stage`);
    return group;
  }

  /** One call of a caller. */
  call<T>(name: string, body: () => T): T {
    return this.judge.call(name, body);
  }

  /**
   * Callers that know nothing of each other, or a caller and a timer: each list is done in its order, and the judge chooses
   * between lists. The first list goes first for judges that do not care.
   */
  interleave(...lists: readonly (readonly (() => void)[])[]): void {
    const left = lists.map((list) => [...list]).filter((list) => list.length > 0);
    while (left.length > 0) {
      const chosen = left.length === 1 ? 0 : (this.judge.choose?.(left.length) ?? 0);
      left[chosen].shift()?.();
      if (left[chosen].length === 0) left.splice(chosen, 1);
    }
  }

  /** Whether this kernel, or the override, leaves the flush after a map to the DMA API. */
  get flushAfterMap(): boolean {
    const { arch, preset = 'linux-6.12', mapFlush } = this.setup;
    return (mapFlush ?? (arch === 'intel' ? intelPreset(preset) : amdPreset(preset)).mapFlush) === 'caller';
  }

  /** Lets time pass, and runs each timer within a millisecond of when it is due: a leap would make queues wait too long. */
  pass(ns: number): void {
    for (let left = ns; left > 0; left -= PASS_STEP_NS) {
      this.machine.clock.advanceBy(Math.min(left, PASS_STEP_NS));
      for (const space of this.#spaces) space.tick();
    }
  }

  /** Waits until no flush queue holds anything: more than two of its periods. Nothing to wait for under `strict`. */
  settle(): void {
    if (this.setup.unmapFlush === 'lazy') for (let count = 0; count < 4; count++) this.pass(10_000_000);
  }

  /** Takes table pages away until `nr` are left; needs a setup with a small `nrPages`. */
  leavePages(nr: number): void {
    const { pages } = this.machine;
    for (let pfn: number = pages.alloc(); pfn >= 0; pfn = pages.alloc()) this.#stolen.push(pfn);
    for (let count = 0; count < nr; count++) {
      const pfn = this.#stolen.pop();
      if (pfn !== undefined) pages.free(pfn);
    }
  }

  /** Gives the pages of `leavePages` back. */
  returnPages(): void {
    for (const pfn of this.#stolen.splice(0)) this.machine.pages.free(pfn);
  }

  /** @throws StageError when a call failed that cannot fail */
  must(errno: number, what: string): void {
    if (errno < 0) throw new StageError(`${what} failed with ${errnoName(errno)}`);
  }

  /** @throws StageError unless a call was refused, and with one of the errnos that this may have */
  mustFail(errno: number, what: string): void {
    if (errno >= 0) throw new StageError(`${what} succeeded, where it cannot`);
  }

  // What spaces report of their calls.

  mapped(space: Space, iova: number, chunks: Chunks, prot: number): void {
    let page = iova / PAGE_SIZE;
    for (const [paddr, nrBytes] of chunks) {
      for (let at = 0; at < nrBytes; at += PAGE_SIZE) {
        this.promises.mapped(space, page, (paddr + at) / PAGE_SIZE, prot);
        page += 1;
      }
    }
  }

  unmapped(space: Space, iova: number, nrBytes: number, queued: boolean = false): void {
    this.promises.unmapped(space, iova / PAGE_SIZE, nrBytes / PAGE_SIZE, queued);
  }

  attached(space: Space | null, device: Device): void {
    this.promises.devices.set(device.sid, space);
  }

  flushed(space: Space, iova: number, nrBytes: number): void {
    this.promises.flushed(space, iova / PAGE_SIZE, nrBytes / PAGE_SIZE);
  }

  /** @throws StageError when a page of a range still waits for a flush: a caller may not map there */
  mustBeFree(space: Space, iova: number, nrBytes: number): void {
    const pages = this.promises.of(space);
    for (let page = iova / PAGE_SIZE; page < (iova + nrBytes) / PAGE_SIZE; page++) {
      if (pages.get(page)?.state === 'queued') {
        throw new StageError(`the scenario maps ${hexRange(iova, nrBytes)} again before its flush`);
      }
    }
  }
}
