/**
 * How the AMD driver of a given kernel behaves where kernels differ. A preset is data: the driver reads it, nobody forks it.
 * Sources: drivers/iommu/amd_iommu.c up to 5.6, drivers/iommu/amd/{iommu,init,io_pgtable}.c of Debian's 6.1.176 and 6.12.117
 * with the change log between; the recorded kernels, 6.1.176 and 6.12.95, are checked command for command by
 * test/drivers/amd.
 */
import type { MapFlush } from '../flush-policy.ts';

export interface AmdPreset {
  readonly name: string;
  /**
   * Where this kernel flushes after a map; a run may override it. `caller` is 5.1: __map_single of the driver's own DMA API
   * flushed, amd_iommu_map, which VFIO uses, did not. That is the hole that the mail of April 2019 asked about.
   */
  readonly mapFlush: MapFlush;
  /**
   * What a flush of more than one page becomes. `all-pages`: everything the domain has, in one command (until 5.12).
   * `covering`: the smallest aligned power of two around the range; and with NpCache, several commands that together cover it
   * exactly (5.15), because a hypervisor has to rebuild whatever a guest invalidates.
   */
  readonly ranges: 'all-pages' | 'covering';
  /** Flushes of a range drop table entries from walk caches too (the PDE bit). False until 5.14: only leaves. */
  readonly flushesTables: boolean;
  /**
   * With NpCache, a flush of a whole domain is split like any other range, into 63 commands of which 10 do everything: the
   * soft lockup of bug 21. Since 2026 (6.1.184 and 6.12.96 of the stable series) a range must be shorter than 2^52 to be split.
   */
  readonly splitsFullFlush: boolean;
  /** An unmap gathers its range. False until 5.14: every sync drops the whole domain. */
  readonly unmapByRange: boolean;
  /** An attach flushes the new domain, which a crashed kernel may have left entries under. Gone in the recorded 6.12.95. */
  readonly flushesAtAttach: boolean;
  /** A detach waits for the invalidation of the entry before it queues the domain's (dev_update_dte, 6.12), and then again. */
  readonly waitsForEntry: boolean;
  /** Setting the entry of a device drops what is cached under the domain id it had (5.4, for kdump). */
  readonly flushesOldDomain: boolean;
  /**
   * When a table gets another level: `before-map` tells hardware and waits before anything is written below the new root.
   * `after-map` wrote the mapping first and did not wait, so that a device could miss it (bug 17; May 2020).
   */
  readonly growth: 'after-map' | 'before-map';
  /** What a map drops when a large leaf took the place of empty tables: the whole domain, or the range of the call. */
  readonly replacedFlush: 'domain' | 'range';
  /** Data of COMPLETION_WAIT: 1, into a cell that was cleared before; or a number that counts up (5.10). */
  readonly waitData: 'one' | 'sequence';
  /** Up to which id the caches are flushed one by one, on units without INVALIDATE_IOMMU_ALL: 0xffff, or the last id (6.0). */
  readonly flushEachUpTo: 'every-id' | 'last-bdf';
  /** The core passes runs of equal pages to the driver (map_pages, which this driver has since 6.1), not one leaf per call. */
  readonly mapPages: boolean;
  /** The core syncs once per physically contiguous run instead of once per call (before v5.12). */
  readonly syncMapPerRun: boolean;
  /** Strict unmapping is forced where a unit has NpCache ("Using strict mode due to virtualization"; v5.15). */
  readonly npCacheIsStrict: boolean;
  /**
   * The DMA API maps past the core (until 5.5), in leaves of 4 KiB only. It flushes after a single mapping; after a scatterlist
   * it does not, in 5.1 for want of the line and in 5.3 because its condition is never true (bug 3).
   */
  readonly mapSgDirect: boolean;
}

const LINUX_5_1: AmdPreset = {
  name: 'linux-5.1',
  mapFlush: 'caller',
  ranges: 'all-pages',
  flushesTables: false,
  splitsFullFlush: false,
  unmapByRange: false,
  flushesAtAttach: true,
  waitsForEntry: false,
  flushesOldDomain: false,
  growth: 'after-map',
  replacedFlush: 'domain',
  waitData: 'one',
  flushEachUpTo: 'every-id',
  mapPages: false,
  syncMapPerRun: true,
  npCacheIsStrict: false,
  mapSgDirect: true,
};

const LINUX_6_1: AmdPreset = {
  name: 'linux-6.1',
  mapFlush: 'sync-map',
  ranges: 'covering',
  flushesTables: true,
  splitsFullFlush: true,
  unmapByRange: true,
  flushesAtAttach: true,
  waitsForEntry: false,
  flushesOldDomain: true,
  growth: 'before-map',
  replacedFlush: 'domain',
  waitData: 'sequence',
  flushEachUpTo: 'last-bdf',
  mapPages: true,
  syncMapPerRun: false,
  npCacheIsStrict: true,
  mapSgDirect: false,
};

const LINUX_6_12: AmdPreset = {
  ...LINUX_6_1,
  name: 'linux-6.12',
  flushesAtAttach: false,
  waitsForEntry: true,
  replacedFlush: 'range',
};

const PRESETS: readonly AmdPreset[] = [
  LINUX_5_1,
  { ...LINUX_5_1, name: 'linux-5.3', mapFlush: 'map' },
  LINUX_6_1,
  { ...LINUX_6_1, name: 'linux-6.1.184', splitsFullFlush: false },
  LINUX_6_12,
  { ...LINUX_6_12, name: 'linux-6.12.96', splitsFullFlush: false },
];

/** Names of all presets, oldest kernel first. */
export const AMD_PRESETS: readonly string[] = PRESETS.map((preset) => preset.name);

/** The preset of a name; a preset of the caller's own as it is. @throws RangeError naming the known ones */
export function amdPreset(name: string | AmdPreset): AmdPreset {
  if (typeof name !== 'string') return name;
  const preset = PRESETS.find((candidate) => candidate.name === name);
  if (preset === undefined) {
    throw new RangeError(`unknown preset '${name}'; known: ${AMD_PRESETS.join(', ')}`);
  }
  return preset;
}
