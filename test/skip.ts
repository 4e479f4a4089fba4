/**
 * The two lawful reasons to skip. A tool that CI installs may be missing on a laptop, never in CI: `.ci/run` sets
 * IOMMUKIT_FORBID_SKIP=1 and the skip becomes a failure. The folder ../shared (all recordings, reference texts) is no part
 * of the project and may be missing anywhere.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'vitest';

const SHARED = join(import.meta.dirname, '../../shared');

/** Skips the running test when a program is not on PATH; fails it instead where skips are forbidden. */
export function needTool(context: Pick<TestContext, 'skip'>, tool: string): void {
  if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined) return;
  if (process.env['IOMMUKIT_FORBID_SKIP'] === '1')
    throw new Error(`${tool} is missing, and CI must install it (.ci/run)`);
  context.skip(`${tool} is not installed`);
}

/** The absolute path of something in ../shared; skips the running test when it is not there. */
export function needShared(context: Pick<TestContext, 'skip'>, path: string): string {
  const full = join(SHARED, path);
  if (!existsSync(full)) context.skip(`../shared/${path} is not part of the project and is not here`);
  return full;
}
