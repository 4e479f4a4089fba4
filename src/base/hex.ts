/** Text forms of addresses. JSON carries addresses as these strings: a JSON number above 2^53 would lose bits silently. */

/** `0x` and lower-case digits, no padding: the kernel's %#llx. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** Hex of a 64-bit word given as two int32, without going through a double. */
export function hexWords(lo: number, hi: number): string {
  const high = hi >>> 0;
  const low = lo >>> 0;
  return high === 0 ? `0x${low.toString(16)}` : `0x${high.toString(16)}${low.toString(16).padStart(8, '0')}`;
}

/** A range as messages print it: `0x1000+0x2000`. */
export function hexRange(start: number, nrBytes: number): string {
  return `${hex(start)}+${hex(nrBytes)}`;
}
