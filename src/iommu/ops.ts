/**
 * The contract between the IOMMU core and a driver: struct iommu_ops / iommu_domain_ops of include/linux/iommu.h.
 * The ids in capitals (C-MAP-VISIBLE, ...) name the promises that DESIGN.md lists; whoever implements a callback owes the
 * sentences that carry one.
 *
 * The April 2019 question, answered by this interface: a caller of `iommuMap` may use the mapping as soon as the call
 * returned, so whatever "not present" the hardware may have cached must be gone by then. The core gives the driver two
 * places for it, inside `mapPages` or, batched, in `iotlbSyncMap`; `flushNpCache` is the rejected third one, called by a
 * caller of the core, kept here so that its failure (every other caller is broken) can be shown.
 */
import type { IotlbGather } from './gather.ts';

/** Access rights and attributes of a mapping (IOMMU_READ, ...). At least one of READ and WRITE must be set. */
export const IOMMU_READ = 1;
export const IOMMU_WRITE = 2;
export const IOMMU_CACHE = 4;
export const IOMMU_NOEXEC = 8;
export const IOMMU_MMIO = 16;

export type DomainType = 'paging' | 'identity' | 'blocked';

/**
 * A device as the core knows it. Having one means somebody named it; not that an IOMMU serves it.
 */
export interface Device {
  /** PCI address as the kernel prints it, `0000:00:04.0`. */
  readonly name: string;
  /** Requester id: bus << 8 | device << 3 | function. */
  readonly sid: number;
}

/**
 * An address space that devices can be attached to. Having one means tables exist (paging) or none are needed; it does not
 * mean that any device uses it. Drivers extend it with what they need.
 */
export interface IommuDomain {
  readonly type: DomainType;
  /** The driver that allocated it and serves it. */
  readonly ops: IommuOps;
  /** Supported leaf sizes as a sum of powers of two, in bytes. At most bit 52. */
  readonly pgsizeBitmap: number;
  /**
   * Lowest IOVA that can be mapped (aperture_start), a multiple of the smallest leaf. Default 0, as on all of x86. Who hands
   * out IOVAs keeps above it; the core, as Linux's, does not look.
   */
  readonly apertureStart?: number;
  /** Highest IOVA that can be mapped, inclusive (aperture_end). */
  readonly apertureLast: number;
  /** Called for faults the driver reports; see `reportIommuFault`. */
  faultHandler: FaultHandler | null;
}

/** @returns 0 when handled, a negative errno otherwise (ENOSYS-like: let the driver complain) */
export type FaultHandler = (domain: IommuDomain, device: Device, iova: number, flags: number) => number;

/** An IOVA range with a meaning of its own (struct iommu_resv_region). */
export interface ResvRegion {
  readonly start: number;
  readonly nrBytes: number;
  /**
   * `direct`: must be mapped one to one while the device is attached, so that the device cannot be a user's.
   * `direct-relaxable`: the same for its own kernel driver, but a user may do without it (USB, graphics: firmware is done with
   * it by then). `reserved`: keep out. `msi`: never translated. `software-msi`: where doorbells go in the domain of somebody
   * who hands out IOVAs himself, on hardware without an `msi` region.
   */
  readonly type: 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'software-msi';
  readonly prot: number;
}

/** Out-parameter of `mapPages`: how many bytes were mapped, also when it failed part way. */
export interface Mapped {
  bytes: number;
}

export interface IommuOps {
  readonly name: string;
  /**
   * The driver asked for strict unmapping of all domains (iommu_set_dma_strict), as a unit caches what is not present (CAP.CM,
   * NpCache): an emulated one, whose host a flush of everything costs more than any number of single ones. Default false.
   */
  readonly forcesStrict?: boolean;
  /** The driver cannot flush a domain later (no IOMMU_CAP_DEFERRED_FLUSH). Default false. */
  readonly cannotDeferFlush?: boolean;

