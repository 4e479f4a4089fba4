/** The DMA API with its own addresses, and its flush queue. */
import type { Scenario } from '../scenario.ts';
import type { Stage } from '../stage.ts';
import { DEVICES } from '../stage.ts';
import { IOVA, KiB4, MEMORY, MiB2, run, scattered } from './places.ts';

const MS = 1_000_000;

export const DMA_SCENARIOS: readonly Scenario[] = [
  {
    name: 'dma/buffers',
    title: 'buffers of any alignment, scatterlists and coherent memory come and go',
    small: false,
    callers: ['dma-iommu'],
    run(stage) {
      const space = stage.dmaSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      for (let round = 0; round < 3; round++) {
        const page = space.mapPage(MEMORY + 100, 5000, 'toDevice');
        stage.must(page, 'dma_map_page');
        const list = space.mapSg(scattered(30, MEMORY + MiB2), 'fromDevice');
        stage.must(list, 'dma_map_sg');
        const buffer = space.alloc(3 * KiB4);
        stage.must(buffer === null ? -1 : 0, 'dma_alloc');
        stage.must(space.unmapPage(page, 5000, 'toDevice'), 'dma_unmap_page');
        stage.must(space.unmapSg(list, 'fromDevice'), 'dma_unmap_sg');
        if (buffer !== null) stage.must(space.free(buffer), 'dma_free');
      }
      stage.settle();
    },
  },
  {
    name: 'lazy/timer',
    title: 'an unmapped page may be reached until the timer; then another takes its place',
    small: true,
    callers: ['dma-iommu'],
    unmapFlush: 'lazy',
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, run(1)), 'map');
      stage.must(space.unmap(IOVA, KiB4), 'unmap');
      stage.pass(5 * MS);
      stage.settle();
      stage.must(space.map(IOVA, run(1, MEMORY + MiB2)), 'map of another page');
      stage.must(space.unmap(IOVA, KiB4), 'second unmap');
      stage.settle();
    },
  },
  {
    name: 'lazy/full-queue',
    title: 'more unmaps than the queue holds',
    small: false,
    callers: ['dma-iommu'],
    unmapFlush: 'lazy',
    run: (stage) => cycles(stage, 600),
  },
  {
    name: 'lazy/reuse',
    title: 'addresses are handed out again while others wait',
    small: false,
    callers: ['dma-iommu'],
    unmapFlush: 'lazy',
    run(stage) {
      const space = stage.dmaSpace();
      stage.must(space.attach(DEVICES[0]), 'attach');
      for (let i = 0; i < 100; i++) {
        const address = space.mapPage(MEMORY + i * MiB2, KiB4);
        stage.must(address, 'dma_map_page');
        stage.must(space.unmapPage(address, KiB4), 'dma_unmap_page');
        if (i % 10 === 9) stage.pass(4 * MS);
      }
      stage.settle();
    },
  },
  {
    name: 'lazy/tables',
    title: 'a table that became empty waits in the queue with its range',
    small: false,
    callers: ['dma-iommu'],
    unmapFlush: 'lazy',
    run(stage) {
      const space = stage.space();
      stage.must(space.attach(DEVICES[0]), 'attach');
      stage.must(space.map(IOVA, scattered(512)), 'map of a whole table');
      stage.must(space.unmap(IOVA, MiB2), 'unmap of the whole table');
      stage.must(space.map(IOVA + 16 * MiB2, run(1)), 'map elsewhere');
      stage.settle();
      stage.must(space.map(IOVA, run(1)), 'map in the old place');
    },
  },
];

/** Maps and unmaps pages one after the other. */
function cycles(stage: Stage, nr: number): void {
  const space = stage.space();
  stage.must(space.attach(DEVICES[0]), 'attach');
  for (let i = 0; i < nr; i++) {
    stage.must(space.map(IOVA + i * KiB4, run(1, MEMORY + i * KiB4)), 'map');
    stage.must(space.unmap(IOVA + i * KiB4, KiB4), 'unmap');
  }
  stage.settle();
}
