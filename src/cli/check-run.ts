/** Runs a check piece by piece, so that a signal, a deadline and the progress bar get their turn. */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type {
  AgreementCase,
  Arch,
  CheckReport,
  ContractMutant,
  DisputeRow,
  DriverFactory,
  Judge,
  Mutant,
  MutantReport,
  NegativeOracle,
  Scenario,
  Schedule,
} from '../check/index.ts';
import {
  CheckSummary,
  PROGRAM_STEPS,
  MUTANTS,
  agreement,
  mutantCases,
  scenarioCases,
  NEGATIVE_ORACLES,
  ProbeJudge,
  SCENARIOS,
  SanitizerJudge,
  disputeRow,
  disputeSetups,
  isCaught,
  playCase,
  randomCase,
  runMutant,
  suiteCases,
  suiteSetups,
} from '../check/index.ts';
import type { Sequence } from '../lab/index.ts';
import { playFindings } from './check-sequences.ts';

/** What is checked, as plain data. */
export interface CheckChoice {
  /** Name of the user's own module; null for the drivers of iommukit. */
  readonly driver: string | null;
  readonly arches: readonly Arch[];
  readonly preset?: string;
  readonly npCache?: boolean;
  /** Names of scenarios; `*` stands for anything. */
  readonly scenarios: string;
  readonly table: boolean;
  readonly seed: number;
  /** Operations of random programs; 0: the scenarios are played instead. */
  readonly random: number;
  /** Plays the known bugs instead of the scenarios. */
  readonly mutants: boolean;
  /** Tries every schedule of small scenarios instead, and compares with the judge. */
  readonly explore: boolean;
  readonly budgetMs: number;
}

export interface CheckRunOptions extends CheckChoice {
  /** Looks for a schedule that shows each finding, for a page with its steps. */
  readonly playsFindings: boolean;
  /** Gets each schedule that `explore` finds, with the name of its case. */
  readonly save?: (name: string, schedule: Schedule) => void;
  readonly makeDriver?: DriverFactory;
}

export interface Checked {
  readonly report: CheckReport;
  /** By finding; empty unless `playsFindings`. */
  readonly sequences: readonly (Sequence | null)[];
}

/** How long is worked between two looks at the signal. */
const TURN_MS = 40;
/** A program that fails is shrunk, which takes long: after so many there is nothing new to learn. */
const MOST_FAILURES = 5;

/** Of one case; those that have more are left open. */
const MOST_SCHEDULES = 300_000;

const makeJudge = (): Judge => new SanitizerJudge();

/** Does the check. @param show how far it is @param starting the name of each case before it is played */
export async function runCheck(
  options: CheckRunOptions,
  signal: AbortSignal,
  show: (stage: string, done: number, total: number) => void,
  starting: (name: string) => void = (): void => {},
): Promise<Checked> {
  const deadline = performance.now() + options.budgetMs;
  let turn = performance.now() + TURN_MS;
  /** Whether to stop. */
  const pause = async (stage: string, done: number, total: number): Promise<boolean> => {
    const now = performance.now();
    if (now >= turn) {
      show(stage, done, total);
      await yieldToEvents();
      turn = performance.now() + TURN_MS;
    }
    return signal.aborted || now >= deadline;
  };
  let complete = true;
  const table: DisputeRow[] = [];
  const summary = new CheckSummary();
  const setups = options.table ? disputeSetups(options.arches) : [];
  for (const setup of setups) {
    if (await pause('the dispute of 2019 ', table.length, setups.length)) break;
    table.push(disputeRow(setup, makeJudge()));
  }
  complete &&= table.length === setups.length;

  if (options.random === 0 && !options.mutants && !options.explore) {
    const cases = suiteCases(scenariosLike(options.scenarios), suiteSetups(options));
    for (const [index, one] of cases.entries()) {
      if (await pause('playing scenarios ', index, cases.length)) {
        complete = false;
        break;
      }
      starting(one.scenario.name);
      summary.add(playCase(one, makeJudge()));
    }
  }

  const mutants: MutantReport[] = [];
  const bugs = options.mutants ? [...MUTANTS.map(mutantOf), ...NEGATIVE_ORACLES.map(oracleOf)] : [];
  for (const bug of bugs) {
    if (await pause('known bugs ', mutants.length, bugs.length)) {
      complete = false;
      break;
    }
    mutants.push(bug());
  }

  const explored = { schedules: 0, states: 0 };
  const compared = { cases: 0, disagreements: 0 };
  const small = options.explore ? explorable(options) : [];
  for (const [index, one] of small.entries()) {
    if (await pause('exploring ', index, small.length)) {
      complete = false;
      break;
    }
    const isOver = (): boolean => performance.now() >= deadline;
    const result = agreement([one], makeJudge, { mostSchedules: MOST_SCHEDULES, isOver });
    explored.schedules += result.schedules;
    explored.states += result.states;
    compared.cases += result.cases;
    compared.disagreements += result.disagreements.length;
    summary.addDisagreements(result.disagreements);
    for (const { name, schedule } of result.compared) if (schedule !== null) options.save?.(name, schedule);
  }

  let operations = 0;
  let failures = 0;
  for (let seed = options.seed; operations < options.random && failures < MOST_FAILURES; seed++) {
    if (await pause('random programs ', operations, options.random)) {
      complete = false;
      break;
    }
    starting(`the random program of seed ${seed}`);
    const failure = randomCase(seed, randomBase(options, seed), makeJudge);
    operations += PROGRAM_STEPS;
    if (failure === null) continue;
    failures += 1;
    summary.addRandom(failure);
  }
  const report: CheckReport = {
    schema: 'iommukit.check/1',
    driver: options.driver,
    table,
    scenarios: summary.scenarios,
    findings: summary.findings,
    knownFaults: summary.knownFaults,
    random: options.random === 0 ? null : { seed: options.seed, asked: options.random, operations },
    mutants,
    explored,
    agreement: compared,
    complete,
    interrupted: signal.aborted,
  };
  const { makeDriver, playsFindings } = options;
  return { report, sequences: playsFindings ? await playFindings(report, makeDriver, signal, show, starting) : [] };
}

