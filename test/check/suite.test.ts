/** The suite, its table and its random programs, before the judge that is a device. */
import { describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import type { Judge, Scenario, StageSetup } from '../../src/check/index.ts';
import {
  CheckSummary,
  NoJudge,
  ProbeJudge,
  ProgramRun,
  SCENARIOS,
  Stage,
  StageError,
  disputeRow,
  disputeSetups,
  isFinding,
  knownFault,
  play,
  playCase,
  playProgram,
  randomCase,
  randomProgram,
  randomSetup,
  shrink,
  suiteCases,
  suiteSetups,
} from '../../src/check/index.ts';
import { IntelIommu } from '../../src/drivers/index.ts';

const probe = (): Judge => new ProbeJudge();

describe('the dispute of April 2019', () => {
  const rows = disputeSetups().map((setup) => disputeRow(setup, probe()));
  const verdict = (arch: string, preset: string, caller: string, mapFlush?: string): string | undefined =>
    rows.find(
      (row) =>
        row.arch === arch &&
        row.preset === preset &&
        row.caller === caller &&
        (mapFlush === undefined || row.mapFlush === mapFlush),
    )?.verdict;

  it.each(['intel', 'amd'])(
    '%s: none is wrong for all, caller for all but the DMA API, the driver is right',
    (arch) => {
      for (const caller of ['dma-iommu', 'vfio', 'iommufd']) {
        const of = (policy: string): string | undefined => verdict(arch, 'linux-6.12', caller, policy);
        expect([of('none'), of('map'), of('sync-map')]).toEqual(['violated', 'held', 'held']);
        expect(of('caller')).toBe(caller === 'dma-iommu' ? 'held' : 'violated');
      }
    },
  );

  // facts/kernel.md, section 0: what the mail said of both drivers was true of Intel's only.
  it('the drivers of Linux 5.1 under VFIO: Intel right, AMD wrong', () => {
    expect(verdict('intel', 'linux-5.1', 'vfio')).toBe('held');
    expect(verdict('amd', 'linux-5.1', 'vfio')).toBe('violated');
  });

  it('counts what was sent for 16 scattered pages: one per page, one per call, or none', () => {
    const commands = (caller: string, mapFlush: string): number[] =>
      rows
        .filter((row) => row.preset === 'linux-6.12' && row.caller === caller && row.mapFlush === mapFlush)
        .map((row) => row.commands);
    expect(commands('dma-iommu', 'map')).toEqual([16, 16]);
    expect(commands('dma-iommu', 'sync-map')).toEqual([1, 1]);
    expect(commands('dma-iommu', 'none')).toEqual([0, 0]);
    // VFIO maps run by run, and a run is a page here.
    expect(commands('vfio', 'sync-map')).toEqual([16, 16]);
  });
});

describe('the suite', () => {
  it('names each scenario once, and every scenario has a case', () => {
    const names = SCENARIOS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    const cases = suiteCases(SCENARIOS, suiteSetups());
    expect(new Set(cases.map(({ scenario }) => scenario.name)).size).toBe(names.length);
  });

  it('has every kernel with every policy, caching mode, caller and unmap policy', () => {
    const setups = suiteSetups();
    expect(setups.length).toBe((5 + 6) * 4 * 2 * 5);
    const one: Scenario = { name: 'map/x', title: '', small: true, run: () => {} };
    expect(suiteCases([one], setups).length).toBe(setups.length);
  });

  it('calls a violation a finding only where the contract must hold', () => {
    const [scenario] = SCENARIOS;
    const at = (setup: StageSetup): boolean[] => {
      const result = playCase({ scenario, setup }, probe());
      return [result.outcome.verdict === 'violated', isFinding(result)];
    };
    const broken: StageSetup = { arch: 'intel', caller: 'vfio', npCache: true, mapFlush: 'caller' };
    expect(at(broken)).toEqual([true, false]);
    const own: StageSetup = {
      ...broken,
      makeDriver: (platform, setup) => {
        if (setup.arch !== 'intel') throw new Error('intel only');
        return new IntelIommu(platform, setup);
      },
    };
    expect(at(own)).toEqual([true, true]);
    expect(at({ ...broken, mapFlush: 'sync-map' })).toEqual([false, false]);
    expect(knownFault(scenario, { ...broken, npCache: false })).toBe(null);
  });

  it('says what a driver did that throws or refuses', () => {
    const [scenario] = SCENARIOS;
    const setup: StageSetup = {
      arch: 'intel',
      caller: 'core',
      npCache: false,
      makeDriver: (platform, given) => {
        if (given.arch !== 'intel') throw new Error('intel only');
        const ops = new IntelIommu(platform, given);
        ops.mapPages = (): number => {
          throw new TypeError('oops');
        };
        return ops;
      },
    };
    const outcome = play(scenario, setup, new NoJudge());
    expect(outcome.verdict).toBe('failed');
    expect(outcome.message).toMatch(/oops/);
  });

  it('tells the first finding of a kind in full and counts the others', () => {
    const [scenario] = SCENARIOS;
    const summary = new CheckSummary();
    const setup: StageSetup = {
      arch: 'intel',
      caller: 'core',
      npCache: true,
      makeDriver: (platform, given) => {
        if (given.arch !== 'intel') throw new Error('intel only');
        return new IntelIommu(platform, { ...given, mapFlush: 'none' });
      },
    };
    for (let i = 0; i < 3; i++) summary.add(playCase({ scenario, setup }, probe()));
    expect(summary.findings).toHaveLength(1);
    expect(summary.findings[0]).toMatchObject({ contract: 'C-MAP-VISIBLE', more: 2, scenario: scenario.name });
    expect(summary.scenarios).toEqual([
      { name: scenario.name, title: scenario.title, cases: 3, held: 0, known: 0, findings: 3 },
    ]);
  });
});

describe('random programs', () => {
  it('are the same for the same seed, and most of their steps do something', () => {
    expect(randomProgram(7, 50)).toEqual(randomProgram(7, 50));
    expect(randomProgram(7, 50)).not.toEqual(randomProgram(8, 50));
    let nrDone = 0;
    for (let seed = 0; seed < 20; seed++) {
      const run = new ProgramRun(new Stage(randomSetup(new Rng(seed), {}), new NoJudge()));
      for (const step of randomProgram(seed, 100)) {
        run.step(step);
        if (run.did !== '') nrDone += 1;
      }
    }
    expect(nrDone).toBeGreaterThan(1600);
  });

  it('find nothing on the drivers as they are', () => {
    for (let seed = 1; seed <= 40; seed++) expect(randomCase(seed, {}, probe)).toBe(null);
  });

  it('find a driver that flushes nothing, and are shortened to the one map that shows it', () => {
    const failure = randomCase(1, { arch: 'intel', npCache: true, mapFlush: 'none' }, probe);
    expect(failure?.outcome.findings[0]?.contract).toBe('C-MAP-VISIBLE');
    expect(failure?.calls).toHaveLength(1);
    expect(failure?.calls[0]).toMatch(/^map /);
  });

  it('find the tail that Intel missed until April 2022', () => {
    const failures = Array.from({ length: 10 }, (_, seed) =>
      randomCase(seed, { arch: 'intel', preset: 'linux-5.12' }, probe),
    );
    const found = failures.filter((failure) => failure !== null);
    expect(found.length).toBeGreaterThan(0);
    for (const { setup, steps, outcome } of found) {
      // What was shortened still fails, by itself.
      expect(playProgram(setup, steps, probe()).findings).toEqual(outcome.findings);
      expect(steps.length).toBeLessThan(6);
    }
  });
});

describe('shrink', () => {
  it('leaves what is needed, wherever it stands', () => {
    const list = Array.from({ length: 100 }, (_, i) => i);
    const needs = (wanted: readonly number[]) => (part: readonly number[]) => wanted.every((one) => part.includes(one));
    expect(shrink(list, needs([3, 50, 99]))).toEqual([3, 50, 99]);
    expect(shrink(list, needs([]))).toEqual([]);
    expect(shrink([1], needs([1]))).toEqual([1]);
  });

  it('is not fooled by parts that only fail together', () => {
    const even = (part: readonly number[]): boolean => part.length % 2 === 0 && part.includes(5);
    const shortest = shrink(
      Array.from({ length: 64 }, (_, i) => i),
      even,
    );
    expect(even(shortest)).toBe(true);
  });
});

it('a scenario that maps where a flush is due is told so', () => {
  const stage = new Stage({ arch: 'intel', caller: 'dma-iommu', npCache: false, unmapFlush: 'lazy' }, new NoJudge());
  const space = stage.space();
  expect(space.map(0x1000, [[0x10000, 4096]])).toBe(0);
  expect(space.unmap(0x1000, 4096)).toBe(0);
  expect(() => space.map(0x1000, [[0x10000, 4096]])).toThrow(StageError);
  stage.settle();
  expect(space.map(0x1000, [[0x10000, 4096]])).toBe(0);
});
