/**
 * What an invalidation covers. AMD-Vi 48882 rev. 3.x sections 2.4.2 (device table entry), 2.4.3 (pages of a domain) and 2.4.8 (all).
 *
 * Size of a page request: with S = 0 one page of 4 KiB. With S = 1 the address codes it as an entry of next level 7 does: n
 * ones from bit 12 up, then a zero, make 4 KiB * 2^(n + 1), aligned to that; 0x7ffffffffffff000 is everything.
 */
import { ctz32 } from '../../base/index.ts';
import { amdvi } from '../../spec/index.ts';
import type { FullAmdviConfig } from './config.ts';
import type { DeviceTable } from './device-table.ts';
import type { AmdviIotlb } from './iotlb.ts';
import type { PdeCache } from './pde-cache.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const { INV_PDE_W2, INV_SIZE_W2 } = amdvi;
/** Bits of a page number that caches can hold; larger ranges are whole domains. */
const PAGE_BITS = 41;

export class AmdviInvalidator {
  readonly #devices: DeviceTable;
  readonly #iotlb: AmdviIotlb;
  readonly #pdeCache: PdeCache;
  readonly #dropsDomain: boolean;

  constructor(devices: DeviceTable, iotlb: AmdviIotlb, pdeCache: PdeCache, config: FullAmdviConfig) {
    this.#devices = devices;
    this.#iotlb = iotlb;
    this.#pdeCache = pdeCache;
    this.#dropsDomain = config.pagesDropDomain;
  }

  /** Device table entry. Translations of the domain stay: software follows up with INVALIDATE_IOMMU_PAGES. */
  device(sid: number): void {
    this.#devices.invalidateDevice(sid);
  }

  /** Pages of a domain. @param lo @param hi words 2 and 3 of the command: address, PDE, S */
  pages(domain: number, lo: number, hi: number): void {
    // The page number: its low 32 bits, and the 20 above of which caches hold nine.
    const pageLo = (hi << 20) | (lo >>> 12);
    const above = hi >>> 12;
    if ((lo & INV_SIZE_W2) !== 0 || above > 0x1ff || this.#dropsDomain) return this.#range(domain, lo, above, pageLo);
    // Nearly all requests are of this kind: one page.
    this.#iotlb.invalidatePages(domain, above, pageLo, 0);
    if ((lo & INV_PDE_W2) !== 0) this.#pdeCache.invalidatePages(domain, above, pageLo, 0);
  }

  /** Any other request. @param page low 32 bits of the page number, @param top the 20 above */
  #range(domain: number, flags: number, top: number, page: number): void {
    const withPdes = (flags & INV_PDE_W2) !== 0;
    // How many bits of the page number do not count: the ones up to the first zero, and that.
    const lg2 = (flags & INV_SIZE_W2) === 0 ? 0 : 1 + (page === -1 ? 32 + ctz32(~top) : ctz32(~page));
    const pageLo = lg2 < 32 ? page & -(1 << lg2) : 0;
    const above = lg2 <= 32 ? top : lg2 >= 52 ? 0 : top & -(1 << (lg2 - 32));
    if (this.#dropsDomain || (lg2 >= PAGE_BITS && above === 0)) {
      this.#iotlb.invalidateDomain(domain);
      if (withPdes) this.#pdeCache.invalidateDomain(domain);
      return;
    }
    // Nothing that high is ever cached.
    if (above > 0x1ff) return;
    this.#iotlb.invalidatePages(domain, above, pageLo, lg2);
    if (withPdes) this.#pdeCache.invalidatePages(domain, above, pageLo, lg2);
  }

  /** Everything, device table entries included. */
  all(): void {
    this.#devices.invalidateAll();
    this.#iotlb.invalidateAll();
    this.#pdeCache.invalidateAll();
  }
}
