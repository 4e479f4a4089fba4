/**
 * Devices with TLBs of their own: what a driver must send them, and in which order. VT-d rev. 4.1 sections 6.5.2.5 and 9.3, PCIe
 * ATS section 10.3.1 for the size of an invalidation.
 */
import { describe, expect, it } from 'vitest';
import type { IommuOps } from '../../src/iommu/index.ts';
import { Bench, SID, psi } from './bench.ts';

const L4 = 0x200000;
const L3 = 0x201000;
const L2 = 0x202000;
const L1 = 0x203000;
const PAGE = 0x80000000;
const IOVA = 0x5000;
const SLOT = L1 + 5 * 8;
const RW = 3;
/** Translation type 01: the device may ask for translations. */
const TT_ATS = 4;
const SIZED = 1;

type Descriptor = readonly number[];
const deviceTlb = (address: number, sid: number = SID): Descriptor => [3, sid, address, 0];
/** Every address bit set but the highest. */
const ALL: Descriptor = [3, SID, -4096 | SIZED, 0x7fffffff];

/** A device with ATS whose domain has two pages mapped, everything flushed. */
function mapped(type: number = TT_ATS): Bench {
  const bench = new Bench();
  bench.store(L4, L3 | RW);
  bench.store(L3, L2 | RW);
  bench.store(L2, L1 | RW);
  bench.attach(5, L4 | type);
  bench.map(IOVA, PAGE, 2, () => {
    bench.store(SLOT, PAGE | RW);
    bench.store(SLOT + 8, (PAGE + 0x1000) | RW);
  });
  expect(bench.found).toEqual([]);
  return bench;
}

/** Unmaps pages and sends what is said, in one go. */
function unmap(bench: Bench, nr: number, descriptors: readonly Descriptor[]): string[] {
  bench.unmap(IOVA, nr, () => {
    for (let i = 0; i < nr; i++) bench.store(SLOT + i * 8, 0);
    bench.send(...descriptors);
  });
  return bench.found;
}

const ONE = ['C-UNMAP-GONE device-tlb 1'];

describe('an unmap', () => {
  it.each([
    ['nothing', [psi(5, IOVA)], ONE],
    ['the page', [psi(5, IOVA), deviceTlb(IOVA)], []],
    ['the page, before the unit has lost it', [deviceTlb(IOVA), psi(5, IOVA)], ONE],
    ['the page, before and after', [deviceTlb(IOVA), psi(5, IOVA), deviceTlb(IOVA)], []],
    ['the neighbour', [psi(5, IOVA), deviceTlb(IOVA + 0x1000)], ONE],
    ['another device', [psi(5, IOVA), deviceTlb(IOVA, SID + 1)], ONE],
    ['everything', [psi(5, IOVA), ALL], []],
    ['the page, after all of the domain', [[0x22 | (5 << 16), 0, 0, 0], deviceTlb(IOVA)], []],
    ['nothing, after everything in the unit', [[0x12, 0, 0, 0]], ONE],
  ])('tells the device to drop %s', (_name, descriptors, found) => {
    expect(unmap(mapped(), 1, descriptors)).toEqual(found);
  });

  it('tells a device without ATS nothing', () => {
    expect(unmap(mapped(0), 1, [psi(5, IOVA)])).toEqual([]);
  });

  // IOVA is page 5: 4 and 5 are a block of two, 4 to 7 one of four.
  it.each([
    ['the first page', deviceTlb(IOVA), ONE],
    ['two pages from an even one on', deviceTlb(0x4000 | SIZED), ONE],
    ['four pages', deviceTlb(0x4000 | 0x1000 | SIZED), []],
  ])('of two pages tells it to drop %s', (_name, descriptor, found) => {
    expect(unmap(mapped(), 2, [psi(5, 0x4000, 2), descriptor])).toEqual(found);
  });

  it('whose copies of table entries go last: the device may come by them again', () => {
    for (const behind of [false, true]) {
      const bench = mapped();
      bench.unmap(IOVA, 2, () => {
        bench.store(L2, 0);
        bench.send(psi(5, 0x4000, 2, true), ALL, psi(5, 0x4000, 2), ...(behind ? [ALL] : []));
      });
      expect(bench.found).toEqual(behind ? [] : ONE);
    }
  });

  it('is waited for', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      bench.send(psi(5, IOVA));
      bench.sendOnly(deviceTlb(IOVA));
    });
    expect(bench.found).toEqual(ONE);
    expect(bench.findings[0].nearest[0]).toContain('not waited for');
  });

  it('says what is missing', () => {
    const bench = mapped();
    unmap(bench, 1, [deviceTlb(IOVA), psi(5, IOVA)]);
    const [finding] = bench.findings;
    expect(finding).toMatchObject({ sid: SID, domainId: 5, iova: IOVA, nrBytes: 4096 });
    expect(finding.stale).toContain(`the TLB of device 0x${SID.toString(16)}`);
    expect(finding.store).toMatchObject({ paddr: SLOT });
    expect(finding.nearest[1]).toContain('sent before the unit had lost it');
  });
});

