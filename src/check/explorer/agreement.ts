/**
 * Whether another judge and the explorer say the same of the same cases. The other judge (the sanitizer) works with what caches
 * *may* hold, the explorer with what a concrete unit does hold under some schedule: where the judge finds something that
 * no schedule shows it raises a false alarm, where it finds nothing and a schedule breaks a promise it is blind.
 */
import { PAGE_SIZE } from '../../base/index.ts';
import type { ContractId, Judge } from '../judge.ts';
import type { ContractMutant } from '../mutants/mutant.ts';
import type { Scenario } from '../scenario.ts';
import { applies, setupFor } from '../scenario.ts';
import type { CallerKind, StageSetup } from '../setup.ts';
import { ARCHES, CALLERS } from '../setup.ts';
import { Stage } from '../stage.ts';
import { explore } from './explore.ts';
import type { Schedule } from './schedule.ts';
import type { Exploration, ExploreOptions } from './explore.ts';

export interface AgreementCase {
  /** For people, unique. */
  readonly name: string;
  readonly scenario: Scenario;
  readonly setup: StageSetup;
  /** Name of the setup's own driver, for saved schedules. */
  readonly driver?: string;
}

export interface Compared {
  readonly name: string;
  readonly explorer: Exploration['verdict'];
  readonly explored: readonly ContractId[];
  readonly judged: readonly ContractId[];
  /** `open`: the explorer came to no verdict, so there is nothing to compare. */
  readonly outcome: 'agree' | 'false-alarm' | 'blind' | 'open';
  /** Of the explorer's schedule, or why it is open. */
  readonly detail: string;
  /** A shortest schedule that breaks a promise; null where there is none, or none that names all that it needs. */
  readonly schedule: Schedule | null;
}

export interface Agreement {
  readonly compared: readonly Compared[];
  /** Cases in which both came to a verdict. */
  readonly cases: number;
  /** Of those, the ones in which something was wrong with the driver. */
  readonly broken: number;
  readonly disagreements: readonly Compared[];
  readonly schedules: number;
  readonly states: number;
}

/** Orders that a scenario with `Stage.interleave` may have before it is no small one any more. */
const MOST_ORDERS = 1000;

/** @param makeJudge a new judge for each run */
export function agreement(
  cases: readonly AgreementCase[],
  makeJudge: () => Judge,
  options: ExploreOptions = {},
): Agreement {
  const compared: Compared[] = [];
  let schedules = 0;
  let states = 0;
  for (const each of cases) {
    const judged = judgeAll(each, makeJudge);
    const { driver } = each;
    const explored = explore(each.scenario, each.setup, {
      ...options,
      pages: judged.pages,
      ...(driver === undefined ? {} : { driver }),
    });
    schedules += explored.schedules;
    states += explored.states;
    compared.push(compare(each, explored, judged.contracts));
  }
  const settled = compared.filter(({ outcome }) => outcome !== 'open');
  return {
    compared,
    cases: settled.length,
    broken: settled.filter(({ explorer }) => explorer === 'violated').length,
    disagreements: settled.filter(({ outcome }) => outcome !== 'agree'),
    schedules,
    states,
  };
}

function compare(
  { name, setup, driver }: AgreementCase,
  explored: Exploration,
  judged: readonly ContractId[],
): Compared {
  const contracts = explored.counterexamples.map(({ contract }) => contract);
  const isWhole = setup.makeCore === undefined && (setup.makeDriver === undefined || driver !== undefined);
  const schedule = isWhole ? (explored.counterexamples[0]?.schedule ?? null) : null;
  const common = { name, explorer: explored.verdict, explored: contracts, judged, schedule };
  if (explored.verdict === 'violated') {
    const detail = explored.counterexamples[0].schedule.steps.join('\n');
    return { ...common, outcome: judged.length > 0 ? 'agree' : 'blind', detail };
  }
  if (explored.verdict === 'held') {
    return { ...common, outcome: judged.length === 0 ? 'agree' : 'false-alarm', detail: '' };
  }
  return { ...common, outcome: 'open', detail: `${explored.verdict}: ${explored.reason}` };
}

