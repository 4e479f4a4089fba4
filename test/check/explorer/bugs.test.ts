import { describe, expect, it } from 'vitest';
import type { StageSetup } from '../../../src/check/index.ts';
import { DEVICES, explore, loadSchedule, playSchedule, saveSchedule } from '../../../src/check/index.ts';
import { bruteForce, type BruteForce } from './brute-force.ts';
import { BUGS, IOVA, LARGE_PAGE, MAP_UNMAP, SUBTLE_BUGS, TABLE_GOES, TWO_SPACES } from './bugs.ts';

const TARGET = { sids: [DEVICES[0].sid], pages: [IOVA], beside: [IOVA + 4096] };

describe('drivers with one mistake', () => {
  it.each([...BUGS, ...SUBTLE_BUGS])('$name', ({ scenario, setup, contract, decisions }) => {
    const result = explore(scenario, setup, { mostPages: 2, driver: 'by hand' });
    expect(result.verdict, result.reason).toBe('violated');
    const [first] = result.counterexamples;
    expect([first.contract, first.schedule.tape.length]).toEqual([contract, decisions]);
    // The same without the mistake.
    const { makeDriver, mapFlush, ...right } = setup;
    if (makeDriver !== undefined || mapFlush !== undefined) {
      const held = explore(scenario, right, { mostPages: 2 });
      expect([held.verdict, held.counterexamples.map((found) => found.schedule.steps)]).toEqual(['held', []]);
    }
    // A saved schedule shows it again.
    const saved = loadSchedule(saveSchedule(first.schedule));
    const world = { scenarios: [scenario], driverOf: () => makeDriver };
    const played = playSchedule(makeDriver === undefined ? { ...saved, driver: null } : saved, world);
    expect(played.isShown).toBe(true);
    expect(played.steps.slice(0, first.story.length)).toEqual(first.story);
  });
});

/** Fewest decisions of a schedule that breaks a contract, of those that were played. */
function least(results: readonly BruteForce[], contract: string): number {
  const found = results.findIndex(({ broken }) => broken.has(contract));
  return found < 0 ? Infinity : found;
}

describe('the naive way, every schedule played on its own, finds the same', () => {
  const short = BUGS.filter(({ scenario }) => scenario !== TABLE_GOES && scenario !== LARGE_PAGE);
  it.each(short)('$name: one decision', ({ scenario, setup }) => {
    const result = explore(scenario, setup, { mostPages: 1, everyContract: true });
    const [{ schedule }] = result.counterexamples;
    const naive = [0, 1].map((nr) => bruteForce(scenario, setup, schedule.target, nr));
    // What the search says needs one decision needs one, and whatever one decision breaks the search has found.
    const contracts = new Set([...naive[0].broken.keys(), ...naive[1].broken.keys()]);
    for (const { contract } of result.counterexamples) contracts.add(contract);
    for (const contract of contracts) {
      const found = result.counterexamples.find((candidate) => candidate.contract === contract);
      const length = found === undefined ? Infinity : found.schedule.tape.length;
      expect([contract, least(naive, contract)]).toEqual([contract, length <= 1 ? length : Infinity]);
    }
  });

  it.each(SUBTLE_BUGS)('$name: one decision is not enough', ({ scenario, setup, contract, decisions }) => {
    const [found] = explore(scenario, setup, { mostPages: 1 }).counterexamples;
    const { target, tape } = found.schedule;
    const naive = [0, 1].map((nr) => bruteForce(scenario, setup, target, nr));
    expect(least(naive, contract)).toBe(Infinity);
    if (tape.some(({ decision }) => decision.do !== 'walk')) return;
    naive.push(bruteForce(scenario, setup, target, 2, ['walk']));
    expect(least(naive, contract)).toBe(decisions);
  });

  it.each(['intel', 'amd'] as const)('a right driver breaks nothing by one decision (%s)', (arch) => {
    for (const npCache of [true, false]) {
      const naive = bruteForce(MAP_UNMAP, { arch, caller: 'core', npCache }, TARGET, 1);
      expect([...naive.broken.keys()]).toEqual([]);
      expect(naive.nrPlayed).toBeGreaterThan(300);
    }
  });
});

describe('one search for each page', () => {
  it.each([
    ['a large page', LARGE_PAGE],
    ['map, unmap', MAP_UNMAP],
    ['two spaces', TWO_SPACES],
  ] as const)('says what one for all of them says: %s', (_, scenario) => {
    for (const arch of ['intel', 'amd'] as const) {
      for (const mapFlush of ['none', 'sync-map'] as const) {
        const setup: StageSetup = { arch, caller: 'core', npCache: true, mapFlush };
        const [apart, jointly] = [false, true].map((together) => {
          const { verdict, counterexamples } = explore(scenario, setup, {
            mostPages: 2,
            jointly: together,
            everyContract: true,
          });
          return [verdict, ...counterexamples.map((found) => [found.contract, found.schedule.tape.length])];
        });
        expect([arch, mapFlush, ...apart]).toEqual([arch, mapFlush, ...jointly]);
      }
    }
  });
});
