/** Maps, unmaps and maps again: what everybody does. */
import { IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import type { Scenario } from '../scenario.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY, MiB2, run, scattered } from './places.ts';

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
  {
    name: 'map/30-elements',
    title: 'a list of 30 elements of different lengths in one call, as a network card maps it',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      const chunks = Array.from({ length: 30 }, (_, i): [number, number] => [
        MEMORY + i * 0x10_0000,
        (1 + (i % 4)) * KiB4,
      ]);
      const nrBytes = chunks.reduce((sum, [, bytes]) => sum + bytes, 0);
      stage.must(space.map(IOVA, chunks), 'map');
      stage.must(space.unmap(IOVA, nrBytes), 'unmap');
      stage.settle();
      stage.must(space.map(IOVA, scattered(nrBytes / KiB4)), 'map of other pages');
      stage.must(space.unmap(IOVA, nrBytes), 'second unmap');
    },
  },
];
