/** Runs mutants and their twins under a judge. */
import type { Breach, ContractId, Judge } from '../judge.ts';
import { setupFor } from '../scenario.ts';
import type { StageSetup } from '../setup.ts';
import { Stage } from '../stage.ts';
import type { ContractMutant, Mutant } from './mutant.ts';

/** What came of a mutant. A mutant that is caught while its twin is not at fault is worth something; the rest is a hole. */
export interface MutantResult {
  readonly id: string;
  readonly title: string;
  /** Told from its twin by what should tell them apart. */
  readonly caught: boolean;
  /** The contract that it breaks; null for one that a test of its own finds. */
  readonly contract: ContractId | null;
  /** The scenario, or what the test asks for. */
  readonly scenario: string;
  /** What was found; where it was not caught, why not. */
  readonly detail: string;
}

/** @param makeJudge a new judge for each stage */
export function runMutant(mutant: Mutant, makeJudge: () => Judge): MutantResult {
  const { id, title } = mutant;
  if (mutant.kind === 'contract') {
    return { id, title, contract: mutant.contract, scenario: mutant.scenario.name, ...judged(mutant, makeJudge) };
  }
  const twin = mutant.run('twin');
  const found = mutant.run('mutant');
  const caught = twin === '' && found !== '';
  const detail = twin === '' ? found : `the twin fails: ${twin}`;
  return { id, title, contract: null, scenario: mutant.test, caught, detail };
}

export function runMutants(mutants: readonly Mutant[], makeJudge: () => Judge): MutantResult[] {
  return mutants.map((mutant) => runMutant(mutant, makeJudge));
}

function judged(mutant: ContractMutant, makeJudge: () => Judge): { caught: boolean; detail: string } {
  const twin = findingsOf(mutant, mutant.twin, makeJudge());
  if (twin.length > 0) return { caught: false, detail: `the twin breaks ${names(twin)}` };
  const found = findingsOf(mutant, mutant.mutant, makeJudge());
  if (found.length === 0) return { caught: false, detail: 'nothing was found' };
  const caught = found.some(({ contract }) => contract === mutant.contract);
  return { caught, detail: `${caught ? '' : `not ${mutant.contract} but `}${names(found)}` };
}

/** Plays a mutant's scenario on one of its two stages. */
export function findingsOf({ scenario }: ContractMutant, setup: StageSetup, judge: Judge): readonly Breach[] {
  scenario.run(new Stage(setupFor(scenario, setup), judge));
  return judge.findings;
}

/** The contracts of findings, each once. */
function names(findings: readonly Breach[]): string {
  return [...new Set(findings.map(({ contract, call }) => `${contract} in ${call}`))].join(', ');
}
