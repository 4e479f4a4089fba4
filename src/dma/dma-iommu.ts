/**
 * The DMA API of one device over an IOMMU domain: drivers/iommu/dma-iommu.c, Linux 6.12. Maps buffers of any alignment,
 * allocates their IOVAs, lays out scatterlists under the device's segment limits, bounces what must not be shown.
 *
 * Failures are negative errnos. Where Linux returns DMA_MAPPING_ERROR, which says nothing (dma_mapping_error() makes ENOMEM of
 * all), the cause is returned; scatterlists return what dma_map_sg_attrs() does. Unmaps return nothing in Linux, and warn:
 * here EINVAL.
 */
import type { Clock } from '../base/index.ts';
import { EINVAL, EIO, ENOMEM, EREMOTEIO, PAGE_SIZE, TWO_32, alignUp, log2Ceil } from '../base/index.ts';
import { IOMMU_CACHE, IOMMU_MMIO } from '../iommu/index.ts';
import type { Iommu, IommuDomain } from '../iommu/index.ts';
import {
  DMA_ATTR_ALLOC_SINGLE_PAGES,
  DMA_ATTR_FORCE_CONTIGUOUS,
  DMA_ATTR_MMIO,
  DMA_ATTR_SKIP_CPU_SYNC,
} from './attrs.ts';
import type { BuddyPages } from './buddy-pages.ts';
import { isByteRange } from './byte-range.ts';
import { CpuSync } from './cpu-sync.ts';
import type { CpuSyncOptions } from './cpu-sync.ts';
import type { DmaCookie } from './cookie.ts';
import type { DmaDirection } from './direction.ts';
import { protOf } from './direction.ts';
import type { DmaBuffer } from './dma-buffer.ts';
import { allocPages } from './dma-buffer.ts';
import type { DmaSpaceOptions } from './dma-space.ts';
import { DmaSpace } from './dma-space.ts';
import { IovaDevice } from './iova-device.ts';
import { IOVA_CACHED_PAGES } from './iova-rcache.ts';
import { DmaIovaState } from './iova-state.ts';
import type { P2pProvider } from './scatterlist.ts';
import { Scatterlist } from './scatterlist.ts';
import type { P2pMapping } from './sg-layout.ts';
import { SgLayout } from './sg-layout.ts';
import { Swiotlb } from './swiotlb.ts';

const TWO_32_LAST = TWO_32 - 1;

/** What a device can address (dev->dma_mask, bus_dma_limit, dma_parms). */
export interface DmaLimits {
  /** Highest address the device can put on the bus, inclusive. Default 2^32 - 1. */
  readonly dmaMask?: number;
  /** The same for memory from `alloc` (coherent_dma_mask). Default: dmaMask. */
  readonly coherentMask?: number;
  /** Highest address that the bus carries, inclusive; 0 for no such limit. Default 0. */
  readonly busLimit?: number;
  /** A DMA segment never crosses a multiple of this + 1. Default 2^32 - 1 (dma_get_seg_boundary). */
  readonly segmentBoundaryMask?: number;
  /** Most bytes of a DMA segment. Default 65536 (dma_get_max_seg_size). */
  readonly maxSegmentBytes?: number;
}

export interface DmaDeviceOptions extends CpuSyncOptions {
  readonly limits?: DmaLimits;
  /** Only PCI devices are served below 4 GiB first, and not those with iommu.forcedac=1. Defaults true and false. */
  readonly isPci?: boolean;
  readonly forceDac?: boolean;
  /** "Using %d-bit DMA addresses": the device leaves the first 4 GiB. */
  readonly leftLow?: (bits: number) => void;
  /** What `alloc` takes its memory from. */
  readonly pages?: BuddyPages;
  /** Reached before each mapping; attaches a device whose attachment was put off (iommu_deferred_attach; kdump). */
  readonly deferredAttach?: () => number;
  /** How this device reaches another one's memory. Default: not at all. */
  readonly p2pMap?: (provider: P2pProvider) => P2pMapping;
}

