/**
 * One line as bytes with a position: the small reading steps all text readers share. Works on any byte source, never looks
 * past `end`, allocates nothing. Numbers are doubles: a value of 2^53 and above comes back rounded but never below 2^53, so
 * one comparison with ADDRESS_LIMIT tells exact from inexact.
 */

/** Value of a hex digit by its byte, -1 for every other byte. */
export const HEX_VALUE: Int8Array = (() => {
  const table = new Int8Array(256).fill(-1);
  for (let digit = 0; digit < 10; digit++) table[48 + digit] = digit;
  for (let digit = 10; digit < 16; digit++) {
    table[97 + digit - 10] = digit;
    table[65 + digit - 10] = digit;
  }
  return table;
})();

/** Bytes of an ASCII text, for comparisons. */
export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0) & 0x7f);
}

const PREFIX = ascii('0x');
const NO_BYTES = new Uint8Array(0);

/** A reading position in one line. */
export class LineScanner {
  bytes: Uint8Array = NO_BYTES;
  pos: number = 0;
  /** First byte after the line, its line end left out. */
  end: number = 0;
  /** Result of `hexWords`: bits 31:0 and 63:32 as int32. */
  lo: number = 0;
  hi: number = 0;

  set(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
  }

  get atEnd(): boolean {
    return this.pos >= this.end;
  }

  /** The byte at the position, -1 at the end. */
  peek(): number {
    return this.pos < this.end ? this.bytes[this.pos] : -1;
  }

  /** Skips spaces and tabs. */
  blanks(): void {
    const { bytes, end } = this;
    let at = this.pos;
    while (at < end && (bytes[at] === 32 || bytes[at] === 9)) at++;
    this.pos = at;
  }

  /** Skips to the next space, tab or the end. */
  word(): void {
    const { bytes, end } = this;
    let at = this.pos;
    while (at < end && bytes[at] !== 32 && bytes[at] !== 9) at++;
    this.pos = at;
  }

  /** True, and the position moves behind it, when `text` stands at the position. */
  literal(text: Uint8Array): boolean {
    const { bytes, pos } = this;
    if (pos + text.length > this.end) return false;
    for (let i = 0; i < text.length; i++) if (bytes[pos + i] !== text[i]) return false;
    this.pos = pos + text.length;
    return true;
  }

  /** Moves behind the next occurrence of `text`; false (and no move) when there is none. */
  after(text: Uint8Array): boolean {
    const start = this.pos;
    const first = text[0];
    const last = this.end - text.length;
    for (let at = start; at <= last; at++) {
      if (this.bytes[at] !== first) continue;
      this.pos = at;
      if (this.literal(text)) return true;
    }
    this.pos = start;
    return false;
  }

  /** Decimal digits as a number; -1 when there is none. */
  decimal(): number {
    const { bytes, end } = this;
    let at = this.pos;
    let value = 0;
    while (at < end) {
      const digit = bytes[at] - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      at++;
    }
    if (at === this.pos) return -1;
    this.pos = at;
    return value;
  }

  /** A decimal that may be negative, as an int; NaN when there are no digits. */
  signed(): number {
    const start = this.pos;
    const negative = this.peek() === 45;
    if (negative) this.pos++;
    const value = this.decimal();
    if (value < 0) {
      this.pos = start;
      return Number.NaN;
    }
    return negative ? -value : value;
  }

  /** Hex digits as a number; -1 when there is none. */
  hex(): number {
    const { bytes, end } = this;
    let at = this.pos;
    let value = 0;
    while (at < end) {
      const digit = HEX_VALUE[bytes[at]];
      if (digit < 0) break;
      value = value * 16 + digit;
      at++;
    }
    if (at === this.pos) return -1;
    this.pos = at;
    return value;
  }

  /** Up to 16 significant hex digits into `lo` and `hi`; false when there are none or more. */
  hexWords(): boolean {
    const { bytes, end } = this;
    let at = this.pos;
    let lo = 0;
    let hi = 0;
    while (at < end) {
      const digit = HEX_VALUE[bytes[at]];
      if (digit < 0) break;
      if (hi >>> 28 !== 0) return false;
      hi = (hi << 4) | (lo >>> 28);
      lo = (lo << 4) | digit;
      at++;
    }
    if (at === this.pos) return false;
    this.pos = at;
    this.lo = lo;
    this.hi = hi;
    return true;
  }

  /** `0x` and hex digits as a number; -1 when that is not there. */
  prefixedHex(): number {
    return this.literal(PREFIX) ? this.hex() : -1;
  }

  /** True when the position is at the end or on a blank: the field before it is complete. */
  boundary(): boolean {
    return this.pos >= this.end || this.bytes[this.pos] === 32 || this.bytes[this.pos] === 9;
  }
}
