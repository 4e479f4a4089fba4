/**
 * The kernel's ring buffer as stored in a trace.dat: pages of one CPU, and in them records with time deltas. Format:
 * include/linux/ring_buffer.h and kernel/trace/ring_buffer.c (2.6.30 to 7.0; absolute time stamps since 4.17, their upper
 * bits taken from the page since 5.17), and the reader lib/traceevent/kbuffer-parse.c.
 *
 *   page: u64 time, long commit (bits 26:0 bytes used, 30 a count of missed events is stored behind them, 31 events were
 *   missed), data. record: u32 = type_len (bits 4:0), delta (bits 31:5); then by type_len:
 *   0 = u32 length and data, 1..28 = 4 * type_len bytes of data, 29 = padding, 30 = 27 more bits of delta, 31 = absolute time
 */
import { TWO_32 } from '../base/index.ts';
import type { RandomAccess } from './dat-bytes.ts';
import { readExactly } from './dat-bytes.ts';
import type { CpuData, DatLayout, Decompress, PageLayout } from './dat-layout.ts';
import { expandChecked } from './dat-layout.ts';
import { TraceError } from './trace-error.ts';

const COMMIT_MASK = 0x7ffffff;
const MISSED_STORED = 0x40000000;
const MISSED = 0x80000000;
const TYPE_PADDING = 29;
const TYPE_TIME_EXTEND = 30;
const TYPE_TIME_STAMP = 31;
const DELTA_SCALE = 2 ** 27;
/** Bits of an absolute time stamp. */
const STAMP_LIMIT = 2 ** 59;
const MAX_CHUNK_BYTES = 64 << 20;

/** What `next` found. */
export const RecordStatus = { end: 0, record: 1, lost: 2, malformed: 3 } as const;

/** The records of one CPU in order. Holds one page, or one expanded chunk. */
export class CpuStream {
  readonly cpu: number;
  readonly #source: RandomAccess;
  readonly #data: CpuData;
  readonly #page: PageLayout;
  readonly #expand: Decompress | undefined;
  /** File offset of the next page or chunk header. */
  #offset: number;
  #chunksLeft = 0;
  /** Pages at hand: one, or those of a chunk. */
  #bytes: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #pageStart = 0;
  #pageEnd = 0;
  #at = 0;
  #dataEnd = 0;
  #lostPending = 0;
  /** Time of the record in ns or clock ticks; rounded above 2^53. */
  time: number = 0;
  /** Bytes of the record in `bytes`: [start, end). */
  start: number = 0;
  end: number = 0;
  /** With status lost: how many, -1 when the page does not say. */
  lost: number = 0;
  /** With status malformed: what was expected. The rest of the page is left out. */
  problem: string = '';

  constructor(source: RandomAccess, layout: DatLayout, data: CpuData) {
    this.cpu = data.cpu;
    this.#source = source;
    this.#data = data;
    this.#page = layout.page;
    this.#expand = layout.expand;
    this.#offset = data.offset;
    if (data.compressed) {
      const head = readExactly(source, data.offset, 4, `the chunk count of CPU ${data.cpu}`);
      this.#chunksLeft = new DataView(head.buffer).getUint32(0, true);
      this.#offset += 4;
    }
  }

  /** The pages at hand; valid until the next `next`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get view(): DataView {
    return this.#view;
  }

  /** Bytes of the file consumed so far. */
  get consumed(): number {
    return this.#offset - this.#data.offset;
  }

