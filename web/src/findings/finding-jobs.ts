/** The worker's part of the findings view: plays schedules, and looks for them. */
import type { Schedule } from '../../../src/check/index.ts';
import { KNOWN_WORLD, ScheduleError, loadSchedule, readSetup } from '../../../src/check/index.ts';
import type { Sequence } from '../../../src/lab/index.ts';
import { findSchedule, sequenceOf } from '../../../src/lab/index.ts';
import { JobError } from '../engine/protocol.ts';

/** What a report says of a finding; not checked yet. */
export interface Wanted {
  readonly scenario: string;
  readonly given: unknown;
  readonly contract: string | null;
  readonly iova: string | null;
}

export function playCounterexample(text: string): Sequence {
  return told(() => sequenceOf(loadSchedule(text), KNOWN_WORLD));
}

/** @returns null when no schedule was found */
export function findCounterexample({ given, ...finding }: Wanted): Sequence | null {
  return told(() => {
    const schedule: Schedule | null = findSchedule({ ...finding, given: readSetup(given, 'given') });
    return schedule === null ? null : sequenceOf(schedule, KNOWN_WORLD);
  });
}

/** A schedule of another version may lead to a state that it did not know. */
function told<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof ScheduleError || error instanceof RangeError) throw new JobError(error.message);
    throw error;
  }
}
