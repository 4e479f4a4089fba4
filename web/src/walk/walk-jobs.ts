/** The walk view's work, in the worker: reads what a link says and plays it. */
import {
  LabTextError,
  parseState,
  playProgram,
  scenarioActions,
  scenariosFor,
  storyEnds,
} from '../../../src/lab/index.ts';
import type { LabRun, LabState, StoryEnd } from '../../../src/lab/index.ts';
import { DEVICES } from '../../../src/check/index.ts';
import { JobError } from '../engine/protocol.ts';

/** A link, played. */
export interface WalkAnswer {
  readonly state: LabState;
  readonly run: LabRun;
  /** Scenarios that go with the machine. */
  readonly scenarios: readonly { readonly name: string; readonly title: string; readonly nrCalls: number }[];
}

/** @throws JobError when the link cannot be read; nothing is played then */
export function playLink(link: readonly (readonly [string, string])[]): WalkAnswer {
  const params = new Map(link);
  const state = read((key) => params.get(key) ?? null);
  const { program, step, iova, device } = state;
  const run = playProgram(program, step, { sid: DEVICES[device].sid, iova });
  const scenarios = scenariosFor(program.config).map(({ name, title }) => ({
    name,
    title,
    // Only the chosen one is played for it.
    nrCalls: name === program.scenario ? scenarioActions(program.config, name).length : 0,
  }));
  return { state, run, scenarios };
}

function read(get: (key: string) => string | null): LabState {
  try {
    return parseState(get);
  } catch (error) {
    throw error instanceof LabTextError ? new JobError(error.message) : error;
  }
}

export function storyTable(): StoryEnd[] {
  return storyEnds();
}
