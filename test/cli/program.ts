/** What the tests of the command line share: the built program as a process, a folder for its files, and two lines of a trace. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';

export const root = join(import.meta.dirname, '../..');
export const bin = join(root, 'bin/iommukit.js');
export const TRACE = join(root, 'traces/intel-cmon-strict-small-6.12/trace.txt.gz');
export const LOG = join(root, 'traces/intel-cmon-strict-small-6.12/qemu-inval.log.gz');
export const DAT = join(root, 'traces/intel-cmon-strict-small-6.1/trace.dat.gz');

/** Where the program runs and `file` writes: the folder of the test file that called `useFolder`. */
export let folder = '';

/** Gives a test file a folder, which is gone after its tests. */
export function useFolder(): void {
  let own = '';
  beforeAll(() => {
    own = mkdtempSync(join(tmpdir(), 'iommukit-cli-'));
    folder = own;
  });
  afterAll(() => rmSync(own, { recursive: true, force: true }));
}

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Given {
  readonly input?: Uint8Array | string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export function run(args: readonly string[], { input, env }: Given = {}): Outcome {
  return outcome(process.execPath, [bin, ...args], { input, env });
}

/** The same from a line of bash, in which `iommukit` stands for the program. */
export function bash(line: string, given: Given = {}): Outcome {
  return outcome('bash', ['-c', `iommukit() { "${process.execPath}" "${bin}" "$@"; }\n${line}`], given);
}

function outcome(program: string, args: readonly string[], { input, env }: Given): Outcome {
  const { status, stdout, stderr } = spawnSync(program, [...args], {
    cwd: folder,
    input,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    timeout: 60_000,
  });
  return { code: status, out: stdout, err: stderr };
}

export function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** One policy: the quickest run. */
export const one = ['--map-flush', 'sync-map', '--unmap-flush', 'strict'];
export const MAP =
  '  nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096\n';
export const UNMAP =
  '  nvme-1234    [003] d..1.  812.345990: unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096\n';
