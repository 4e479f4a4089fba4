import { describe, expect, it } from 'vitest';
import { IOMMU_CACHE, IOMMU_MMIO, IOMMU_NOEXEC, IOMMU_READ, IOMMU_WRITE } from '../../src/iommu/index.ts';
import {
  PROT_CACHE,
  PROT_MMIO,
  PROT_NOEXEC,
  PROT_READ,
  PROT_WRITE,
  VtdSsFormat,
  vtdPgsizeBitmap,
} from '../../src/pt/index.ts';
import type { SnoopRule } from '../../src/pt/index.ts';

const entry = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

describe('VT-d second-stage entries (kernel.md 2.1: R b0, W b1, PS b7, SNP b11, address b51:12)', () => {
  // paddr, size as log2, rights, snoop rule, the entry
  const leaves: [number, number, number, SnoopRule, bigint][] = [
    [0x1000, 12, PROT_READ, 'never', 0x1001n],
    [0x1000, 12, PROT_WRITE, 'never', 0x1002n],
    [0x1000, 12, PROT_READ | PROT_WRITE, 'never', 0x1003n],
    [0, 12, PROT_READ | PROT_WRITE, 'never', 3n],
    [0x200000, 21, PROT_READ | PROT_WRITE, 'never', 0x200083n],
    [0x40000000, 30, PROT_READ, 'never', 0x40000081n],
    [0x80000000, 12, PROT_READ, 'never', 0x80000001n],
    [0xffff_f000, 12, PROT_WRITE, 'never', 0xffff_f002n],
    [2 ** 52 - 4096, 12, PROT_READ | PROT_WRITE, 'never', 0x000f_ffff_ffff_f003n],
    [2 ** 52 - 2 ** 30, 30, PROT_READ | PROT_WRITE, 'never', 0x000f_ffff_c000_0083n],
    [0x1000, 12, PROT_READ | PROT_CACHE, 'never', 0x1001n],
    [0x1000, 12, PROT_READ | PROT_CACHE, 'cached', 0x1801n],
    [0x1000, 12, PROT_READ, 'cached', 0x1001n],
    [0x1000, 12, PROT_READ, 'always', 0x1801n],
    [0x200000, 21, PROT_READ, 'always', 0x200881n],
    [0x1000, 12, PROT_READ | PROT_NOEXEC | PROT_MMIO, 'never', 0x1001n],
  ];
  it.each(leaves)('leaf 0x%x lg2 %i prot %i snoop %s', (paddr, sizeLg2, prot, snoop, expected) => {
    const format = new VtdSsFormat(undefined, snoop);
    const lo = format.leafLo(paddr, sizeLg2, prot);
    const hi = format.leafHi(paddr, sizeLg2, prot);
    expect(entry(lo, hi)).toBe(expected);
    const level = (sizeLg2 - 12) / 9 + 1;
    expect(format.leafPaddr(lo, hi, level)).toBe(paddr);
    expect(format.leafSizeLg2(lo, hi, level)).toBe(sizeLg2);
    expect(format.leafProt(lo, hi) & 3).toBe(prot & 3);
  });

  it('points to tables with both rights, which a leaf below can only narrow', () => {
    const format = new VtdSsFormat();
    expect(entry(format.tableLo(0x12345, 1), format.tableHi(0x12345, 1))).toBe(0x12345003n);
    expect(entry(format.tableLo(0xf_ffff_ffff, 3), format.tableHi(0xf_ffff_ffff, 3))).toBe(0xf_ffff_ffff_003n);
  });

  it('reads leaf sizes from CAP.SLLPS', () => {
    expect([0, 1, 2, 3].map((sllps) => vtdPgsizeBitmap(sllps))).toEqual([0x1000, 0x201000, 0x40001000, 0x40201000]);
  });

  it('refuses leaf sizes the format lacks', () => {
    for (const bitmap of [0, 0x2000, 0x3000, 0x200000, 0x80001000, 2 ** 39 + 4096]) {
      expect(() => new VtdSsFormat(bitmap)).toThrow(RangeError);
    }
  });

  it('numbers rights as the core does', () => {
    expect([PROT_READ, PROT_WRITE, PROT_CACHE, PROT_NOEXEC, PROT_MMIO]).toEqual([
      IOMMU_READ,
      IOMMU_WRITE,
      IOMMU_CACHE,
      IOMMU_NOEXEC,
      IOMMU_MMIO,
    ]);
  });
});
