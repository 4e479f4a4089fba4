/** A small seeded generator (xorshift128, Marsaglia 2003): the only source of randomness below `cli/`, so that a run is its seed. */
export class Rng {
  #x: number;
  #y: number;
  #z: number;
  #w: number;

  /** @param seed any number; its low 32 bits select the sequence. */
  constructor(seed: number) {
    // splitmix-style spreading: neighbouring seeds must not give neighbouring sequences, and the state must not be all zero.
    let s = seed | 0;
    const next = (): number => {
      s = (s + 0x9e3779b9) | 0;
      let v = Math.imul(s ^ (s >>> 16), 0x21f0aaad);
      v = Math.imul(v ^ (v >>> 15), 0x735a2d97);
      return v ^ (v >>> 15);
    };
    this.#x = next();
    this.#y = next();
    this.#z = next();
    this.#w = next() | 1;
  }

  /** The next 32 random bits as an unsigned integer. */
  next32(): number {
    const t = this.#x ^ (this.#x << 11);
    this.#x = this.#y;
    this.#y = this.#z;
    this.#z = this.#w;
    this.#w = this.#w ^ (this.#w >>> 19) ^ (t ^ (t >>> 8));
    return this.#w >>> 0;
  }

  /** A uniform integer in [0, bound). @param bound 1..2^32 */
  below(bound: number): number {
    return Math.floor((this.next32() / 4294967296) * bound);
  }

  /** True with the given probability in [0, 1]. */
  chance(probability: number): boolean {
    return this.next32() < probability * 4294967296;
  }

  /** One element of a non-empty list. @throws RangeError for an empty list */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('pick: the list is empty');
    return items[this.below(items.length)];
  }
}
