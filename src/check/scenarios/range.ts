/** Ranges that do not lie as invalidation commands would like them. */
import type { Scenario } from '../scenario.ts';
import { DEVICES } from '../stage.ts';
import { KiB4, MEMORY, MiB2, run, scattered } from './places.ts';

/** Maps and unmaps a range twice, onto other pages the second time. */
function twice(name: string, title: string, iova: number, nr: number, small: boolean): Scenario {
  return {
    name,
    title,
    small,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(iova, run(nr)), 'map');
      stage.must(space.unmap(iova, nr * KiB4), 'unmap');
      stage.settle();
      stage.must(space.map(iova, scattered(nr, MEMORY + MiB2)), 'map of other pages');
      stage.must(space.unmap(iova, nr * KiB4), 'second unmap');
    },
  };
}

export const RANGE_SCENARIOS: readonly Scenario[] = [
  twice('range/unaligned', '3 pages from page 0x17f on: a mask of 2 misses the tail (April 2022)', 0x17f000, 3, true),
  twice('range/odd-start', '2 pages from an odd page on', 0x4000_1000, 2, true),
  twice('range/across-2m', '33 pages across the border of two tables', 0x4020_0000 - 16 * KiB4, 33, false),
  twice('range/page-0', 'the page at IOVA 0', 0, 1, true),
  twice('range/across-4g', '4 pages across 4 GiB: words of addresses carry', 0xffff_e000, 4, false),
  {
    name: 'range/top',
    title: 'the last two pages of the address space',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      const last = space.domain?.apertureLast ?? 2 ** 39 - 1;
      const iova = last + 1 - 2 * KiB4;
      stage.must(space.map(iova, run(2)), 'map');
      stage.must(space.unmap(iova, 2 * KiB4), 'unmap');
      stage.settle();
      stage.must(space.map(iova + KiB4, run(1, MEMORY + MiB2)), 'map of another page');
      stage.must(space.unmap(iova + KiB4, KiB4), 'second unmap');
    },
  },
];
