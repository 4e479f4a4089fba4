/** Runs of random programs on our models and on QEMU's. */
import type { ManualClock } from '../base/index.ts';
import { Rng } from '../base/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { qemuVersion } from '../qemu/index.ts';
import { AMDVI_REGISTERS, AmdviProgram } from './amdvi-programs.ts';
import type { Comparison, Difference } from './differential.ts';
import { compare, deathAt, shrink } from './differential.ts';
import type { OracleUnit } from './local-rig.ts';
import { LocalRig } from './local-rig.ts';
import type { OracleArch, Program, Step, WatchedRegister } from './program.ts';
import { QemuAmdvi } from './qemu-amdvi.ts';
import { QemuRig } from './qemu-rig.ts';
import { QemuVtd, boardVtd } from './qemu-vtd.ts';
import { VTD_REGISTERS, VtdProgram } from './vtd-programs.ts';

/** A unit of ours. @param sids requester ids of the devices on the board. @param major version of the QEMU that it is to be like */
export type MakeUnit = (mem: PhysMem, clock: ManualClock, sids: readonly number[], major: number) => OracleUnit;

interface Arch {
  readonly registers: readonly WatchedRegister[];
  readonly makeUnit: MakeUnit;
  readonly makeProgram: (rng: Rng, sids: readonly number[]) => { next(): readonly Step[] };
}

const ARCHES: Readonly<Record<OracleArch, Arch>> = {
  intel: {
    registers: VTD_REGISTERS,
    makeUnit: (mem, clock, sids, major) => new QemuVtd(mem, clock, sids, boardVtd(major)),
    makeProgram: (rng, sids) => new VtdProgram(rng, sids),
  },
  amd: {
    registers: AMDVI_REGISTERS,
    makeUnit: (mem, clock) => new QemuAmdvi(mem, clock),
    makeProgram: (rng, sids) => new AmdviProgram(rng, sids),
  },
};

/** A QEMU whose time is up hangs: it gets this many seconds, and one more for this many steps. */
const START_S = 60;
const STEPS_PER_S = 300;
/** Shrinking starts a QEMU for each part that it tries; after this long the shortest program so far has to do. */
const SHRINK_MS = 120_000;

interface SideOptions {
  readonly arch: OracleArch;
  /** QEMU's program. */
  readonly binary: string;
  /** Default: our model of this QEMU. */
  readonly makeUnit?: MakeUnit;
}

/** Runs steps on both. @throws QemuError when there is no QEMU */
function runSteps(
  options: SideOptions,
  nrSteps: number,
  steps: (sids: readonly number[]) => Iterable<Step>,
  done: (step: Step) => void,
): Comparison {
  const { arch, binary } = options;
  const { registers } = ARCHES[arch];
  const makeUnit = options.makeUnit ?? ARCHES[arch].makeUnit;
  const { major } = qemuVersion(binary);
  const lifetimeS = START_S + Math.ceil(nrSteps / STEPS_PER_S);
  let qemu: QemuRig;
  try {
    qemu = new QemuRig({ arch, binary, lifetimeS }, registers);
  } catch (error) {
    return { steps: 0, dmas: 0, difference: deathAt(0, error) };
  }
  try {
    const sids = qemu.board.devices.map(({ sid }) => sid);
    const ours = new LocalRig({ makeUnit: (mem, clock) => makeUnit(mem, clock, sids, major), sids, registers });
    const names = registers.map(({ name }) => name);
    return compare(ours, qemu, steps(sids), names, done);
  } finally {
    qemu.close();
  }
}

function* stepsOf(arch: OracleArch, seed: number, nrSteps: number, sids: readonly number[]): Iterable<Step> {
  const program = ARCHES[arch].makeProgram(new Rng(seed), sids);
  for (let nr = 0; nr < nrSteps;) {
    for (const step of program.next()) {
      nr += 1;
      yield step;
    }
  }
}

export interface RandomRunOptions extends SideOptions {
  readonly seed: number;
  readonly nrSteps: number;
}

/** A random program. @returns how far it came, and its steps up to a difference */
export function runRandom(options: RandomRunOptions): Comparison & { readonly program: Program } {
  const { arch, seed, nrSteps } = options;
  const steps: Step[] = [];
  const result = runSteps(
    options,
    nrSteps,
    (sids) => stepsOf(arch, seed, nrSteps, sids),
    (step) => steps.push(step),
  );
  return { ...result, program: { arch, steps: result.difference === null ? [] : steps } };
}

/** A program that was kept. */
export function runProgram(binary: string, { arch, steps }: Program, makeUnit?: MakeUnit): Comparison {
  const options = { arch, binary, ...(makeUnit === undefined ? {} : { makeUnit }) };
  return runSteps(
    options,
    steps.length,
    () => steps,
    () => {},
  );
}

/** What a difference is called: two of one kind differ in the same registers and cells, or are both the death of QEMU. */
function kindOf(difference: Difference | null): string {
  if (difference === null) return 'none';
  return difference.death === undefined ? difference.what.map(({ name }) => name).join() : 'death';
}

/**
 * The shortest part of a program that shows the same kind of difference, as far as SHRINK_MS allow.
 * @returns null when the whole program, run again, does not show it: somebody else killed QEMU, for one
 */
export function shrinkProgram(
  binary: string,
  program: Program,
  difference: Difference,
  makeUnit?: MakeUnit,
): Program | null {
  const { arch } = program;
  const wanted = kindOf(difference);
  const shows = (steps: readonly Step[]): boolean =>
    kindOf(runProgram(binary, { arch, steps }, makeUnit).difference) === wanted;
  if (!shows(program.steps)) return null;
  const endMs = Date.now() + SHRINK_MS;
  return { arch, steps: shrink(program.steps, (part) => Date.now() < endMs && shows(part)) };
}
