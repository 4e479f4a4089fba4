/**
 * The AMD IOMMU driver: IommuOps over AMD-Vi registers and memory, host tables of version 1.
 * Linux drivers/iommu/amd/{iommu,init,io_pgtable}.c of the kernels in preset.ts; AMD 48882 sections 2.2 (tables), 2.4
 * (commands), 2.5 (events).
 *
 * What must be invalidated, and why:
 * - an entry that was not present and now is: only when a unit may cache "not present" (NpCache), and then with the PDE bit,
 *   since the absence of a table above the leaf may be cached too;
 * - an entry that was present: its range, always;
 * - a device table entry: the command for the entry, always, NpCache or not. What the domain's id may have been used for
 *   before is another matter, and kernels differ in whether they care (`flushesAtAttach`).
 *
 * Tables grow: they start with three levels, and a mapping above their reach puts a new root on top, which every device table
 * entry of the domain must then name.
 */
import { EINVAL, ENODEV, paddrOf } from '../../base/index.ts';
import type {
  Device,
  DomainType,
  IommuDomain,
  IommuOps,
  IommuTracer,
  IotlbGather,
  Mapped,
  ResvRegion,
} from '../../iommu/index.ts';
import { FAULT_READ, FAULT_WRITE, reportIommuFault } from '../../iommu/index.ts';
import type { Platform } from '../../mem/index.ts';
import { AMD_V1_PGSIZES, AmdV1Format, PageTable } from '../../pt/index.ts';
import { amdvi } from '../../spec/index.ts';
import type { MapFlush } from '../flush-policy.ts';
import { invalidateAllPages, invalidateDevtabEntry } from './commands.ts';
import { DeviceTable } from './device-table.ts';
import { AmdDomain } from './domain.ts';
import type { AmdDevice } from './domain.ts';
import type { AmdEvent } from './event-log.ts';
import { DomainFlusher } from './flush.ts';
import { amdPreset } from './preset.ts';
import type { AmdPreset } from './preset.ts';
import { AmdUnitDriver } from './unit.ts';
import type { AmdUnitScope } from './unit.ts';

const SIZE_4K = 4096;
/** The classes that the driver is made of. A test puts a subclass with a bug in the place of one. */
export interface AmdParts {
  readonly PageTable: typeof PageTable;
  readonly DomainFlusher: typeof DomainFlusher;
}

const AMD_PARTS: AmdParts = { PageTable, DomainFlusher };

/** DEFAULT_PGTABLE_LEVEL. */
const FIRST_LEVELS = 3;
/** All that the arithmetic here can tell apart; Linux says ~0, and grows its tables up to six levels for it. */
const APERTURE_LAST = 2 ** 52 - 1;

export interface AmdIommuOptions {
  /** Name of a kernel, see AMD_PRESETS, or a kernel that there never was. */
  readonly preset: string | AmdPreset;
  /** Overrides where the preset's kernel flushes after a map. */
  readonly mapFlush?: MapFlush;
  readonly units: readonly AmdUnitScope[];
  /** Last device id that firmware's IVRS table names. Default 0xffff, as with an entry for all devices. */
  readonly lastBdf?: number;
  /** The id that requests of a device carry instead of its own, from the IVRS table. Default: none do. */
  readonly aliasOf?: (sid: number) => number;
  /** Reserved regions of a device besides the interrupt and the HyperTransport range. */
  readonly resvRegions?: (device: Device) => readonly ResvRegion[];
  /** Classes in the place of the driver's own. */
  readonly parts?: Partial<AmdParts>;
}

const FIXED_REGIONS: readonly ResvRegion[] = [
  {
    start: amdvi.INTERRUPT_RANGE_FIRST,
    nrBytes: amdvi.INTERRUPT_RANGE_LAST - amdvi.INTERRUPT_RANGE_FIRST + 1,
    type: 'msi',
    prot: 0,
  },
  // HT_RANGE_START, HT_RANGE_END: what HyperTransport uses for itself.
  { start: 0xfd00000000, nrBytes: 0x300000000, type: 'reserved', prot: 0 },
];

