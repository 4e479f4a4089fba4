/** Bits in the order of the kernel's little-endian bitmaps: bit n is bit n % 8 of byte n / 8, so of a u64 array as well. */

/** Most pages of one dirty bitmap (DIRTY_BITMAP_PAGES_MAX of Linux 6.12 drivers/vfio/vfio_iommu_type1.c: INT_MAX). */
export const DIRTY_PAGES_MAX: number = 2 ** 31 - 1;
/** Bytes of a bitmap of `nrPages` bits: whole u64s (DIRTY_BITMAP_BYTES). */
export function dirtyBitmapBytes(nrPages: number): number {
  return Math.ceil(nrPages / 64) * 8;
}

/** Sets `nr` bits from `first` on. */
export function setBits(bytes: Uint8Array, first: number, nr: number): void {
  let bit = first;
  const end = first + nr;
  while (bit < end) {
    if ((bit & 7) === 0 && end - bit >= 8) {
      // Bit numbers are below 2^31, so they fit the shift.
      const lastByte = end >>> 3;
      bytes.fill(0xff, bit >>> 3, lastByte);
      bit = lastByte * 8;
    } else {
      bytes[bit >>> 3] |= 1 << (bit & 7);
      bit += 1;
    }
  }
}

export function testBit(bytes: Uint8Array, bit: number): boolean {
  return (bytes[bit >>> 3] & (1 << (bit & 7))) !== 0;
}

/**
 * Writes `nr` bits of `source` to `target` from bit `offset` on, and zeroes from there to the end of the 64-bit word, as
 * update_user_bitmap does: it stores whole words, and takes from the target only what lies before `offset` in the first one.
 */
export function copyBits(target: Uint8Array, offset: number, source: Uint8Array, nr: number): void {
  for (let bit = 0; bit < nr; bit++) {
    const at = offset + bit;
    const mask = 1 << (at & 7);
    if (testBit(source, bit)) target[at >>> 3] |= mask;
    else target[at >>> 3] &= ~mask;
  }
  const end = offset + nr;
  for (let at = end; (at & 63) !== 0; at++) target[at >>> 3] &= ~(1 << (at & 7));
}
