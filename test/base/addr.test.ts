/** Construction and alignment of addresses: what is accepted, what is refused, exactness up to 2^53. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ADDRESS_LIMIT,
  PAGE_SHIFT,
  PAGE_SIZE,
  TWO_32,
  alignDown,
  alignUp,
  paddrOf,
  pfnOf,
  toIova,
  toPaddr,
  toPfn,
} from '../../src/base/index.ts';

test('the constants say the same thing twice', () => {
  expect(PAGE_SIZE).toBe(2 ** PAGE_SHIFT);
  expect(TWO_32).toBe(2 ** 32);
  expect(ADDRESS_LIMIT).toBe(Number.MAX_SAFE_INTEGER + 1);
});

describe.each([
  ['toIova', toIova, 2 ** 53],
  ['toPaddr', toPaddr, 2 ** 53],
  ['toPfn', toPfn, 2 ** 41],
])('%s', (_, convert, limit) => {
  test('keeps the number', () => {
    for (const value of [0, 1, 0xffffffff, 2 ** 32, limit - 1]) expect(convert(value)).toBe(value);
  });

  test.each([-1, limit, limit * 2, 0.5, Number.NaN, Number.POSITIVE_INFINITY])('refuses %d', (value) => {
    expect(() => convert(value)).toThrow(RangeError);
    expect(() => convert(value)).toThrow(String(value));
  });
});

test('pfnOf and paddrOf are a shift by 12, above 32 bits too', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (paddr) => {
      const pfn = pfnOf(paddr);
      expect(BigInt(pfn)).toBe(BigInt(paddr) >> 12n);
      expect(BigInt(paddrOf(pfn))).toBe((BigInt(paddr) >> 12n) << 12n);
    }),
  );
});

test('alignDown and alignUp agree with bigint for every size, powers of two or not', () => {
  const size = fc.oneof(
    fc.integer({ min: 0, max: 48 }).map((lg2) => 2 ** lg2),
    fc.integer({ min: 1, max: 1 << 30 }),
  );
  // One size below the limit: alignUp answers the next multiple, which must still be an address.
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), size, (value, step) => {
      const down = (BigInt(value) / BigInt(step)) * BigInt(step);
      const up = ((BigInt(value) + BigInt(step) - 1n) / BigInt(step)) * BigInt(step);
      expect(BigInt(alignDown(value, step))).toBe(down);
      expect(BigInt(alignUp(value, step))).toBe(up);
    }),
  );
});
