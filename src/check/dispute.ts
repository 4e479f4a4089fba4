/**
 * The dispute of April 2019, computed: who may rely on a mapping when iommu_map() returned, if the flush after a map is
 * nobody's business, its caller's, the driver's per callback, or the driver's once per call? On hardware that caches "not
 * present", for every caller.
 */
import type { MapFlush } from '../drivers/index.ts';
import { AMD_PRESETS, INTEL_PRESETS, MAP_FLUSHES } from '../drivers/index.ts';
import type { ContractId, Judge } from './judge.ts';
import { mapFlushOf } from './known-faults.ts';
import type { Verdict } from './play.ts';
import { judged } from './play.ts';
import { scattered } from './scenarios/places.ts';
import type { Arch, CallerKind, StageSetup } from './setup.ts';
import { ARCHES } from './setup.ts';
import { DEVICES, Stage } from './stage.ts';

export interface DisputeRow {
  readonly arch: Arch;
  readonly preset: string;
  readonly caller: CallerKind;
  readonly mapFlush: MapFlush;
  readonly verdict: Verdict;
  /** The first promise that was broken; null when all were kept. */
  readonly contract: ContractId | null;
  /** Invalidations for one mapping of 16 scattered pages. */
  readonly commands: number;
}

const DISPUTE_CALLERS: readonly CallerKind[] = ['dma-iommu', 'vfio', 'iommufd'];
const IOVA = 0x4000_0000;

/** One row: 16 scattered pages, mapped for a device that is attached. */
export function disputeRow(setup: StageSetup, judge: Judge): DisputeRow {
  let commands = 0;
  const { verdict, findings } = judged(judge, () => {
    const stage = new Stage(setup, judge);
    const space = stage.space();
    stage.must(space.attach(DEVICES[0]), 'attach');
    stage.commands.take();
    stage.must(space.map(IOVA, scattered(16)), 'map');
    commands = stage.commands.take();
  });
  const { arch, preset = 'linux-6.12', caller } = setup;
  return {
    arch,
    preset,
    caller,
    mapFlush: mapFlushOf(setup),
    verdict,
    contract: findings[0]?.contract ?? null,
    commands,
  };
}

/** The setups of the table: all policies on the latest kernel, then the kernel of 2019 as it was. */
export function disputeSetups(arches: readonly Arch[] = ARCHES): StageSetup[] {
  const setups: StageSetup[] = [];
  for (const arch of arches) {
    for (const caller of DISPUTE_CALLERS) {
      for (const mapFlush of MAP_FLUSHES) setups.push({ arch, preset: 'linux-6.12', caller, mapFlush, npCache: true });
    }
  }
  for (const arch of arches) {
    const [oldest] = arch === 'intel' ? INTEL_PRESETS : AMD_PRESETS;
    for (const caller of DISPUTE_CALLERS) setups.push({ arch, preset: oldest, caller, npCache: true });
  }
  return setups;
}
