/** Each rule of the sanitizer: a driver that breaks it is found, and the same one put right is not. VT-d rev. 4.1. */
import { describe, expect, it } from 'vitest';
import { vtd } from '../../src/spec/index.ts';
import { BASE, Bench, SID, psi } from './bench.ts';

const L4 = 0x200000;
const L3 = 0x201000;
const L2 = 0x202000;
const L1 = 0x203000;
const PAGE = 0x80000000;
const IOVA = 0x5000;
const SLOT = L1 + 5 * 8;
const RW = 3;

/** A device attached to domain 5, whose tables lead to an empty table of leaves. */
function ready(options: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const bench = new Bench(options);
  bench.store(L4, L3 | RW);
  bench.store(L3, L2 | RW);
  bench.store(L2, L1 | RW);
  bench.attach(5, L4);
  expect(bench.found).toEqual([]);
  return bench;
}

/** The same with a page mapped, everything flushed. */
function mapped(options: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const bench = ready(options);
  bench.map(IOVA, PAGE, 1, () => {
    bench.store(SLOT, PAGE | RW);
    bench.send(psi(5, IOVA));
  });
  expect(bench.found).toEqual([]);
  return bench;
}

describe('a leaf becomes present', () => {
  it('and was cached as absent, with caching mode', () => {
    const bench = ready({ cachingMode: true });
    bench.map(IOVA, PAGE, 1, () => bench.store(SLOT, PAGE | RW));
    expect(bench.found).toEqual(['C-MAP-VISIBLE not-present 1']);
  });
  it('and cannot have been cached without', () => {
    const bench = ready();
    bench.map(IOVA, PAGE, 1, () => bench.store(SLOT, PAGE | RW));
    expect(bench.found).toEqual([]);
  });
  it.each([
    ['of the page', psi(5, IOVA), []],
    ['with IH, which leaves go by too', psi(5, IOVA, 0, true), []],
    ['that rounds its base down', psi(5, IOVA, 1), []],
    ['of the neighbour', psi(5, IOVA + 0x1000), ['C-MAP-VISIBLE not-present 1']],
    ['of another domain', psi(6, IOVA), ['C-MAP-VISIBLE not-present 1']],
    ['of the domain', [0x22 | (5 << 16), 0, 0, 0], []],
    ['of all', [0x12, 0, 0, 0], []],
  ])('flushed by an invalidation %s', (_name, descriptor, found) => {
    const bench = ready({ cachingMode: true });
    bench.map(IOVA, PAGE, 1, () => {
      bench.store(SLOT, PAGE | RW);
      bench.send(descriptor);
    });
    expect(bench.found).toEqual(found);
  });
  it('with other rights than promised', () => {
    const bench = ready();
    bench.map(IOVA, PAGE, 1, () => bench.store(SLOT, PAGE | 1));
    expect(bench.found).toEqual(['C-MAP-VISIBLE wrong-entry 1']);
  });
});

describe('a table becomes present', () => {
  it.each([
    ['with IH: the absence of the table may be cached', true, ['C-MAP-VISIBLE not-present 2']],
    ['without', false, []],
  ])('and is flushed %s', (_name, ih, found) => {
    const bench = ready({ cachingMode: true });
    const iova = 0x200000;
    bench.map(iova, PAGE, 1, () => {
      bench.store(0x204000, PAGE | RW);
      bench.store(L2 + 8, 0x204000 | RW);
      bench.send(psi(5, iova, 0, ih));
    });
    expect(bench.found).toEqual(found);
  });
  it('with leaves in it already, each of which may be cached as absent', () => {
    const bench = ready({ cachingMode: true });
    bench.store(0x204000, PAGE | RW);
    bench.store(0x204008, (PAGE + 0x1000) | RW);
    bench.map(0x200000, PAGE, 2, () => {
      bench.store(L2 + 8, 0x204000 | RW);
      bench.send(psi(5, 0x200000));
    });
    expect(bench.findings.map(({ iova }) => iova)).toEqual([0x201000]);
  });
});

