/**
 * The IOMMU core: iommu_map(), iommu_map_sg(), iommu_unmap() and friends of Linux drivers/iommu/iommu.c (v5.1 to 6.12; the
 * versions differ as `CoreOptions` says; iommu_map_nosync() and iommu_sync_map() came with 6.15).
 *
 * It is the place that the April 2019 reply points at: whoever calls `map` may use the mapping when the call returns, so the
 * core calls the driver's `iotlbSyncMap` before it returns, once for the whole of a `map` or `mapSg`. Callers never flush.
 *
 * Ranges are [iova, iova + nrBytes). Results are 0 or bytes, failures negative errnos. Nothing is allocated per call.
 */
import { EINVAL, lowestBit } from '../base/index.ts';
import { PHYS_LIMIT } from '../mem/index.ts';
import { iommuPgsize } from '../pt/index.ts';
import type { PgCount } from '../pt/index.ts';
import { IotlbGather } from './gather.ts';
import { IOMMU_READ, IOMMU_WRITE } from './ops.ts';
import type { IommuDomain, Mapped } from './ops.ts';
import type { IommuTracer } from './tracer.ts';

/** A constant of this module: V8 reloads imported bindings at every use. */
const PHYS_END: number = PHYS_LIMIT;

/** How a kernel version differs in what its core asks of drivers. */
export interface CoreOptions {
  /**
   * True up to v5.11: __iommu_map itself ended with iotlb_sync_map, so a scatterlist synced once per physically contiguous
   * run, before the trace event and also after a failure. False since v5.12: once per call, after the last run.
   */
  readonly syncMapPerRun: boolean;
  /** 'one' up to v5.14: the driver's map and unmap got one leaf per call. 'run' since: a size and a count. */
  readonly pagesPerCallback: 'one' | 'run';
  /**
   * What `unmap` does about a gather that the driver left empty although it unmapped something. 'call': `iotlbSync` is called
   * all the same; the driver must know what to flush (up to 2025). 'fill': the core enters the range itself, then calls
   * (90c5def10bea, 2026). 'skip': it is not called, which leaves drivers that never gather with stale translations: the
   * bug that 'fill' repaired, kept to show that it is found.
   */
  readonly emptyGather: 'call' | 'fill' | 'skip';
}

/** What Linux 6.12 does. */
export const LINUX_6_12_CORE: CoreOptions = { syncMapPerRun: false, pagesPerCallback: 'run', emptyGather: 'call' };

export class Iommu {
  readonly options: CoreOptions;
  /** Sees map, unmap and attach events; null costs one compare. */
  tracer: IommuTracer | null = null;
  readonly #syncMapPerRun: boolean;
  readonly #onePerCallback: boolean;
  readonly #pgCount: PgCount = { count: 0 };
  readonly #mapped: Mapped = { bytes: 0 };
  readonly #chunk: Float64Array = new Float64Array(2);
  readonly #gather: IotlbGather = new IotlbGather();
  #gatherBusy = false;

  constructor(options: Partial<CoreOptions> = {}) {
    this.options = { ...LINUX_6_12_CORE, ...options };
    this.#syncMapPerRun = this.options.syncMapPerRun;
    this.#onePerCallback = this.options.pagesPerCallback === 'one';
  }

  /**
   * Makes [iova, iova + nrBytes) lead to [paddr, ...) with rights `prot`. C-MAP-VISIBLE: usable by every device of the domain
   * at return. On failure nothing of it stays mapped (C-ROLLBACK).
   * @returns 0; EINVAL when the domain has no table, no right is given, nothing is asked for, something is not a multiple of
   * the smallest leaf, or the range passes the end of the aperture or of physical memory; what the driver returned otherwise
   */
  map(domain: IommuDomain, iova: number, paddr: number, nrBytes: number, prot: number): number {
    const chunk = this.#chunk;
    chunk[0] = paddr;
    chunk[1] = nrBytes;
    const mapped = this.mapSg(domain, iova, chunk, 1, prot);
    return mapped < 0 ? mapped : 0;
  }

