/**
 * Bugs 2, 3 and 23: a map that leaves "not present" cached. Number 2 is what the mail of April 2019 did not know: the AMD driver
 * flushed in its DMA API only. 2b and 2c are the patch that started that thread. Number 3 are the two bugs that the repair
 * of number 2 came with.
 */
import type { AmdIommu } from '../../drivers/index.ts';
import { IntelIommu } from '../../drivers/index.ts';
import type { Device, IommuDomain, IommuOps, Mapped } from '../../iommu/index.ts';
import { NoJudge } from '../judge.ts';
import type { DriverFactory, StageSetup } from '../setup.ts';
import { DEVICES, Stage } from '../stage.ts';
import { amdDriver, intelDriver } from './drivers.ts';
import { IOVA, KiB4, run, scattered } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';

const MAPS_A_PAGE = 'a page is mapped for a device that looked there before';
const mapsAPage: (id: string) => ReturnType<typeof story> = (id) =>
  story(id, MAPS_A_PAGE, (stage) => {
    const space = stage.space();
    stage.must(space.attach(DEVICES[0]), 'attach');
    stage.must(space.map(IOVA, run(1)), 'map');
  });

const mapsAList = (stage: Stage): void => {
  const space = stage.space();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, scattered(4)), 'map');
};

const AMD_VFIO: StageSetup = { arch: 'amd', caller: 'vfio', npCache: true };
const INTEL_VFIO: StageSetup = { arch: 'intel', caller: 'vfio', npCache: true };
/** The kernels of number 2 and 3, but for their ranges without PDE bit: those would leave absent tables cached all the same. */
const AMD_5_1: StageSetup = { ...AMD_VFIO, preset: 'linux-5.1' };
const AMD_5_3: StageSetup = { arch: 'amd', caller: 'dma-iommu', npCache: true, preset: 'linux-5.3' };
const TABLES = { flushesTables: true };

type MapSgDirect = NonNullable<IommuOps['mapSgDirect']>;

/** The driver's own map_sg of 5.3, with something behind its loop. */
function behindMapSg(
  flush: (driver: AmdIommu, domain: IommuDomain, iova: number, chunks: Float64Array, nr: number) => void,
): DriverFactory {
  const make = amdDriver({ preset: TABLES });
  return (platform, setup) => {
    const driver = make(platform, setup);
    const direct = driver.mapSgDirect;
    if (direct === undefined) throw new RangeError('this kernel maps scatterlists in its core');
    const mapSgDirect: MapSgDirect = (domain, iova, chunks, nr, prot) => {
      const errno = direct(domain, iova, chunks, nr, prot);
      if (errno === 0) flush(driver, domain, iova, chunks, nr);
      return errno;
    };
    return Object.assign(driver, { mapSgDirect });
  };
}

/** An element of a scatterlist; null is behind the last one. */
type Element = { readonly nrBytes: number } | null;

/** One step of for_each_sg. */
function next(chunks: Float64Array, nr: number, at: number): Element {
  return at < nr ? { nrBytes: chunks[2 * at + 1] } : null;
}

/** sg_dma_len(), which reads what it is given. */
function lengthOf(element: Element): number {
  if (element === null) throw new TypeError('NULL pointer dereference');
  return element.nrBytes;
}

const flushesBehindList: DriverFactory = behindMapSg((driver, domain, iova, chunks, nr) => {
  let nrBytes = 0;
  for (let i = 0; i < nr; i++) nrBytes += chunks[2 * i + 1];
  driver.flushNpCache(domain, iova, nrBytes);
});

const flushesIteratorBehindList: DriverFactory = behindMapSg((driver, domain, iova, chunks, nr) => {
  let at = 0;
  let element = next(chunks, nr, at);
  while (element !== null) element = next(chunks, nr, ++at);
  // What the kernel did: the loop's own variable, after the loop.
  driver.flushNpCache(domain, iova, lengthOf(element));
});

const flushesIfIterator: DriverFactory = behindMapSg((driver, domain, iova, chunks, nr) => {
  let at = 0;
  let element = next(chunks, nr, at);
  while (element !== null) element = next(chunks, nr, ++at);
  if (element !== null) driver.flushNpCache(domain, iova, lengthOf(element));
});

