/**
 * The naive way: plays every schedule of so many decisions on a plain machine, one run each. Shares nothing with the search
 * but what a decision is and how steps are counted.
 */
import type { Scenario, StageSetup } from '../../../src/check/index.ts';
import type { Decision } from '../../../src/check/explorer/decision.ts';
import type { Target } from '../../../src/check/explorer/target.ts';
import { exploredSetup, play } from '../../../src/check/explorer/play.ts';
import { Player } from '../../../src/check/explorer/player.ts';
import type { Step } from '../../../src/check/explorer/search.ts';

const MOST_ENTRIES = 5;

export interface BruteForce {
  nrPlayed: number;
  /** Contracts that some schedule breaks, with one that does. */
  readonly broken: Map<string, readonly Step[]>;
}

/** All schedules of up to `nr` decisions. @param kinds of decisions */
export function bruteForce(
  scenario: Scenario,
  setup: StageSetup,
  target: Target,
  nr: number,
  kinds: readonly Decision['do'][] = ['walk', 'evict', 'execute'],
): BruteForce {
  const result: BruteForce = { nrPlayed: 0, broken: new Map() };
  const full = exploredSetup(scenario, setup);
  const decisions: Decision[] = target.sids.flatMap((sid): Decision[] => [
    ...target.pages.map((iova): Decision => ({ do: 'walk', sid, iova, kept: true })),
    ...target.beside.map((iova): Decision => ({ do: 'walk', sid, iova, kept: false })),
  ]);
  if (kinds.includes('evict')) {
    for (const cache of ['context', 'iotlb', 'structure'] as const) {
      for (let nth = 0; nth < MOST_ENTRIES; nth++) decisions.push({ do: 'evict', cache, nth });
    }
  }
  if (kinds.includes('execute')) for (let slot = 0; slot < 3; slot++) decisions.push({ do: 'execute', slot });
  /** @returns how many steps the scenario has after these, -1 when they do not fit */
  const attempt = (steps: readonly Step[]): number => {
    const player = new Player(target, steps, []);
    const failure = play(scenario, full, player);
    result.nrPlayed += 1;
    if (failure.startsWith('ScheduleMismatch')) return -1;
    for (const { contract } of player.findings) if (!result.broken.has(contract)) result.broken.set(contract, steps);
    return player.nrSteps;
  };
  const extend = (steps: readonly Step[], left: number): void => {
    const nrSteps = attempt(steps);
    if (left === 0 || nrSteps < 0) return;
    const first = steps.at(-1)?.after ?? 0;
    for (let after = first; after <= nrSteps; after++) {
      for (const decision of decisions) extend([...steps, { after, decision }], left - 1);
    }
  };
  extend([], nr);
  return result;
}
