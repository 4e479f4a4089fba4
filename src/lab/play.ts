/** Plays a program from power-up. The same program gives the same bytes every time, so a state is a program and a step. */
import type { Scenario } from '../check/index.ts';
import { SCENARIOS, SanitizerJudge, applies } from '../check/index.ts';
import { Lab } from './lab.ts';
import type { LabAction } from './action.ts';
import { stageSetup } from './config.ts';
import type { LabConfig } from './config.ts';
import type { LabProgram, LabRun, LabSnapshot, StepReport } from './snapshot.ts';
import { LabTextError } from './text-error.ts';
import type { Focus } from './view.ts';

/** Thrown through a scenario when the program has no more actions. */
class Pause extends Error {
  override readonly name = 'Pause';
}

/** A judge that stops before each outermost call of a scenario. */
class SteppedJudge extends SanitizerJudge {
  /** Asked before a call; set while the scenario plays. */
  before: ((name: string) => void) | null = null;
  after: ((name: string, result: unknown) => void) | null = null;
  #depth = 0;

  override call<T>(name: string, body: () => T): T {
    const { before, after } = this;
    if (this.#depth > 0 || before === null) return super.call(name, body);
    before(name);
    this.#depth += 1;
    try {
      const result = super.call(name, body);
      after?.(name, result);
      return result;
    } finally {
      this.#depth -= 1;
    }
  }
}

/** Scenarios that have something to say about a machine. */
export function scenariosFor(config: LabConfig): Scenario[] {
  return SCENARIOS.filter((scenario) => applies(scenario, stageSetup(config)));
}

/** @throws LabTextError for a name that is none, or a scenario that needs another machine */
export function scenarioOf(name: string, config: LabConfig): Scenario | null {
  if (name === '') return null;
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (found === undefined) throw new LabTextError(`There is no scenario '${name.slice(0, 40)}'.`);
  if (!applies(found, stageSetup(config))) {
    throw new LabTextError(`The scenario '${name}' does not go with this vendor, caller and unmap policy.`);
  }
  return found;
}

/** Calls back after every step, the start included. `snapshot` looks at the machine there. */
type Watcher = (report: StepReport, snapshot: (focus: Focus) => LabSnapshot) => void;

function playThrough(program: LabProgram, watch: Watcher): void {
  const scenario = scenarioOf(program.scenario, program.config);
  const judge = new SteppedJudge();
  const lab = new Lab(program.config, scenario, judge);
  const tell = (report: StepReport): void => watch(report, (focus) => lab.snapshot(report, focus));
  tell(lab.start());
  let next = 0;
  if (scenario !== null) next = playScenario(lab, judge, scenario, program.actions, tell);
  for (; next < program.actions.length; next++) tell(lab.act(program.actions[next]));
}

/** @returns the index of the first action that the scenario left */
function playScenario(
  lab: Lab,
  judge: SteppedJudge,
  scenario: Scenario,
  actions: readonly LabAction[],
  tell: (report: StepReport) => void,
): number {
  let next = 0;
  let label = '';
  const before = (name: string): void => {
    // What the program does between two calls. Its own calls (an invalidation by hand) are no steps of the scenario.
    judge.before = null;
    while (next < actions.length && actions[next].do !== 'call') tell(lab.act(actions[next++]));
    judge.before = before;
    if (next === actions.length) throw new Pause();
    next += 1;
    label = name;
    lab.begin();
  };
  judge.before = before;
  judge.after = (name, result): void => {
    label = '';
    tell(
      lab.end(name, {
        result: 'done',
        text: typeof result === 'number' && result < 0 ? 'the call failed' : 'the call returned',
      }),
    );
  };
  try {
    scenario.run(lab.stage);
  } catch (error) {
    if (!(error instanceof Pause)) {
      const text = error instanceof Error ? error.message : String(error);
      const isInside = label !== '';
      // Between two calls it is a step of its own, if the program asks for one.
      const isTold = isInside || (next < actions.length && actions[next].do === 'call');
      if (isTold && !isInside) {
        next += 1;
        lab.begin();
      }
      if (isTold) tell(lab.end(isInside ? label : 'the scenario stops', { result: 'refused', text }));
    }
  } finally {
    judge.before = null;
    judge.after = null;
  }
  return next;
}

/**
 * Plays a program to its end and looks at it after one step.
 * @param step 0 for the start; one that the program does not have is the nearest that it has
 * @throws LabTextError for a scenario that does not go with the machine
 */
export function playProgram(program: LabProgram, step: number, focus: Focus): LabRun {
  const at = Math.max(0, Math.min(step, program.actions.length));
  const steps: StepReport[] = [];
  let now: LabSnapshot | null = null;
  let before: LabSnapshot | null = null;
  playThrough(program, (report, snapshot) => {
    if (steps.length === at) now = snapshot(focus);
    if (steps.length === at - 1) before = snapshot(focus);
    steps.push(report);
  });
  if (now === null) throw new RangeError('a program ended before its last step');
  return { steps, now, before };
}

/** The machine after a step of a program, replayed from the start. @throws as `playProgram` */
export function snapshotAt(program: LabProgram, step: number, focus: Focus): LabSnapshot {
  const actions = program.actions.slice(0, Math.max(0, step));
  return playProgram({ ...program, actions }, actions.length, focus).now;
}

/** The actions that play a scenario to its end. @throws as `playProgram` */
export function scenarioActions(config: LabConfig, name: string): LabAction[] {
  const scenario = scenarioOf(name, config);
  if (scenario === null) return [];
  const judge = new SteppedJudge();
  const lab = new Lab(config, scenario, judge);
  let nr = 0;
  judge.before = (): void => {
    nr += 1;
  };
  try {
    scenario.run(lab.stage);
  } catch {
    // A driver that fails there fails when the calls are played, too, and is told of then.
  }
  return Array.from({ length: nr }, (): LabAction => ({ do: 'call' }));
}
