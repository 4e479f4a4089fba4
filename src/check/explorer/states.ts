/**
 * States of the hardware as numbers: equal contents get the same number, so that a search compares states by comparing numbers.
 * A state is a run of 32-bit words; all of them lie behind each other in one array.
 */

const EMPTY = -1;

export class StateStore {
  #words: Int32Array = new Int32Array(1 << 16);
  #starts: Int32Array = new Int32Array(1 << 10);
  #table: Int32Array = new Int32Array(1 << 12).fill(EMPTY);
  #hashes: Int32Array = new Int32Array(1 << 10);
  #nr = 0;

  /** How many different states there have been. */
  get size(): number {
    return this.#nr;
  }

  /** The number of a state, a new one when it was never seen. Numbers count up from 0. @param nrWords of `words` that count */
  intern(words: Int32Array, nrWords: number): number {
    const hash = hashOf(words, nrWords);
    const mask = this.#table.length - 1;
    let at = hash & mask;
    for (; this.#table[at] !== EMPTY; at = (at + 1) & mask) {
      const candidate = this.#table[at];
      if (this.#hashes[candidate] === hash && this.#isEqual(candidate, words, nrWords)) return candidate;
    }
    return this.#add(at, hash, words, nrWords);
  }

  /** The words of a state: a view, good until the next `intern`. */
  wordsOf(state: number): Int32Array {
    return this.#words.subarray(this.#starts[state], this.#starts[state + 1]);
  }

  #isEqual(state: number, words: Int32Array, nrWords: number): boolean {
    const start = this.#starts[state];
    if (this.#starts[state + 1] - start !== nrWords) return false;
    for (let word = 0; word < nrWords; word++) if (this.#words[start + word] !== words[word]) return false;
    return true;
  }

  #add(at: number, hash: number, words: Int32Array, nrWords: number): number {
    const state = this.#nr;
    if (state + 2 > this.#starts.length) {
      this.#starts = grown(this.#starts);
      this.#hashes = grown(this.#hashes);
    }
    const start = this.#starts[state];
    while (start + nrWords > this.#words.length) this.#words = grown(this.#words);
    for (let word = 0; word < nrWords; word++) this.#words[start + word] = words[word];
    this.#starts[state + 1] = start + nrWords;
    this.#hashes[state] = hash;
    this.#table[at] = state;
    this.#nr += 1;
    if (this.#nr * 2 > this.#table.length) this.#rehash();
    return state;
  }

  #rehash(): void {
    const table = new Int32Array(this.#table.length * 2).fill(EMPTY);
    const mask = table.length - 1;
    for (let state = 0; state < this.#nr; state++) {
      let at = this.#hashes[state] & mask;
      while (table[at] !== EMPTY) at = (at + 1) & mask;
      table[at] = state;
    }
    this.#table = table;
  }
}

function grown(array: Int32Array): Int32Array {
  const larger = new Int32Array(array.length * 2);
  larger.set(array);
  return larger;
}

/** FNV-1a over words, with a last mixing: the low bits choose the place. */
function hashOf(words: Int32Array, nrWords: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let word = 0; word < nrWords; word++) hash = Math.imul(hash ^ words[word], 0x01000193) ^ (hash >>> 15);
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  return hash ^ (hash >>> 15);
}
