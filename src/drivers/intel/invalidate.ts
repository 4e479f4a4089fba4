/**
 * Invalidation of one VT-d unit: which descriptor, over the queue or over registers.
 * Linux: qi_flush_context, qi_flush_iotlb, __iommu_flush_context, __iommu_flush_iotlb, iommu_flush_write_buffer and the
 * alignment rule of iommu_flush_iotlb_psi (6.1) / calculate_psi_aligned_address (6.10 and later).
 */
import { EINVAL, ETIMEDOUT, log2Ceil, xor53 } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
import type { VtdCaps } from './caps.ts';
import type { IntelPreset } from './preset.ts';
import { InvalidationQueue } from './queue.ts';
/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  CCMD_CIRG_SHIFT_HI,
  CCMD_ICC_HI,
  CCMD_REG,
  CCMD_SID_SHIFT_LO,
  DESC_CONTEXT,
  DESC_DID_SHIFT,
  DESC_GRANULARITY_SHIFT,
  DESC_IOTLB,
  GCMD_QIE,
  GCMD_REG,
  GCMD_WBF,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_PAGE,
  GSTS_REG,
  IOTLB_DESC_DR,
  IOTLB_DESC_DW,
  IOTLB_DESC_IH_W2,
  IOTLB_DR_HI,
  IOTLB_DW_HI,
  IOTLB_IIRG_SHIFT_HI,
  IOTLB_IVT_HI,
} = vtd;
/** As MAX_TURNS of queue.ts. */
const MAX_POLLS = 250_000;
/** A mask no unit supports: the caller falls back to the whole domain. */
export const MASK_TOO_WIDE = 52;
const INT_LIMIT: number = 2 ** 31;
const PAGES_PER_4G: number = 2 ** 20;

/**
 * Address mask (log2 of the page count) that covers [pfn, pfn + nrPages) with one page-selective invalidation.
 * `none` rounds the count up and trusts the start to be aligned, which loses the tail of an unaligned range.
 */
export function psiMask(pfn: number, nrPages: number, alignment: IntelPreset['psiAlignment']): number {
  if (nrPages === 1) return 0;
  const mask = nrPages <= INT_LIMIT ? 32 - Math.clz32(nrPages - 1) : log2Ceil(nrPages);
  if (alignment === 'none') return mask;
  // Both fit an int32 for all ranges but huge ones; the remainder of doubles is a library call of 20 ns, a power another.
  if (mask < 31) {
    if ((pfn & ((1 << mask) - 1)) === 0) return mask;
  } else if (pfn % 2 ** mask === 0) {
    return mask;
  }
  // A range shorter than 2^mask crosses at most one multiple of it, so from `mask` upwards first and last page differ in one
  // unbroken run of bits; the first position at which they agree again is the narrowest mask that covers both.
  const differing = xor53(pfn, pfn + nrPages - 1);
  for (let bit = mask; bit < MASK_TOO_WIDE; bit++) {
    if (Math.floor(differing / 2 ** bit) % 2 === 0) return bit;
  }
  return MASK_TOO_WIDE;
}

export class Invalidator {
  readonly #platform: Platform;
  readonly #base: number;
  readonly #caps: VtdCaps;
  readonly #preset: IntelPreset;
  readonly #queue: InvalidationQueue | null;
  readonly #drain: number;
  readonly #alignsBase: boolean;
  #gcmd: number;

