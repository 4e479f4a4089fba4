/**
 * A bug that somebody else had: driver X left out step Y on hardware with property Z. What it did is imitated by a variant of
 * the Intel driver; the judge must find it, and must find nothing in the variant that was repaired as they repaired it.
 */
import type { IntelIommuOptions } from '../../drivers/index.ts';
import { IntelIommu } from '../../drivers/index.ts';
import type { IommuOps } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import type { ContractId } from '../judge.ts';
import type { Scenario } from '../scenario.ts';
import type { DriverFactory, StageSetup } from '../setup.ts';

export interface NegativeOracle {
  /** Project and number of the issue. */
  readonly id: string;
  readonly url: string;
  readonly title: string;
  /** The hardware on which it shows. */
  readonly hardware: Pick<StageSetup, 'npCache' | 'coherent' | 'vtd' | 'nrPages'>;
  readonly scenario: Scenario;
  readonly broken: DriverFactory;
  readonly fixed: DriverFactory;
  /** The promise that the broken driver does not keep. */
  readonly contract: ContractId;
}

/** A factory of drivers for VT-d. */
export function intelDriver(make: (platform: Platform, setup: IntelIommuOptions) => IommuOps): DriverFactory {
  return (platform, setup) => {
    if (setup.arch !== 'intel') throw new RangeError('this driver is for VT-d');
    const { arch: _, ...given } = setup;
    return make(platform, given);
  };
}

/** The driver as it is. */
export const LINUX_INTEL: DriverFactory = intelDriver((platform, setup) => new IntelIommu(platform, setup));
