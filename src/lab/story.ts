/**
 * The dispute of April 2019 as four steps of a machine: a walk ahead of time leaves "not present" in the caches, the caller maps, the
 * device uses the mapping. Who has dropped the stale entry by then depends on the policy and on the caller. check's `disputeRow` judges
 * the same maps; here they are programs, to be looked at step by step.
 */
import { ARCHES, PRESETS_OF } from '../check/index.ts';
import type { Arch, CallerKind } from '../check/index.ts';
import type { MapFlush } from '../drivers/index.ts';
import { MAP_FLUSHES } from '../drivers/index.ts';
import { parseActions } from './action.ts';
import { DEFAULT_CONFIG } from './config.ts';
import { DEFAULT_IOVA } from './link.ts';
import { playProgram } from './play.ts';
import type { LabProgram, Result } from './snapshot.ts';

/** Callers of the story: the one that the patch of 2019 changed, and one that it forgot. */
export const STORY_CALLERS: readonly CallerKind[] = ['dma-iommu', 'vfio'];
/** Its last step, in which the device uses the mapping. */
export const STORY_STEP = 3;
const PAGE = 4096;

/** How the story ends on one machine. */
export interface StoryEnd {
  readonly arch: Arch;
  readonly caller: CallerKind;
  readonly mapFlush: MapFlush;
  readonly program: LabProgram;
  readonly result: Result;
  readonly text: string;
  /** Invalidations that the map of four scattered pages took. */
  readonly nrCommands: number;
}

export function storyProgram(arch: Arch, caller: CallerKind, mapFlush: MapFlush): LabProgram {
  const page = (DEFAULT_IOVA / PAGE).toString(16);
  const preset = PRESETS_OF[arch].find((name) => name === DEFAULT_CONFIG.preset) ?? PRESETS_OF[arch][0];
  return {
    config: { ...DEFAULT_CONFIG, arch, caller, mapFlush, preset },
    scenario: '',
    actions: parseActions(`p${page}.m${page}_4s.w${page}`),
  };
}

/** The story on every machine: by policy, then vendor, then caller. */
export function storyEnds(): StoryEnd[] {
  return MAP_FLUSHES.flatMap((mapFlush) =>
    ARCHES.flatMap((arch) =>
      STORY_CALLERS.map((caller): StoryEnd => {
        const program = storyProgram(arch, caller, mapFlush);
        const { steps } = playProgram(program, STORY_STEP, { sid: 0x10, iova: DEFAULT_IOVA });
        const { result, text } = steps[STORY_STEP];
        return { arch, caller, mapFlush, program, result, text, nrCommands: steps[2].nrCommands };
      }),
    ),
  );
}
