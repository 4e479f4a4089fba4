/** Every known bug has a mutant that is caught and a twin that is not, or a reason why it has none. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ContractMutant, StageSetup, TestedMutant } from '../../../src/check/index.ts';
import {
  LEFT_OUT,
  MUTANTS,
  NR_BUGS,
  ProbeJudge,
  SCENARIOS,
  SanitizerJudge,
  Stage,
  StageError,
  applies,
  bugOf,
  findingsOf,
  setupFor,
} from '../../../src/check/index.ts';

const contracts = MUTANTS.filter((mutant): mutant is ContractMutant => mutant.kind === 'contract');
const tested = MUTANTS.filter((mutant): mutant is TestedMutant => mutant.kind === 'test');
const named = <M extends { id: string; title: string }>(mutants: readonly M[]): [string, M][] =>
  mutants.map((mutant) => [`bug ${mutant.id}: ${mutant.title}`, mutant]);

describe('the catalogue', () => {
  it('has each number from 1 to 33 once: as a mutant, or left out with a reason', () => {
    const numbers = new Set([...MUTANTS.map(({ id }) => bugOf(id)), ...LEFT_OUT.map(({ bug }) => bug)]);
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: NR_BUGS }, (_, index) => index + 1));
    for (const { bug, why } of LEFT_OUT) {
      expect(MUTANTS.filter(({ id }) => bugOf(id) === bug)).toEqual([]);
      expect(why.length).toBeGreaterThan(20);
    }
    expect(new Set(MUTANTS.map(({ id }) => bugOf(id))).size).toBeGreaterThanOrEqual(28);
    expect(new Set(MUTANTS.map(({ id }) => id)).size).toBe(MUTANTS.length);
  });

  it('is what docs/known-bugs.md says', () => {
    const text = readFileSync(join(import.meta.dirname, '../../../docs/known-bugs.md'), 'utf8');
    const rows = text
      .split('\n')
      .filter((line) => /^\| \d/.test(line))
      .map((line) =>
        line
          .split('|')
          .map((cell) => cell.trim())
          .slice(1, -1),
      );
    expect(rows).toEqual([
      ...MUTANTS.map((mutant) => [
        mutant.id,
        mutant.title,
        mutant.kind === 'contract' ? `${mutant.contract}, ${mutant.scenario.title}` : mutant.test,
        mutant.source,
      ]),
      ...LEFT_OUT.map(({ bug, title, why }) => [String(bug), title, why]),
    ]);
  });
});

describe('found by a test of its own', () => {
  it.each(named(tested))('%s', (_name, mutant) => {
    expect(mutant.run('twin')).toBe('');
    expect(mutant.run('mutant')).not.toBe('');
  });
});

describe('found by the sanitizer', () => {
  it.each(named(contracts))('%s', (_name, mutant) => {
    expect(findingsOf(mutant, mutant.twin, new SanitizerJudge())).toEqual([]);
    const found = findingsOf(mutant, mutant.mutant, new SanitizerJudge());
    expect(found.map(({ contract }) => contract)).toContain(mutant.contract);
  });
});

describe('the scenario suite, told nothing of the bugs', () => {
  /** Whether some scenario of the suite goes wrong on a setup: a finding, or a call that fails. */
  const isFound = (setup: StageSetup, leftOut: readonly string[] = []): boolean =>
    SCENARIOS.filter((scenario) => applies(scenario, setup) && !leftOut.includes(scenario.name)).some((scenario) => {
      const judge = new SanitizerJudge();
      try {
        scenario.run(new Stage(setupFor(scenario, setup), judge));
      } catch (error) {
        if (error instanceof StageError) return true;
        throw error;
      }
      return judge.findings.length > 0;
    });

  /**
   * Where a driver that lets devices have TLBs cannot be right: without a queue nothing can be sent to a device, and what devices
   * kept of the kernel before, only their reset takes.
   */
  const leftOutOf = ({ beyondModels }: ContractMutant): readonly string[] =>
    beyondModels === true ? ['hw/registers/short', 'hw/registers/long', 'attach/new-kernel'] : [];

  // 23 needs a driver that is preempted in a map, 32 page 0 on a unit without a queue.
  it('finds nearly all', () => {
    const missed = contracts.filter((each) => !isFound(each.mutant, leftOutOf(each))).map(({ id }) => id);
    expect(missed.filter((id) => !['23', '32'].includes(id))).toEqual([]);
  });

  it('finds nothing in a twin', () => {
    // Many twins are one and the same: the correct driver.
    const twins = new Map(contracts.map((each) => [each.twin, leftOutOf(each)]));
    expect([...twins].filter(([twin, leftOut]) => isFound(twin, leftOut))).toEqual([]);
  });
});

describe('shown to a device that looks at the right moment', () => {
  it.each(named(contracts))('%s: the twin shows nothing', (_name, mutant) => {
    expect(findingsOf(mutant, mutant.twin, new ProbeJudge())).toEqual([]);
  });

  // The others need a moment that no look between two calls has: the judges that try or reckon with all moments find them.
  it('looking finds half of them', () => {
    const seen = contracts.filter((mutant) => findingsOf(mutant, mutant.mutant, new ProbeJudge()).length > 0);
    expect(seen.map(({ id }) => id)).toEqual([
      '1',
      '2',
      '2b',
      '2c',
      '3b',
      '4',
      '6',
      '7',
      '8',
      '10',
      '12',
      '14a',
      '15',
      '16a',
      '18',
      '26a',
      '32',
    ]);
  });
});
