/**
 * What a VT-d unit can do and how its caches behave. Intel VT-d rev. 4.1: capabilities 11.4.2 and 11.4.3, what caches may
 * hold 6.1 and 6.2. Everything that the specification leaves to the implementation is a field here; its defaults are the
 * behaviour that punishes a driver soonest, not the one that forgives.
 */
import { vtd } from '../../spec/index.ts';
import type { CacheGeometry } from '../tlb/geometry.ts';

/** Capabilities as software reads them, cache shapes, and policies. Every field is optional: see VTD_DEFAULT. */
export interface VtdConfig {
  /** ECAP.C: table reads snoop CPU caches. Default: whether the memory is coherent, and so always true to it. */
  readonly coherent?: boolean;
  /** CAP.CM: not-present and faulting entries may be cached. */
  readonly cachingMode?: boolean;
  /** CAP.ND, 0..6: domain ids have 4 + 2 * nd bits. */
  readonly nd?: number;
  /** Table levels that contexts may ask for: 3 (39 bits), 4 (48 bits). */
  readonly sagaw?: readonly number[];
  /** Widest IOVA in bits. */
  readonly mgaw?: number;
  /** Host address width: address bits of entries from here to 51 are reserved. */
  readonly haw?: number;
  readonly sllps2m?: boolean;
  readonly sllps1g?: boolean;
  /** CAP.PSI. Without it page-selective requests are done as domain-selective ones. */
  readonly psi?: boolean;
  /** CAP.MAMV: largest address mask of a page-selective request. */
  readonly mamv?: number;
  /** CAP.RWBF: stores reach the walker only after a write-buffer flush or an invalidation. Needs non-coherent memory to show. */
  readonly rwbf?: boolean;
  /** Fault recording registers, 1..64. */
  readonly nfr?: number;
  readonly zlr?: boolean;
  readonly dwd?: boolean;
  readonly drd?: boolean;
  /** ECAP.QI, PT, SC, DT, IR. IR is only advertised: its commands are accepted, interrupts are not remapped. */
  readonly qi?: boolean;
  readonly pt?: boolean;
  readonly sc?: boolean;
  readonly dt?: boolean;
  readonly ir?: boolean;
  /** With dt: bit 62 of a leaf is TM, and not reserved. */
  readonly tm?: boolean;

  readonly iotlb?: CacheGeometry;
  /** The paging-structure caches of all levels together. */
  readonly pageCache?: CacheGeometry;
  readonly contextCache?: CacheGeometry;

  /** Caches keep not-present and faulting results. Default: cachingMode, as the specification allows exactly then. */
  readonly holdsNotPresent?: boolean;
  /** Non-leaf entries are cached. */
  readonly holdsStructure?: boolean;
  /**
   * A translation found by a walk is cached even if it denied the access that caused the walk. False also ends such walks at the
   * entry that denies it, whatever else is wrong with it.
   */
  readonly holdsDenied?: boolean;
  /** The IOTLB is tagged by source id instead of domain id: devices of one domain share nothing. */
  readonly tagBySid?: boolean;
  /** A cached translation that lacks a permission faults. False: the access is dropped without a record. */
  readonly faultOnCachedPermission?: boolean;
  /** Domain-selective context invalidation drops the whole context cache. */
  readonly contextDomainIsGlobal?: boolean;
  /** Device-selective context invalidation does not compare the domain id. */
  readonly contextDeviceIgnoresDomain?: boolean;
  /**
   * Superpages are cached whole, and any page-selective request that touches one drops it. False: they are cached in
   * 4 KiB pieces and a request drops the pieces it names, so software must mask the whole superpage (11.4.8.2, AM).
   */
  readonly psiDropsWholeSuperpage?: boolean;
  /**
   * Low bits of page numbers that a page-selective request compares; entries that are equal in these go, wherever they are.
   * Default 52, all of them. Fewer need tagBySid.
   */
  readonly psiPageBits?: number;
  /** Clearing the last fault record takes back a fault event that was not sent yet (11.4.10, IP). False: only writing FSTS does. */
  readonly recordClearWithdraws?: boolean;
  /**
   * The IOTLB is asked before the context: a cached translation serves a device whose context says otherwise by now, or whose
   * address width is smaller. Needs tagBySid, since the domain is in the context.
   */
  readonly iotlbBeforeContext?: boolean;
  /**
   * FPD also silences the fault that a context entry with reserved bits is (LCT.3): a qualified one in the table of 7.1.3.
   * VirtualBox's unit reads it so too; QEMU's table of qualified faults has no line for it (`vtd_qualified_faults`).
   */
  readonly fpdCoversReservedContext?: boolean;
  /** Setting the root pointer drops all caches. Hardware with CAP.ESRTPS = 0, which this is, leaves that to software. */
  readonly srtpFlushes?: boolean;
  /** Turning translation on or off drops all caches. */
  readonly teFlushes?: boolean;
  /** IQERCD tells why the queue stopped. */
  readonly reportsQueueError?: boolean;
  /** Time from a doorbell or a register request until hardware acts. 0: inside the write. */
  readonly completionDelayNs?: number;
}

