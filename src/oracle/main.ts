/**
 * `npm run oracle`: our models beside QEMU's, our stack on QEMU's units, what QEMU's units translated under recorded kernels, and
 * other people's test cases. Exit codes: 0 no difference, every planted fault found and every case passed, 1 otherwise, 2 no QEMU
 * or wrong usage.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AMD_PRESETS, INTEL_PRESETS } from '../drivers/index.ts';
import { QemuBoard, QemuError, qemuVersion } from '../qemu/index.ts';
import { runConformance } from './conformance/run.ts';
import type { Difference } from './differential.ts';
import { AMDVI_FAULTS } from './planted-amdvi.ts';
import { VTD_FAULTS } from './planted-vtd.ts';
import type { PlantedFault } from './planted.ts';
import { loadProgram, programText, saveProgram } from './program-file.ts';
import type { OracleArch, Program } from './program.ts';
import { runProgram, runRandom, shrinkProgram } from './random-run.ts';
import { compareRecorded, findRecordings } from './recorded.ts';
import type {
  ConformanceResults,
  Finding,
  OracleResults,
  PlantedResult,
  RandomResults,
  RecordedResults,
  StackResults,
} from './results.ts';
import { RESULTS_SCHEMA, failureText, isGood, textOf } from './results.ts';
import { runStack } from './stack-run.ts';

const HELP = `Usage: npm run oracle -- [options]
  --seed N          first seed (default 1)
  --seeds N         how many (default 4)
  --steps N         steps per seed on VT-d (default 10000)
  --amd-steps N     steps per seed on AMD-Vi (default 3 for every 10 of --steps)
  --arch ARCH       intel or amd (default both)
  --qemu PATH       program to judge by (default qemu-system-x86_64; Debian: apt-get install qemu-system-x86)
  --traces FOLDER   where recorded runs are; may be given more than once (default traces and ../shared/traces)
  --replay FILE     only run the program that a difference was written to
  --json            results as JSON
  --no-planted      leave the planted faults out
  --no-stack        leave our stack on QEMU's units out
  --no-recorded     leave the recorded translations out
  --no-conformance  leave the cases of other people's tests out
Exit code 0: no difference, every planted fault found, every recorded translation the same, every case passed. 1: not so,
and what is not is said. 2: no QEMU, or wrong usage.
`;
/** Steps, and programs of as many, in which a planted fault must show. */
const PLANTED_STEPS = 20_000;
const PLANTED_SEEDS = 8;
/** A step of the stack is a whole call or a DMA, and there are four programs per seed: fewer are as good. */
const STEPS_PER_STACK_STEP = 50;

const ROOT = join(fileURLToPath(import.meta.url), '../../..');
const TRACES = [join(ROOT, 'traces'), join(ROOT, '../shared/traces')];

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function number(text: string | undefined, otherwise: number, name: string): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new QemuError(`--${name} wants a whole number, got '${text}'`);
  return value;
}

function archesOf(text: string | undefined): readonly OracleArch[] {
  if (text === undefined) return ['intel', 'amd'];
  if (text === 'intel' || text === 'amd') return [text];
  throw new QemuError(`--arch is intel or amd, got '${text}'`);
}

/** What differs, in one line. */
function inWords({ what, death }: Difference): string {
  if (death !== undefined) return death;
  const hex = (value: number): string => `0x${value.toString(16)}`;
  return what.map(({ name, ours, other }) => `${name} is ${hex(ours)} here, ${hex(other)} there`).join('; ');
}

/** Writes a program to a file of the current folder, or prints it. @returns the file, if there is one */
function keep(file: string, program: Program): string | null {
  try {
    saveProgram(file, program);
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    say(`  ${error.message}\n  This is what the file would say, for --replay:\n${programText(program)}`);
    return null;
  }
  say(`  kept: --replay ${file}`);
  return file;
}

class Oracle {
  readonly findings: Finding[] = [];
  readonly #binary: string;
  readonly #seeds: readonly number[];

  constructor(binary: string, seeds: readonly number[]) {
    this.#binary = binary;
    this.#seeds = seeds;
  }

