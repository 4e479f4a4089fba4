/**
 * A checker of how drivers use the DMA API, in the spirit of CONFIG_DMA_API_DEBUG (kernel/dma/debug.c, Linux 6.12): a device
 * behind the same calls, each with the name of its call site. It reports and passes every call on; a wrong call does what it
 * would do without it.
 *
 * Beyond Linux: it looks at every cache line of a buffer (Linux at the first), at who owns a line between map, sync and
 * unmap when told of accesses (`cpuAccess`, `deviceAccess`), it remembers who unmapped what an access comes too late for, and
 * it follows links into a range of IOVAs (debug-iova.ts). What it does not see: accesses it is not told of.
 */
import { PAGE_SIZE, TWO_32 } from '../base/index.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { DEBUG_LINE_BYTES, DmaDebugEntries, DmaDebugEntry } from './debug-entry.ts';
import type { DmaDebugType } from './debug-entry.ts';
import type { DmaDebugFinding, DmaDebugKind, DmaDebugRecord } from './debug-record.ts';
import { debugRecord } from './debug-record.ts';
import { CheckedIovaState } from './debug-iova.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaBuffer } from './dma-buffer.ts';
import type { DmaDevice } from './dma-iommu.ts';
import type { Scatterlist } from './scatterlist.ts';

export interface DmaDebugOptions {
  /** Mappings gone that are remembered, to name who unmapped them. Default 1024. */
  readonly nrRemembered?: number;
  /** Called with each record as it is made. */
  readonly report?: (record: DmaDebugRecord) => void;
}

/** The books of one machine; `watch` puts a device under them. */
export class DmaDebug {
  readonly records: DmaDebugRecord[] = [];
  readonly entries: DmaDebugEntries = new DmaDebugEntries();
  /** The last mappings that went, oldest first. */
  readonly #gone: DmaDebugEntry[] = [];
  readonly #nrRemembered: number;
  readonly #report: (record: DmaDebugRecord) => void;

  constructor(options: DmaDebugOptions = {}) {
    this.#nrRemembered = options.nrRemembered ?? 1024;
    this.#report = options.report ?? ((): void => {});
  }

  watch(device: DmaDevice, name: string): CheckedDmaDevice {
    return new CheckedDmaDevice(this, device, name);
  }

  /** Live mappings of all devices. */
  get nrMapped(): number {
    return this.entries.nr;
  }

  report(finding: DmaDebugFinding): void {
    const record = debugRecord(finding);
    this.records.push(record);
    this.#report(record);
  }

  /** Enters a mapping, and looks whose cache lines it shares. */
  enter(entry: DmaDebugEntry, attrs: number): void {
    // A device that only reads endangers nobody, and a caller who syncs himself knows.
    if (!entry.shared && entry.direction !== 'toDevice' && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) {
      for (const line of entry.lines()) {
        const other = this.entries.onLine(line).find((one) => one.direction !== 'toDevice');
        if (other === undefined) continue;
        this.report({
          kind: 'double-map',
          device: entry.device,
          address: line * DEBUG_LINE_BYTES,
          at: entry.mappedAt,
          did: `maps a cache line that is mapped`,
          mappedAt: other.mappedAt,
          mappedAs: `${other.as} for ${other.device}`,
        });
        break;
      }
    }
    this.entries.add(entry);
  }

  leave(entry: DmaDebugEntry, at: string): void {
    entry.unmappedAt = at;
    this.entries.remove(entry);
    this.#gone.push(entry);
    if (this.#gone.length > this.#nrRemembered) this.#gone.shift();
  }

  /** The last mapping of a device that held an address and is gone. */
  lastAt(device: string, address: number): DmaDebugEntry | undefined {
    return this.#gone.findLast(
      (entry) => entry.device === device && entry.address <= address && address < entry.address + entry.nrBytes,
    );
  }

