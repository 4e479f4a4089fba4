/**
 * What an AMD-Vi unit can do and how its caches behave. AMD-Vi 48882 rev. 3.x: capability header 3.2, extended features 3.4
 * (EFR), what caches may hold 2.1 and the text of NpCache. Everything that the specification leaves to the implementation is
 * a field here; its defaults are the behaviour that punishes a driver soonest, not the one that forgives.
 */
import { amdvi } from '../../spec/index.ts';
import type { CacheGeometry } from '../tlb/geometry.ts';

/** Capabilities as software reads them, cache shapes, and policies. Every field is optional: see AMDVI_DEFAULT. */
export interface AmdviConfig {
  /** NpCache: entries that are not present may be cached, so software invalidates after making one present. */
  readonly npCache?: boolean;
  /** IotlbSup: devices may have TLBs. Without it INVALIDATE_IOTLB_PAGES is illegal. */
  readonly iotlbSup?: boolean;
  /** HtTunnel, CapRev: only reported. */
  readonly htTunnel?: boolean;
  readonly capRev?: number;
  /** HATS: most levels of a host table, 4..6. */
  readonly levels?: number;
  /** PaSize: bits of a physical address. Only reported. */
  readonly paBits?: number;
  /** VaSize: bits of a device's address. Only reported; translate() takes 53. */
  readonly vaBits?: number;
  /** PreFSup, PPRSup, IASup. Without one its command is illegal. */
  readonly prefetch?: boolean;
  readonly ppr?: boolean;
  readonly ia?: boolean;
  /** Further bits of EFR's low word, advertised and no more. With GTSup the guest fields of entries are not reserved. */
  readonly advertised?: number;

  readonly iotlb?: CacheGeometry;
  /** Entries that lead to tables, of all levels together. */
  readonly pdeCache?: CacheGeometry;
  readonly deviceCache?: CacheGeometry;

  /** Caches keep what is not present. Default: npCache, as the specification allows exactly then. */
  readonly holdsNotPresent?: boolean;
  /** Entries that lead to tables are cached. */
  readonly holdsStructure?: boolean;
  /** Device table entries are cached. */
  readonly holdsDevices?: boolean;
  /**
   * Present entries are cached also if they denied the access that caused the walk: they lack a right or are malformed. The
   * text of NpCache lets hardware cache whatever is present. False also ends such walks early.
   */
  readonly holdsDenied?: boolean;
  /** A large page is one IOTLB entry, and an invalidation that touches a part of it drops it. False: one per 4 KiB used. */
  readonly holdsWholePages?: boolean;
  /** The IOTLB is tagged by source id instead of domain id: devices of one domain share nothing. */
  readonly tagBySid?: boolean;
  /** INVALIDATE_IOMMU_PAGES drops the whole domain, whatever its address. */
  readonly pagesDropDomain?: boolean;
  /** The walk checks what it reads: levels, skipped address bits, address bits above the levels, reserved bits, PR of leaves. */
  readonly checksWalk?: boolean;
  /** TV = 0 passes addresses through, like mode 0. */
  readonly passesWithoutTranslation?: boolean;
  /** Reserved bits of a device table entry count with V = 0 too, where the specification has all other bits ignored (2.2.2.1). */
  readonly checksInvalidDevices?: boolean;
  /** Pages that pass through (mode 0) are cached in the IOTLB, with IR and IW as rights. */
  readonly holdsPassThrough?: boolean;
  /** A page has the rights of its leaf alone, once the entries above it let the access that walked them through. */
  readonly leafRightsOnly?: boolean;
  /** The IOTLB is asked before the device table: a cached page outlives its entry there. Needs tagBySid. */
  readonly iotlbBeforeDevice?: boolean;
  /** Events are written to the log. */
  readonly logsEvents?: boolean;
  /** An illegal command stops the command buffer. False: the head passes over it. */
  readonly stopsAtIllegal?: boolean;
  /** ComWaitInt is cleared by writing a one to it. */
  readonly comWaitIntClears?: boolean;
  /** Time from a doorbell until hardware acts. 0: inside the write. */
  readonly completionDelayNs?: number;
}

/** A configuration without open questions. */
export type FullAmdviConfig = Required<AmdviConfig>;

const DEFAULT: Omit<FullAmdviConfig, 'holdsNotPresent'> = {
  npCache: false,
  iotlbSup: true,
  htTunnel: false,
  capRev: 1,
  levels: 6,
  paBits: 48,
  vaBits: 64,
  prefetch: true,
  ppr: false,
  ia: true,
  advertised: 0,
  iotlb: { sets: 2048, ways: 2 },
  pdeCache: { sets: 64, ways: 4 },
  deviceCache: { sets: 64, ways: 4 },
  holdsStructure: true,
  holdsDevices: true,
  holdsDenied: true,
  holdsWholePages: true,
  tagBySid: false,
  pagesDropDomain: false,
  checksWalk: true,
  passesWithoutTranslation: false,
  checksInvalidDevices: false,
  holdsPassThrough: false,
  leafRightsOnly: false,
  iotlbBeforeDevice: false,
  logsEvents: true,
  stopsAtIllegal: true,
  comWaitIntClears: true,
  completionDelayNs: 0,
};

