/** What a check found, as data: the JSON of `iommukit check --json`, schema iommukit.check/1. Addresses are hexadecimal strings. */
import { hex } from '../base/index.ts';
import type { DisputeRow } from './dispute.ts';
import type { Compared } from './explorer/agreement.ts';
import type { ScheduledSetup } from './explorer/schedule.ts';
import type { Breach } from './judge.ts';
import { KNOWN_FAULTS } from './known-faults.ts';
import type { Outcome, Verdict } from './play.ts';
import type { RandomFailure } from './random.ts';
import type { StageSetup } from './setup.ts';
import type { CaseResult } from './suite.ts';
import { isFinding, setupText } from './suite.ts';

/** All cases of one scenario. */
export interface ScenarioReport {
  readonly name: string;
  readonly title: string;
  readonly cases: number;
  readonly held: number;
  /** Violated where a policy or an old kernel's bug is known to do so. */
  readonly known: number;
  readonly findings: number;
}

/** A known fault and how often it showed. */
export interface KnownFaultReport {
  readonly id: string;
  readonly title: string;
  readonly cases: number;
  readonly violated: number;
}

/** One way in which something that must hold did not. */
export interface FindingReport {
  readonly scenario: string;
  readonly setup: string;
  /** The same as data, without a driver of the user's own; null where several setups were compared. */
  readonly given: ScheduledSetup | null;
  readonly verdict: Verdict;
  readonly contract: string | null;
  readonly call: string | null;
  readonly iova: string | null;
  readonly nrBytes: number;
  /** Requester id, -1 for any device. */
  readonly sid: number;
  readonly message: string | null;
  /** Further cases of the same scenario with the same contract. */
  more: number;
  /** What the judge knows beyond this: stale value, store, invalidations. */
  readonly detail: Readonly<Record<string, unknown>>;
  /** Of a random program: its seed and its calls, shortened. */
  readonly seed?: number;
  readonly calls?: readonly string[];
}

export interface CheckReport {
  readonly schema: 'iommukit.check/1';
  /** The module of the user's own driver; null for those of iommukit. */
  readonly driver: string | null;
  readonly table: readonly DisputeRow[];
  readonly scenarios: readonly ScenarioReport[];
  readonly findings: readonly FindingReport[];
  readonly knownFaults: readonly KnownFaultReport[];
  readonly random: { readonly seed: number; readonly asked: number; readonly operations: number } | null;
  readonly mutants: readonly MutantReport[];
  readonly explored: { readonly schedules: number; readonly states: number };
  readonly agreement: { readonly cases: number; readonly disagreements: number };
  /** False when a bound (`--budget`) or Ctrl-C ended the check before everything was tried. */
  readonly complete: boolean;
  readonly interrupted: boolean;
}

export interface MutantReport {
  readonly id: string;
  readonly title: string;
  readonly caught: boolean;
  readonly contract: string | null;
  readonly scenario: string | null;
}

/** Sums results up as they come. */
export class CheckSummary {
  readonly #scenarios = new Map<string, { -readonly [K in keyof ScenarioReport]: ScenarioReport[K] }>();
  readonly #known = new Map<string, { cases: number; violated: number }>();
  readonly #findings: FindingReport[] = [];

  get findings(): readonly FindingReport[] {
    return this.#findings;
  }

  get scenarios(): readonly ScenarioReport[] {
    return [...this.#scenarios.values()];
  }

  get knownFaults(): readonly KnownFaultReport[] {
    return KNOWN_FAULTS.flatMap(({ id, title }) => {
      const counts = this.#known.get(id);
      return counts === undefined ? [] : [{ id, title, ...counts }];
    });
  }

  add(result: CaseResult): void {
    const { scenario, outcome, known } = result;
    const { name, title } = scenario;
    let sum = this.#scenarios.get(name);
    if (sum === undefined) {
      sum = { name, title, cases: 0, held: 0, known: 0, findings: 0 };
      this.#scenarios.set(name, sum);
    }
    sum.cases += 1;
    if (known !== null) {
      const counts = this.#known.get(known.id) ?? { cases: 0, violated: 0 };
      counts.cases += 1;
      if (outcome.verdict === 'violated') counts.violated += 1;
      this.#known.set(known.id, counts);
    }
    if (outcome.verdict === 'held') {
      sum.held += 1;
    } else if (isFinding(result)) {
      sum.findings += 1;
      this.#finding(findingReport(name, result.setup, outcome));
    } else {
      sum.known += 1;
    }
  }

  addRandom({ seed, setup, calls, outcome }: RandomFailure): void {
    this.#finding({ ...findingReport('random', setup, outcome), seed, calls });
  }

  /** Cases in which the explorer and the judge say different things: one of the two is wrong. */
  addDisagreements(list: readonly Compared[]): void {
    for (const { name, outcome, explored, judged, detail } of list) {
      this.#findings.push({
        scenario: name,
        setup: 'explorer and sanitizer disagree',
        given: null,
        verdict: 'failed',
        contract: null,
        call: null,
        iova: null,
        nrBytes: 0,
        sid: -1,
        message: `${outcome}: the explorer shows ${listOf(explored)}, the sanitizer finds ${listOf(judged)}. ${detail}`,
        more: 0,
        detail: {},
      });
    }
  }

  /** The first case of a kind is told in full, the others are counted. */
  #finding(finding: FindingReport): void {
    const same = this.#findings.find(
      ({ scenario, contract, verdict }) =>
        scenario === finding.scenario && contract === finding.contract && verdict === finding.verdict,
    );
    if (same === undefined) this.#findings.push(finding);
    else same.more += 1;
  }
}

function listOf(contracts: readonly string[]): string {
  return contracts.length === 0 ? 'nothing' : contracts.join(', ');
}

function findingReport(scenario: string, setup: StageSetup, { verdict, findings, message }: Outcome): FindingReport {
  const first: Breach | undefined = findings[0];
  const { makeDriver: _, makeCore: __, ...given } = setup;
  return {
    scenario,
    setup: setupText(setup),
    given,
    verdict,
    contract: first?.contract ?? null,
    call: first?.call ?? null,
    iova: first === undefined ? null : hex(first.iova),
    nrBytes: first?.nrBytes ?? 0,
    sid: first?.sid ?? -1,
    message,
    more: 0,
    detail: first === undefined ? {} : { ...first },
  };
}
