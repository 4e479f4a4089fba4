/** One plan under all the policies asked for, one after the other, and the comparison of one of them with a log. */
import type { MapFlush } from '../drivers/index.ts';
import { amdPreset, intelPreset } from '../drivers/index.ts';
import type { Comparison } from './compare.ts';
import { compareRun } from './compare.ts';
import type { HardwareModel } from './machines.ts';
import type { Observed } from './observed.ts';
import type { Plan } from './plan.ts';
import type { RunResult, UnmapPolicy } from './player.ts';
import { Player } from './player.ts';
import type { RunObserver } from './run-observer.ts';

/** What is played. */
export interface PolicyOptions {
  readonly model: HardwareModel;
  readonly preset: string;
  readonly cachingMode: boolean;
  readonly mapFlush: readonly MapFlush[];
  readonly unmapFlush: readonly UnmapPolicy[];
  /** The log to compare with, and the name of its file; null for no comparison. */
  readonly observed: Observed | null;
  readonly observedFile: string;
  /** Asked before each run who watches it; null or absent: nobody. */
  readonly observerOf?: (mapFlush: MapFlush, unmapFlush: UnmapPolicy) => RunObserver | null;
}

/** What is done between two pieces of work. */
export interface PolicyTurns {
  /** Calls played so far, of all policies. */
  onProgress(done: number, total: number): void;
  /** Lets other work run. @returns false to stop here */
  pause(): Promise<boolean>;
}

/** A run held against a log. */
export type ComparedRun = Comparison & {
  readonly file: string;
  readonly mapFlush: string;
  readonly unmapFlush: string;
};

export interface PolicyResults {
  /** Those played until `pause` said to stop; the last one then is not complete. */
  readonly runs: readonly RunResult[];
  readonly isComplete: boolean;
  readonly compare: ComparedRun | undefined;
}

/** Calls played between two pauses: some 20 ms of them. */
const CALLS_PER_TURN = 50_000;

export async function playPolicies(plan: Plan, options: PolicyOptions, turns: PolicyTurns): Promise<PolicyResults> {
  const { model, preset, cachingMode, observed } = options;
  const compared = observed === null ? null : comparedPolicy(options, observed);
  const runs: RunResult[] = [];
  let compare: ComparedRun | undefined;
  const nrCalls = plan.nrRecords * options.mapFlush.length * options.unmapFlush.length;
  let nrBefore = 0;
  for (const mapFlush of options.mapFlush) {
    for (const unmapFlush of options.unmapFlush) {
      const keepPages = compared?.mapFlush === mapFlush && compared.unmapFlush === unmapFlush;
      const observer = options.observerOf?.(mapFlush, unmapFlush) ?? null;
      const watched = observer === null ? {} : { observer };
      const player = new Player(plan, { model, preset, mapFlush, unmapFlush, cachingMode, keepPages, ...watched });
      let goesOn = true;
      while (goesOn && player.step(CALLS_PER_TURN)) {
        turns.onProgress(nrBefore + player.nrDone, nrCalls);
        goesOn = await turns.pause();
      }
      nrBefore += player.nrDone;
      const result = player.result();
      runs.push(result);
      if (!goesOn) return { runs, isComplete: false, compare };
      if (keepPages && observed !== null && player.pages !== null) {
        const domainsTold = plan.rule === 'dma-events' && plan.inferredDomains === 0;
        const side = { pages: player.pages, counts: result.commands, domainsTold, marks: player.marks };
        compare = { file: options.observedFile, mapFlush, unmapFlush, ...compareRun(side, observed) };
      }
    }
  }
  return { runs, isComplete: true, compare };
}

/**
 * Which of the asked-for policies the log is held against: the kernel's own place for the map flush, and of the unmap
 * policies `recorded`, or the one that the log shows.
 */
function comparedPolicy(
  { model, preset, mapFlush, unmapFlush }: PolicyOptions,
  observed: Observed,
): { readonly mapFlush: MapFlush | undefined; readonly unmapFlush: UnmapPolicy | undefined } {
  const own = (model === 'amdvi' ? amdPreset(preset) : intelPreset(preset)).mapFlush;
  const shown: UnmapPolicy = observed.showsLazyUnmaps ? 'lazy' : 'strict';
  const likeIt = (['recorded', shown] as const).find((policy) => unmapFlush.includes(policy));
  return {
    mapFlush: mapFlush.includes(own) ? own : mapFlush[0],
    unmapFlush: likeIt ?? unmapFlush[0],
  };
}
