/** All scenarios, in the order in which they are run and shown. */
import type { Scenario } from '../scenario.ts';
import { MAP_SCENARIOS } from './map.ts';

export const SCENARIOS: readonly Scenario[] = [...MAP_SCENARIOS];
