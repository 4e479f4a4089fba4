/** One run of a scenario under a judge of the explorer, on the hardware that it explores. */
import type { Judge } from '../judge.ts';
import type { Scenario } from '../scenario.ts';
import { setupFor } from '../scenario.ts';
import type { StageSetup } from '../setup.ts';
import { Stage } from '../stage.ts';
import { RunOver } from './tap.ts';
import { EXPLORED_AMDVI, EXPLORED_VTD } from './units.ts';

/** The setup with hardware that forgives least and can be enumerated. */
export function exploredSetup(scenario: Scenario, setup: StageSetup): StageSetup {
  const full = setupFor(scenario, setup);
  return { ...full, vtd: { ...full.vtd, ...EXPLORED_VTD }, amdvi: { ...full.amdvi, ...EXPLORED_AMDVI } };
}

/** Runs a scenario once. @returns what went wrong in it, empty for nothing */
export function play(scenario: Scenario, setup: StageSetup, judge: Judge): string {
  try {
    scenario.run(new Stage(setup, judge));
    return '';
  } catch (error) {
    if (error instanceof RunOver) return '';
    return error instanceof Error ? `${error.name}: ${error.message}` : 'something that is no Error was thrown';
  }
}
