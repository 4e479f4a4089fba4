/** Maps, unmaps and maps again: what everybody does. */
import { PAGE_SIZE } from '../../base/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import type { Scenario } from '../scenario.ts';
import type { Chunks } from '../space.ts';
import { DEVICES } from '../stage.ts';

const KiB4 = PAGE_SIZE;
const MiB2 = 2 ** 21;
/** An address whose pages have tables of their own. */
const IOVA = 0x4000_0000;
/** Memory that nothing else uses. */
const MEMORY = 0x1_0000_0000;

/** `nr` pages that do not follow each other. */
export function scattered(nr: number, first: number = MEMORY): Chunks {
  return Array.from({ length: nr }, (_, page): [number, number] => [first + 2 * page * KiB4, KiB4]);
}

/** Pages as the DMA API, VFIO or an IOAS would be asked for them, in one run. */
function run(nr: number, first: number = MEMORY): Chunks {
  return [[first, nr * KiB4]];
}

export const MAP_SCENARIOS: readonly Scenario[] = [
  {
    name: 'map/one-page',
    title: 'a page is mapped for an attached device, and unmapped',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    },
  },
  {
    name: 'map/remap',
    title: 'another page takes the place of an unmapped one',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.settle();
      stage.must(space.map(IOVA, run(1, MEMORY + 8 * KiB4)), 'second map');
      stage.must(space.unmap(IOVA, KiB4), 'second unmap');
    },
  },
  {
    name: 'map/neighbour',
    title: 'a page beside a mapped one, in the same table',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.map(IOVA + KiB4, run(1, MEMORY + 8 * KiB4)), 'map beside it');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.must(space.unmap(IOVA + KiB4, KiB4), 'unmap beside it');
    },
  },
  {
    name: 'map/read-only-then-writable',
    title: 'the same page comes back with more rights',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1), IOMMU_READ), 'map for reading');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.settle();
      stage.must(space.map(IOVA, run(1), IOMMU_READ | IOMMU_WRITE), 'map for writing');
      stage.must(space.unmap(IOVA, KiB4), 'second unmap');
    },
  },
  {
    name: 'map/16-scattered',
    title: '16 pages from all over memory in one call',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.commands.take();
      stage.must(space.map(IOVA, scattered(16)), 'map');
      stage.must(space.unmap(IOVA, 16 * KiB4), 'unmap');
    },
  },
  {
    name: 'map/before-attach',
    title: 'pages are mapped before the device comes',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.map(IOVA, run(2)), 'map');
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.unmap(IOVA, 2 * KiB4), 'unmap');
    },
  },
  {
    name: 'map/large-page',
    title: 'a 2 MiB run, as one leaf where the tables have such',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, [[MEMORY, MiB2]]), 'map');
      stage.must(space.unmap(IOVA, MiB2), 'unmap');
    },
  },
];
