/** Drivers with something else in the place of a part, a rule of their kernel, or the whole class. */
import type {
  AmdIommuOptions,
  AmdParts,
  AmdPreset,
  IntelIommuOptions,
  IntelParts,
  IntelPreset,
} from '../../drivers/index.ts';
import { AmdIommu, IntelIommu, amdPreset, intelPreset } from '../../drivers/index.ts';
import type { Platform } from '../../mem/index.ts';
import type { DriverFactory } from '../setup.ts';

export interface IntelChange {
  readonly driver?: new (platform: Platform, options: IntelIommuOptions) => IntelIommu;
  readonly preset?: Partial<IntelPreset>;
  readonly parts?: Partial<IntelParts>;
}

export function intelDriver(change: IntelChange = {}): DriverFactory {
  const { driver: Driver = IntelIommu, preset = {}, parts = {} } = change;
  return (platform, setup) => {
    if (setup.arch !== 'intel') throw new RangeError('this driver is for Intel machines');
    return new Driver(platform, { ...setup, preset: { ...intelPreset(setup.preset), ...preset }, parts });
  };
}

export interface AmdChange {
  readonly driver?: new (platform: Platform, options: AmdIommuOptions) => AmdIommu;
  readonly preset?: Partial<AmdPreset>;
  readonly parts?: Partial<AmdParts>;
  readonly aliasOf?: (sid: number) => number;
}

export function amdDriver(change: AmdChange = {}): (...args: Parameters<DriverFactory>) => AmdIommu {
  const { driver: Driver = AmdIommu, preset = {}, parts = {}, aliasOf } = change;
  return (platform, setup) => {
    if (setup.arch !== 'amd') throw new RangeError('this driver is for AMD machines');
    return new Driver(platform, {
      ...setup,
      preset: { ...amdPreset(setup.preset), ...preset },
      parts,
      ...(aliasOf === undefined ? {} : { aliasOf }),
    });
  };
}
