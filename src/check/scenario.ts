/** A short story of calls that a driver must survive, whatever its caches did meanwhile. */
import type { UnmapFlush } from '../drivers/index.ts';
import type { AmdviConfig, VtdConfig } from '../hw/index.ts';
import type { Arch, CallerKind, StageSetup } from './setup.ts';
import type { Stage } from './stage.ts';

export interface Scenario {
  /** Area and subject, `map/one-page`. */
  readonly name: string;
  /** What it shows, in one line. */
  readonly title: string;
  /** Few enough calls and pages for every order of events to be tried. */
  readonly small: boolean;
  /** Where it makes sense; absent: everywhere. */
  readonly arch?: Arch;
  readonly callers?: readonly CallerKind[];
  readonly unmapFlush?: UnmapFlush;
  /** Properties that the machine must have for it. */
  readonly vtd?: VtdConfig;
  readonly amdvi?: AmdviConfig;
  readonly coherent?: boolean;
  readonly nrPages?: number;
  run(stage: Stage): void;
}

/** Whether a scenario has something to say about a setup. */
export function applies(scenario: Scenario, setup: StageSetup): boolean {
  const { arch, callers, unmapFlush } = scenario;
  return (
    (arch === undefined || arch === setup.arch) &&
    (callers === undefined || callers.includes(setup.caller)) &&
    (unmapFlush === undefined || unmapFlush === (setup.unmapFlush ?? 'strict'))
  );
}

/** The setup with the properties that a scenario needs. */
export function setupFor(scenario: Scenario, setup: StageSetup): StageSetup {
  const { vtd, amdvi, coherent, nrPages } = scenario;
  return {
    ...setup,
    ...(vtd === undefined ? {} : { vtd: { ...setup.vtd, ...vtd } }),
    ...(amdvi === undefined ? {} : { amdvi: { ...setup.amdvi, ...amdvi } }),
    ...(coherent === undefined ? {} : { coherent }),
    ...(nrPages === undefined ? {} : { nrPages }),
  };
}
