/** `iommukit check --replay FILE`: plays a schedule that the explorer saved, step by step, on the concrete hardware. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MarkKind, PlayedSchedule, Schedule } from '../check/index.ts';
import { KNOWN_WORLD, ScheduleError, loadSchedule, playSchedule, saveSchedule } from '../check/index.ts';
import { FileError, codeOf } from './file-error.ts';

export interface Replayed {
  readonly schedule: Schedule;
  readonly played: PlayedSchedule;
}

/**
 * `iommukit check --explore --save FOLDER`: makes the folder, and gives what writes a counterexample to a file in it, named by
 * its case.
 * @throws FileError for a folder that cannot be written, then as later
 */
export function scheduleFolder(folder: string): (name: string, schedule: Schedule) => void {
  const attempt = (path: string, write: () => void): void => {
    try {
      write();
    } catch (error) {
      throw new FileError(path, `cannot be written (${codeOf(error)}); give another folder to --save`);
    }
  };
  attempt(folder, () => mkdirSync(folder, { recursive: true }));
  return (name, schedule) => {
    const path = join(folder, `${name.replaceAll(/[^a-z0-9.]+/gi, '-').replace(/-+$/, '')}.json`);
    attempt(path, () => writeFileSync(path, saveSchedule(schedule)));
  };
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
    const played = playSchedule(schedule, KNOWN_WORLD);
    return { schedule, played };
  } catch (error) {
    // A schedule of another version may lead to a state that it did not know.
    if (!(error instanceof ScheduleError) && !(error instanceof RangeError)) throw error;
    throw new FileError(path, error.message);
  }
}

const MARK_TEXTS: Readonly<Record<MarkKind, string>> = {
  cached: 'cached here',
  'made-stale': 'made stale here',
  'returned-too-early': 'returned too early',
  'freed-too-early': 'freed too early',
  'used-stale': 'used while stale',
  'left-wrong': 'wrong from here on, with no cache to blame',
};

/** Marks of a step: `<- made stale here: cached translation ...`. */
function markedText({ broken }: PlayedSchedule, step: number): string[] {
  return (broken?.marks ?? [])
    .filter(({ at }) => at === step)
    .map(({ mark, entry }) => {
      const what = entry < 0 || broken === null ? '' : `: ${broken.held[entry].text}`;
      return `${' '.repeat(17)}^ ${MARK_TEXTS[mark]}${what}`;
    });
}

export function replayedText({ schedule, played }: Replayed): string {
  const lines = [
    `${schedule.scenario} on ${schedule.setup.arch}, ${schedule.setup.caller}${schedule.driver === null ? '' : `, with bug ${schedule.driver}`}`,
    '',
    ...played.steps.flatMap(({ step, by, text }, index) => [
      `${String(step).padStart(5)}  ${by.padEnd(8)}  ${text}`,
      ...markedText(played, index),
    ]),
    '',
    played.isShown
      ? `FINDING ${schedule.contract}, as the file says`
      : `${schedule.contract} held: the schedule shows nothing on this version`,
  ];
  if (played.failure !== '') lines.push(played.failure);
  return `${lines.join('\n')}\n`;
}
