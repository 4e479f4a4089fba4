/** Runs of random VT-d programs on our model and on QEMU's. */
import type { ManualClock } from '../base/index.ts';
import { Rng } from '../base/index.ts';
import type { PhysMem } from '../mem/index.ts';
import type { Comparison } from './differential.ts';
import { compare, shrink } from './differential.ts';
import type { OracleUnit } from './local-rig.ts';
import { LocalRig } from './local-rig.ts';
import type { Step } from './program.ts';
import { QemuRig } from './qemu-rig.ts';
import { QemuVtd } from './qemu-vtd.ts';
import { VTD_REGISTERS, VtdProgram } from './vtd-programs.ts';

const NAMES: readonly string[] = VTD_REGISTERS.map(({ name }) => name);
/** A run of a program takes seconds; one that takes this many is a QEMU that hangs. */
const LIFETIME_S = 300;

export type MakeUnit = (mem: PhysMem, clock: ManualClock, sids: readonly number[]) => OracleUnit;
const OURS: MakeUnit = (mem, clock, sids) => new QemuVtd(mem, clock, sids);

/** Runs steps on both. @throws QemuError when QEMU cannot be used or dies */
function runSteps(
  binary: string,
  steps: (sids: readonly number[]) => Iterable<Step>,
  makeUnit: MakeUnit,
  done: (step: Step) => void,
): Comparison {
  const qemu = new QemuRig({ arch: 'intel', binary, lifetimeS: LIFETIME_S }, VTD_REGISTERS);
  try {
    const sids = qemu.board.devices.map(({ sid }) => sid);
    const ours = new LocalRig({ makeUnit: (mem, clock) => makeUnit(mem, clock, sids), sids, registers: VTD_REGISTERS });
    return compare(ours, qemu, steps(sids), NAMES, done);
  } finally {
    qemu.close();
  }
}

function* programOf(seed: number, nrSteps: number, sids: readonly number[]): Iterable<Step> {
  const program = new VtdProgram(new Rng(seed), sids);
  for (let nr = 0; nr < nrSteps;) {
    for (const step of program.next()) {
      nr += 1;
      yield step;
    }
  }
}

/** A random program. @returns how far it came, and its steps up to a difference */
export function runVtdSeed(
  binary: string,
  seed: number,
  nrSteps: number,
  makeUnit: MakeUnit = OURS,
): Comparison & { readonly program: readonly Step[] } {
  const program: Step[] = [];
  const result = runSteps(
    binary,
    (sids) => programOf(seed, nrSteps, sids),
    makeUnit,
    (step) => program.push(step),
  );
  return { ...result, program: result.difference === null ? [] : program };
}

/** A program from a file. */
export function runVtdProgram(binary: string, steps: readonly Step[]): Comparison {
  return runSteps(
    binary,
    () => steps,
    OURS,
    () => {},
  );
}

/** The shortest part of a program that shows the same kind of difference. */
export function shrinkVtd(binary: string, program: readonly Step[], names: readonly string[]): readonly Step[] {
  const wanted = names.join();
  return shrink(program, (steps) => {
    const { difference } = runVtdProgram(binary, steps);
    return difference !== null && difference.what.map(({ name }) => name).join() === wanted;
  });
}
