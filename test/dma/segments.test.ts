/** Layout and merging of scatterlists: iommu_dma_map_sg, __finalise_sg (kernel.md 1.5). Expected values from the rules, by hand. */
import { describe, expect, test } from 'vitest';
import { EINVAL, EREMOTEIO } from '../../src/base/index.ts';
import type { DmaLimits, P2pMapping, P2pProvider } from '../../src/dma/index.ts';
import { Scatterlist } from '../../src/dma/index.ts';
import { DmaBench, K4 } from './dma-bench.ts';

const GPU: P2pProvider = { name: 'gpu', busOffset: -0x8000_0000 };
type Element = [paddr: number, nrBytes: number, provider?: P2pProvider];
/** Distance from the first page of the run, bytes; or a bus address, bytes, 'bus'. */
type Segment = [at: number, nrBytes: number] | [at: number, nrBytes: number, kind: 'bus'];

function listOf(elements: readonly Element[]): Scatterlist {
  const list = new Scatterlist(elements.length);
  for (const [paddr, nrBytes, provider] of elements) {
    if (provider === undefined) list.add(paddr, nrBytes);
    else list.addP2p(paddr, nrBytes, provider);
  }
  return list;
}

function segmentsOf(list: Scatterlist, count: number): Segment[] {
  const first = list.isBus.findIndex((isBus, at) => isBus === 0 && list.dmaBytes[at] > 0);
  const base = first < 0 ? 0 : list.dmaAddress[first] - (list.dmaAddress[first] % K4);
  return Array.from({ length: count }, (_, at): Segment =>
    list.isBus[at] === 1
      ? [list.dmaAddress[at], list.dmaBytes[at], 'bus']
      : [list.dmaAddress[at] - base, list.dmaBytes[at]],
  );
}

/** The layout alone, for lists of gigabytes. */
function withoutPages(bench: DmaBench): DmaBench {
  bench.core.map = (): number => 0;
  bench.core.mapSg = (_domain, _iova, chunks, nr): number => {
    let total = 0;
    for (let at = 0; at < nr; at++) total += chunks[2 * at + 1];
    return total;
  };
  return bench;
}

const GIB4 = 2 ** 32;
const WIDE: DmaLimits = { dmaMask: 2 ** 48 - 1, segmentBoundaryMask: 2 ** 47 - 1, maxSegmentBytes: GIB4 - 1 };