export class DmaDevice {
  readonly space: DmaSpace;
  readonly limits: Required<Pick<DmaLimits, 'segmentBoundaryMask' | 'maxSegmentBytes'>>;
  readonly #cpuSync: CpuSync;
  readonly #iovas: IovaDevice;
  readonly #coherentIovas: IovaDevice;
  readonly #layout: SgLayout;
  readonly #pages: BuddyPages | null;
  readonly #deferredAttach: (() => number) | null;
  readonly #p2pMap: (provider: P2pProvider) => P2pMapping;
  readonly #isBus: (provider: P2pProvider) => boolean;
  readonly #chunk: Float64Array = new Float64Array(2);

  constructor(space: DmaSpace, options: DmaDeviceOptions = {}) {
    const { dmaMask = TWO_32_LAST, busLimit = 0 } = options.limits ?? {};
    const { coherentMask = dmaMask, segmentBoundaryMask = TWO_32_LAST, maxSegmentBytes = 65536 } = options.limits ?? {};
    const {
      isPci = true,
      forceDac = false,
      leftLow = (): void => {},
      p2pMap = (): P2pMapping => 'unsupported',
    } = options;
    const iovaOptions = { busLimit, apertureLast: space.domain.apertureLast, isPci, forceDac, leftLow };
    this.space = space;
    this.limits = { segmentBoundaryMask, maxSegmentBytes };
    this.#cpuSync = new CpuSync(space.granule, options);
    this.#iovas = new IovaDevice(space.iovas, { ...iovaOptions, dmaMask });
    this.#coherentIovas =
      coherentMask === dmaMask ? this.#iovas : new IovaDevice(space.iovas, { ...iovaOptions, dmaMask: coherentMask });
    this.#layout = new SgLayout({ granule: space.granule, boundaryMask: segmentBoundaryMask, maxSegmentBytes });
    this.#pages = options.pages ?? null;
    this.#deferredAttach = options.deferredAttach ?? null;
    this.#p2pMap = p2pMap;
    this.#isBus = (provider): boolean => p2pMap(provider) === 'bus-address';
  }

  get cookie(): DmaCookie {
    return this.space.cookie;
  }

  /** Cache lines flushed for the device; 0 for a coherent one. */
  get nrLines(): number {
    return this.#cpuSync.nrLines;
  }

  /** Largest buffer that can be mapped (iommu_dma_max_mapping_size): what fits a bounce buffer, if the device may need one. */
  get maxMappingBytes(): number {
    return this.#cpuSync.untrusted ? Swiotlb.maxBytes(this.#cpuSync.minAlignMask) : Infinity;
  }

  /** Buffers up to this size have their IOVAs cached (iommu_dma_opt_mapping_size). */
  get optMappingBytes(): number {
    return IOVA_CACHED_PAGES * this.space.granule;
  }

  /** Elements of a list may be joined where they meet at multiples of this + 1 (iommu_dma_get_merge_boundary). */
  get mergeBoundaryMask(): number {
    return this.space.granule - 1;
  }

  /** Maps one buffer (iommu_dma_map_page). @returns its DMA address, or a negative errno with nothing mapped */
  mapPage(paddr: number, nrBytes: number, direction: DmaDirection, attrs: number = 0): number {
    if (!isByteRange(paddr, nrBytes)) return EINVAL;
    let at = paddr;
    if (this.#cpuSync.mustBounce(paddr, nrBytes)) {
      at = this.#cpuSync.bounce(paddr, nrBytes, attrs);
      if (at < 0) return at;
    }
    this.#cpuSync.linesForDevice(at, nrBytes, attrs);
    const dmaAddress = this.#map(at, nrBytes, this.#prot(direction, attrs), this.#iovas);
    if (dmaAddress < 0 && at !== paddr) this.#cpuSync.unbounce(at, nrBytes, direction, DMA_ATTR_SKIP_CPU_SYNC);
    return dmaAddress;
  }

