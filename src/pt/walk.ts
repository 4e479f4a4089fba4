/** Reading a table back as a list of leaves, for dumps and pictures. Not for judging: that needs a walker of its own. */
import type { PhysMem } from '../mem/index.ts';
import { entryLg2, isTable, tablePfn } from './format.ts';
import type { PtFormat } from './format.ts';

export interface LeafVisitor {
  /** One leaf; replicas are reported once. Called in ascending IOVA order. */
  leaf(iova: number, paddr: number, nrBytes: number, prot: number): void;
  /** One table page, before what is below it. Absent: not asked for. */
  table?(iova: number, pfn: number, level: number): void;
}

/** Visits every leaf of the table of `level` levels whose root is `rootPfn`. */
export function visitLeaves(
  mem: PhysMem,
  format: PtFormat,
  rootPfn: number,
  level: number,
  visitor: LeafVisitor,
  iova: number = 0,
): void {
  visitor.table?.(iova, rootPfn, level);
  const slot = mem.slotOf(rootPfn);
  if (slot < 0) return;
  const entryBytes = 2 ** entryLg2(level);
  let next = iova;
  for (let entry = 0; entry < 512; entry++) {
    const at = iova + entry * entryBytes;
    // Inside a leaf that was reported at its first replica.
    if (at < next) continue;
    const index = (slot << 10) + entry * 2;
    const lo = mem.words[index];
    const hi = mem.words[index + 1];
    if ((lo & format.presentMaskLo) === 0) continue;
    if (isTable(format, lo, level)) {
      visitLeaves(mem, format, tablePfn(lo, hi), level - 1, visitor, at);
    } else {
      const nrBytes = 2 ** format.leafSizeLg2(lo, hi, level);
      visitor.leaf(at, format.leafPaddr(lo, hi, level), nrBytes, format.leafProt(lo, hi));
      next = at + nrBytes;
    }
  }
}
