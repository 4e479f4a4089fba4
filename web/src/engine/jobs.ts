/** What the worker can be asked for, one method per job. Every view adds its own here and implements it in its own folder. */
import type { Sequence } from '../../../src/lab/index.ts';
import type { Wanted } from '../findings/finding-jobs.ts';
import type { StoryEnd } from '../../../src/lab/index.ts';
import type { WalkAnswer } from '../walk/walk-jobs.ts';
import type { ReplayReport } from '../../../src/report/index.ts';
import type { KeptTrace, MachineChoice, PlayInput, PlayedPolicy } from '../policies/policy-jobs.ts';
import type { JobContext, Moved } from './protocol.ts';

export interface Jobs {
  /** Answers with the same text: shows that the worker runs. */
  echo(input: { readonly text: string }, context: JobContext): Promise<{ readonly text: string }>;
  /** Plays a schedule (iommukit.schedule/1). */
  playCounterexample(input: { readonly text: string }, context: JobContext): Promise<Sequence>;
  /** Looks for a schedule that shows a finding of `iommukit check`, and plays it; null when there is none. */
  findCounterexample(input: Wanted, context: JobContext): Promise<Sequence | null>;
  /** Reads and plays a link of the walk view. @throws JobError for one that cannot be read */
  walk(input: { readonly link: readonly (readonly [string, string])[] }, context: JobContext): Promise<WalkAnswer>;
  /** How the dispute of 2019 ends on each machine. */
  story(input: object, context: JobContext): Promise<readonly StoryEnd[]>;
  /** Reads a trace and keeps it for the two below. @throws JobError for a file that is none; what was kept before stays then */
  keepTrace(
    input: { readonly file: Blob; readonly name: string; readonly tellsRecorded: boolean },
    context: JobContext,
  ): Promise<KeptTrace>;
  /** What is known of a kept trace before it is played. @throws JobError for a choice that does not fit it */
  describeTrace(
    input: { readonly trace: number; readonly choice: MachineChoice },
    context: JobContext,
  ): Promise<ReplayReport>;
  /** Plays a kept trace under one policy. */
  playPolicy(input: PlayInput, context: JobContext): Promise<Moved<PlayedPolicy>>;
}

export const JOBS: Jobs = {
  echo: async ({ text }) => await Promise.resolve({ text }),
  playCounterexample: async ({ text }) => (await import('../findings/finding-jobs.ts')).playCounterexample(text),
  findCounterexample: async (wanted) => (await import('../findings/finding-jobs.ts')).findCounterexample(wanted),
  walk: async ({ link }) => (await import('../walk/walk-jobs.ts')).playLink(link),
  story: async () => (await import('../walk/walk-jobs.ts')).storyTable(),
  keepTrace: async (input, context) => await (await import('../policies/policy-jobs.ts')).keepTrace(input, context),
  describeTrace: async ({ trace, choice }) => (await import('../policies/policy-jobs.ts')).describeTrace(trace, choice),
  playPolicy: async (input, context) => await (await import('../policies/policy-jobs.ts')).playPolicy(input, context),
};
