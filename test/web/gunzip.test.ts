/** The page's gunzip against zlib's: the same bytes, and the same files refused. */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { gunzipped } from '../../web/src/policies/gunzip.ts';

async function* chunksOf(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function expand(bytes: Uint8Array, length: number = 1 << 20): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of gunzipped(chunksOf(bytes, length))) parts.push(part);
  return Buffer.concat(parts);
}

const TEXT = Buffer.from('map: IOMMU: iova=0x00000000ffffe000\n'.repeat(20_000));
const NOISE = randomBytes(300_000);

describe('what zlib packed', () => {
  test.each([1, 7, 1000, 1 << 20])('comes out again, in chunks of %i', async (length) => {
    const small = length < 10 ? TEXT.subarray(0, 2000) : TEXT;
    expect((await expand(gzipSync(small), length)).equals(small)).toBe(true);
    const members = Buffer.concat([gzipSync(small), gzipSync(Buffer.alloc(0)), gzipSync(NOISE.subarray(0, 5000))]);
    expect((await expand(members, length)).equals(Buffer.concat([small, NOISE.subarray(0, 5000)]))).toBe(true);
  });

  test('every end too early is told of', async () => {
    const packed = gzipSync(TEXT.subarray(0, 400));
    for (let length = 1; length < packed.length; length++) {
      await expect(expand(packed.subarray(0, length)), `${length} of ${packed.length}`).rejects.toThrow(
        /the gzip data (ends early|is damaged)/,
      );
    }
  });

  test('every changed byte behind the header is told of, or changes nothing', async () => {
    const content = NOISE.subarray(0, 300);
    const packed = gzipSync(content);
    let nrTold = 0;
    for (let at = 10; at < packed.length; at++) {
      const damaged = Buffer.from(packed);
      damaged[at] ^= 0x55;
      try {
        expect((await expand(damaged)).equals(content), `byte ${at}`).toBe(true);
      } catch (error) {
        expect(String(error), `byte ${at}`).toMatch(/the gzip data (ends early|is damaged)/);
        nrTold += 1;
      }
    }
    // Left are the two bytes of the complement of a stored block's length.
    expect(nrTold).toBeGreaterThanOrEqual(packed.length - 12);
  });
});
