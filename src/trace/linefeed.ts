/**
 * Chunks to whole lines. A chunk is handed on as it is, up to its last line end; only the line cut by a chunk border is
 * copied. A line longer than MAX_LINE_BYTES is dropped while it streams by, so it takes neither memory nor a second look.
 */
import { EXCERPT_LENGTH } from './bytetext.ts';

/** Longest line that is looked at, its line end left out. */
export const MAX_LINE_BYTES: number = 1 << 20;

const LINE_END = 10;

/** Receiver of lines. Byte ranges are [start, end) and valid during the call only. */
export interface LineReceiver {
  /** One or more whole lines; the last byte is a line end. Lines in it may be longer than MAX_LINE_BYTES. */
  block(bytes: Uint8Array, start: number, end: number): void;
  /** A line that is too long; its first bytes. */
  overlong(bytes: Uint8Array, start: number, end: number): void;
  /** The last line of the input, without a line end. Never empty. */
  tail(bytes: Uint8Array, start: number, end: number): void;
}

/** Cuts a stream of chunks into lines. */
export class LineFeed {
  readonly #receiver: LineReceiver;
  #carry = new Uint8Array(1024);
  #carried = 0;
  #dropping = false;

  constructor(receiver: LineReceiver) {
    this.#receiver = receiver;
  }

  push(chunk: Uint8Array): void {
    let start = 0;
    if (this.#carried > 0) {
      const at = chunk.indexOf(LINE_END);
      if (at < 0) {
        this.#append(chunk, 0, chunk.length);
        return;
      }
      this.#append(chunk, 0, at);
      if (this.#dropping) this.#drop();
      else {
        this.#carry[this.#carried] = LINE_END;
        this.#receiver.block(this.#carry, 0, this.#carried + 1);
        this.#carried = 0;
      }
      start = at + 1;
    }
    const last = chunk.lastIndexOf(LINE_END);
    if (last >= start) {
      this.#receiver.block(chunk, start, last + 1);
      start = last + 1;
    }
    if (start < chunk.length) this.#append(chunk, start, chunk.length);
  }

  /** The input is over: hands on what is left. */
  end(): void {
    if (this.#dropping) this.#drop();
    else if (this.#carried > 0) this.#receiver.tail(this.#carry, 0, this.#carried);
    this.#carried = 0;
  }

  #drop(): void {
    this.#receiver.overlong(this.#carry, 0, this.#carried);
    this.#dropping = false;
    this.#carried = 0;
  }

  #append(chunk: Uint8Array, start: number, end: number): void {
    if (this.#dropping) return;
    let length = this.#carried + (end - start);
    if (length > MAX_LINE_BYTES) {
      this.#dropping = true;
      // Enough for an excerpt and its "..." mark.
      length = EXCERPT_LENGTH + 1;
      if (this.#carried >= length) {
        this.#carried = length;
        return;
      }
      end = start + length - this.#carried;
    }
    // One byte more than the line: room for the line end that completes it.
    if (length + 1 > this.#carry.length) {
      const carry = new Uint8Array(Math.max(this.#carry.length * 2, length + 1));
      carry.set(this.#carry.subarray(0, this.#carried));
      this.#carry = carry;
    }
    this.#carry.set(chunk.subarray(start, end), this.#carried);
    this.#carried = length;
  }
}
