/**
 * gzip expanded in the page's worker, several members too, each held against its CRC-32 and length (RFC 1952). The browser's own
 * DecompressionStream refuses what follows the first member, and trace.dat needs zlib without waiting.
 */
import { Gunzip, unzlibSync } from 'fflate';
import type { Chunks, Decompressors } from '../../../src/trace/index.ts';
import { InputProblem } from '../../../src/trace/index.ts';
import { decompress as unzstd } from 'fzstd';

/** Bytes of CRC-32 and length at the end of a member. */
const TRAILER = 8;
/** Input bytes expanded at a time: at the worst some thousand times as many come out. */
const STEP = 1 << 16;

/** trace.dat's decompressors on this platform. */
export const decompressors: Decompressors = {
  zlib: (input, expectedBytes) => unzlibSync(input, { out: new Uint8Array(expectedBytes) }),
  zstd: (input, expectedBytes) => unzstd(input, new Uint8Array(expectedBytes)),
};

export async function* gunzipped(bytes: Chunks): Chunks {
  const out: Uint8Array[] = [];
  const members = new Members();
  const stream = new Gunzip((data) => {
    members.expanded(data);
    out.push(data);
  });
  stream.onmember = (offset) => members.end(offset);
  for await (const chunk of bytes) {
    for (let at = 0; at < chunk.length; at += STEP) {
      const part = chunk.subarray(at, at + STEP);
      members.read(part);
      step(() => stream.push(part));
      yield* out.splice(0);
    }
  }
  step(() => {
    stream.push(new Uint8Array(0), true);
    members.end(members.length);
  });
  yield* out.splice(0);
}

function step(work: () => void): void {
  try {
    work();
  } catch (error) {
    // fflate's errors for bad data, and TypeErrors of its inner workings for worse.
    const isEarly = error instanceof Error && /unexpected EOF/i.test(error.message);
    throw new InputProblem(`the gzip data ${isEarly ? 'ends early' : 'is damaged'}; copy or record the file again`);
  }
}

/** Checks the end of each member. */
class Members {
  /** Input bytes so far. */
  length = 0;
  #recent: Uint8Array = new Uint8Array(0);
  #crc = -1;
  #size = 0;

  read(part: Uint8Array): void {
    const kept = this.#recent.subarray(-STEP);
    const joined = new Uint8Array(kept.length + part.length);
    joined.set(kept);
    joined.set(part, kept.length);
    this.#recent = joined;
    this.length += part.length;
  }

  expanded(data: Uint8Array): void {
    this.#crc = crc32(this.#crc, data);
    this.#size = (this.#size + data.length) >>> 0;
  }

  /** @param offset where a member's last byte was followed by the next member, or by nothing @throws Error when it differs */
  end(offset: number): void {
    const at = this.#recent.length - (this.length - offset) - TRAILER;
    if (at < 0) throw new Error('the header of a member is longer than 64 KiB');
    const trailer = new DataView(this.#recent.buffer, at, TRAILER);
    const isRight = trailer.getUint32(0, true) === ~this.#crc >>> 0 && trailer.getUint32(4, true) === this.#size;
    if (!isRight) throw new Error('checksum');
    this.#crc = -1;
    this.#size = 0;
  }
}

/** Four tables of 256: four bytes at a time. */
const CRC: Int32Array = new Int32Array(1024);
for (let i = 0; i < 256; i++) {
  let crc = i;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  CRC[i] = crc;
}
for (let i = 256; i < 1024; i++) CRC[i] = (CRC[i - 256] >>> 8) ^ CRC[CRC[i - 256] & 255];

function crc32(from: number, data: Uint8Array): number {
  let crc = from;
  let i = 0;
  for (const end = data.length - 3; i < end; i += 4) {
    crc ^= data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
    crc = CRC[768 + (crc & 255)] ^ CRC[512 + ((crc >>> 8) & 255)] ^ CRC[256 + ((crc >>> 16) & 255)] ^ CRC[crc >>> 24];
  }
  for (; i < data.length; i++) crc = (crc >>> 8) ^ CRC[(crc ^ data[i]) & 255];
  return crc;
}
