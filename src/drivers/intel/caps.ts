/** What a VT-d unit says it can do: CAP_REG and ECAP_REG (specification 11.4.2, 11.4.3), read once at start. */
import { field } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';

export interface VtdCaps {
  /** Number of domain ids, 2^(4 + 2 * ND). */
  readonly nrDomains: number;
  /** CAP.RWBF: stores to tables need an explicit write-buffer flush. */
  readonly needsWriteBufferFlush: boolean;
  /** CAP.CM: not-present and faulting entries may be cached. */
  readonly cachingMode: boolean;
  /** Table levels supported, 3 and 4 (SAGAW). */
  readonly levels: readonly number[];
  /** Address width a device may use, in bits (MGAW). */
  readonly addressWidth: number;
  readonly superpage2M: boolean;
  readonly superpage1G: boolean;
  readonly pageSelective: boolean;
  /** Largest address mask of a page-selective invalidation (MAMV). */
  readonly maxAddressMask: number;
  readonly drainsReads: boolean;
  readonly drainsWrites: boolean;
  /** ECAP.C: table walks snoop CPU caches. */
  readonly coherent: boolean;
  readonly queuedInvalidation: boolean;
  /** ECAP.PT: contexts may pass requests through untranslated. */
  readonly passThrough: boolean;
  /** Byte offset of IVA_REG; IOTLB_REG is 8 above. */
  readonly iotlbOffset: number;
}

/** Reads the capability registers of the unit at a physical address. */
export function readCaps(platform: Platform, base: number): VtdCaps {
  const capLo = platform.readl(base + vtd.CAP_REG);
  const capHi = platform.readl(base + vtd.CAP_REG + 4);
  const ecapLo = platform.readl(base + vtd.ECAP_REG);
  const bit = (word: number, position: number): boolean => ((word >>> position) & 1) === 1;
  const sagaw = field(capLo, vtd.CAP_SAGAW_SHIFT, vtd.CAP_SAGAW_SHIFT + 4);
  const superpages = field(capHi, vtd.CAP_SLLPS_SHIFT - 32, vtd.CAP_SLLPS_SHIFT - 32 + 3);
  return {
    nrDomains: 2 ** (4 + 2 * field(capLo, vtd.CAP_ND_SHIFT, vtd.CAP_ND_SHIFT + 2)),
    needsWriteBufferFlush: bit(capLo, vtd.CAP_RWBF_BIT),
    cachingMode: bit(capLo, vtd.CAP_CM_BIT),
    levels: [3, 4].filter((levels) => bit(sagaw, levels - 2)),
    addressWidth: field(capLo, vtd.CAP_MGAW_SHIFT, vtd.CAP_MGAW_SHIFT + 5) + 1,
    superpage2M: bit(superpages, 0),
    superpage1G: bit(superpages, 1),
    pageSelective: bit(capHi, vtd.CAP_PSI_BIT - 32),
    maxAddressMask: field(capHi, vtd.CAP_MAMV_SHIFT - 32, vtd.CAP_MAMV_SHIFT - 32 + 5),
    drainsReads: bit(capHi, vtd.CAP_DRD_BIT - 32),
    drainsWrites: bit(capHi, vtd.CAP_DWD_BIT - 32),
    coherent: bit(ecapLo, vtd.ECAP_C_BIT),
    queuedInvalidation: bit(ecapLo, vtd.ECAP_QI_BIT),
    passThrough: bit(ecapLo, vtd.ECAP_PT_BIT),
    iotlbOffset: field(ecapLo, vtd.ECAP_IRO_SHIFT, vtd.ECAP_IRO_SHIFT + 9) * 16,
  };
}
