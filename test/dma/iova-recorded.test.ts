/** What Linux's own allocator answered, call by call (data/README.md says how it was recorded). */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { IOVA_LINUX_6_1, IOVA_LINUX_6_12 } from '../../src/dma/index.ts';
import { DATA, Replay, readRecording } from './iova-recording.ts';
import { CALL, PROFILES, nrOverflows, runStream } from './iova-stream.ts';

const PRESETS = { '6.1': IOVA_LINUX_6_1, '6.12': IOVA_LINUX_6_12 };
const ENOMEM = -12;

interface Hashed {
  readonly kernel: keyof typeof PRESETS;
  readonly profile: string;
  readonly seed: number;
  readonly calls: number;
  readonly hash: string;
}

describe.each(Object.entries(PRESETS))('Linux %s', (kernel, preset) => {
  const streams = readRecording(`iova-linux-${kernel}.txt.gz`);

  test.each(streams)('$name: every page as recorded', ({ rows }) => {
    const replay = new Replay(preset);
    const wrong = rows.findIndex((row) => replay.apply(row) !== row[4]);
    expect(wrong, wrong < 0 ? '' : `call ${wrong}: ${rows[wrong].join(' ')}`).toBe(-1);
  });

  test('the streams reach what is worth recording', () => {
    const rows = streams.flatMap((stream) => stream.rows);
    const seen = new Set(rows.map(([kind]) => kind));
    expect([...seen].sort((a, b) => a - b)).toEqual(Object.values(CALL));
    expect(rows.filter((row) => row[4] === ENOMEM).length).toBeGreaterThan(30);
    // Above 4 GiB, and within.
    expect(rows.some((row) => row[4] >= 2 ** 30)).toBe(true);
  });
});

describe('longer streams, by the hash of every result and search state of the kernel', () => {
  const rows = JSON.parse(readFileSync(join(DATA, 'iova-hashes.json'), 'utf8')) as readonly Hashed[];

  test.each(rows)('Linux $kernel $profile, $calls calls', ({ kernel, profile, seed, calls, hash }) => {
    const found = PROFILES.find(({ name }) => name === profile)!;
    const stream = runStream(found, seed, calls, PRESETS[kernel]);
    expect(createHash('sha256').update(new Uint8Array(stream.results.buffer)).digest('hex').slice(0, 16)).toBe(hash);
    // IOVA-AGE: each time 127 ranges go to the tree at once. From 6.7 on the depot has no limit.
    if (profile === 'aged') expect(nrOverflows(stream) > 0).toBe(kernel === '6.1');
  });
});
