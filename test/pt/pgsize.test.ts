import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { iommuPgsize } from '../../src/pt/index.ts';

const K4 = 4096;
const M2 = 2 ** 21;
const G1 = 2 ** 30;
const VTD = K4 + M2 + G1;
/** What AMD's driver offers: every power of two from 4 KiB up, without 512 GiB. */
const AMD = 2 ** 52 - 4096 - 2 ** 39;

/** iommu_pgsize() in bigint, sentence by sentence from kernel.md 1.2, with unlimited integers: nothing can overflow. */
function oracle(bitmap: bigint, iova: bigint, paddr: bigint, size: bigint): [bigint, bigint] {
  const fls = (value: bigint): number => value.toString(2).length - 1;
  const sizes = Array.from({ length: 53 }, (_, bit) => 1n << BigInt(bit)).filter((one) => (bitmap & one) !== 0n);
  const fitting = sizes.filter((one) => one <= 1n << BigInt(fls(size)) && iova % one === 0n && paddr % one === 0n);
  const pgsize = fitting.at(-1) ?? 0n;
  const next = sizes.find((one) => one > pgsize);
  let run = size;
  if (next !== undefined && iova % next === paddr % next) {
    const offset = next - (iova % next);
    if (offset + next <= size) run = offset;
  }
  return [pgsize, run / pgsize];
}

const ask = (bitmap: number, iova: number, paddr: number, size: number): [number, number] => {
  const out = { count: 0 };
  return [iommuPgsize(bitmap, iova, paddr, size, out), out.count];
};

describe('iommuPgsize (kernel.md 1.2)', () => {
  // bitmap, iova, paddr, size -> pgsize, count
  const rows: [string, number, number, number, number, [number, number]][] = [
    ['one page', VTD, 0x1000, 0x5000, K4, [K4, 1]],
    ['zero addresses constrain nothing', VTD, 0, 0, M2, [M2, 1]],
    ['a run of pages without a larger leaf behind it', VTD, 0x1000, 0x1000, M2, [K4, 512]],
    ['up to the boundary when a larger leaf fits behind it', VTD, M2 - K4, 2 * M2 - K4, M2 + K4, [K4, 1]],
    ['one byte short of it: all small', VTD, M2 - K4, 2 * M2 - K4, M2, [K4, 512]],
    ['differently offset within the larger leaf: all small', VTD, M2 - K4, 2 * M2, 4 * M2, [K4, 2048]],
    ['2 MiB leaves up to 1 GiB', VTD, G1 - 2 * M2, 3 * G1 - 2 * M2, G1 + 2 * M2, [M2, 2]],
    ['largest size: no count limit', VTD, G1, G1, 5 * G1, [G1, 5]],
    ['no larger size supported', K4, 0, 0, M2, [K4, 512]],
    ['bitmap of all powers (v5.1 Intel)', 2 ** 52 - 4096, 0, 0, 0x6000, [0x4000, 1]],
    ['AMD: 512 GiB is missing', AMD, 0, 0, 2 ** 39, [2 ** 38, 2]],
    ['AMD: one power at a time', AMD, 0x3000, 0x3000, 0x5000, [0x1000, 1]],
    // The kernel's overflow at the top of the address space: boundary + next size must not wrap to something small.
    ['top of 48 bits', VTD, 2 ** 48 - M2, 0, M2, [M2, 1]],
    ['top of 52 bits, larger leaf would pass the end', VTD, 2 ** 52 - K4, 2 ** 51 - K4, K4, [K4, 1]],
    ['top of 52 bits, AMD', AMD, 2 ** 52 - 2 ** 22, 2 ** 52 - 2 ** 22, 2 ** 22, [2 ** 22, 1]],
  ];
  it.each(rows)('%s', (_, bitmap, iova, paddr, size, expected) => {
    expect(ask(bitmap, iova, paddr, size)).toEqual(expected);
  });

  it('generic_pt KUnit test_pgsize_boundary: 0xfef80000 -> 0x208b95d000 is 128 small pages', () => {
    expect(ask(VTD, 0xfef80000, 0x208b95d000, 0x80000)).toEqual([K4, 128]);
  });

  it.each([
    ['VT-d', VTD],
    ['VT-d without 2M', K4 + G1],
    ['AMD', AMD],
    ['2 GiB only on top', K4 + 2 ** 31],
  ])('agrees with unlimited integers: %s', (_, bitmap) => {
    const rng = new Rng(0x5eed);
    const lowBits = [12, 13, 16, 20, 21, 22, 29, 30, 31, 32, 38, 39, 40];
    const address = (): number => {
      const shift = rng.pick(lowBits);
      return (rng.below(2 ** 10) + (rng.chance(0.2) ? 2 ** (51 - shift) : 0)) * 2 ** shift + rng.below(4) * 4096;
    };
    for (let round = 0; round < 6_000; round++) {
      const iova = address();
      const paddr = rng.chance(0.3) ? iova : address();
      const size = (1 + rng.below(2 ** rng.below(20))) * 2 ** rng.pick([12, 12, 12, 21, 30]);
      const [pgsize, count] = oracle(BigInt(bitmap), BigInt(iova), BigInt(paddr), BigInt(size));
      const [ours, nr] = ask(bitmap, iova, paddr, size);
      if (ours !== Number(pgsize) || nr !== Number(count)) {
        expect.fail(
          `0x${iova.toString(16)} 0x${paddr.toString(16)} 0x${size.toString(16)}: ${ours} x ${nr}, not ${pgsize} x ${count}`,
        );
      }
    }
  });
});
