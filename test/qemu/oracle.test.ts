/** Our model beside QEMU's: a slice of `npm run oracle`. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PLANTED_FAULTS, runVtdSeed } from '../../src/oracle/index.ts';
import { needTool } from '../skip.ts';

const QEMU = 'qemu-system-x86_64';
const folder = mkdtempSync(join(tmpdir(), 'iommukit-oracle-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('random VT-d programs', () => {
  it('no difference in 3 programs of 3,000 steps', (context) => {
    needTool(context, QEMU);
    for (const seed of [1, 2, 3]) {
      const { difference, dmas } = runVtdSeed(QEMU, seed, 3000);
      expect(difference).toBeNull();
      expect(dmas).toBeGreaterThan(300);
    }
  });

  it('a planted fault is found, and the program up to it is kept', (context) => {
    needTool(context, QEMU);
    const fault = PLANTED_FAULTS.find(({ id }) => id === 'offset-lost');
    const { difference, program } = runVtdSeed(QEMU, 1, 3000, fault?.makeUnit);
    expect(difference).not.toBeNull();
    expect(program.length).toBe(difference?.step);
  });
});

describe('the command', () => {
  const run = (...args: string[]): { code: number | null; err: string } => {
    const { status, stderr } = spawnSync(process.execPath, ['dist/oracle/main.js', ...args], { encoding: 'utf8' });
    return { code: status, err: stderr };
  };
  it('says how to get a QEMU that is not there', () => {
    const { code, err } = run('--qemu', '/nowhere/qemu');
    expect([code, err]).toEqual([2, expect.stringMatching(/cannot be run\. Debian: apt-get install qemu-system-x86/)]);
  });
  it('refuses a file that is no program', (context) => {
    needTool(context, QEMU);
    const path = join(folder, 'bad.json');
    for (const [text, message] of [
      ['<html>', /is no program of the oracle/],
      [
        '{"schema":"iommukit.oracle-program/1","steps":[{"op":"dma-write","device":9,"iova":0,"value":1}]}',
        /step 0 is none/,
      ],
      ['{"schema":"other"}', /"schema" is not/],
    ] as const) {
      writeFileSync(path, text);
      const { code, err } = run('--replay', path);
      expect(code).toBe(2);
      expect(err).toMatch(message);
    }
  });
});