/**
 * What a judge finds, each contract with a page that shows it, in any order that the scenario leaves open, on hardware that is
 * always done at once and on hardware that makes drivers wait: a judge sees one run, and what a driver does may depend on what
 * it reads. A scenario that throws has been judged up to there.
 */
function judgeAll(each: AgreementCase, makeJudge: () => Judge): { contracts: ContractId[]; pages: number[] } {
  const found = new Map<ContractId, number>();
  for (const completionDelayNs of [0, 1]) {
    const orders: (readonly number[])[] = [[]];
    for (let nr = 0; orders.length > 0 && nr < MOST_ORDERS; nr++) {
      const given = orders.pop() ?? [];
      const judge = makeJudge();
      judgeOrder(each, judge, completionDelayNs, given, (other) => void orders.push(other));
      for (const { contract, iova } of judge.findings) if (!found.has(contract)) found.set(contract, iova);
    }
  }
  return { contracts: [...found.keys()], pages: [...found.values()].map((iova) => iova - (iova % PAGE_SIZE)) };
}

function judgeOrder(
  { scenario, setup }: AgreementCase,
  judge: Judge,
  completionDelayNs: number,
  given: readonly number[],
  branch: (order: readonly number[]) => void,
): void {
  const taken: number[] = [];
  judge.choose = (of): number => {
    const choice = given[taken.length] ?? 0;
    if (taken.length >= given.length) for (let other = 1; other < of; other++) branch([...taken, other]);
    taken.push(choice);
    return choice;
  };
  const full = setupFor(scenario, setup);
  const vtd = { ...full.vtd, completionDelayNs };
  const amdvi = { ...full.amdvi, completionDelayNs };
  try {
    scenario.run(new Stage({ ...full, vtd, amdvi }, judge));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
  }
}

/** The bug and its repair, for maps; both ways to unmap. */
const POLICIES = [
  { mapFlush: 'none', unmapFlush: 'strict' },
  { mapFlush: 'none', unmapFlush: 'lazy' },
  { mapFlush: 'sync-map', unmapFlush: 'strict' },
  { mapFlush: 'sync-map', unmapFlush: 'lazy' },
] as const;

/** Scenarios on all machines, callers and policies for which they are meant. */
export function scenarioCases(
  scenarios: readonly Scenario[],
  presets: Readonly<Record<StageSetup['arch'], readonly string[]>>,
  callers: readonly CallerKind[] = CALLERS,
): AgreementCase[] {
  const setups: StageSetup[] = ARCHES.flatMap((arch) =>
    presets[arch].flatMap((preset) =>
      callers.flatMap((caller) =>
        POLICIES.flatMap((policies) =>
          [false, true].map((npCache) => ({ arch, preset, caller, npCache, ...policies })),
        ),
      ),
    ),
  ).filter(({ caller, unmapFlush }) => caller === 'dma-iommu' || unmapFlush === 'strict');
  return scenarios.flatMap((scenario) =>
    setups
      .filter((setup) => applies(scenario, setup))
      .map((setup) => {
        const { arch, preset = '', caller, npCache, mapFlush = '', unmapFlush = '' } = setup;
        const name = [scenario.name, arch, preset, caller, npCache ? 'np' : '-', mapFlush, unmapFlush].join(' ');
        return { name, scenario, setup };
      }),
  );
}

/** Known bugs and what they look like without the bug. */
export function mutantCases(mutants: readonly ContractMutant[]): AgreementCase[] {
  return mutants.flatMap(({ id, scenario, mutant, twin }) => [
    { name: `bug ${id}`, scenario, setup: mutant, ...(mutant.makeDriver === undefined ? {} : { driver: id }) },
    { name: `bug ${id} without the bug`, scenario, setup: twin },
  ]);
}
