/**
 * Shape of a hardware cache: how many sets and ways, and who leaves when a set is full.
 * No specification fixes these numbers (VT-d rev. 4.1 section 6.2, AMD-Vi section 2.1: caches are "implementation
 * specific"), so they are parameters and a result that depends on them must say which it used.
 */

export type Replacement = 'lru' | 'fifo' | 'random';

export interface CacheGeometry {
  /** A power of two, 1..65536. */
  readonly sets: number;
  /** 1..16: the entries of a set are kept in order, which costs a move per way. */
  readonly ways: number;
  readonly replacement?: Replacement;
  /** Start of the victim sequence for 'random'; any non-zero number. */
  readonly seed?: number;
}

/** Throws on a shape that the cache cannot have; called once, at construction. @throws RangeError */
export function checkGeometry(geometry: CacheGeometry, name: string): void {
  const { sets, ways } = geometry;
  if (!Number.isInteger(sets) || sets < 1 || sets > 65536 || (sets & (sets - 1)) !== 0) {
    throw new RangeError(`${name}: sets must be a power of two in 1..65536, got ${sets}`);
  }
  if (!Number.isInteger(ways) || ways < 1 || ways > 16) {
    throw new RangeError(`${name}: ways must be an integer in 1..16, got ${ways}`);
  }
}
