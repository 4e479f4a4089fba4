/** What the explorer says when there is no plain answer, and what it counts. */
import { describe, expect, it } from 'vitest';
import type { Scenario, StageSetup } from '../../../src/check/index.ts';
import { DEVICES, explore, MUTANTS, SCENARIOS } from '../../../src/check/index.ts';
import type { IntelIommuOptions } from '../../../src/drivers/index.ts';
import { IntelIommu } from '../../../src/drivers/index.ts';
import { KiB4 } from '../../drivers/lab.ts';
import { IOVA, MAP, MAP_UNMAP, mute } from './bugs.ts';

const INTEL: StageSetup = { arch: 'intel', caller: 'core', npCache: false };

describe('verdicts', () => {
  it('a bound that is reached makes the verdict inconclusive, unless something was found before', () => {
    const few = explore(MAP_UNMAP, INTEL, { mostSchedules: 50 });
    expect([few.verdict, few.reason]).toEqual(['inconclusive', expect.stringMatching(/^stopped after \d+ schedules$/)]);
    expect(few.schedules).toBeLessThan(100);
    expect(explore(MAP_UNMAP, INTEL, { isOver: () => true }).verdict).toBe('inconclusive');
    const bug = explore(
      MAP,
      { ...INTEL, npCache: true, mapFlush: 'none' },
      { mostSchedules: 1200, everyContract: true },
    );
    expect(bug.verdict).toBe('violated');
  });

  it.each<[string, Scenario['run']]>([
    ['without calls', () => undefined],
    [
      'without a device',
      (stage): void => {
        stage.must(stage.coreSpace().map(IOVA, [[0x1_0000_0000, KiB4]]), 'map');
      },
    ],
  ])('a scenario %s is vacuous: nothing that must be reachable was reached', (name, run) => {
    const result = explore({ name, title: name, small: true, run }, INTEL);
    expect(result.verdict).toBe('vacuous');
    expect(result.reachable.some(({ reached }) => !reached)).toBe(true);
  });

  it('hardware that caches nothing and a device that never gets through are vacuous', () => {
    // Everything is blocked as promised, and nothing is translated: no device was ever attached where pages are.
    const scenario: Scenario = {
      name: 'elsewhere',
      title: 'a device sits in an empty space',
      small: true,
      run(stage) {
        const [full, empty] = [stage.coreSpace(), stage.coreSpace()];
        stage.must(full.map(IOVA, [[0x1_0000_0000, KiB4]]), 'map');
        stage.must(empty.attach(DEVICES[0]), 'attach');
      },
    };
    expect(explore(scenario, INTEL).verdict).toBe('vacuous');
    // With caching mode the IOTLB holds that nothing is there.
    expect(explore(scenario, { ...INTEL, npCache: true }).verdict).toBe('held');
  });

  it('a driver that waits for what it never asked for gives up, and the scenario fails', () => {
    const result = explore(MAP, {
      ...INTEL,
      npCache: true,
      makeDriver: (platform, setup) => {
        const muted = mute(platform);
        const driver = new IntelIommu(muted.platform, setup as IntelIommuOptions);
        muted.state.isMute = true;
        return driver;
      },
    });
    expect(result.verdict).toBe('failed');
    expect(result.reason).toMatch(/attach failed with ETIMEDOUT/);
  });

  it('an impossible preset is a failure with the reason', () => {
    const result = explore(MAP, { ...INTEL, preset: 'linux-0' });
    expect([result.verdict, result.schedules]).toEqual(['failed', 0]);
    expect(result.reason).toMatch(/unknown preset 'linux-0'/);
  });
});

describe('numbers', () => {
  it('are the same every time, and grow with the pages looked at', () => {
    const scenario = SCENARIOS.find(({ name }) => name === 'map/neighbour');
    if (scenario === undefined) throw new Error('no scenario');
    const [one, two] = [1, 2].map((mostPages) => explore(scenario, INTEL, { mostPages }));
    expect(explore(scenario, INTEL, { mostPages: 2 })).toEqual(two);
    expect([one.pages, one.pagesLeft, two.pages, two.pagesLeft]).toEqual([1, 1, 2, 0]);
    expect([one.reason, two.reason]).toEqual(['1 pages were not looked at', '']);
    expect(two.schedules).toBeGreaterThan(one.schedules);
    expect(two.states).toBeGreaterThan(one.states);
  });

  it('every known bug of a contract shows by at most one decision, but for those in devices with TLBs', () => {
    const inDevices = new Set(['26d', '28a']);
    const shown = MUTANTS.filter((mutant) => mutant.kind === 'contract').map((mutant) => {
      const { verdict, counterexamples } = explore(mutant.scenario, mutant.mutant);
      if (inDevices.has(mutant.id)) return [mutant.id, verdict, 0];
      expect([mutant.id, verdict]).toEqual([mutant.id, 'violated']);
      return [mutant.id, verdict, counterexamples[0].schedule.tape.length];
    });
    expect(shown.filter(([, , decisions]) => Number(decisions) > 1)).toEqual([]);
  });
});
