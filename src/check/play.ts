/** One scenario on one machine before one judge. */
import type { Breach, Judge } from './judge.ts';
import type { Scenario } from './scenario.ts';
import { setupFor } from './scenario.ts';
import type { StageSetup } from './setup.ts';
import { Stage } from './stage.ts';

/**
 * `held`: every promise was kept. `violated`: the judge has findings. `failed`: a call did what no IOMMU driver may do, or
 * threw; no cache was needed to show it.
 */
export type Verdict = 'held' | 'violated' | 'failed';

export interface Outcome {
  readonly verdict: Verdict;
  readonly findings: readonly Breach[];
  /** Why it failed; null otherwise. */
  readonly message: string | null;
}

/** Plays a scenario. What the driver throws is its failure, not the caller's. */
export function play(scenario: Scenario, setup: StageSetup, judge: Judge): Outcome {
  return judged(judge, () => scenario.run(new Stage(setupFor(scenario, setup), judge)));
}

/** Runs `body` and says what the judge made of it. */
export function judged(judge: Judge, body: () => void): Outcome {
  let message: string | null = null;
  try {
    body();
  } catch (error) {
    message = error instanceof Error ? error.message : String(error);
  }
  const { findings } = judge;
  // A finding comes first: a driver that broke a promise may well stumble over it later.
  if (findings.length > 0) return { verdict: 'violated', findings, message };
  return { verdict: message === null ? 'held' : 'failed', findings, message };
}