describe('a map', () => {
  it('needs nothing: a device keeps no answer that it has no translation', () => {
    const bench = new Bench({ cachingMode: true });
    bench.store(L4, L3 | RW);
    bench.store(L3, L2 | RW);
    bench.store(L2, L1 | RW);
    bench.attach(5, L4 | TT_ATS);
    bench.map(IOVA, PAGE, 1, () => {
      bench.store(SLOT, PAGE | RW);
      bench.send(psi(5, IOVA));
    });
    expect(bench.found).toEqual([]);
  });

  it('in the place of another page needs what an unmap needs', () => {
    for (const flushed of [false, true]) {
      const bench = mapped();
      bench.map(IOVA, PAGE + 0x8000, 1, () => {
        bench.store(SLOT, (PAGE + 0x8000) | RW);
        bench.send(psi(5, IOVA), ...(flushed ? [deviceTlb(IOVA)] : []));
      });
      expect(bench.found).toEqual(flushed ? [] : ['C-MAP-VISIBLE device-tlb 1']);
    }
  });
});

describe('an unmap that is left to a flush queue', () => {
  it.each([
    ['of the unit alone', [], ['C-LAZY-BOUND device-tlb 1']],
    ['of both', [ALL], []],
  ])('and its flush, %s', (_name, more, found) => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0), true);
    bench.call('flush', () => {
      bench.ops.act = () => bench.send([0x22 | (5 << 16), 0, 0, 0], ...more);
      (bench.ops as IommuOps).flushIotlbAll(bench.ops.domain);
    });
    expect(bench.found).toEqual(found);
  });
});

describe('a context entry that changes', () => {
  const entry: Descriptor = [0x31 | (5 << 16), SID, 0, 0];
  const domain: Descriptor = [0x22 | (5 << 16), 0, 0, 0];
  const LEFT = ['C-ATTACH device-tlb 0'];
  it.each([
    ['nothing', [entry, domain], LEFT],
    ['everything', [entry, domain, ALL], []],
    ['everything, while the unit may still know the old entry', [ALL, entry, domain], LEFT],
    ['a page', [entry, domain, deviceTlb(IOVA)], LEFT],
    ['everything of another device', [entry, domain, [3, SID + 1, -4096 | SIZED, 0x7fffffff]], LEFT],
  ])('tells the device to drop %s', (_name, descriptors, found) => {
    const bench = mapped();
    bench.detach(() => {
      bench.context(5, 0);
      bench.send(...descriptors);
    });
    expect(bench.found).toEqual(found);
  });

  it('lets a device have ATS: it holds nothing yet', () => {
    const bench = mapped(0);
    bench.attach(5, L4 | TT_ATS);
    expect(bench.found).toEqual([]);
  });
});
