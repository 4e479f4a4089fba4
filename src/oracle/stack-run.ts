/**
 * Our drivers on QEMU's IOMMU: the core, the DMA API and VFIO map and unmap at random, devices do DMA, and three answers must
 * be one. Where a page is mapped, `iovaToPhys` says where the access lands. A unit of ours that is told the same register
 * writes says it too, and what happens where no page is mapped: which fault, or, lazily unmapped, which stale page. QEMU's
 * memory and fault registers say what did happen.
 */
import { Rng } from '../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import { QemuMachine, qemuVersion } from '../qemu/index.ts';
import type { QemuArch, QemuStackOptions } from '../qemu/index.ts';
import { vtd } from '../spec/index.ts';
import { AMDVI_REGISTERS } from './amdvi-programs.ts';
import { BIG_PAGES, DATA_PAGES, cellsOf } from './arena.ts';
import type { Difference } from './differential.ts';
import { deathAt, differenceAfter } from './differential.ts';
import { LocalRig } from './local-rig.ts';
import { MirroredPlatform } from './mirrored-platform.ts';
import type { Step, WatchedRegister } from './program.ts';
import { QemuAmdvi } from './qemu-amdvi.ts';
import { QemuRig } from './qemu-rig.ts';
import { QemuVtd, boardVtd } from './qemu-vtd.ts';
import type { MakeUnit } from './random-run.ts';
import type { Mappings, StackCaller } from './stack-mappings.ts';
import { STACK_CALLERS, makeMappings } from './stack-mappings.ts';
import { FRCD, VTD_REGISTERS } from './vtd-programs.ts';

export interface StackRunOptions extends Omit<QemuStackOptions, 'wrapPlatform'> {
  readonly arch: QemuArch;
  readonly seed: number;
  readonly steps: number;
  /** Unmapped pages of the DMA API wait in a flush queue. */
  readonly lazy: boolean;
  /** Makes another unit than ours, to show that a wrong one is found. */
  readonly makeUnit?: MakeUnit;
}

export interface StackRunResult {
  readonly steps: number;
  readonly dmas: number;
  /** DMAs that reached a mapped page, as iovaToPhys said. */
  readonly landed: number;
  /** Writes that reached memory though their page was not mapped for them any more: what a lazy unmap leaves in caches. */
  readonly stale: number;
  readonly difference: Difference | null;
}

interface Mapping {
  readonly iova: number;
  readonly nrBytes: number;
  readonly prot: number;
}

/** What a device may reach, and who says so. */
interface Space {
  readonly caller: StackCaller;
  readonly device: number;
  readonly mappings: Mappings;
  readonly live: Mapping[];
  /** IOVAs that were mapped once: a DMA there meets what a forgotten invalidation would leave. */
  readonly past: number[];
}

const MAX_LIVE = 24;
const TICK_NS = 3_000_000;
/** Registers that both sides must show; the queue's are the driver's business, which asks QEMU alone. */
const INTEL_SHOWN: readonly WatchedRegister[] = VTD_REGISTERS.filter(({ name }) => /^(GSTS|FSTS|FRCD)/.test(name));

class StackRun {
  readonly #rng: Rng;
  readonly #machine: QemuMachine;
  readonly #ours: LocalRig;
  readonly #other: QemuRig;
  readonly #spaces: Space[];
  readonly #registers: readonly WatchedRegister[];
  #value = 0;
  #steps = 0;
  #dmas = 0;
  #landed = 0;
  #stale = 0;

