/** Bug 22: a domain behind two units. */
import { ManualClock } from '../../base/index.ts';
import type { IntelDomain } from '../../drivers/index.ts';
import { IntelIommu } from '../../drivers/index.ts';
import { VtdUnit } from '../../hw/index.ts';
import { Iommu } from '../../iommu/index.ts';
import { LocalPlatform } from '../../machine/index.ts';
import { Bus, PageAllocator, PhysMem } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { tested } from './mutant.ts';
import { must } from './rig.ts';

const READ = 1;
const RW = 3;
const BASES = [0xfed9_0000, 0xfed9_1000];

/**
 * One address and one mask for the loop over all that must be flushed. Some can only be flushed as a whole (in the kernel, the
 * device TLBs below a nested domain; here, a unit without page-selective invalidation), and those overwrite the address.
 */
class OverwritesRange extends IntelIommu {
  protected override flushPages(domain: IntelDomain, iova: number, nrBytes: number, leavesOnly: boolean): void {
    let pfn = iova / KiB4;
    for (const { unit, did } of domain.attachments) {
      if (!unit.caps.pageSelective) pfn = 0;
      unit.invalidate.iotlbPages(did, pfn, nrBytes / KiB4, leavesOnly);
    }
  }
}

export const UNIT_MUTANTS: readonly Mutant[] = [
  tested(
    {
      id: '22',
      title: 'what one flush of a loop needs overwrites the range of those behind it',
      source: 'cache.c at 0a3f6b346301, CACHE_TAG_NESTING_DEVTLB',
    },
    'an unmap reaches every unit of the domain',
    OverwritesRange,
    IntelIommu,
    (Driver) => {
      const mem = new PhysMem();
      const clock = new ManualClock();
      const bus = new Bus(mem);
      const units = [new VtdUnit(mem, clock, { psi: false }), new VtdUnit(mem, clock, {})];
      units.forEach((unit, index) => bus.attach(BASES[index], vtd.REG_WINDOW_BYTES, unit));
      const step = (): void => units.forEach((unit) => unit.step());
      const platform = new LocalPlatform(mem, new PageAllocator(mem), bus, clock, { step });
      const driver = new Driver(platform, {
        preset: 'linux-6.12',
        units: BASES.map((base, index) => ({ base, serves: (sid: number): boolean => sid >> 8 === index })),
      });
      const core = new Iommu();
      const domain = driver.domainAlloc('paging');
      if (domain === null) return 'no domain';
      const devices = [DEVICES[0], DEVICES[2]];
      for (const device of devices) {
        must(driver.probeDevice(device));
        must(driver.attachDev(domain, device));
      }
      must(core.map(domain, IOVA, MEMORY, KiB4, RW));
      const seen = (): number[] => units.map((unit, index) => unit.translate(devices[index].sid, IOVA, READ));
      if (seen().some((paddr) => paddr !== MEMORY)) return 'a unit does not show the page';
      must(core.unmap(domain, IOVA, KiB4) - KiB4);
      const late = seen().findIndex((paddr) => paddr >= 0);
      return late < 0 ? '' : `unit ${late} still has the page`;
    },
  ),
];
