import { describe, expect, test } from 'vitest';
import { EADDRINUSE, EINVAL, ENOMEM } from '../../src/base/index.ts';
import type { IntelDomain } from '../../src/drivers/index.ts';
import { INTEL_PRESETS } from '../../src/drivers/index.ts';
import { KiB4, Lab, MiB2, NVME, READ, RW } from './lab.ts';

const IOVA = 0x10000;

/** The 5.1 driver's own way for scatterlists. */
function direct(lab: Lab, domain: IntelDomain, chunks: readonly number[], prot = RW, iova = IOVA): number {
  return lab.driver.mapSgDirect!(domain, iova, Float64Array.from(chunks), chunks.length / 2, prot);
}

/** Pages of the 64 around IOVA that software, and that the device, finds mapped. */
function found(lab: Lab, domain: IntelDomain): number[] {
  const pages = Array.from({ length: 64 }, (_, page) => page * KiB4);
  const [software, hardware] = [
    pages.filter((at) => lab.core.iovaToPhys(domain, at) >= 0),
    pages.filter((at) => lab.unit.translate(NVME.sid, at, READ) >= 0),
  ];
  expect(hardware).toEqual(software);
  return software;
}

describe('intel_map_sg of 5.1: one driver call past the core', () => {
  test('is there on 5.1 and nowhere else (kernel.md section 4: 5.11 went over to dma-iommu)', () => {
    const having = INTEL_PRESETS.filter((preset) => new Lab({ preset }).driver.mapSgDirect !== undefined);
    expect(having).toEqual(['linux-5.1']);
  });

  test('maps chunk behind chunk, flushed once', () => {
    const lab = new Lab({ preset: 'linux-5.1' });
    const domain = lab.domain(NVME);
    found(lab, domain);
    expect(direct(lab, domain, [MiB2, 2 * KiB4, 5 * MiB2, KiB4, 3 * MiB2, KiB4])).toBe(0);
    expect(lab.tape.take()).toEqual(['0x100f2 0x10002']);
    const expected = [MiB2, MiB2 + KiB4, 5 * MiB2, 3 * MiB2];
    expect(expected.map((_, page) => lab.unit.translate(NVME.sid, IOVA + page * KiB4, READ))).toEqual(expected);
  });

  test.each<[string, number, readonly number[], number, number]>([
    ['nothing to map', EINVAL, [], RW, IOVA],
    ['no right', EINVAL, [MiB2, KiB4], 0, IOVA],
    ['IOVA inside a page', EINVAL, [MiB2, KiB4], RW, IOVA + 1],
    ['a later chunk inside a page', EINVAL, [MiB2, 3 * KiB4, MiB2 + 1, KiB4], RW, IOVA],
    ['a page in the way of the last', EADDRINUSE, [MiB2, KiB4, 2 * MiB2, KiB4, 3 * MiB2, KiB4], RW, 0x1e000],
    ['a page in the way, inside a chunk', EADDRINUSE, [MiB2, 4 * KiB4], RW, 0x1e000],
  ])('%s: errno %i, nothing of it stays (C-ROLLBACK)', (_name, errno, chunks, prot, iova) => {
    for (const hardware of [{ cachingMode: true }, {}]) {
      const lab = new Lab({ preset: 'linux-5.1', units: [hardware] });
      const domain = lab.domain(NVME);
      lab.core.map(domain, 0x20000, MiB2, KiB4, RW);
      found(lab, domain);
      expect(direct(lab, domain, chunks, prot, iova)).toBe(errno);
      expect(found(lab, domain)).toEqual([0x20000]);
    }
  });

  test('no page for a table: ENOMEM, nothing of it stays', () => {
    const lab = new Lab({ preset: 'linux-5.1' });
    const domain = lab.domain(NVME);
    // The first chunk ends where its level-1 table does.
    lab.core.map(domain, 0, MiB2, KiB4, RW);
    const alloc = lab.pages.alloc.bind(lab.pages);
    lab.pages.alloc = (): -1 => -1;
    expect(direct(lab, domain, [MiB2, 2 * KiB4, 4 * MiB2, KiB4], RW, MiB2 - 2 * KiB4)).toBe(ENOMEM);
    lab.pages.alloc = alloc;
    expect(found(lab, domain)).toEqual([0]);
    expect(lab.core.iovaToPhys(domain, MiB2 - KiB4)).toBe(-1);
    expect(lab.unit.translate(NVME.sid, MiB2 - KiB4, READ)).toBeLessThan(0);
  });

  test('identity and blocked domains have no table: EINVAL', () => {
    const lab = new Lab({ preset: 'linux-5.1' });
    for (const type of ['identity', 'blocked'] as const) {
      expect(direct(lab, lab.driver.domainAlloc(type) as IntelDomain, [MiB2, KiB4])).toBe(EINVAL);
    }
  });
});