  /** Undoes `mapPage` with the same size and direction. @returns 0, or EINVAL when nothing is mapped there */
  unmapPage(dmaAddress: number, nrBytes: number, direction: DmaDirection, attrs: number = 0): number {
    const paddr = this.space.find(dmaAddress, nrBytes);
    if (paddr < 0) return EINVAL;
    this.#cpuSync.linesForCpu(paddr, nrBytes, direction, attrs);
    this.space.unmapFound(dmaAddress, nrBytes);
    // After the unmap: the device could still write to a bounce buffer that is copied out or somebody else's already. (That is
    // why Linux keeps untrusted devices out of lazy mode.)
    this.#cpuSync.unbounce(paddr, nrBytes, direction, attrs);
    return 0;
  }

  /** Maps registers of another device (iommu_dma_map_resource): never cached, never bounced. */
  mapResource(paddr: number, nrBytes: number, direction: DmaDirection): number {
    if (!isByteRange(paddr, nrBytes)) return EINVAL;
    return this.#map(paddr, nrBytes, this.#prot(direction, DMA_ATTR_MMIO), this.#iovas);
  }

  unmapResource(dmaAddress: number, nrBytes: number): number {
    return this.space.unmap(dmaAddress, nrBytes);
  }

  #prot(direction: DmaDirection, attrs: number): number {
    const prot = protOf(direction, this.#cpuSync.coherent);
    return (attrs & DMA_ATTR_MMIO) === 0 ? prot : (prot & ~IOMMU_CACHE) | IOMMU_MMIO;
  }

