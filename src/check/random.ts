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
  const shortest = shortestProgram(steps, (part) => playProgram(setup, part, makeJudge()).verdict === verdict);
  const calls: string[] = [];
  const outcome = playProgram(setup, shortest, makeJudge(), calls);
  return { seed, setup, steps: shortest, calls, outcome };
}

/** Values that a step is tried with instead of its own: the last mapping, the first region or device, and those beside it. */
const PLAIN: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7];

/**
 * Leaves steps out until none can go; then makes what is left plainer, one number after the other, which lets further steps go.
 * A step that says "unmap the fifth from the end" needs the four behind it, until it says something else without one of them.
 */
function shortestProgram(steps: readonly Step[], fails: (part: readonly Step[]) => boolean): readonly Step[] {
  let best = shrink(steps, fails);
  for (;;) {
    const plainer = shrink(withoutOne(plain(best, fails), fails), fails);
    if (plainer.length === best.length) return plainer;
    best = plainer;
  }
}

/** Each number of each step as small as it can be. */
function plain(steps: readonly Step[], fails: (part: readonly Step[]) => boolean): readonly Step[] {
  let plainer = steps;
  for (let index = 0; index < steps.length; index++) {
    for (const place of [1, 2, 3] as const) {
      for (const value of PLAIN) {
        if (plainer[index][place] <= value) break;
        const tried = plainer.with(index, withValue(plainer[index], place, value));
        if (!fails(tried)) continue;
        plainer = tried;
        break;
      }
    }
  }
  return plainer;
}

/** Leaves one step out and lets a later one refer to something else. */
function withoutOne(steps: readonly Step[], fails: (part: readonly Step[]) => boolean): readonly Step[] {
  for (let out = 0; out < steps.length; out++) {
    const rest = steps.toSpliced(out, 1);
    for (let later = out; later < rest.length; later++) {
      for (const value of PLAIN) {
        const tried = rest.with(later, withValue(rest[later], 1, value));
        if (fails(tried)) return tried;
      }
    }
  }
  return steps;
}

function withValue([kind, a, b, c]: Step, place: 1 | 2 | 3, value: number): Step {
  return [kind, place === 1 ? value : a, place === 2 ? value : b, place === 3 ? value : c];
}
