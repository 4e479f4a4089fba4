/** What a run of the oracle found, as data (`iommukit.oracle/1`) and as text. */
import type { Difference } from './differential.ts';
import type { OracleArch } from './program.ts';
import type { RecordedRun } from './recorded.ts';

export const RESULTS_SCHEMA = 'iommukit.oracle/1';

/** Random programs on an architecture's units. */
export interface RandomResults {
  readonly programs: number;
  readonly steps: number;
  readonly dmas: number;
  readonly differences: number;
}

/** Random programs of the Linux stack on QEMU's units. */
export interface StackResults extends RandomResults {
  /** DMAs that reached the page they were mapped to. */
  readonly landed: number;
  /** Writes that reached a page that a lazy unmap had left reachable. */
  readonly stale: number;
}

/** A difference, and how to see it again. */
export interface Finding extends Difference {
  readonly arch: OracleArch;
  readonly seed: number;
  /** In words, what was run. */
  readonly of: string;
  /** A program that shows it, for --replay. */
  readonly file?: string;
}

export interface PlantedResult {
  readonly id: string;
  readonly arch: OracleArch;
  readonly title: string;
  readonly found: boolean;
  /** Steps until it was found, or all that were done. */
  readonly steps: number;
}

export interface RecordedResults {
  readonly translations: number;
  readonly agree: number;
  readonly runs: readonly RecordedRun[];
  /** Why there are none. */
  readonly absent?: string;
}

/** A value that was not as a conformance case says, or the death of QEMU in it. */
export interface ConformanceFailure {
  /** Source of the case, its test there, and what it says. */
  readonly group: string;
  readonly test: string;
  readonly title: string;
  readonly arch: OracleArch;
  /** Whose unit saw it. */
  readonly judge: 'model' | 'qemu';
  /** Which step of the case, and what it looked at; `name` is the value's. */
  readonly step?: number;
  readonly see?: string;
  readonly name?: string;
  readonly expected?: number;
  readonly seen?: number;
  readonly death?: string;
}

export interface ConformanceResults {
  readonly cases: number;
  /** Cases in which our model and QEMU's unit see all that they are to see. */
  readonly passed: number;
  /** Values compared, of both. */
  readonly values: number;
  /** Cases in which QEMU is to see otherwise than the source expects, with the reason in the case. */
  readonly otherwise: number;
  readonly failures: readonly ConformanceFailure[];
  /** Why none was played. */
  readonly absent?: string;
}

export interface OracleResults {
  readonly schema: typeof RESULTS_SCHEMA;
  readonly qemu: string;
  /** Of the random programs of both architectures. */
  readonly steps: number;
  readonly dmas: number;
  /** Of everything that was run beside QEMU. */
  readonly differences: number;
  readonly findings: readonly Finding[];
  readonly random: Readonly<Partial<Record<OracleArch, RandomResults>>>;
  readonly stack: Readonly<Partial<Record<OracleArch, StackResults>>>;
  readonly planted: readonly PlantedResult[];
  readonly recorded: RecordedResults;
  readonly conformance: ConformanceResults;
}

/** Whether everything is as it should be. */
export function isGood({ differences, planted, recorded, conformance }: OracleResults): boolean {
  return (
    differences === 0 &&
    planted.every(({ found }) => found) &&
    recorded.agree === recorded.translations &&
    conformance.passed === conformance.cases
  );
}

/** A failure of a conformance case in one line. */
export function failureText(failure: ConformanceFailure): string {
  const { group, test, title, judge, step, see, name, expected, seen, death } = failure;
  const where = `${group}, ${test} (${title}), on ${judge === 'model' ? 'our model' : "QEMU's unit"}`;
  if (death !== undefined) return `${where}: ${death}`;
  const hex = (value: number | undefined): string => `0x${(value ?? 0).toString(16)}`;
  return `${where}: step ${step} (${see}), ${name}: expected ${hex(expected)}, seen ${hex(seen)}`;
}

const TITLES: Readonly<Record<OracleArch, string>> = { intel: 'VT-d', amd: 'AMD-Vi' };
const ARCHES: readonly OracleArch[] = ['intel', 'amd'];

export function textOf(results: OracleResults): string {
  const lines = [results.qemu];
  for (const arch of ARCHES) {
    const random = results.random[arch];
    if (random !== undefined) {
      lines.push(
        `${TITLES[arch]}: ${random.steps} random steps of ${random.programs} programs, ${random.dmas} DMAs, ${random.differences} differences`,
      );
    }
    const stack = results.stack[arch];
    if (stack !== undefined) {
      lines.push(
        `${TITLES[arch]}, our stack on QEMU's unit: ${stack.programs} programs, ${stack.dmas} DMAs (${stack.landed} to mapped pages, ${stack.stale} to stale ones), ${stack.differences} differences`,
      );
    }
  }
  const found = results.planted.filter((fault) => fault.found);
  if (results.planted.length > 0) {
    const mean = found.reduce((sum, { steps }) => sum + steps, 0) / Math.max(1, found.length);
    lines.push(
      `planted faults: ${found.length} of ${results.planted.length} found, after ${Math.round(mean)} steps on average`,
    );
  }
  const { translations, agree, runs, absent } = results.recorded;
  lines.push(
    absent === undefined
      ? `recorded translations: ${agree} of ${translations} agree, of ${runs.length} runs`
      : `recorded translations: none compared, ${absent}`,
  );
  const { conformance } = results;
  lines.push(
    conformance.absent === undefined
      ? `conformance: ${conformance.passed} of ${conformance.cases} cases pass on our models and on QEMU's units, ${conformance.otherwise} of them say where QEMU sees otherwise`
      : `conformance: no case played, ${conformance.absent}`,
  );
  return `${lines.join('\n')}\n`;
}
