import { describe, expect, test } from 'vitest';
import type { VtdConfig } from '../../src/hw/index.ts';
import { KiB4, Lab, MiB2, NVME, READ, RW } from './lab.ts';

/** A unit without queued invalidation. */
const lab = (config: VtdConfig = {}): Lab => new Lab({ units: [{ cachingMode: true, qi: false, ...config }] });

const ICC = 1n << 63n;

describe('register-based invalidation (VT-d 11.4.6, 11.4.8; kernel.md 2.5)', () => {
  test('boot: CCMD global, then IOTLB global, with drains', () => {
    const { tape } = lab();
    // ICC, CIRG = 1; IVT, IIRG = 1, DR, DW.
    expect(tape.registers).toEqual([
      `CCMD 0x${(ICC | (1n << 61n)).toString(16)}`,
      `IOTLB 0x${(ICC | (1n << 60n) | (3n << 48n)).toString(16)} IVA 0x0`,
    ]);
    expect(tape.words).toEqual([]);
  });

  test('attach: device-selective under domain 0, then the domain', () => {
    const bench = lab();
    bench.tape.take();
    bench.attach(bench.driver.domainAlloc('paging') as ReturnType<Lab['domain']>, NVME);
    expect(bench.tape.take()).toEqual([
      `CCMD 0x${(ICC | (3n << 61n) | (0x20n << 16n)).toString(16)}`,
      `IOTLB 0x${(ICC | (2n << 60n) | (3n << 48n) | (2n << 32n)).toString(16)} IVA 0x0`,
    ]);
  });

  test('map and unmap: page-selective, address and AM in IVA; IH in bit 6, where Linux spoils AM bit 0', () => {
    const bench = lab({ drd: false, dwd: false });
    const domain = bench.domain(NVME);
    const psi = `IOTLB 0x${(ICC | (3n << 60n) | (2n << 32n)).toString(16)}`;
    bench.core.map(domain, 0x40_0000_4000, 0x1000, 4 * KiB4, RW);
    expect(bench.tape.take()).toEqual([`${psi} IVA 0x4000004002`]);
    bench.core.unmap(domain, 0x40_0000_4000, 4 * KiB4);
    expect(bench.tape.take()).toEqual([`${psi} IVA 0x4000004042`]);
  });

  test('bug 32: the PSI of page 0 writes IVA although its value is 0', () => {
    const bench = lab();
    const domain = bench.domain(NVME);
    const { unit, core } = bench;
    core.map(domain, 0, MiB2, KiB4, RW);
    core.map(domain, 0x7000, MiB2 + KiB4, KiB4, RW);
    expect(unit.translate(NVME.sid, 0, READ)).toBe(MiB2);
    core.unmap(domain, 0x7000, KiB4);
    core.unmap(domain, 0, KiB4);
    expect(unit.translate(NVME.sid, 0, READ)).toBeLessThan(0);
    // And on the way back: "not present" of page 0 is dropped by its map.
    core.map(domain, 0x7000, MiB2 + KiB4, KiB4, RW);
    core.map(domain, 0, MiB2, KiB4, RW);
    expect(bench.tape.take().at(-1)).toMatch(/IVA 0x0$/);
    expect(unit.translate(NVME.sid, 0, READ)).toBe(MiB2);
  });

  test('the driver waits until IVT is clear', () => {
    const bench = lab({ completionDelayNs: 5000 });
    const domain = bench.domain(NVME);
    const before = bench.clock.nowNs();
    bench.unit.translate(NVME.sid, KiB4, READ);
    expect(bench.core.map(domain, KiB4, MiB2, KiB4, RW)).toBe(0);
    expect(bench.clock.nowNs() - before).toBeGreaterThanOrEqual(5000);
    expect(bench.unit.translate(NVME.sid, KiB4, READ)).toBe(MiB2);
  });
});
