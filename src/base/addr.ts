/**
 * Address spaces as types. Every address is a plain number, exact up to 2^53, which is above a 52-bit physical and a
 * 48-bit IO address; the brand keeps the spaces apart at compile time and costs nothing at run time.
 *
 * Glossary used by every layer (no synonyms elsewhere):
 * - iova: address a device puts on the bus, translated by an IOMMU. paddr: host physical address. pfn: address >> 12.
 * - end: first byte after a range (exclusive). last: last byte of a range (inclusive). nr: a count. lg2: log2 of a size.
 * - table: one 4 KiB page of 512 entries. entry: 8 bytes of it. leaf: an entry that maps memory. level 1 holds 4 KiB leaves.
 */
declare const space: unique symbol;

/** An IO virtual address in bytes. Having one means the number is a byte address in some domain; not that it is mapped. */
export type Iova = number & { readonly [space]: 'iova' };
/** A host physical address in bytes. */
export type Paddr = number & { readonly [space]: 'paddr' };
/** A physical page frame number: a Paddr >> 12. */
export type Pfn = number & { readonly [space]: 'pfn' };

export const PAGE_SHIFT: number = 12;
export const PAGE_SIZE: number = 4096;
/** 2^32: products and quotients with it stand for shifts that JavaScript's 32-bit operators cannot do. */
export const TWO_32: number = 4294967296;
/** First number that is no longer an exact address. */
export const ADDRESS_LIMIT: number = 2 ** 53;

function checked(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 0 || value >= ADDRESS_LIMIT) {
    throw new RangeError(`${name} must be an integer in [0, 2^53), got ${value}`);
  }
  return value;
}

/** Checks and brands a byte address of a device. @throws RangeError outside [0, 2^53) or not an integer. */
export function toIova(value: number): Iova {
  return checked(value, 'iova') as Iova;
}

/** Checks and brands a physical byte address. @throws RangeError outside [0, 2^53) or not an integer. */
export function toPaddr(value: number): Paddr {
  return checked(value, 'paddr') as Paddr;
}

/** Checks and brands a page frame number. @throws RangeError outside [0, 2^41) or not an integer. */
export function toPfn(value: number): Pfn {
  if (!Number.isInteger(value) || value < 0 || value >= ADDRESS_LIMIT / PAGE_SIZE) {
    throw new RangeError(`pfn must be an integer in [0, 2^41), got ${value}`);
  }
  return value as Pfn;
}

/** The frame a physical address lies in. */
export function pfnOf(paddr: number): Pfn {
  return Math.floor(paddr / PAGE_SIZE) as Pfn;
}

/** First byte of a frame. */
export function paddrOf(pfn: number): Paddr {
  return (pfn * PAGE_SIZE) as Paddr;
}

/** Low 32 bits of an address as an int32, for a table word. */
export function lo32(address: number): number {
  return address | 0;
}

/** Bits 63:32 of an address as an int32, for a table word. Exact because addresses are integers below 2^53. */
export function hi32(address: number): number {
  return Math.floor(address / TWO_32) | 0;
}

/** The number made of two words. Exact only when the result is below 2^53; callers mask the high word first. */
export function fromWords(lo: number, hi: number): number {
  return (hi >>> 0) * TWO_32 + (lo >>> 0);
}

/** Largest multiple of `size` that is not above `value`. `size` need not be a power of two. */
export function alignDown(value: number, size: number): number {
  return value - (value % size);
}

/** Smallest multiple of `size` that is not below `value`. */
export function alignUp(value: number, size: number): number {
  const rest = value % size;
  return rest === 0 ? value : value + (size - rest);
}
