/**
 * Random programs of DMA API calls against naive bookkeeping (dma-world.ts), down to the bytes. IOMMUKIT_DMA_PROGRAMS sets how
 * many per configuration (default 20, of 300 steps): 10000 are a million calls each. What shares a machine with other callers
 * is in test/soak.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { WorldConfig } from './dma-world.ts';
import { DmaWorld } from './dma-world.ts';

const CONFIGS: [string, WorldConfig][] = [
  ['Intel, caching mode', { vendor: 'intel', cachesNotPresent: true }],
  ['Intel, lazy', { vendor: 'intel', lazy: true }],
  ['Intel, lazy, one queue', { vendor: 'intel', lazy: true, single: true, dmaMask: 2 ** 48 - 1 }],
  ['Intel, not snooping', { vendor: 'intel', coherent: false }],
  ['Intel, untrusted', { vendor: 'intel', cachesNotPresent: true, untrusted: true }],
  ['Intel, untrusted, keeps offsets', { vendor: 'intel', untrusted: true, minAlignMask: 4095 }],
  ['Intel, untrusted and not snooping', { vendor: 'intel', untrusted: true, coherent: false }],
  ['Intel, 24 bits', { vendor: 'intel', dmaMask: 0xff_ffff }],
  ['AMD, NpCache', { vendor: 'amd', cachesNotPresent: true }],
  ['AMD, lazy', { vendor: 'amd', lazy: true }],
  ['AMD, untrusted', { vendor: 'amd', untrusted: true }],
];
const NR_PROGRAMS = Number(process.env['IOMMUKIT_DMA_PROGRAMS'] ?? 20);
const LENGTH = 400;

test.each(CONFIGS)(
  '%s',
  (_name, config) => {
    let [nrCalls, nrSeen] = [0, 0];
    const step = fc.tuple(fc.integer({ min: 0, max: 11 }), fc.integer({ min: 0, max: 2 ** 31 - 1 }));
    const program = fc.array(step, { minLength: LENGTH / 2, maxLength: LENGTH, size: 'max' });
    fc.assert(
      fc.property(program, (steps) => {
        const world = new DmaWorld(config);
        for (const [kind, seed] of steps) world.step(kind, seed);
        world.finish();
        nrCalls += world.nrCalls;
        nrSeen += world.nrSeen;
      }),
      // Shrinking a long program may take minutes: what has been found after one is good enough.
      {
        seed: 20260401,
        numRuns: NR_PROGRAMS,
        interruptAfterTimeLimit: 3_000 * NR_PROGRAMS,
        markInterruptAsFailure: true,
      },
    );
    expect(nrCalls).toBeGreaterThan(NR_PROGRAMS * 100);
    expect(nrSeen).toBeGreaterThan(nrCalls);
  },
  6_000 * NR_PROGRAMS,
);
