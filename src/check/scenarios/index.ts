/** All scenarios, in the order in which they are run and shown. */
import type { Scenario } from '../scenario.ts';
import { ATTACH_SCENARIOS } from './attach.ts';
import { DMA_SCENARIOS } from './dma.ts';
import { HARDWARE_SCENARIOS } from './hardware.ts';
import { MAP_SCENARIOS } from './map.ts';
import { RANGE_SCENARIOS } from './range.ts';
import { GATHER_SCENARIOS, TABLE_SCENARIOS } from './tables.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...MAP_SCENARIOS,
  ...RANGE_SCENARIOS,
  ...TABLE_SCENARIOS,
  ...GATHER_SCENARIOS,
  ...ATTACH_SCENARIOS,
  ...DMA_SCENARIOS,
  ...HARDWARE_SCENARIOS,
];
