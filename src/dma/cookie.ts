/**
 * The DMA API's side of a domain (struct iommu_dma_cookie): who flushes what and when around iommu_map and iommu_unmap.
 * `mapAt` and `unmapAt` take an IOVA as given, for a caller that brings its own addresses (a recorded trace); `DmaIommu`
 * allocates them.
 */
import type { Clock } from '../base/index.ts';
import type { Iommu, IommuDomain } from '../iommu/index.ts';
import { IotlbGather } from '../iommu/index.ts';
import type { FlushQueueOptions } from './fq.ts';
import { FlushQueue } from './fq.ts';
import { defaultDmaMode } from './policy.ts';

export interface DmaCookieOptions {
  /**
   * Asks for lazy unmapping (iommu.strict=0): a flush queue invalidates. The hardware may force strict all the same, see
   * `defaultDmaMode`; `startQueue` then overrides it. Default false: strict.
   */
  readonly lazy?: boolean;
  /** Calls `flushNpCache` after each mapping: the patch of April 2019. Default false. */
  readonly flushAfterMap?: boolean;
  readonly flushQueue?: FlushQueueOptions;
  /** What happens around releases and windows; see FlushQueueOwner. */
  readonly released?: (iova: number, nrBytes: number) => void;
  readonly windowClosed?: (queuedNs: number, flushedNs: number, iova: number, nrBytes: number) => void;
  /** Gives table pages back. Lazy mode needs it, since the queue holds them until its flush; strict mode has no use for it. */
  readonly freeTables?: (tables: readonly number[]) => void;
}

export class DmaCookie {
  readonly domain: IommuDomain;
  /** Bytes that the last `unmapAt` removed: fewer than asked when a hole came. */
  unmappedBytes = 0;
  readonly #core: Iommu;
  readonly #flushAfterMap: boolean;
  readonly #clock: Clock;
  readonly #options: DmaCookieOptions;
  #queue: FlushQueue | null = null;
  readonly #gather: IotlbGather = new IotlbGather();

  /** @throws RangeError for lazy mode without `freeTables` */
  constructor(core: Iommu, domain: IommuDomain, clock: Clock, options: DmaCookieOptions = {}) {
    this.domain = domain;
    this.#core = core;
    this.#clock = clock;
    this.#options = options;
    this.#flushAfterMap = options.flushAfterMap ?? false;
    if (defaultDmaMode(options.lazy === true ? 'lazy' : 'strict', domain.ops) === 'lazy') this.startQueue();
  }

  /** Whether unmaps go through the flush queue (domain type DMA-FQ). */
  get isLazy(): boolean {
    return this.#queue !== null;
  }

  /**
   * From strict to lazy while mappings live (iommu_dma_init_fq; an administrator may write DMA-FQ to a group's type, also where
   * the hardware forced strict). There is no way back. @throws RangeError without `freeTables`
   */
  startQueue(): void {
    if (this.#queue !== null) return;
    const { domain } = this;
    const { freeTables } = this.#options;
    if (freeTables === undefined) throw new RangeError('lazy unmapping needs freeTables: the queue holds table pages');
    const owner = {
      flushAll: (): void => domain.ops.flushIotlbAll(domain),
      release: this.#options.released ?? ((): void => {}),
      freeTables,
      windowClosed: this.#options.windowClosed ?? ((): void => {}),
    };
    this.#queue = new FlushQueue(owner, this.#clock, this.#options.flushQueue);
  }

  /** When the flush queue's timer is due; Infinity in strict mode or when nothing is queued. */
  get deadlineNs(): number {
    return this.#queue === null ? Infinity : this.#queue.deadlineNs;
  }

  /** Ranges that a device can still reach although they were unmapped. */
  get nrOpenWindows(): number {
    return this.#queue === null ? 0 : this.#queue.nrOpen;
  }

  /** Runs the flush queue's timer if it is due. */
  timeout(): void {
    this.#queue?.timeout();
  }

  /** Flushes what is queued, at the end of the domain or of a run. */
  drain(): void {
    this.#queue?.drain();
  }

  /**
   * Maps pages at an IOVA. One chunk goes through iommu_map, several through iommu_map_sg; on kernels whose driver served the
   * DMA API itself (intel_map_page, intel_map_sg) both go past the core. @param chunks pairs (paddr, bytes), page aligned @returns 0 or a negative errno
   */
  mapAt(iova: number, chunks: Float64Array, nr: number, prot: number): number {
    const { domain } = this;
    let nrBytes: number;
    if (domain.ops.mapSgDirect !== undefined) {
      nrBytes = 0;
      for (let i = 0; i < nr; i++) nrBytes += chunks[2 * i + 1];
      const result = domain.ops.mapSgDirect(domain, iova, chunks, nr, prot);
      if (result < 0) return result;
    } else if (nr === 1) {
      nrBytes = chunks[1];
      const result = this.#core.map(domain, iova, chunks[0], nrBytes, prot);
      if (result < 0) return result;
    } else {
      nrBytes = this.#core.mapSg(domain, iova, chunks, nr, prot);
      if (nrBytes < 0) return nrBytes;
    }
    if (this.#flushAfterMap) domain.ops.flushNpCache(domain, iova, nrBytes);
    return 0;
  }

  /** Makes what was linked in a range visible (dma_iova_sync), by the same policy as `mapAt`. @returns 0 or a negative errno */
  syncAt(iova: number, nrBytes: number): number {
    const errno = this.#core.syncMap(this.domain, iova, nrBytes);
    if (errno === 0 && this.#flushAfterMap) this.domain.ops.flushNpCache(this.domain, iova, nrBytes);
    return errno;
  }

  /**
   * Unmaps a range (__iommu_dma_unmap): strict waits for the invalidation, lazy queues the range on a CPU's ring.
   * @returns true when the IOVA may be handed out again at return; false when the flush queue will say so
   */
  unmapAt(iova: number, nrBytes: number, cpu: number): boolean {
    const gather = this.#gather;
    gather.reset();
    gather.queued = this.#queue !== null;
    this.unmappedBytes = this.#core.unmapFast(this.domain, iova, nrBytes, gather);
    if (this.#queue === null) {
      this.#core.iotlbSync(this.domain, gather);
      return true;
    }
    this.#queue.queue(cpu, iova, nrBytes, gather.freelist);
    gather.reset();
    return false;
  }

  /** `unmapAt` of the mapped first part of a range that is released as a whole. */
  destroyAt(iova: number, mappedBytes: number, nrBytes: number, cpu: number): boolean {
    const gather = this.#gather;
    gather.reset();
    gather.queued = this.#queue !== null;
    this.unmappedBytes = this.#core.unmapFast(this.domain, iova, mappedBytes, gather);
    if (this.#queue === null) {
      this.#core.iotlbSync(this.domain, gather);
      return true;
    }
    this.#queue.queue(cpu, iova, nrBytes, gather.freelist);
    gather.reset();
    return false;
  }

  /**
   * Unmaps a range whose IOVA stays with its owner (dma_iova_unlink): strict in any mode, since the owner may link other pages
   * there at once, and nobody would keep him from it until a flush. @returns bytes unmapped
   */
  unlinkAt(iova: number, nrBytes: number): number {
    const gather = this.#gather;
    gather.reset();
    gather.queued = false;
    const unmapped = this.#core.unmapFast(this.domain, iova, nrBytes, gather);
    if (unmapped !== 0 || gather.freelist.length !== 0) this.#core.iotlbSync(this.domain, gather);
    return unmapped;
  }
}