  /** @param gcmd sticky bits of GCMD in force, needed because a write-buffer flush must repeat them */
  constructor(platform: Platform, base: number, caps: VtdCaps, preset: IntelPreset) {
    this.#platform = platform;
    this.#base = base;
    this.#caps = caps;
    this.#preset = preset;
    this.#drain = (caps.drainsReads ? IOTLB_DESC_DR : 0) | (caps.drainsWrites ? IOTLB_DESC_DW : 0);
    this.#alignsBase = preset.psiAlignment === 'base';
    this.#gcmd = 0;
    this.#queue = caps.queuedInvalidation ? new InvalidationQueue(platform, base) : null;
    if (this.#queue !== null) this.enable(GCMD_QIE);
  }

  /** Sets a sticky bit of GCMD and waits until the status follows. @returns 0 or ETIMEDOUT */
  enable(bit: number): number {
    this.#gcmd |= bit;
    this.#platform.writel(this.#base + GCMD_REG, this.#gcmd);
    return this.#poll(GSTS_REG, bit, bit);
  }

  /** Clears a sticky bit of GCMD and waits. @returns 0 or ETIMEDOUT */
  disable(bit: number): number {
    this.#gcmd &= ~bit;
    this.#platform.writel(this.#base + GCMD_REG, this.#gcmd);
    return this.#poll(GSTS_REG, bit, 0);
  }

  /** Sends a one-shot command (SRTP) and waits until its status bit shows. @returns 0 or ETIMEDOUT */
  command(bit: number): number {
    this.#platform.writel(this.#base + GCMD_REG, this.#gcmd | bit);
    return this.#poll(GSTS_REG, bit, bit);
  }

  #poll(register: number, mask: number, wanted: number): number {
    for (let i = 0; i < MAX_POLLS; i++) {
      if ((this.#platform.readl(this.#base + register) & mask) === wanted) return 0;
      this.#platform.relax();
    }
    return ETIMEDOUT;
  }

  /** Makes table stores reach memory where CAP.RWBF says that a chipset buffer may hold them back; nothing otherwise. */
  flushWriteBuffer(): number {
    if (!this.#caps.needsWriteBufferFlush) return 0;
    this.#platform.writel(this.#base + GCMD_REG, this.#gcmd | GCMD_WBF);
    return this.#poll(GSTS_REG, GCMD_WBF, 0);
  }

  /** Drops context entries. @param granularity GRANULARITY_GLOBAL, _DOMAIN or _DEVICE */
  context(granularity: number, did: number, sid: number): number {
    if (this.#queue !== null) {
      return this.descriptor(
        DESC_CONTEXT | (granularity << DESC_GRANULARITY_SHIFT) | (did << DESC_DID_SHIFT),
        sid,
        0,
        0,
      );
    }
    const hi = CCMD_ICC_HI | (granularity << CCMD_CIRG_SHIFT_HI);
    this.#platform.writeq(this.#base + CCMD_REG, (sid << CCMD_SID_SHIFT_LO) | did, hi);
    return this.#poll(CCMD_REG + 4, CCMD_ICC_HI, 0);
  }

  /** Drops everything the IOTLB and the paging-structure caches hold. */
  iotlbGlobal(): number {
    return this.iotlb(GRANULARITY_GLOBAL, 0, 0, 0, 0);
  }

  /** Drops everything held for a domain (DSI). */
  iotlbDomain(did: number): number {
    return this.iotlb(GRANULARITY_DOMAIN, did, 0, 0, 0);
  }

  /**
   * Drops what is held for a range of pages of a domain: one page-selective invalidation (PSI), or the whole domain when
   * the unit cannot select pages or the mask is wider than MAMV.
   * @param leavesOnly sets the IH hint: no table entry above the leaves changed. Wrong use leaves stale paths cached.
   */
  iotlbPages(did: number, pfn: number, nrPages: number, leavesOnly: boolean): number {
    const mask = psiMask(pfn, nrPages, this.#preset.psiAlignment);
    if (!this.#caps.pageSelective || mask > this.#caps.maxAddressMask) return this.iotlbDomain(did);
    // Kernels from 6.10 on align the address to the mask.
    let base = pfn;
    if (mask > 0 && this.#alignsBase) base = mask < 31 ? pfn - (pfn & ((1 << mask) - 1)) : pfn - (pfn % 2 ** mask);
    const hint = leavesOnly ? IOTLB_DESC_IH_W2 : 0;
    // Address words of a page number below 2^52.
    return this.iotlb(GRANULARITY_PAGE, did, base << 12, (base / PAGES_PER_4G) | 0, hint | mask);
  }

  /** Queues one descriptor and waits for it. @returns as InvalidationQueue.submit; EINVAL on a unit without a queue */
  protected descriptor(w0: number, w1: number, w2: number, w3: number): number {
    const queue = this.#queue;
    if (queue === null) return EINVAL;
    queue.add(w0, w1, w2, w3);
    return queue.submit();
  }

  /** Any IOTLB invalidation: `low` are the bits below the address, hint and mask. */
  protected iotlb(granularity: number, did: number, addressLo: number, addressHi: number, low: number): number {
    if (this.#queue !== null) {
      const w0 = DESC_IOTLB | (granularity << DESC_GRANULARITY_SHIFT) | this.#drain | (did << DESC_DID_SHIFT);
      return this.descriptor(w0, 0, addressLo | low, addressHi);
    }
    return this.#iotlbByRegister(granularity, did, addressLo | low, addressHi);
  }

  #iotlbByRegister(granularity: number, did: number, addressLo: number, addressHi: number): number {
    const iva = this.#base + this.#caps.iotlbOffset;
    if (granularity === GRANULARITY_PAGE) this.writeAddress(iva, addressLo, addressHi);
    let hi = IOTLB_IVT_HI | (granularity << IOTLB_IIRG_SHIFT_HI) | did;
    if (this.#caps.drainsReads) hi |= IOTLB_DR_HI;
    if (this.#caps.drainsWrites) hi |= IOTLB_DW_HI;
    this.#platform.writeq(iva + 8, 0, hi);
    return this.#poll(this.#caps.iotlbOffset + 12, IOTLB_IVT_HI, 0);
  }

  /** IVA_REG. Linux skips this write when the value is 0 and so reuses the last address for page 0 (bug 32). */
  protected writeAddress(register: number, lo: number, hi: number): void {
    this.#platform.writeq(register, lo, hi);
  }
}
