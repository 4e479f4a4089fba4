/** Bugs 10, 11, 12, 17, 18 and 25: page tables, and when their pages are freed. */
import type { IntelDomain, IntelIommuOptions } from '../../drivers/index.ts';
import { IntelIommu } from '../../drivers/index.ts';
import type { IommuDomain, IotlbGather } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import { PageAllocator, PhysMem } from '../../mem/index.ts';
import type { MappedBytes } from '../../pt/index.ts';
import { PageTable, VtdSsFormat } from '../../pt/index.ts';
import type { StageSetup } from '../setup.ts';
import { DEVICES } from '../stage.ts';
import { amdDriver, intelDriver } from './drivers.ts';
import { IOVA, KiB4, MEMORY, MiB2, run, scattered } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';
import { intelRig, must } from './rig.ts';

const RW = 3;
const GiB: number = 2 ** 30;
const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };
const AMD: StageSetup = { arch: 'amd', caller: 'core', npCache: false };

/** A driver that frees tables in its own ways. */
abstract class FreesTables extends IntelIommu {
  readonly #platform: Platform;

  constructor(platform: Platform, options: IntelIommuOptions) {
    super(platform, options);
    this.#platform = platform;
  }

  protected free(tables: number[]): void {
    for (const pfn of tables.splice(0)) this.#platform.pages.free(pfn);
  }
}

/** Nothing is invalidated between the table's entry and the large leaf in its place. */
class ReplacesUnflushed extends FreesTables {
  protected override tableReplaced(
    _domain: IntelDomain,
    _iova: number,
    _nrBytes: number,
    freelist: readonly number[],
  ): void {
    this.free([...freelist]);
  }
}

class FreesBeforeFlush extends FreesTables {
  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    this.free(gather.freelist);
    super.iotlbSync(domain, gather);
  }
}

/** No freelist in the gather: what an unmap unlinked is freed when it returns, flush queue or not. */
class FreesInLazyUnmap extends FreesTables {
  override unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const nrBytes = super.unmapPages(domain, iova, pgsize, pgcount, gather);
    if (gather.queued) this.free(gather.freelist);
    return nrBytes;
  }
}

/** The flush queue could not be set up; its tables are nobody's. */
class LosesTables extends IntelIommu {
  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    gather.freelist.length = 0;
    super.iotlbSync(domain, gather);
  }
}

/** Frees the tables of a run of large leaves up to its end rounded up, so those of one leaf more. */
class UnalignedEnd extends PageTable {
  override mapRange(
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: MappedBytes,
  ): number {
    const errno = super.mapRange(iova, paddr, pgsize, pgcount, prot, mapped);
    if (errno === 0 && pgsize > KiB4) this.unmapBytes(iova + pgsize * pgcount, pgsize, []);
    return errno;
  }
}

/**
 * Goes on one whole entry of 1 GiB behind where it stands, not behind where that entry began: what an unaligned range has
 * beyond the boundary is skipped, and counted.
 */
class AdvancesFromMiddle extends PageTable {
  override unmapBytes(iova: number, nrBytes: number, freelist: number[]): number {
    const boundary = Math.ceil(iova / GiB) * GiB;
    if (boundary === iova || boundary >= iova + nrBytes) return super.unmapBytes(iova, nrBytes, freelist);
    const first = super.unmapBytes(iova, boundary - iova, freelist);
    return first === boundary - iova ? nrBytes : first;
  }
}

/** Of a leaf that stands in several entries, the one that was hit is cleared. */
class ClearsOneReplica extends PageTable {
  protected override clearLeaf(index: number, _replicas: number): void {
    super.clearLeaf(index, 1);
  }
}

const wholeTable = (id: string): ReturnType<typeof story> =>
  story(
    id,
    'all pages of a table are unmapped in one call',
    (stage) => {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, scattered(512)), 'map');
      stage.must(space.unmap(IOVA, 512 * KiB4), 'unmap');
      stage.settle();
    },
    { small: false },
  );

