/** Compressed inputs expanded: gzip (several members too), and the compressed sections of a trace.dat. */
import { Readable, pipeline } from 'node:stream';
import { createGunzip, inflateSync } from 'node:zlib';
import { decompress as unzstd } from 'fzstd';
import type { Chunks, Decompressors } from '../trace/index.ts';
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
