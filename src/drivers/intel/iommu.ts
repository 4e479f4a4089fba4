/**
 * The Intel IOMMU driver: IommuOps over VT-d registers and memory, legacy mode, second-stage tables.
 * Linux drivers/iommu/intel/iommu.c and cache.c of the kernels in preset.ts; specification sections 6.1 (caching mode),
 * 6.5 (invalidation), 6.8 (write buffer).
 *
 * What must be invalidated, and why:
 * - an entry that was not present and now is: only when the unit may cache "not present" (CAP.CM), then page-selective with
 *   the domain's id and never with the IH hint, because entries above the leaf may be cached as not present too. Otherwise a
 *   write-buffer flush, where the chipset needs one;
 * - an entry that was present: page-selective; IH only when no table went away with it;
 * - a context entry that was not present: under CAP.CM, device-selective under domain id 0 (the tag of such entries), then
 *   the new domain's IOTLB, where walks through the old state may have left something.
 */
import { EBUSY, EINVAL, ENODEV, paddrOf } from '../../base/index.ts';
import type { Device, DomainType, IommuDomain, IommuOps, IotlbGather, Mapped, ResvRegion } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import { VtdSsFormat, vtdPgsizeBitmap } from '../../pt/index.ts';
import { vtd } from '../../spec/index.ts';
import type { MapFlush } from '../flush-policy.ts';
import { IntelDomain } from './domain.ts';
import type { IntelPreset } from './preset.ts';
import { intelPreset } from './preset.ts';
import type { IntelParts } from './unit.ts';
import { INTEL_PARTS, VtdUnitDriver } from './unit.ts';

const SIZE_4K = 2 ** 12;

/** Where units are and what they serve: what firmware tells in the DMAR table. */
export interface UnitScope {
  /** Physical address of the register window. */
  readonly base: number;
  /** Whether the unit serves a requester id. Default: every one. */
  readonly serves?: (sid: number) => boolean;
}

export interface IntelIommuOptions {
  /** Name of a kernel, see INTEL_PRESETS, or a kernel that there never was. */
  readonly preset: string | IntelPreset;
  /** Overrides where the preset's kernel flushes after a map. */
  readonly mapFlush?: MapFlush;
  readonly units: readonly UnitScope[];
  /** Reserved regions of a device besides the interrupt range (RMRRs, the ISA bridge's first 16 MiB). */
  readonly resvRegions?: (device: Device) => readonly ResvRegion[];
  /** Classes in the place of the driver's own. */
  readonly parts?: Partial<IntelParts>;
}

const INTERRUPT_RANGE: ResvRegion = {
  start: vtd.INTERRUPT_RANGE_FIRST,
  nrBytes: vtd.INTERRUPT_RANGE_LAST - vtd.INTERRUPT_RANGE_FIRST + 1,
  type: 'msi',
  prot: 0,
};

interface DeviceState {
  readonly unit: VtdUnitDriver;
  domain: IntelDomain | null;
}

export class IntelIommu implements IommuOps {
  readonly name: string = 'intel-iommu';
  readonly preset: IntelPreset;
  readonly mapFlush: MapFlush;
  readonly forcesStrict: boolean;
  readonly #platform: Platform;
  readonly #parts: IntelParts;
  readonly #units: readonly { readonly unit: VtdUnitDriver; readonly serves: (sid: number) => boolean }[];
  readonly #devices = new Map<number, DeviceState>();
  readonly #resvRegions: (device: Device) => readonly ResvRegion[];
  // Of the call under way, so that none allocates.
  readonly #mapped: Mapped = { bytes: 0 };
  readonly #freelist: number[] = [];
  /** Present on kernels whose DMA API mapped scatterlists past the core. */
  readonly mapSgDirect?: NonNullable<IommuOps['mapSgDirect']>;

