/** `iommukit check --replay FILE`: plays a schedule that the explorer saved, step by step, on the concrete hardware. */
import { readFileSync } from 'node:fs';
import type { PlayedSchedule, Schedule } from '../check/index.ts';
import { MUTANTS, SCENARIOS, ScheduleError, loadSchedule, playSchedule } from '../check/index.ts';
import { FileError, codeOf } from './file-error.ts';

const SCENARIOS_OF_BUGS = MUTANTS.flatMap((mutant) => (mutant.kind === 'contract' ? [mutant.scenario] : []));

export interface Replayed {
  readonly schedule: Schedule;
  readonly played: PlayedSchedule;
}

/** @throws FileError for what is no schedule, or none of this version */
export function replaySchedule(path: string): Replayed {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new FileError(path, codeOf(error) === 'ENOENT' ? 'does not exist' : `cannot be read (${codeOf(error)})`);
  }
  try {
    const schedule = loadSchedule(text);
    const played = playSchedule(schedule, {
      scenarios: [...SCENARIOS, ...SCENARIOS_OF_BUGS],
      driverOf: (name) =>
        MUTANTS.flatMap((mutant) =>
          mutant.kind === 'contract' && mutant.id === name ? [mutant.mutant.makeDriver] : [],
        )[0],
    });
    return { schedule, played };
  } catch (error) {
    // A schedule of another version may lead to a state that it did not know.
    if (!(error instanceof ScheduleError) && !(error instanceof RangeError)) throw error;
    throw new FileError(path, error.message);
  }
}

export function replayedText({ schedule, played }: Replayed): string {
  const lines = [
    `${schedule.scenario} on ${schedule.setup.arch}, ${schedule.setup.caller}${schedule.driver === null ? '' : `, with bug ${schedule.driver}`}`,
    '',
    ...played.steps.map(({ step, by, text }) => `${String(step).padStart(5)}  ${by.padEnd(8)}  ${text}`),
    '',
    played.isShown
      ? `FINDING ${schedule.contract}, as the file says`
      : `${schedule.contract} held: the schedule shows nothing on this version`,
  ];
  if (played.failure !== '') lines.push(played.failure);
  return `${lines.join('\n')}\n`;
}