/** A configuration without open questions. */
export type FullVtdConfig = Required<VtdConfig>;

const DEFAULT: Omit<FullVtdConfig, 'coherent' | 'holdsNotPresent'> = {
  cachingMode: false,
  nd: 6,
  sagaw: [3, 4],
  mgaw: 48,
  haw: 48,
  sllps2m: true,
  sllps1g: true,
  psi: true,
  mamv: 18,
  rwbf: false,
  nfr: 1,
  zlr: false,
  dwd: true,
  drd: true,
  qi: true,
  pt: true,
  sc: false,
  dt: true,
  ir: false,
  tm: true,
  iotlb: { sets: 2048, ways: 2 },
  pageCache: { sets: 64, ways: 4 },
  contextCache: { sets: 64, ways: 4 },
  holdsStructure: true,
  holdsDenied: true,
  tagBySid: false,
  faultOnCachedPermission: true,
  contextDomainIsGlobal: false,
  contextDeviceIgnoresDomain: false,
  psiDropsWholeSuperpage: true,
  psiPageBits: 52,
  recordClearWithdraws: true,
  iotlbBeforeContext: false,
  fpdCoversReservedContext: true,
  srtpFlushes: false,
  teFlushes: false,
  reportsQueueError: true,
  completionDelayNs: 0,
};

/** CAP 0xd2008c222f0606 (0xd2008c222f0686 with caching mode): what QEMU's unit reports with aw-bits=48. */
export const VTD_DEFAULT: VtdConfig = DEFAULT;

/**
 * QEMU's intel-iommu 7.2 as observed when driven over qtest: it caches neither not-present entries nor table
 * pointers, and drops an access that a cached entry denies without telling. One deviation is not modelled: at 1024 IOTLB
 * entries QEMU drops all of them, here a large cache evicts one by one.
 */
export const VTD_QEMU: VtdConfig = {
  dt: false,
  coherent: false,
  holdsNotPresent: false,
  holdsStructure: false,
  holdsDenied: false,
  tagBySid: true,
  faultOnCachedPermission: false,
  psiPageBits: 8,
  recordClearWithdraws: false,
  iotlbBeforeContext: true,
  fpdCoversReservedContext: false,
  contextDomainIsGlobal: true,
  contextDeviceIgnoresDomain: true,
  srtpFlushes: true,
  teFlushes: true,
  reportsQueueError: false,
  iotlb: { sets: 1024, ways: 8 },
  contextCache: { sets: 8192, ways: 8 },
};

/** QEMU's intel-iommu 10.0: page-selective requests compare all bits of the page number, and TM is reserved. */
export const VTD_QEMU_10: VtdConfig = { ...VTD_QEMU, psiPageBits: 52, tm: false };

function checkRange(value: number, first: number, last: number, name: string): void {
  if (!Number.isInteger(value) || value < first || value > last) {
    throw new RangeError(`VtdConfig.${name} must be an integer in ${first}..${last}, got ${value}`);
  }
}

