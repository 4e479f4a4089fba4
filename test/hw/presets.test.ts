import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { VTD_DEFAULT, VTD_QEMU, type VtdConfig } from '../../src/hw/index.ts';
import { contextDevice, contextDomain, GiB, iotlbGlobal, iotlbPage, R, Rig, RW, SID, W } from './rig.ts';

const PAGE = 0x7000000;
const OTHER = 0x9000000;

// Each deviation that facts/qemu-qtest.md lists for Intel: a scenario, what QEMU's unit shows, what the default unit shows.
const deviations: [string, (rig: Rig, top: number) => unknown, unknown, unknown][] = [
  [
    'a page touched before it was mapped works at once, caching mode or not',
    (rig, top) => {
      rig.unit.translate(SID, 2 * GiB, R);
      rig.map(top, 2 * GiB, PAGE);
      return rig.unit.translate(SID, 2 * GiB, R);
    },
    PAGE,
    -6,
  ],
  [
    'a context that was missing works at once',
    (rig) => {
      rig.context(SID + 5, { present: false });
      rig.unit.translate(SID + 5, GiB, R);
      rig.context(SID + 5, { tt: 2 });
      return rig.unit.translate(SID + 5, GiB, R);
    },
    GiB,
    -2,
  ],
  [
    'a changed table pointer shows at once for pages not cached',
    (rig, top) => {
      rig.map(top, GiB + 4096, PAGE);
      rig.unit.translate(SID, GiB, R);
      const fresh = rig.table();
      rig.store(fresh + 8, OTHER | RW);
      rig.store(rig.entryAt(top, 4, GiB, 2), fresh | RW);
      return rig.unit.translate(SID, GiB + 4096, R);
    },
    OTHER,
    PAGE,
  ],
  [
    'FPD does not silence a context entry with reserved bits',
    (rig, top) => {
      rig.context(SID, { top, fpd: true });
      const entry = rig.contextAt(SID);
      rig.store(entry + 8, rig.mem.load32(entry + 8) | 0x80);
      rig.unit.translate(SID, GiB, R);
      return rig.unit.pendingFaults().map(({ reason }) => reason);
    },
    [0xb],
    [],
  ],
  [
    'devices of one domain do not share entries',
    (rig, top) => {
      rig.context(SID + 1, { top });
      rig.unit.translate(SID, GiB, R);
      rig.map(top, GiB, OTHER);
      return rig.unit.translate(SID + 1, GiB, R);
    },
    OTHER,
    PAGE,
  ],
  [
    'an access that a cached entry denies is dropped without a record',
    (rig, top) => {
      rig.map(top, GiB, PAGE, R);
      rig.unit.translate(SID, GiB, R);
      return [rig.unit.translate(SID, GiB, W), rig.unit.pendingFaults().length];
    },
    [-5, 0],
    [-5, 1],
  ],
  [
    'a denied access leaves nothing cached',
    (rig, top) => {
      rig.map(top, GiB, PAGE, R);
      rig.unit.translate(SID, GiB, W);
      return rig.unit.iotlbEntries().length;
    },
    0,
    1,
  ],
  [
    'domain-selective context invalidation is global',
    (rig) => {
      rig.unit.translate(SID, GiB, R);
      rig.submit(contextDomain(77));
      return rig.unit.contextEntries().length;
    },
    0,
    1,
  ],
  [
    'device-selective context invalidation ignores the domain',
    (rig) => {
      rig.unit.translate(SID, GiB, R);
      rig.submit(contextDevice(77, SID));
      return rig.unit.contextEntries().length;
    },
    0,
    1,
  ],
  [
    'SRTP flushes all',
    (rig, top) => {
      rig.unit.translate(SID, GiB, R);
      rig.map(top, GiB, OTHER);
      rig.unit.write32(0x18, 0xc4000000);
      return rig.unit.translate(SID, GiB, R);
    },
    OTHER,
    PAGE,
  ],
  [
    'TE flushes all',
    (rig, top) => {
      rig.unit.translate(SID, GiB, R);
      rig.map(top, GiB, OTHER);
      rig.unit.write32(0x18, 0x04000000);
      rig.unit.write32(0x18, 0x84000000);
      return rig.unit.translate(SID, GiB, R);
    },
    OTHER,
    PAGE,
  ],
  ['ECAP has neither C nor device TLBs', (rig) => rig.unit.read32(0x10), 0xf42, 0xf47],
  ['IQERCD stays 0', (rig) => [rig.submit([0, 0, 0, 0]), rig.unit.read32(0xb0)][1], 0, 3],
];

