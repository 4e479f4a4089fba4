/**
 * Byte access for trace.dat: the source interface its users implement, and a cursor that reads little-endian numbers and
 * strings and turns every read past the end into a TraceError with the file offset and the field's name.
 */
import { TWO_32 } from '../base/index.ts';
import { decodeUtf8 } from './bytetext.ts';
import { TraceError } from './trace-error.ts';

/** A file, a Blob's bytes, a memory buffer: synchronous reads at any offset. */
export interface RandomAccess {
  readonly size: number;
  /** Fills `into` from `offset`; returns how many bytes it got, fewer only at the end. */
  read(offset: number, into: Uint8Array): number;
}

/** A RandomAccess over bytes in memory. */
export class MemoryAccess implements RandomAccess {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get size(): number {
    return this.#bytes.length;
  }

  read(offset: number, into: Uint8Array): number {
    const count = Math.max(0, Math.min(into.length, this.#bytes.length - offset));
    into.set(this.#bytes.subarray(offset, offset + count));
    return count;
  }
}

/** `length` bytes at `offset`, all of them. @throws TraceError truncated */
export function readExactly(source: RandomAccess, offset: number, length: number, what: string): Uint8Array {
  if (offset + length > source.size) {
    throw new TraceError(
      'truncated',
      offset,
      `${what} (${length} bytes)`,
      `${Math.max(0, source.size - offset)} bytes`,
    );
  }
  const bytes = new Uint8Array(length);
  const got = source.read(offset, bytes);
  if (got !== length) throw new TraceError('truncated', offset, `${what} (${length} bytes)`, `${got} bytes`);
  return bytes;
}

/** Cursor over a piece of the file. */
export class DatCursor {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  /** File offset of the first byte; for a decompressed piece, the offset of its compressed form. */
  readonly #base: number;
  pos: number = 0;

  constructor(bytes: Uint8Array, base: number) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#base = base;
  }

  /** File offset of the position, for messages. */
  get offset(): number {
    return this.#base + this.pos;
  }

  get left(): number {
    return this.bytes.length - this.pos;
  }

  /** Moves over `length` bytes and returns where they start. */
  take(length: number, what: string): number {
    const start = this.pos;
    if (!(length >= 0) || length > this.left)
      throw new TraceError('truncated', this.offset, `${what} (${length} bytes)`, `${this.left} bytes`);
    this.pos += length;
    return start;
  }

  u8(what: string): number {
    return this.bytes[this.take(1, what)];
  }

  u16(what: string): number {
    return this.#view.getUint16(this.take(2, what), true);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  /** @throws TraceError corrupt for 2^53 and above: no size or offset of a file is that big */
  u64(what: string): number {
    const at = this.take(8, what);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 0x200000)
      throw new TraceError('corrupt', this.offset - 8, `${what} below 2^53`, `a value with high word ${high}`);
    return high * TWO_32 + this.#view.getUint32(at, true);
  }

  /** A null-terminated string. */
  text(what: string): string {
    const end = this.bytes.indexOf(0, this.pos);
    if (end < 0) throw new TraceError('truncated', this.offset, `${what} with a null byte at its end`, 'none');
    const text = decodeUtf8(this.bytes, this.pos, end);
    this.pos = end + 1;
    return text;
  }

  /** The constant `text`, its null byte included. */
  magic(text: string): void {
    const start = this.offset;
    const at = this.take(text.length + 1, `"${text}"`);
    const found = decodeUtf8(this.bytes, at, at + text.length);
    if (found !== text || this.bytes[at + text.length] !== 0) {
      throw new TraceError('corrupt', start, `"${text}"`, `"${found.replace(/[^ -~]/g, '?')}"`);
    }
  }
}
