/**
 * The process whose memory is mapped: what VFIO and iommufd ask of the kernel's memory management
 * (pin_user_pages_remote, unpin_user_page_range_dirty_lock, __account_locked_vm; Linux 6.12 mm/gup.c, mm/util.c).
 *
 * Whoever calls this layer brings the memory: which frame stands behind which page, and so what is contiguous, is his
 * decision. This layer promises that each frame is unpinned as often as it was pinned, and never before the last translation
 * to it is gone from tables *and* caches.
 */
import { ENOMEM } from '../base/index.ts';

export interface ProcessMemory {
  /**
   * Pins up to `nrPages` pages from a page-aligned `vaddr` on and writes their frame numbers to `pfns`, from index 0. May stop
   * early, at a hole for one. Frames without a struct page (see `isReserved`) come without others in the same call.
   * @returns how many, at least 1, or a negative errno when not even the first page could be had (EFAULT)
   */
  pin(vaddr: number, nrPages: number, write: boolean, pfns: Float64Array): number;
  /** Ends one pin of each of `nrPages` frames from `pfn` on. @param dirty they may have been written to */
  unpin(pfn: number, nrPages: number, dirty: boolean): void;
  /** A frame that is not memory, a BAR for one: mapped, but neither counted nor unpinned. Default: none is. */
  isReserved?(pfn: number): boolean;
  /** Copies between `data` and the process's own view (copy_from_user, copy_to_user). @returns 0 or EFAULT with nothing copied */
  copyUser(vaddr: number, data: Uint8Array, write: boolean): number;
  /** Copies between `data` and a frame, as memcpy through its kernel mapping; within one page. */
  copyFrame(pfn: number, offset: number, data: Uint8Array, write: boolean): void;
  /** True once the process is gone: nothing can be pinned any more, what is pinned stays. */
  readonly exited: boolean;
}

/** Locked memory against its limit (RLIMIT_MEMLOCK): of a process (mm->locked_vm) or of a user (user->locked_vm). */
export class LockAccount {
  readonly limitPages: number;
  /** CAP_IPC_LOCK: counted, never refused. */
  readonly privileged: boolean;
  #nrLocked = 0;

  constructor(limitPages: number = Infinity, privileged: boolean = false) {
    this.limitPages = limitPages;
    this.privileged = privileged;
  }

  get nrLocked(): number {
    return this.#nrLocked;
  }

  /** Whether `nrPages` more could be charged. */
  hasRoom(nrPages: number): boolean {
    return this.privileged || this.#nrLocked + nrPages <= this.limitPages;
  }

  /** Counts pages; negative numbers give back. @returns 0 or ENOMEM with nothing counted */
  charge(nrPages: number): number {
    if (nrPages > 0 && !this.hasRoom(nrPages)) return ENOMEM;
    this.#nrLocked += nrPages;
    if (this.#nrLocked < 0) throw new RangeError(`${-this.#nrLocked} more pages unlocked than were locked`);
    return 0;
  }
}

/** Who maps. Having one does not mean that it still runs, see `ProcessMemory.exited`. */
export interface Process {
  readonly memory: ProcessMemory;
  readonly account: LockAccount;
  /** The account of its user, which iommufd charges by default. Absent: `account`. */
  readonly userAccount?: LockAccount;
}
