/** What a stage is built of: one point of the space that `iommukit check` walks through. */
import type { AmdIommuOptions, IntelIommuOptions, MapFlush, UnmapFlush } from '../drivers/index.ts';
import type { AmdviConfig, VtdConfig } from '../hw/index.ts';
import type { CoreOptions, Iommu, IommuOps } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';

export type Arch = 'intel' | 'amd';
export const ARCHES: readonly Arch[] = ['intel', 'amd'];

/**
 * Who maps. `core`: iommu_map() and iommu_unmap() themselves. `dma-iommu`: the DMA API. `vfio`: VFIO type1 (version 2).
 * `iommufd`: an IOAS with automatic page tables.
 */
export type CallerKind = 'core' | 'dma-iommu' | 'vfio' | 'iommufd';
export const CALLERS: readonly CallerKind[] = ['core', 'dma-iommu', 'vfio', 'iommufd'];

/** What firmware and the command line tell a driver, as Linux's drivers take it. */
export type DriverSetup =
  (IntelIommuOptions & { readonly arch: 'intel' }) | (AmdIommuOptions & { readonly arch: 'amd' });

/** Brings a driver up: when it returns, translation is on and every device that nobody attached is blocked. */
export type DriverFactory = (platform: Platform, setup: DriverSetup) => IommuOps & { completeInit?(): void };

export interface StageSetup {
  readonly arch: Arch;
  /** Kernel whose driver and core behaviour is used. Default linux-6.12. */
  readonly preset?: string;
  /** Overrides where that kernel flushes after a map. */
  readonly mapFlush?: MapFlush;
  /** What unmaps of the DMA API wait for. Default strict; other callers are strict always. */
  readonly unmapFlush?: UnmapFlush;
  readonly caller: CallerKind;
  /** CAP.CM, NpCache: the unit may cache what is not present. */
  readonly npCache: boolean;
  /** False: the unit does not snoop CPU caches (ECAP.C = 0). Intel only. */
  readonly coherent?: boolean;
  /** Further properties of the unit. */
  readonly vtd?: VtdConfig;
  readonly amdvi?: AmdviConfig;
  /** Most table pages at a time. Default 2^20. */
  readonly nrPages?: number;
  /** Another driver than Linux's. */
  readonly makeDriver?: DriverFactory;
  /** Another core than Linux's, for the options of its kernel. */
  readonly makeCore?: (options: Partial<CoreOptions>) => Iommu;
}
