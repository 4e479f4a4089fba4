/**
 * Bit questions about numbers up to 2^53. JavaScript's bit operators cut at 32 bits, so anything about a whole address
 * goes through here; the functions are tested against bigint over the full range.
 */

/** A constant of this module: V8 turns a division by it into a multiplication, one by an imported binding it divides (20 cycles). */
const TWO_32 = 4294967296;

/** Index of the lowest set bit of a 32-bit word; 32 when the word is 0. */
export function ctz32(word: number): number {
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}

/** Index of the lowest set bit (the kernel's __ffs); 64 for 0. @param value integer in [0, 2^53) */
export function lowestBit(value: number): number {
  const low = value | 0;
  if (low !== 0) return ctz32(low);
  const high = Math.floor(value / TWO_32);
  return high === 0 ? 64 : 32 + ctz32(high | 0);
}

/** Index of the highest set bit (the kernel's __fls, floor of log2); -1 for 0. @param value integer in [0, 2^53) */
export function highestBit(value: number): number {
  const high = Math.floor(value / TWO_32);
  if (high !== 0) return 63 - Math.clz32(high);
  return 31 - Math.clz32(value >>> 0);
}

/** Smallest n with 2^n >= value (the kernel's order of roundup_pow_of_two); 0 for 0 and 1. */
export function log2Ceil(value: number): number {
  return value <= 1 ? 0 : highestBit(value - 1) + 1;
}

/** Bits `first..last` (inclusive, 0..31) of one word, as an unsigned number. */
export function field(word: number, first: number, last: number): number {
  const width = last - first + 1;
  return width === 32 ? word >>> 0 : (word >>> first) & ((1 << width) - 1);
}

/** Bitwise AND of two integers below 2^53. */
export function and53(a: number, b: number): number {
  const high = (Math.floor(a / TWO_32) & Math.floor(b / TWO_32)) >>> 0;
  return high * TWO_32 + ((a & b) >>> 0);
}

/** Bitwise XOR of two integers below 2^53. */
export function xor53(a: number, b: number): number {
  const high = (Math.floor(a / TWO_32) ^ Math.floor(b / TWO_32)) >>> 0;
  return high * TWO_32 + ((a ^ b) >>> 0);
}

/** Bitwise OR of two integers below 2^53. */
export function or53(a: number, b: number): number {
  const high = (Math.floor(a / TWO_32) | Math.floor(b / TWO_32)) >>> 0;
  return high * TWO_32 + ((a | b) >>> 0);
}
