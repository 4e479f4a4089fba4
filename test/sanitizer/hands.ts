/** Both kinds of machines made by hand, for rules that both have. */
import type { Hand, HandOptions } from './hand.ts';
import { HandAmdvi } from './hand-amdvi.ts';
import { HandVtd } from './hand-vtd.ts';

export const KINDS: readonly [string, (options?: HandOptions) => Hand][] = [
  ['vtd', (options) => new HandVtd(options)],
  ['amdvi', (options) => new HandAmdvi(options)],
];
