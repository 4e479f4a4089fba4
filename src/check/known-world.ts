/** Where the names in schedules lead: all scenarios, and the drivers with known bugs by the bug's id. */
import type { ScheduleWorld } from './explorer/schedule.ts';
import { MUTANTS } from './mutants/registry.ts';
import { SCENARIOS } from './scenarios/index.ts';

const BUGS = MUTANTS.flatMap((mutant) => (mutant.kind === 'contract' ? [mutant] : []));

export const KNOWN_WORLD: ScheduleWorld = {
  scenarios: [...SCENARIOS, ...BUGS.map(({ scenario }) => scenario)],
  driverOf: (name) => BUGS.find(({ id }) => id === name)?.mutant.makeDriver,
};
