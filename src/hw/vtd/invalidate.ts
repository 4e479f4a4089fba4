/**
 * What an invalidation covers, the same for queued descriptors and for the registers. VT-d rev. 4.1 sections 6.5.1 and
 * 6.5.2: context cache by global, domain or device; IOTLB and paging-structure caches by global, domain or page.
 */
import { vtd } from '../../spec/index.ts';
import type { FullVtdConfig } from './config.ts';
import type { ContextCache } from './context.ts';
import type { Iotlb } from './iotlb.ts';
import type { PageCache } from './page-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const { GRANULARITY_DEVICE, GRANULARITY_DOMAIN, GRANULARITY_GLOBAL, GRANULARITY_PAGE, IVA_AM_MASK, IVA_IH } = vtd;

export class Invalidator {
  readonly #contexts: ContextCache;
  readonly #iotlb: Iotlb;
  readonly #pageCache: PageCache;
  readonly #psi: boolean;
  readonly #mamv: number;
  readonly #domainIsGlobal: boolean;

  constructor(contexts: ContextCache, iotlb: Iotlb, pageCache: PageCache, config: FullVtdConfig) {
    this.#contexts = contexts;
    this.#iotlb = iotlb;
    this.#pageCache = pageCache;
    this.#psi = config.psi;
    this.#mamv = config.mamv;
    this.#domainIsGlobal = config.contextDomainIsGlobal;
  }

  /**
   * Context-cache request. IOTLB entries stay: software has to follow up with an IOTLB request (6.5.2.2).
   * @returns the granularity performed, or 0 for the reserved one, with nothing done
   */
  context(granularity: number, domain: number, sid: number, functionMask: number): number {
    if (granularity === GRANULARITY_GLOBAL || (granularity === GRANULARITY_DOMAIN && this.#domainIsGlobal)) {
      this.#contexts.invalidateAll();
      return GRANULARITY_GLOBAL;
    }
    if (granularity === GRANULARITY_DOMAIN) this.#contexts.invalidateDomain(domain);
    else if (granularity === GRANULARITY_DEVICE) this.#contexts.invalidateDevice(domain, sid, functionMask);
    return granularity;
  }

  /**
   * IOTLB request.
   * @param addressLo @param addressHi address words as in a descriptor: IH in bit 6, AM in bits 5:0
   * @returns the granularity performed, or 0 for a reserved one or an address mask above MAMV, with nothing done
   */
  iotlb(granularity: number, domain: number, addressLo: number, addressHi: number): number {
    // Nearly all requests are of this kind.
    if (granularity === GRANULARITY_PAGE) {
      const maskLg2 = addressLo & IVA_AM_MASK;
      if (maskLg2 > this.#mamv) return 0;
      if (this.#psi) {
        // Page number words of the address; its bits below the mask do not count (6.5.1.2).
        let pageLo = (addressHi << 20) | (addressLo >>> 12);
        let pageHi = (addressHi >>> 12) & 0x1ff;
        pageLo = maskLg2 < 32 ? pageLo & -(1 << maskLg2) : 0;
        if (maskLg2 > 32) pageHi = maskLg2 >= 41 ? 0 : pageHi & -(1 << (maskLg2 - 32));
        this.#iotlb.invalidatePages(domain, pageHi, pageLo, maskLg2);
        // IH = 1: software promises that no non-leaf entry changed, so copies of them may stay (6.5.1.2).
        if ((addressLo & IVA_IH) === 0) this.#pageCache.invalidatePages(domain, pageHi, pageLo, maskLg2);
        return GRANULARITY_PAGE;
      }
    }
    return this.#wide(granularity, domain);
  }

  #wide(granularity: number, domain: number): number {
    if (granularity === GRANULARITY_GLOBAL) {
      this.#iotlb.invalidateAll();
      this.#pageCache.invalidateAll();
      return GRANULARITY_GLOBAL;
    }
    if (granularity === 0) return 0;
    this.#iotlb.invalidateDomain(domain);
    this.#pageCache.invalidateDomain(domain);
    return GRANULARITY_DOMAIN;
  }

  /** Everything, where a configuration says that SRTP or TE does so. */
  all(): void {
    this.#contexts.invalidateAll();
    this.#iotlb.invalidateAll();
    this.#pageCache.invalidateAll();
  }
}