/** Capability header 0x0908000f + IotlbSup (0x0d08000f with npCache), EFR 0x841. */
export const AMDVI_DEFAULT: AmdviConfig = DEFAULT;

/**
 * QEMU's amd-iommu, 7.2 to 10.0, as observed when driven over qtest: capability header 0x1f03000f's features and EFR 0x29d3.
 * NpCache is advertised and nothing not present is cached, nor device table entries, nor table pointers; no event is ever
 * logged. Not modelled: at 1024 IOTLB entries QEMU drops all of them, here a large cache evicts one by one; 7.2 also drops
 * translations at INVALIDATE_IOTLB_PAGES.
 */
export const AMDVI_QEMU: AmdviConfig = {
  npCache: true,
  htTunnel: true,
  capRev: 0,
  ppr: true,
  advertised: (1 << amdvi.EFR_GT_BIT) | (1 << amdvi.EFR_GA_BIT) | (1 << amdvi.EFR_HE_BIT) | (2 << amdvi.EFR_GATS_SHIFT),
  holdsNotPresent: false,
  holdsStructure: false,
  holdsDevices: false,
  holdsDenied: false,
  holdsWholePages: false,
  tagBySid: true,
  pagesDropDomain: true,
  checksWalk: false,
  passesWithoutTranslation: true,
  checksInvalidDevices: true,
  holdsPassThrough: true,
  leafRightsOnly: true,
  iotlbBeforeDevice: true,
  logsEvents: false,
  stopsAtIllegal: false,
  comWaitIntClears: false,
  iotlb: { sets: 1024, ways: 8 },
};

function checkRange(value: number, first: number, last: number, name: string): void {
  if (!Number.isInteger(value) || value < first || value > last) {
    throw new RangeError(`AmdviConfig.${name} must be an integer in ${first}..${last}, got ${value}`);
  }
}

/** Fills in defaults and refuses what no hardware could report. @throws RangeError */
export function fullAmdviConfig(config: AmdviConfig): FullAmdviConfig {
  const full: FullAmdviConfig = {
    ...DEFAULT,
    holdsNotPresent: config.npCache ?? DEFAULT.npCache,
    ...config,
  };
  checkRange(full.levels, 4, 6, 'levels');
  checkRange(full.capRev, 0, 31, 'capRev');
  checkRange(full.paBits, 32, 52, 'paBits');
  checkRange(full.vaBits, 32, 64, 'vaBits');
  if (full.holdsNotPresent && !full.npCache) {
    // Such hardware would break every driver that trusts NpCache = 0; a result from it would accuse the innocent.
    throw new RangeError(
      'AmdviConfig.holdsNotPresent needs npCache: with NpCache = 0 what is not present is never cached',
    );
  }
  if (full.iotlbBeforeDevice && !full.tagBySid) {
    throw new RangeError('AmdviConfig.iotlbBeforeDevice needs tagBySid: the domain is in the device table entry');
  }
  return full;
}

const bit = (set: boolean, mask: number): number => (set ? mask : 0);

/** A dword of the capability block (3.2); 0 outside. @param offset from the capability pointer */
export function capabilityWord(config: FullAmdviConfig, offset: number): number {
  if (offset === amdvi.CAP_HEADER) {
    return (
      amdvi.CAP_ID_SECURE |
      (amdvi.CAP_TYPE_IOMMU << amdvi.CAP_TYPE_SHIFT) |
      (config.capRev << amdvi.CAP_REV_SHIFT) |
      bit(config.iotlbSup, amdvi.CAP_IOTLB_SUP) |
      bit(config.htTunnel, amdvi.CAP_HT_TUNNEL) |
      bit(config.npCache, amdvi.CAP_NP_CACHE) |
      amdvi.CAP_EFR_SUP |
      amdvi.CAP_EXT
    );
  }
  if (offset === amdvi.CAP_MISC) {
    return (config.paBits << amdvi.CAP_MISC_PA_SIZE_SHIFT) | (config.vaBits << amdvi.CAP_MISC_VA_SIZE_SHIFT);
  }
  return 0;
}

/** Extended feature register, low word; the high word is 0. */
export function efrLo(config: FullAmdviConfig): number {
  return (
    bit(config.prefetch, 1 << amdvi.EFR_PREFETCH_BIT) |
    bit(config.ppr, 1 << amdvi.EFR_PPR_BIT) |
    bit(config.ia, 1 << amdvi.EFR_IA_BIT) |
    ((config.levels - 4) << amdvi.EFR_HATS_SHIFT) |
    config.advertised
  );
}
