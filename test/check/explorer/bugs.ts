/** Drivers with one mistake each, made by hand for the explorer: each with a scenario and what must come of it. */
import type { ContractId, DriverFactory, Scenario, StageSetup } from '../../../src/check/index.ts';
import { DEVICES } from '../../../src/check/index.ts';
import { AmdIommu, IntelIommu, Invalidator } from '../../../src/drivers/index.ts';
import type { IommuDomain, IotlbGather } from '../../../src/iommu/index.ts';
import type { Platform } from '../../../src/mem/index.ts';
import { KiB4, MiB2 } from '../../drivers/lab.ts';

export const IOVA = 0x4000_0000;
const MEMORY = 0x1_0000_0000;

/** A story of calls of the core on one device. */
function story(name: string, run: Scenario['run'], more: Partial<Scenario> = {}): Scenario {
  return { name, title: name, small: true, run, ...more };
}

export const MAP = story('map', (stage) => {
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, [[MEMORY, KiB4]]), 'map');
});

export const MAP_UNMAP = story('map, unmap', (stage) => {
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, [[MEMORY, KiB4]]), 'map');
  stage.must(space.unmap(IOVA, KiB4), 'unmap');
});

export const LARGE_PAGE = story('a large page', (stage) => {
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, [[MEMORY, MiB2]]), 'map');
  stage.must(space.unmap(IOVA, MiB2), 'unmap');
});

/** A table of 4 KiB leaves that becomes empty by one unmap, and gives way to another one. */
export const TABLE_GOES = story('a table goes', (stage) => {
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(
    space.map(
      IOVA,
      Array.from({ length: 512 }, (_, i) => [MEMORY + 2 * i * KiB4, KiB4] as const),
    ),
    'map',
  );
  stage.must(space.unmap(IOVA, MiB2), 'unmap');
});

export const TWO_SPACES = story('two spaces', (stage) => {
  const [first, second] = [stage.coreSpace(), stage.coreSpace()];
  stage.must(first.map(IOVA, [[MEMORY, KiB4]]), 'map');
  stage.must(first.attach(DEVICES[0]), 'attach');
  stage.must(second.attach(DEVICES[0]), 'attach to the other');
});

/** The caller's own mistake: the address comes back before what waits for it is flushed. */
export const REUSED_TOO_EARLY = story('reused too early', (stage) => {
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, [[MEMORY, KiB4]]), 'map');
  space.unmapFast(IOVA, KiB4);
  stage.must(space.map(IOVA, [[MEMORY + 8 * KiB4, KiB4]]), 'map again');
  space.sync();
});

type Make<D> = (platform: Platform, setup: never) => D;

function intel(make: Make<IntelIommu>): DriverFactory {
  return (platform, setup) => make(platform, setup as never);
}
function amd(make: Make<AmdIommu>): DriverFactory {
  return (platform, setup) => make(platform, setup as never);
}

/** Ends an unmap without telling anybody. */
class NeverFlushesUnmaps extends IntelIommu {
  readonly #pages: Platform['pages'];
  constructor(platform: Platform, options: never) {
    super(platform, options);
    this.#pages = platform.pages;
  }
  override iotlbSync(_domain: IommuDomain, gather: IotlbGather): void {
    for (const pfn of gather.freelist) this.#pages.free(pfn);
  }
}

class AmdNeverFlushesUnmaps extends AmdIommu {
  readonly #pages: Platform['pages'];
  constructor(platform: Platform, options: never) {
    super(platform, options);
    this.#pages = platform.pages;
  }
  override iotlbSync(_domain: IommuDomain, gather: IotlbGather): void {
    for (const pfn of gather.freelist) this.#pages.free(pfn);
  }
}

/** Says that only leaves changed, although a table went. */
class HintsAlways extends NeverFlushesUnmaps {
  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    const tables = gather.freelist.splice(0);
    IntelIommu.prototype.iotlbSync.call(this, domain, gather);
    gather.freelist.push(...tables);
    super.iotlbSync(domain, gather);
  }
}

/** Invalidates the first 4 KiB of whatever went. */
class FlushesOnePage extends IntelIommu {
  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    gather.last = gather.start + KiB4 - 1;
    super.iotlbSync(domain, gather);
  }
}

class ForgetsContexts extends Invalidator {
  override context(): number {
    return 0;
  }
}

