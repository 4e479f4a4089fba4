/**
 * Protocol buffer messages, as far as a trace needs them (protobuf.dev/programming-guides/encoding): variable-length numbers,
 * strings and nested messages, in a buffer that grows. A nested message gets a length of fixed width, which any reader accepts.
 */
const VARINT = 0;
const LENGTH_DELIMITED = 2;
/** Bytes of a nested message's length: up to 2^28 - 1. */
const LENGTH_BYTES = 4;
const MOST_VARINT_BYTES = 10;

export class ProtoBuffer {
  #bytes: Uint8Array = new Uint8Array(1 << 16);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written since the last call; valid until the next write. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }

  /** @param value a whole number from 0 to 2^53 */
  number(field: number, value: number): void {
    this.#room(2 * MOST_VARINT_BYTES);
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
  }

  string(field: number, text: string): void {
    const end = this.begin(field);
    for (const character of text) this.#utf8(character.codePointAt(0) ?? 0);
    this.end(end);
  }

  /** Begins a nested message. @returns what `end` wants */
  begin(field: number): number {
    this.#room(2 * MOST_VARINT_BYTES);
    this.#varint(field * 8 + LENGTH_DELIMITED);
    this.#length += LENGTH_BYTES;
    return this.#length;
  }

  end(begun: number): void {
    let rest = this.#length - begun;
    for (let at = begun - LENGTH_BYTES; at < begun - 1; at++) {
      this.#bytes[at] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[begun - 1] = rest;
  }

  #varint(value: number): void {
    const bytes = this.#bytes;
    let rest = value;
    // Above 31 bits the operators on ints would cut it.
    while (rest > 0x7fffffff) {
      bytes[this.#length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    while (rest > 0x7f) {
      bytes[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[this.#length++] = rest;
  }

  #utf8(given: number): void {
    // Half of a surrogate pair has no encoding.
    const code = given >= 0xd800 && given <= 0xdfff ? 0xfffd : given;
    this.#room(4);
    if (code < 0x80) {
      this.#bytes[this.#length++] = code;
      return;
    }
    const nrMore = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    this.#bytes[this.#length++] = ([0, 0xc0, 0xe0, 0xf0][nrMore] ?? 0) | (code >>> (6 * nrMore));
    for (let i = nrMore - 1; i >= 0; i--) this.#bytes[this.#length++] = 0x80 | ((code >>> (6 * i)) & 0x3f);
  }

  #room(nrBytes: number): void {
    if (this.#length + nrBytes <= this.#bytes.length) return;
    const more = new Uint8Array(2 * this.#bytes.length + nrBytes);
    more.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = more;
  }
}
