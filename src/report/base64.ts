/** Base64 (RFC 4648, section 4) for a layer that has neither Node nor a browser around it. */

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const PAD = 61;
const CODES: Uint8Array = Uint8Array.from(ALPHABET, (digit) => digit.charCodeAt(0));
/** Value of each character code below 128, 255 for none. */
const VALUES: Uint8Array = new Uint8Array(128).fill(255);
for (const [value, code] of CODES.entries()) VALUES[code] = value;
/** Characters that become a string at a time: a call takes only so many arguments. */
const PART = 8192;

export function encodeBase64(bytes: Uint8Array): string {
  const parts: string[] = [];
  const codes = new Uint8Array(PART);
  let nr = 0;
  for (let at = 0; at < bytes.length; at += 3) {
    const left = bytes.length - at;
    const word = (bytes[at] << 16) | (left > 1 ? bytes[at + 1] << 8 : 0) | (left > 2 ? bytes[at + 2] : 0);
    codes[nr++] = CODES[word >> 18];
    codes[nr++] = CODES[(word >> 12) & 63];
    codes[nr++] = left > 1 ? CODES[(word >> 6) & 63] : PAD;
    codes[nr++] = left > 2 ? CODES[word & 63] : PAD;
    if (nr === PART) {
      parts.push(String.fromCharCode(...codes));
      nr = 0;
    }
  }
  parts.push(String.fromCharCode(...codes.subarray(0, nr)));
  return parts.join('');
}

/** @returns null for what is no base64 with its padding */
export function decodeBase64(text: string): Uint8Array<ArrayBuffer> | null {
  if (text.length % 4 !== 0) return null;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  const nrDigits = text.length - padding;
  let to = 0;
  let word = 0;
  for (let at = 0; at < nrDigits; at++) {
    const code = text.charCodeAt(at);
    const value = code < 128 ? VALUES[code] : 255;
    if (value === 255) return null;
    word = (word << 6) | value;
    // Of four digits the second, third and fourth complete a byte each.
    const digit = at & 3;
    if (digit !== 0) bytes[to++] = word >> (6 - 2 * digit);
  }
  return bytes;
}
