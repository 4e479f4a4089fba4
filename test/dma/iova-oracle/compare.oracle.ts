/**
 * The allocator beside the kernel's own: random streams, every result and every search state compared. Run by hand
 * (`npm run oracle:iova`), since it fetches 140 MB and needs cc. IOVA_CALLS sets the calls per profile, IOVA_SEED the seed.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { IOVA_LINUX_6_1, IOVA_LINUX_6_12 } from '../../../src/dma/index.ts';
import { CALL, CALL_FIELDS, PROFILES, RESULT_FIELDS, nrOverflows, runStream } from '../iova-stream.ts';

const CALLS = Number(process.env['IOVA_CALLS'] ?? 400_000);
const SEED = Number(process.env['IOVA_SEED'] ?? 1);
const CALLS_PER_STREAM = 100_000;
const NAMES = Object.keys(CALL);

describe.each([
  { kernel: '6.1', preset: IOVA_LINUX_6_1 },
  { kernel: '6.12', preset: IOVA_LINUX_6_12 },
])('Linux $kernel', ({ kernel, preset }) => {
  const built = execFileSync(join(import.meta.dirname, 'build.sh'), [kernel], { encoding: 'utf8' });
  const [program, version] = built.trim().split(' ');

  test.each(PROFILES)(`$name, as linux-source-${kernel} ${version}`, { timeout: 3_600_000 }, (profile) => {
    let failures = 0;
    let overflows = 0;
    for (let done = 0, seed = SEED; done < CALLS; done += CALLS_PER_STREAM, seed++) {
      const { calls, results } = runStream(profile, seed, CALLS_PER_STREAM, preset);
      const { stdout, status } = spawnSync(program, ['compare'], {
        input: new Uint8Array(calls.buffer),
        maxBuffer: 2 ** 30,
      });
      expect(status, `seed ${seed}`).toBe(0);
      const theirs = new Float64Array(new Uint8Array(stdout).buffer);
      expect(theirs.length).toBe(results.length);
      for (let at = 0; at < results.length; at++) {
        if (results[at] === theirs[at]) continue;
        const call = Math.floor(at / RESULT_FIELDS);
        const row = (index: number): string => {
          const [kind, ...rest] = calls.slice(index * CALL_FIELDS, (index + 1) * CALL_FIELDS);
          const ours = results.slice(index * RESULT_FIELDS, (index + 1) * RESULT_FIELDS);
          const linux = theirs.slice(index * RESULT_FIELDS, (index + 1) * RESULT_FIELDS);
          return `${index} ${NAMES[kind]}(${rest.join(', ')}) = ${ours.join(' ')}; Linux ${linux.join(' ')}`;
        };
        const rows = Array.from({ length: Math.min(call, 4) + 1 }, (_, back) => row(call - Math.min(call, 4) + back));
        expect.fail(`seed ${seed}:\n${rows.join('\n')}`);
      }
      for (let at = 0; at < results.length; at += RESULT_FIELDS) failures += results[at] === -12 ? 1 : 0;
      overflows += nrOverflows({ calls, results });
    }
    console.log(
      `${kernel} ${profile.name}: ${CALLS} calls alike, ${failures} ENOMEM, ${overflows} overflows of a depot`,
    );
  });
});
