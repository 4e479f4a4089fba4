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

/** One translation of an AMD host table (48882, 2.2.3), walked by 64-bit arithmetic: what hardware would find. */
export interface AmdWalk {
  paddr: bigint;
  /** Bytes of the page that was hit, as its entry codes them. */
  bytes: bigint;
  /** Rights of the whole path: bit 0 IR, bit 1 IW. */
  rights: number;
}

/** Where one IOVA leads, or null. Throws on what hardware would refuse as malformed. */
export function walkOneAmd(mem: PhysMem, rootPfn: number, levels: number, iova: number | bigint): AmdWalk | null {
  let table = BigInt(rootPfn) << 12n;
  let level = levels;
  let rights = 3n;
  const address = BigInt(iova);
  if (levels < 6 && address >> BigInt(12 + 9 * levels) !== 0n) return null;
  for (;;) {
    const shift = BigInt(12 + 9 * (level - 1));
    const entry = readEntry(mem, table, Number((address >> shift) & 511n));
    if ((entry & 1n) === 0n) return null;
    rights &= (entry >> 61n) & 3n;
    const next = Number((entry >> 9n) & 7n);
    if (next === 0) {
      const paddr = entry & ADDRESS;
      if (paddr % (1n << shift) !== 0n)
        throw new Error(`page 0x${entry.toString(16)} of level ${level} is not aligned`);
      return { paddr: paddr + (address & ((1n << shift) - 1n)), bytes: 1n << shift, rights: Number(rights) };
    }
    if (next === 7) {
      let bit = 12n;
      while (((entry >> bit) & 1n) === 1n) bit += 1n;
      const bytes = 1n << (bit + 1n);
      if (bytes < 2n << shift || bytes >= 1n << (shift + 9n))
        throw new Error(`sized page 0x${entry.toString(16)}, level ${level}`);
      return { paddr: (entry & ADDRESS & ~(bytes - 1n)) + (address & (bytes - 1n)), bytes, rights: Number(rights) };
    }
    if (next !== level - 1) throw new Error(`entry 0x${entry.toString(16)} of level ${level} skips to ${next}`);
    table = entry & ADDRESS;
    level = next;
  }
}
