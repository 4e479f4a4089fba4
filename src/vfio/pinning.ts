/**
 * Pinning of user pages in batches, one physically contiguous run at a time: vfio_pin_pages_remote() and
 * vfio_unpin_pages_remote() of Linux 6.12 drivers/vfio/vfio_iommu_type1.c.
 *
 * Pages are pinned 512 at a time (as many pointers as fit a page) but handed out by runs, so a run may be pieced together
 * from several batches, and what a batch holds beyond the run waits for the next call.
 */
import { ENOMEM, PAGE_SIZE } from '../base/index.ts';
import { IOMMU_WRITE } from '../iommu/index.ts';
import type { VfioDma } from './dma.ts';

/** VFIO_BATCH_MAX_CAPACITY. */
export const PIN_BATCH_PAGES = 512;

/** Whether a frame is mapped without being pinned or counted (is_invalid_reserved_pfn). */
function isReserved(dma: VfioDma, pfn: number): boolean {
  return dma.process.memory.isReserved?.(pfn) ?? false;
}

/** Pinned pages that wait to be mapped (struct vfio_batch). One serves a whole mapping. */
export class PinBatch {
  readonly #pfns: Float64Array;
  readonly #onePerRun: boolean;
  #size = 0;
  #offset = 0;
  /** First frame of the run that `pinRun` returned. */
  base = 0;

  /** @param disableHugepages pins and maps page by page (module parameter disable_hugepages) */
  constructor(disableHugepages: boolean = false) {
    this.#onePerRun = disableHugepages;
    this.#pfns = new Float64Array(disableHugepages ? 1 : PIN_BATCH_PAGES);
  }

  /**
   * Pins what follows `nrDone` bytes of a mapping, until the frames are no longer contiguous or `nrPages` are reached. Pages
   * that an emulated device holds already are counted once.
   * @returns pages pinned and accounted, or a negative errno (EFAULT, ENOMEM at the limit) with nothing of it pinned
   */
  pinRun(dma: VfioDma, nrDone: number, nrPages: number): number {
    const { memory, account } = dma.process;
    const write = (dma.prot & IOMMU_WRITE) !== 0;
    let pinned = 0;
    let nrCounted = 0;
    let reserved = false;
    let errno = 0;
    run: while (pinned < nrPages) {
      if (this.#size === 0) {
        const wanted = Math.min(nrPages - pinned, this.#pfns.length);
        const got = memory.pin(dma.vaddr + nrDone + pinned * PAGE_SIZE, wanted, write, this.#pfns);
        if (got < 0) {
          errno = got;
          break;
        }
        this.#size = got;
        this.#offset = 0;
      }
      while (this.#size > 0) {
        const pfn = this.#pfns[this.#offset];
        if (pinned === 0) {
          this.base = pfn;
          reserved = isReserved(dma, pfn);
        } else if (pfn !== this.base + pinned || isReserved(dma, pfn) !== reserved) {
          break run;
        }
        if (!reserved && !dma.externalPins.has(dma.iova + nrDone + pinned * PAGE_SIZE)) {
          if (!account.hasRoom(nrCounted + 1)) {
            errno = ENOMEM;
            break run;
          }
          nrCounted += 1;
        }
        pinned += 1;
        this.#offset += 1;
        this.#size -= 1;
      }
      if (this.#onePerRun) break;
    }
    if (errno === 0) errno = account.charge(nrCounted);
    if (errno === 0) return pinned;
    if (!reserved && pinned > 0) memory.unpin(this.base, pinned, write);
    this.drop(dma);
    return errno;
  }

  /** Unpins what no run has taken (vfio_batch_unpin); after a failed map. */
  drop(dma: VfioDma): void {
    for (; this.#size > 0; this.#size--, this.#offset++) unpinFrames(dma, this.#pfns[this.#offset], 1);
  }
}

/** @returns how many of the frames were real ones, so were unpinned */
function unpinFrames(dma: VfioDma, pfn: number, nrPages: number): number {
  if (isReserved(dma, pfn)) return 0;
  dma.process.memory.unpin(pfn, nrPages, (dma.prot & IOMMU_WRITE) !== 0);
  return nrPages;
}

/**
 * Unpins the frames behind a range that no domain leads to any more, and that no cache may lead to either: after the sync.
 * @returns pages to take off the account: those that no emulated device goes on holding
 */
export function unpinPages(dma: VfioDma, iova: number, pfn: number, nrPages: number): number {
  let nrUnpinned: number;
  if (dma.process.memory.isReserved === undefined) {
    nrUnpinned = unpinFrames(dma, pfn, nrPages);
  } else {
    nrUnpinned = 0;
    for (let page = 0; page < nrPages; page++) nrUnpinned += unpinFrames(dma, pfn + page, 1);
  }
  let nrHeld = 0;
  if (dma.externalPins.size > 0 && nrUnpinned > 0) {
    for (let page = 0; page < nrPages; page++) if (dma.externalPins.has(iova + page * PAGE_SIZE)) nrHeld += 1;
  }
  return nrUnpinned - nrHeld;
}
