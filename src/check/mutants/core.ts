/** Bugs 13 to 16: the core and its gather. They need a core of their own (StageSetup.makeCore). */
import { IntelIommu } from '../../drivers/index.ts';
import type { CoreOptions, IommuDomain } from '../../iommu/index.ts';
import { Iommu, IotlbGather } from '../../iommu/index.ts';
import type { StageSetup } from '../setup.ts';
import { DEVICES } from '../stage.ts';
import { amdDriver, intelDriver } from './drivers.ts';
import { IOVA, KiB4, MEMORY, run } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';
import type { MakeCore } from './rig.ts';
import { atMost, intelRig, must } from './rig.ts';

const RW = 3;
const TWO_32: number = 2 ** 32;
const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };
/** Flushes whole domains, as the AMD driver did until 5.14. */
const AMD_WHOLE: StageSetup = {
  arch: 'amd',
  caller: 'core',
  npCache: false,
  makeDriver: amdDriver({ preset: { unmapByRange: false } }),
};

/** Gathers what was asked for, where a larger leaf went as a whole. */
class GathersRequest extends IntelIommu {
  override unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const whole = new IotlbGather();
    whole.queued = gather.queued;
    const nrBytes = super.unmapPages(domain, iova, pgsize, pgcount, whole);
    gather.freelist.push(...whole.freelist);
    if (nrBytes > 0 && !gather.queued) gather.addRange(iova, Math.min(nrBytes, pgsize * pgcount));
    return nrBytes;
  }
}

/** A core whose callers' gathers are another class's behind their back. Without a flush queue. */
class GatherCore extends Iommu {
  readonly #own = new WeakMap<IotlbGather, IotlbGather>();
  readonly #make: () => IotlbGather;

  constructor(options: Partial<CoreOptions>, make: () => IotlbGather) {
    super(options);
    this.#make = make;
  }

  override unmapFast(domain: IommuDomain, iova: number, nrBytes: number, gather: IotlbGather): number {
    return super.unmapFast(domain, iova, nrBytes, this.#of(gather));
  }

  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    super.iotlbSync(domain, this.#of(gather));
  }

  #of(gather: IotlbGather): IotlbGather {
    const own = this.#own.get(gather) ?? this.#make();
    this.#own.set(gather, own);
    return own;
  }
}

/** `end` of a gather is the first byte behind it, in 32 bits: behind the last page of 4 GiB that is 0. */
class ExclusiveEnd extends IotlbGather {
  override addRange(start: number, nrBytes: number): void {
    const end = (start + nrBytes) % TWO_32;
    if (start < this.start) this.start = start;
    if (end > this.last + 1) this.last = end - 1;
  }
}

/** Compares the ends as if they were still exclusive, so that neighbours count as apart. */
class ApartNeighbours extends IotlbGather {
  override isDisjoint(start: number, nrBytes: number): boolean {
    const last = start + nrBytes - 1;
    return this.last !== 0 && (last < this.start || start > this.last);
  }
}

/** `if (!ret) return ret`, one half: what a failed map has written stays. */
class KeepsHalf extends Iommu {
  #mapping = false;

  override mapSg(domain: IommuDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    this.#mapping = true;
    const mapped = super.mapSg(domain, iova, chunks, nr, prot);
    this.#mapping = false;
    return mapped;
  }

  override unmap(domain: IommuDomain, iova: number, nrBytes: number): number {
    return this.#mapping ? 0 : super.unmap(domain, iova, nrBytes);
  }
}

/** The other half: its error is lost. */
class LosesError extends Iommu {
  override mapSg(domain: IommuDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    return Math.max(0, super.mapSg(domain, iova, chunks, nr, prot));
  }
}

const plain: MakeCore = (options) => new GatherCore(options, () => new IotlbGather());

export const CORE_MUTANTS: readonly Mutant[] = [
  {
    id: '13',
    title: 'a large page goes as a whole, and the gather has the part that was asked for',
    source: 'ee6e69d03255 (CVE-2026-31735)',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('13', 'the first 4 KiB of a large page are unmapped', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(512)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    }),
    mutant: { ...INTEL, makeDriver: intelDriver({ driver: GathersRequest }) },
    twin: INTEL,
  },
  {
    id: '14a',
    title: 'a gather ends at an exclusive end of 32 bits, which is 0 at 4 GiB',
    source: 'list mail 24af5a0d76',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('14a', 'the last page below 4 GiB is unmapped', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(TWO_32 - KiB4, run(1)), 'map');
      stage.must(space.unmap(TWO_32 - KiB4, KiB4), 'unmap');
    }),
    mutant: { ...INTEL, makeCore: (options) => new GatherCore(options, () => new ExclusiveEnd()) },
    twin: { ...INTEL, makeCore: plain },
  },
  tested<MakeCore>(
    { id: '14b', title: 'neighbours count as disjoint: a sync per page', source: 'list mail caaa360852' },
    'two pages that touch are unmapped with one command',
    (options) => new GatherCore(options, () => new ApartNeighbours()),
    plain,
    (makeCore) => {
      const { machine, domain, tape } = intelRig(intelDriver(), {}, makeCore);
      must(machine.core.map(domain, IOVA, MEMORY, 2 * KiB4, RW));
      tape.take();
      const gather = new IotlbGather();
      for (const page of [0, 1]) must(machine.core.unmapFast(domain, IOVA + page * KiB4, KiB4, gather) - KiB4);
      machine.core.iotlbSync(domain, gather);
      return atMost(1, tape.take(), 'an unmap of two neighbours');
    },
  ),
  {
    id: '15',
    title: 'the core skips the sync of an empty gather, where the driver never fills one',
    source: '90c5def10bea',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('15', 'a page is unmapped by a driver that flushes whole domains', (stage) => {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    }),
    mutant: { ...AMD_WHOLE, makeCore: (options) => new Iommu({ ...options, emptyGather: 'skip' }) },
    twin: { ...AMD_WHOLE, makeCore: (options) => new Iommu({ ...options, emptyGather: 'fill' }) },
  },
  {
    id: '16a',
    title: 'an inverted test: what a failed map has written stays',
    source: '6fc7e8a3b811',
    kind: 'contract',
    contract: 'C-ROLLBACK',
    scenario: story('16a', '4 pages are mapped, and the third is taken', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA + 2 * KiB4, run(1)), 'map of the third page');
      stage.mustFail(space.map(IOVA, run(4, MEMORY + 8 * KiB4)), 'map over it');
      stage.must(space.unmap(IOVA + 2 * KiB4, KiB4), 'unmap of the third page');
    }),
    mutant: { ...INTEL, makeCore: (options) => new KeepsHalf(options) },
    twin: INTEL,
  },
  tested<MakeCore>(
    { id: '16b', title: 'an inverted test: the error of a map is lost', source: '6fc7e8a3b811' },
    'a map over a page that is taken says so',
    (options) => new LosesError(options),
    (options) => new Iommu(options),
    (makeCore) => {
      const { machine, domain } = intelRig(intelDriver(), {}, makeCore);
      must(machine.core.map(domain, IOVA, MEMORY, KiB4, RW));
      return machine.core.map(domain, IOVA, 2 * MEMORY, KiB4, RW) < 0 ? '' : 'it says 0';
    },
  ),
];
