/**
 * Texts of map and unmap events as kernels print them since 5.17:
 * `IOMMU: iova=0x<16> - 0x<16> paddr=0x<16> size=<decimal>`, `IOMMU: iova=... - ... size=<decimal> unmapped_size=<decimal>`.
 * Anything else is left to the exact path, without effect.
 */
import { ADDRESS_LIMIT as IMPORTED_LIMIT, TWO_32 as IMPORTED_TWO_32 } from '../base/index.ts';
import type { TraceEvent } from './events.ts';
import { EventKind } from './events.ts';
import { INDEX_MASK as IMPORTED_MASK, PAIR_VALUE, highDigits, text4, text8 } from './words.ts';

// An imported constant is loaded and checked at every use, a constant of this file is part of the code.
const ADDRESS_LIMIT = IMPORTED_LIMIT;
const TWO_32 = IMPORTED_TWO_32;
const KIND_MAP = EventKind.map;
const KIND_UNMAP = EventKind.unmap;
const PAIRS = PAIR_VALUE;
const INDEX_MASK = IMPORTED_MASK;

const IOMMU_0 = text8('IOMMU: i');
const IOMMU_6 = text8(' iova=0x');
const DASH = text4(' - 0');
const PADDR = text8('paddr=0x');
const SIZE_0 = text4(' siz');
const SIZE_2 = text4('ize=');
const SIZE_PAGE = text8('ize=4096');
const UNMAPPED_0 = text8(' unmappe');
const UNMAPPED_7 = text8('ed_size=');
const PAGE = text4('4096');
const ZEROS = text8('00000000');
const LINE_END = 10;
const RETURN = 13;

/**
 * Reads the text at `from`. The view must reach 160 bytes further and hold a line end there.
 * @returns the start of the next line, -1 for anything but the usual shape
 *
 * Numbers are put together here from small integers, by hand: a function that returned one whole would box it whenever it is
 * not inlined.
 */
export function readMapOrUnmap(d: DataView, from: number, isMap: boolean, event: TraceEvent): number {
  let at = from & INDEX_MASK;
  if (d.getFloat64(at, true) !== IOMMU_0 || d.getFloat64(at + 6, true) !== IOMMU_6) return -1;
  at += 14;
  // Upper halves are mostly zeros, and nearly always the same in both.
  const high = d.getFloat64(at, true);
  const iovaHigh = high === ZEROS ? 0 : highDigits(d, at);
  const iWord = d.getInt32(at + 8, true);
  const i0 = PAIRS[iWord & 0xffff];
  const i1 = PAIRS[iWord >>> 16];
  const iNext = d.getInt32(at + 12, true);
  const i2 = PAIRS[iNext & 0xffff];
  const i3 = PAIRS[iNext >>> 16];
  if (d.getInt32(at + 16, true) !== DASH || d.getUint8(at + 20) !== 120) return -1;
  const endHigh = d.getFloat64(at + 21, true) === high ? iovaHigh : highDigits(d, at + 21);
  const eWord = d.getInt32(at + 29, true);
  const e0 = PAIRS[eWord & 0xffff];
  const e1 = PAIRS[eWord >>> 16];
  const eNext = d.getInt32(at + 33, true);
  const e2 = PAIRS[eNext & 0xffff];
  const e3 = PAIRS[eNext >>> 16];
  if ((iovaHigh | i0 | i1 | i2 | i3 | endHigh | e0 | e1 | e2 | e3) < 0) return -1;
  const iova = iovaHigh * TWO_32 + (((i0 << 24) | (i1 << 16) | (i2 << 8) | i3) >>> 0);
  const end = endHigh * TWO_32 + (((e0 << 24) | (e1 << 16) | (e2 << 8) | e3) >>> 0);
  at += 37;

  let paddr = 0;
  if (isMap) {
    if (d.getUint8(at) !== 32 || d.getFloat64(at + 1, true) !== PADDR) return -1;
    const paddrHigh = d.getFloat64(at + 9, true) === ZEROS ? 0 : highDigits(d, at + 9);
    const pWord = d.getInt32(at + 17, true);
    const p0 = PAIRS[pWord & 0xffff];
    const p1 = PAIRS[pWord >>> 16];
    const pNext = d.getInt32(at + 21, true);
    const p2 = PAIRS[pNext & 0xffff];
    const p3 = PAIRS[pNext >>> 16];
    if ((paddrHigh | p0 | p1 | p2 | p3) < 0) return -1;
    paddr = paddrHigh * TWO_32 + (((p0 << 24) | (p1 << 16) | (p2 << 8) | p3) >>> 0);
    at += 25;
  }

  // Up to nine digits are an int32; bigger numbers are for the exact path. Most are a page, one comparison for all four digits.
  if (d.getInt32(at, true) !== SIZE_0) return -1;
  let size = 4096;
  const sizeStart = at + 6;
  if (d.getFloat64(at + 2, true) === SIZE_PAGE) at += 10;
  else {
    if (d.getInt32(at + 2, true) !== SIZE_2) return -1;
    size = 0;
    at += 6;
  }
  for (;;) {
    const digit = d.getUint8(at) - 48;
    if (digit >>> 0 > 9) break;
    size = (size * 10 + digit) | 0;
    at++;
  }
  if (size !== end - iova || at === sizeStart || at - sizeStart > 9) return -1;

  if (isMap) {
    if (paddr + size >= ADDRESS_LIMIT) return -1;
    event.kind = KIND_MAP;
    event.paddr = paddr;
  } else {
    if (d.getFloat64(at, true) !== UNMAPPED_0 || d.getFloat64(at + 7, true) !== UNMAPPED_7) return -1;
    at += 15;
    let unmapped = 4096;
    const unmappedStart = at;
    if (d.getInt32(at, true) === PAGE) at += 4;
    else unmapped = 0;
    for (;;) {
      const digit = d.getUint8(at) - 48;
      if (digit >>> 0 > 9) break;
      unmapped = (unmapped * 10 + digit) | 0;
      at++;
    }
    if (at === unmappedStart || at - unmappedStart > 9) return -1;
    event.kind = KIND_UNMAP;
    event.extra = unmapped;
  }
  if (d.getUint8(at) === RETURN) at++;
  if (d.getUint8(at) !== LINE_END) return -1;
  event.iova = iova;
  event.nrBytes = size;
  event.device = -1;
  return at + 1;
}
