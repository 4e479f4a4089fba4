import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CommandQueue } from '../../../src/drivers/index.ts';
import { invalidateCovering, invalidateExactly, invalidateFullRangeSplit } from '../../../src/drivers/index.ts';
import { KiB4, words } from './lab.ts';

/** A queue that only keeps the words. */
function tape(): { queue: CommandQueue; taken: string[] } {
  const taken: string[] = [];
  const queue = {
    queue: (...data: number[]): number => {
      taken.push(words(...data));
      return 0;
    },
  };
  return { queue: queue as unknown as CommandQueue, taken };
}

function covering(iova: number, nrBytes: number): string {
  const { queue, taken } = tape();
  expect(invalidateCovering(queue, 5, iova, nrBytes, true)).toBe(0);
  expect(taken).toHaveLength(1);
  return taken[0];
}

function exactly(iova: number, nrBytes: number): string[] {
  const { queue, taken } = tape();
  expect(invalidateExactly(queue, 5, iova, nrBytes, true)).toBe(0);
  return taken;
}

/** What INVALIDATE_IOMMU_PAGES drops, by 48882 2.4.3: [start, end), or null for all pages. */
function dropped(command: string): { start: bigint; end: bigint } {
  const [w0, w1, w2, w3] = command.split(' ').map((word) => BigInt(word));
  expect([w0, w1]).toEqual([0n, 0x30000005n]);
  expect(w2 & 2n).toBe(2n);
  const address = (w3 << 32n) | (w2 & ~0xfffn);
  if ((w2 & 1n) === 0n) return { start: address, end: address + 4096n };
  let bit = 12n;
  while (((address >> bit) & 1n) === 1n) bit += 1n;
  const bytes = 1n << (bit + 1n);
  const start = address & ~(bytes - 1n);
  return { start, end: start + bytes };
}

describe('one command around a range (kernel.md section 3, worked encodings)', () => {
  test.each([
    [0x1000, 1, 0x1000],
    [0x1000, 2, 0x1001],
    [0x2000, 2, 0x2001],
    [0x3000, 2, 0x3001],
    [0x200000, 512, 0x2ff001],
    // First and last byte differ in bit 20, so bits 12 to 19 become ones, and were already.
    [0xff000, 2, 0xff001],
  ])('0x%x and %i pages', (iova, nrPages, address) => {
    expect(covering(iova, nrPages * KiB4)).toBe(words(0, 0x30000005, address | 2, 0));
  });

  test('the first recorded commands of a mapping: 4 and 16 pages (amd-lazy-small-6.12)', () => {
    expect(covering(0xffff8000, 4 * KiB4)).toBe('0x0 0x30000005 0xffff9003 0x0');
    expect(covering(0xfffe0000, 16 * KiB4)).toBe('0x0 0x30000005 0xfffe7003 0x0');
  });

  test('above 4 GiB, and across its border', () => {
    expect(covering(0x123_4567_8000, KiB4)).toBe(words(0, 0x30000005, 0x45678002, 0x123));
    expect(covering(0xffff_f000, 2 * KiB4)).toBe(words(0, 0x30000005, 0xfffff003, 0));
    expect(covering(2 ** 33, 2 ** 33)).toBe(words(0, 0x30000005, 0xfffff003, 2));
    expect(covering(2 ** 34, 2 ** 34)).toBe(words(0, 0x30000005, 0xfffff003, 5));
    expect(covering(0, 2 ** 52)).toBe(words(0, 0x30000005, 0xfffff003, 0x7ffff));
  });

  test('across 2^51, and across 2^52: what differs above bit 51 is everything', () => {
    expect(covering(2 ** 51 - KiB4, 2 * KiB4)).toBe(words(0, 0x30000005, 0xfffff003, 0x7ffff));
    expect(covering(2 ** 51, 2 ** 51)).toBe(words(0, 0x30000005, 0xfffff003, 0xbffff));
    expect(covering(2 ** 52 - KiB4, KiB4)).toBe(words(0, 0x30000005, 0xfffff002, 0xfffff));
    expect(covering(2 ** 52 - KiB4, 2 * KiB4)).toBe(words(0, 0x30000005, 0xfffff003, 0x7fffffff));
  });

  test('property: it covers the range, and nothing smaller that is aligned does', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 40 - 1), fc.integer({ min: 1, max: 2 ** 20 }), (pfn, nrPages) => {
        const start = BigInt(pfn) * 4096n;
        const end = start + BigInt(nrPages) * 4096n;
        if (end > 1n << 52n) return;
        const got = dropped(covering(pfn * 4096, nrPages * 4096));
        expect(got.start <= start && end <= got.end).toBe(true);
        const half = (got.end - got.start) / 2n;
        if (half >= 4096n) expect(start / half).not.toBe((end - 1n) / half);
      }),
    );
  });
});

