/**
 * A known bug, made to run: a driver, core or part with the bug, one without it, and what must tell the two apart. The bugs are
 * those that Linux had in this code, by their numbers in iommukit's catalogue; `source` is the commit or mail that tells of
 * each. A bug with several faces has letters: 5a, 5b.
 */
import type { ContractId } from '../judge.ts';
import type { Scenario } from '../scenario.ts';
import type { StageSetup } from '../setup.ts';

export interface KnownBug {
  readonly id: string;
  readonly title: string;
  /** Commit, or mail to the list of that day. */
  readonly source: string;
}

/** A bug that breaks a contract: the scenario is played on both stages, and the judge finds it on the first one only. */
export interface ContractMutant extends KnownBug {
  readonly kind: 'contract';
  readonly contract: ContractId;
  /** True for a cache that no hardware model has (a device's TLB): nothing can be shown then, only concluded. */
  readonly beyondModels?: boolean;
  readonly scenario: Scenario;
  readonly mutant: StageSetup;
  readonly twin: StageSetup;
}

/** A bug that breaks no contract (cost, addresses handed out, data, a hang): one test runs both versions. */
export interface TestedMutant extends KnownBug {
  readonly kind: 'test';
  /** What the test asks for, as a sentence. */
  readonly test: string;
  /** @returns what is wrong with a version, '' for nothing */
  run(version: 'mutant' | 'twin'): string;
}

export type Mutant = ContractMutant | TestedMutant;

/** A bug whose two versions are values of one type, under a test of such values. An exception is something wrong, too. */
export function tested<T>(
  bug: KnownBug,
  test: string,
  mutant: T,
  twin: T,
  check: (subject: T) => string,
): TestedMutant {
  const run = (version: 'mutant' | 'twin'): string => {
    try {
      return check(version === 'mutant' ? mutant : twin);
    } catch (error) {
      if (error instanceof Error) return error.message;
      throw error;
    }
  };
  return { ...bug, kind: 'test', test, run };
}

/** A scenario that is told for one bug. Named after it, so that a finding says where it comes from. */
export function story(id: string, title: string, run: Scenario['run'], more: Partial<Scenario> = {}): Scenario {
  return { name: `bug/${id}`, title, small: true, run, ...more };
}
