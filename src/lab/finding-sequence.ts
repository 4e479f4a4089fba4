/**
 * From a finding of `iommukit check` to a counterexample: the sanitizer says what caches may hold, the explorer finds a schedule
 * in which they do, and that is played.
 */
import type { CheckReport, DriverFactory, FindingReport, Schedule } from '../check/index.ts';
import { KNOWN_WORLD, explore } from '../check/index.ts';
import type { Sequence } from './sequence.ts';
import { sequenceOf } from './sequence.ts';

/** What of a finding says where to look. */
export type WantedFinding = Pick<FindingReport, 'scenario' | 'given' | 'contract' | 'iova'>;

export interface SequenceOptions {
  /** The user's own driver, for a report about it. */
  readonly makeDriver?: DriverFactory;
  /** Schedules to try for each finding. Default 200,000: seconds. */
  readonly mostSchedules?: number;
  /** Asked now and then whether to stop; findings that are left have no sequence. */
  readonly isOver?: () => boolean;
}

const MOST_SCHEDULES = 200_000;
const PAGE = 4096;
/** Name of the user's own driver in a schedule; nobody can find it again by that. */
const OWN = 'own';

/** A shortest schedule that shows a finding. @returns null when none was found, or there is no scenario to play */
export function findSchedule(finding: WantedFinding, options: SequenceOptions = {}): Schedule | null {
  const { given, contract, iova } = finding;
  const scenario = KNOWN_WORLD.scenarios.find(({ name }) => name === finding.scenario);
  if (scenario === undefined || given === null || contract === null) return null;
  const { makeDriver, mostSchedules = MOST_SCHEDULES, isOver } = options;
  const page = Math.floor(Number(iova ?? 0) / PAGE) * PAGE;
  const { counterexamples } = explore(
    scenario,
    { ...given, ...(makeDriver === undefined ? {} : { makeDriver }) },
    {
      mostSchedules,
      mostPages: 2,
      pages: [page],
      everyContract: true,
      ...(makeDriver === undefined ? {} : { driver: OWN }),
      ...(isOver === undefined ? {} : { isOver }),
    },
  );
  return counterexamples.find((each) => each.contract === contract)?.schedule ?? null;
}

/** The sequences of a report's findings, in their order; null where none was found. Nothing is played after `isOver`. */
export function checkSequences(report: CheckReport, options: SequenceOptions = {}): (Sequence | null)[] {
  const { makeDriver, isOver } = options;
  const world = makeDriver === undefined ? KNOWN_WORLD : { ...KNOWN_WORLD, driverOf: () => makeDriver };
  // A driver of the user's own cannot be played without it.
  if (report.driver !== null && makeDriver === undefined) return report.findings.map(() => null);
  return report.findings.map((finding) => {
    if (isOver?.() === true) return null;
    const schedule = findSchedule(finding, options);
    return schedule === null ? null : sequenceOf(schedule, world);
  });
}
