/** The sanitizer and the explorer say the same, of drivers with and without bugs. */
import { describe, expect, it } from 'vitest';
import type { AgreementCase, Breach, Judge, StageSetup } from '../../../src/check/index.ts';
import {
  agreement,
  applies,
  MUTANTS,
  mutantCases,
  NoJudge,
  SanitizerJudge,
  SCENARIOS,
  scenarioCases,
} from '../../../src/check/index.ts';
import { BUGS, SUBTLE_BUGS } from './bugs.ts';

const OPTIONS = { mostPages: 3, mostSchedules: 100_000 };
const sanitizer = (): Judge => new SanitizerJudge();

/** Cases in which they do not agree, or in which the explorer came to no end. */
function differences(cases: readonly AgreementCase[], open: number = 0): { nr: number; broken: number } {
  const result = agreement(cases, sanitizer, OPTIONS);
  expect(result.disagreements).toEqual([]);
  const unsettled = result.compared.filter(({ outcome }) => outcome === 'open');
  expect(unsettled.length, unsettled.map(({ name, detail }) => `${name}: ${detail}`).join('\n')).toBeLessThanOrEqual(
    open,
  );
  return { nr: result.cases, broken: result.broken };
}

describe('agreement', () => {
  it('of all known bugs and of their twins', () => {
    // The explorer's units have no devices with TLBs.
    const within = MUTANTS.filter((mutant) => mutant.kind === 'contract').filter(
      (mutant) => mutant.beyondModels !== true,
    );
    const { nr, broken } = differences(mutantCases(within));
    expect(nr).toBeGreaterThanOrEqual(50);
    expect(broken).toBeGreaterThan(20);
  });

  it('of bugs made by hand', () => {
    const cases = [...BUGS, ...SUBTLE_BUGS].map(({ name, scenario, setup }) => ({ name, scenario, setup }));
    expect(differences(cases).broken).toBe(cases.length);
  });

  it('of an AMD table that grows: the root below the new one is no other table (a false alarm of the sanitizer once)', () => {
    const scenario = SCENARIOS.find(({ name }) => name === 'tables/growth');
    if (scenario === undefined) throw new Error('no scenario tables/growth');
    const cases = [false, true].map((npCache): AgreementCase => {
      const setup: StageSetup = { arch: 'amd', caller: 'core', npCache, mapFlush: 'sync-map' };
      return { name: `growth ${String(npCache)}`, scenario, setup };
    });
    expect(differences(cases)).toEqual({ nr: 2, broken: 0 });
  });

  it('of a failed map that its caller takes for done (the sanitizer was once blind to it, bug 16)', () => {
    const cases = mutantCases(
      MUTANTS.filter((mutant) => mutant.kind === 'contract').filter(({ id }) => id.startsWith('16')),
    );
    expect(differences(cases)).toEqual({ nr: 2, broken: 1 });
  });

  it('of every small scenario, with and without flushes after maps', { timeout: 300_000 }, () => {
    const small = SCENARIOS.filter((scenario) => scenario.small);
    const cases = scenarioCases(small, { intel: ['linux-6.12'], amd: ['linux-6.12'] }, ['core']);
    // Large products of two devices, which need more schedules than a test has.
    const { nr, broken } = differences(cases, 12);
    expect(nr).toBeGreaterThan(150);
    expect(broken).toBeGreaterThan(30);
  });
});

describe('disagreement', () => {
  const [bug] = BUGS;
  const { mapFlush: _, ...right } = bug.setup;

  class Alarmist extends NoJudge {
    override readonly findings: readonly Breach[] = [
      { contract: 'C-ROLLBACK', call: 'any', sid: -1, iova: 0, nrBytes: 0 },
    ];
  }

  it('a judge that finds nothing is blind, one that finds always raises false alarms', () => {
    const cases = [
      { name: 'wrong', scenario: bug.scenario, setup: bug.setup },
      { name: 'right', scenario: bug.scenario, setup: right },
    ];
    expect(applies(bug.scenario, right)).toBe(true);
    const outcomes = (judge: () => Judge): string[] =>
      agreement(cases, judge, OPTIONS).compared.map(({ outcome }) => outcome);
    expect(outcomes(() => new NoJudge())).toEqual(['blind', 'agree']);
    expect(outcomes(() => new Alarmist())).toEqual(['agree', 'false-alarm']);
  });
});
