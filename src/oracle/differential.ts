/** Two rigs through one program, compared after each DMA; and the shortest program that still tells them apart. */
import { QemuError } from '../qemu/index.ts';
import { cellsOf } from './arena.ts';
import type { Rig, Step } from './program.ts';

/** Where two rigs differ. */
export interface Difference {
  /** Steps done, the one that showed it included. */
  readonly step: number;
  /** What differs: name, then ours and the other's value. */
  readonly what: readonly { readonly name: string; readonly ours: number; readonly other: number }[];
  /** QEMU died of the steps: what it said. Nothing was compared then. */
  readonly death?: string;
}

export interface Comparison {
  readonly steps: number;
  readonly dmas: number;
  readonly difference: Difference | null;
}

/** QEMU died, or did not start again, after so many steps. @throws whatever is no error of QEMU */
export function deathAt(step: number, error: unknown): Difference {
  if (!(error instanceof QemuError)) throw error;
  return { step, what: [], death: error.message };
}

/** The addresses a step may have changed through the IOMMU; null for a step that is no DMA. */
function touched(step: Step): readonly number[] | null {
  if (step.op === 'dma-write') return cellsOf(step.iova, 4);
  if (step.op === 'dma-copy') return cellsOf(step.to, step.nrBytes);
  return null;
}

/**
 * Compares the two after one step. @param nr of the step. @param names of the registers. @param more cells to look at
 * @returns null when it was no DMA or both agree
 */
export function differenceAfter(
  ours: Rig,
  other: Rig,
  step: Step,
  nr: number,
  names: readonly string[],
  more: readonly number[] = [],
): Difference | null {
  const reached = touched(step);
  if (reached === null) return null;
  const cells = [...reached, ...more];
  const a = ours.observe(cells);
  const b = other.observe(cells);
  const what: { name: string; ours: number; other: number }[] = [];
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i])
      what.push({ name: names[i] ?? `[0x${cells[i - names.length].toString(16)}]`, ours: a[i], other: b[i] });
  }
  return what.length === 0 ? null : { step: nr, what };
}

/**
 * Runs steps until they end or the rigs differ. @param names of the registers that the rigs observe
 * @param done hears of every step, for a record
 */
export function compare(
  ours: Rig,
  other: Rig,
  steps: Iterable<Step>,
  names: readonly string[],
  done: (step: Step) => void = () => {},
): Comparison {
  let nr = 0;
  let dmas = 0;
  for (const step of steps) {
    nr += 1;
    done(step);
    if (step.op === 'dma-write' || step.op === 'dma-copy') dmas += 1;
    let difference: Difference | null;
    try {
      ours.step(step);
      other.step(step);
      difference = differenceAfter(ours, other, step, nr, names);
    } catch (error) {
      difference = deathAt(nr, error);
    }
    if (difference !== null) return { steps: nr, dmas, difference };
  }
  return { steps: nr, dmas, difference: null };
}

/**
 * Leaves out steps as long as the rest still differs (delta debugging by halves, then quarters, ... single steps).
 * @param differs runs a program on fresh rigs
 */
export function shrink(steps: readonly Step[], differs: (steps: readonly Step[]) => boolean): readonly Step[] {
  let rest = steps;
  for (let length = Math.ceil(rest.length / 2); length >= 1; length = length === 1 ? 0 : Math.ceil(length / 2)) {
    for (let at = 0; at < rest.length;) {
      const candidate = [...rest.slice(0, at), ...rest.slice(at + length)];
      if (candidate.length < rest.length && differs(candidate)) rest = candidate;
      else at += length;
    }
  }
  return rest;
}