/** Fills in defaults and refuses what no hardware could report. @throws RangeError */
export function fullConfig(config: VtdConfig, memoryIsCoherent: boolean): FullVtdConfig {
  const cachingMode = config.cachingMode ?? DEFAULT.cachingMode;
  const full: FullVtdConfig = {
    ...DEFAULT,
    coherent: memoryIsCoherent,
    holdsNotPresent: cachingMode,
    ...config,
  };
  checkRange(full.nd, 0, 6, 'nd');
  checkRange(full.mgaw, 32, 48, 'mgaw');
  checkRange(full.haw, 32, 52, 'haw');
  checkRange(full.mamv, 0, 63, 'mamv');
  checkRange(full.nfr, 1, 64, 'nfr');
  if (full.sagaw.length === 0 || full.sagaw.some((levels) => levels !== 3 && levels !== 4)) {
    throw new RangeError(`VtdConfig.sagaw must list 3, 4 or both, got [${full.sagaw.join(', ')}]`);
  }
  if (full.holdsNotPresent && !full.cachingMode) {
    // Such hardware would break every driver that trusts CAP.CM = 0; a result from it would accuse the innocent.
    throw new RangeError(
      'VtdConfig.holdsNotPresent needs cachingMode: with CAP.CM = 0 not-present entries are never cached',
    );
  }
  if (!full.tagBySid && (full.iotlbBeforeContext || full.psiPageBits !== DEFAULT.psiPageBits)) {
    throw new RangeError(
      'VtdConfig.iotlbBeforeContext and psiPageBits need tagBySid: they are what such hardware does',
    );
  }
  return full;
}

const bit = (set: boolean, shift: number): number => (set ? 1 << shift : 0);

/** Offset of the fault recording registers: CAP.FRO in bytes. The place QEMU uses. */
export const FRCD_OFFSET = 0x220;
/** Offset of IVA; the IOTLB register follows 8 bytes above: ECAP.IRO in bytes. */
export const IVA_OFFSET = 0xf0;
export const IOTLB_OFFSET: number = IVA_OFFSET + 8;

/** Capability register, low word (11.4.2). */
export function capLo(config: FullVtdConfig): number {
  let sagaw = 0;
  for (const levels of config.sagaw) sagaw |= 1 << (levels - 2);
  return (
    (config.nd << vtd.CAP_ND_SHIFT) |
    bit(config.rwbf, vtd.CAP_RWBF_BIT) |
    bit(config.cachingMode, vtd.CAP_CM_BIT) |
    (sagaw << vtd.CAP_SAGAW_SHIFT) |
    ((config.mgaw - 1) << vtd.CAP_MGAW_SHIFT) |
    bit(config.zlr, vtd.CAP_ZLR_BIT) |
    ((FRCD_OFFSET >> 4) << vtd.CAP_FRO_SHIFT)
  );
}

/** Capability register, high word. */
export function capHi(config: FullVtdConfig): number {
  const sllps = bit(config.sllps2m, 0) | bit(config.sllps1g, 1);
  return (
    (sllps << (vtd.CAP_SLLPS_SHIFT - 32)) |
    bit(config.psi, vtd.CAP_PSI_BIT - 32) |
    ((config.nfr - 1) << (vtd.CAP_NFR_SHIFT - 32)) |
    (config.mamv << (vtd.CAP_MAMV_SHIFT - 32)) |
    bit(config.dwd, vtd.CAP_DWD_BIT - 32) |
    bit(config.drd, vtd.CAP_DRD_BIT - 32)
  );
}

/** Extended capability register, low word (11.4.3); the high word is 0: no scalable mode. */
export function ecapLo(config: FullVtdConfig): number {
  return (
    bit(config.coherent, vtd.ECAP_C_BIT) |
    bit(config.qi, vtd.ECAP_QI_BIT) |
    bit(config.dt, vtd.ECAP_DT_BIT) |
    bit(config.ir, vtd.ECAP_IR_BIT) |
    bit(config.pt, vtd.ECAP_PT_BIT) |
    bit(config.sc, vtd.ECAP_SC_BIT) |
    ((IVA_OFFSET >> 4) << vtd.ECAP_IRO_SHIFT) |
    (config.ir ? 15 << vtd.ECAP_MHMV_SHIFT : 0)
  );
}