  /**
   * Maps `nr` chunks, pairs (paddr, bytes), one behind the other from iova on. Physically contiguous neighbours are joined
   * into one run first; the not-present caches are flushed once, for all (per run up to v5.11). C-MAP-VISIBLE and C-ROLLBACK
   * as for `map`.
   * @returns bytes mapped, or a negative errno with nothing left mapped. (Up to v5.14 a failure was 0: not reproduced, since a
   * caller that tests for <= 0 serves both)
   */
  mapSg(domain: IommuDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    const total = this.#mapRuns(domain, iova, chunks, nr, prot);
    if (total < 0 || this.#syncMapPerRun) return total;
    const errno = domain.ops.iotlbSyncMap(domain, iova, total);
    if (errno === 0) return total;
    this.unmap(domain, iova, total);
    return errno;
  }

  /**
   * The first half of `map` (iommu_map_nosync): several pieces of one IOVA range then share one flush. Until `syncMap` of the
   * range C-MAP-VISIBLE is not due: the device may still see nothing there. C-ROLLBACK holds as for `map`.
   * @returns 0 or a negative errno, as `map`
   */
  mapNosync(domain: IommuDomain, iova: number, paddr: number, nrBytes: number, prot: number): number {
    const chunk = this.#chunk;
    chunk[0] = paddr;
    chunk[1] = nrBytes;
    const mapped = this.#mapRuns(domain, iova, chunk, 1, prot);
    return mapped < 0 ? mapped : 0;
  }

  /**
   * The second half (iommu_sync_map): C-MAP-VISIBLE for what `mapNosync` mapped in [iova, iova + nrBytes). On failure the
   * mappings stay; their owner unmaps them. @returns 0 or the driver's errno
   */
  syncMap(domain: IommuDomain, iova: number, nrBytes: number): number {
    return domain.ops.iotlbSyncMap(domain, iova, nrBytes);
  }

  /** Writes all runs, or none of them, and leaves the sync to the caller where the kernel does. @returns bytes or an errno */
  #mapRuns(domain: IommuDomain, iova: number, chunks: Float64Array, nr: number, prot: number): number {
    const bitmap = domain.pgsizeBitmap;
    if (domain.type !== 'paging' || bitmap === 0 || (prot & (IOMMU_READ | IOMMU_WRITE)) === 0) return EINVAL;
    const smallest = bitmap & -bitmap;
    const { ops } = domain;
    const mapped = this.#mapped;
    let total = 0;
    let errno = nr > 0 ? 0 : EINVAL;
    let chunk = 0;
    // One pass is __iommu_map: one physically contiguous run. It does not sync, except in the way of old kernels. Not a
    // function of its own: a third of the time of a page (15 of 45 ns) went into handing over its addresses.
    while (chunk < nr) {
      const start = iova + total;
      const paddr = chunks[chunk * 2];
      let nrBytes = chunks[chunk * 2 + 1];
      for (chunk += 1; chunk < nr && chunks[chunk * 2] === paddr + nrBytes; chunk++) nrBytes += chunks[chunk * 2 + 1];
      if (
        smallest > 0 ? ((start | paddr | nrBytes) & (smallest - 1)) !== 0 : !areAligned(start, paddr, nrBytes, bitmap)
      ) {
        errno = EINVAL;
        break;
      }
      const fits = start + nrBytes - 1 <= domain.apertureLast && paddr + nrBytes <= PHYS_END;
      // The mask above sees whole numbers only.
      const isWhole = Math.floor(start) === start && Math.floor(paddr) === paddr && Math.floor(nrBytes) === nrBytes;
      if (!(fits && isWhole && nrBytes > 0 && start >= 0 && paddr >= 0)) {
        errno = EINVAL;
        break;
      }
      let done = 0;
      while (done < nrBytes) {
        let pgsize = smallest;
        let count = 1;
        if (nrBytes !== smallest || smallest <= 0) {
          pgsize = iommuPgsize(bitmap, start + done, paddr + done, nrBytes - done, this.#pgCount);
          if (!this.#onePerCallback) count = this.#pgCount.count;
        }
        mapped.bytes = 0;
        errno = ops.mapPages(domain, start + done, paddr + done, pgsize, count, prot, mapped);
        // Counted before the error is looked at: what a failing callback has written must be undone too.
        done += mapped.bytes;
        if (errno !== 0) break;
        // Success with nothing mapped breaks the callback's contract; going on would never end.
        if (mapped.bytes === 0) throw new Error(`${ops.name}: mapPages succeeded without mapping anything`);
      }
      if (this.#syncMapPerRun && done > 0) {
        const synced = ops.iotlbSyncMap(domain, start, done);
        if (errno === 0) errno = synced;
      }
      if (errno !== 0) {
        this.unmap(domain, start, done);
        break;
      }
      total += nrBytes;
      if (this.tracer !== null) this.tracer.map(start, paddr, nrBytes, domain);
    }
    if (errno === 0) return total;
    if (total !== 0) this.unmap(domain, iova, total);
    return errno;
  }

  /**
   * Ends mappings. C-UNMAP-GONE: at return no device of the domain reaches any page of what was unmapped, and the tables that
   * became empty have gone back to the allocator after the invalidation (C-TABLE-LIVE).
   * @returns bytes unmapped from iova on: fewer than asked when a hole came, more when a larger leaf was hit; 0 for unaligned
   * or impossible arguments
   */
  unmap(domain: IommuDomain, iova: number, nrBytes: number): number {
    // A driver callback that unmaps in turn finds the gather taken. (So does everybody after a driver that threw: slower, never wrong.)
    const owner = !this.#gatherBusy;
    const gather = owner ? this.#gather : new IotlbGather();
    if (owner) this.#gatherBusy = true;
    const unmapped = this.unmapFast(domain, iova, nrBytes, gather);
    // Nothing gone, nothing stale: no sync, where the kernel would call it with an empty range.
    if (unmapped !== 0 || gather.freelist.length !== 0) this.iotlbSync(domain, gather);
    if (owner) this.#gatherBusy = false;
    return unmapped;
  }

  /**
   * `unmap` without its end: until `iotlbSync(domain, gather)`, or until a flush queue flushed the domain, devices may still
   * use the old translations. The pages must not be reused before.
   */
  unmapFast(domain: IommuDomain, iova: number, nrBytes: number, gather: IotlbGather): number {
    const bitmap = domain.pgsizeBitmap;
    if (domain.type !== 'paging' || bitmap === 0) return 0;
    const smallest = bitmap & -bitmap;
    if (smallest > 0) {
      if (((iova | nrBytes) & (smallest - 1)) !== 0) return 0;
    } else if (lowestBit(iova) < lowestBit(bitmap) || lowestBit(nrBytes) < lowestBit(bitmap)) {
      return 0;
    }
    if (!(nrBytes >= 0 && iova >= 0) || iova + nrBytes - 1 > domain.apertureLast) return 0;
    if (Math.floor(iova) !== iova || Math.floor(nrBytes) !== nrBytes) return 0;

    const { ops } = domain;
    let unmapped = 0;
    while (unmapped < nrBytes) {
      let pgsize = smallest;
      let count = 1;
      if (nrBytes !== smallest || smallest <= 0) {
        const at = iova + unmapped;
        pgsize = iommuPgsize(bitmap, at, at, nrBytes - unmapped, this.#pgCount);
        if (!this.#onePerCallback) count = this.#pgCount.count;
      }
      const bytes = ops.unmapPages(domain, iova + unmapped, pgsize, count, gather);
      if (bytes === 0) break;
      unmapped += bytes;
    }
    if (unmapped !== 0 && gather.isEmpty && !gather.queued && this.options.emptyGather === 'fill') {
      gather.addRange(iova, unmapped);
    }
    if (this.tracer !== null) this.tracer.unmap(iova, nrBytes, unmapped, domain);
    return unmapped;
  }

  /** Ends unmaps gathered by `unmapFast`: C-UNMAP-GONE for all of them. The gather is empty afterwards. */
  iotlbSync(domain: IommuDomain, gather: IotlbGather): void {
    if (this.options.emptyGather !== 'skip' || !gather.isEmpty) domain.ops.iotlbSync(domain, gather);
    gather.reset();
  }

  /** Drops everything cached for the domain: what a flush queue calls for all its waiting unmaps. */
  flushIotlbAll(domain: IommuDomain): void {
    domain.ops.flushIotlbAll(domain);
  }

  /**
   * Where an IOVA leads, as a physical byte address, or -1 for nowhere. An identity domain leads to the same number; a blocked
   * one nowhere. (The kernel returns 0 for nowhere, and cannot tell it from physical address 0.)
   */
  iovaToPhys(domain: IommuDomain, iova: number): number {
    if (domain.type === 'identity') return iova;
    if (domain.type === 'blocked') return -1;
    return domain.ops.iovaToPhys(domain, iova);
  }
}

/** Alignment of a run where the smallest leaf has no int32 (an AMD table of large pages only). */
function areAligned(iova: number, paddr: number, nrBytes: number, bitmap: number): boolean {
  const smallest = lowestBit(bitmap);
  return lowestBit(iova) >= smallest && lowestBit(paddr) >= smallest && lowestBit(nrBytes) >= smallest;
}