/** A platform that does something else than it is asked for. */
function changedPlatform(platform: Platform, change: Partial<Platform>): Platform {
  return {
    mem: platform.mem,
    pages: platform.pages,
    readl: (paddr) => platform.readl(paddr),
    writel: (paddr, value) => platform.writel(paddr, value),
    writeq: (paddr, lo, hi) => platform.writeq(paddr, lo, hi),
    loadShared32: (paddr) => platform.loadShared32(paddr),
    clflush: (paddr, nrBytes) => platform.clflush(paddr, nrBytes),
    relax: () => platform.relax(),
    nowNs: () => platform.nowNs(),
    ...change,
  };
}

/** Takes every invalidation for done at once. @param done what a status cell says then */
function impatient(platform: Platform, done: number): Platform {
  return changedPlatform(platform, { loadShared32: () => done });
}

/** Looks once whether an invalidation is done, and goes on whatever it sees. */
function looksOnce(platform: Platform, done: number): Platform {
  return changedPlatform(platform, {
    loadShared32: (paddr) => {
      platform.loadShared32(paddr);
      return done;
    },
  });
}

/** Writes no register any more, once it is up. */
export function mute(platform: Platform): { platform: Platform; state: { isMute: boolean } } {
  const state = { isMute: false };
  const muted = changedPlatform(platform, {
    writel: (paddr, value) => {
      if (!state.isMute) platform.writel(paddr, value);
    },
  });
  return { platform: muted, state };
}

/** Never writes a line back. */
function unflushed(platform: Platform): Platform {
  return changedPlatform(platform, { clflush: () => undefined });
}

/** Writes the lines of an unmap back behind the next register write instead of before it. */
class FlushesLinesLate extends IntelIommu {
  readonly #late: { isUnmap: boolean; lines: [number, number][] };

  constructor(platform: Platform, options: never) {
    const late: { isUnmap: boolean; lines: [number, number][] } = { isUnmap: false, lines: [] };
    const changed = changedPlatform(platform, {
      clflush: (paddr, nrBytes) => {
        if (late.isUnmap) late.lines.push([paddr, nrBytes]);
        else platform.clflush(paddr, nrBytes);
      },
      writel: (paddr, value) => {
        platform.writel(paddr, value);
        for (const [line, nrBytes] of late.lines.splice(0)) platform.clflush(line, nrBytes);
      },
    });
    super(changed, options);
    this.#late = late;
  }

  override unmapPages(...args: Parameters<IntelIommu['unmapPages']>): number {
    this.#late.isUnmap = true;
    const nrBytes = super.unmapPages(...args);
    this.#late.isUnmap = false;
    return nrBytes;
  }
}

const QI_DONE = 2;
const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };
const AMD: StageSetup = { arch: 'amd', caller: 'core', npCache: false };

export interface Bug {
  readonly name: string;
  readonly scenario: Scenario;
  readonly setup: StageSetup;
  /** The promise broken by the fewest decisions of the hardware, and how few. */
  readonly contract: ContractId;
  readonly decisions: number;
}

