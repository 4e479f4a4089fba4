/**
 * Doorbells of message-signalled interrupts: a device's interrupt is a write, and a write is translated. Where the hardware
 * does not exempt the doorbell (ARM; x86 does), its page is mapped once per domain and devices write to that IOVA instead
 * (iommu_dma_get_msi_page, iommu_dma_prepare_msi, iommu_dma_compose_msi_msg of drivers/iommu/dma-iommu.c, Linux 6.12).
 */
import { EINVAL, ENOMEM, PAGE_SIZE, alignDown, alignUp } from '../base/index.ts';
import { IOMMU_MMIO, IOMMU_NOEXEC, IOMMU_WRITE } from '../iommu/index.ts';
import type { Iommu, IommuDomain } from '../iommu/index.ts';
import { isByteRange } from './byte-range.ts';

/** Where doorbell pages get their IOVAs. */
export interface MsiIovas {
  /** @returns first byte, or a negative errno */
  alloc(nrBytes: number): number;
  free(iova: number, nrBytes: number): void;
}

export class MsiPages {
  readonly #core: Iommu;
  readonly #domain: IommuDomain;
  readonly #granule: number;
  /** IOVA of a doorbell page, by its physical address. */
  readonly #pages = new Map<number, number>();

  constructor(core: Iommu, domain: IommuDomain, granule: number) {
    this.#core = core;
    this.#domain = domain;
    this.#granule = granule;
  }

  get nrPages(): number {
    return this.#pages.size;
  }

  /** Enters a window that the hardware does not translate: its pages are their own IOVAs (cookie_init_hw_msi_region). */
  addUntranslated(start: number, end: number): void {
    const first = alignDown(start, this.#granule);
    const last = first + alignUp(end - first, this.#granule);
    for (let page = first; page < last; page += this.#granule) this.#pages.set(page, page);
  }

  /** The address a device writes to for a doorbell. Stays mapped until the domain goes. @returns it, or ENOMEM */
  doorbell(paddr: number, iovas: MsiIovas): number {
    if (!isByteRange(paddr, 1)) return EINVAL;
    const granule = this.#granule;
    const page = alignDown(paddr, granule);
    const known = this.#pages.get(page);
    if (known !== undefined) return known + (paddr - page);
    const iova = iovas.alloc(granule);
    if (iova < 0) return ENOMEM;
    if (this.#core.map(this.#domain, iova, page, granule, IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO) !== 0) {
      iovas.free(iova, granule);
      return ENOMEM;
    }
    this.#pages.set(page, iova);
    return iova + (paddr - page);
  }
}

/**
 * The MSI side alone, for a domain whose owner hands out IOVAs himself (iommu_get_msi_cookie: VFIO). Doorbells go from `base`
 * upwards; the owner keeps a region free there.
 */
export class MsiCookie {
  readonly pages: MsiPages;
  #next: number;

  constructor(core: Iommu, domain: IommuDomain, base: number) {
    this.pages = new MsiPages(core, domain, PAGE_SIZE);
    this.#next = base;
  }

  doorbell(paddr: number): number {
    return this.pages.doorbell(paddr, {
      alloc: (nrBytes) => {
        this.#next += nrBytes;
        return this.#next - nrBytes;
      },
      // Only ever the last one.
      free: (_iova, nrBytes) => {
        this.#next -= nrBytes;
      },
    });
  }
}
