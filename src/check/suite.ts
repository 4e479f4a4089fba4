/** The scenario suite: which machines, drivers and callers are tried, and what came of it. */
import { AMD_PRESETS, INTEL_PRESETS, MAP_FLUSHES } from '../drivers/index.ts';
import type { UnmapFlush } from '../drivers/index.ts';
import type { Judge } from './judge.ts';
import type { KnownFault } from './known-faults.ts';
import { knownFault, mapFlushOf } from './known-faults.ts';
import type { Outcome } from './play.ts';
import { play } from './play.ts';
import type { Scenario } from './scenario.ts';
import { applies } from './scenario.ts';
import type { Arch, DriverFactory, StageSetup } from './setup.ts';
import { ARCHES, CALLERS } from './setup.ts';

export interface SuiteChoice {
  readonly arches?: readonly Arch[];
  /** One kernel instead of all. */
  readonly preset?: string;
  /** One caching mode instead of both. */
  readonly npCache?: boolean;
  /** A driver of the user's own: presets and policies are Linux's and mean nothing to it. */
  readonly makeDriver?: DriverFactory;
}

export const PRESETS_OF: Readonly<Record<Arch, readonly string[]>> = { intel: INTEL_PRESETS, amd: AMD_PRESETS };
const LATEST = 'linux-6.12';

/** One scenario on one setup. */
export interface Case {
  readonly scenario: Scenario;
  readonly setup: StageSetup;
}

export interface CaseResult extends Case {
  readonly outcome: Outcome;
  /** Why a violation is no news. */
  readonly known: KnownFault | null;
}

/** Every setup of a choice: all kernels, each with its own policy and with every other one. */
export function suiteSetups(choice: SuiteChoice = {}): StageSetup[] {
  const setups: StageSetup[] = [];
  for (const arch of choice.arches ?? ARCHES) {
    for (const npCache of choice.npCache === undefined ? [false, true] : [choice.npCache]) {
      for (const caller of CALLERS) {
        const unmaps: readonly UnmapFlush[] = caller === 'dma-iommu' ? ['strict', 'lazy'] : ['strict'];
        for (const unmapFlush of unmaps) {
          for (const driver of driversOf(arch, choice)) setups.push({ arch, npCache, caller, unmapFlush, ...driver });
        }
      }
    }
  }
  return setups;
}

type DriverChoice = Pick<StageSetup, 'preset' | 'mapFlush' | 'makeDriver'>;

function driversOf(arch: Arch, { preset, makeDriver }: SuiteChoice): DriverChoice[] {
  if (makeDriver !== undefined) return [{ preset: LATEST, makeDriver }];
  const presets = preset === undefined ? PRESETS_OF[arch] : PRESETS_OF[arch].filter((name) => name === preset);
  return presets.flatMap((name): DriverChoice[] => MAP_FLUSHES.map((mapFlush) => ({ preset: name, mapFlush })));
}

/**
 * The cases of a choice, scenario by scenario. An old kernel with a policy that it never had is tried with the scenarios about
 * maps only: elsewhere it behaves as that kernel, or as the latest one with that policy.
 */
export function suiteCases(scenarios: readonly Scenario[], setups: readonly StageSetup[]): Case[] {
  return scenarios.flatMap((scenario) =>
    setups
      .filter((setup) => applies(scenario, setup) && (scenario.name.startsWith('map/') || isRealKernel(setup)))
      .map((setup) => ({ scenario, setup })),
  );
}

/** The latest kernel, or one with its own policy. */
function isRealKernel({ mapFlush, ...setup }: StageSetup): boolean {
  return setup.preset === LATEST || mapFlush === undefined || mapFlush === mapFlushOf(setup);
}

export function playCase({ scenario, setup }: Case, judge: Judge): CaseResult {
  return { scenario, setup, outcome: play(scenario, setup, judge), known: knownFault(scenario, setup) };
}

/** Whether a result is a finding: something that must hold did not. */
export function isFinding({ outcome, known }: CaseResult): boolean {
  return outcome.verdict === 'failed' || (outcome.verdict === 'violated' && known === null);
}

/** A setup in words: `intel linux-6.12 sync-map strict caching vfio`. */
export function setupText({
  arch,
  preset = LATEST,
  mapFlush,
  unmapFlush,
  npCache,
  caller,
  makeDriver,
}: StageSetup): string {
  const driver = makeDriver === undefined ? [preset, ...(mapFlush === undefined ? [] : [mapFlush])] : ['own driver'];
  const lazy = unmapFlush === 'lazy' ? ['lazy'] : [];
  const caching = arch === 'intel' ? 'caching mode' : 'NpCache';
  return [arch, ...driver, ...lazy, `${caching} ${npCache ? 'on' : 'off'}`, caller].join(', ');
}
