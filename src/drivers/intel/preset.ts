/**
 * How the Intel driver of a given kernel behaves where kernels differ. A preset is data: the driver reads it, nobody forks it.
 * Sources: facts of Linux v5.1..6.12 (drivers/iommu/intel/iommu.c, cache.c; drivers/iommu/iommu.c); the recorded kernels 6.1
 * and 6.12 are checked command for command by test/replay.
 */
import type { MapFlush } from '../flush-policy.ts';

export interface IntelPreset {
  readonly name: string;
  /** Where this kernel flushes after a map; a run may override it. */
  readonly mapFlush: MapFlush;
  /**
   * What a page-selective invalidation does about a range that does not start at a multiple of its size rounded up.
   * `none`: nothing, the tail is missed (until April 2022, bug 6 of the catalogue). `mask`: a wider mask, the address as it
   * is. `base`: a wider mask and the address aligned to it (6.10 and later).
   */
  readonly psiAlignment: 'none' | 'mask' | 'base';
  /** Sets the IH hint on an unmap that freed no table. Kernels before computed it and lost it on the way (bug 9). */
  readonly unmapHint: boolean;
  /** Pretends to support every power of two and splits inside (INTEL_IOMMU_PGSIZES), so that the core hands over more at once. */
  readonly anyPageSize: boolean;
  /** The core passes runs of equal pages to the driver (map_pages, v5.15) instead of one page-size chunk per callback. */
  readonly mapPages: boolean;
  /** The core syncs once per physically contiguous run instead of once per call (before v5.12). */
  readonly syncMapPerRun: boolean;
  /** The DMA API maps a scatterlist in one driver call, past the core (intel_map_sg, before v5.11). */
  readonly mapSgDirect: boolean;
  /** Strict unmapping is forced where a unit has CAP.CM ("IOMMU batching disallowed due to virtualization"; v5.11). */
  readonly cachingModeIsStrict: boolean;
  /** Lowest domain id given out. 0 tags not-present entries; 1 is FLPT_DEFAULT_DID, reserved in later kernels. */
  readonly firstDomainId: number;
}

const PRESETS: readonly IntelPreset[] = [
  {
    name: 'linux-5.1',
    mapFlush: 'map',
    psiAlignment: 'none',
    unmapHint: false,
    anyPageSize: true,
    mapPages: false,
    syncMapPerRun: true,
    mapSgDirect: true,
    cachingModeIsStrict: false,
    firstDomainId: 1,
  },
  {
    name: 'linux-5.11',
    mapFlush: 'map',
    psiAlignment: 'none',
    unmapHint: false,
    anyPageSize: true,
    mapPages: false,
    syncMapPerRun: true,
    mapSgDirect: false,
    cachingModeIsStrict: true,
    firstDomainId: 1,
  },
  {
    name: 'linux-5.12',
    mapFlush: 'sync-map',
    psiAlignment: 'none',
    unmapHint: false,
    anyPageSize: true,
    mapPages: false,
    syncMapPerRun: false,
    mapSgDirect: false,
    cachingModeIsStrict: true,
    firstDomainId: 1,
  },
  {
    name: 'linux-6.1',
    mapFlush: 'sync-map',
    psiAlignment: 'mask',
    unmapHint: false,
    anyPageSize: false,
    mapPages: true,
    syncMapPerRun: false,
    mapSgDirect: false,
    cachingModeIsStrict: true,
    firstDomainId: 2,
  },
  {
    name: 'linux-6.12',
    mapFlush: 'sync-map',
    psiAlignment: 'base',
    unmapHint: true,
    anyPageSize: false,
    mapPages: true,
    syncMapPerRun: false,
    mapSgDirect: false,
    cachingModeIsStrict: true,
    firstDomainId: 2,
  },
];

/** Names of all presets, oldest kernel first. */
export const INTEL_PRESETS: readonly string[] = PRESETS.map((preset) => preset.name);

/** The preset of a name; a preset of the caller's own as it is. @throws RangeError naming the known ones */
export function intelPreset(name: string | IntelPreset): IntelPreset {
  if (typeof name !== 'string') return name;
  const preset = PRESETS.find((candidate) => candidate.name === name);
  if (preset === undefined) {
    throw new RangeError(`unknown preset '${name}'; known: ${INTEL_PRESETS.join(', ')}`);
  }
  return preset;
}