export class AmdIommu implements IommuOps {
  readonly name: string = 'amd-iommu';
  readonly preset: AmdPreset;
  readonly mapFlush: MapFlush;
  /** Some unit may cache what is not present: one switch for all (amd_iommu_np_cache). */
  readonly npCache: boolean;
  readonly forcesStrict: boolean;
  readonly deviceTable: DeviceTable;
  readonly #platform: Platform;
  readonly #parts: AmdParts;
  readonly #units: readonly { readonly unit: AmdUnitDriver; readonly serves: (sid: number) => boolean }[];
  readonly #flusher: DomainFlusher;
  readonly #format: AmdV1Format = new AmdV1Format();
  readonly #devices = new Map<number, AmdDevice>();
  readonly #didUsed: Uint8Array = new Uint8Array(65536);
  readonly #aliasOf: (sid: number) => number;
  readonly #resvRegions: (device: Device) => readonly ResvRegion[];
  // Of the call under way, so that none allocates.
  readonly #mapped: Mapped = { bytes: 0 };
  readonly #freelist: number[] = [];
  /** The last mapping past the core was a scatterlist, which the DMA API of these kernels does not flush. */
  #lastWasSg = false;
  /** Present on kernels whose DMA API mapped past the core. */
  readonly mapSgDirect?: NonNullable<IommuOps['mapSgDirect']>;

