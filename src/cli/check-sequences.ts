/** Counterexamples of a check's findings for its report file, one after the other, so that a signal gets its turn. */
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import type { CheckReport, DriverFactory } from '../check/index.ts';
import type { Sequence } from '../lab/index.ts';
import { checkSequences } from '../lab/index.ts';

/** A schedule is found at once or takes very long: so much for one finding, and for all. */
const MS_PER_FINDING = 5_000;
const MS_FOR_ALL = 60_000;

/**
 * @param makeDriver the user's own driver, when the report is about it
 * @returns by finding; null where none was found in time
 */
export async function playFindings(
  report: CheckReport,
  makeDriver: DriverFactory | undefined,
  signal: AbortSignal,
  show: (stage: string, done: number, total: number) => void,
  starting: (name: string) => void,
): Promise<(Sequence | null)[]> {
  const end = performance.now() + MS_FOR_ALL;
  const sequences: (Sequence | null)[] = [];
  for (const finding of report.findings) {
    show('playing findings ', sequences.length, report.findings.length);
    starting(`the finding in ${finding.scenario}`);
    await yieldToEvents();
    const over = Math.min(end, performance.now() + MS_PER_FINDING);
    const isOver = (): boolean => signal.aborted || performance.now() >= over;
    const driver = makeDriver === undefined ? {} : { makeDriver };
    sequences.push(...checkSequences({ ...report, findings: [finding] }, { ...driver, isOver }));
  }
  return sequences;
}
