import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { psiMask } from '../../src/drivers/index.ts';
import { device, isPsi, KiB4, Lab, MiB2, NVME, RW } from './lab.ts';

/** The PSI that an unmap of pages gives, as `AM @ page address in the descriptor`, or DSI. */
function unmapOf(preset: string, pfn: number, nrPages: number, mamv = 18): string {
  const lab = new Lab({ preset, units: [{ mamv }] });
  const domain = lab.domain(NVME);
  // Unaligned to anything larger, so that the table has 4 KiB leaves.
  lab.core.map(domain, pfn * KiB4, 0x40001000, nrPages * KiB4, RW);
  lab.core.unmap(domain, pfn * KiB4, nrPages * KiB4);
  const commands = lab.tape.take();
  if (commands.length !== 1) return commands.join(', ');
  if (!isPsi(commands[0])) return 'DSI';
  const qw1 = BigInt(commands[0].split(' ')[1]);
  return `${qw1 & 0x3fn} @ 0x${(qw1 >> 12n).toString(16)}`;
}

/** Pages that hardware drops for a PSI: the 2^am block around the address (VT-d 6.5.2.3). */
const covers = (pfn: bigint, am: bigint): [bigint, bigint] => [(pfn >> am) << am, ((pfn >> am) + 1n) << am];

describe('psiMask', () => {
  // calculate_psi_aligned_address; worked examples of facts/kernel.md 2.4.
  const EXAMPLES: [pfn: number, nrPages: number, corrected: number, uncorrected: number][] = [
    [0x17f, 3, 8, 2],
    [0x1001, 2, 2, 1],
    [0x1003, 2, 3, 1],
    [0x3ff, 2, 11, 1],
    [0xfffff, 2, 21, 1],
    [0x7fffffff, 2, 32, 1],
    // Aligned starts need no correction.
    [0x1000, 1, 0, 0],
    [0x1fff, 1, 0, 0],
    [0x1000, 2, 1, 1],
    [0x1000, 3, 2, 2],
    [0x2000, 0x1000, 12, 12],
    [0, 0x80000000, 31, 31],
  ];
  test.each(EXAMPLES)('kernel.md 2.4: pfn %#, %# pages need mask %#, and had %# until 2022', (pfn, nr, mask, old) => {
    expect(psiMask(pfn, nr, 'base')).toBe(mask);
    expect(psiMask(pfn, nr, 'mask')).toBe(mask);
    expect(psiMask(pfn, nr, 'none')).toBe(old);
  });

  test('is the narrowest block that holds the range, against bigint', () => {
    const rng = new Rng(1);
    for (let count = 0; count < 20000; count++) {
      const top = 2 ** rng.below(37);
      const pfn = Math.floor((rng.next32() / 2 ** 32) * top);
      const nr = 1 + rng.below(2 ** rng.below(20));
      const am = BigInt(psiMask(pfn, nr, 'base'));
      const [first, end] = covers(BigInt(pfn), am);
      expect(first <= BigInt(pfn) && BigInt(pfn + nr) <= end, `pfn ${pfn} nr ${nr} am ${am}`).toBe(true);
      if (am === 0n) continue;
      const [half, halfEnd] = covers(BigInt(pfn), am - 1n);
      const roundedUp = BigInt((nr - 1).toString(2).length) * (nr > 1 ? 1n : 0n);
      // Linux never goes below the count rounded up, even where a narrower block would do.
      if (am > roundedUp) expect(half <= BigInt(pfn) && BigInt(pfn + nr) <= halfEnd).toBe(false);
    }
  });
});

describe('the descriptor', () => {
  // [V] of the three behaviours: kernel.md 2.3, 2.4; presets are the kernels that had them.
  test.each([
    ['linux-6.1', 0x17f, 3, '8 @ 0x17f'],
    ['linux-6.12', 0x17f, 3, '8 @ 0x100'],
    ['linux-6.12', 0x1001, 2, '2 @ 0x1000'],
    ['linux-6.12', 0x1003, 2, '3 @ 0x1000'],
    ['linux-6.12', 0x3ff, 2, '11 @ 0x0'],
    ['linux-6.1', 0x3ff, 2, '11 @ 0x3ff'],
    ['linux-6.12', 0x7fffffff, 2, 'DSI'],
    ['linux-6.1', 0x7fffffff, 2, 'DSI'],
  ])('%s, pfn %i, %i pages: AM and address %s', (preset, pfn, nr, expected) => {
    expect(unmapOf(preset, pfn, nr)).toBe(expected);
  });

  test('linux-5.12, pfn 0x17f, 3 pages: mask 2 and the address as it is (kernel.md 2.3)', () => {
    // Seen on a map: an unmap of this range comes in powers of two, with a PSI for each.
    const lab = new Lab({ preset: 'linux-5.12' });
    const domain = lab.domain(NVME);
    lab.core.map(domain, 0x17f * KiB4, 0x40001000, 3 * KiB4, RW);
    expect(lab.tape.take()).toEqual(['0x100f2 0x17f002']);
  });

  test.each([
    [9, 'DSI'],
    [10, 'DSI'],
    [11, '11 @ 0x0'],
    [12, '11 @ 0x0'],
  ])('above MAMV %i becomes a domain flush: %s (VT-d 6.5.2.3, AM)', (mamv, expected) => {
    expect(unmapOf('linux-6.12', 0x3ff, 2, mamv)).toBe(expected);
  });

  test('without CAP.PSI is always a domain flush', () => {
    const lab = new Lab({ units: [{ cachingMode: true, psi: false }] });
    const domain = lab.domain(NVME);
    lab.core.map(domain, KiB4, KiB4, KiB4, RW);
    lab.core.unmap(domain, KiB4, KiB4);
    expect(lab.tape.take()).toEqual(['0x200e2 0x0', '0x200e2 0x0']);
  });
});

describe('bug 6: the mask of an unaligned range (list mail 7ac800871d, April 2022)', () => {
  const IOVA = 0x17f * KiB4;
  const stale = (preset: string): number[] => {
    const lab = new Lab({ preset });
    const domain = lab.domain(device('00:02.0'));
    const sid = 0x10;
    // The device looked before: "not present" of all three pages is cached.
    for (let page = 0; page < 3; page++) lab.unit.translate(sid, IOVA + page * KiB4, RW);
    expect(lab.core.map(domain, IOVA, MiB2 + KiB4, 3 * KiB4, RW)).toBe(0);
    return [0, 1, 2].filter((page) => lab.unit.translate(sid, IOVA + page * KiB4, RW) !== MiB2 + KiB4 + page * KiB4);
  };

  test('5.12: pages 0x180 and 0x181 stay "not present" after the map', () => {
    expect(stale('linux-5.12')).toEqual([1, 2]);
  });
  test.each(['linux-6.1', 'linux-6.12'])('%s: none', (preset) => {
    expect(stale(preset)).toEqual([]);
  });
});
