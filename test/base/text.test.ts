/** Text forms: hex, errno names. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as base from '../../src/base/index.ts';
import { errnoName, hex, hexRange, hexWords, hi32, lo32 } from '../../src/base/index.ts';

test('hex is the kernel %#llx of any address', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      expect(hex(value)).toBe(`0x${BigInt(value).toString(16)}`);
      expect(Number(hex(value))).toBe(value);
      expect(hexWords(lo32(value), hi32(value))).toBe(hex(value));
    }),
  );
});

test('hexWords writes all 64 bits, which no double holds', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
      const lo = Number(BigInt.asIntN(32, value));
      const hi = Number(BigInt.asIntN(32, value >> 32n));
      expect(hexWords(lo, hi)).toBe(`0x${value.toString(16)}`);
    }),
  );
  expect(hexWords(0, 0)).toBe('0x0');
  expect(hexWords(1, 1)).toBe('0x100000001');
});

test('a range prints start and length', () => {
  expect(hexRange(0xfffec000, 0x2000)).toBe('0xfffec000+0x2000');
});

test('every errno exported by base has its own name', () => {
  const errnos = Object.entries(base).filter(([name, value]) => /^E[A-Z]+$/.test(name) && typeof value === 'number');
  expect(errnos.length).toBeGreaterThan(10);
  for (const [name, value] of errnos) expect(errnoName(value as number)).toBe(name);
  expect(errnoName(-1000)).toBe('errno -1000');
});
