/** docs/counterexamples: what the README there says of each file, and that the explorer finds each again. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ContractMutant } from '../../../src/check/index.ts';
import {
  KNOWN_WORLD,
  MUTANTS,
  SanitizerJudge,
  agreement,
  loadSchedule,
  mutantCases,
  playSchedule,
  saveSchedule,
} from '../../../src/check/index.ts';

const FOLDER = join(import.meta.dirname, '../../../docs/counterexamples');
const README = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const ROWS = [...README.matchAll(/^\| `(bug-(\w+)\.json)` *\|.*\| (C-[A-Z-]+) *\|$/gm)].map(
  ([, file, id, contract]) => ({
    file,
    id,
    contract,
  }),
);

it('every file stands in the README', () => {
  expect(readdirSync(FOLDER).sort()).toEqual([...ROWS.map(({ file }) => file), 'README.md'].sort());
});

describe.each(ROWS)('$file', ({ file, id, contract }) => {
  const text = readFileSync(join(FOLDER, file), 'utf8');

  it('shows what the README says, as its story says', () => {
    const schedule = loadSchedule(text);
    expect(schedule.contract).toBe(contract);
    const { isShown, steps } = playSchedule(schedule, KNOWN_WORLD);
    expect(isShown).toBe(true);
    const told = steps.map(({ step, by, text: line }) => `${step} ${by}: ${line}`);
    expect(told.slice(0, schedule.steps.length)).toEqual(schedule.steps);
  });

  it('is found again', () => {
    const bugs = MUTANTS.filter((mutant): mutant is ContractMutant => mutant.id === id && mutant.kind === 'contract');
    const { compared } = agreement(mutantCases(bugs), () => new SanitizerJudge());
    // The bug, and its repair: nothing to be found.
    expect(compared.map(({ schedule }) => (schedule === null ? null : saveSchedule(schedule)))).toEqual([text, null]);
  });
});
