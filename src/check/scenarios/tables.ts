/** Tables that come, go, and give way. */
import type { Scenario } from '../scenario.ts';
import type { CoreSpace } from '../spaces/core-space.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY, MiB2, run, scattered } from './places.ts';

export const TABLE_SCENARIOS: readonly Scenario[] = [
  {
    name: 'tables/large-over-table',
    title: 'a 2 MiB leaf takes the place of a table that had pages (April 2021)',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map of a page');
      stage.must(space.unmap(IOVA, KiB4), 'unmap of the page');
      stage.settle();
      stage.must(space.map(IOVA, [[MEMORY + MiB2, MiB2]]), 'map of 2 MiB');
      stage.must(space.unmap(IOVA, MiB2), 'unmap of 2 MiB');
    },
  },
  {
    name: 'tables/page-after-large',
    title: 'a page takes the place of a 2 MiB leaf',
    small: true,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, [[MEMORY + MiB2, MiB2]]), 'map of 2 MiB');
      stage.must(space.unmap(IOVA, MiB2), 'unmap of 2 MiB');
      stage.settle();
      stage.must(space.map(IOVA + KiB4, run(1)), 'map of a page');
      stage.must(space.unmap(IOVA + KiB4, KiB4), 'unmap of the page');
    },
  },
  {
    name: 'tables/reuse',
    title: 'a table that became empty goes back and serves another address',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      for (let round = 0; round < 3; round++) {
        const here = IOVA + round * 2 ** 30;
        stage.must(space.map(here, scattered(512, MEMORY + round * MiB2)), 'map of a whole table');
        stage.must(space.unmap(here, MiB2), 'unmap of the whole table');
        stage.settle();
        stage.must(space.map(here + 16 * MiB2, run(1)), 'map elsewhere');
        stage.must(space.map(here, run(1)), 'map in the old place');
        stage.must(space.unmap(here, KiB4), 'unmap in the old place');
        stage.must(space.unmap(here + 16 * MiB2, KiB4), 'unmap elsewhere');
        stage.settle();
      }
    },
  },
  {
    name: 'tables/large-run',
    title: '6 MiB and two pages: leaves of both sizes in one call',
    small: false,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      const nrBytes = 3 * MiB2 + 2 * KiB4;
      stage.must(space.map(IOVA - KiB4, [[MEMORY + MiB2 - KiB4, nrBytes]]), 'map');
      stage.must(space.unmap(IOVA - KiB4, nrBytes), 'unmap');
    },
  },
  {
    name: 'tables/part-of-large',
    title: 'a page of a 2 MiB leaf is unmapped: more may go than was asked for, and all that went is flushed (2026)',
    small: true,
    callers: ['core'],
    run(stage) {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, [[MEMORY + MiB2, MiB2]]), 'map of 2 MiB');
      const gone = space.unmapBytes(IOVA, KiB4);
      stage.must(gone > 0 ? 0 : -1, 'unmap of its first page');
      if (gone < MiB2) space.unmapBytes(IOVA + gone, MiB2 - gone);
    },
  },
  {
    name: 'tables/growth',
    title: 'a table gets more levels while a device uses it (AMD; May 2020)',
    small: true,
    arch: 'amd',
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.map(2 ** 40, run(1, MEMORY + MiB2)), 'map beyond three levels');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.must(space.unmap(2 ** 40, KiB4), 'unmap beyond three levels');
    },
  },
  {
    name: 'tables/rollback',
    title: 'a list runs into a page that is mapped: nothing of it stays',
    small: true,
    callers: ['core', 'dma-iommu'],
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA + 2 * KiB4, run(1)), 'map of the third page');
      stage.mustFail(space.map(IOVA, scattered(4, MEMORY + MiB2)), 'map of four pages over it');
      stage.must(space.map(IOVA, run(2, MEMORY + 2 * MiB2)), 'map of the first two');
      stage.must(space.unmap(IOVA, 3 * KiB4), 'unmap of all three');
    },
  },
  {
    name: 'tables/no-memory',
    title: 'there is no page left for the next table: nothing stays of the map, and the same map works later',
    small: false,
    nrPages: 128,
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      const chunks = scattered(700, MEMORY + MiB2);
      stage.leavePages(1);
      stage.mustFail(space.map(IOVA + 16 * MiB2, chunks), 'map that needs two tables and finds one');
      stage.returnPages();
      stage.must(space.map(IOVA + 16 * MiB2, chunks), 'the same map with memory');
      stage.must(space.unmap(IOVA + 16 * MiB2, 700 * KiB4), 'its unmap');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
    },
  },
];

export const GATHER_SCENARIOS: readonly Scenario[] = [
  {
    name: 'gather/adjacent',
    title: 'two pages side by side are unmapped, one sync ends both',
    small: true,
    callers: ['core'],
    run: (stage) => gathers(stage.coreSpace(), IOVA + KiB4),
  },
  {
    name: 'gather/adjacent-before',
    title: 'the page before is unmapped second',
    small: true,
    callers: ['core'],
    run: (stage) => gathers(stage.coreSpace(), IOVA - KiB4),
  },
  {
    name: 'gather/disjoint',
    title: 'two pages far from each other, one sync',
    small: true,
    callers: ['core'],
    run: (stage) => gathers(stage.coreSpace(), IOVA + 64 * KiB4),
  },
  {
    name: 'gather/across-4g',
    title: 'the last page below 4 GiB and the first above (2020: the end overflowed)',
    small: true,
    callers: ['core'],
    run(stage) {
      const space = stage.coreSpace();
      space.attach(DEVICES[0]);
      space.map(0xffff_f000, run(2));
      space.unmapFast(0xffff_f000, KiB4);
      space.unmapFast(0x1_0000_0000, KiB4);
      space.sync();
    },
  },
  {
    name: 'gather/sizes',
    title: 'a page and a 2 MiB leaf beside it, one sync',
    small: false,
    callers: ['core'],
    run(stage) {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, [[MEMORY, MiB2]]), 'map of 2 MiB');
      stage.must(space.map(IOVA - KiB4, run(1, MEMORY + 2 * MiB2)), 'map of a page');
      space.unmapFast(IOVA - KiB4, KiB4);
      space.unmapFast(IOVA, MiB2);
      space.sync();
    },
  },
  {
    name: 'gather/tables',
    title: 'a whole table is emptied, then a page elsewhere: the table goes back after the flush of both',
    small: false,
    callers: ['core'],
    run(stage) {
      const space = stage.coreSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, scattered(512)), 'map of a whole table');
      stage.must(space.map(IOVA + 2 ** 30, run(1)), 'map elsewhere');
      space.unmapFast(IOVA, MiB2);
      space.unmapFast(IOVA + 2 ** 30, KiB4);
      space.sync();
      stage.must(space.map(IOVA, run(1)), 'map in the old place');
    },
  },
];

/** Two pages, the second at `other`, unmapped one after the other and synced together. */
function gathers(space: CoreSpace, other: number): void {
  space.attach(DEVICES[0]);
  space.map(IOVA, run(1));
  space.map(other, run(1, MEMORY + MiB2));
  space.unmapFast(IOVA, KiB4);
  space.unmapFast(other, KiB4);
  space.sync();
}