/** Lets somebody else run when a map has begun: `preempt` is called once, before its first entry is written. */
export class PreemptedMap extends IntelIommu {
  preempt: (() => void) | null = null;

  override mapPages(
    domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number {
    const { preempt } = this;
    this.preempt = null;
    preempt?.();
    return super.mapPages(domain, iova, paddr, pgsize, pgcount, prot, mapped);
  }
}

/** Whether to flush is a flag of the domain that an attach computes, and a map reads when it begins (v6.17, 12724ce3fe1a). */
class FlagAtAttach extends PreemptedMap {
  readonly #flags = new Map<IommuDomain, boolean>();
  #flag = false;

  override attachDev(domain: IommuDomain, device: Device): number {
    const errno = super.attachDev(domain, device);
    if (errno === 0) this.#flags.set(domain, true);
    return errno;
  }

  override mapPages(
    domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number {
    this.#flag = this.#flags.get(domain) ?? false;
    return super.mapPages(domain, iova, paddr, pgsize, pgcount, prot, mapped);
  }

  override iotlbSyncMap(domain: IommuDomain, iova: number, nrBytes: number): number {
    return this.#flag ? super.iotlbSyncMap(domain, iova, nrBytes) : 0;
  }
}

const attachInMap = story('23', 'the first device comes while a page is being mapped', (stage) => {
  const space = stage.coreSpace();
  const { driver } = stage.machine;
  if (!(driver instanceof PreemptedMap)) throw new TypeError('this story needs a driver that can be preempted');
  driver.preempt = (): void => stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, run(1)), 'map');
  stage.must(space.unmap(IOVA, KiB4), 'unmap');
});

export const MAP_FLUSH_MUTANTS: readonly Mutant[] = [
  {
    id: '2',
    title: 'amd_iommu_map does not flush: only the DMA API does',
    source: 'list mail 3753ffbe16',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: mapsAPage('2'),
    mutant: { ...AMD_5_1, makeDriver: amdDriver({ preset: TABLES }) },
    twin: { ...AMD_5_1, mapFlush: 'map', makeDriver: amdDriver({ preset: TABLES }) },
  },
  {
    id: '2b',
    title: 'the patch of April 2019 on Intel: callers flush, and VFIO does not',
    source: 'list mail of 11 April 2019, "iommu/dma-iommu: Add function to flush any cached not present IOTLB entries"',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: mapsAPage('2b'),
    mutant: { ...INTEL_VFIO, mapFlush: 'caller' },
    twin: { ...INTEL_VFIO, mapFlush: 'sync-map' },
  },
  {
    id: '2c',
    title: 'the patch of April 2019 on AMD: callers flush, and VFIO does not',
    source: 'list mail of 11 April 2019, "iommu/dma-iommu: Add function to flush any cached not present IOTLB entries"',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: mapsAPage('2c'),
    mutant: { ...AMD_VFIO, mapFlush: 'caller' },
    twin: { ...AMD_VFIO, mapFlush: 'sync-map' },
  },
  tested(
    {
      id: '3a',
      title: 'map_sg flushes by the iterator of its loop, which is NULL by then',
      source: 'list mail fdb7c36a39',
    },
    'a scatterlist is mapped without a crash',
    flushesIteratorBehindList,
    flushesBehindList,
    (makeDriver) => {
      mapsAList(new Stage({ ...AMD_5_3, makeDriver }, new NoJudge()));
      return '';
    },
  ),
  {
    id: '3b',
    title: 'map_sg flushes if the iterator of its loop is set, which it never is',
    source: 'list mail 91bddc2b75',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: story('3b', 'a scatterlist is mapped by the driver itself', mapsAList),
    mutant: { ...AMD_5_3, makeDriver: flushesIfIterator },
    twin: { ...AMD_5_3, makeDriver: flushesBehindList },
  },
  {
    id: '23',
    title: 'a map asks for the flag of its domain before an attach sets it',
    source: '12724ce3fe1a and its later fix',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: attachInMap,
    mutant: { arch: 'intel', caller: 'core', npCache: true, makeDriver: intelDriver({ driver: FlagAtAttach }) },
    twin: { arch: 'intel', caller: 'core', npCache: true, makeDriver: intelDriver({ driver: PreemptedMap }) },
  },
];
