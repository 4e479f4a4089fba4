/**
 * Random programs of calls. A program is a list of numbers, so that any part of it is a program too: what a step refers to
 * ("unmap the third mapping") is looked up among what is there. That is what makes shrinking simple.
 */
import { EINVAL, PAGE_SIZE, Rng, hexRange } from '../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { StageSetup } from './setup.ts';
import type { Chunks, Space } from './space.ts';
import { READ_WRITE } from './space.ts';
import { CoreSpace } from './spaces/core-space.ts';
import type { Stage } from './stage.ts';
import { DEVICES } from './stage.ts';

/** Kind and three arguments, each below 2^16. */
export type Step = readonly [kind: number, a: number, b: number, c: number];

const KINDS = 16;
const ARGUMENT = 0x10000;
const NR_SPACES = 2;
const MOST_LIVE = 24;
const MiB2 = 2 ** 21;
/** Where mappings may lie: regions of 2 MiB; some share tables of every level, some are beyond three levels. */
const REGIONS: readonly number[] = [
  0,
  0x4000_0000,
  0x4020_0000,
  0x7fe0_0000,
  0xfe00_0000,
  0xffe0_0000,
  0x1_0000_0000,
  2 ** 38,
  2 ** 39 - MiB2,
  2 ** 47,
];
const MEMORY = 0x10_0000_0000;
const PROTS: readonly number[] = [READ_WRITE, READ_WRITE, IOMMU_READ, IOMMU_WRITE];
const MS = 1_000_000;

/** `nr` steps from a seed. */
export function randomProgram(seed: number, nr: number): Step[] {
  const rng = new Rng(seed);
  return Array.from({ length: nr }, (): Step => [
    rng.below(KINDS),
    rng.below(ARGUMENT),
    rng.below(ARGUMENT),
    rng.below(ARGUMENT),
  ]);
}

interface Live {
  readonly space: Space;
  readonly iova: number;
  readonly nrBytes: number;
  /** Of single pages, so that any part of it is leaves too. */
  readonly scattered: boolean;
}

/** A program in the making, or being played again. */
export class ProgramRun {
  readonly #stage: Stage;
  readonly #spaces: Space[];
  readonly #live: Live[] = [];
  /** What the last step did; '' when there was nothing for it to do. */
  did = '';
  #nrMaps = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#spaces = Array.from({ length: NR_SPACES }, () => stage.space());
    stage.must(this.#spaces[0].attach(DEVICES[0]), 'attach');
  }

  /** @throws StageError when a call failed that cannot fail */
  step([kind, a, b, c]: Step): void {
    this.did = '';
    if (kind < 7) this.#map(a, b, c);
    else if (kind < 12) this.#unmap(a, b, c);
    else if (kind < 14) this.#move(a, b);
    else if (kind === 14) this.#pass(a);
    else this.#fail(a, b);
  }

