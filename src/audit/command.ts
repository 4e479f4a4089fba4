/**
 * What an invalidation command reaches, the same for both architectures: VT-d descriptors (specification rev. 4.1, 6.5.2) and
 * AMD-Vi commands (48882, 2.4) decoded to a domain and a range of pages.
 */
import { vtd, amdvi } from '../spec/index.ts';
import { selectedPages } from '../replay/index.ts';

/** What a command does to the caches of translations. */
export const Effect = {
  /** Nothing that the audit looks at: interrupt entries, device TLBs, pages of requests. */
  none: 0,
  /** Drops the translations of `nrPages` pages of a domain. */
  pages: 1,
  /** Drops all translations of a domain. */
  domain: 2,
  /** Drops all translations of a unit. */
  global: 3,
  /** Drops what is cached of a device's context entry, or device table entry. */
  context: 4,
  /** Reports that the commands before it are done. VT-d's waits are not traced: qi_submit returns when they are done. */
  wait: 5,
} as const;
export type Effect = (typeof Effect)[keyof typeof Effect];

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  DESC_CONTEXT,
  DESC_DID_SHIFT,
  DESC_GRANULARITY_SHIFT,
  DESC_IOTLB,
  DESC_PIOTLB,
  GRANULARITY_DEVICE,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_PAGE,
  IOTLB_DESC_AM_MASK_W2,
  IOTLB_DESC_IH_W2,
} = vtd;
const {
  CMD_COMPLETION_WAIT,
  CMD_DEVICE_MASK_W0,
  CMD_DOMAIN_MASK_W1,
  CMD_INVALIDATE_DEVTAB_ENTRY,
  CMD_INVALIDATE_IOMMU_ALL,
  CMD_INVALIDATE_IOMMU_PAGES,
  CMD_OP_SHIFT_W1,
  INV_ALL_PAGES_HI,
  INV_ALL_PAGES_LO,
  INV_PDE_W2,
  INV_SIZE_W2,
} = amdvi;
const TWO_20: number = 2 ** 20;
/** Domain ids of one unit: 16 bits. */
export const DOMAINS_PER_UNIT = 65536;
/** `device` of a command for every device. */
export const EVERY_DEVICE = -1;

/** One command, decoded; reused. */
export class Command {
  effect: Effect = Effect.none;
  /** Domain id, with the unit it belongs to: unit * DOMAINS_PER_UNIT + id. Every unit counts its own. */
  domain = 0;
  /** First page number, and how many pages. Of `pages` only. */
  start = 0;
  nrPages = 0;
  /** True when page-directory entries stay cached: IH set, or PDE clear. Of `pages` only. */
  keepsTables = false;
  /** Requester id, or EVERY_DEVICE. Of `context` only. */
  device = 0;

  /** An intel_iommu:qi_submit event. @param unit the number of its unit */
  vtd(words: Int32Array, unit: number): void {
    const w0 = words[0];
    const w2 = words[2];
    const type = w0 & 0xf;
    const granularity = (w0 >>> DESC_GRANULARITY_SHIFT) & 3;
    this.domain = unit * DOMAINS_PER_UNIT + (w0 >>> DESC_DID_SHIFT);
    this.effect = Effect.none;
    if (type === DESC_IOTLB || type === DESC_PIOTLB) {
      if (granularity === GRANULARITY_PAGE) {
        // The unit ignores the address bits below the mask.
        this.effect = Effect.pages;
        this.nrPages = 2 ** (w2 & IOTLB_DESC_AM_MASK_W2);
        const page = (words[3] >>> 0) * TWO_20 + (w2 >>> 12);
        this.start = page - (page % this.nrPages);
        this.keepsTables = (w2 & IOTLB_DESC_IH_W2) !== 0;
      } else if (granularity === GRANULARITY_DOMAIN) {
        // With a PASID: all pages of it. Linux gives a domain one PASID per device.
        this.effect = Effect.domain;
      } else if (granularity === GRANULARITY_GLOBAL && type === DESC_IOTLB) {
        this.effect = Effect.global;
      }
    } else if (type === DESC_CONTEXT) {
      this.effect = Effect.context;
      this.device = granularity === GRANULARITY_DEVICE ? words[1] & 0xffff : EVERY_DEVICE;
    }
  }

  /** A command of an AMD-Vi unit. Its record names no unit. */
  amd(words: Int32Array): void {
    const w2 = words[2];
    const w3 = words[3];
    const operation = words[1] >>> CMD_OP_SHIFT_W1;
    this.domain = words[1] & CMD_DOMAIN_MASK_W1;
    this.effect = Effect.none;
    if (operation === CMD_INVALIDATE_IOMMU_PAGES) {
      const page = (w3 >>> 0) * TWO_20 + (w2 >>> 12);
      const isOne = (w2 & INV_SIZE_W2) === 0;
      const isAll = !isOne && w3 === INV_ALL_PAGES_HI && (w2 & INV_ALL_PAGES_LO) === INV_ALL_PAGES_LO;
      this.keepsTables = (w2 & INV_PDE_W2) === 0;
      // All pages without the walk's entries is no flush of a domain.
      this.effect = isAll && !this.keepsTables ? Effect.domain : Effect.pages;
      this.nrPages = isOne ? 1 : isAll ? 2 ** 52 : selectedPages(page);
      this.start = isAll ? 0 : page - (page % this.nrPages);
    } else if (operation === CMD_INVALIDATE_IOMMU_ALL) {
      this.effect = Effect.global;
    } else if (operation === CMD_INVALIDATE_DEVTAB_ENTRY) {
      this.effect = Effect.context;
      this.device = words[0] & CMD_DEVICE_MASK_W0;
    } else if (operation === CMD_COMPLETION_WAIT) {
      this.effect = Effect.wait;
    }
  }
}