describe('a leaf goes', () => {
  it.each([
    ['nothing', null, ['C-UNMAP-GONE translation 1']],
    ['the page', psi(5, IOVA), []],
    ['the page, leaves only', psi(5, IOVA, 0, true), []],
    ['another page', psi(5, 0x6000), ['C-UNMAP-GONE translation 1']],
  ])('and %s is flushed', (_name, descriptor, found) => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      if (descriptor !== null) bench.send(descriptor);
    });
    expect(bench.found).toEqual(found);
  });
  it('before the entry was cleared is too early', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.sendOnly(psi(5, IOVA));
      bench.store(SLOT, 0);
      bench.look();
    });
    expect(bench.found).toEqual(['C-UNMAP-GONE translation 1']);
    expect(bench.findings[0].nearest[0]).toContain('sent before the store');
  });
  it('and nobody looks whether the flush is done', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      bench.sendOnly(psi(5, IOVA));
    });
    expect(bench.found).toEqual(['C-UNMAP-GONE translation 1']);
    expect(bench.findings[0].nearest[0]).toContain('not waited for');
  });
  it('and the cell held the answer before', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      // The cell still says 2 from the last wait.
      bench.put(psi(5, IOVA), [vtd.DESC_WAIT | vtd.WAIT_SW, 2, 0x101000, 0]);
      bench.doorbell();
      bench.look();
    });
    expect(bench.found).toEqual(['C-UNMAP-GONE translation 1']);
  });
  it('and the unit stopped at an error', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      bench.sendOnly(psi(5, IOVA));
      bench.unit.fsts = vtd.FSTS_IQE;
      bench.platform.readl(BASE + vtd.FSTS_REG);
      bench.look();
    });
    expect(bench.found).toEqual(['C-UNMAP-GONE translation 1']);
  });
  it('and stays in memory', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.send(psi(5, IOVA)));
    expect(bench.found).toEqual(['C-UNMAP-GONE wrong-entry 1']);
  });
  it.each([
    [0, ['C-UNMAP-GONE translation 2']],
    [9, []],
  ])('of 2 MiB, flushed with mask %i', (am, found) => {
    const bench = ready();
    bench.map(0x400000, PAGE, 512, () => bench.store(L2 + 16, PAGE | RW | vtd.SS_PAGE_SIZE));
    bench.unmap(0x400000, 512, () => {
      bench.store(L2 + 16, 0);
      bench.send(psi(5, 0x400000, am));
    });
    expect(bench.found).toEqual(found);
  });
});

describe('by registers', () => {
  it.each([
    ['IVA names the page', IOVA, []],
    ['IVA was left at another', 0x9000, ['C-UNMAP-GONE translation 1']],
  ])('%s', (_name, iva, found) => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => {
      bench.store(SLOT, 0);
      bench.platform.writeq(BASE + 0xf0, iva, 0);
      bench.platform.writeq(BASE + 0xf8, 0, vtd.IOTLB_IVT_HI | (3 << vtd.IOTLB_IIRG_SHIFT_HI) | 5);
      bench.platform.readl(BASE + 0xfc);
    });
    expect(bench.found).toEqual(found);
  });
});

