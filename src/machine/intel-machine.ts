/**
 * One Intel machine: memory, bus, a VT-d unit, and the Linux stack above it. The only place where hardware and driver are
 * seen together; everything else meets them through memory and registers.
 */
import { ManualClock } from '../base/index.ts';
import type { IntelIommuOptions, MapFlush, UnitScope } from '../drivers/index.ts';
import { IntelIommu, intelPreset } from '../drivers/index.ts';
import type { VtdConfig, VtdListener } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import type { CoreOptions, Device, IommuOps, ResvRegion } from '../iommu/index.ts';
import { Iommu } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { Bus, PageAllocator, PhysMem } from '../mem/index.ts';
import { vtd } from '../spec/index.ts';
import { LocalPlatform } from './local-platform.ts';
import type { Machine } from './machine.ts';

/** Where the unit's registers are, as on PCs. */
const UNIT_BASE = 0xfed90000;

/** @typeParam D the driver; another one than Linux's comes with `makeDriver` */
export interface IntelMachineOptions<D extends IommuOps = IntelIommu> {
  /** Kernel whose driver and core behaviour is used. Default linux-6.12. */
  readonly preset?: string;
  /** Overrides where that kernel flushes after a map. */
  readonly mapFlush?: MapFlush;
  /** The unit's capabilities and caches; CAP.CM is `hardware.cachingMode`. */
  readonly hardware?: VtdConfig;
  /** False: tables are not snooped, the driver must flush lines (ECAP.C = 0). Default true. */
  readonly coherent?: boolean;
  readonly resvRegions?: (device: Device) => readonly ResvRegion[];
  /** Most table pages that can be live at once; more is ENOMEM. Default 2^20. */
  readonly nrPages?: number;
  /** Hears every command from the first one on, the driver's start included. */
  readonly listener?: VtdListener;
  /** Puts somebody between the driver and the machine: what it returns is the platform that the driver is given. */
  readonly wrapPlatform?: (inner: Platform, units: readonly UnitScope[]) => Platform;
  /** Brings up another driver than IntelIommu. When it returns, translation is on. */
  readonly makeDriver?: (platform: Platform, setup: IntelIommuOptions) => D;
  /** Makes another core than Iommu, for the options of the preset's kernel. */
  readonly makeCore?: (options: Partial<CoreOptions>) => Iommu;
}

export class IntelMachine<D extends IommuOps = IntelIommu> implements Machine {
  readonly clock: ManualClock = new ManualClock();
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly unit: VtdUnit;
  readonly platform: Platform;
  readonly driver: D;
  readonly core: Iommu;

  /** Powers the machine up: when this returns the driver has enabled translation. @throws RangeError for an unknown preset */
  constructor(options: IntelMachineOptions<D> = {}) {
    const preset = intelPreset(options.preset ?? 'linux-6.12');
    this.mem = new PhysMem({ coherent: options.coherent ?? true });
    this.pages = new PageAllocator(this.mem, options.nrPages === undefined ? {} : { nrPages: options.nrPages });
    this.unit = new VtdUnit(this.mem, this.clock, options.hardware ?? {});
    this.unit.listener = options.listener ?? null;
    const bus = new Bus(this.mem);
    bus.attach(UNIT_BASE, vtd.REG_WINDOW_BYTES, this.unit);
    const units = [{ base: UNIT_BASE }];
    const local = new LocalPlatform(this.mem, this.pages, bus, this.clock, this.unit);
    this.platform = options.wrapPlatform?.(local, units) ?? local;
    const setup: IntelIommuOptions = {
      preset: preset.name,
      ...(options.mapFlush === undefined ? {} : { mapFlush: options.mapFlush }),
      units,
      ...(options.resvRegions === undefined ? {} : { resvRegions: options.resvRegions }),
    };
    const { makeDriver } = options;
    this.driver =
      makeDriver === undefined
        ? // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- without a factory D is its default
          (new IntelIommu(this.platform, setup) as IommuOps as D)
        : makeDriver(this.platform, setup);
    const coreOptions: Partial<CoreOptions> = {
      // The policy means once per call on every kernel: moving the sync out of the loop over runs and using it for the flush
      // was one change (v5.12).
      syncMapPerRun: preset.syncMapPerRun && (options.mapFlush ?? preset.mapFlush) !== 'sync-map',
      pagesPerCallback: preset.mapPages ? 'run' : 'one',
    };
    this.core = options.makeCore?.(coreOptions) ?? new Iommu(coreOptions);
  }

  /** Nothing: the Intel driver is done when translation is on. */
  probed(): void {}
}
