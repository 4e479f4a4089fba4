/** Invalidation commands in words, for the steps of a schedule. VT-d rev. 4.1 section 6.5.2, AMD-Vi 48882 section 2.4. */
import { hex, hexRange } from '../../base/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import { deviceName } from './decision.ts';

const PAGE = 4096;

function pageAddress(lo: number, hi: number): number {
  return (hi >>> 0) * 4294967296 + ((lo & -PAGE) >>> 0);
}

/** A descriptor of an invalidation queue. */
export function vtdCommand(w0: number, w1: number, w2: number, w3: number): string {
  const granularity = (w0 >>> vtd.DESC_GRANULARITY_SHIFT) & 3;
  const domain = w0 >>> vtd.DESC_DID_SHIFT;
  switch (w0 & 15) {
    case vtd.DESC_WAIT:
      return 'wait descriptor: its status is written';
    case vtd.DESC_CONTEXT:
      return `context cache, ${contextScope(granularity, domain, w1 & 0xffff)}`;
    case vtd.DESC_IOTLB:
      return `IOTLB, ${iotlbScope(granularity, domain, w2, w3)}`;
    default:
      return `descriptor of type ${w0 & 15}`;
  }
}

function contextScope(granularity: number, domain: number, sid: number): string {
  if (granularity === vtd.GRANULARITY_DEVICE) return `${deviceName(sid)} under domain ${domain}`;
  return granularity === vtd.GRANULARITY_DOMAIN ? `domain ${domain}` : 'all';
}

function iotlbScope(granularity: number, domain: number, lo: number, hi: number): string {
  if (granularity === vtd.GRANULARITY_GLOBAL) return 'all';
  if (granularity === vtd.GRANULARITY_DOMAIN) return `domain ${domain}`;
  const maskLg2 = lo & vtd.IVA_AM_MASK;
  const nrBytes = PAGE * 2 ** maskLg2;
  const address = pageAddress(lo, hi);
  const hint = (lo & vtd.IVA_IH) === 0 ? '' : ', leaves only (IH)';
  return `domain ${domain} pages ${hexRange(address - (address % nrBytes), nrBytes)}${hint}`;
}

/** A request of the registers. */
export function vtdRegisterCommand(
  kind: 'context' | 'iotlb',
  lo: number,
  hi: number,
  ivaLo: number,
  ivaHi: number,
): string {
  if (kind === 'context') {
    const granularity = (hi >>> vtd.CCMD_CIRG_SHIFT_HI) & 3;
    return `context cache by register, ${contextScope(granularity, lo & vtd.CCMD_DID_MASK_LO, lo >>> vtd.CCMD_SID_SHIFT_LO)}`;
  }
  const granularity = (hi >>> vtd.IOTLB_IIRG_SHIFT_HI) & 3;
  return `IOTLB by register, ${iotlbScope(granularity, hi & vtd.IOTLB_DID_MASK_HI, ivaLo, ivaHi)}`;
}

/** A command of a command buffer. */
export function amdCommand(w0: number, w1: number, w2: number, w3: number): string {
  switch (w1 >>> amdvi.CMD_OP_SHIFT_W1) {
    case amdvi.CMD_COMPLETION_WAIT:
      return 'COMPLETION_WAIT: its number is stored';
    case amdvi.CMD_INVALIDATE_DEVTAB_ENTRY:
      return `INVALIDATE_DEVTAB_ENTRY ${deviceName(w0 & amdvi.CMD_DEVICE_MASK_W0)}`;
    case amdvi.CMD_INVALIDATE_IOMMU_ALL:
      return 'INVALIDATE_IOMMU_ALL';
    case amdvi.CMD_INVALIDATE_IOMMU_PAGES: {
      const domain = w1 & amdvi.CMD_DOMAIN_MASK_W1;
      const tables = (w2 & amdvi.INV_PDE_W2) === 0 ? '' : ' with tables (PDE)';
      return `INVALIDATE_IOMMU_PAGES domain ${domain} ${amdRange(w2, w3)}${tables}`;
    }
    default:
      return `command ${hex(w1 >>> amdvi.CMD_OP_SHIFT_W1)}`;
  }
}

/** With S, the ones from bit 12 up code the size (2.4.3). */
function amdRange(lo: number, hi: number): string {
  const address = pageAddress(lo, hi);
  if ((lo & amdvi.INV_SIZE_W2) === 0) return hexRange(address, PAGE);
  let nrBytes = 2 * PAGE;
  while (Math.floor(address / (nrBytes / 2)) % 2 === 1) nrBytes *= 2;
  return nrBytes >= 2 ** 52 ? 'all pages' : hexRange(address - (address % nrBytes), nrBytes);
}
