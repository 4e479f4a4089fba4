/** Which IOVA a mapping gets when its caller does not say: iopt_alloc_iova() of Linux 6.12 drivers/iommu/iommufd/io_pagetable.c. */
import { EINVAL, ENOSPC, EOVERFLOW, PAGE_SIZE, log2Ceil, lowestBit, or53 } from '../../base/index.ts';
import { LAST_ADDRESS } from '../address-word.ts';
import type { IovaRange } from '../iova-ranges.ts';
import type { IoptArea } from './area.ts';
import { holes, joined, merged } from './holes.ts';

/** Larger alignment would help no leaf that memory can have (HPAGE_SIZE with transparent huge pages). */
const MAX_ALIGNMENT = 2 ** 21;

/**
 * First address of [start, last] from which `nrBytes` fit; -1 when they do not. A range of one byte is never taken
 * (`aligned >= last`, as the kernel has it).
 */
function fit({ start, last }: IovaRange, nrBytes: number, alignment: number, pageOffset: number): number {
  if (start + (alignment - 1) > LAST_ADDRESS) return -1;
  const aligned = or53(Math.ceil(start / alignment) * alignment, pageOffset);
  return aligned >= last || last - aligned < nrBytes - 1 ? -1 : aligned;
}

function* areaRanges(areas: Iterable<IoptArea>): Generator<IovaRange> {
  for (const area of areas) yield { start: area.iova, last: area.last };
}

/**
 * The lowest free IOVA, never on page 0, that is as aligned as the size and the process's address are, so that large pages stay
 * large. `allowed` and `reserved` are sorted by start; without `allowed` everything is.
 * @returns EOVERFLOW, EINVAL (less aligned than the domains need), ENOSPC
 */
export function allocateIova(
  vaddr: number,
  nrBytes: number,
  needed: number,
  allowed: readonly IovaRange[],
  reserved: readonly IovaRange[],
  areas: Iterable<IoptArea>,
): number {
  if (nrBytes === 0 || nrBytes >= LAST_ADDRESS / 2) return EOVERFLOW;
  let alignment = 2 ** log2Ceil(nrBytes);
  if (vaddr !== 0) alignment = Math.min(alignment, 2 ** lowestBit(vaddr));
  alignment = Math.min(alignment, MAX_ALIGNMENT);
  if (alignment < needed) return EINVAL;

  const pageOffset = vaddr % PAGE_SIZE;
  const top = LAST_ADDRESS - PAGE_SIZE;
  const everything: IovaRange = { start: PAGE_SIZE, last: top };
  for (const range of allowed.length === 0 ? [everything] : joined(allowed)) {
    const last = Math.min(range.last, top);
    const start = fit({ start: Math.max(range.start, PAGE_SIZE), last }, nrBytes, alignment, pageOffset);
    if (start < 0) continue;
    for (const hole of holes(merged(reserved, areaRanges(areas)), start, last)) {
      const iova = fit(hole, nrBytes, alignment, pageOffset);
      if (iova >= 0) return iova;
    }
  }
  return ENOSPC;
}