  #map(a: number, b: number, c: number): void {
    if (this.#live.length >= MOST_LIVE) return;
    const space = this.#spaces[a % NR_SPACES];
    const region = REGIONS[(a >> 2) % REGIONS.length];
    const large = b % 16 === 0;
    const first = large ? 0 : (b >> 4) % 500;
    const nr = large ? 512 : 1 + (c % (b % 4 === 1 ? 12 : 3));
    const iova = region + first * PAGE_SIZE;
    const nrBytes = nr * PAGE_SIZE;
    if (!this.#isFree(space, iova, nrBytes)) return;
    const paddr = MEMORY + (this.#nrMaps % 0x8000) * 2 * MiB2;
    this.#nrMaps += 1;
    const scattered = b % 4 === 1 && !large;
    const chunks: Chunks = scattered
      ? Array.from({ length: nr }, (_, page): [number, number] => [paddr + 2 * page * PAGE_SIZE, PAGE_SIZE])
      : [[paddr, nrBytes]];
    const prot = PROTS[(c >> 8) % PROTS.length];
    this.did = `map ${hexRange(iova, nrBytes)} in ${space.name}`;
    this.#stage.must(space.map(iova, chunks, prot), this.did);
    this.#live.push({ space, iova, nrBytes, scattered });
  }

  /** Neither mapped nor waiting for a flush. Maps of a large page would be looked at page by page: its ends are enough. */
  #isFree(space: Space, iova: number, nrBytes: number): boolean {
    for (const live of this.#live) {
      if (live.space === space && live.iova < iova + nrBytes && iova < live.iova + live.nrBytes) return false;
    }
    if (this.#stage.setup.unmapFlush !== 'lazy') return true;
    const pages = this.#stage.promises.of(space);
    for (let at = iova; at < iova + nrBytes; at += PAGE_SIZE) {
      if (pages.get(at / PAGE_SIZE)?.state === 'queued') return false;
    }
    return true;
  }

  #unmap(a: number, b: number, c: number): void {
    if (this.#live.length === 0) return;
    // From the last one on: what was mapped before may go from the program without a difference.
    const index = this.#live.length - 1 - (a % this.#live.length);
    const { space, iova, nrBytes, scattered } = this.#live[index];
    this.#live.splice(index, 1);
    const pages = nrBytes / PAGE_SIZE;
    // What the core can do and others cannot: a part only, or two ranges with one sync.
    if (space instanceof CoreSpace && pages > 1 && pages < 512 && b % 4 === 0) {
      const head = (1 + (c % (pages - 1))) * PAGE_SIZE;
      this.did = `unmap ${hexRange(iova, nrBytes)} of ${space.name} in two parts`;
      if (scattered && b % 8 === 0) {
        space.unmapFast(iova + head, nrBytes - head);
        space.unmapFast(iova, head);
        space.sync();
        return;
      }
      // A leaf goes as a whole.
      const gone = space.unmapBytes(iova, head);
      if (gone >= nrBytes) return;
      this.#stage.must(gone > 0 ? space.unmap(iova + gone, nrBytes - gone) : EINVAL, this.did);
      return;
    }
    this.did = `unmap ${hexRange(iova, nrBytes)} of ${space.name}`;
    this.#stage.must(space.unmap(iova, nrBytes), this.did);
  }

  /** A device leaves its space, or comes to one. */
  #move(a: number, b: number): void {
    const device = DEVICES[a % DEVICES.length];
    const before = this.#stage.promises.devices.get(device.sid) ?? null;
    if (before !== null) {
      this.did = `detach ${device.name} from ${before.name}`;
      before.detach(device);
      // VFIO: with the last device the mappings went.
      if (before.domain === null && before.caller === 'vfio') this.#forget(before);
      return;
    }
    const space = this.#spaces[b % NR_SPACES];
    this.did = `attach ${device.name} to ${space.name}`;
    this.#stage.must(space.attach(device), this.did);
  }

  #forget(space: Space): void {
    for (let index = this.#live.length - 1; index >= 0; index--) {
      if (this.#live[index].space === space) this.#live.splice(index, 1);
    }
  }

  #pass(a: number): void {
    const ns = (1 + (a % 12)) * MS;
    this.did = `${ns / MS} ms pass`;
    this.#stage.pass(ns);
  }

  /** A list that runs into a mapping: all of it must go back. */
  #fail(a: number, b: number): void {
    const { caller } = this.#stage.setup;
    if (this.#live.length === 0 || caller === 'vfio' || caller === 'iommufd') return;
    const { space, iova } = this.#live[a % this.#live.length];
    const nr = 1 + (b % 4);
    const start = iova - nr * PAGE_SIZE;
    if (start < 0 || !this.#isFree(space, start, nr * PAGE_SIZE)) return;
    const paddr = MEMORY + (this.#nrMaps % 0x8000) * 2 * MiB2;
    this.#nrMaps += 1;
    const chunks = Array.from({ length: nr + 1 }, (_, page): [number, number] => [
      paddr + 2 * page * PAGE_SIZE,
      PAGE_SIZE,
    ]);
    this.did = `map ${hexRange(start, (nr + 1) * PAGE_SIZE)} in ${space.name}, over a mapped page`;
    this.#stage.mustFail(space.map(start, chunks), this.did);
  }
}

/** The setup of a random program: the latest kernel, everything else from the seed. */
export function randomSetup(rng: Rng, base: Partial<StageSetup>): StageSetup {
  const arch = base.arch ?? rng.pick(['intel', 'amd'] as const);
  const caller = rng.pick(['core', 'core', 'dma-iommu', 'vfio', 'iommufd'] as const);
  return {
    ...base,
    arch,
    caller,
    npCache: base.npCache ?? rng.chance(0.7),
    unmapFlush: caller === 'dma-iommu' && rng.chance(0.5) ? 'lazy' : 'strict',
    ...(arch === 'intel' && rng.chance(0.15) ? { coherent: false } : {}),
    ...(arch === 'intel' && rng.chance(0.1) ? { vtd: { qi: false } } : {}),
  };
}