  /** The CPU reads or writes memory: bad while a device owns it. One record per mapping met. */
  cpuAccess(paddr: number, nrBytes: number, writes: boolean, at: string): void {
    const met = new Set<DmaDebugEntry>();
    const last = Math.floor((paddr + nrBytes - 1) / DEBUG_LINE_BYTES);
    for (let line = Math.floor(paddr / DEBUG_LINE_BYTES); line <= last; line++) {
      for (const entry of this.entries.onLine(line)) {
        // Reading what the device also only reads is nobody's loss.
        if (met.has(entry) || entry.cpuLines.has(line) || (!writes && entry.direction === 'toDevice')) continue;
        if (!entry.overlaps(paddr, nrBytes)) continue;
        met.add(entry);
        this.report({
          kind: 'cpu-access',
          device: entry.device,
          address: paddr,
          at,
          did: `${writes ? 'writes' : 'reads'} ${nrBytes} bytes that are the device's`,
          mappedAt: entry.mappedAt,
          mappedAs: entry.as,
        });
      }
    }
  }
}

/** `DmaDevice` with a call site behind each call. */
export class CheckedDmaDevice {
  readonly name: string;
  readonly device: DmaDevice;
  readonly #debug: DmaDebug;
  /** Ranges taken for links. */
  readonly #ranges = new Set<CheckedIovaState>();

  /** Made by `DmaDebug.watch`. */
  constructor(debug: DmaDebug, device: DmaDevice, name: string) {
    this.#debug = debug;
    this.device = device;
    this.name = name;
  }

  mapPage(paddr: number, nrBytes: number, direction: DmaDirection, site: string, attrs: number = 0): number {
    const address = this.device.mapPage(paddr, nrBytes, direction, attrs);
    if (address >= 0) this.#enter('page', address, nrBytes, direction, site, [[paddr, nrBytes]], attrs);
    return address;
  }

  unmapPage(dmaAddress: number, nrBytes: number, direction: DmaDirection, site: string, attrs: number = 0): number {
    this.#checkUnmap('page', dmaAddress, nrBytes, direction, site);
    return this.device.unmapPage(dmaAddress, nrBytes, direction, attrs);
  }

  mapResource(paddr: number, nrBytes: number, direction: DmaDirection, site: string): number {
    const address = this.device.mapResource(paddr, nrBytes, direction);
    if (address >= 0) this.#enter('resource', address, nrBytes, direction, site, [[paddr, nrBytes]], 0);
    return address;
  }

  unmapResource(dmaAddress: number, nrBytes: number, direction: DmaDirection, site: string): number {
    this.#checkUnmap('resource', dmaAddress, nrBytes, direction, site);
    return this.device.unmapResource(dmaAddress, nrBytes);
  }

  mapSg(list: Scatterlist, direction: DmaDirection, site: string, attrs: number = 0): number {
    const count = this.device.mapSg(list, direction, attrs);
    if (count < 0) return count;
    this.#checkSegments(list, count, site);
    let element = 0;
    for (let segment = 0; segment < count; segment++) {
      const pieces: [paddr: number, nrBytes: number][] = [];
      let left = list.dmaBytes[segment];
      while (left > 0 && element < list.nents) {
        pieces.push([list.paddr[element], list.nrBytes[element]]);
        left -= list.nrBytes[element];
        element += 1;
      }
      this.#enter('list', list.dmaAddress[segment], list.dmaBytes[segment], direction, site, pieces, attrs, list.nents);
    }
    return count;
  }

  unmapSg(list: Scatterlist, nents: number, direction: DmaDirection, site: string, attrs: number = 0): number {
    // One finding of a kind per list: what is wrong with the first segment is wrong with all.
    const first = this.#debug.entries.startingAt(this.name, list.dmaAddress[0]);
    if (first !== undefined && first.type === 'list' && first.nents !== nents) {
      this.#found(first, 'wrong-nents', site, `unmaps a list of ${nents} elements, mapped with ${first.nents}`);
    }
    for (let segment = 0; segment < list.nents; segment++) {
      if (segment > 0 && list.dmaBytes[segment] === 0) break;
      const isFirst = segment === 0;
      this.#checkUnmap('list', list.dmaAddress[segment], list.dmaBytes[segment], direction, site, isFirst);
    }
    return this.device.unmapSg(list, nents, direction, attrs);
  }

