/**
 * Reserved regions: IOVA ranges with a meaning of their own. iommu_get_resv_regions(), iommu_insert_resv_region() and
 * iommu_create_device_direct_mappings() of Linux 6.12 drivers/iommu/iommu.c.
 */
import { alignDown, alignUp, lowestBit } from '../base/index.ts';
import type { Iommu } from './iommu.ts';
import type { Device, IommuDomain, IommuOps, ResvRegion } from './ops.ts';

/** Order of types among regions of one start, as of enum iommu_resv_type, so that a list has one spelling. */
const TYPE_RANK: Record<ResvRegion['type'], number> = {
  direct: 0,
  'direct-relaxable': 1,
  reserved: 2,
  msi: 3,
  'software-msi': 4,
};

/**
 * Sorted by start; regions of one type that overlap or touch are one. Different types may overlap: an MSI window inside a
 * reserved range keeps its own entry, since callers ask per type. Joined regions grant the rights of both. (Linux keeps the
 * first one's, so the order of the firmware's tables would decide whether a device may write.)
 */
export function mergeResvRegions(regions: readonly ResvRegion[]): ResvRegion[] {
  const sorted = regions
    .filter((region) => region.nrBytes > 0)
    .sort((a, b) => a.start - b.start || TYPE_RANK[a.type] - TYPE_RANK[b.type]);
  const merged: ResvRegion[] = [];
  for (const region of sorted) {
    const index = merged.findLastIndex((other) => other.type === region.type);
    const last = merged[index];
    if (last === undefined || region.start > last.start + last.nrBytes) {
      merged.push(region);
      continue;
    }
    const end = Math.max(last.start + last.nrBytes, region.start + region.nrBytes);
    merged[index] = { start: last.start, nrBytes: end - last.start, type: last.type, prot: last.prot | region.prot };
  }
  return merged;
}

/** The regions of several devices that share a domain. */
export function collectResvRegions(ops: IommuOps, devices: readonly Device[]): ResvRegion[] {
  return mergeResvRegions(devices.flatMap((device) => ops.getResvRegions(device)));
}

/**
 * Maps the `direct` and `direct-relaxable` regions one to one, where nothing is mapped yet. To be done *before* a device is attached: its firmware
 * may be doing DMA there already (RMRR: USB legacy emulation, graphics), and would fault between attach and map.
 * Pages are rounded outwards; Linux rounds the start up, which drops the first bytes of a region that is not page aligned.
 * @returns 0, or the errno of the map that failed (what was mapped before stays: it is right for the device in any case)
 */
export function mapDirectRegions(core: Iommu, domain: IommuDomain, regions: readonly ResvRegion[]): number {
  if (domain.type !== 'paging') return 0;
  const pgsize = 2 ** lowestBit(domain.pgsizeBitmap);
  for (const region of regions) {
    if (region.type !== 'direct' && region.type !== 'direct-relaxable') continue;
    const end = alignUp(region.start + region.nrBytes, pgsize);
    let start = alignDown(region.start, pgsize);
    while (start < end) {
      let next = start;
      while (next < end && core.iovaToPhys(domain, next) < 0) next += pgsize;
      if (next !== start) {
        const errno = core.map(domain, start, start, next - start, region.prot);
        if (errno !== 0) return errno;
      }
      // The page at `next` is mapped already, by a region of another device for one.
      start = next + pgsize;
    }
  }
  return 0;
}

/**
 * Where the owner of a domain, who hands out its IOVAs, maps the doorbells of these devices (vfio_iommu_has_sw_msi,
 * iommufd_device_setup_msi). @returns the first byte of the software window; -1 when there is none, or when the hardware leaves
 * doorbells alone
 */
export function softwareMsiBase(regions: readonly ResvRegion[]): number {
  if (regions.some(({ type }) => type === 'msi')) return -1;
  return regions.find(({ type }) => type === 'software-msi')?.start ?? -1;
}