/** Who is asked about a known bug, one after the other: it is caught by the first who tells it from its repaired twin. */
const JUDGES: readonly (() => Judge)[] = [makeJudge, () => new ProbeJudge()];

function mutantOf(mutant: Mutant): () => MutantReport {
  return () => {
    const results = JUDGES.map((judge) => runMutant(mutant, judge));
    const { id, title, caught, contract, scenario } = results.find((result) => result.caught) ?? results[0];
    return { id, title, caught, contract, scenario };
  };
}

function oracleOf(oracle: NegativeOracle): () => MutantReport {
  const { id, title, contract, scenario } = oracle;
  return () => ({
    id,
    title,
    caught: JUDGES.some((judge) => isCaught(oracle, judge)),
    contract,
    scenario: scenario.name,
  });
}

function randomBase({ arches, preset, npCache, makeDriver }: CheckRunOptions, seed: number): object {
  return {
    arch: arches[seed % arches.length],
    ...(preset === undefined ? {} : { preset }),
    ...(npCache === undefined ? {} : { npCache }),
    ...(makeDriver === undefined ? {} : { makeDriver }),
  };
}

/** What explorer and sanitizer are compared on: small scenarios with every policy, and the known bugs that break a contract. */
function explorable({ scenarios, arches, preset = 'linux-6.12' }: CheckRunOptions): AgreementCase[] {
  const presets = { intel: arches.includes('intel') ? [preset] : [], amd: arches.includes('amd') ? [preset] : [] };
  const bugs = MUTANTS.filter((mutant): mutant is ContractMutant => mutant.kind === 'contract');
  const like = patternOf(scenarios);
  return [
    ...scenarioCases(scenariosLike(scenarios), presets),
    ...mutantCases(bugs.filter(({ scenario }) => like.test(scenario.name))),
  ];
}

/** Whether `--explore` has something to do for a pattern: it knows the stories of known bugs (`bug/2c`) besides the scenarios. */
export function isExplorable(glob: string): boolean {
  const like = patternOf(glob);
  return (
    scenariosLike(glob).length > 0 ||
    MUTANTS.some((mutant) => mutant.kind === 'contract' && like.test(mutant.scenario.name))
  );
}

/** Scenarios whose name fits a pattern in which `*` stands for anything. */
export function scenariosLike(glob: string): Scenario[] {
  const like = patternOf(glob);
  return SCENARIOS.filter(({ name }) => like.test(name));
}

function patternOf(glob: string): RegExp {
  const pattern = glob.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll('*', '.*');
  return new RegExp(`^${pattern}$`);
}
