/** Two callers, and a caller and the timer of its flush queue: the explorer tries every order of their calls. */
import { describe, expect, it } from 'vitest';
import type { Scenario, StageSetup } from '../../../src/check/index.ts';
import { DEVICES, explore, playSchedule } from '../../../src/check/index.ts';
import { KiB4 } from '../../drivers/lab.ts';
import { IOVA } from './bugs.ts';

const MEMORY = 0x1_0000_0000;
const SETUP: StageSetup = { arch: 'intel', caller: 'core', npCache: false };

/** What the callers of a run did, in order. */
let orders: string[] = [];

const TWO_CALLERS: Scenario = {
  name: 'two callers',
  title: 'one maps and unmaps, the other looks for a page of its own',
  small: true,
  run(stage) {
    const space = stage.coreSpace();
    stage.must(space.attach(DEVICES[0]), 'attach');
    let order = '';
    const does = (name: string, call: () => number) => (): void => {
      order += name;
      stage.must(call(), name);
    };
    stage.interleave(
      [does('a', () => space.map(IOVA, [[MEMORY, KiB4]])), does('A', () => space.unmap(IOVA, KiB4))],
      [
        does('b', () => space.map(IOVA + KiB4, [[MEMORY + 2 * KiB4, KiB4]])),
        does('B', () => space.unmap(IOVA + KiB4, KiB4)),
      ],
    );
    orders.push(order);
  },
};

/** The second caller takes an address that the first one has given back, without waiting for the flush: right only in one order. */
const RACE: Scenario = {
  name: 'race',
  title: 'an address is mapped again, and the flush of its unmap comes from elsewhere',
  small: true,
  run(stage) {
    const space = stage.coreSpace();
    stage.must(space.attach(DEVICES[0]), 'attach');
    stage.must(space.map(IOVA, [[MEMORY, KiB4]]), 'map');
    space.unmapFast(IOVA, KiB4);
    stage.interleave(
      [(): void => space.sync()],
      [(): void => stage.must(space.map(IOVA, [[MEMORY + 8 * KiB4, KiB4]]), 'map again')],
    );
  },
};

const LAZY: Scenario = {
  name: 'lazy',
  title: 'pages go through the flush queue while its timer may run at any time',
  small: true,
  callers: ['dma-iommu'],
  run(stage) {
    const space = stage.space();
    stage.must(space.attach(DEVICES[0]), 'attach');
    stage.must(space.map(IOVA, [[MEMORY, KiB4]]), 'map');
    stage.interleave(
      [
        (): void => stage.must(space.unmap(IOVA, KiB4), 'unmap'),
        (): void => stage.must(space.map(IOVA + KiB4, [[MEMORY + 2 * KiB4, KiB4]]), 'map beside it'),
        (): void => stage.must(space.unmap(IOVA + KiB4, KiB4), 'unmap beside it'),
      ],
      [(): void => stage.pass(20_000_000), (): void => stage.pass(20_000_000)],
    );
    stage.settle();
  },
};

describe('orders of callers', () => {
  it('all six orders of two times two calls are run, each list in its own order', () => {
    orders = [];
    const result = explore(TWO_CALLERS, SETUP, { mostPages: 1 });
    expect([result.verdict, result.reason]).toEqual(['held', '1 pages were not looked at']);
    expect([...new Set(orders)].sort()).toEqual(['aAbB', 'abAB', 'abBA', 'bBaA', 'baAB', 'baBA']);
  });

  it('a promise broken in one order only is found, with that order', () => {
    const result = explore(RACE, SETUP);
    expect(result.verdict).toBe('violated');
    const [found] = result.counterexamples;
    // The second list first, and one walk while the old page is there.
    expect([found.contract, found.schedule.choices, found.schedule.tape.length]).toEqual(['C-LAZY-BOUND', [1], 1]);
    expect(playSchedule(found.schedule, { scenarios: [RACE] }).isShown).toBe(true);
    expect(playSchedule({ ...found.schedule, choices: [0] }, { scenarios: [RACE] }).isShown).toBe(false);
  });

  it.each(['intel', 'amd'] as const)('the timer of the flush queue may run between any two calls (%s)', (arch) => {
    const result = explore(LAZY, { arch, caller: 'dma-iommu', npCache: false, unmapFlush: 'lazy' });
    expect([result.verdict, result.reason]).toEqual(['held', '']);
    // Ten orders of three and two calls, and forks of waits.
    expect(result.runs).toBeGreaterThan(20);
  });
});