export const TABLE_MUTANTS: readonly Mutant[] = [
  {
    id: '10',
    title: 'a superpage takes the place of a table that walk caches still know',
    source: 'list mail 4ccc2f63b4',
    kind: 'contract',
    contract: 'C-TABLE-LIVE',
    scenario: story('10', 'a large page is mapped where a small one was', (stage) => {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.must(space.map(IOVA, run(512, MEMORY + MiB2)), 'map of 2 MiB');
    }),
    mutant: { ...INTEL, makeDriver: intelDriver({ driver: ReplacesUnflushed }) },
    twin: INTEL,
  },
  tested(
    { id: '11', title: 'a superpage frees the tables behind its end', source: 'August 2025, switch_to_super_page' },
    'a large page leaves what is mapped behind it',
    UnalignedEnd,
    PageTable,
    (Table) => {
      const mem = new PhysMem();
      const table = new Table(mem, new PageAllocator(mem), new VtdSsFormat(), 4);
      const mapped: MappedBytes = { bytes: 0 };
      must(table.mapRange(IOVA + MiB2, MEMORY, KiB4, 1, RW, mapped));
      must(table.mapRange(IOVA, MEMORY + MiB2, MiB2, 1, RW, mapped));
      return table.iovaToPhys(IOVA + MiB2) === MEMORY ? '' : 'the page behind it is gone';
    },
  ),
  {
    id: '12',
    title: 'an unmap across a 1 GiB boundary leaves its second half',
    source: 'list mail d5e8358275',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story(
      '12',
      '4 MiB across a 1 GiB boundary are unmapped',
      (stage) => {
        const space = stage.coreSpace();
        stage.must(space.attach(DEVICES[0]), 'attach');
        stage.must(space.map(GiB - MiB2, run(1024)), 'map');
        stage.must(space.unmap(GiB - MiB2, 2 * MiB2), 'unmap');
      },
      { small: false },
    ),
    mutant: { ...INTEL, makeDriver: intelDriver({ parts: { PageTable: AdvancesFromMiddle } }) },
    twin: INTEL,
  },
  {
    id: '17',
    title: 'a table grows, and the device table entry follows after the map, unwaited',
    source: 'list mails b0f9aedd8e, 2ff7bfba26',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: story('17', 'a page is mapped above what three levels reach', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(2 ** 39, run(1)), 'map');
    }),
    mutant: { ...AMD, makeDriver: amdDriver({ preset: { growth: 'after-map' } }) },
    twin: AMD,
  },
  {
    id: '18',
    title: 'one entry of a replicated leaf is cleared, the others go on mapping it',
    source: 'list mails 7a33f5be7b, cb42bf0dd2',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('18', 'a page of 64 KiB is unmapped', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(16)), 'map');
      stage.must(space.unmap(IOVA, 16 * KiB4), 'unmap');
    }),
    mutant: { ...AMD, makeDriver: amdDriver({ parts: { PageTable: ClearsOneReplica } }) },
    twin: AMD,
  },
  {
    id: '25a',
    title: 'a table is freed before the flush',
    source: 'list mail ee37fd9edf',
    kind: 'contract',
    contract: 'C-TABLE-LIVE',
    scenario: wholeTable('25a'),
    mutant: { ...INTEL, makeDriver: intelDriver({ driver: FreesBeforeFlush }) },
    twin: INTEL,
  },
  {
    id: '25b',
    title: 'a lazy unmap frees its table at once',
    source: 'list mail ee37fd9edf',
    kind: 'contract',
    contract: 'C-TABLE-LIVE',
    scenario: wholeTable('25b'),
    mutant: {
      ...INTEL,
      caller: 'dma-iommu',
      unmapFlush: 'lazy',
      makeDriver: intelDriver({ driver: FreesInLazyUnmap }),
    },
    twin: { ...INTEL, caller: 'dma-iommu', unmapFlush: 'lazy' },
  },
  tested(
    { id: '25c', title: 'without a flush queue nobody frees the tables of an unmap', source: 'list mail a9c1f0e26e' },
    'after an unmap no table is lost',
    intelDriver({ driver: LosesTables }),
    intelDriver(),
    (makeDriver) => {
      const { machine, domain } = intelRig(makeDriver);
      // The path to the table stays, the table itself goes: twice, so that the path is there before.
      const cycle = (): number => {
        for (let page = 0; page < 512; page++) {
          must(machine.core.map(domain, IOVA + page * KiB4, MEMORY + 2 * page * KiB4, KiB4, RW));
        }
        must(machine.core.unmap(domain, IOVA, 512 * KiB4) - 512 * KiB4);
        return machine.pages.nrLive;
      };
      const before = cycle();
      const after = cycle();
      return after === before ? '' : `${after - before} pages more are taken than before`;
    },
  ),
];
