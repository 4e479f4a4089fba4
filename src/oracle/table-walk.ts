/**
 * Where tables in memory lead, read word by word: no cache, no rights, no fault, and nothing of `hw` or `pt`. For tables that
 * software wrote and meant; VT-d 3.4, 9.1, 9.3, 9.8 and AMD-Vi 2.2.3 with figures 10 and 11.
 */
import { TWO_32 } from '../base/index.ts';
import type { PhysMem } from '../mem/index.ts';

/** A page that a device reaches. */
export interface Leaf {
  /** Where the page of 4 KiB that was asked for begins. */
  readonly paddr: number;
  /** Size of the page that maps it. */
  readonly nrBytes: number;
  readonly mayRead: boolean;
  readonly mayWrite: boolean;
}

/** Address bits 51:12 of an entry. */
function addressOf(mem: PhysMem, at: number): number {
  return (mem.load32(at + 4) & 0xfffff) * TWO_32 + ((mem.load32(at) & -4096) >>> 0);
}

function indexAt(iova: number, level: number): number {
  return Math.floor(iova / 2 ** (3 + 9 * level)) % 512;
}

function leafAt(base: number, nrBytes: number, iova: number, rights: number): Leaf {
  const paddr = base - (base % nrBytes) + ((iova % nrBytes) - (iova % 4096));
  return { paddr, nrBytes, mayRead: (rights & 1) !== 0, mayWrite: (rights & 2) !== 0 };
}

/** VT-d, legacy mode. @param root address of the root table. @returns null where nothing is mapped */
export function walkVtd(mem: PhysMem, root: number, sid: number, iova: number): Leaf | null {
  const rootEntry = root + (sid >>> 8) * 16;
  if ((mem.load32(rootEntry) & 1) === 0) return null;
  const context = addressOf(mem, rootEntry) + (sid & 0xff) * 16;
  if ((mem.load32(context) & 1) === 0) return null;
  let rights = 3;
  let table = addressOf(mem, context);
  for (let level = (mem.load32(context + 8) & 7) + 2; level > 0; level--) {
    const at = table + indexAt(iova, level) * 8;
    const lo = mem.load32(at);
    rights &= lo;
    if (rights === 0) return null;
    if (level === 1 || (lo & 0x80) !== 0) return leafAt(addressOf(mem, at), 2 ** (3 + 9 * level), iova, rights);
    table = addressOf(mem, at);
  }
  return null;
}

/** AMD-Vi, host tables. @param devices address of the device table. @returns null where nothing is mapped */
export function walkAmdvi(mem: PhysMem, devices: number, sid: number, iova: number): Leaf | null {
  const entry = devices + sid * 32;
  const dte = mem.load32(entry);
  // V and TV.
  if ((dte & 3) !== 3) return null;
  let rights = mem.load32(entry + 4) >>> 29;
  let table = addressOf(mem, entry);
  for (let level = (dte >>> 9) & 7; level > 0;) {
    const at = table + indexAt(iova, level) * 8;
    const lo = mem.load32(at);
    rights &= mem.load32(at + 4) >>> 29;
    if ((lo & 1) === 0 || (rights & 3) === 0) return null;
    const next = (lo >>> 9) & 7;
    const address = addressOf(mem, at);
    if (next === 0) return leafAt(address, 2 ** (3 + 9 * level), iova, rights);
    if (next === 7) return leafAt(address, codedSize(address), iova, rights);
    table = address;
    level = next;
  }
  return null;
}

/** The size that a page's address codes: ones from bit 12 up to a zero, which is half of it. */
function codedSize(address: number): number {
  let half = 4096;
  while (Math.floor(address / half) % 2 === 1) half *= 2;
  return half * 2;
}