  /** Brings all units up. @throws RangeError for an unknown preset, no units, or no memory */
  constructor(platform: Platform, options: IntelIommuOptions) {
    if (options.units.length === 0) throw new RangeError('IntelIommu needs at least one unit');
    this.#platform = platform;
    this.#parts = { ...INTEL_PARTS, ...options.parts };
    this.preset = intelPreset(options.preset);
    this.mapFlush = options.mapFlush ?? this.preset.mapFlush;
    this.#resvRegions = options.resvRegions ?? ((): readonly ResvRegion[] => []);
    this.#units = options.units.map(({ base, serves }) => ({
      unit: new VtdUnitDriver(platform, base, this.preset, this.#parts),
      serves: serves ?? ((): boolean => true),
    }));
    this.forcesStrict = this.preset.cachingModeIsStrict && this.#units.some(({ unit }) => unit.caps.cachingMode);
    if (this.preset.mapSgDirect) {
      this.mapSgDirect = (domain, iova, chunks, nr, prot): number =>
        this.#mapSgDirect(domain as IntelDomain, iova, chunks, nr, prot);
    }
  }

  domainAlloc(type: DomainType): IommuDomain | null {
    // Every domain must work behind every unit: the fewest levels and the smallest set of page sizes.
    const levels = Math.min(...this.#units.map(({ unit }) => unit.levels));
    const all = (test: (unit: VtdUnitDriver) => boolean): boolean => this.#units.every(({ unit }) => test(unit));
    const superpage2M = all((unit) => unit.caps.superpage2M);
    const superpage1G = superpage2M && all((unit) => unit.caps.superpage1G);
    const apertureLast = 2 ** Math.min(levels * 9 + 12, ...this.#units.map(({ unit }) => unit.caps.addressWidth)) - 1;
    const leafSizes = vtdPgsizeBitmap((superpage2M ? 1 : 0) | (superpage1G ? 2 : 0));
    // The old drivers claimed every power of two (0xfff...f000) so that the core would not split what they split themselves.
    const pgsizeBitmap = this.preset.anyPageSize ? 2 ** 48 - SIZE_4K : leafSizes;
    if (type !== 'paging') return new IntelDomain(type, this, pgsizeBitmap, apertureLast, null);
    const { mem, pages } = this.#platform;
    const coherent = all((unit) => unit.caps.coherent);
    const table = new this.#parts.PageTable(mem, pages, new VtdSsFormat(leafSizes), levels, {
      ...(coherent ? {} : { onWritten: (paddr, nrBytes): void => this.#platform.clflush(paddr, nrBytes) }),
      onTableReplaced: (iova, nrBytes, freelist): void => this.tableReplaced(domain, iova, nrBytes, freelist),
    });
    if (table.rootPfn < 0) return null;
    const domain = new IntelDomain(type, this, pgsizeBitmap, apertureLast, table);
    return domain;
  }

  domainFree(domain: IommuDomain): void {
    const intel = domain as IntelDomain;
    if (intel.attachments.length > 0) throw new RangeError('domainFree: devices are still attached');
    intel.table?.destroy();
  }

  probeDevice(device: Device): number {
    const found = this.#units.find(({ serves }) => serves(device.sid));
    if (found === undefined) return ENODEV;
    if (!this.#devices.has(device.sid)) this.#devices.set(device.sid, { unit: found.unit, domain: null });
    return 0;
  }

  releaseDevice(device: Device): void {
    const state = this.#devices.get(device.sid);
    if (state === undefined) return;
    if (state.domain !== null) this.detachDev(state.domain, device);
    this.#devices.delete(device.sid);
  }

  attachDev(domain: IommuDomain, device: Device): number {
    const state = this.#devices.get(device.sid);
    if (state === undefined) return ENODEV;
    const intel = domain as IntelDomain;
    if (intel.ops !== this) return EINVAL;
    const before = state.domain;
    if (before === intel) return 0;
    const { caps } = state.unit;
    // What the unit cannot walk it would refuse in the context entry, as a fault on every DMA.
    if (intel.type === 'identity' && !caps.passThrough) return EINVAL;
    if (intel.table !== null && !caps.levels.includes(intel.table.levels)) return EINVAL;
    if (before !== null) this.detachDev(before, device);
    const result = this.#attach(intel, device, state);
    // The old attachment comes back: the id that detaching freed, if it did, is still free.
    if (result !== 0 && before !== null) this.#attach(before, device, state);
    return result;
  }

  /** Attaches a device that is detached. @returns 0, EBUSY (no id left), ENOMEM, ETIMEDOUT; it stays detached then */
  #attach(intel: IntelDomain, device: Device, state: DeviceState): number {
    if (intel.type === 'blocked') {
      state.domain = intel;
      return 0;
    }
    const { unit } = state;
    let attachment = intel.attachmentOn(unit);
    if (attachment === undefined) {
      const did = unit.allocDid();
      if (did < 0) return EBUSY;
      attachment = { unit, did, nrDevices: 0 };
      intel.attachments.push(attachment);
    }
    const { did } = attachment;
    const root = intel.table === null ? 0 : paddrOf(intel.table.rootPfn);
    const type = intel.type === 'identity' ? vtd.TT_PASS_THROUGH : vtd.TT_MULTI_LEVEL;
    let result = unit.contexts.set(device.sid, type, root, intel.table?.levels ?? unit.levels, did);
    if (result !== 0) {
      if (attachment.nrDevices === 0) this.#dropAttachment(intel, unit);
      return result;
    }
    attachment.nrDevices += 1;
    state.domain = intel;
    if (unit.caps.cachingMode) {
      result = unit.invalidate.context(vtd.GRANULARITY_DEVICE, 0, device.sid);
      if (result === 0) result = unit.invalidate.iotlbDomain(did);
    } else {
      result = unit.invalidate.flushWriteBuffer();
    }
    if (result !== 0) this.detachDev(intel, device);
    return result;
  }

  detachDev(domain: IommuDomain, device: Device): void {
    const state = this.#devices.get(device.sid);
    if (state === undefined || state.domain !== domain) return;
    state.domain = null;
    const intel = domain as IntelDomain;
    const { unit } = state;
    const attachment = intel.attachmentOn(unit);
    if (attachment === undefined) return;
    unit.contexts.clear(device.sid);
    unit.invalidate.context(vtd.GRANULARITY_DEVICE, attachment.did, device.sid);
    unit.invalidate.iotlbDomain(attachment.did);
    attachment.nrDevices -= 1;
    if (attachment.nrDevices === 0) this.#dropAttachment(intel, unit);
  }

  #dropAttachment(domain: IntelDomain, unit: VtdUnitDriver): void {
    const at = domain.attachments.findIndex((attachment) => attachment.unit === unit);
    const [gone] = domain.attachments.splice(at, 1);
    if (gone !== undefined) unit.freeDid(gone.did);
  }

  getResvRegions(device: Device): readonly ResvRegion[] {
    return [...this.#resvRegions(device), INTERRUPT_RANGE];
  }

  mapPages(
    domain: IommuDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number {
    const intel = domain as IntelDomain;
    if (intel.table === null) {
      mapped.bytes = 0;
      return EINVAL;
    }
    // Kernels that name real leaf sizes had the core split the range already.
    const result = this.preset.anyPageSize
      ? intel.table.mapBytes(iova, paddr, pgsize * pgcount, prot, mapped)
      : intel.table.mapRange(iova, paddr, pgsize, pgcount, prot, mapped);
    if (this.mapFlush !== 'map' || mapped.bytes === 0) return result;
    const flushed = this.#flushNotPresent(intel, iova, mapped.bytes);
    return result === 0 ? flushed : result;
  }

  #mapSgDirect(domain: IntelDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    const { table } = domain;
    if (table === null || nr === 0) return EINVAL;
    const mapped = this.#mapped;
    let total = 0;
    let result = 0;
    for (let i = 0; i < nr && result === 0; i++) {
      result = table.mapBytes(iova + total, chunks[2 * i], chunks[2 * i + 1], prot, mapped);
      total += mapped.bytes;
    }
    if (result === 0 && (this.mapFlush === 'map' || this.mapFlush === 'sync-map')) {
      result = this.#flushNotPresent(domain, iova, total);
    }
    if (result !== 0) {
      const freelist: number[] = [];
      if (total > 0) table.unmapBytes(iova, total, freelist);
      this.flushPages(domain, iova, total, freelist.length === 0);
      this.#freeTables(freelist);
    }
    return result;
  }

  unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const intel = domain as IntelDomain;
    const { table } = intel;
    if (table === null) return 0;
    const freelist = this.#freelist;
    const nrBytes = table.unmapBytes(iova, pgsize * pgcount, freelist);
    // A flush queue drops the whole domain later: tracking ranges for it would be work for nothing, and a disjoint range
    // would even be synced at once.
    if (nrBytes > 0 && !gather.queued) gather.addPage(this, domain, iova, nrBytes);
    // Only now: addPage may have synced what was gathered before, and a sync frees the freelist without having covered the
    // range that these tables served. (Linux 6.1 to 6.12 hands them over first, and has that window.)
    if (freelist.length !== 0) {
      // A loop: a spread puts every page on the stack, and a large range frees more than fit there.
      for (let i = 0; i < freelist.length; i++) gather.freelist.push(freelist[i]);
      freelist.length = 0;
    }
    return nrBytes;
  }

  iotlbSyncMap(domain: IommuDomain, iova: number, nrBytes: number): number {
    return this.mapFlush === 'sync-map' ? this.#flushNotPresent(domain as IntelDomain, iova, nrBytes) : 0;
  }

  flushNpCache(domain: IommuDomain, iova: number, nrBytes: number): void {
    this.#flushNotPresent(domain as IntelDomain, iova, nrBytes);
  }

  iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    if (!gather.isEmpty) {
      const nrBytes = gather.last + 1 - gather.start;
      this.flushPages(domain as IntelDomain, gather.start, nrBytes, gather.freelist.length === 0);
    } else if (gather.freelist.length > 0) {
      this.flushIotlbAll(domain);
    }
    this.#freeTables(gather.freelist);
  }

  flushIotlbAll(domain: IommuDomain): void {
    for (const { unit, did } of (domain as IntelDomain).attachments) unit.invalidate.iotlbDomain(did);
  }

  iovaToPhys(domain: IommuDomain, iova: number): number {
    return (domain as IntelDomain).table?.iovaToPhys(iova) ?? -1;
  }

  /** Present entries of a range went away. */
  protected flushPages(domain: IntelDomain, iova: number, nrBytes: number, leavesOnly: boolean): void {
    if (nrBytes === 0) return;
    const { attachments } = domain;
    const hint = leavesOnly && this.preset.unmapHint;
    for (let i = 0; i < attachments.length; i++) {
      const { unit, did } = attachments[i];
      unit.invalidate.iotlbPages(did, iova / SIZE_4K, nrBytes / SIZE_4K, hint);
    }
  }

  /**
   * Entries of a range became present (__mapping_notify_one, cache_tag_flush_range_np).
   * @returns 0 or the errno of a unit that did not answer: the range is then not visible to its devices. (Linux ignores it.)
   */
  #flushNotPresent(domain: IntelDomain, iova: number, nrBytes: number): number {
    const { attachments } = domain;
    let errno = 0;
    for (let i = 0; i < attachments.length; i++) {
      const { unit, did } = attachments[i];
      const result = unit.caps.cachingMode
        ? unit.invalidate.iotlbPages(did, iova / SIZE_4K, nrBytes / SIZE_4K, false)
        : unit.invalidate.flushWriteBuffer();
      if (result !== 0) errno = result;
    }
    return errno;
  }

  /**
   * A table gave way to a large leaf. Between the clearing of its entry and the writing of the leaf the caches must forget
   * the table, or a walk through a cached entry reads the freed page (bug 10 of the catalogue).
   */
  protected tableReplaced(domain: IntelDomain, iova: number, nrBytes: number, freelist: readonly number[]): void {
    this.flushPages(domain, iova, nrBytes, false);
    this.#freeTables(freelist);
  }

  #freeTables(freelist: readonly number[]): void {
    for (let i = 0; i < freelist.length; i++) this.#platform.pages.free(freelist[i]);
  }
}
