/** Random programs before a judge, and the shortest part of one that fails. */
import { Rng } from '../base/index.ts';
import type { Judge } from './judge.ts';
import type { Outcome } from './play.ts';
import { judged } from './play.ts';
import type { Step } from './program.ts';
import { ProgramRun, randomProgram, randomSetup } from './program.ts';
import type { StageSetup } from './setup.ts';
import { shrink } from './shrink.ts';
import { Stage } from './stage.ts';

/** Steps of one program: long enough for tables to come and go, short enough to be shrunk quickly. */
export const PROGRAM_STEPS = 250;

export interface RandomFailure {
  readonly seed: number;
  readonly setup: StageSetup;
  /** The shortest program found. */
  readonly steps: readonly Step[];
  /** What its steps did, in words. */
  readonly calls: readonly string[];
  readonly outcome: Outcome;
}

/** Plays a program up to its first finding. @param calls gets what the steps did */
export function playProgram(setup: StageSetup, steps: readonly Step[], judge: Judge, calls?: string[]): Outcome {
  return judged(judge, () => {
    const run = new ProgramRun(new Stage(setup, judge));
    for (const step of steps) {
      run.step(step);
      if (run.did !== '') calls?.push(run.did);
      if (judge.findings.length > 0) return;
    }
  });
}

/** One program from a seed. @returns null when it held; otherwise its shortest part that fails in the same way */
export function randomCase(seed: number, base: Partial<StageSetup>, makeJudge: () => Judge): RandomFailure | null {
  const setup = randomSetup(new Rng(seed), base);
  const steps = randomProgram(seed, PROGRAM_STEPS);
  const { verdict } = playProgram(setup, steps, makeJudge());
  if (verdict === 'held') return null;
  const shortest = shrink(steps, (part) => playProgram(setup, part, makeJudge()).verdict === verdict);
  const calls: string[] = [];
  const outcome = playProgram(setup, shortest, makeJudge(), calls);
  return { seed, setup, steps: shortest, calls, outcome };
}
