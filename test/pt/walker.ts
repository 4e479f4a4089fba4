/**
 * A page-table reader for tests: bigint, slow, straight from the specification (VT-d 9.8, AMD-Vi 2.2.3), nothing of src/pt.
 * The layouts are stated here a second time on purpose.
 */
import type { PhysMem } from '../../src/mem/index.ts';

export interface WalkedTable {
  pfn: number;
  level: number;
  /** First address and bytes of what the table can map. */
  iova: number;
  bytes: number;
}

export interface WalkedLeaf {
  iova: bigint;
  paddr: bigint;
  bytes: bigint;
  entry: bigint;
}

function readEntry(mem: PhysMem, table: bigint, index: number): bigint {
  const address = Number(table) + index * 8;
  return (BigInt(mem.load32(address + 4) >>> 0) << 32n) | BigInt(mem.load32(address) >>> 0);
}

const ADDRESS = 0x000f_ffff_ffff_f000n;

/** All leaves of a VT-d second-stage table and the frames of its tables, root included. */
export function walkVtd(
  mem: PhysMem,
  rootPfn: number,
  levels: number,
): { leaves: WalkedLeaf[]; tables: WalkedTable[] } {
  const leaves: WalkedLeaf[] = [];
  const tables: WalkedTable[] = [];
  const visit = (table: bigint, level: number, iova: bigint): void => {
    tables.push({ pfn: Number(table >> 12n), level, iova: Number(iova), bytes: 2 ** (12 + 9 * level) });
    const bytes = 1n << BigInt(12 + 9 * (level - 1));
    for (let index = 0; index < 512; index++) {
      const entry = readEntry(mem, table, index);
      if (entry === 0n) continue;
      if ((entry & 3n) === 0n)
        throw new Error(`entry 0x${entry.toString(16)}: neither empty nor readable nor writable`);
      const at = iova + BigInt(index) * bytes;
      if (level === 1 || (entry & 0x80n) !== 0n) {
        if (level > 3) throw new Error('leaf above level 3');
        if (level === 1 && (entry & 0x80n) !== 0n) throw new Error('PS in a level-1 entry');
        const paddr = entry & ADDRESS;
        if (paddr % bytes !== 0n) throw new Error(`leaf of 0x${bytes.toString(16)} at 0x${paddr.toString(16)}`);
        leaves.push({ iova: at, paddr, bytes, entry });
      } else {
        if ((entry & 0xfffn) !== 3n)
          throw new Error(`table entry 0x${entry.toString(16)} does not grant exactly R and W`);
        visit(entry & ADDRESS, level - 1, at);
      }
    }
  };
  visit(BigInt(rootPfn) << 12n, levels, 0n);
  return { leaves, tables };
}

/** Where one IOVA leads, walked from the root, or null. */
export function walkOneVtd(mem: PhysMem, rootPfn: number, levels: number, iova: number): bigint | null {
  let table = BigInt(rootPfn) << 12n;
  const address = BigInt(iova);
  for (let level = levels; level >= 1; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const entry = readEntry(mem, table, Number((address >> shift) & 511n));
    if ((entry & 3n) === 0n) return null;
    if (level === 1 || (entry & 0x80n) !== 0n) return (entry & ADDRESS) + (address & ((1n << shift) - 1n));
    table = entry & ADDRESS;
  }
  return null;
}
