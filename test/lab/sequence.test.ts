/** Sequences: the machine after each step beside the marks, which know nothing of it. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CheckReport, ContractMutant, FindingReport, StageSetup } from '../../src/check/index.ts';
import { CheckSummary, KNOWN_WORLD, MUTANTS, SanitizerJudge, loadSchedule, play } from '../../src/check/index.ts';
import { checkSequences, machineAt, sequenceOf } from '../../src/lab/index.ts';

const FOLDER = join(import.meta.dirname, '../../docs/counterexamples');
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));

describe.each(FILES)('%s', (name) => {
  const sequence = sequenceOf(loadSchedule(readFileSync(join(FOLDER, name), 'utf8')), KNOWN_WORLD);

  it('has the machine at every step, and survives JSON', () => {
    const copy = JSON.parse(JSON.stringify(sequence));
    expect(copy).toEqual(sequence);
    for (const at of sequence.steps.keys()) expect(machineAt(sequence, at)).not.toBeNull();
    expect(machineAt(sequence, sequence.steps.length)).toBeNull();
  });

  it('the blamed entry is as memory says before the step that made it stale, and not after', () => {
    const { broken } = sequence;
    const stale = (at: number, cache: string): number =>
      machineAt(sequence, at)
        ?.caches.find((each) => each.cache === cache)
        ?.entries.filter(({ state }) => state === 'stale').length ?? -1;
    for (const { at, mark, entry } of broken?.marks ?? []) {
      if (mark !== 'made-stale') continue;
      const { cache } = broken!.held[entry];
      expect([at, cache, stale(at - 1, cache)]).toEqual([at, cache, stale(at, cache) - 1]);
    }
  });

  it('ends with a device that is not served as memory says, unless the tables themselves are wrong', () => {
    const { broken } = sequence;
    const used = broken?.marks.find(({ mark }) => mark === 'used-stale');
    if (used === undefined) return;
    const machine = machineAt(sequence, used.at);
    expect(machine?.now.paddr).not.toBe(machine?.walk.answer.paddr);
  });
});

/** The report of one bad case, as `iommukit check` writes it. */
function reportOf({ scenario, mutant }: ContractMutant, driver: string | null): CheckReport {
  const summary = new CheckSummary();
  summary.add({ scenario, setup: mutant, outcome: play(scenario, mutant, new SanitizerJudge()), known: null });
  const rest = {
    table: [],
    scenarios: [],
    knownFaults: [],
    random: null,
    mutants: [],
    complete: true,
    interrupted: false,
  };
  const explored = { schedules: 0, states: 0 };
  const agreement = { cases: 0, disagreements: 0 };
  return { schema: 'iommukit.check/1', driver, findings: summary.findings, explored, agreement, ...rest };
}

const bug = (id: string): ContractMutant =>
  MUTANTS.find((mutant): mutant is ContractMutant => mutant.kind === 'contract' && mutant.id === id)!;

describe('findings of check', () => {
  it('of a policy of Linux is played from the report alone', () => {
    // By way of JSON, as a page gets it.
    const report: CheckReport = JSON.parse(JSON.stringify(reportOf(bug('2c'), null)));
    const [sequence] = checkSequences(report);
    expect(sequence).toMatchObject({ isShown: true, contract: 'C-MAP-VISIBLE', scenario: 'bug/2c' });
  });

  it('of an own driver needs that driver', () => {
    const { mutant } = bug('26a');
    const report = reportOf(bug('26a'), 'mine.js');
    expect(checkSequences(report)).toEqual([null]);
    const { makeDriver }: Pick<StageSetup, 'makeDriver'> = mutant;
    const [sequence] = checkSequences(report, makeDriver === undefined ? {} : { makeDriver });
    expect(sequence).toMatchObject({ isShown: true, contract: 'C-ATTACH' });
  });

  it('is left out when time is over, or when there is nothing to play', () => {
    const report = reportOf(bug('2c'), null);
    expect(checkSequences(report, { isOver: () => true })).toEqual([null]);
    const [finding] = report.findings;
    const unplayable: FindingReport[] = [
      { ...finding, scenario: 'random' },
      { ...finding, given: null },
      { ...finding, contract: null },
    ];
    expect(checkSequences({ ...report, findings: unplayable })).toEqual([null, null, null]);
  });
});
