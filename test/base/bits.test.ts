/** base/bits and the word functions of base/addr against bigint, over the whole range [0, 2^53). */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  and53,
  ctz32,
  field,
  fromWords,
  hi32,
  highestBit,
  lo32,
  log2Ceil,
  lowestBit,
  or53,
  xor53,
} from '../../src/base/index.ts';

const RUNS = { numRuns: 2000 };
/** The places where doubles, int32 and uint32 change their mind, and their neighbours. */
const EDGES = [0, 31, 32, 33, 51, 52, 53]
  .flatMap((lg2) => [2 ** lg2 - 1, 2 ** lg2, 2 ** lg2 + 1])
  .filter((value) => value < 2 ** 53);
/** Any integer in [0, 2^53): uniform, with few bits (2^a + 2^b), or an edge. */
const value53 = fc.oneof(
  fc.maxSafeNat(),
  fc
    .tuple(fc.integer({ min: 0, max: 52 }), fc.integer({ min: 0, max: 51 }))
    .map(([a, b]) => (a === b ? 2 ** a : 2 ** a + 2 ** b)),
  fc.constantFrom(...EDGES),
);
const word = fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 0x7fffffff, -0x80000000));

/** Position of the lowest or highest 1 in the binary text: an independent answer. */
const lowestOf = (value: bigint): number => (value === 0n ? 64 : value.toString(2).match(/0*$/)![0].length);
const highestOf = (value: bigint): number => (value === 0n ? -1 : value.toString(2).length - 1);

describe('one value', () => {
  test.each(EDGES)('edge %d', (value) => {
    const big = BigInt(value);
    expect(lowestBit(value)).toBe(lowestOf(big));
    expect(highestBit(value)).toBe(highestOf(big));
    expect(fromWords(lo32(value), hi32(value))).toBe(value);
  });

  test('lowestBit and highestBit agree with the binary text', () => {
    fc.assert(
      fc.property(value53, (value) => {
        expect(lowestBit(value)).toBe(lowestOf(BigInt(value)));
        expect(highestBit(value)).toBe(highestOf(BigInt(value)));
      }),
      RUNS,
    );
  });

  test('ctz32 counts on signed and unsigned words alike', () => {
    fc.assert(
      fc.property(word, (value) => {
        const expected = value === 0 ? 32 : lowestOf(BigInt.asUintN(32, BigInt(value)));
        expect(ctz32(value)).toBe(expected);
        expect(ctz32(value >>> 0)).toBe(expected);
      }),
      RUNS,
    );
  });

  test('log2Ceil is the smallest exponent that reaches the value', () => {
    fc.assert(
      fc.property(value53, (value) => {
        const lg2 = log2Ceil(value);
        expect(1n << BigInt(lg2) >= BigInt(value)).toBe(true);
        if (lg2 > 0) expect(1n << BigInt(lg2 - 1) < BigInt(value)).toBe(true);
      }),
      RUNS,
    );
    expect([0, 1, 2, 3, 4, 5].map(log2Ceil)).toEqual([0, 0, 1, 2, 2, 3]);
    expect(log2Ceil(2 ** 52 + 1)).toBe(53);
  });

  test('lo32 and hi32 are the two halves, as int32', () => {
    fc.assert(
      fc.property(value53, (value) => {
        expect(lo32(value)).toBe(Number(BigInt.asIntN(32, BigInt(value))));
        expect(hi32(value)).toBe(Number(BigInt.asIntN(32, BigInt(value) >> 32n)));
        expect(fromWords(lo32(value), hi32(value))).toBe(value);
      }),
      RUNS,
    );
  });
});

describe('field', () => {
  test('takes bits first..last as an unsigned number', () => {
    const range = fc
      .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 31 }))
      .map(([a, b]) => (a <= b ? [a, b] : [b, a]));
    fc.assert(
      fc.property(word, range, (value, [first, last]) => {
        const expected = BigInt.asUintN(last - first + 1, BigInt.asUintN(32, BigInt(value)) >> BigInt(first));
        expect(field(value, first, last)).toBe(Number(expected));
      }),
      RUNS,
    );
  });

  test.each([
    [-1, 0, 31, 0xffffffff],
    [-1, 31, 31, 1],
    [-1, 1, 31, 0x7fffffff],
    [0x6b6b6b6b, 0, 1, 3],
  ])('field(%i, %i, %i) = %i', (value, first, last, expected) => {
    expect(field(value, first, last)).toBe(expected);
  });
});

describe('two values', () => {
  test.each([
    ['and53', and53, (a: bigint, b: bigint) => a & b],
    ['or53', or53, (a: bigint, b: bigint) => a | b],
    ['xor53', xor53, (a: bigint, b: bigint) => a ^ b],
  ])('%s agrees with bigint', (_, ours, theirs) => {
    fc.assert(
      fc.property(value53, value53, (a, b) => {
        expect(ours(a, b)).toBe(Number(theirs(BigInt(a), BigInt(b))));
      }),
      RUNS,
    );
  });
});
