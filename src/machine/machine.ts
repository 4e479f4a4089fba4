/** What the machines have in common: all that a caller of the stack, or a device behind it, needs to know. */
import type { ManualClock } from '../base/index.ts';
import type { Iommu, IommuOps } from '../iommu/index.ts';
import type { PageAllocator, PhysMem, Platform } from '../mem/index.ts';

/** An IOMMU as a device sees it. */
export interface Translator {
  /** Where an access leads: a physical byte address, or a negative number when it is blocked. */
  translate(sid: number, iova: number, access: number): number;
  /**
   * A DMA of `nr` pages: what `translate` would return for one access to each, in order.
   * @param iova of the first access; those that follow have the same offset in their pages
   */
  translateRun(sid: number, iova: number, nr: number, access: number, into: Float64Array): void;
}

export interface Machine {
  readonly clock: ManualClock;
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly unit: Translator;
  readonly platform: Platform;
  readonly driver: IommuOps;
  readonly core: Iommu;
  /** The kernel has found the devices of the bus and attached them: what its driver still does at boot after that. */
  probed(): void;
}
