/** The soak's configurations and one run. */
import type { SoakConfig } from './world.ts';
import { SoakWorld } from './world.ts';

export const SOAK_CONFIGS: readonly (readonly [string, SoakConfig])[] = [
  ['Intel 6.12, strict', { vendor: 'intel', preset: 'linux-6.12' }],
  ['Intel 6.12, lazy', { vendor: 'intel', preset: 'linux-6.12', lazy: true }],
  [
    'Intel 6.12, caching mode',
    { vendor: 'intel', preset: 'linux-6.12', cachesNotPresent: true, completionDelayNs: 900 },
  ],
  ['Intel 6.1, caching mode, DMA-FQ', { vendor: 'intel', preset: 'linux-6.1', cachesNotPresent: true, lazy: true }],
  [
    'Intel 6.1, caching mode, not snooping',
    { vendor: 'intel', preset: 'linux-6.1', cachesNotPresent: true, coherent: false },
  ],
  ['AMD 6.12, strict', { vendor: 'amd', preset: 'linux-6.12' }],
  ['AMD 6.12, lazy', { vendor: 'amd', preset: 'linux-6.12', lazy: true }],
  ['AMD 6.12.96, NpCache', { vendor: 'amd', preset: 'linux-6.12.96', cachesNotPresent: true, completionDelayNs: 900 }],
  ['AMD 6.1, NpCache, DMA-FQ', { vendor: 'amd', preset: 'linux-6.1', cachesNotPresent: true, lazy: true }],
  [
    'Intel 6.12, lazy, 24 bits, few tables',
    { vendor: 'intel', preset: 'linux-6.12', lazy: true, dmaMask: 0xff_ffff, nrPages: 40 },
  ],
  ['AMD 6.12, strict, 24 bits, few tables', { vendor: 'amd', preset: 'linux-6.12', dmaMask: 0xff_ffff, nrPages: 32 }],
];

export interface SoakFigures {
  readonly nrCalls: number;
  readonly nrRefused: number;
  /** Calls that found no memory or no IOVA. */
  readonly nrOut: number;
  readonly nrLooks: number;
  readonly nrMoves: number;
}

/** Runs `calls` calls and ends everything. @throws Error with the number of the call at which something was wrong */
export function soak(config: SoakConfig, seed: number, calls: number): SoakFigures {
  const world = new SoakWorld(config, seed);
  while (world.nrCalls < calls) world.step();
  world.finish();
  const { nrCalls, nrRefused, nrOut, nrLooks, nrMoves } = world;
  return { nrCalls, nrRefused, nrOut, nrLooks, nrMoves };
}