const LAYOUTS: [name: string, limits: DmaLimits, elements: Element[], segments: Segment[]][] = [
  [
    'a boundary smaller than a page is none',
    { segmentBoundaryMask: 0x7ff },
    [
      [0x5000, K4],
      [0x9000, K4],
    ],
    [
      [0, K4],
      [K4, K4],
    ],
  ],
  // Every page begins at a multiple of 4 KiB: never joined, and no padding is ever due.
  [
    'a boundary of a page',
    { segmentBoundaryMask: 0xfff },
    [
      [0x5000, 3 * K4],
      [0x9000, K4],
    ],
    [
      [0, 3 * K4],
      [3 * K4, K4],
    ],
  ],
  // pad = 8 - 3 = 5 pages, less than 6 pages - 1 byte.
  [
    'padding counts for those behind',
    { segmentBoundaryMask: 0x7fff },
    [
      [0x10000, 3 * K4],
      [0x20000, 6 * K4],
      [0x40000, 2 * K4],
    ],
    [
      [0, 3 * K4],
      [8 * K4, 8 * K4],
    ],
  ],
  // 1 page + 1 byte is 2 pages: pad of 1 page after 7.
  [
    'lengths are compared in pages',
    { segmentBoundaryMask: 0x7fff },
    [
      [0x10000, 7 * K4],
      [0x20000, K4 + 1],
    ],
    [
      [0, 7 * K4],
      [8 * K4, K4 + 1],
    ],
  ],
  // pad 4096 < 4096 - 1 does not hold: a single page never needs padding.
  [
    'a page fits before any boundary',
    { segmentBoundaryMask: 0x7fff },
    [
      [0x10000, 7 * K4],
      [0x20000, K4],
    ],
    [[0, 8 * K4]],
  ],
  // pad_len < s_length - 1: one byte short of the length already pads; equal does not.
  [
    'ends on the boundary',
    { segmentBoundaryMask: 0x7fff, maxSegmentBytes: 2 ** 20 },
    [
      [0x10000, 4 * K4],
      [0x20000, 4 * K4],
      [0x30000, K4],
    ],
    [
      [0, 8 * K4],
      [8 * K4, K4],
    ],
  ],
  [
    'a mask of 64 bits is no boundary',
    { segmentBoundaryMask: 2 ** 64 - 1 },
    [
      [0x10000, K4],
      [0x20000, K4],
    ],
    [[0, 2 * K4]],
  ],
  [
    'exactly as long as allowed',
    { maxSegmentBytes: 2 * K4 },
    [
      [0x10000, K4],
      [0x20000, K4],
      [0x30000, 1],
    ],
    [
      [0, 2 * K4],
      [2 * K4, 1],
    ],
  ],
  // 8192 - 12288 wraps: room for anything.
  [
    'behind one that is too long everything joins',
    { maxSegmentBytes: 2 * K4 },
    [
      [0x10000, 3 * K4],
      [0x20000, K4],
      [0x30000, 5 * K4],
    ],
    [[0, 9 * K4]],
  ],
  [
    '... unless it ended inside a page',
    { maxSegmentBytes: 2 * K4 },
    [
      [0x10000, 2 * K4 + 1],
      [0x20000, K4],
    ],
    [
      [0, 2 * K4 + 1],
      [3 * K4, K4],
    ],
  ],
  [
    'largest element that 32 bits hold',
    WIDE,
    [
      [0x10000, GIB4 - K4],
      [0x20000, K4 - 1],
    ],
    [[0, GIB4 - 1]],
  ],
  [
    '4 GiB in one segment do not fit 32 bits',
    WIDE,
    [
      [0x10000, GIB4 - K4],
      [0x20000, K4],
    ],
    [
      [0, GIB4 - K4],
      [GIB4 - K4, K4],
    ],
  ],
];

describe('segments', () => {
  test.each(LAYOUTS)('%s', (_name, limits, elements, segments) => {
    const bench = new DmaBench({ limits });
    if (elements.some(([, nrBytes]) => nrBytes > 2 ** 24)) withoutPages(bench);
    const list = listOf(elements);
    const count = bench.dma.mapSg(list, 'toDevice');
    expect(segmentsOf(list, count)).toEqual(segments);
    expect([...list.dmaBytes].slice(count)).toEqual(Array.from({ length: elements.length - count }, () => 0));
  });
});

const OVERFLOWS: [string, DmaLimits, Element[]][] = [
  ['an element that rounds up to 4 GiB', WIDE, [[0x10001, GIB4 - K4]]],
  ['an element of 4 GiB', WIDE, [[0x10000, GIB4]]],
  // The element before the gap is 2 pages short of the boundary and takes them on: 4 GiB.
  [
    'padding that makes 4 GiB',
    { ...WIDE, segmentBoundaryMask: GIB4 - 1 },
    [
      [0x10000, GIB4 - 2 * K4],
      [0x20000, 3 * K4],
    ],
  ],
];

describe('length overflow: EINVAL, where up to 6.11 less was mapped than asked for ("Catch scatterlist length overflows")', () => {
  test.each(OVERFLOWS)('%s', (_name, limits, elements) => {
    const bench = withoutPages(new DmaBench({ limits }));
    const list = listOf(elements);
    expect(bench.dma.mapSg(list, 'toDevice')).toBe(EINVAL);
    expect(bench.state).toEqual([0, 0, 0, 0]);
    expect([list.dmaBytes[0], list.nrBytes[0], list.paddr[0]]).toEqual([0, elements[0][1], elements[0][0]]);
  });

  test('one page less of padding fits', () => {
    const bench = withoutPages(new DmaBench({ limits: { ...WIDE, segmentBoundaryMask: GIB4 - 1 } }));
    const list = listOf([
      [0x10000, GIB4 - 3 * K4],
      [0x20000, 2 * K4],
      [0x30000, 3 * K4],
    ]);
    // After 2^32 - K4 bytes: 1 page of padding, on the element before, which has 2.
    expect(segmentsOf(list, bench.dma.mapSg(list, 'toDevice'))).toEqual([
      [0, GIB4 - K4],
      [GIB4, 3 * K4],
    ]);
  });
});

