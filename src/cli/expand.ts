/** Compressed inputs expanded: gzip (several members too), zstd, and the compressed sections of a trace.dat. */
import { Readable, pipeline } from 'node:stream';
import { createGunzip, inflateSync } from 'node:zlib';
import { Decompress as ZstdStream, decompress as unzstd } from 'fzstd';
import type { Decompressors } from '../trace/index.ts';
import type { Chunks } from './byte-source.ts';
import { CHUNK_BYTES } from './byte-source.ts';

/** trace.dat's decompressors on this platform. */
export const decompressors: Decompressors = {
  zlib: (input, expectedBytes) => inflateSync(input, { maxOutputLength: Math.max(1, expectedBytes) }),
  zstd: (input, expectedBytes) => unzstd(input, new Uint8Array(expectedBytes)),
};

export async function* gunzipped(bytes: Chunks): Chunks {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // The error comes out of the loop below; the callback only keeps it from being unhandled.
  pipeline(Readable.from(bytes, { objectMode: false, highWaterMark: CHUNK_BYTES }), gunzip, () => {});
  try {
    for await (const chunk of gunzip as AsyncIterable<Uint8Array>) yield chunk;
  } finally {
    gunzip.destroy();
  }
}

export async function* unzstded(bytes: Chunks): Chunks {
  const out: Uint8Array[] = [];
  const stream = new ZstdStream((chunk) => void out.push(chunk));
  for await (const chunk of bytes) {
    zstdStep(() => stream.push(chunk));
    yield* out.splice(0);
  }
  zstdStep(() => stream.push(new Uint8Array(0), true));
  yield* out.splice(0);
}

/** Data that fzstd refused: it throws its own errors for bad data, and TypeErrors or RangeErrors of its inner workings for worse. */
export class ZstdProblem extends Error {}

function zstdStep(step: () => void): void {
  try {
    step();
  } catch (error) {
    throw new ZstdProblem(error instanceof Error ? error.message : 'unknown error');
  }
}