  constructor(options: StackRunOptions) {
    this.#rng = new Rng(options.seed);
    const isIntel = options.arch === 'intel';
    this.#registers = isIntel ? INTEL_SHOWN : AMDVI_REGISTERS.filter(({ name }) => name === 'CONTROL');
    const { major } = qemuVersion(options.binary);
    let local: LocalRig | null = null;
    this.#machine = new QemuMachine({
      ...options,
      wrapPlatform: (platform, base) => {
        const sids = isIntel ? [0x20, 0x28, 0x100] : [0x20, 0x28];
        const makeUnit = options.makeUnit ?? (isIntel ? makeIntel(options.cachingMode !== false) : makeAmd);
        local = new LocalRig({
          mem: platform.mem,
          sids,
          registers: this.#registers,
          makeUnit: (mem, clock) => makeUnit(mem, clock, sids, major),
        });
        return new MirroredPlatform(platform, local.unit, base);
      },
    });
    if (local === null) throw new Error('no unit beside the driver');
    this.#ours = local;
    for (const page of [...BIG_PAGES, ...DATA_PAGES]) this.#machine.platform.mem.ensure(page / 4096);
    this.#other = new QemuRig(this.#machine.board, this.#registers);
    this.#spaces = this.#ours.sids.map((_sid, device) => {
      const caller = STACK_CALLERS[(device + options.seed) % STACK_CALLERS.length];
      const mappings = makeMappings(this.#machine, caller, this.#machine.device(device), options.lazy);
      return { caller, device, mappings, live: [], past: [0x10000] };
    });
  }

  run(steps: number): StackRunResult {
    let difference: Difference | null = null;
    try {
      while (this.#steps < steps && difference === null) difference = this.#step();
    } catch (error) {
      difference = deathAt(this.#steps, error);
    }
    return { steps: this.#steps, dmas: this.#dmas, landed: this.#landed, stale: this.#stale, difference };
  }

  #step(): Difference | null {
    this.#steps += 1;
    const space = this.#rng.pick(this.#spaces);
    const kind = this.#rng.below(100);
    if (kind >= 45) return kind < 90 ? this.#write(space) : this.#copy(space);
    if (kind < 20) this.#map(space);
    else if (kind < 35) this.#unmap(space);
    else if (kind < 38) this.#tick();
    else this.#clearFault();
    return null;
  }

  close(): void {
    this.#machine.close();
  }

  #map(space: Space): void {
    if (space.live.length >= MAX_LIVE) return;
    const rng = this.#rng;
    const big = rng.chance(0.2);
    const paddr = big ? rng.pick(BIG_PAGES) : rng.pick(DATA_PAGES);
    const nrBytes = big ? 2 ** 21 : 4096 * rng.pick([1, 1, 1, 2, 3]);
    const prot = rng.pick([IOMMU_READ | IOMMU_WRITE, IOMMU_READ | IOMMU_WRITE, IOMMU_READ, IOMMU_WRITE]);
    const wish = (rng.below(4) * 512 + rng.below(big ? 1 : 64)) * 4096 + 2 ** rng.pick([24, 31, 38]);
    const iova = space.mappings.map(wish, paddr, nrBytes, prot);
    // Overlaps are refused by whoever was asked.
    if (iova < 0) return;
    space.live.push({ iova, nrBytes, prot });
    space.past.push(iova);
    if (space.past.length > 2 * MAX_LIVE) space.past.shift();
  }

  #unmap(space: Space): void {
    if (space.live.length === 0) return;
    const [mapping] = space.live.splice(this.#rng.below(space.live.length), 1);
    const result = space.mappings.unmap(mapping.iova, mapping.nrBytes, mapping.prot);
    if (result < 0) throw new Error(`${space.caller} cannot unmap what it mapped: errno ${result}`);
  }

  #tick(): void {
    this.#machine.clock.advanceBy(TICK_NS);
    for (const { mappings } of this.#spaces) mappings.tick();
  }

  #clearFault(): void {
    if (this.#machine.board.arch !== 'intel') return;
    for (const step of [
      { op: 'writel', offset: FRCD + 12, value: vtd.FRCD_F_W3 },
      { op: 'writel', offset: vtd.FSTS_REG, value: vtd.FSTS_PFO },
    ] as const) {
      this.#ours.step(step);
      this.#other.step(step);
    }
  }

  /** An address that is mapped, was mapped or lies beside one; each access has words of its own. */
  #iova(space: Space): number {
    const rng = this.#rng;
    const at = ((this.#value += 1) * 4) & 0xffc;
    if (space.live.length > 0 && rng.chance(0.7)) {
      const { iova, nrBytes } = rng.pick(space.live);
      const page = iova + rng.pick([0, 0, nrBytes - 4096, nrBytes]);
      // A write beside the last page before the interrupt range is no DMA: it interrupts the CPU, and QEMU's time stands still.
      return (Math.floor(page / 2 ** 20) === 0xfee ? iova : page) + at;
    }
    return rng.pick(space.past) + at;
  }

  #write(space: Space): Difference | null {
    const iova = this.#iova(space);
    return this.#dma(
      space,
      { op: 'dma-write', device: space.device, iova, value: (this.#value & 0x7fff) | 0x8000 },
      iova,
    );
  }

  #copy(space: Space): Difference | null {
    const from = this.#iova(space);
    const to = this.#iova(space);
    return this.#dma(space, { op: 'dma-copy', device: space.device, from, to, nrBytes: 4 }, to);
  }

  #dma(space: Space, step: Step, target: number): Difference | null {
    this.#dmas += 1;
    const paddr = this.#promised(space, target);
    this.#ours.step(step);
    this.#other.step(step);
    const more = paddr < 0 ? [] : [paddr];
    const difference = differenceAfter(
      this.#ours,
      this.#other,
      step,
      this.#steps,
      this.#registers.map(({ name }) => name),
      more,
    );
    if (difference !== null) return difference;
    // Both agree; with iovaToPhys too?
    if (step.op !== 'dma-write') return null;
    if (paddr < 0) {
      if (this.#ours.observe(cellsOf(target, 4)).includes(step.value)) this.#stale += 1;
    } else {
      const found = this.#ours.observe([paddr]).at(-1);
      if (found !== step.value) {
        return {
          step: this.#steps,
          what: [{ name: `iovaToPhys 0x${paddr.toString(16)}`, ours: step.value, other: found ?? 0 }],
        };
      }
      this.#landed += 1;
    }
    return null;
  }

  /** Where a write must land: where the page table leads, if the mapping has the right; -1 when it must not land there. */
  #promised(space: Space, iova: number): number {
    const mapping = space.live.find((one) => iova >= one.iova && iova < one.iova + one.nrBytes);
    if (mapping === undefined || (mapping.prot & IOMMU_WRITE) === 0) return -1;
    return this.#machine.core.iovaToPhys(space.mappings.domain, iova);
  }
}

const makeIntel =
  (cachingMode: boolean): MakeUnit =>
  (mem, clock, sids, major) =>
    new QemuVtd(mem, clock, sids, { ...boardVtd(major), cachingMode });

const makeAmd: MakeUnit = (mem, clock) => new QemuAmdvi(mem, clock);

/** Plays one random program. @throws QemuError when there is no QEMU */
export function runStack(options: StackRunOptions): StackRunResult {
  let run: StackRun;
  try {
    run = new StackRun(options);
  } catch (error) {
    return { steps: 0, dmas: 0, landed: 0, stale: 0, difference: deathAt(0, error) };
  }
  try {
    return run.run(options.steps);
  } finally {
    run.close();
  }
}