describe('tables', () => {
  /** Unlinks the table of leaves; frees it before or after the flush. */
  function unlink(bench: Bench, frees: 'before' | 'after', ih: boolean): void {
    const table = bench.platform.pages.alloc();
    bench.store(L2 + 24, (table * 4096) | RW);
    bench.send([0x22 | (5 << 16), 0, 0, 0]);
    bench.call('unmap', () => {
      bench.store(L2 + 24, 0);
      if (frees === 'before') bench.platform.pages.free(table);
      bench.send(psi(5, 0x600000, 9, ih));
      if (frees === 'after') bench.platform.pages.free(table);
    });
  }
  it.each([
    ['before the flush', 'before', false, 1],
    ['after a flush that spares copies of table entries', 'after', true, 1],
    ['after the flush', 'after', false, 0],
  ] as const)('freed %s', (_name, frees, ih, nr) => {
    const bench = ready();
    unlink(bench, frees, ih);
    expect(bench.found).toEqual(Array.from({ length: nr }, () => 'C-TABLE-LIVE table 2'));
  });
  it('freed while an entry leads to them', () => {
    const bench = ready();
    const table = bench.platform.pages.alloc();
    bench.store(L2 + 24, (table * 4096) | RW);
    bench.platform.pages.free(table);
    expect(bench.findings.map(({ contract }) => contract)).toEqual(['C-TABLE-LIVE']);
  });
});

describe('contexts', () => {
  const OTHER = 0x300000;
  it.each([
    ['nothing', [], ['C-ATTACH context 0']],
    ['another device', [[0x31 | (5 << 16), SID + 8, 0, 0]], ['C-ATTACH context 0']],
    ['it under the new id', [[0x31 | (6 << 16), SID, 0, 0]], ['C-ATTACH context 0']],
    ['it under the old id', [[0x31 | (5 << 16), SID, 0, 0]], []],
    ['all of the old domain', [[0x21 | (5 << 16), 0, 0, 0]], []],
  ])('a device moves and %s is flushed', (_name, descriptors, found) => {
    const bench = ready();
    bench.call('attach', () =>
      bench.moveTo(() => {
        bench.context(6, OTHER);
        bench.send(...descriptors);
      }),
    );
    expect(bench.found).toEqual(found);
  });
  it('one changes while it is present: it may be cached half old, half new', () => {
    const bench = ready();
    bench.call('attach', () =>
      bench.moveTo(() => {
        bench.context(6, OTHER, true);
        bench.send([0x31 | (5 << 16), SID, 0, 0]);
      }),
    );
    expect(bench.found).toEqual(['C-ATTACH context 0']);
    expect(bench.findings[0].stale).toContain('domain 6, tables at 0x200000');
  });
  it.each([
    ['0, under which absent ones are cached', 0, []],
    ['5', 5, ['C-ATTACH context 0']],
  ])('one becomes present with caching mode and is flushed under id %s', (_name, id, found) => {
    const bench = new Bench({ cachingMode: true });
    bench.call('attach', () =>
      bench.moveTo(() => {
        bench.context(5, L4);
        bench.send([0x31 | (id << 16), SID, 0, 0], [0x22 | (5 << 16), 0, 0, 0]);
      }),
    );
    // Nothing was known of the device before: an entry of zeroes is one that is absent.
    expect(bench.found).toEqual(found);
  });
  it.each([
    ['dropped', true, []],
    ['left', false, ['C-ATTACH translation 0']],
  ])('a domain id goes to other tables, its translations %s', (_name, drops, found) => {
    const bench = mapped();
    bench.call('attach', () =>
      bench.moveTo(() => {
        bench.context(0, 0);
        bench.send([0x31 | (5 << 16), SID, 0, 0]);
        if (drops) bench.send([0x22 | (5 << 16), 0, 0, 0]);
        bench.context(5, OTHER);
      }),
    );
    expect(bench.found).toEqual(found);
  });
  it('all of them are unknown after a new root pointer', () => {
    const bench = ready();
    bench.platform.writel(BASE + vtd.GCMD_REG, vtd.GCMD_QIE | vtd.GCMD_SRTP | vtd.GCMD_TE);
    bench.call('attach', () => bench.moveTo(() => {}));
    expect(bench.found[0]).toBe('C-ATTACH context 0');
  });
});

