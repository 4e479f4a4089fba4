/**
 * The kernel's unsigned long, 53 bits wide. User space hands these layers any number at all, and the kernel's checks are about
 * how such numbers wrap; with the top of the address space at 2^53 - 1 instead of 2^64 - 1 the same checks give the same
 * answers, and every sum below is exact.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';

/** ULONG_MAX: the last byte that can be named. */
export const LAST_ADDRESS: number = ADDRESS_LIMIT - 1;

/**
 * A number as the kernel would see it: negative ones are large ones.
 * @returns NaN for what no register can hold (fractions, 2^53 and more): the `__u64` that does not fit an unsigned long
 */
export function toWord(value: number): number {
  if (!Number.isSafeInteger(value)) return Number.NaN;
  return value < 0 ? ADDRESS_LIMIT + value : value;
}

/** Last byte of a range of words (check_add_overflow(start, nrBytes - 1)); NaN past the end of the address space. */
export function lastByte(start: number, nrBytes: number): number {
  const last = start + (nrBytes - 1);
  return last <= LAST_ADDRESS ? last : Number.NaN;
}
