/**
 * `explore`: tries every moment of speculative caching, every eviction, every delay of hardware and every order of callers on a
 * small scenario, and finds a shortest schedule that breaks a promise, or none. See search.ts for how.
 */
import { PAGE_SIZE } from '../../base/index.ts';
import type { ContractId } from '../judge.ts';
import type { Scenario } from '../scenario.ts';
import type { StageSetup } from '../setup.ts';
import { DriverRun } from './driver-run.ts';
import type { Target } from './target.ts';
import { exploredSetup, play } from './play.ts';
import { Player } from './player.ts';
import type { PlayedStep } from './player.ts';
import { SCHEDULE_SCHEMA } from './schedule.ts';
import type { Schedule } from './schedule.ts';
import { Scout } from './scout.ts';
import { Search } from './search.ts';
import type { Fork, Step, Violation } from './search.ts';

export interface ExploreOptions {
  /** Schedules to try at most, over all pages; then the verdict is `inconclusive`. Default 2 million. */
  readonly mostSchedules?: number;
  /** Pages to look at. Default 8; where there are more, those at which mistakes show (Scout). */
  readonly mostPages?: number;
  /** Pages to look at besides. */
  readonly pages?: readonly number[];
  /** All pages in one state instead of one search for each: slower, and the same verdict, since pages meet only in tables. */
  readonly jointly?: boolean;
  /** Shortest schedules for all contracts that can be broken; default: for those that schedules of the least length break. */
  readonly everyContract?: boolean;
  /** Name under which another driver than the preset's is found again, for saved schedules. */
  readonly driver?: string;
  /** Asked now and then whether to stop. */
  readonly isOver?: () => boolean;
}

/** `vacuous`: a property that some schedule must reach was reached by none, so the others say nothing. */
export type ExploreVerdict = 'held' | 'violated' | 'inconclusive' | 'vacuous' | 'failed';

/** A schedule that breaks a promise, played once to be sure. */
export interface Counterexample {
  readonly contract: ContractId;
  /** The call at whose end it shows. */
  readonly call: string;
  readonly violation: Violation;
  /** Ready to be saved. */
  readonly schedule: Schedule;
  readonly story: readonly PlayedStep[];
}

/** What some schedule must reach. */
export interface Reachable {
  readonly property: string;
  readonly reached: boolean;
}

export interface Exploration {
  readonly scenario: string;
  readonly setup: StageSetup;
  readonly verdict: ExploreVerdict;
  /** A shortest schedule for each contract, the shortest of all first; see `everyContract`. */
  readonly counterexamples: readonly Counterexample[];
  readonly reachable: readonly Reachable[];
  /** Pages that were looked at, and pages of the scenario that were not. */
  readonly pages: number;
  readonly pagesLeft: number;
  /** Decisions tried, each the end of a schedule that no other one has. */
  readonly schedules: number;
  /** Different states of the hardware. */
  readonly states: number;
  /** Times that the driver ran. */
  readonly runs: number;
  /** Why the verdict is no other one; empty when there is nothing to say. */
  readonly reason: string;
}

const MOST_SCHEDULES = 2_000_000;
const MOST_PAGES = 8;
/** Messages to an APIC are not translated. */
const INTERRUPT_FIRST = 0xfee00000;
const INTERRUPT_LAST = 0xfeefffff;