describe('memory that lags', () => {
  it('a store that stays in the cache of the CPU', () => {
    const bench = ready({ coherent: false });
    bench.map(IOVA, PAGE, 1, () => bench.storeOnly(SLOT, PAGE | RW));
    expect(bench.found).toEqual(['C-MAP-VISIBLE memory 1']);
  });
  it('and is flushed', () => {
    const bench = ready({ coherent: false });
    bench.map(IOVA, PAGE, 1, () => bench.store(SLOT, PAGE | RW));
    expect(bench.found).toEqual([]);
  });
  it('and is flushed after the invalidation only', () => {
    const bench = mapped({ coherent: false });
    bench.unmap(IOVA, 1, () => {
      bench.storeOnly(SLOT, 0);
      bench.send(psi(5, IOVA));
      bench.platform.clflush(SLOT, 8);
    });
    expect(bench.found).toEqual(['C-UNMAP-GONE translation 1']);
  });
  it.each([
    ['nobody empties', false, ['C-MAP-VISIBLE memory 1']],
    ['is emptied', true, []],
  ])('a write buffer %s', (_name, empties, found) => {
    const bench = ready({ rwbf: true });
    bench.map(IOVA, PAGE, 1, () => {
      bench.storeOnly(SLOT, PAGE | RW);
      if (!empties) return;
      bench.platform.writel(BASE + vtd.GCMD_REG, vtd.GCMD_QIE | vtd.GCMD_TE | vtd.GCMD_WBF);
      bench.platform.readl(BASE + vtd.GSTS_REG);
    });
    expect(bench.found).toEqual(found);
  });
});

describe('lazy unmaps', () => {
  it('are not due at once', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0), true);
    expect(bench.found).toEqual([]);
  });
  it('but before the address is mapped again', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0), true);
    bench.map(IOVA, PAGE + 0x5000, 1, () => bench.store(SLOT, (PAGE + 0x5000) | RW));
    expect(bench.found).toEqual(['C-LAZY-BOUND translation 1']);
  });
  it.each([
    ['drops the domain', [0x22 | (5 << 16), 0, 0, 0], []],
    ['drops another', [0x22 | (6 << 16), 0, 0, 0], ['C-LAZY-BOUND translation 1']],
  ])('and a flush that %s', (_name, descriptor, found) => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0), true);
    bench.ops.act = (): void => bench.send(descriptor);
    bench.call('flush', () => bench.ops.domain.ops.flushIotlbAll(bench.ops.domain));
    expect(bench.found).toEqual(found);
  });
  it('and within the period of the queue', () => {
    const bench = mapped();
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0), true);
    bench.unit.time = 25e6;
    bench.call('anything', () => {});
    expect(bench.found).toEqual(['C-LAZY-BOUND translation 1']);
  });
});

it('a map that is taken back leaves a translation', () => {
  const bench = ready();
  bench.call('map', () => {
    bench.map(IOVA, PAGE, 1, () => bench.store(SLOT, PAGE | RW));
    bench.unmap(IOVA, 1, () => bench.store(SLOT, 0));
  });
  expect(bench.found).toEqual(['C-ROLLBACK translation 1']);
});

it('a GiB is judged by its leaves, not page by page', () => {
  const bench = ready();
  const before = bench.sanitizer.counts.pages;
  bench.map(0x40000000, PAGE, 262_144, () => bench.store(L3 + 8, PAGE | RW | vtd.SS_PAGE_SIZE));
  expect(bench.sanitizer.counts.pages - before).toBe(262_144);
  expect(bench.found).toEqual([]);
});

it('a finding says which store, and what was missing', () => {
  const bench = mapped();
  bench.unmap(IOVA, 1, () => {
    bench.store(SLOT, 0);
    bench.send(psi(6, IOVA));
  });
  const [finding] = bench.findings;
  expect(finding).toMatchObject({ call: 'unmap', domainId: 5, iova: IOVA, sid: SID });
  expect(finding.store).toMatchObject({ paddr: SLOT, before: '0x80000003', after: '0x0' });
  expect(finding.missing).toContain('domain 5 that covers 0x5000+0x1000');
  expect(finding.nearest[0]).toBe('pages 0x5000+0x1000 of domain 6: other domain, not 5');
});
