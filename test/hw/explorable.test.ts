/** What a model checker asks of both units: walks of their own accord, evictions, work piece by piece, one form of equal states. */
import { describe, expect, it } from 'vitest';
import type { Explorable } from '../../src/hw/index.ts';
import type { StageSetup } from '../../src/check/index.ts';
import { DEVICES, NoJudge, Stage } from '../../src/check/index.ts';
import { AmdviUnit, VtdUnit } from '../../src/hw/index.ts';
import { KiB4, READ } from '../drivers/lab.ts';

const IOVA = 0x4000_0000;
const MEMORY = 0x1_0000_0000;
const [{ sid }] = DEVICES;
/** Two leaves, whatever sizes there are. */
const SCATTERED = [
  [MEMORY, KiB4],
  [MEMORY + 2 * KiB4, KiB4],
] as const;

/** A unit with two pages mapped for a device, whose commands wait from now on; the driver that sends them does not. */
function mapped(arch: StageSetup['arch'], npCache: boolean): { unit: VtdUnit | AmdviUnit; stage: Stage } {
  const cache = { sets: 1, ways: 16 };
  const stage = new Stage(
    {
      arch,
      caller: 'core',
      npCache,
      vtd: { completionDelayNs: 1, iotlb: cache, pageCache: cache, contextCache: cache },
      amdvi: { completionDelayNs: 1, iotlb: cache, pdeCache: cache, deviceCache: cache },
    },
    new NoJudge(),
  );
  const space = stage.coreSpace();
  stage.must(space.attach(DEVICES[0]), 'attach');
  stage.must(space.map(IOVA, SCATTERED), 'map');
  const { unit } = stage.machine;
  if (!(unit instanceof VtdUnit || unit instanceof AmdviUnit)) throw new Error('no unit');
  return { unit, stage };
}

const held = (unit: Explorable): number[] => [
  unit.nrCached('context'),
  unit.nrCached('iotlb'),
  unit.nrCached('structure'),
];

describe.each(['intel', 'amd'] as const)('%s', (arch) => {
  it('speculates as it translates, and leaves no fault behind', () => {
    for (const npCache of [false, true]) {
      const { unit } = mapped(arch, npCache);
      const empty = held(unit);
      expect(unit.speculate(sid, IOVA + 0x123, READ)).toBe(MEMORY + 0x123);
      const before = unit.pendingFaults().length;
      const denied = unit.speculate(sid, IOVA + 8 * KiB4, READ);
      expect(denied).toBeLessThan(0);
      expect(unit.pendingFaults().length).toBe(before);
      // A context, the translation and in caching mode its absence, and the tables between.
      const now = held(unit);
      expect(now[0] - empty[0]).toBe(1);
      expect(now[1] - empty[1]).toBe(npCache ? 2 : 1);
      expect(now[2]).toBeGreaterThan(empty[2]);
      // The same request by a device is a fault that is logged.
      expect(unit.translate(sid, IOVA + 8 * KiB4, READ)).toBe(denied);
      expect(unit.pendingFaults().length).toBe(before + 1);
    }
  });

  it('lets any entry go', () => {
    const { unit } = mapped(arch, true);
    unit.speculate(sid, IOVA, READ);
    unit.speculate(sid, IOVA + KiB4, READ);
    for (const cache of ['context', 'iotlb', 'structure'] as const) {
      for (let left = unit.nrCached(cache); left > 0; left--) {
        expect(unit.evict(cache, left)).toBe(false);
        expect(unit.evict(cache, left - 1)).toBe(true);
        expect(unit.nrCached(cache)).toBe(left - 1);
      }
      expect(unit.evict(cache, 0)).toBe(false);
    }
    // Nothing stays behind in whatever else remembers.
    expect(unit.speculate(sid, IOVA, READ)).toBe(MEMORY);
  });

  it('is equal words when equal things are cached, in whatever order they came', () => {
    const { unit } = mapped(arch, true);
    const start = unit.snapshot();
    const pages = [IOVA, IOVA + KiB4, IOVA + 2 * KiB4, 0x1000];
    const filled = (order: readonly number[]): Int32Array => {
      unit.restore(start);
      for (const iova of order) unit.speculate(sid, iova, READ);
      unit.settle();
      return unit.snapshot();
    };
    const one = filled(pages);
    expect(filled(pages.toReversed())).toEqual(one);
    expect(filled([...pages, ...pages])).toEqual(one);
    expect(filled(pages.slice(1))).not.toEqual(one);
    // And nothing is lost.
    unit.restore(one);
    expect(unit.nrCached('iotlb')).toBe(4);
    expect(unit.speculate(sid, IOVA, READ)).toBe(MEMORY);
  });

  it('does waiting work command by command, when it is asked to', () => {
    const { unit, stage } = mapped(arch, false);
    unit.speculate(sid, IOVA, READ);
    unit.settle();
    const nrWaiting: number[] = [];
    // The driver waits in relax(); until then its commands are done one by one here.
    const { platform } = stage.machine;
    const relax = platform.relax.bind(platform);
    platform.relax = (): void => {
      unit.settle();
      expect(unit.waitingWork()).toBe(1);
      const seen = [unit.nrCached('iotlb')];
      unit.executeNext(1);
      expect(unit.waitingWork()).toBe(1);
      while (unit.waitingWork() !== 0) {
        unit.executeNext(0);
        seen.push(unit.nrCached('iotlb'));
      }
      nrWaiting.push(...seen);
      relax();
    };
    const space = stage.spaces[0];
    stage.must(space.unmap(IOVA, KiB4), 'unmap');
    // The invalidation, then the wait: two commands, of which the first takes the translation away.
    expect(nrWaiting).toEqual([1, 0, 0]);
  });
});
