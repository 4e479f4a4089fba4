/** The recorded runs the tests read: the shared ones when they are here, and those in the repository. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const FOLDERS = ['../../../shared/traces', '../../traces'].map((path) => fileURLToPath(new URL(path, import.meta.url)));

export interface Run {
  name: string;
  folder: string;
}

export function runsWith(file: string): Run[] {
  const runs: Run[] = [];
  for (const folder of FOLDERS) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      if (runs.every((run) => run.name !== name) && existsSync(join(path, file))) runs.push({ name, folder: path });
    }
  }
  return runs;
}

export function gunzipped(run: Run, file: string): Uint8Array {
  return gunzipSync(readFileSync(join(run.folder, file)));
}

export function countsOf(run: Run): Record<string, Record<string, number>> {
  return JSON.parse(readFileSync(join(run.folder, 'counts.json'), 'utf8')) as Record<string, Record<string, number>>;
}
