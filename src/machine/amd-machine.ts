/**
 * One AMD machine: memory, bus, an AMD-Vi unit, and the Linux stack above it. The counterpart of IntelMachine, with the same
 * members.
 */
import { ManualClock } from '../base/index.ts';
import type { AmdIommuOptions, AmdUnitScope, MapFlush } from '../drivers/index.ts';
import { AmdIommu, amdPreset } from '../drivers/index.ts';
import type { AmdviConfig, AmdviListener } from '../hw/index.ts';
import { AmdviUnit } from '../hw/index.ts';
import type { CoreOptions, Device, IommuOps, ResvRegion } from '../iommu/index.ts';
import { Iommu } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { Bus, PageAllocator, PhysMem } from '../mem/index.ts';
import { amdvi } from '../spec/index.ts';
import { LocalPlatform } from './local-platform.ts';
import type { Machine } from './machine.ts';

/** Where the unit's registers are, as on the recorded machines. */
const UNIT_BASE = 0xfed80000;

/** An AMD driver as the machine boots it: what closes the entries of devices that nobody attached, if it has such a step. */
export type AmdDriver = IommuOps & { completeInit?(): void };

/** @typeParam D the driver; another one than Linux's comes with `makeDriver` */
export interface AmdMachineOptions<D extends AmdDriver = AmdIommu> {
  /** Kernel whose driver and core behaviour is used. Default linux-6.12. */
  readonly preset?: string;
  /** Overrides where that kernel flushes after a map. */
  readonly mapFlush?: MapFlush;
  /** The unit's capabilities and caches; NpCache is `hardware.npCache`. */
  readonly hardware?: AmdviConfig;
  readonly resvRegions?: (device: Device) => readonly ResvRegion[];
  /** Most table pages that can be live at once; more is ENOMEM. Default 2^20. */
  readonly nrPages?: number;
  /** Last device id of the IVRS table. Default 0xffff. */
  readonly lastBdf?: number;
  /** Features as the IVHD block copies them. Default: what the register will say. 0: firmware keeps them to itself, as QEMU's. */
  readonly ivhdFeatures?: number;
  /**
   * False: the caller attaches the devices of the boot first and then calls `probed()`, in the order of kernels.
   * Default true: done when the constructor returns, so that no device has open access for a moment.
   */
  readonly completesInit?: boolean;
  /** Hears every command from the first one on, the driver's start included. */
  readonly listener?: AmdviListener;
  /** Puts somebody between the driver and the machine: what it returns is the platform that the driver is given. */
  readonly wrapPlatform?: (inner: Platform, units: readonly AmdUnitScope[]) => Platform;
  /** Brings up another driver than AmdIommu. When it returns, the unit is on. */
  readonly makeDriver?: (platform: Platform, setup: AmdIommuOptions) => D;
  /** Makes another core than Iommu, for the options of the preset's kernel. */
  readonly makeCore?: (options: Partial<CoreOptions>) => Iommu;
}

export class AmdMachine<D extends AmdDriver = AmdIommu> implements Machine {
  readonly clock: ManualClock = new ManualClock();
  readonly mem: PhysMem = new PhysMem();
  readonly pages: PageAllocator;
  readonly unit: AmdviUnit;
  readonly platform: Platform;
  readonly driver: D;
  readonly core: Iommu;

  /** Powers the machine up: when this returns the driver has enabled translation. @throws RangeError for an unknown preset */
  constructor(options: AmdMachineOptions<D> = {}) {
    const preset = amdPreset(options.preset ?? 'linux-6.12');
    this.pages = new PageAllocator(this.mem, options.nrPages === undefined ? {} : { nrPages: options.nrPages });
    this.unit = new AmdviUnit(this.mem, this.clock, options.hardware ?? {});
    this.unit.listener = options.listener ?? null;
    const bus = new Bus(this.mem);
    bus.attach(UNIT_BASE, amdvi.REG_WINDOW_BYTES, this.unit);
    const units = [
      {
        base: UNIT_BASE,
        capHeader: this.unit.readCapability(amdvi.CAP_HEADER),
        ivhdFeatures: options.ivhdFeatures ?? this.unit.read32(amdvi.EFR_REG),
      },
    ];
    const local = new LocalPlatform(this.mem, this.pages, bus, this.clock, this.unit);
    this.platform = options.wrapPlatform?.(local, units) ?? local;
    const setup: AmdIommuOptions = {
      preset: preset.name,
      ...(options.mapFlush === undefined ? {} : { mapFlush: options.mapFlush }),
      units,
      ...(options.lastBdf === undefined ? {} : { lastBdf: options.lastBdf }),
      ...(options.resvRegions === undefined ? {} : { resvRegions: options.resvRegions }),
    };
    const { makeDriver } = options;
    this.driver =
      makeDriver === undefined
        ? // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- without a factory D is its default
          (new AmdIommu(this.platform, setup) as IommuOps as D)
        : makeDriver(this.platform, setup);
    if (options.completesInit !== false) this.driver.completeInit?.();
    const coreOptions: Partial<CoreOptions> = {
      // The policy means once per call on every kernel, see IntelMachine.
      syncMapPerRun: preset.syncMapPerRun && (options.mapFlush ?? preset.mapFlush) !== 'sync-map',
      pagesPerCallback: preset.mapPages ? 'run' : 'one',
    };
    this.core = options.makeCore?.(coreOptions) ?? new Iommu(coreOptions);
  }

  /** Closes the device table's other entries and flushes everything once more. */
  probed(): void {
    this.driver.completeInit?.();
  }
}
