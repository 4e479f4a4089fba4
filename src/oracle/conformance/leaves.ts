/** Counts the leaves of a table by the specifications' drawings alone: a reader that shares nothing with the writer it judges. */
import type { PhysMem } from '../../mem/index.ts';
import type { OracleArch } from '../program.ts';

/** @returns leaves by log2 of their size; of an AMD size with replicas each counts as one, however many entries say it */
export function countLeaves(mem: PhysMem, arch: OracleArch, top: number, levels: number): Record<number, number> {
  const entries: Record<number, number> = {};
  const visit = (table: number, level: number): void => {
    for (let index = 0; index < 512; index++) {
      const lo = mem.load32(table + index * 8);
      const hi = mem.load32(table + index * 8 + 4);
      const child = arch === 'intel' ? vtdChild(lo, level) : amdChild(lo);
      if (child === ABSENT) continue;
      if (child > 0) {
        visit((hi & 0xfffff) * 2 ** 32 + ((lo & -4096) >>> 0), child);
        continue;
      }
      const lg2 = child === SIZED ? sizeLg2(lo, hi) : 3 + 9 * level;
      entries[lg2] = (entries[lg2] ?? 0) + 1 / 2 ** ((lg2 - 12) % 9);
    }
  };
  visit(top, levels);
  return entries;
}

/** What an entry leads to besides a table of a level: nothing, a page of its own size, a page of a size that it spells out. */
const ABSENT = -2;
const SIZED = -1;
const LEAF = 0;

function vtdChild(lo: number, level: number): number {
  if ((lo & 3) === 0) return ABSENT;
  return level === 1 || (lo & 0x80) !== 0 ? LEAF : level - 1;
}

function amdChild(lo: number): number {
  if ((lo & 1) === 0) return ABSENT;
  const next = (lo >>> 9) & 7;
  return next === 7 ? SIZED : next;
}

/** From bit 12 up: as many ones as make up the size, then a zero (AMD-Vi 48882, table of page sizes). */
function sizeLg2(lo: number, hi: number): number {
  const address = (hi & 0xfffff) * 2 ** 32 + ((lo & -4096) >>> 0);
  let lg2 = 13;
  while (Math.floor(address / 2 ** (lg2 - 1)) % 2 === 1) lg2 += 1;
  return lg2;
}