describe('exactly a range, for a hypervisor (AMD-NAT: list mail 42e992a1)', () => {
  test.each([
    [1, 64, 7, 128],
    [511, 2, 2, 1024],
    [0, 1, 1, 1],
    [0, 1024, 1, 1024],
    [3, 5, 2, 8],
    [1, 16, 5, 32],
    [1, 127, 7, 128],
  ])('page %i, %i pages: %i commands; natively one that covers %i', (pfn, nrPages, nrCommands, covered) => {
    const parts = exactly(pfn * KiB4, nrPages * KiB4);
    expect(parts).toHaveLength(nrCommands);
    let at = BigInt(pfn * KiB4);
    for (const part of parts) {
      const { start, end } = dropped(part);
      expect(start).toBe(at);
      expect(start % (end - start)).toBe(0n);
      at = end;
    }
    expect(at).toBe(BigInt((pfn + nrPages) * KiB4));
    const { start, end } = dropped(covering(pfn * KiB4, nrPages * KiB4));
    expect(Number(end - start) / KiB4).toBe(covered);
  });

  test('[0x3000, +0x5000) is 0x3000 and four pages at 0x4000', () => {
    expect(exactly(0x3000, 0x5000)).toEqual([words(0, 0x30000005, 0x3002, 0), words(0, 0x30000005, 0x5003, 0)]);
  });

  test('up to 2^52: all of it is one, all but its first page forty', () => {
    expect(exactly(0, 2 ** 52)).toEqual([words(0, 0x30000005, 0xfffff003, 0x7ffff)]);
    const parts = exactly(KiB4, 2 ** 52 - KiB4);
    expect(parts).toHaveLength(40);
    expect(dropped(parts[39])).toEqual({ start: 1n << 51n, end: 1n << 52n });
  });

  test('property: the parts are aligned, follow each other, and together are the range', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 40 - 1), fc.integer({ min: 1, max: 2 ** 36 }), (pfn, nrPages) => {
        const start = BigInt(pfn) * 4096n;
        const end = start + BigInt(nrPages) * 4096n;
        if (end > 1n << 52n) return;
        let at = start;
        for (const part of exactly(pfn * 4096, nrPages * 4096)) {
          const got = dropped(part);
          expect(got.start).toBe(at);
          expect(got.start % (got.end - got.start)).toBe(0n);
          at = got.end;
        }
        expect(at).toBe(end);
      }),
    );
  });
});

test('the flush of everything, split: the 63 commands that 6.1 sent at each attach', () => {
  const file = join(dirname(fileURLToPath(import.meta.url)), '../../../traces/amd-strict-boot-6.1/amd-commands.txt.gz');
  const recorded = gunzipSync(readFileSync(file))
    .toString('latin1')
    .split('\n')
    .map((line) => /d0=(\w+) d1=(\w+) d2=(\w+) d3=(\w+)/.exec(line)?.slice(1).join(' ') ?? '');
  const first = recorded.indexOf('0x0 0x20000000 0x0 0x0', 1) + 1;
  const { queue, taken } = tape();
  invalidateFullRangeSplit(queue, 1, true);
  expect(taken).toHaveLength(63);
  expect(taken).toEqual(recorded.slice(first, first + 63));
  expect(taken.filter((command) => command.endsWith('0xfffff003 0x7fffffff'))).toHaveLength(10);
});
