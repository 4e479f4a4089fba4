/**
 * Where a container's mappings may be: the apertures of its domains without the reserved regions of their devices
 * (vfio_iommu_aper_conflict(), _aper_resize(), _resv_exclude() of Linux 6.12 drivers/vfio/vfio_iommu_type1.c).
 *
 * The MSI window is one of those regions: on x86 a write there is an interrupt and never meets the page table, so a mapping
 * over it could not be used and must be refused. Ranges have an inclusive `last`; lists are sorted and disjoint.
 */
import { EINVAL } from '../base/index.ts';
import type { ResvRegion } from '../iommu/index.ts';
import type { DmaList } from './dma.ts';

export interface IovaRange {
  readonly start: number;
  readonly last: number;
}

/** Whether a new aperture would leave existing mappings, or the whole list, outside. */
export function apertureConflicts(ranges: readonly IovaRange[], start: number, last: number, dmas: DmaList): boolean {
  const first = ranges[0];
  const final = ranges.at(-1);
  if (first === undefined || final === undefined) return false;
  if (start > final.last || last < first.start) return true;
  if (start > first.start && dmas.find(first.start, start - first.start) !== null) return true;
  return last < final.last && dmas.find(last + 1, final.last - last) !== null;
}

/** Whether a mapping lies in a region that no longer may be mapped. A relaxable one may. */
export function regionsConflict(regions: readonly ResvRegion[], dmas: DmaList): boolean {
  return regions.some(({ start, nrBytes, type }) => type !== 'direct-relaxable' && dmas.find(start, nrBytes) !== null);
}

/** The list cut to an aperture; the aperture itself when there was no list. */
export function clipToAperture(ranges: readonly IovaRange[], start: number, last: number): IovaRange[] {
  if (ranges.length === 0) return [{ start, last }];
  return ranges
    .filter((range) => range.last >= start && range.start <= last)
    .map((range) => ({ start: Math.max(range.start, start), last: Math.min(range.last, last) }));
}

/** The list without reserved regions, relaxable ones aside; EINVAL when nothing is left. */
export function excludeRegions(ranges: readonly IovaRange[], regions: readonly ResvRegion[]): IovaRange[] | number {
  let left: IovaRange[] = [...ranges];
  for (const { start, nrBytes, type } of regions) {
    if (type === 'direct-relaxable') continue;
    const end = start + nrBytes;
    left = left.flatMap((range) => {
      if (start > range.last || end <= range.start) return [range];
      const parts: IovaRange[] = [];
      if (start > range.start) parts.push({ start: range.start, last: start - 1 });
      if (end <= range.last) parts.push({ start: end, last: range.last });
      return parts;
    });
  }
  return left.length === 0 ? EINVAL : left;
}

/** Whether a mapping lies wholly in one range. A container of emulated devices alone has no list and no limits. */
export function contains(ranges: readonly IovaRange[], start: number, last: number): boolean {
  return ranges.length === 0 || ranges.some((range) => start >= range.start && last <= range.last);
}
