/**
 * `npm run oracle`: our VT-d model beside QEMU's. Random programs run on both, and everything that software could see is compared
 * after each DMA; then the same with faults planted in our side, to show that a difference would be found.
 * Exit codes: 0 no difference and every fault found, 1 a difference, 2 no QEMU or wrong usage.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { QemuError } from '../qemu/index.ts';
import { PLANTED_FAULTS } from './planted.ts';
import type { Program, Step } from './program.ts';
import { PROGRAM_SCHEMA } from './program.ts';
import { runVtdProgram, runVtdSeed, shrinkVtd } from './vtd-oracle.ts';

const HELP = `Usage: npm run oracle -- [options]
  --seed N      first seed (default 1)
  --seeds N     how many (default 4)
  --steps N     steps per seed (default 10000)
  --qemu PATH   program to judge by (default qemu-system-x86_64; Debian: apt-get install qemu-system-x86)
  --replay FILE run a program that a difference was written to
  --json        results as JSON
  --no-planted  leave the planted faults out
`;
/** Steps, and programs of as many, in which a planted fault must show. */
const PLANTED_STEPS = 20_000;
const PLANTED_SEEDS = 4;

function number(text: string | undefined, otherwise: number, name: string): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new QemuError(`--${name} wants a whole number, got '${text}'`);
  return value;
}

function versionOf(binary: string): string {
  const { status, stdout, error } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  if (error !== undefined || status !== 0) {
    throw new QemuError(`${binary} cannot be run. Debian: apt-get install qemu-system-x86; another place: --qemu PATH`);
  }
  return stdout.split('\n')[0] ?? '';
}

/** @throws QemuError for a file that is no program */
function loadProgram(path: string): readonly Step[] {
  const wrong = (why: string): QemuError => new QemuError(`${path} is no program of the oracle: ${why}`);
  let data: unknown;
  try {
    data = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw wrong(error instanceof Error ? error.message : String(error));
  }
  if (typeof data !== 'object' || data === null || !('schema' in data) || data.schema !== PROGRAM_SCHEMA) {
    throw wrong(`"schema" is not ${PROGRAM_SCHEMA}`);
  }
  if (!('steps' in data) || !Array.isArray(data.steps)) throw wrong('it has no "steps"');
  return data.steps.map((step: unknown, nr) => {
    if (!isStep(step)) throw wrong(`step ${nr} is none`);
    return step;
  });
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  store: ['paddr', 'lo', 'hi'],
  writel: ['offset', 'value'],
  writeq: ['offset', 'lo', 'hi'],
  'dma-write': ['device', 'iova', 'value'],
  'dma-copy': ['device', 'from', 'to', 'nrBytes'],
};

function isStep(step: unknown): step is Step {
  if (typeof step !== 'object' || step === null || !('op' in step) || typeof step.op !== 'string') return false;
  const fields: Record<string, unknown> = { ...step };
  const wanted = FIELDS[step.op];
  if (wanted === undefined) return false;
  const device = fields['device'];
  if (wanted.includes('device') && !(device === 0 || device === 1 || device === 2)) return false;
  return wanted.every((field) => Number.isSafeInteger(fields[field]));
}

function main(): number {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      steps: { type: 'string' },
      qemu: { type: 'string' },
      replay: { type: 'string' },
      json: { type: 'boolean' },
      'no-planted': { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const binary = values.qemu ?? 'qemu-system-x86_64';
  const qemu = versionOf(binary);
  const say = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  if (values.replay !== undefined) {
    const { difference, steps } = runVtdProgram(binary, loadProgram(values.replay));
    say(
      difference === null
        ? `${steps} steps, no difference`
        : `step ${difference.step}: ${JSON.stringify(difference.what)}`,
    );
    return difference === null ? 0 : 1;
  }
  const first = number(values.seed, 1, 'seed');
  const nrSeeds = number(values.seeds, 4, 'seeds');
  const nrSteps = number(values.steps, 10_000, 'steps');
  let steps = 0;
  let dmas = 0;
  const differences: { seed: number; step: number; what: unknown; file: string }[] = [];
  for (let seed = first; seed < first + nrSeeds; seed++) {
    const result = runVtdSeed(binary, seed, nrSteps);
    steps += result.steps;
    dmas += result.dmas;
    const { difference } = result;
    if (difference === null) {
      say(`seed ${seed}: ${result.steps} steps, ${result.dmas} DMAs, no difference`);
      continue;
    }
    const short = shrinkVtd(
      binary,
      result.program,
      difference.what.map(({ name }) => name),
    );
    const file = `oracle-seed-${seed}.json`;
    const program: Program & { schema: string } = { schema: PROGRAM_SCHEMA, arch: 'intel', steps: short };
    writeFileSync(file, `${JSON.stringify(program, null, 1)}\n`);
    differences.push({ seed, step: difference.step, what: difference.what, file });
    say(
      `seed ${seed}: DIFFERENCE at step ${difference.step}, ${short.length} steps in ${file}: ${JSON.stringify(difference.what)}`,
    );
  }
  const planted = (values['no-planted'] === true ? [] : PLANTED_FAULTS).map(({ id, title, makeUnit }) => {
    let after = 0;
    let found = false;
    for (let seed = first; seed < first + PLANTED_SEEDS && !found; seed++) {
      const result = runVtdSeed(binary, seed, PLANTED_STEPS, makeUnit);
      after += result.steps;
      found = result.difference !== null;
    }
    say(`planted ${id} (${title}): ${found ? `found after ${after} steps` : 'NOT FOUND'}`);
    return { id, found, steps: after };
  });
  const found = planted.filter((fault) => fault.found);
  const mean = found.reduce((sum, fault) => sum + fault.steps, 0) / Math.max(1, found.length);
  if (values.json === true) {
    process.stdout.write(
      `${JSON.stringify({ schema: 'iommukit.oracle/1', qemu, steps, dmas, differences, planted }, null, 2)}\n`,
    );
  } else {
    process.stdout.write(
      `${qemu}\n${steps} steps, ${dmas} DMAs, ${differences.length} differences; ${found.length} of ${planted.length} planted faults found, after ${Math.round(mean)} steps on average\n`,
    );
  }
  return differences.length === 0 && found.length === planted.length ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof QemuError) && !(error instanceof TypeError)) throw error;
  process.stderr.write(`oracle: ${error.message}\n`);
  process.exitCode = error instanceof QemuError && error.message.startsWith('QEMU died') ? 1 : 2;
}