describe('QEMU preset', () => {
  test.each(deviations)('%s', (_name, scenario, qemu, spec) => {
    for (const [config, expected] of [
      [{ ...VTD_QEMU, cachingMode: true }, qemu],
      [{ cachingMode: true }, spec],
    ] as [VtdConfig, unknown][]) {
      const rig = new Rig(config);
      const top = rig.context(SID);
      rig.map(top, GiB, PAGE);
      rig.enable();
      expect(scenario(rig, top)).toEqual(expected);
    }
  });

  test('invalidation by domain works although tags are source ids, wrong domain and page do nothing', () => {
    const rig = new Rig(VTD_QEMU);
    const top = rig.context(SID, { did: 5 });
    rig.context(SID + 1, { did: 5, top });
    rig.map(top, GiB, PAGE);
    rig.enable();
    for (const sid of [SID, SID + 1]) rig.unit.translate(sid, GiB, R);
    rig.submit(iotlbPage(6, GiB), iotlbPage(5, GiB + 4096));
    expect(rig.unit.iotlbEntries().map((entry) => [entry.tag, entry.domain])).toEqual(
      expect.arrayContaining([
        [SID, 5],
        [SID + 1, 5],
      ]),
    );
    rig.submit(iotlbPage(5, GiB));
    expect(rig.unit.iotlbEntries()).toEqual([]);
  });
});

describe('snapshot and restore', () => {
  const configs: [string, VtdConfig][] = [
    ['caching mode', { cachingMode: true, nfr: 2, completionDelayNs: 50 }],
    ['random victims', { cachingMode: true, iotlb: { sets: 2, ways: 2, replacement: 'random' } }],
    ['QEMU', VTD_QEMU],
    ['default', VTD_DEFAULT],
  ];
  test.each(configs)('%s: a restored unit goes on as the original did', (_name, config) => {
    const rig = new Rig(config);
    const top = rig.context(SID);
    for (let page = 0; page < 32; page += 2)
      rig.map(top, GiB + page * 4096, PAGE + page * 4096, page % 4 === 0 ? RW : R);
    rig.enable();
    const future = (seed: number): string => {
      const rng = new Rng(seed);
      const seen: number[] = [];
      for (let step = 0; step < 200; step++) {
        const iova = GiB + rng.below(32) * 4096;
        const choice = rng.below(10);
        if (choice < 7) seen.push(rig.unit.translate(SID + rng.below(2), iova, rng.pick([R, W])));
        else if (choice < 8) rig.submit(iotlbPage(5, iova, rng.below(3)));
        else if (choice < 9) rig.clearFaults();
        else seen.push(rig.unit.read32(rng.pick([0x34, 0x80, 0x22c, 0x38])));
      }
      return [...seen, ...rig.unit.snapshot()].join();
    };
    future(1);
    const tail = rig.tail;
    const saved = rig.unit.snapshot();
    const first = future(2);
    expect(rig.unit.snapshot()).not.toEqual(saved);
    rig.unit.restore(saved);
    rig.tail = tail;
    expect(rig.unit.snapshot()).toEqual(saved);
    expect(future(2)).toBe(first);
    // Filling an old array gives the same words without making a new one.
    const into = new Int32Array(saved.length);
    expect(rig.unit.snapshot(into)).toBe(into);
    expect(into).toEqual(rig.unit.snapshot());
  });

  test('a snapshot of another configuration is refused', () => {
    const small = new Rig({ iotlb: { sets: 1, ways: 1 } });
    expect(() => new Rig().unit.restore(small.unit.snapshot())).toThrow(RangeError);
  });

  test('a pending deadline is part of the snapshot', () => {
    const rig = new Rig({ completionDelayNs: 100 });
    rig.context(SID);
    rig.enable();
    rig.submit(iotlbGlobal(), rig.wait(1));
    const waiting = rig.unit.snapshot();
    rig.clock.advanceBy(100);
    rig.unit.step();
    expect(rig.mem.load32(rig.status)).toBe(1);
    rig.mem.store32(rig.status, 0);
    rig.unit.restore(waiting);
    rig.unit.step();
    expect(rig.mem.load32(rig.status)).toBe(1);
  });
});
