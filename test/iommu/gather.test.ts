import { describe, expect, it } from 'vitest';
import { IotlbGather } from '../../src/iommu/index.ts';
import { Recorder } from './recorder.ts';

const K4 = 4096;
const M2 = 2 ** 21;

/** Adds pages (iova, bytes) one by one; the syncs that came of it, then what is left. */
function pages(...list: [number, number][]): string[] {
  const ops = new Recorder();
  const gather = new IotlbGather();
  const domain = ops.domain();
  for (const [iova, bytes] of list) gather.addPage(ops, domain, iova, bytes);
  ops.iotlbSync(domain, gather);
  return ops.log;
}

describe('IotlbGather', () => {
  it('starts empty and is empty again', () => {
    const gather = new IotlbGather();
    expect(gather.isEmpty).toBe(true);
    gather.addRange(0, K4);
    gather.freelist.push(5);
    expect([gather.start, gather.last, gather.isEmpty]).toEqual([0, 0xfff, false]);
    gather.reset();
    expect([gather.start, gather.last, gather.pgsize, gather.freelist.length]).toEqual([Infinity, 0, 0, 0]);
  });

  it('has an inclusive end: a range that ends at 4 GiB or at the top does not wrap (list mail 24af5a0d76)', () => {
    const gather = new IotlbGather();
    gather.addRange(2 ** 32 - K4, K4);
    expect(gather.last).toBe(2 ** 32 - 1);
    gather.addRange(2 ** 52 - K4, K4);
    expect(gather.last).toBe(2 ** 52 - 1);
  });

  it.each<[string, number, number, boolean]>([
    ['touching behind', 0x5000, K4, false],
    ['touching before', 0x2000, K4, false],
    ['overlapping', 0x4000, 4 * K4, false],
    ['inside', 0x3000, K4, false],
    ['one page of gap behind', 0x6000, K4, true],
    ['one page of gap before', 0x1000, K4, true],
  ])(
    'next to [0x3000, 0x5000), %s: disjoint is judged with adjacency counted as joined (list mail caaa360852)',
    (_, iova, bytes, disjoint) => {
      const gather = new IotlbGather();
      expect(gather.isDisjoint(iova, bytes)).toBe(false);
      gather.addRange(0x3000, 2 * K4);
      expect(gather.isDisjoint(iova, bytes)).toBe(disjoint);
    },
  );

  it('syncs before it takes a page of another size or beyond a gap, and not otherwise', () => {
    expect(pages([0, K4], [K4, K4], [2 * K4, K4])).toEqual(['sync 0-2fff']);
    expect(pages([2 * K4, K4], [K4, K4], [0, K4])).toEqual(['sync 0-2fff']);
    expect(pages([0, K4], [2 * K4, K4])).toEqual(['sync 0-fff', 'sync 2000-2fff']);
    expect(pages([M2 - K4, K4], [M2, M2])).toEqual(['sync 1ff000-1fffff', 'sync 200000-3fffff']);
  });
});
