/**
 * Fields of an event's text, read through a DataView. Each function takes the position of a field and returns that of the
 * byte behind it, or -1 for anything out of the ordinary, which then is for the exact path. Values go to `event` or to `VALUE`: a
 * number that is returned would be boxed, 15 ns and garbage, wherever the function is not inlined.
 *
 * Nothing here reads past a line end by more than the eight bytes that are compared or converted at once.
 */
import { ADDRESS_LIMIT as IMPORTED_LIMIT } from '../base/index.ts';
import type { TraceEvent } from './events.ts';
import { MAX_LINE_BYTES as IMPORTED_LINE_BYTES } from './linefeed.ts';
import { HEX_VALUE } from './scanner.ts';
import { INDEX_MASK as IMPORTED_MASK, PAIR_VALUE, text4, text8 } from './words.ts';

// An imported constant is loaded and checked at every use, a constant of this file is part of the code.
const ADDRESS_LIMIT = IMPORTED_LIMIT;
const MAX_LINE_BYTES = IMPORTED_LINE_BYTES;
const INDEX_MASK = IMPORTED_MASK;
const PAIRS = PAIR_VALUE;
const HEX = HEX_VALUE;
const BLANK = 32;
const COMMA = 44;
const CLOSE = 125;
/** Bytes of `0x`, 16 digits and a brace, and 20 behind them. */
const NUMBER_SPAN = 40;

/** The value that was read last. */
export const VALUE: Float64Array = new Float64Array(1);
const OUT = VALUE;

/** Hex digits of a number below 2^53, at most 16. */
function hexField(d: DataView, from: number): number {
  const at = from & INDEX_MASK;
  const first = d.getInt32(at, true);
  const second = d.getInt32(at + 4, true);
  const a = PAIRS[first & 0xffff];
  const b = PAIRS[first >>> 16];
  const c = PAIRS[second & 0xffff];
  const e = PAIRS[second >>> 16];
  if ((a | b | c | e) >= 0) {
    const value = ((a << 24) | (b << 16) | (c << 8) | e) >>> 0;
    OUT[0] = value;
    return HEX[d.getUint8(at + 8)] < 0 ? at + 8 : moreHex(d, at + 8, value);
  }
  // Fewer than eight.
  let i = at;
  let value = 0;
  if ((a | b) >= 0) {
    value = (a << 8) | b;
    i += 4;
  }
  for (;;) {
    const digit = HEX[d.getUint8(i)];
    if (digit < 0) break;
    value = (value << 4) | digit;
    i++;
  }
  OUT[0] = value;
  return i === at ? -1 : i;
}

function moreHex(d: DataView, from: number, start: number): number {
  let at = from;
  let value = start;
  for (; at < from + 8; at++) {
    const digit = HEX[d.getUint8(at)];
    if (digit < 0) break;
    value = value * 16 + digit;
  }
  OUT[0] = value;
  // A 17th digit is not what follows any number.
  return value >= ADDRESS_LIMIT ? -1 : at;
}

/** Up to nine decimal digits. */
export function decimalField(d: DataView, from: number): number {
  const start = from & INDEX_MASK;
  let at = start;
  let value = 0;
  for (; at < start + 9; at++) {
    const digit = d.getUint8(at) - 48;
    if (digit >>> 0 > 9) break;
    value = (value * 10 + digit) | 0;
  }
  OUT[0] = value;
  return at === start || (d.getUint8(at) - 48) >>> 0 <= 9 ? -1 : at;
}

/** ` 0x` and up to 16 hex digits into two words. */
export function descriptorWord(d: DataView, from: number, words: Int32Array, index: number): number {
  const at = from & INDEX_MASK;
  if ((d.getInt32(at, true) & 0xffffff) !== BLANK_0X) return -1;
  let i = at + 3;
  let lo = 0;
  let hi = 0;
  const first = d.getInt32(i, true);
  const second = d.getInt32(i + 4, true);
  const a = PAIRS[first & 0xffff];
  const b = PAIRS[first >>> 16];
  const c = PAIRS[second & 0xffff];
  const e = PAIRS[second >>> 16];
  if ((a | b | c | e) >= 0) {
    lo = (a << 24) | (b << 16) | (c << 8) | e;
    i += 8;
  }
  for (; i < at + 20; i++) {
    const digit = HEX[d.getUint8(i)];
    if (digit < 0) break;
    hi = (hi << 4) | (lo >>> 28);
    lo = (lo << 4) | digit;
  }
  // Nothing, or a 17th digit.
  if (i === at + 3 || i === at + 20) return -1;
  words[index] = lo;
  words[index + 1] = hi;
  return i;
}

