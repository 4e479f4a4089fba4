/** Programs in files (`iommukit.oracle-program/1`): what a difference leaves behind, and what `--replay` runs. */
import { readFileSync, writeFileSync } from 'node:fs';
import { QemuError } from '../qemu/index.ts';
import type { Program, Step } from './program.ts';
import { PROGRAM_SCHEMA } from './program.ts';

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

/** @throws QemuError for a file that is no program */
export function loadProgram(path: string): Program {
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
  if (!('arch' in data) || (data.arch !== 'intel' && data.arch !== 'amd')) {
    throw wrong('"arch" is neither intel nor amd');
  }
  if (!('steps' in data) || !Array.isArray(data.steps)) throw wrong('it has no "steps"');
  const steps = data.steps.map((step: unknown, nr) => {
    if (!isStep(step)) throw wrong(`step ${nr} is none`);
    return step;
  });
  return { arch: data.arch, steps };
}

/** What a program's file says. */
export function programText(program: Program): string {
  return `${JSON.stringify({ schema: PROGRAM_SCHEMA, ...program }, null, 1)}\n`;
}

/** @throws QemuError where it cannot be written */
export function saveProgram(path: string, program: Program): void {
  try {
    writeFileSync(path, programText(program));
  } catch (error) {
    throw new QemuError(`the program cannot be kept: ${error instanceof Error ? error.message : String(error)}`);
  }
}
