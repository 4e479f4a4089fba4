/** What the worker can be asked for, one method per job. Every view adds its own here and implements it in its own folder. */
import type { JobContext } from './protocol.ts';

export interface Jobs {
  /** Answers with the same text: shows that the worker runs. */
  echo(input: { readonly text: string }, context: JobContext): Promise<{ readonly text: string }>;
}

export const JOBS: Jobs = {
  echo: async ({ text }) => await Promise.resolve({ text }),
};
