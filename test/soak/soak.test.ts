/**
 * A slice of the soak: random programs of calls from all callers on one machine. `npm run soak -- --calls N --seed S` runs as
 * many as wanted.
 */
import { expect, test } from 'vitest';
import type { SoakConfig } from './world.ts';
import { SOAK_CONFIGS, soak } from './run.ts';

test.each(SOAK_CONFIGS)('%s', (_name, config) => {
  const { nrCalls, nrLooks, nrRefused, nrMoves, nrOut } = soak(config, 3, 20_000);
  expect(nrCalls).toBeGreaterThanOrEqual(20_000);
  expect(nrLooks).toBeGreaterThan(5 * nrCalls);
  expect(nrRefused).toBeGreaterThan(1000);
  expect(nrMoves).toBeGreaterThan(50);
  expect(nrOut > 0).toBe(config.nrPages !== undefined);
});

test.each<[string, SoakConfig]>([
  [
    'a driver that forgets the flush after a map',
    { vendor: 'intel', preset: 'linux-6.12', cachesNotPresent: true, mapFlush: 'none' },
  ],
  [
    'a DMA API that does it, under VFIO',
    { vendor: 'amd', preset: 'linux-6.12', cachesNotPresent: true, mapFlush: 'caller' },
  ],
  ['a tail that is not flushed (bug 6)', { vendor: 'intel', preset: 'linux-5.12', cachesNotPresent: true }],
  ['a scatterlist that is not flushed (bug 3)', { vendor: 'amd', preset: 'linux-5.3', cachesNotPresent: true }],
])('finds %s', (_name, config) => {
  expect(() => soak(config, 1, 50_000)).toThrow(/page 0x/);
});
