/**
 * What is wrong by construction: policies that leave a flush to nobody or to the wrong side, and bugs of old kernels. There a
 * violation is the answer to the question, anywhere else it is a finding. Numbers are those of the catalogue of kernel bugs
 * in DESIGN.md's sources: kernel commits and mails.
 */
import type { MapFlush } from '../drivers/index.ts';
import { amdPreset, intelPreset } from '../drivers/index.ts';
import type { Scenario } from './scenario.ts';
import type { StageSetup } from './setup.ts';
import { setupFor } from './scenario.ts';

export interface KnownFault {
  readonly id: string;
  readonly title: string;
  /** Whether it can show in a scenario on a setup. */
  covers(scenario: Pick<Scenario, 'name'>, setup: StageSetup): boolean;
}

/** Where a setup's driver flushes after a map: the override, or its kernel's way. */
export function mapFlushOf(setup: StageSetup): MapFlush {
  const { arch, preset = 'linux-6.12', mapFlush } = setup;
  return mapFlush ?? (arch === 'intel' ? intelPreset(preset) : amdPreset(preset)).mapFlush;
}

/** Something must happen after a map: not-present entries may be cached, or stores wait in a chipset buffer. */
function mapsNeedFlush(setup: StageSetup): boolean {
  return setup.npCache || setup.vtd?.rwbf === true;
}

const RANGES_UNALIGNED = /^(range|hw|map|dma|tables|gather|lazy|random)\//;

export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    id: 'nobody-flushes',
    title: '--map-flush none: nobody flushes after a map',
    covers: (_scenario, setup) => mapFlushOf(setup) === 'none' && mapsNeedFlush(setup),
  },
  {
    id: 'caller-flushes',
    title: '--map-flush caller: only the DMA API flushes after a map, VFIO, iommufd and the core do not (April 2019)',
    covers: (_scenario, setup) =>
      mapFlushOf(setup) === 'caller' && setup.caller !== 'dma-iommu' && mapsNeedFlush(setup),
  },
  {
    id: 'amd-leaves-only',
    title: 'AMD before 5.14: flushes leave cached upper levels alone (no PDE bit)',
    covers: (_scenario, setup) =>
      setup.arch === 'amd' && setup.npCache && !amdPreset(setup.preset ?? 'linux-6.12').flushesTables,
  },
  {
    id: 'amd-growth',
    title: 'AMD until May 2020: a table grows after the map, and nobody waits for the flush (bug 17)',
    covers: ({ name }, setup) =>
      setup.arch === 'amd' &&
      amdPreset(setup.preset ?? 'linux-6.12').growth === 'after-map' &&
      /^(tables\/growth|range\/top|random\/)/.test(name),
  },
  {
    id: 'intel-unaligned',
    title: 'Intel until April 2022: the tail of a range that is not aligned to its size is not flushed (bug 6)',
    covers: ({ name }, setup) =>
      setup.arch === 'intel' &&
      intelPreset(setup.preset ?? 'linux-6.12').psiAlignment === 'none' &&
      RANGES_UNALIGNED.test(name),
  },
];

/** Why a violation would be no news, or null where the contract must hold. Another driver or core has no excuse. */
export function knownFault(scenario: Scenario, setup: StageSetup): KnownFault | null {
  if (setup.makeDriver !== undefined || setup.makeCore !== undefined) return null;
  const full = setupFor(scenario, setup);
  return KNOWN_FAULTS.find((fault) => fault.covers(scenario, full)) ?? null;
}