  /** Moves to the next record. @throws TraceError when the file breaks off or a chunk does not expand */
  next(): number {
    for (;;) {
      if (this.#lostPending !== 0) {
        this.lost = this.#lostPending;
        this.#lostPending = 0;
        return RecordStatus.lost;
      }
      while (this.#at + 4 <= this.#dataEnd) {
        const status = this.#record();
        if (status !== RecordStatus.end) return status;
      }
      if (this.#pageStart >= this.#pageEnd && !this.#load()) return RecordStatus.end;
      if (!this.#enterPage()) return RecordStatus.malformed;
    }
  }

  /** One header at #at; `end` when it was none that carries data. */
  #record(): number {
    const view = this.#view;
    const head = view.getUint32(this.#at, true);
    const type = head & 31;
    const delta = head >>> 5;
    const body = this.#at + 4;
    if (type === TYPE_TIME_EXTEND || type === TYPE_TIME_STAMP) {
      if (body + 4 > this.#dataEnd) return this.#malformed('a time extension inside the page');
      const upper = view.getUint32(body, true) * DELTA_SCALE + delta;
      if (type === TYPE_TIME_EXTEND) this.time += upper;
      else this.time = upper + Math.floor(this.time / STAMP_LIMIT) * STAMP_LIMIT;
      this.#at = body + 4;
      return RecordStatus.end;
    }
    if (type === TYPE_PADDING) {
      // Without a delta: nothing more on this page.
      if (delta === 0 || body + 4 > this.#dataEnd) {
        this.#at = this.#dataEnd;
        return RecordStatus.end;
      }
      this.time += delta;
      const length = view.getUint32(body, true);
      if (length < 4 || length > this.#dataEnd - body) return this.#malformed('padding inside the page');
      this.#at = body + length;
      return RecordStatus.end;
    }
    this.time += delta;
    let length = type * 4;
    let start = body;
    if (type === 0) {
      if (body + 4 > this.#dataEnd) return this.#malformed('a record length inside the page');
      length = view.getUint32(body, true) - 4;
      start = body + 4;
    }
    if (length < 0 || length > this.#dataEnd - start) return this.#malformed('a record inside the page');
    this.start = start;
    this.end = start + length;
    this.#at = start + ((length + 3) & ~3);
    return RecordStatus.record;
  }

  #malformed(problem: string): number {
    this.problem = problem;
    this.#at = this.#dataEnd;
    return RecordStatus.malformed;
  }

  #enterPage(): boolean {
    const start = this.#pageStart;
    const { commitOffset, commitBytes, dataOffset } = this.#page;
    const view = this.#view;
    this.#pageStart += this.#data.pageBytes;
    this.time = view.getUint32(start + 4, true) * TWO_32 + view.getUint32(start, true);
    // The flags are in the low word for a kernel with 32-bit and with 64-bit longs alike.
    const commit = view.getUint32(start + commitOffset, true);
    const used = commit & COMMIT_MASK;
    const room = this.#data.pageBytes - dataOffset;
    this.#at = start + dataOffset;
    if (used > room) {
      this.#dataEnd = this.#at;
      this.problem = `a page with at most ${room} bytes in use, not ${used},`;
      return false;
    }
    this.#dataEnd = this.#at + used;
    if ((commit & MISSED) !== 0) {
      const stored = (commit & MISSED_STORED) !== 0 && used + commitBytes <= room;
      this.#lostPending = stored ? view.getUint32(this.#dataEnd, true) || -1 : -1;
    }
    return true;
  }

  /** Brings the next page or chunk into #bytes. */
  #load(): boolean {
    const { pageBytes, compressed, offset, nrBytes, cpu } = this.#data;
    const left = offset + nrBytes - this.#offset;
    if (compressed) return this.#loadChunk();
    if (left < pageBytes) {
      if (left > 0) {
        const at = this.#offset;
        this.#offset += left;
        throw new TraceError('truncated', at, `a page of ${pageBytes} bytes of CPU ${cpu}`, `${left} bytes`);
      }
      return false;
    }
    if (this.#bytes.length !== pageBytes) this.#use(new Uint8Array(pageBytes));
    const got = this.#source.read(this.#offset, this.#bytes);
    if (got !== pageBytes)
      throw new TraceError('truncated', this.#offset, `a page of ${pageBytes} bytes of CPU ${cpu}`, `${got} bytes`);
    this.#offset += pageBytes;
    this.#pageStart = 0;
    this.#pageEnd = pageBytes;
    return true;
  }

  #loadChunk(): boolean {
    const { pageBytes, cpu, offset, nrBytes } = this.#data;
    for (; this.#chunksLeft > 0; this.#chunksLeft--) {
      // trace-cmd does not count the chunk count in the size.
      const left = offset + 4 + nrBytes - this.#offset;
      if (left < 8)
        throw new TraceError(
          'truncated',
          this.#offset,
          `${this.#chunksLeft} more chunks of CPU ${cpu}`,
          `${left} bytes`,
        );
      const view = new DataView(readExactly(this.#source, this.#offset, 8, 'a chunk header').buffer);
      const packedBytes = view.getUint32(0, true);
      const plainBytes = view.getUint32(4, true);
      if (packedBytes > left - 8)
        throw new TraceError('truncated', this.#offset, `a chunk of ${packedBytes} bytes`, `${left - 8} bytes`);
      if (plainBytes > MAX_CHUNK_BYTES || plainBytes % pageBytes !== 0) {
        throw new TraceError(
          'corrupt',
          this.#offset + 4,
          `a chunk of whole pages of ${pageBytes} bytes`,
          `${plainBytes} bytes`,
        );
      }
      const packed = readExactly(this.#source, this.#offset + 8, packedBytes, 'a chunk');
      const pages = expandChecked(this.#expand, packed, plainBytes, this.#offset + 8);
      this.#offset += 8 + packedBytes;
      if (plainBytes === 0) continue;
      this.#use(pages);
      this.#chunksLeft--;
      this.#pageStart = 0;
      this.#pageEnd = plainBytes;
      return true;
    }
    return false;
  }

  #use(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}
