/**
 * Which leaf size a range begins with, and for how many leaves: iommu_pgsize() of Linux 6.12 drivers/iommu/iommu.c.
 * The same answer serves a map (iova, paddr), an unmap (iova twice) and a table that splits a range by itself, so it lives
 * here, below all three.
 */
import { and53, ctz32, highestBit, lowestBit, or53, xor53 } from '../base/index.ts';

/** Out-parameter of `iommuPgsize`. */
export interface PgCount {
  count: number;
}

const TWO_31 = 2 ** 31;

/**
 * The largest size of `bitmap` that is not above `nrBytes` and to which both addresses are aligned; `out.count` says how many
 * leaves of it come before a larger size could take over. The run stops at the next larger size's boundary only when both
 * addresses reach it together and at least one such leaf fits behind it; otherwise it takes the whole of `nrBytes`.
 *
 * Precondition: nrBytes > 0, and all three are multiples of the smallest size. Addresses are doubles below 2^53 here, so the
 * sum that overflowed at the top of the address space in the kernel (boundary + next size) is exact.
 *
 * @returns the size in bytes
 */
export function iommuPgsize(bitmap: number, iova: number, paddr: number, nrBytes: number, out: PgCount): number {
  if (bitmap >= TWO_31 && nrBytes >= TWO_31) return pgsizeWide(bitmap, iova, paddr, nrBytes, out);
  // Sizes above the range can neither begin it nor take over within it. The others fit an int32, so every mask below concerns
  // the low words only; the wide form costs 4 times as much.
  const sizes = bitmap & 0x7fffffff;
  const merged = iova | paddr;
  let top = merged === 0 ? 30 : ctz32(merged);
  if (nrBytes < TWO_31) {
    const longest = 31 - Math.clz32(nrBytes);
    if (longest < top) top = longest;
  }
  const pgsize = 1 << (31 - Math.clz32(sizes & (top >= 30 ? 0x7fffffff : (2 << top) - 1)));

  const larger = sizes & -(pgsize << 1);
  let run = nrBytes;
  if (larger !== 0) {
    const next = larger & -larger;
    if (((iova ^ paddr) & (next - 1)) === 0) {
      const toBoundary = next - (merged & (next - 1));
      if (toBoundary + next <= nrBytes) run = toBoundary;
    }
  }
  out.count = Math.floor(run / pgsize);
  return pgsize;
}

/** The same for ranges of 2 GiB and more with sizes of 2 GiB and more (AMD). */
function pgsizeWide(bitmap: number, iova: number, paddr: number, nrBytes: number, out: PgCount): number {
  const merged = or53(iova, paddr);
  let top = highestBit(nrBytes);
  const alignment = lowestBit(merged);
  if (alignment < top) top = alignment;
  const pgsize = 2 ** highestBit(and53(bitmap, 2 ** (top + 1) - 1));

  const larger = bitmap - and53(bitmap, pgsize * 2 - 1);
  let run = nrBytes;
  if (larger !== 0) {
    const next = 2 ** lowestBit(larger);
    if (and53(xor53(iova, paddr), next - 1) === 0) {
      const toBoundary = next - and53(merged, next - 1);
      if (toBoundary + next <= nrBytes) run = toBoundary;
    }
  }
  out.count = Math.floor(run / pgsize);
  return pgsize;
}