  /** __iommu_dma_map */
  #map(paddr: number, nrBytes: number, prot: number, iovas: IovaDevice): number {
    const { space } = this;
    const attached = this.#deferredAttach === null ? 0 : this.#deferredAttach();
    if (attached !== 0) return attached;
    // IOVAs keep the offset in a page and no more.
    if (this.#cpuSync.minAlignMask > space.granule - 1) return EINVAL;
    const offset = paddr % space.granule;
    const mapBytes = alignUp(nrBytes + offset, space.granule);
    const iova = space.alloc(iovas, mapBytes);
    if (iova < 0) return iova;
    this.#chunk[0] = paddr - offset;
    this.#chunk[1] = mapBytes;
    const errno = space.cookie.mapAt(iova, this.#chunk, 1, prot);
    if (errno === 0) return iova + offset;
    space.release(iova, mapBytes);
    return errno;
  }

  /**
   * Maps a scatterlist into one run of IOVAs (iommu_dma_map_sg) and merges it into as few DMA segments as the device's limits
   * allow. Fills `dmaAddress` and `dmaBytes` of the list. A device that may need bouncing gets each element on its own.
   * @returns the number of segments, or with nothing mapped: ENOMEM (no IOVA), EREMOTEIO (an element in a device's memory that
   * this one cannot reach), EIO (no bounce buffer), EINVAL for anything else
   */
  mapSg(list: Scatterlist, direction: DmaDirection, attrs: number = 0): number {
    const { nents } = list;
    const { space } = this;
    list.clearSegments();
    const attached = this.#deferredAttach === null ? 0 : this.#deferredAttach();
    if (attached !== 0) return sgErrno(attached);
    for (let i = 0; i < nents; i++) if (!isByteRange(list.paddr[i], list.nrBytes[i])) return EINVAL;
    if (this.#cpuSync.untrusted && nents > 0) return this.#mapSgBounced(list, direction, attrs);
    const layout = this.#layout;
    let errno = layout.layOut(list, nents, this.#p2pMap);
    if (errno !== 0) return sgErrno(errno);
    if (!this.#cpuSync.coherent) {
      for (let i = 0; i < nents; i++) this.#cpuSync.linesForDevice(list.paddr[i], list.nrBytes[i], attrs);
    }
    if (layout.iovaBytes === 0) return layout.finalise(list, nents, 0, this.#isBus);
    const iova = space.alloc(this.#iovas, layout.iovaBytes);
    if (iova < 0) return sgErrno(iova);
    errno = space.cookie.mapAt(iova, layout.chunks, layout.nrChunks, this.#prot(direction, attrs));
    if (errno === 0) return layout.finalise(list, nents, iova, this.#isBus);
    space.release(iova, layout.iovaBytes);
    return sgErrno(errno);
  }

  #mapSgBounced(list: Scatterlist, direction: DmaDirection, attrs: number): number {
    list.isBounced = true;
    for (let i = 0; i < list.nents; i++) {
      const dmaAddress = this.mapPage(list.paddr[i], list.nrBytes[i], direction, attrs);
      if (dmaAddress < 0) {
        // Nothing was transferred: the originals stay as they are.
        this.#unmapSgBounced(list, i, direction, attrs | DMA_ATTR_SKIP_CPU_SYNC);
        list.clearSegments();
        return EIO;
      }
      list.setSegment(i, dmaAddress, list.nrBytes[i], false);
    }
    return list.nents;
  }

  #unmapSgBounced(list: Scatterlist, nents: number, direction: DmaDirection, attrs: number): number {
    let errno = 0;
    for (let i = 0; i < nents; i++) {
      const one = this.unmapPage(list.dmaAddress[i], list.dmaBytes[i], direction, attrs);
      if (errno === 0) errno = one;
    }
    return errno;
  }

  /**
   * Undoes `mapSg`, with the number of elements that it was given (not of segments that it returned; fewer are found all the
   * same as long as every segment is among them). @returns 0, or EINVAL when nothing is mapped there
   */
  unmapSg(list: Scatterlist, nents: number, direction: DmaDirection, attrs: number = 0): number {
    if (!(nents > 0) || nents > list.nents || !Number.isInteger(nents)) return EINVAL;
    if (list.isBounced) return this.#unmapSgBounced(list, nents, direction, attrs);
    let start = -1;
    let end = 0;
    for (let i = 0; i < nents; i++) {
      if (list.isBus[i] !== 0) continue;
      if (list.dmaBytes[i] === 0) break;
      if (start < 0) start = list.dmaAddress[i];
      end = list.dmaAddress[i] + list.dmaBytes[i];
    }
    // Bus addresses only: nothing of it is the IOMMU's.
    if (start < 0) return list.dmaBytes[0] > 0 ? 0 : EINVAL;
    if (this.space.find(start, end - start) < 0) return EINVAL;
    this.syncSgForCpu(list, nents, direction, attrs);
    this.space.unmapFound(start, end - start);
    return 0;
  }

  /** The CPU takes the buffer back for a while (iommu_dma_sync_single_for_cpu). @returns 0, or EINVAL when nothing is mapped */
  syncForCpu(dmaAddress: number, nrBytes: number, direction: DmaDirection): number {
    const { coherent, untrusted, swiotlb } = this.#cpuSync;
    if (coherent && !untrusted) return 0;
    const paddr = this.space.find(dmaAddress, nrBytes);
    if (paddr < 0) return EINVAL;
    this.#cpuSync.linesForCpu(paddr, nrBytes, direction, 0);
    swiotlb?.syncForCpu(paddr, nrBytes, direction);
    return 0;
  }

  /** The device gets the buffer again (iommu_dma_sync_single_for_device): the copy first, then the lines it dirtied. */
  syncForDevice(dmaAddress: number, nrBytes: number, direction: DmaDirection): number {
    const { coherent, untrusted, swiotlb } = this.#cpuSync;
    if (coherent && !untrusted) return 0;
    const paddr = this.space.find(dmaAddress, nrBytes);
    if (paddr < 0) return EINVAL;
    swiotlb?.syncForDevice(paddr, nrBytes, direction);
    this.#cpuSync.linesForDevice(paddr, nrBytes, 0);
    return 0;
  }

  syncSgForCpu(list: Scatterlist, nents: number, direction: DmaDirection, attrs: number = 0): void {
    if (this.#cpuSync.coherent && !list.isBounced) return;
    for (let i = 0; i < nents; i++) {
      if (list.isBounced) this.syncForCpu(list.dmaAddress[i], list.nrBytes[i], direction);
      else this.#cpuSync.linesForCpu(list.paddr[i], list.nrBytes[i], direction, attrs);
    }
  }

  syncSgForDevice(list: Scatterlist, nents: number, direction: DmaDirection): void {
    if (this.#cpuSync.coherent && !list.isBounced) return;
    for (let i = 0; i < nents; i++) {
      if (list.isBounced) this.syncForDevice(list.dmaAddress[i], list.nrBytes[i], direction);
      else this.#cpuSync.linesForDevice(list.paddr[i], list.nrBytes[i], 0);
    }
  }

  /**
   * Memory that the CPU and the device use together (iommu_dma_alloc), zeroed. Pages from anywhere, unless FORCE_CONTIGUOUS.
   * @returns null when pages or IOVAs are out, as Linux's NULL
   */
  alloc(nrBytes: number, attrs: number = 0): DmaBuffer | null {
    return (attrs & DMA_ATTR_FORCE_CONTIGUOUS) !== 0
      ? this.#allocContiguous(nrBytes)
      : this.allocNoncontiguous(nrBytes, 'bidirectional', attrs);
  }

  #allocContiguous(nrBytes: number): DmaBuffer | null {
    const pages = this.#source();
    if (!isByteRange(0, nrBytes)) return null;
    const nrPages = alignUp(nrBytes, PAGE_SIZE) / PAGE_SIZE;
    const first = pages.alloc(log2Ceil(nrPages));
    if (first < 0) return null;
    this.#cpuSync.prepare(first * PAGE_SIZE, nrPages * PAGE_SIZE);
    const dmaAddress = this.#map(first * PAGE_SIZE, nrBytes, this.#prot('bidirectional', 0), this.#coherentIovas);
    if (dmaAddress < 0) {
      pages.free(first);
      return null;
    }
    const pfns = Array.from({ length: nrPages }, (_, page) => first + page);
    return { dmaAddress, nrBytes, pfns, runs: [first], list: null };
  }

  /**
   * Pages of mixed orders under one run of IOVAs (iommu_dma_alloc_noncontiguous). As in Linux the direction limits nobody: the
   * pages are mapped for reading and writing. @returns null when pages or IOVAs are out
   */
  allocNoncontiguous(nrBytes: number, _direction: DmaDirection, attrs: number = 0): DmaBuffer | null {
    const pages = this.#source();
    const { space } = this;
    if (!isByteRange(0, nrBytes)) return null;
    if (this.#deferredAttach !== null && this.#deferredAttach() !== 0) return null;
    const mapBytes = alignUp(nrBytes, space.granule);
    // A leaf size the tables have is an order worth trying.
    const sizes = (attrs & DMA_ATTR_ALLOC_SINGLE_PAGES) === 0 ? space.domain.pgsizeBitmap : space.granule;
    const orders = Math.floor(sizes / PAGE_SIZE) % TWO_32;
    const pfns = allocPages(pages, mapBytes / PAGE_SIZE, orders);
    if (pfns === null) return null;
    const iova = space.alloc(this.#coherentIovas, mapBytes);
    if (iova >= 0) {
      const list = listOf(pfns);
      const chunks = new Float64Array(2 * list.nents);
      for (let i = 0; i < list.nents; i++) {
        chunks[2 * i] = list.paddr[i];
        chunks[2 * i + 1] = list.nrBytes[i];
        this.#cpuSync.prepare(list.paddr[i], list.nrBytes[i]);
      }
      if (space.cookie.mapAt(iova, chunks, list.nents, this.#prot('bidirectional', 0)) === 0) {
        list.setSegment(0, iova, mapBytes, false);
        return { dmaAddress: iova, nrBytes, pfns, runs: pfns, list };
      }
      space.release(iova, mapBytes);
    }
    for (const pfn of pfns) pages.free(pfn);
    return null;
  }

  /**
   * Gives a buffer of `alloc` or `allocNoncontiguous` back. In lazy mode the device can reach the freed pages until the flush,
   * as in Linux. @returns 0, or EINVAL when it is not mapped (any more)
   */
  free(buffer: DmaBuffer): number {
    const pages = this.#source();
    const errno = this.space.unmap(buffer.dmaAddress, buffer.nrBytes);
    if (errno === 0) for (const run of buffer.runs) pages.free(run);
    return errno;
  }

  #source(): BuddyPages {
    if (this.#pages === null) throw new RangeError('alloc needs a device with `pages`');
    return this.#pages;
  }

  /**
   * Takes IOVAs for a request whose pages are linked later (dma_iova_try_alloc).
   * @param paddr of the first buffer: its offset in a page is kept @returns null when there are none, or no bytes are asked for
   */
  iovaTryAlloc(paddr: number, nrBytes: number): DmaIovaState | null {
    const { space } = this;
    if (!isByteRange(paddr, nrBytes)) return null;
    if (this.#deferredAttach !== null && this.#deferredAttach() !== 0) return null;
    const offset = paddr % space.granule;
    const iova = space.alloc(this.#iovas, alignUp(nrBytes + offset, space.granule));
    return iova < 0 ? null : new DmaIovaState(space, this.#cpuSync, iova + offset, nrBytes);
  }

  /** Where the device's interrupt writes go for a doorbell (iommu_dma_prepare_msi). @returns an address, or ENOMEM */
  msiDoorbell(paddr: number): number {
    const { space } = this;
    return space.msi.doorbell(paddr, {
      alloc: (nrBytes) => space.alloc(this.#iovas, nrBytes),
      free: (iova, nrBytes) => space.release(iova, nrBytes),
    });
  }
}

export interface DmaIommuOptions extends DmaSpaceOptions, DmaDeviceOptions {}

/** A device alone in its domain: the space and the device in one. */
export class DmaIommu extends DmaDevice {
  /** Reserves what the device may not use, e.g. `[[0xfee00000, 0x100000]]`, as pairs (start, bytes). */
  constructor(
    core: Iommu,
    domain: IommuDomain,
    clock: Clock,
    reserved: readonly (readonly [start: number, nrBytes: number])[],
    options: DmaIommuOptions = {},
  ) {
    super(new DmaSpace(core, domain, clock, options), options);
    for (const [start, nrBytes] of reserved) this.space.reserve(start, start + nrBytes - 1);
  }

  /** Ranges allocated, reserved or waiting for their flush. */
  get nrIovaRanges(): number {
    return this.space.nrLive + this.space.nrReserved;
  }
}

/** What iommu_dma_map_sg makes of a failure: its callers know few errnos. */
function sgErrno(errno: number): number {
  return errno === ENOMEM || errno === EREMOTEIO ? errno : EINVAL;
}

/** Pages as elements, neighbours joined (sg_alloc_table_from_pages). */
function listOf(pfns: readonly number[]): Scatterlist {
  const elements: [paddr: number, nrBytes: number][] = [];
  for (const pfn of pfns) {
    const last = elements.at(-1);
    if (last !== undefined && last[0] + last[1] === pfn * PAGE_SIZE) last[1] += PAGE_SIZE;
    else elements.push([pfn * PAGE_SIZE, PAGE_SIZE]);
  }
  return Scatterlist.of(elements);
}