export function explore(scenario: Scenario, given: StageSetup, options: ExploreOptions = {}): Exploration {
  const setup = exploredSetup(scenario, given);
  const scout = new Scout();
  const failure = play(scenario, setup, scout);
  const sids = [...scout.sids];
  const chosen = scout.pages(options.mostPages ?? MOST_PAGES);
  const pages = [...new Set([...chosen.pages, ...(options.pages ?? [])])].filter(
    (iova) => iova < INTERRUPT_FIRST || iova > INTERRUPT_LAST,
  );
  const most = options.mostSchedules ?? MOST_SCHEDULES;
  const total = { schedules: 0, states: 0, runs: 0 };
  const counterexamples = new Map<ContractId, Counterexample>();
  const reached = new Set<string>();
  let reason = '';
  let failed = failure;
  for (const target of targetsOf(sids, pages, options.jointly === true)) {
    const search = new Search(most - total.schedules, options.everyContract === true);
    const error = runSearch(search, target, scenario, setup, options.isOver);
    total.schedules += search.nrSchedules;
    total.states += search.hardware.store.size;
    total.runs += search.nrRuns;
    for (const property of search.reached) reached.add(property);
    for (const violation of search.violations.values()) {
      const { contract } = violation;
      const tape = search.pathTo(violation.node);
      const before = counterexamples.get(contract);
      if (before !== undefined && before.violation.cost <= violation.cost) continue;
      counterexamples.set(contract, confirmed(scenario, given, options.driver ?? null, violation, target, tape));
    }
    if (error !== '') failed = error;
    if (search.wasFull) reason = 'a cache was full: the scenario is too large to try everything';
    if (search.isOver || options.isOver?.() === true) {
      reason = `stopped after ${total.schedules} schedules`;
      break;
    }
  }
  const found = [...counterexamples.values()].sort((a, b) => a.violation.cost - b.violation.cost);
  const reachable = reachableOf(reached);
  const pagesLeft = Math.max(0, chosen.nrLeft);
  const verdict: ExploreVerdict =
    found.length > 0
      ? 'violated'
      : failed !== ''
        ? 'failed'
        : reason !== ''
          ? 'inconclusive'
          : reachable.every((property) => property.reached)
            ? 'held'
            : 'vacuous';
  return {
    scenario: scenario.name,
    setup: given,
    verdict,
    counterexamples: found,
    reachable,
    pages: pages.length,
    pagesLeft,
    ...total,
    reason:
      failed !== '' ? failed : reason !== '' || pagesLeft === 0 ? reason : `${pagesLeft} pages were not looked at`,
  };
}

/** Plays what a search found on a plain machine. @throws Error when that does not show it: the explorer is then wrong */
function confirmed(
  scenario: Scenario,
  given: StageSetup,
  driver: string | null,
  violation: Violation,
  target: Target,
  tape: readonly Step[],
): Counterexample {
  const { contract, call, choices } = violation;
  const player = new Player(target, tape, choices);
  const failure = play(scenario, exploredSetup(scenario, given), player);
  if (player.nrLeft > 0 || !player.findings.some((finding) => finding.contract === contract && finding.call === call)) {
    const what = `${contract} after ${violation.step} steps of ${scenario.name}`;
    throw new Error(`the explorer found ${what}, and its schedule does not show it ${failure}`);
  }
  const { makeDriver: _, makeCore: __, ...setup } = given;
  const end = player.log.findIndex(({ by }) => by === 'judge');
  const story = player.log.slice(0, end + 1);
  const steps = story.map(({ step, by, text }) => `${step} ${by}: ${text}`);
  const schedule: Schedule = {
    schema: SCHEDULE_SCHEMA,
    scenario: scenario.name,
    setup,
    driver,
    contract,
    target,
    choices,
    tape,
    steps,
  };
  return { contract, call, violation, schedule, story };
}

/** One search for each page, with a neighbour through which tables can be cached without the page itself. */
function targetsOf(sids: readonly number[], pages: readonly number[], jointly: boolean): Target[] {
  const beside = (iova: number): number => (iova % (2 * PAGE_SIZE) === 0 ? iova + PAGE_SIZE : iova - PAGE_SIZE);
  if (jointly) return [{ sids, pages, beside: pages.map(beside).filter((iova) => !pages.includes(iova)) }];
  return pages.map((iova) => ({ sids, pages: [iova], beside: [beside(iova)] }));
}

/** @returns what went wrong in the scenario itself, empty for nothing */
function runSearch(
  search: Search,
  target: Target,
  scenario: Scenario,
  setup: StageSetup,
  isOver: (() => boolean) | undefined,
): string {
  let failed = '';
  for (let fork: Fork | null | undefined = null; fork !== undefined; fork = search.takeFork()) {
    search.nrRuns += 1;
    const error = play(scenario, setup, new DriverRun(search, target, fork));
    if (error !== '') failed = error;
    if (search.isOver || isOver?.() === true) break;
  }
  return failed;
}

function reachableOf(reached: ReadonlySet<string>): Reachable[] {
  return [
    { property: 'the IOTLB holds something when a call returns', reached: reached.has('cached') },
    ...(reached.has('promised')
      ? [{ property: 'a device reaches a page that was mapped for it', reached: reached.has('translated') }]
      : []),
  ];
}
