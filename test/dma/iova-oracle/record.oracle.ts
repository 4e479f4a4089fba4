/** Writes test/dma/data: streams with the kernel's results, and hashes of longer ones. Only with IOVA_RECORD=1. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { IOVA_LINUX_6_1, IOVA_LINUX_6_12 } from '../../../src/dma/index.ts';
import { DATA } from '../iova-recording.ts';
import { CALL_FIELDS, PROFILES, RESULT_FIELDS, runStream } from '../iova-stream.ts';

const KERNELS = [
  { kernel: '6.1', preset: IOVA_LINUX_6_1, nrRows: 2500 },
  { kernel: '6.12', preset: IOVA_LINUX_6_12, nrRows: 1000 },
];
const HASHED_CALLS = 12_000;
/** Of profiles with long phases, to fill a depot. */
const LONG_CALLS = 60_000;
const SEED = 20_000;

test.runIf(process.env['IOVA_RECORD'] === '1')('record', { timeout: 600_000 }, () => {
  mkdirSync(DATA, { recursive: true });
  const hashes: object[] = [];
  for (const { kernel, preset, nrRows } of KERNELS) {
    const built = execFileSync(join(import.meta.dirname, 'build.sh'), [kernel], { encoding: 'utf8' });
    const [program, version] = built.trim().split(' ');
    let text = '';
    for (const profile of PROFILES) {
      const nrCalls = profile.phase === undefined ? HASHED_CALLS : LONG_CALLS;
      const { calls } = runStream(profile, SEED, nrCalls, preset);
      const { stdout, status } = spawnSync(program, ['compare'], {
        input: new Uint8Array(calls.buffer),
        maxBuffer: 2 ** 30,
      });
      expect(status).toBe(0);
      const results = new Float64Array(new Uint8Array(stdout).buffer);
      text += `# ${profile.name}\n`;
      for (let row = 0; row < nrRows; row++) {
        const call = calls.subarray(row * CALL_FIELDS, (row + 1) * CALL_FIELDS);
        text += `${[...call, results[row * RESULT_FIELDS]].join(' ')}\n`;
      }
      const hash = createHash('sha256').update(stdout).digest('hex').slice(0, 16);
      hashes.push({ kernel, version, profile: profile.name, seed: SEED, calls: nrCalls, hash });
    }
    writeFileSync(join(DATA, `iova-linux-${kernel}.txt.gz`), gzipSync(text, { level: 9 }));
  }
  writeFileSync(join(DATA, 'iova-hashes.json'), `${JSON.stringify(hashes, null, 2)}\n`);
});