  /**
   * Brings all units up. Device table entries are still open then: `completeInit` closes those that nobody attached.
   * @throws RangeError for an unknown preset, no units, or no memory
   */
  constructor(platform: Platform, options: AmdIommuOptions) {
    if (options.units.length === 0) throw new RangeError('AmdIommu needs at least one unit');
    this.#platform = platform;
    this.#parts = { ...AMD_PARTS, ...options.parts };
    this.preset = amdPreset(options.preset);
    this.mapFlush = options.mapFlush ?? this.preset.mapFlush;
    this.#aliasOf = options.aliasOf ?? ((sid): number => sid);
    this.#resvRegions = options.resvRegions ?? ((): readonly ResvRegion[] => []);
    this.deviceTable = new DeviceTable(platform, options.lastBdf ?? 0xffff);
    this.#units = options.units.map((scope) => ({
      unit: new AmdUnitDriver(platform, scope, this.deviceTable, this.preset),
      serves: scope.serves ?? ((): boolean => true),
    }));
    this.npCache = this.#units.some(({ unit }) => unit.npCache);
    this.forcesStrict = this.preset.npCacheIsStrict && this.npCache;
    this.#flusher = new this.#parts.DomainFlusher(this.preset, this.npCache);
    // Id 0 means "none" in a device table entry.
    this.#didUsed[0] = 1;
    if (this.preset.mapSgDirect) {
      this.mapSgDirect = (domain, iova, chunks, nr, prot): number =>
        this.#mapSgDirect(domain as AmdDomain, iova, chunks, nr, prot);
    }
  }

  /**
   * The end of amd_iommu_init_pci, after the devices found at boot were attached: closes the table's other entries, whose
   * devices could reach all memory until now, and flushes everything once more.
   */
  completeInit(): void {
    this.deviceTable.closeUnused();
    for (const { unit } of this.#units) unit.flushAllCaches();
  }

  domainAlloc(type: DomainType): IommuDomain | null {
    if (type === 'blocked') return new AmdDomain(type, this, AMD_V1_PGSIZES, APERTURE_LAST, 0, null);
    const did = this.#didUsed.indexOf(0);
    if (did < 0) return null;
    if (type === 'identity') {
      this.#didUsed[did] = 1;
      return new AmdDomain(type, this, AMD_V1_PGSIZES, APERTURE_LAST, did, null);
    }
    const { mem, pages } = this.#platform;
    const table = new this.#parts.PageTable(mem, pages, this.#format, FIRST_LEVELS, {
      keepTables: true,
      partialUnmap: 'whole-leaf',
      // Kept until the whole call is flushed: the tables hold nothing, so until then a walk through a cached entry only misses.
      onTableReplaced: (_iova, _nrBytes, freelist): void => {
        for (let i = 0; i < freelist.length; i++) domain.replaced.push(freelist[i]);
      },
    });
    if (table.rootPfn < 0) return null;
    this.#didUsed[did] = 1;
    const domain = new AmdDomain(type, this, AMD_V1_PGSIZES, APERTURE_LAST, did, table);
    return domain;
  }

  domainFree(domain: IommuDomain): void {
    const amd = domain as AmdDomain;
    if (amd.devices.length > 0) throw new RangeError('domainFree: devices are still attached');
    amd.table?.destroy();
    if (amd.did !== 0) this.#didUsed[amd.did] = 0;
  }

  probeDevice(device: Device): number {
    const { sid } = device;
    const found = this.#units.find(({ serves }) => serves(sid));
    if (found === undefined || sid > this.deviceTable.lastBdf) return ENODEV;
    if (this.#devices.has(sid)) return 0;
    const alias = this.#aliasOf(sid);
    this.#devices.set(sid, { device, unit: found.unit, sids: alias === sid ? [sid] : [sid, alias], domain: null });
    return 0;
  }

  releaseDevice(device: Device): void {
    const member = this.#devices.get(device.sid);
    if (member === undefined) return;
    if (member.domain !== null) this.detachDev(member.domain, device);
    this.#devices.delete(device.sid);
  }

  attachDev(domain: IommuDomain, device: Device): number {
    const member = this.#devices.get(device.sid);
    if (member === undefined) return ENODEV;
    const amd = domain as AmdDomain;
    if (amd.ops !== this) return EINVAL;
    const before = member.domain;
    if (before === amd) return 0;
    if (before !== null) this.detachDev(before, device);
    const result = this.#attach(amd, member);
    if (result !== 0 && before !== null) this.#attach(before, member);
    return result;
  }

  /** Attaches a device that is detached. @returns 0 or ETIMEDOUT; it stays detached then */
  #attach(domain: AmdDomain, member: AmdDevice): number {
    member.domain = domain;
    if (domain.type === 'blocked') return this.#closeEntries(member);
    domain.add(member);
    let result = this.#openEntries(domain, member);
    if (result === 0) result = this.flushEntries(member);
    // A crashed kernel may have left translations under this id.
    if (result === 0 && this.preset.flushesAtAttach) result = this.#flusher.all(domain);
    if (result === 0) result = this.finishAttach(member);
    if (result !== 0) this.detachDev(domain, member.device);
    return result;
  }

  /** What an attach has queued must be done when it returns. @returns 0 or ETIMEDOUT */
  protected finishAttach(member: AmdDevice): number {
    return member.unit.queue.wait();
  }

  /** Writes a device's entries (set_dte_entry, clone_aliases). The caller flushes them. */
  #openEntries(domain: AmdDomain, member: AmdDevice): number {
    const root = domain.table === null ? 0 : paddrOf(domain.table.rootPfn);
    const old = this.deviceTable.didOf(member.device.sid);
    for (const sid of member.sids) this.deviceTable.set(sid, root, domain.table?.levels ?? 0, domain.did);
    if (old === 0 || !this.preset.flushesOldDomain) return 0;
    const { queue } = member.unit;
    const result = invalidateAllPages(queue, old, true);
    return result === 0 ? queue.wait() : result;
  }

  #closeEntries(member: AmdDevice): number {
    for (const sid of member.sids) this.deviceTable.clear(sid);
    const result = this.flushEntries(member);
    return result === 0 ? member.unit.queue.wait() : result;
  }

  /** Queues the invalidation of a device's entries (device_flush_dte). */
  protected flushEntries(member: AmdDevice): number {
    let errno = 0;
    for (const sid of member.sids) errno = errno === 0 ? invalidateDevtabEntry(member.unit.queue, sid) : errno;
    return errno;
  }

  detachDev(domain: IommuDomain, device: Device): void {
    const member = this.#devices.get(device.sid);
    if (member === undefined || member.domain !== domain) return;
    member.domain = null;
    const amd = domain as AmdDomain;
    if (amd.type === 'blocked') return;
    for (const sid of member.sids) this.deviceTable.clear(sid);
    this.flushEntries(member);
    if (this.preset.waitsForEntry) member.unit.queue.wait();
    this.#flusher.all(amd);
    // Only now: the flush goes to the units of the domain's devices.
    amd.remove(member);
  }

  getResvRegions(device: Device): readonly ResvRegion[] {
    return [...this.#resvRegions(device), ...FIXED_REGIONS];
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
    const amd = domain as AmdDomain;
    const result = this.#mapLeaves(amd, iova, paddr, pgsize, pgcount, prot, mapped);
    if (this.mapFlush !== 'map' || mapped.bytes === 0) return result;
    const flushed = this.#flushNotPresent(amd, iova, mapped.bytes);
    return result === 0 ? flushed : result;
  }

  /** Writes leaves, with what must happen around it: more levels before, a flush of replaced tables after. */
  #mapLeaves(
    domain: AmdDomain,
    iova: number,
    paddr: number,
    pgsize: number,
    pgcount: number,
    prot: number,
    mapped: Mapped,
  ): number {
    mapped.bytes = 0;
    const { table } = domain;
    if (table === null) return EINVAL;
    const end = iova + pgsize * pgcount;
    const grows = end > table.addressEnd || pgsize >= table.addressEnd;
    if (grows) {
      const errno = this.#grow(domain, table, end, pgsize);
      if (errno !== 0) return errno;
    }
    let result = table.mapRange(iova, paddr, pgsize, pgcount, prot, mapped);
    if (grows && this.preset.growth === 'after-map') {
      const updated = this.#updateEntries(domain);
      if (result === 0) result = updated;
    }
    if (domain.replaced.length !== 0) {
      const flushed =
        this.preset.replacedFlush === 'domain'
          ? this.#flusher.all(domain)
          : this.#flusher.pages(domain, iova, pgsize * pgcount);
      this.#freeTables(domain.replaced);
      domain.replaced.length = 0;
      if (result === 0) result = flushed;
    }
    return result;
  }

  /**
   * Adds levels until the table reaches `end` and has a level for the leaves (increase_address_space). The entries of all
   * devices name the new root, and hardware knows, before anything is written that only the new root reaches.
   */
  #grow(domain: AmdDomain, table: PageTable, end: number, pgsize: number): number {
    while (end > table.addressEnd || pgsize >= table.addressEnd) {
      let errno = table.raiseTop();
      if (errno === 0 && this.preset.growth === 'before-map') errno = this.#updateEntries(domain);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /** Gives the device table entries of a domain its present root (amd_iommu_update_and_flush_device_table, update_domain). */
  #updateEntries(domain: AmdDomain): number {
    let errno = 0;
    for (const member of domain.devices) errno = this.#openEntries(domain, member) || errno;
    for (const member of domain.devices) errno = this.flushEntries(member) || errno;
    if (this.preset.growth === 'before-map') return this.#flusher.complete(domain) || errno;
    // The old way drops the domain as well, and leaves the waiting to whoever waits next (bug 17).
    for (const { queue } of domain.units) errno = invalidateAllPages(queue, domain.did, true) || errno;
    return errno;
  }

  #mapSgDirect(domain: AmdDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    if (nr === 0) return EINVAL;
    const mapped = this.#mapped;
    let total = 0;
    let result = 0;
    for (let i = 0; i < nr && result === 0; i++) {
      const pgcount = chunks[2 * i + 1] / SIZE_4K;
      result = this.#mapLeaves(domain, iova + total, chunks[2 * i], SIZE_4K, pgcount, prot, mapped);
      total += mapped.bytes;
    }
    this.#lastWasSg = nr > 1;
    const flushes = this.mapFlush === 'sync-map' || (this.mapFlush === 'map' && nr === 1);
    if (result === 0 && flushes) result = this.#flushNotPresent(domain, iova, total);
    if (result !== 0 && total > 0) {
      domain.table?.unmapBytes(iova, total, this.#freelist);
      this.#flusher.all(domain);
    }
    return result;
  }

  unmapPages(domain: IommuDomain, iova: number, pgsize: number, pgcount: number, gather: IotlbGather): number {
    const amd = domain as AmdDomain;
    const { table } = amd;
    if (table === null) return 0;
    const nrBytes = table.unmapBytes(iova, pgsize * pgcount, this.#freelist);
    if (nrBytes > 0 && !gather.queued && this.preset.unmapByRange) {
      // From where the first leaf began. (Linux enters iova, and leaves the leaf's first part in place under NpCache.)
      const start = table.removedFrom;
      const removed = iova + nrBytes - start;
      // Real hardware drops a range with holes as fast as one without; for a hypervisor every page in a hole is work.
      if (this.npCache && gather.isDisjoint(start, removed)) {
        this.iotlbSync(domain, gather);
        gather.reset();
      }
      gather.addRange(start, removed);
    }
    return nrBytes;
  }

  iotlbSyncMap(domain: IommuDomain, iova: number, nrBytes: number): number {
    return this.mapFlush === 'sync-map' ? this.#flushNotPresent(domain as AmdDomain, iova, nrBytes) : 0;
  }

  flushNpCache(domain: IommuDomain, iova: number, nrBytes: number): void {
    // Where the caller that flushes is the kernel's own DMA API, it is the one that forgets scatterlists.
    if (this.preset.mapFlush === 'caller' && this.#lastWasSg) return;
    this.#flushNotPresent(domain as AmdDomain, iova, nrBytes);
  }

  /** Entries of a range became present (domain_flush_np_cache). @returns 0 or ETIMEDOUT, which Linux only complains about */
  #flushNotPresent(domain: AmdDomain, iova: number, nrBytes: number): number {
    return this.npCache ? this.#flusher.pages(domain, iova, nrBytes) : 0;
  }

  iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    if (!this.preset.unmapByRange) this.flushIotlbAll(domain);
    else if (!gather.isEmpty) {
      this.#flusher.pages(domain as AmdDomain, gather.start, gather.last + 1 - gather.start);
    } else if (gather.freelist.length > 0) {
      this.flushIotlbAll(domain);
    }
    this.#freeTables(gather.freelist);
  }

  flushIotlbAll(domain: IommuDomain): void {
    this.#flusher.all(domain as AmdDomain);
  }

  iovaToPhys(domain: IommuDomain, iova: number): number {
    return (domain as AmdDomain).table?.iovaToPhys(iova) ?? -1;
  }

  /**
   * Reads what the units logged. Page faults go to the handler of the device's domain and to the tracer; every event goes to
   * `seen`. A log that overflowed is started again. @returns the number of events
   */
  pollEvents(tracer: IommuTracer | null = null, seen: (event: AmdEvent) => void = (): void => {}): number {
    let nr = 0;
    for (const { unit } of this.#units) {
      unit.pollEvents((event) => {
        nr += 1;
        this.#reportFault(event, tracer);
        seen(event);
      });
    }
    return nr;
  }

  #reportFault({ code, sid, flags, address }: AmdEvent, tracer: IommuTracer | null): void {
    const member = this.#devices.get(sid);
    if (code !== amdvi.EVENT_IO_PAGE_FAULT || (flags & amdvi.EVENT_FLAG_I) !== 0) return;
    if (member === undefined || member.domain === null) return;
    const access = (flags & amdvi.EVENT_FLAG_RW) === 0 ? FAULT_READ : FAULT_WRITE;
    reportIommuFault(member.domain, member.device, address, access, tracer);
  }

  #freeTables(freelist: readonly number[]): void {
    for (let i = 0; i < freelist.length; i++) this.#platform.pages.free(freelist[i]);
  }
}
