/**
 * Bytes to strings without platform classes (TextDecoder is not in ES2023): UTF-8 with replacement, excerpts for messages,
 * and `ByteNames`, which finds the number of a name given as bytes without making a string when the name is known.
 */

/** UTF-8 to string; every malformed byte becomes U+FFFD. */
export function decodeUtf8(bytes: Uint8Array, start: number, end: number): string {
  let text = '';
  let at = start;
  while (at < end) {
    let run = at;
    const runLimit = Math.min(end, at + 4096);
    while (run < runLimit && bytes[run] < 0x80) run++;
    if (run > at) {
      text += String.fromCharCode(...bytes.subarray(at, run));
      at = run;
      continue;
    }
    const first = bytes[at++];
    const more =
      first >= 0xf0 && first < 0xf5 ? 3 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xc2 && first < 0xe0 ? 1 : 0;
    let code = first & (0x3f >> more);
    let taken = 0;
    while (taken < more && at + taken < end && (bytes[at + taken] & 0xc0) === 0x80) {
      code = (code << 6) | (bytes[at + taken] & 0x3f);
      taken++;
    }
    const least = more === 3 ? 0x10000 : more === 2 ? 0x800 : 0x80;
    if (more === 0 || taken < more || code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      text += '\ufffd';
      continue;
    }
    text += String.fromCodePoint(code);
    at += more;
  }
  return text;
}

/** Longest excerpt in characters of input. */
export const EXCERPT_LENGTH = 80;

/** The start of a line for a message: at most 80 bytes, control characters and non-ASCII bytes as `\xNN`. */
export function excerpt(bytes: Uint8Array, start: number, end: number): string {
  const stop = Math.min(end, start + EXCERPT_LENGTH);
  let text = '';
  for (let at = start; at < stop; at++) {
    const byte = bytes[at];
    if (byte === 9) text += '\\t';
    else if (byte === 92) text += '\\\\';
    else if (byte < 32 || byte > 126) text += `\\x${byte.toString(16).padStart(2, '0')}`;
    else text += String.fromCharCode(byte);
  }
  return stop < end ? `${text}...` : text;
}

/**
 * Numbers for names that come as bytes, from 0 in order of first sight. An open-addressed table over FNV-1a hashes; a hit
 * compares the stored bytes and allocates nothing. Full at `limit` names, so hostile input cannot take memory.
 */
export class ByteNames {
  readonly limit: number;
  readonly #texts: string[] = [];
  readonly #bytes: Uint8Array[] = [];
  #hashes = new Int32Array(64);
  /** id + 1 by hash; 0 = free. At most half full. */
  #slots = new Int32Array(128);

  /** id + 1 last seen under a hash of a few bytes: most lookups end here and never hash the whole name. */
  readonly #recent = new Int32Array(256);

  constructor(limit: number) {
    this.limit = limit;
  }

  get count(): number {
    return this.#texts.length;
  }

  /** The text of a number given before. */
  text(id: number): string {
    return this.#texts[id] ?? '';
  }

  /** The number of a name; -1 when it is unknown. */
  find(bytes: Uint8Array, start: number, end: number): number {
    const recent = this.#recent[weakHash(bytes, start, end)] - 1;
    if (recent >= 0 && this.#equal(recent, bytes, start, end)) return recent;
    return this.#lookup(bytes, start, end, this.#hash(bytes, start, end));
  }

  /** The number of a name, given on first sight; -1 when the table is full. */
  intern(bytes: Uint8Array, start: number, end: number): number {
    const weak = weakHash(bytes, start, end);
    const recent = this.#recent[weak] - 1;
    if (recent >= 0 && this.#equal(recent, bytes, start, end)) return recent;
    const hash = this.#hash(bytes, start, end);
    const found = this.#lookup(bytes, start, end, hash);
    if (found >= 0) {
      this.#recent[weak] = found + 1;
      return found;
    }
    const id = this.#texts.length;
    if (id >= this.limit) return -1;
    if (id >= this.#hashes.length) this.#grow();
    this.#texts.push(decodeUtf8(bytes, start, end));
    this.#bytes.push(bytes.slice(start, end));
    this.#hashes[id] = hash;
    this.#place(id, hash);
    return id;
  }

  #hash(bytes: Uint8Array, start: number, end: number): number {
    let hash = 0x811c9dc5 | 0;
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ bytes[at], 0x01000193);
    return hash ^ (hash >>> 15);
  }

  #lookup(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const id = slots[slot] - 1;
      if (id < 0) return -1;
      if (this.#hashes[id] === hash && this.#equal(id, bytes, start, end)) return id;
    }
  }

  #equal(id: number, bytes: Uint8Array, start: number, end: number): boolean {
    const stored = this.#bytes[id];
    if (stored.length !== end - start) return false;
    for (let i = 0; i < stored.length; i++) if (stored[i] !== bytes[start + i]) return false;
    return true;
  }

  #place(id: number, hash: number): void {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = id + 1;
  }

  #grow(): void {
    const hashes = new Int32Array(this.#hashes.length * 2);
    hashes.set(this.#hashes);
    this.#hashes = hashes;
    this.#slots = new Int32Array(hashes.length * 2);
    for (let id = 0; id < this.#texts.length; id++) this.#place(id, hashes[id]);
  }
}

/** Length and last five bytes, in 8 bits: what differs between the names of one trace. */
function weakHash(bytes: Uint8Array, start: number, end: number): number {
  const last = end - start >= 5 ? end : start + 5;
  if (last > bytes.length) return 0;
  const sum =
    bytes[last - 1] * 7 + bytes[last - 2] * 31 + bytes[last - 3] * 3 + bytes[last - 4] * 13 + bytes[last - 5] * 5;
  return (sum + (end - start) * 17) & 255;
}
