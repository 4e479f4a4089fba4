/**
 * Bugs 26 and 28 where they are about devices with TLBs of their own (ATS), which the driver of this project does not switch on:
 * here is one that does. It sets translation type 1 in context entries, so that the unit answers translation requests, and
 * queues a device-TLB invalidation behind every IOTLB one (VT-d rev. 4.1, 6.5.2.5). What devices cached then, no model here
 * knows; the sanitizer does.
 */
import { ContextTables, IntelDomain, IntelIommu, Invalidator, psiMask } from '../../drivers/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import { vtd } from '../../spec/index.ts';
import type { DriverFactory, StageSetup } from '../setup.ts';
import { DEVICES } from '../stage.ts';
import { intelDriver } from './drivers.ts';
import { IOVA, KiB4, run } from '../scenarios/places.ts';
import type { Mutant } from './mutant.ts';
import { story } from './mutant.ts';

const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };
/** S: the lowest zero bit of the address, from 12 up, tells the size. */
const SIZED = 1;

class AtsContexts extends ContextTables {
  override set(sid: number, type: number, root: number, levels: number, did: number): number {
    return super.set(sid, type === vtd.TT_MULTI_LEVEL ? vtd.TT_DEVICE_TLB : type, root, levels, did);
  }
}

class AtsInvalidator extends Invalidator {
  /** Pages that a device may have cached; of more than 2^19 all. */
  devicePages(sid: number, iova: number, nrPages: number): number {
    const mask = psiMask(iova / KiB4, nrPages, 'base');
    if (mask > 19) return this.deviceAll(sid);
    const block = KiB4 * 2 ** mask;
    const start = Math.floor(iova / block) * block;
    const sized = mask === 0 ? 0 : (block / 2 - KiB4) | SIZED;
    return this.descriptor(vtd.DESC_DEVICE_IOTLB, sid, start | sized, (start / 2 ** 32) | 0);
  }

  deviceAll(sid: number): number {
    return this.descriptor(vtd.DESC_DEVICE_IOTLB, sid, -KiB4 | SIZED, 0x7fffffff);
  }
}

class AtsIommu extends IntelIommu {
  readonly #sids = new Map<IommuDomain, number[]>();

  /** Devices of a domain whose TLBs are flushed with it. */
  protected sidsOf(domain: IommuDomain): readonly number[] {
    return this.#sids.get(domain) ?? [];
  }

  override attachDev(domain: IommuDomain, device: Device): number {
    const errno = super.attachDev(domain, device);
    const sids = this.#sids.get(domain) ?? [];
    if (errno === 0 && !sids.includes(device.sid)) this.#sids.set(domain, [...sids, device.sid]);
    return errno;
  }

  override detachDev(domain: IommuDomain, device: Device): void {
    const invalidator = this.#invalidator(domain);
    super.detachDev(domain, device);
    if (invalidator !== null) this.leave(invalidator, device.sid);
    this.#sids.set(
      domain,
      (this.#sids.get(domain) ?? []).filter((sid) => sid !== device.sid),
    );
  }

  /** The unit no longer translates for a device; what its TLB holds must go as well. */
  protected leave(invalidator: AtsInvalidator, sid: number): void {
    invalidator.deviceAll(sid);
  }

  protected override flushPages(domain: IntelDomain, iova: number, nrBytes: number, leavesOnly: boolean): void {
    super.flushPages(domain, iova, nrBytes, leavesOnly);
    for (const sid of this.sidsOf(domain)) this.#invalidator(domain)?.devicePages(sid, iova, nrBytes / KiB4);
  }

  override flushIotlbAll(domain: IommuDomain): void {
    super.flushIotlbAll(domain);
    for (const sid of this.sidsOf(domain)) this.#invalidator(domain)?.deviceAll(sid);
  }

  /** The one of the machine's only unit, while the domain is on it. */
  #invalidator(domain: IommuDomain): AtsInvalidator | null {
    if (!(domain instanceof IntelDomain)) return null;
    const invalidate = domain.attachments[0]?.unit.invalidate;
    return invalidate instanceof AtsInvalidator ? invalidate : null;
  }
}

class DetachKeepsDeviceTlb extends AtsIommu {
  protected override leave(): void {}
}

/** Flushes the first device of a domain: the others are "sub-devices", and their parent has ATS off. */
class SkipsSubDevices extends AtsIommu {
  protected override sidsOf(domain: IommuDomain): readonly number[] {
    return super.sidsOf(domain).slice(0, 1);
  }
}

const ats = (driver: typeof AtsIommu): DriverFactory =>
  intelDriver({ driver, parts: { ContextTables: AtsContexts, Invalidator: AtsInvalidator } });

export const ATS_MUTANTS: readonly Mutant[] = [
  {
    id: '26d',
    title: 'a context entry changes, and the TLB of the device stays',
    source: 'list mail 6e6759d71a',
    kind: 'contract',
    contract: 'C-ATTACH',
    beyondModels: true,
    scenario: story('26d', 'a device with a TLB is detached', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.attach(DEVICES[0]), 'attach');
      space.detach(DEVICES[0]);
    }),
    mutant: { ...INTEL, makeDriver: ats(DetachKeepsDeviceTlb) },
    twin: { ...INTEL, makeDriver: ats(AtsIommu) },
  },
  {
    id: '28a',
    title: 'the flush of device TLBs skips sub-devices',
    source: 'list mail 89e2752e6d',
    kind: 'contract',
    contract: 'C-UNMAP-GONE',
    beyondModels: true,
    scenario: story('28a', 'a page of two devices with TLBs is unmapped', (stage) => {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.attach(DEVICES[1]), 'attach of the second device');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    }),
    mutant: { ...INTEL, makeDriver: ats(SkipsSubDevices) },
    twin: { ...INTEL, makeDriver: ats(AtsIommu) },
  },
];