describe("elements in other devices' memory", () => {
  const P2P: [name: string, mapping: P2pMapping, elements: Element[], segments: Segment[], nrPages: number][] = [
    [
      'through the host bridge they are as others',
      'host-bridge',
      [
        [0x10000, K4],
        [0xc000_0000, K4, GPU],
      ],
      [[0, 2 * K4]],
      2,
    ],
    [
      'by bus address: a segment of their own, nothing joins it',
      'bus-address',
      [
        [0x10000, K4],
        [0xc000_0000, K4, GPU],
        [0x20000, K4],
        [0x30000, K4],
      ],
      [
        [0, K4],
        [0x4000_0000, K4, 'bus'],
        [K4, 2 * K4],
      ],
      3,
    ],
    [
      'two of them stay two',
      'bus-address',
      [
        [0xc000_0000, K4, GPU],
        [0xc000_1000, K4, GPU],
      ],
      [
        [0x4000_0000, K4, 'bus'],
        [0x4000_1000, K4, 'bus'],
      ],
      0,
    ],
    [
      'first and last',
      'bus-address',
      [
        [0xc000_0000, 10, GPU],
        [0x10000, 10],
        [0xc000_1800, 10, GPU],
      ],
      [
        [0x4000_0000, 10, 'bus'],
        [0, 10],
        [0x4000_1800, 10, 'bus'],
      ],
      1,
    ],
  ];
  test.each(P2P)('%s', (_name, mapping, elements, segments, nrPages) => {
    const bench = new DmaBench({ p2pMap: () => mapping });
    const list = listOf(elements);
    const count = bench.dma.mapSg(list, 'toDevice');
    expect(segmentsOf(list, count)).toEqual(segments);
    expect([bench.driver.pages.size, bench.space.nrLive]).toEqual([nrPages, nrPages > 0 ? 1 : 0]);
    expect(bench.dma.unmapSg(list, list.nents, 'toDevice')).toBe(0);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('no way to reach one: EREMOTEIO, nothing mapped', () => {
    const bench = new DmaBench();
    const list = listOf([
      [0x10000, K4],
      [0xc000_0000, K4, GPU],
    ]);
    expect(bench.dma.mapSg(list, 'toDevice')).toBe(EREMOTEIO);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test('a bus address is not translated: padding and boundaries do not count it', () => {
    const bench = new DmaBench({ p2pMap: () => 'bus-address', limits: { segmentBoundaryMask: 0x7fff } });
    const list = listOf([
      [0x10000, 7 * K4],
      [0xc000_0000, 9 * K4, GPU],
      [0x20000, 2 * K4],
    ]);
    // The padding goes to the last element that has an IOVA.
    expect(segmentsOf(list, bench.dma.mapSg(list, 'toDevice'))).toEqual([
      [0, 7 * K4],
      [0x4000_0000, 9 * K4, 'bus'],
      [8 * K4, 2 * K4],
    ]);
    expect(bench.driver.pages.size).toBe(10);
  });
});

test('a mapping that fails leaves the list as it was, and it can be mapped again', () => {
  const bench = new DmaBench();
  const list = listOf([
    [0x10000, K4],
    [0x20000, 100],
  ]);
  bench.driver.fail.set('sync', -5);
  expect(bench.dma.mapSg(list, 'toDevice')).toBe(EINVAL);
  expect([...list.dmaBytes, ...list.dmaAddress]).toEqual([0, 0, 0, 0]);
  bench.driver.fail.clear();
  expect(bench.dma.mapSg(list, 'toDevice')).toBe(1);
  expect(bench.dma.unmapSg(list, 3, 'toDevice')).toBe(EINVAL);
  expect(bench.dma.unmapSg(list, 0, 'toDevice')).toBe(EINVAL);
  expect(bench.dma.unmapSg(list, 2, 'toDevice')).toBe(0);
  expect(bench.dma.unmapSg(list, 2, 'toDevice')).toBe(EINVAL);
  expect(bench.state).toEqual([0, 0, 0, 0]);
});
