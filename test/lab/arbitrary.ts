/** Machines and actions of all kinds. */
import fc from 'fast-check';
import { CALLERS, PRESETS_OF } from '../../src/check/index.ts';
import { MAP_FLUSHES, UNMAP_FLUSHES } from '../../src/drivers/index.ts';
import type { LabAction, LabConfig } from '../../src/lab/index.ts';

export const anyConfig: fc.Arbitrary<LabConfig> = fc.constantFrom('intel' as const, 'amd' as const).chain((arch) =>
  fc.record({
    arch: fc.constant(arch),
    npCache: fc.boolean(),
    mapFlush: fc.constantFrom(...MAP_FLUSHES),
    unmapFlush: fc.constantFrom(...UNMAP_FLUSHES),
    caller: fc.constantFrom(...CALLERS),
    preset: fc.constantFrom(...PRESETS_OF[arch]),
  }),
);

// A few pages that meet each other, the borders of tables, the ends of address spaces.
const page = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0x40000, max: 0x40006 }) },
  fc.constantFrom(0, 1, 0x401fe, 0x40200, 0xfee00, 0xfffff, 0x100000, 0x7ffffff, 0x8000000, 2 ** 36 - 1),
);
const device = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.constantFrom(1, 2));
const nr = fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 1, max: 6 }) }, fc.constantFrom(33, 512));

const does = fc.constant;
export const anyAction: fc.Arbitrary<LabAction> = fc
  .oneof(
    { weight: 3, arbitrary: fc.record({ do: does('map' as const), page, nr, scattered: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: does('unmap' as const), page }) },
    fc.record({ do: does('attach' as const), device }),
    fc.record({ do: does('detach' as const), device }),
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('read' as const, 'write' as const), page, device }) },
    { weight: 2, arbitrary: fc.record({ do: does('prefetch' as const), page, device }) },
    fc.record({
      do: does('evict' as const),
      cache: fc.constantFrom('context' as const, 'iotlb' as const, 'structure' as const),
      nth: fc.nat(4),
    }),
    fc.record({ do: does('pass' as const), ms: fc.integer({ min: 1, max: 100 }) }),
    fc.record({
      do: does('invalidate' as const),
      scope: fc.constantFrom('page' as const, 'domain' as const, 'global' as const, 'device' as const),
      page,
      device,
    }),
    fc.record({ do: does('edit' as const), page, change: fc.constantFrom('clear' as const, 'read-only' as const) }),
    fc.record({ do: does('call' as const) }),
  )
  .filter((action) => action.do !== 'map' || action.page + action.nr <= 2 ** 36);

export function anyActions(most: number): fc.Arbitrary<LabAction[]> {
  return fc.array(anyAction, { maxLength: most });
}
