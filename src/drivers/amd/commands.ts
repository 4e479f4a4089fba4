/**
 * The words of commands (AMD 48882, 2.4): build_inv_iommu_pages, build_inv_dte, build_inv_irt, build_inv_all of
 * drivers/iommu/amd/iommu.c; and the range rules of build_inv_address and amd_iommu_domain_flush_pages.
 */
import { ctz32, highestBit, lowestBit, TWO_32 as BASE_TWO_32, xor53 } from '../../base/index.ts';
import { amdvi } from '../../spec/index.ts';
import type { CommandQueue } from './command-queue.ts';
/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  CMD_INVALIDATE_DEVTAB_ENTRY,
  CMD_INVALIDATE_INTERRUPT_TABLE,
  CMD_INVALIDATE_IOMMU_ALL,
  CMD_INVALIDATE_IOMMU_PAGES,
  CMD_OP_SHIFT_W1,
  INV_ALL_PAGES_HI,
  INV_ALL_PAGES_LO,
  INV_PDE_W2,
  INV_SIZE_W2,
} = amdvi;
const TWO_32: number = BASE_TWO_32;
const SIZE_4K = 4096;
/** A range that differs above this bit cannot be told from everything: addresses are sign-extended from bit 51 up. */
const LAST_ADDRESS_BIT = 51;

/** Drops the cached device table entry of an id. */
export function invalidateDevtabEntry(queue: CommandQueue, sid: number): number {
  return queue.queue(sid, CMD_INVALIDATE_DEVTAB_ENTRY << CMD_OP_SHIFT_W1, 0, 0);
}

/** Drops what is cached of an id's interrupt table. Nothing here uses one; kernels flush it at start all the same. */
export function invalidateInterruptTable(queue: CommandQueue, sid: number): number {
  return queue.queue(sid, CMD_INVALIDATE_INTERRUPT_TABLE << CMD_OP_SHIFT_W1, 0, 0);
}

/** Drops everything the unit caches. Only where EFR.IASup says so. */
export function invalidateAll(queue: CommandQueue): number {
  return queue.queue(0, CMD_INVALIDATE_IOMMU_ALL << CMD_OP_SHIFT_W1, 0, 0);
}

/** Drops all pages of a domain. @param tables table entries in walk caches go too (PDE) */
export function invalidateAllPages(queue: CommandQueue, did: number, tables: boolean): number {
  return pages(queue, did, INV_ALL_PAGES_LO | INV_SIZE_W2, INV_ALL_PAGES_HI, tables);
}

/**
 * Drops a range of a domain with one command: the smallest aligned power of two around it. One page needs no size. More: the
 * highest bit in which first and last byte differ is the zero that ends the run of ones which codes the size, so all bits
 * below it become ones. (`1 << (bit - 1)` in its place once left half of the range cached: bug 4.)
 */
export function invalidateCovering(
  queue: CommandQueue,
  did: number,
  iova: number,
  nrBytes: number,
  tables: boolean,
): number {
  const lo = iova | 0;
  const hi = (iova / TWO_32) | 0;
  if (nrBytes <= SIZE_4K) return pages(queue, did, lo, hi, tables);
  const bit = highestBit(xor53(iova, iova + nrBytes - 1));
  if (bit > LAST_ADDRESS_BIT) return invalidateAllPages(queue, did, tables);
  if (bit < 32) return pages(queue, did, ((lo | ((1 << bit) - 1)) & -SIZE_4K) | INV_SIZE_W2, hi, tables);
  return pages(queue, did, -SIZE_4K | INV_SIZE_W2, hi | ((1 << (bit - 32)) - 1), tables);
}

/**
 * Drops exactly a range, in naturally aligned powers of two: each step is what both the address is aligned to and the rest
 * still holds. What a virtual unit is told, since whatever lies outside would be rebuilt by its hypervisor for nothing.
 */
export function invalidateExactly(
  queue: CommandQueue,
  did: number,
  iova: number,
  nrBytes: number,
  tables: boolean,
): number {
  let errno = 0;
  let at = iova;
  let left = nrBytes;
  while (left > 0 && errno === 0) {
    // Both below 2^31: the common case, and several times faster.
    const fits = left < 0x80000000;
    const longest = fits ? 31 - Math.clz32(left) : highestBit(left);
    const alignment = (at | 0) === 0 ? lowestBit(at) : ctz32(at | 0);
    const stepLg2 = alignment < longest ? alignment : longest;
    const step = stepLg2 < 31 ? 1 << stepLg2 : 2 ** stepLg2;
    errno = invalidateCovering(queue, did, at, step, tables);
    at += step;
    left -= step;
  }
  return errno;
}

/**
 * The flush of a whole domain put through the rule above, as kernels did until 2026 (6.12.96): the size is CMD_INV_IOMMU_ALL_PAGES_ADDRESS,
 * 2^63 - 1, so the steps are 2^62, 2^61, ... 1. Those from 2^53 up are encoded as all pages, those of a page and less as the
 * last page, and each one waits its turn.
 */
export function invalidateFullRangeSplit(queue: CommandQueue, did: number, tables: boolean): number {
  let errno = 0;
  for (let stepLg2 = 62; stepLg2 >= 0 && errno === 0; stepLg2--) {
    if (stepLg2 - 1 > LAST_ADDRESS_BIT) {
      errno = invalidateAllPages(queue, did, tables);
    } else if (stepLg2 > 12) {
      // The step begins at 2^63 - 2^(stepLg2 + 1): ones above stepLg2. Bit stepLg2 - 1 is the zero that ends the ones below it.
      const lo = clearBit(clearBit(INV_ALL_PAGES_LO, stepLg2), stepLg2 - 1);
      const hi = clearBit(clearBit(INV_ALL_PAGES_HI, stepLg2 - 32), stepLg2 - 33);
      errno = pages(queue, did, lo | INV_SIZE_W2, hi, tables);
    } else {
      errno = pages(
        queue,
        did,
        stepLg2 === 12 ? INV_ALL_PAGES_LO & ~SIZE_4K : INV_ALL_PAGES_LO,
        INV_ALL_PAGES_HI,
        tables,
      );
    }
  }
  return errno;
}

/** A word without one bit; a bit outside of the word changes nothing. */
function clearBit(word: number, bit: number): number {
  return bit >= 0 && bit < 32 ? word & ~(1 << bit) : word;
}

function pages(queue: CommandQueue, did: number, addressLo: number, addressHi: number, tables: boolean): number {
  const w1 = did | (CMD_INVALIDATE_IOMMU_PAGES << CMD_OP_SHIFT_W1);
  return queue.queue(0, w1, addressLo | (tables ? INV_PDE_W2 : 0), addressHi);
}
