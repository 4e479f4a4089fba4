/** Whose IOMMU a recording is of, as far as it tells. */
import { EventKind } from './events.ts';

/** The modelled architectures. */
export type Vendor = 'vtd' | 'amdvi';

/** The probe's name in the recipe of amd-commands.ts: a kprobe may have any, this one is taken for what it says. */
const AMD_PROBE = 'amdcmd';

/** What a reader counted, of any trace format. */
export interface SeenEvents {
  readonly byKind: readonly number[];
  readonly others: ReadonlyMap<string, number>;
}

/**
 * The vendor behind a trace, told by events that only one driver has: intel_iommu:* (qi_submit since Linux 5.12, cache_tag_*
 * since 6.10), or the kprobe `amdcmd` on the AMD driver's command queue. `unknown` when the trace has neither, as one recorded
 * with `-e iommu -e dma` alone has not, or both, as a mixture of two machines would.
 *
 * Nothing else in a trace tells. iommu:map and iommu:unmap come from the core, before a driver cuts the range into pages: their
 * sizes are those of contiguous memory on either machine (8 KiB, 12 KiB, 64 KiB and more stand in recordings of both), not of the
 * 8 KiB to 512 KiB leaves that only AMD tables have. io_page_fault does not come from Intel's driver, but from more than AMD's.
 */
export function vendorOf({ byKind, others }: SeenEvents): Vendor | 'unknown' {
  const isIntel = (byKind[EventKind.qiSubmit] ?? 0) + (byKind[EventKind.cacheTag] ?? 0) > 0;
  return judge(isIntel, others.has(AMD_PROBE));
}

/** The vendor of the unit that QEMU emulated, by the names of its trace events and how many lines have each. */
export function vendorOfLog(byName: ReadonlyMap<string, number>): Vendor | 'unknown' {
  const has = (prefix: string): boolean => [...byName].some(([name, count]) => count > 0 && name.startsWith(prefix));
  return judge(has('vtd_'), has('amdvi_'));
}

function judge(isIntel: boolean, isAmd: boolean): Vendor | 'unknown' {
  return isIntel === isAmd ? 'unknown' : isIntel ? 'vtd' : 'amdvi';
}
