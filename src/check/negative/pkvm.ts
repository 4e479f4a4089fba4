/**
 * pKVM on Intel. Pull request 20 (February 2023): the hypervisor's own tables double as second-stage tables, and an unmap from
 * them flushed the CPUs' TLBs and not the IOTLB. Pull request 91 and issue 84 (March 2026): registering a unit for flushes can
 * fail for want of memory; the error was not looked at, the attachment went on, and later flushes did not reach the unit.
 */
import { ENOMEM } from '../../base/index.ts';
import type { IntelIommuOptions } from '../../drivers/index.ts';
import { IntelDomain, IntelIommu } from '../../drivers/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import type { Scenario } from '../scenario.ts';
import { MAP_SCENARIOS } from '../scenarios/map.ts';
import { named } from '../scenarios/named.ts';
import { IOVA, KiB4, run } from '../scenarios/places.ts';
import { DEVICES } from '../stage.ts';
import type { NegativeOracle } from './oracle.ts';
import { LINUX_INTEL, intelDriver } from './oracle.ts';

class NoUnmapFlush extends IntelIommu {
  protected override flushPages(): void {}
}

/** Registers each attachment for flushes in a page of its own, as a stand-in for the allocation that can fail. */
class TaggedIommu extends IntelIommu {
  readonly #platform: Platform;
  readonly #checks: boolean;

  constructor(platform: Platform, setup: IntelIommuOptions, checks: boolean) {
    super(platform, setup);
    this.#platform = platform;
    this.#checks = checks;
  }

  override attachDev(domain: IommuDomain, device: Device): number {
    const tag = this.#platform.pages.alloc();
    if (tag < 0 && this.#checks) return ENOMEM;
    const result = super.attachDev(domain, device);
    if (tag >= 0) this.#platform.pages.free(tag);
    else if (domain instanceof IntelDomain) domain.attachments.length = 0;
    return result;
  }
}

const ATTACH_WITHOUT_MEMORY: Scenario = {
  name: 'attach/no-memory',
  title: 'an attach finds no memory: it is refused, or it works',
  small: true,
  callers: ['core'],
  run(stage) {
    const space = stage.coreSpace();
    // The context table exists after the first attach, so that this is not what memory is needed for.
    stage.must(space.attach(DEVICES[0]), 'attach');
    space.detach(DEVICES[0]);
    stage.must(space.map(IOVA, run(1)), 'map');
    stage.leavePages(0);
    space.attach(DEVICES[0]);
    stage.returnPages();
    stage.must(space.unmap(IOVA, KiB4), 'unmap');
  },
};

export const PKVM_ORACLES: readonly NegativeOracle[] = [
  {
    id: 'pKVM-IA#20',
    url: 'https://github.com/intel-staging/pKVM-IA/pull/20',
    title: 'an unmap flushes the TLBs of CPUs and not the IOTLB',
    hardware: { npCache: false },
    scenario: named(MAP_SCENARIOS, 'map/one-page'),
    broken: intelDriver((platform, setup) => new NoUnmapFlush(platform, setup)),
    fixed: LINUX_INTEL,
    contract: 'C-UNMAP-GONE',
  },
  {
    id: 'pKVM-IA#91',
    url: 'https://github.com/intel-staging/pKVM-IA/pull/91',
    title: 'the attachment goes on although its unit could not be registered for flushes',
    hardware: { npCache: false, nrPages: 64 },
    scenario: ATTACH_WITHOUT_MEMORY,
    broken: intelDriver((platform, setup) => new TaggedIommu(platform, setup, false)),
    fixed: intelDriver((platform, setup) => new TaggedIommu(platform, setup, true)),
    contract: 'C-UNMAP-GONE',
  },
];