/** The number of decisions is worked out by hand: see each. */
export const BUGS: readonly Bug[] = [
  {
    // 1. A walk before the map finds nothing, which stays.
    name: 'no flush after a map',
    scenario: MAP,
    setup: { ...INTEL, npCache: true, mapFlush: 'none' },
    contract: 'C-MAP-VISIBLE',
    decisions: 1,
  },
  {
    // 1. A walk while the page is mapped.
    name: 'no flush after an unmap',
    scenario: MAP_UNMAP,
    setup: { ...INTEL, makeDriver: intel((platform, setup) => new NeverFlushesUnmaps(platform, setup)) },
    contract: 'C-UNMAP-GONE',
    decisions: 1,
  },
  {
    // 1. The same; the command is then simply late.
    name: 'no wait for an invalidation',
    scenario: MAP_UNMAP,
    setup: {
      ...INTEL,
      makeDriver: intel((platform, setup) => new IntelIommu(impatient(platform, QI_DONE), setup)),
    },
    contract: 'C-UNMAP-GONE',
    decisions: 1,
  },
  {
    // 1. As above, with the answer to a question that nobody heeds.
    name: 'one look instead of a wait',
    scenario: MAP_UNMAP,
    setup: {
      ...INTEL,
      makeDriver: intel((platform, setup) => new IntelIommu(looksOnce(platform, QI_DONE), setup)),
    },
    contract: 'C-UNMAP-GONE',
    decisions: 1,
  },
  {
    // 1. A walk while the table is linked: its entry stays, and the table is freed.
    name: 'IH set while a table was freed',
    scenario: TABLE_GOES,
    setup: { ...INTEL, makeDriver: intel((platform, setup) => new HintsAlways(platform, setup)) },
    contract: 'C-TABLE-LIVE',
    decisions: 1,
  },
  {
    // 1. A walk for a page of the leaf's rest.
    name: 'a part of a large page invalidated',
    scenario: LARGE_PAGE,
    setup: { ...INTEL, makeDriver: intel((platform, setup) => new FlushesOnePage(platform, setup)) },
    contract: 'C-UNMAP-GONE',
    decisions: 1,
  },
  {
    // 1. A walk in the first space: its context stays.
    name: 'a context changed without a flush',
    scenario: TWO_SPACES,
    setup: {
      ...INTEL,
      makeDriver: intel(
        (platform, setup) =>
          new IntelIommu(platform, { ...(setup as object), parts: { Invalidator: ForgetsContexts } } as never),
      ),
    },
    contract: 'C-ATTACH',
    decisions: 1,
  },
  {
    // 1. A walk while the first page is mapped: it is still there when the second one is.
    name: 'an address reused before its flush',
    scenario: REUSED_TOO_EARLY,
    setup: INTEL,
    contract: 'C-LAZY-BOUND',
    decisions: 1,
  },
  {
    // None: what is not written back the unit does not see.
    name: 'lines never written back',
    scenario: MAP,
    setup: {
      ...INTEL,
      coherent: false,
      makeDriver: intel((platform, setup) => new IntelIommu(unflushed(platform), setup)),
    },
    contract: 'C-MAP-VISIBLE',
    decisions: 0,
  },
  {
    name: 'AMD: no flush after a map',
    scenario: MAP,
    setup: { ...AMD, npCache: true, mapFlush: 'none' },
    contract: 'C-MAP-VISIBLE',
    decisions: 1,
  },
  {
    name: 'AMD: no flush after an unmap',
    scenario: MAP_UNMAP,
    setup: { ...AMD, makeDriver: amd((platform, setup) => new AmdNeverFlushesUnmaps(platform, setup)) },
    contract: 'C-UNMAP-GONE',
    decisions: 1,
  },
  {
    // 1. A walk before the attach keeps the closed device table entry, whose invalidation is late.
    name: 'AMD: no wait for an invalidation',
    scenario: MAP_UNMAP,
    setup: { ...AMD, makeDriver: amd((platform, setup) => new AmdIommu(impatient(platform, -1), setup)) },
    contract: 'C-MAP-VISIBLE',
    decisions: 1,
  },
  {
    name: 'AMD: an address reused before its flush',
    scenario: REUSED_TOO_EARLY,
    setup: AMD,
    contract: 'C-LAZY-BOUND',
    decisions: 1,
  },
];

/** Flushes translations first and contexts behind them: in between, a walk through the old context brings back what went. */
class TranslationsFirst extends Invalidator {
  #waiting: [number, number, number] | null = null;
  override context(granularity: number, did: number, sid: number): number {
    this.#waiting = [granularity, did, sid];
    return 0;
  }
  override iotlbDomain(did: number): number {
    const errno = super.iotlbDomain(did);
    if (this.#waiting !== null) super.context(...this.#waiting);
    this.#waiting = null;
    return errno;
  }
}

/** A device leaves its space, and another one gets the number that this gives back. */
const ID_AGAIN = story('a number again', (stage) => {
  const [first, second] = [stage.coreSpace(), stage.coreSpace()];
  stage.must(first.map(IOVA, [[MEMORY, KiB4]]), 'map');
  stage.must(first.attach(DEVICES[0]), 'attach');
  first.detach(DEVICES[0]);
  stage.must(second.attach(DEVICES[0]), 'attach to the other');
});

/** Bugs that a single decision does not show. */
export const SUBTLE_BUGS: readonly Bug[] = [
  {
    // 2. The invalidation is done at once, and a walk behind it finds the old entry, which memory still holds.
    name: 'lines written back behind the doorbell',
    scenario: MAP_UNMAP,
    setup: {
      ...INTEL,
      coherent: false,
      makeDriver: intel((platform, setup) => new FlushesLinesLate(platform, setup)),
    },
    contract: 'C-UNMAP-GONE',
    decisions: 2,
  },
  {
    // 2. A walk before the detach keeps the context; one between the two flushes keeps what it leads to.
    name: 'contexts flushed behind translations',
    scenario: ID_AGAIN,
    setup: {
      ...INTEL,
      makeDriver: intel(
        (platform, setup) =>
          new IntelIommu(platform, { ...(setup as object), parts: { Invalidator: TranslationsFirst } } as never),
      ),
    },
    contract: 'C-ATTACH',
    decisions: 2,
  },
];
