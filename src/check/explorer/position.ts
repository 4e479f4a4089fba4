/**
 * Where a driver stands: a number of all that it has done (stores, register writes, ends of calls), and of what it has read
 * since it last did something or waited. Two runs at one position go on alike when they are given the same answers.
 */

// What a driver, or the scenario above it, does.
export const STORE = 1;
export const FLUSH = 2;
export const WRITE = 3;
export const FREE = 4;
export const CALL = 5;
export const RETURN = 6;
export const CHOICE = 7;
/** It waits although nothing is under way. */
const STUCK = 8;

const MULTIPLIER_1 = 0x9e3779b1;
const MULTIPLIER_2 = 0x85ebca6b;

export class Position {
  #a = 1;
  #b = 2;
  readonly #answers = new Map<number, number>();

  clone(): Position {
    const copy = new Position();
    copy.#a = this.#a;
    copy.#b = this.#b;
    for (const [address, answer] of this.#answers) copy.#answers.set(address, answer);
    return copy;
  }

  /** The driver did something. */
  did(what: number, x: number, y: number): void {
    this.#answers.clear();
    this.#mix(what);
    this.#mix(x | 0);
    this.#mix(Math.floor(x / 4294967296));
    this.#mix(y | 0);
  }

  /** Whether this was read since the driver last did something or waited. */
  hasRead(address: number): boolean {
    return this.#answers.has(address);
  }

  /** The driver read something. @param address of the register or word */
  read(address: number, answer: number): void {
    this.#answers.set(address, answer);
  }

  /**
   * The driver took a turn of a waiting loop: it will read anew what it waits for.
   * @param worked 0: no work was waiting, so the loop leads nowhere new but to its end
   */
  waited(worked: number): void {
    this.#answers.clear();
    if (worked === 0) this.#mix(STUCK);
  }

  /** `did` with a name. */
  named(what: number, name: string, value: number): void {
    let hash = 7;
    for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 31) + name.charCodeAt(i)) | 0;
    this.did(what, hash >>> 0, value);
  }

  /** 53 bits. */
  get key(): number {
    let a = this.#a;
    let b = this.#b;
    for (const [address, answer] of this.#answers) {
      a = Math.imul(a ^ (address | 0), MULTIPLIER_1) ^ (a >>> 15);
      b = Math.imul(b ^ answer, MULTIPLIER_2) ^ (b >>> 13) ^ a;
    }
    return (a >>> 0) * 2097152 + (b >>> 11);
  }

  #mix(word: number): void {
    this.#a = Math.imul(this.#a ^ word, MULTIPLIER_1) ^ (this.#a >>> 15);
    this.#b = Math.imul(this.#b ^ word, MULTIPLIER_2) ^ (this.#b >>> 13);
  }
}
