/** A program for a lab machine, and what is known after each of its steps. Plain data throughout. */
import type { Finding, Possible } from '../sanitizer/index.ts';
import type { LabAction } from './action.ts';
import type { LabConfig } from './config.ts';
import type { Answer, CommandView, FaultView, MachineView } from './view.ts';

/** What is played: actions on a machine; with a scenario of src/check, its calls are the actions `call`. */
export interface LabProgram {
  readonly config: LabConfig;
  /** Name of a scenario, '' for none: then the machine starts with the first device attached. */
  readonly scenario: string;
  readonly actions: readonly LabAction[];
}

/**
 * How a step ended. `done`: as asked. `refused`: the lab or the kernel said no. `reached`: a DMA came through, as promised.
 * `blocked`: a DMA was stopped, as promised. `fault`: a DMA was stopped although the page was promised. `leak`: a DMA reached
 * memory that was not promised, or not there. `open`: it reached a page whose flush a queue still holds back.
 */
export type Result = 'done' | 'refused' | 'reached' | 'blocked' | 'fault' | 'leak' | 'open';

export interface StepReport {
  /** 0 is the machine as it starts; step n is after the n-th action. */
  readonly step: number;
  /** What was done, in words. */
  readonly label: string;
  readonly result: Result;
  /** What came of it, in words. */
  readonly text: string;
  /** Invalidations that the unit executed in this step; waits are not counted. */
  readonly nrCommands: number;
  /** Findings of the sanitizer that are new. */
  readonly nrFindings: number;
}

/** What callers were promised about the page in focus. */
export interface PromiseView {
  /** `mapped`, `queued` (unmapped, its flush outstanding), `gone`, `never` mapped; `detached`: the device has no address space. */
  readonly state: 'mapped' | 'queued' | 'gone' | 'never' | 'detached';
  readonly answer: Answer;
  readonly text: string;
}

/** A value that the hardware may hold, by what the driver did alone, and whether this unit does hold it. */
export interface MayHold extends Possible {
  /** Null where the unit cannot be asked: memory itself, stores that are late. */
  readonly isHeld: boolean | null;
  /** What it gives is not what was promised. */
  readonly isWrong: boolean;
}

/** A mapping of the program. */
export interface MappingView {
  readonly page: number;
  readonly nr: number;
  readonly state: 'mapped' | 'queued';
}

/** A fault and the step that it happened in. The kernel takes records out of the unit's log before the next step. */
export interface LoggedFault extends FaultView {
  readonly step: number;
  /** Still in the unit's log. */
  readonly isPending: boolean;
}

/** A machine after one step of its program. */
export interface LabSnapshot {
  readonly report: StepReport;
  readonly machine: MachineView;
  readonly promise: PromiseView;
  readonly mayHold: readonly MayHold[];
  /** All faults so far, oldest first. */
  readonly faults: readonly LoggedFault[];
  /** All findings so far. */
  readonly findings: readonly Finding[];
  /** What the unit executed in this step, waits included. */
  readonly commands: readonly CommandView[];
  /** Invalidations since the start, the driver's own start not counted. */
  readonly nrCommands: number;
  /** Runs of mapped pages in the address space of the device in focus, lowest first. */
  readonly mappings: readonly MappingView[];
  /** Of the machine's clock. */
  readonly nowNs: number;
}

/** A program played to its end. */
export interface LabRun {
  /** One for the start and one for each action. */
  readonly steps: readonly StepReport[];
  /** After the step that was asked for, and after the one before (null at the start). */
  readonly now: LabSnapshot;
  readonly before: LabSnapshot | null;
}