  random(arch: OracleArch, nrSteps: number): RandomResults {
    const total = { programs: 0, steps: 0, dmas: 0, differences: 0 };
    for (const seed of this.#seeds) {
      const { steps, dmas, difference, program } = runRandom({ arch, binary: this.#binary, seed, nrSteps });
      total.programs += 1;
      total.steps += steps;
      total.dmas += dmas;
      const of = `${arch} seed ${seed}`;
      if (difference === null) {
        say(`${of}: ${steps} steps, ${dmas} DMAs, no difference`);
        continue;
      }
      total.differences += 1;
      say(`${of}: DIFFERENCE at step ${difference.step}: ${inWords(difference)}`);
      const short = shrinkProgram(this.#binary, program, difference);
      say(
        short === null
          ? `  run again, the same ${steps} steps do not show it`
          : `  its shortest program has ${short.steps.length} steps`,
      );
      const file = keep(`oracle-${arch}-${seed}.json`, short ?? program);
      this.findings.push({ ...difference, arch, seed, of, ...(file === null ? {} : { file }) });
    }
    return total;
  }

  stack(arch: OracleArch, steps: number): StackResults {
    const total = { programs: 0, steps: 0, dmas: 0, differences: 0, landed: 0, stale: 0 };
    const presets = arch === 'intel' ? INTEL_PRESETS : AMD_PRESETS;
    for (const seed of this.#seeds) {
      for (const lazy of [false, true]) {
        const preset = presets[seed % presets.length] ?? '';
        // With caching mode a kernel never unmaps lazily.
        const result = runStack({ arch, binary: this.#binary, preset, seed, steps, lazy, cachingMode: !lazy });
        total.programs += 1;
        total.steps += result.steps;
        total.dmas += result.dmas;
        total.landed += result.landed;
        total.stale += result.stale;
        const { difference } = result;
        if (difference === null) continue;
        const of = `${preset} on ${arch}, ${lazy ? 'lazy' : 'strict'}, seed ${seed}`;
        total.differences += 1;
        say(`${of}: DIFFERENCE at step ${difference.step}: ${inWords(difference)}`);
        this.findings.push({ ...difference, arch, seed, of });
      }
    }
    say(`${arch}, our stack: ${total.programs} programs, ${total.dmas} DMAs, ${total.differences} differences`);
    return total;
  }

  planted({ id, arch, title, makeUnit }: PlantedFault): PlantedResult {
    const [first = 1] = this.#seeds;
    let steps = 0;
    let found = false;
    for (let seed = first; seed < first + PLANTED_SEEDS && !found; seed++) {
      const { steps: done, difference } = runRandom({
        arch,
        binary: this.#binary,
        seed,
        nrSteps: PLANTED_STEPS,
        makeUnit,
      });
      steps += done;
      // The death of QEMU is no comparison: it does not show that the fault was seen.
      if (difference?.death === undefined) {
        found = difference !== null;
        continue;
      }
      const of = `planted ${id}, seed ${seed}`;
      say(`${of}: DIFFERENCE at step ${difference.step}: ${difference.death}`);
      this.findings.push({ ...difference, arch, seed, of });
    }
    say(`planted ${id} (${title}): ${found ? `found after ${steps} steps` : 'NOT FOUND'}`);
    return { id, arch, title, found, steps };
  }
}

function recorded(folders: readonly string[]): RecordedResults {
  const runs = findRecordings(folders).map((recording) => {
    const run = compareRecorded(recording);
    say(`${run.name}: ${run.agree} of ${run.translations} recorded translations agree`);
    for (const line of run.different) say(`  DIFFERENT: ${line}`);
    return run;
  });
  const sum = (of: (run: (typeof runs)[number]) => number): number => runs.reduce((total, run) => total + of(run), 0);
  const results = { translations: sum((run) => run.translations), agree: sum((run) => run.agree), runs };
  if (runs.length > 0) return results;
  return { ...results, absent: `no run with a trace and a log of translations in ${folders.join(', ')}` };
}

function conformance(arches: readonly OracleArch[], binary: string): ConformanceResults {
  const results = runConformance({ arches, binary });
  for (const failure of results.failures) say(`CASE FAILED: ${failureText(failure)}`);
  return results;
}

function replay(binary: string, path: string): number {
  const { difference, steps } = runProgram(binary, loadProgram(path));
  say(difference === null ? `${steps} steps, no difference` : `step ${difference.step}: ${inWords(difference)}`);
  return difference === null ? 0 : 1;
}

function main(): number {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      steps: { type: 'string' },
      'amd-steps': { type: 'string' },
      arch: { type: 'string' },
      qemu: { type: 'string' },
      traces: { type: 'string', multiple: true },
      replay: { type: 'string' },
      json: { type: 'boolean' },
      'no-planted': { type: 'boolean' },
      'no-stack': { type: 'boolean' },
      'no-recorded': { type: 'boolean' },
      'no-conformance': { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const arches = archesOf(values.arch);
  const first = number(values.seed, 1, 'seed');
  const nrSeeds = number(values.seeds, 4, 'seeds');
  const nrSteps = number(values.steps, 10_000, 'steps');
  const nrAmdSteps = number(values['amd-steps'], Math.ceil(nrSteps * 0.3), 'amd-steps');
  const binary = values.qemu ?? 'qemu-system-x86_64';
  const { text: qemu } = qemuVersion(binary);
  // One that cannot be used is told here; one that fails later is a finding.
  for (const arch of arches) new QemuBoard({ arch, binary }).close();
  if (values.replay !== undefined) return replay(binary, values.replay);

  const oracle = new Oracle(
    binary,
    Array.from({ length: nrSeeds }, (_, nr) => first + nr),
  );
  const random: Partial<Record<OracleArch, RandomResults>> = {};
  const stack: Partial<Record<OracleArch, StackResults>> = {};
  for (const arch of arches) {
    random[arch] = oracle.random(arch, arch === 'intel' ? nrSteps : nrAmdSteps);
    if (values['no-stack'] !== true) stack[arch] = oracle.stack(arch, Math.ceil(nrSteps / STEPS_PER_STACK_STEP));
  }
  const faults = [...VTD_FAULTS, ...AMDVI_FAULTS].filter(({ arch }) => arches.includes(arch));
  const planted = values['no-planted'] === true ? [] : faults.map((fault) => oracle.planted(fault));
  const parts = Object.values(random);
  const results: OracleResults = {
    schema: RESULTS_SCHEMA,
    qemu,
    steps: parts.reduce((sum, { steps }) => sum + steps, 0),
    dmas: parts.reduce((sum, { dmas }) => sum + dmas, 0),
    differences: oracle.findings.length,
    findings: oracle.findings,
    random,
    stack,
    planted,
    recorded:
      values['no-recorded'] === true
        ? { translations: 0, agree: 0, runs: [], absent: 'left out' }
        : recorded(values.traces ?? TRACES),
    conformance:
      values['no-conformance'] === true
        ? { cases: 0, passed: 0, values: 0, otherwise: 0, failures: [], absent: 'left out' }
        : conformance(arches, binary),
  };
  process.stdout.write(values.json === true ? `${JSON.stringify(results, null, 2)}\n` : textOf(results));
  return isGood(results) ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof QemuError) && !(error instanceof TypeError)) throw error;
  say(`oracle: ${error.message}`);
  process.exitCode = error instanceof QemuError && error.message.startsWith('QEMU died') ? 1 : 2;
}
