/** A scenario of a list by name. */
import type { Scenario } from '../scenario.ts';

/** @throws RangeError when there is none */
export function named(scenarios: readonly Scenario[], name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found === undefined) throw new RangeError(`there is no scenario ${name}`);
  return found;
}
