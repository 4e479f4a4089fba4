/**
 * IOVAs that the DMA API must not hand out (iova_reserve_iommu_regions, iova_reserve_pci_windows of drivers/iommu/dma-iommu.c,
 * Linux 6.12). A device that writes to an address inside its host bridge's own windows may reach another device directly: the
 * write never gets to the IOMMU.
 */
import { EINVAL } from '../base/index.ts';
import type { ResvRegion } from '../iommu/index.ts';
import type { MsiPages } from './msi.ts';

/** A range of addresses as CPUs see it, and what to take off for the bus. Ends are inclusive (`last`). */
export interface BridgeWindow {
  readonly start: number;
  readonly last: number;
  /** CPU address minus bus address. Default 0. */
  readonly offset?: number;
}

/** A PCI host bridge, as far as DMA is concerned. */
export interface HostBridge {
  /** Memory windows: what the bridge itself decodes. */
  readonly windows: readonly BridgeWindow[];
  /** What its inbound side lets through; empty for all. Everything between is closed. */
  readonly dmaRanges?: readonly BridgeWindow[];
}

/** Keeps [start, last] from being handed out; both inclusive, in bytes. */
export type ReserveBytes = (start: number, last: number) => void;

/** Last byte of the space that is reserved above the highest DMA range: ~0 in Linux. */
const SPACE_LAST = 2 ** 64 - 1;

/** @returns 0, or EINVAL when the DMA ranges overlap: nothing is right then, and Linux gives up on the device */
export function reserveBridge(bridge: HostBridge, reserve: ReserveBytes): number {
  for (const { start, last, offset = 0 } of bridge.windows) reserve(start - offset, last - offset);
  const ranges = (bridge.dmaRanges ?? []).toSorted((a, b) => a.start - b.start);
  let next = 0;
  for (const { start, last, offset = 0 } of ranges) {
    const busStart = start - offset;
    if (busStart < next) return EINVAL;
    // Up to the first byte of the range, inclusive: Linux reserves that page too.
    if (busStart > next) reserve(next, busStart);
    next = last - offset + 1;
  }
  if (ranges.length > 0) reserve(next, SPACE_LAST);
  return 0;
}

/**
 * Reserves the regions of a device. `direct` ones too: they are mapped one to one, by the group, and nothing else may be mapped
 * over them. Doorbells that the hardware leaves alone are their own IOVAs.
 */
export function reserveRegions(regions: readonly ResvRegion[], reserve: ReserveBytes, msi: MsiPages): void {
  for (const { start, nrBytes, type } of regions) {
    // What the DMA API's own doorbells are mapped at it decides itself.
    if (type === 'software-msi') continue;
    reserve(start, start + nrBytes - 1);
    if (type === 'msi') msi.addUntranslated(start, start + nrBytes);
  }
}
