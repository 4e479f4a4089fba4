/** Bugs 6, 7, 8, 9 and 32: what a page-selective invalidation of VT-d names. */
import { alignUp, log2Ceil } from '../../base/index.ts';
import type { IntelIommuOptions } from '../../drivers/index.ts';
import { IntelIommu, Invalidator, psiMask } from '../../drivers/index.ts';
import type { IommuDomain, IotlbGather } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import type { StageSetup } from '../setup.ts';
import type { Stage } from '../stage.ts';
import { DEVICES } from '../stage.ts';
import { intelDriver } from './drivers.ts';
import { IOVA, KiB4, MEMORY, run, scattered } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story, tested } from './mutant.ts';
import { intelRig, must } from './rig.ts';

const RW = 3;
/** 3 pages that no block of 4 holds: the example of the mail. */
const UNALIGNED: number = 0x17f * KiB4;
/** The mask comes from the length of a range alone. */
const BY_LENGTH = { psiAlignment: 'none' } as const;
const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };

/** Aligns the address to the mask that the range needs, and goes on with the mask of its length. */
class AlignedAddressOnly extends Invalidator {
  override iotlbPages(did: number, pfn: number, nrPages: number, leavesOnly: boolean): number {
    const base = pfn - (pfn % 2 ** psiMask(pfn, nrPages, 'base'));
    return super.iotlbPages(did, base, nrPages, leavesOnly);
  }
}

/** Under a preset that looks at lengths only: drops the whole domain for a range that is not aligned to its size. */
class AlignedOrDomain extends Invalidator {
  override iotlbPages(did: number, pfn: number, nrPages: number, leavesOnly: boolean): number {
    return this.isAligned(pfn, 2 ** log2Ceil(nrPages))
      ? super.iotlbPages(did, pfn, nrPages, leavesOnly)
      : this.iotlbDomain(did);
  }

  protected isAligned(pfn: number, nrPages: number): boolean {
    return pfn % nrPages === 0;
  }
}

/** ALIGN() rounds up, and is true of everything but 0; IS_ALIGNED() was meant. */
class AlignAsCondition extends AlignedOrDomain {
  protected override isAligned(pfn: number, nrPages: number): boolean {
    return alignUp(pfn, nrPages) !== 0;
  }
}

/** Says "leaves only" of an unmap that took tables away. */
class HintDespiteTables extends IntelIommu {
  readonly #platform: Platform;

  constructor(platform: Platform, options: IntelIommuOptions) {
    super(platform, options);
    this.#platform = platform;
  }

  override iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    const tables = gather.freelist.splice(0);
    super.iotlbSync(domain, gather);
    for (const pfn of tables) this.#platform.pages.free(pfn);
  }
}

/** `if (val_iva)`: an address of 0 with a mask of 0 is not written. */
class SkipsZeroAddress extends Invalidator {
  protected override writeAddress(register: number, lo: number, hi: number): void {
    if (lo !== 0 || hi !== 0) super.writeAddress(register, lo, hi);
  }
}

const unmapsUnaligned = (stage: Stage): void => {
  const space = stage.space();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(UNALIGNED, run(3)), 'map');
  stage.must(space.unmap(UNALIGNED, 3 * KiB4), 'unmap');
};
const THREE = '3 pages from an address that is no multiple of 4 are unmapped';

export const PSI_MUTANTS: readonly Mutant[] = [
  {
    id: '6',
    title: 'the mask of an invalidation covers the length of an unaligned range, not the range',
    source: 'list mail 7ac800871d',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('6', THREE, unmapsUnaligned),
    mutant: { ...INTEL, caller: 'vfio', makeDriver: intelDriver({ preset: BY_LENGTH }) },
    twin: { ...INTEL, caller: 'vfio' },
  },
  {
    id: '7',
    title: 'the address is aligned down to a wider mask, the length stays',
    source: '0a3f6b346301',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('7', THREE, unmapsUnaligned),
    mutant: { ...INTEL, makeDriver: intelDriver({ parts: { Invalidator: AlignedAddressOnly } }) },
    twin: INTEL,
  },
  {
    id: '8',
    title: 'ALIGN() as a condition: an unaligned address passes for an aligned one',
    source: 'list mail 0cdc78ab5f',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    scenario: story('8', THREE, unmapsUnaligned),
    mutant: { ...INTEL, makeDriver: intelDriver({ preset: BY_LENGTH, parts: { Invalidator: AlignAsCondition } }) },
    twin: { ...INTEL, makeDriver: intelDriver({ preset: BY_LENGTH, parts: { Invalidator: AlignedOrDomain } }) },
  },
  tested(
    { id: '9a', title: 'the hint "leaves only" is lost on the way to the descriptor', source: '6b38a108eeb3' },
    'an unmap that frees no table says so in its descriptor',
    intelDriver({ preset: { unmapHint: false } }),
    intelDriver(),
    (makeDriver) => {
      const { machine, domain, tape } = intelRig(makeDriver);
      must(machine.core.map(domain, IOVA, MEMORY, KiB4, RW));
      tape.take();
      must(machine.core.unmap(domain, IOVA, KiB4) - KiB4);
      const hinted = tape.take().filter(([, , lo]) => (lo & vtd.IOTLB_DESC_IH_W2) !== 0);
      return hinted.length === 1 ? '' : 'the descriptor has no IH';
    },
  ),
  {
    id: '9b',
    title: 'the hint "leaves only" on an unmap that frees a table',
    source: '6b38a108eeb3, the other way round',
    kind: 'contract',
    contract: 'C-TABLE-LIVE',
    scenario: story(
      '9b',
      'all pages of a table are unmapped in one call',
      (stage) => {
        const space = stage.space();
        stage.must(space.attach(DEVICES[0]), 'attach');
        stage.must(space.map(IOVA, scattered(512)), 'map');
        stage.must(space.unmap(IOVA, 512 * KiB4), 'unmap');
      },
      { small: false },
    ),
    mutant: { ...INTEL, makeDriver: intelDriver({ driver: HintDespiteTables }) },
    twin: INTEL,
  },
  {
    id: '32',
    title: 'register-based: the invalidation of page 0 goes to the address of the one before',
    source: 'read in Linux 6.12, no report known',
    kind: 'contract',
    contract: 'C-MAP-VISIBLE',
    scenario: story(
      '32',
      'page 0 is mapped after another one',
      (stage) => {
        const space = stage.coreSpace();
        stage.must(space.attach(DEVICES[0]), 'attach');
        stage.must(space.map(IOVA, run(1)), 'map');
        stage.must(space.map(0, run(1, MEMORY + 8 * KiB4)), 'map of page 0');
      },
      { vtd: { qi: false } },
    ),
    mutant: { ...INTEL, npCache: true, makeDriver: intelDriver({ parts: { Invalidator: SkipsZeroAddress } }) },
    twin: { ...INTEL, npCache: true },
  },
];
