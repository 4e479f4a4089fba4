// Spilled blocks come back, and trouble with them is not taken for trouble with the trace that is being read.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FileError } from '../../src/cli/file-error.ts';
import { readTrace } from '../../src/cli/input.ts';
import { FileSpill } from '../../src/cli/spill.ts';
import { BLOCK_DOUBLES } from '../../src/replay/index.ts';
import { Names } from '../../src/trace/index.ts';
import { MAP } from './program.ts';

let place = '';
beforeEach(() => void (place = mkdtempSync(join(tmpdir(), 'spill-test-'))));
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(place, { recursive: true, force: true });
});

const bytesOf = (data: Float64Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const block = (seed: number): Float64Array => Float64Array.from({ length: BLOCK_DOUBLES }, (_, i) => seed * 1e6 + i);

test('blocks come back, and nothing stays behind', () => {
  vi.stubEnv('TMPDIR', place);
  const spill = new FileSpill();
  for (const number of [0, 1, 2]) spill.write(number, block(number));
  const into = new Float64Array(BLOCK_DOUBLES);
  for (const number of [2, 0, 1]) {
    spill.read(number, into);
    expect(Buffer.compare(bytesOf(into), bytesOf(block(number)))).toBe(0);
  }
  spill.close();
  expect(readdirSync(place)).toEqual([]);
});

test('a spill that fails while a trace is read is named as such', async () => {
  const trace = join(place, 'trace.txt');
  writeFileSync(trace, MAP);
  vi.stubEnv('TMPDIR', join(place, 'gone'));
  const spill = new FileSpill();
  const sink = { skipped() {}, event: () => spill.write(0, block(0)) };
  const error = await readTrace(trace, new Names(), sink).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(FileError);
  expect((error as FileError).message).toBe(
    `${join(place, 'gone')}: cannot hold a temporary file (there is no such folder); set TMPDIR to a folder with room that can be written`,
  );
});