  /** Takes a range for links; the calls on it go through what is returned. */
  iovaTryAlloc(paddr: number, nrBytes: number, site: string): CheckedIovaState | null {
    const state = this.device.iovaTryAlloc(paddr, nrBytes);
    if (state === null) return null;
    const range = new CheckedIovaState(this.#debug, this.name, state, site, (ended) => this.#ranges.delete(ended));
    this.#ranges.add(range);
    return range;
  }

  alloc(nrBytes: number, site: string, attrs: number = 0): DmaBuffer | null {
    const buffer = this.device.alloc(nrBytes, attrs);
    if (buffer !== null) {
      const pieces = buffer.pfns.map((pfn) => [pfn * PAGE_SIZE, PAGE_SIZE] as const);
      this.#enter('buffer', buffer.dmaAddress, nrBytes, 'bidirectional', site, pieces, 0);
    }
    return buffer;
  }

  free(buffer: DmaBuffer, site: string): number {
    this.#checkUnmap('buffer', buffer.dmaAddress, buffer.nrBytes, 'bidirectional', site);
    return this.device.free(buffer);
  }

  syncForCpu(dmaAddress: number, nrBytes: number, direction: DmaDirection, site: string): number {
    this.#checkSync(dmaAddress, nrBytes, direction, site, true);
    return this.device.syncForCpu(dmaAddress, nrBytes, direction);
  }

  syncForDevice(dmaAddress: number, nrBytes: number, direction: DmaDirection, site: string): number {
    this.#checkSync(dmaAddress, nrBytes, direction, site, false);
    return this.device.syncForDevice(dmaAddress, nrBytes, direction);
  }

  syncSgForCpu(list: Scatterlist, nents: number, direction: DmaDirection, site: string): void {
    this.#checkSyncSg(list, nents, direction, site, true);
    this.device.syncSgForCpu(list, nents, direction);
  }

  syncSgForDevice(list: Scatterlist, nents: number, direction: DmaDirection, site: string): void {
    this.#checkSyncSg(list, nents, direction, site, false);
    this.device.syncSgForDevice(list, nents, direction);
  }

  /** The device is about to do a DMA, as its model or driver knows. */
  deviceAccess(dmaAddress: number, nrBytes: number, writes: boolean, site: string): void {
    const entry = this.#debug.entries.holding(this.name, dmaAddress);
    const did = `${writes ? 'writes' : 'reads'} ${nrBytes} bytes`;
    if (entry === undefined) {
      const gone = this.#debug.lastAt(this.name, dmaAddress);
      this.#debug.report({
        kind: 'device-access',
        device: this.name,
        address: dmaAddress,
        at: site,
        did: `${did}, not mapped`,
        mappedAt: gone?.mappedAt ?? null,
        mappedAs: gone?.as ?? '',
        unmappedAt: gone?.unmappedAt ?? null,
      });
    } else if (dmaAddress + nrBytes > entry.address + entry.nrBytes) {
      this.#found(entry, 'device-access', site, `${did}, beyond the mapping`);
    } else if (!entry.isVisible) {
      this.#found(entry, 'device-access', site, `${did}, linked but not synced`);
    } else if (entry.direction === (writes ? 'toDevice' : 'fromDevice')) {
      this.#found(entry, 'device-access', site, `${did}, against the direction`);
    }
  }

  /** The driver lets go of the device: whatever is mapped leaks, one record each, and is forgotten. */
  remove(site: string): number {
    const leaked = this.#debug.entries.of(this.name);
    for (const entry of leaked) {
      this.#found(entry, 'leak', site, 'removes the device');
      this.#debug.leave(entry, site);
    }
    for (const range of this.#ranges) range.leak(site);
    const nrLeaked = leaked.length + this.#ranges.size;
    this.#ranges.clear();
    return nrLeaked;
  }

  #enter(
    type: DmaDebugType,
    address: number,
    nrBytes: number,
    direction: DmaDirection,
    mappedAt: string,
    pieces: readonly (readonly [paddr: number, nrBytes: number])[],
    attrs: number,
    nents: number = 0,
  ): void {
    const init = { device: this.name, type, address, nrBytes, direction, mappedAt, pieces, nents };
    this.#debug.enter(new DmaDebugEntry(init), attrs);
  }

  #found(entry: DmaDebugEntry, kind: DmaDebugKind, at: string, did: string): void {
    const { address, mappedAt, as: mappedAs } = entry;
    this.#debug.report({ kind, device: this.name, address, at, did, mappedAt, mappedAs });
  }

  #notMapped(address: number, at: string, did: string): void {
    const gone = this.#debug.lastAt(this.name, address);
    this.#debug.report({
      kind: 'not-mapped',
      device: this.name,
      address,
      at,
      did: `${did}, which is not mapped`,
      mappedAt: gone?.mappedAt ?? null,
      mappedAs: gone?.as ?? '',
      unmappedAt: gone?.unmappedAt ?? null,
    });
  }

  /** check_unmap: every difference is a finding of its own; the mapping counts as gone all the same. */
  #checkUnmap(
    type: DmaDebugType,
    address: number,
    nrBytes: number,
    direction: DmaDirection,
    site: string,
    reports: boolean = true,
  ): void {
    const entry = this.#debug.entries.startingAt(this.name, address);
    if (entry === undefined) {
      if (reports) this.#notMapped(address, site, `unmaps ${nrBytes} bytes`);
      return;
    }
    if (entry.type !== type && reports) this.#found(entry, 'wrong-function', site, `unmaps it as ${type}`);
    if (entry.nrBytes !== nrBytes) this.#found(entry, 'wrong-size', site, `unmaps ${nrBytes} bytes`);
    if (entry.direction !== direction && reports) this.#found(entry, 'wrong-direction', site, `unmaps ${direction}`);
    this.#debug.leave(entry, site);
  }

  /** check_sync */
  #checkSync(address: number, nrBytes: number, direction: DmaDirection, site: string, toCpu: boolean): void {
    const who = toCpu ? 'the CPU' : 'the device';
    const entry = this.#debug.entries.holding(this.name, address);
    if (entry === undefined) {
      this.#notMapped(address, site, `syncs ${nrBytes} bytes for ${who}`);
      return;
    }
    const offset = address - entry.address;
    if (offset + nrBytes > entry.nrBytes) {
      this.#found(entry, 'wrong-size', site, `syncs ${nrBytes} bytes from byte ${offset} on for ${who}`);
    }
    if (entry.direction !== 'bidirectional' && direction !== entry.direction) {
      this.#found(entry, 'wrong-direction', site, `syncs ${direction} for ${who}`);
    }
    for (const line of entry.lines(offset, nrBytes)) {
      if (toCpu) entry.cpuLines.add(line);
      else entry.cpuLines.delete(line);
    }
  }

  #checkSyncSg(list: Scatterlist, nents: number, direction: DmaDirection, site: string, toCpu: boolean): void {
    const first = this.#debug.entries.startingAt(this.name, list.dmaAddress[0]);
    if (first !== undefined && first.type === 'list' && first.nents !== nents) {
      this.#found(first, 'wrong-nents', site, `syncs a list of ${nents} elements, mapped with ${first.nents}`);
    }
    for (let segment = 0; segment < list.nents && list.dmaBytes[segment] > 0; segment++) {
      this.#checkSync(list.dmaAddress[segment], list.dmaBytes[segment], direction, site, toCpu);
    }
    if (list.nents > 0 && list.dmaBytes[0] === 0) this.#checkSync(list.dmaAddress[0], 0, direction, site, toCpu);
  }

  /** check_sg_segment: the list or the device's limits are wrong; nobody splits an element. */
  #checkSegments(list: Scatterlist, count: number, site: string): void {
    const { maxSegmentBytes, segmentBoundaryMask } = this.device.limits;
    const finding = { kind: 'segment', device: this.name, at: site } as const;
    for (let i = 0; i < list.nents; i++) {
      if (list.nrBytes[i] <= maxSegmentBytes) continue;
      const did = `maps an element of ${list.nrBytes[i]} bytes, of ${maxSegmentBytes} at most`;
      this.#debug.report({ ...finding, address: list.paddr[i], did });
    }
    const period = Math.min(segmentBoundaryMask + 1, TWO_32 * TWO_32);
    for (let i = 0; i < count; i++) {
      const last = list.dmaAddress[i] + list.dmaBytes[i] - 1;
      if (Math.floor(list.dmaAddress[i] / period) === Math.floor(last / period)) continue;
      const did = `maps a segment of ${list.dmaBytes[i]} bytes across a multiple of ${period}`;
      this.#debug.report({ ...finding, address: list.dmaAddress[i], did });
    }
  }
}