const BLANK_0X = text4(' 0x\0');
const DIR_TO = text8(' dir=TO_');
const DIR_FROM = text8(' dir=FRO');
const DIR_BOTH = text8(' dir=BID');
const DEVICE_END = text8('_DEVICE ');
const FROM_8 = text4('M_DE');
const BOTH_8 = text8('IRECTION');
const BOTH_11 = text8('CTIONAL ');

/** ` dir=WORD` of the three directions that transfer anything. @returns the blank behind it */
export function dirField(d: DataView, from: number): number {
  const at = from & INDEX_MASK;
  const head = d.getFloat64(at, true);
  if (head === DIR_FROM)
    return d.getFloat64(at + 9, true) === DEVICE_END && d.getInt32(at + 8, true) === FROM_8 ? at + 16 : -1;
  if (head === DIR_TO) return d.getFloat64(at + 7, true) === DEVICE_END ? at + 14 : -1;
  if (head !== DIR_BOTH) return -1;
  return d.getFloat64(at + 8, true) === BOTH_8 && d.getFloat64(at + 11, true) === BOTH_11 ? at + 18 : -1;
}

const DMA_ADDR = text8(' dma_add');
const DMA_ADDR_6 = text4('ddr=');
const SIZE = text4(' siz');
const SIZE_2 = text4('ize=');
const SIZE_PAGE = text8('ize=4096');

/** ` dma_addr=HEX size=DECIMAL`. @returns the blank behind it */
export function rangeFields(d: DataView, from: number, event: TraceEvent): number {
  let at = from & INDEX_MASK;
  if (d.getFloat64(at, true) !== DMA_ADDR || d.getInt32(at + 6, true) !== DMA_ADDR_6) return -1;
  at = hexField(d, at + 10) & INDEX_MASK;
  // A -1 becomes an index out of range.
  if (at === INDEX_MASK || d.getInt32(at, true) !== SIZE) return -1;
  event.iova = OUT[0];
  let nrBytes = 4096;
  if (d.getFloat64(at + 2, true) === SIZE_PAGE && d.getUint8(at + 10) === BLANK) at += 10;
  else {
    if (d.getInt32(at + 2, true) !== SIZE_2) return -1;
    at = decimalField(d, at + 6);
    if (at < 0 || d.getUint8(at) !== BLANK) return -1;
    nrBytes = OUT[0];
  }
  event.nrBytes = nrBytes;
  return event.iova + nrBytes >= ADDRESS_LIMIT ? -1 : at;
}

const PHYS_ADDR = text8(' phys_ad');
const PHYS_ADDR_7 = text4('ddr=');

/** ` phys_addr=HEX`. @returns the blank behind it */
export function physField(d: DataView, from: number, event: TraceEvent): number {
  const start = from & INDEX_MASK;
  if (d.getFloat64(start, true) !== PHYS_ADDR || d.getInt32(start + 7, true) !== PHYS_ADDR_7) return -1;
  const at = hexField(d, start + 11);
  if (at < 0 || d.getUint8(at) !== BLANK) return -1;
  event.paddr = OUT[0];
  return event.paddr + event.nrBytes >= ADDRESS_LIMIT ? -1 : at;
}

/**
 * `0x1,0x2}` into every second number of `event.list` from `offset`, which grows; or nowhere for an offset of -1. Their number
 * becomes VALUE. @returns the byte behind the brace, with 20 bytes of the view behind that
 */
export function listField(d: DataView, from: number, event: TraceEvent, offset: number): number {
  let at = from & INDEX_MASK;
  const last = Math.min(d.byteLength - NUMBER_SPAN, at + MAX_LINE_BYTES);
  if (at <= last && d.getUint8(at) === CLOSE) {
    OUT[0] = 0;
    return at + 1;
  }
  let { list } = event;
  for (let count = 0; ;) {
    if (at > last || d.getUint16(at, true) !== 0x7830) return -1;
    at = hexField(d, at + 2) & INDEX_MASK;
    if (at === INDEX_MASK) return -1;
    if (offset >= 0) {
      if (count * 2 + 2 > list.length) {
        event.growList();
        ({ list } = event);
      }
      list[count * 2 + offset] = OUT[0];
    }
    count++;
    const next = d.getUint8(at);
    at = (at + 1) & INDEX_MASK;
    if (next === CLOSE) {
      OUT[0] = count;
      return at;
    }
    if (next !== COMMA) return -1;
  }
}