  /** A new address space of a type, or null when the driver is out of ids or memory. */
  domainAlloc(type: DomainType): IommuDomain | null;

  /** Gives back ids and tables. No device may be attached. */
  domainFree(domain: IommuDomain): void;

  /** Takes a device under the driver's care (probe_device, formerly add_device). @returns 0 or ENODEV when no unit serves it */
  probeDevice(device: Device): number;

  /** Forgets a device; it must be detached (release_device, formerly remove_device). */
  releaseDevice(device: Device): void;

  /**
   * Makes a device use a domain, replacing the one it used before. C-ATTACH: at return every walk for that device uses the
   * new domain only, whatever the caches held. @returns 0 or a negative errno, with the old attachment in force
   */
  attachDev(domain: IommuDomain, device: Device): number;

  /** Takes a device off its domain; its DMA is blocked afterwards. C-ATTACH holds as for attachDev. */
  detachDev(domain: IommuDomain, device: Device): void;

  /** Ranges of this device the core and dma-iommu must respect (get_resv_regions). */
  getResvRegions(device: Device): readonly ResvRegion[];

  /**
   * Maps `pgcount` leaves of `pgsize` bytes at iova (map_pages; the older map() is pgcount 1). Precondition: the three are
   * multiples of pgsize, pgsize is one bit of pgsizeBitmap, nothing is mapped there. Writes entries in an order that never
   * shows a half-built path. Need not make them visible: the core calls `iotlbSyncMap` once afterwards (C-MAP-VISIBLE is due
   * then). A driver under the `map` policy flushes here instead. May fail part way; `mapped.bytes` says how far it got.
   * @returns 0, or EADDRINUSE (something is mapped there), ENOMEM, EINVAL
   */
  mapPages(
    domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number;

  /**
   * Clears up to `pgcount` leaves of `pgsize` bytes. May not fail and may not allocate when the range was mapped so. What
   * must be invalidated goes into the gather, tables that became empty into its freelist (C-TABLE-LIVE: not to be freed
   * before the invalidation completed). @returns bytes unmapped: 0 when nothing was there, more than asked when a larger
   * leaf covered the range
   */
  unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number;

  /**
   * Called once per iommu_map() or iommu_map_sg(), after the last mapPages, with the whole range. C-MAP-VISIBLE: at return
   * every possible walk of every page in it gives the new page with the new rights. @returns 0 or a negative errno, after
   * which the core unmaps the range again (C-ROLLBACK: nobody may then see any part of it)
   */
  iotlbSyncMap(domain: IommuDomain, iova: number, nrBytes: number): number;

  /**
   * Ends an unmap. C-UNMAP-GONE: at return no possible walk gives a page that was gathered; then, and only then, the
   * freelist goes back to the allocator (C-TABLE-LIVE).
   */
  iotlbSync(domain: IommuDomain, gather: IotlbGather): void;

  /** Drops everything cached for a domain (flush_iotlb_all). What the flush queue uses: C-LAZY-BOUND rests on it. */
  flushIotlbAll(domain: IommuDomain): void;

  /**
   * The callback proposed in April 2019: drop cached not-present entries of a range. Called by dma-iommu after a mapping
   * under the `caller` policy only. A core that relied on it would leave C-MAP-VISIBLE to each of its callers.
   */
  flushNpCache(domain: IommuDomain, iova: number, nrBytes: number): void;

  /** Where an IOVA leads according to the tables in memory, as a physical byte address; -1 when not mapped. */
  iovaToPhys(domain: IommuDomain, iova: number): number;

  /**
   * Optional, drivers before v5.11: a whole scatterlist written in one driver call (intel_map_sg -> __domain_mapping), past
   * the core. `chunks` holds `nr` pairs (paddr, bytes), page aligned, mapped from iova on without gap. Flushes by its own
   * policy, once. @returns 0 or a negative errno with nothing left mapped
   */
  mapSgDirect?(domain: IommuDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number;
}
