/** Our models beside QEMU's: a slice of `npm run oracle`, and the command itself. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { OracleArch } from '../../src/oracle/index.ts';
import {
  AMDVI_FAULTS,
  VTD_FAULTS,
  loadProgram,
  runProgram,
  runRandom,
  runStack,
  saveProgram,
  shrinkProgram,
} from '../../src/oracle/index.ts';
import { Qtest } from '../../src/qemu/index.ts';
import { needTool } from '../skip.ts';

const QEMU = 'qemu-system-x86_64';
const MAIN = join(import.meta.dirname, '../../dist/oracle/main.js');
const folder = mkdtempSync(join(tmpdir(), 'iommukit-oracle-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const arches: readonly OracleArch[] = ['intel', 'amd'];

describe.each(arches)('random programs, %s', (arch) => {
  it('no difference in 2 programs of 3,000 steps', (context) => {
    needTool(context, QEMU);
    for (const seed of [1, 2]) {
      const { difference, dmas } = runRandom({ arch, binary: QEMU, seed, nrSteps: 3000 });
      expect(difference).toBeNull();
      expect(dmas).toBeGreaterThan(300);
    }
  });

  it('a planted fault is found', (context) => {
    needTool(context, QEMU);
    const fault = [...VTD_FAULTS, ...AMDVI_FAULTS].find(
      (each) => each.arch === arch && each.id.endsWith('offset-lost'),
    );
    if (fault === undefined) throw new Error('no such fault');
    const { difference, program } = runRandom({ arch, binary: QEMU, seed: 1, nrSteps: 3000, makeUnit: fault.makeUnit });
    expect(difference).not.toBeNull();
    expect(program.steps.length).toBe(difference?.step);
  });
});

it('a difference is shrunk to a short program, which a file keeps and which shows it again', (context) => {
  needTool(context, QEMU);
  const makeUnit = VTD_FAULTS.find(({ id }) => id === 'offset-lost')?.makeUnit;
  if (makeUnit === undefined) throw new Error('no such fault');
  const { difference, program } = runRandom({ arch: 'intel', binary: QEMU, seed: 1, nrSteps: 3000, makeUnit });
  if (difference === null) throw new Error('not found');
  const short = shrinkProgram(QEMU, program, difference, makeUnit);
  if (short === null) throw new Error('not found again');
  expect(short.steps.length).toBeLessThan(25);
  const path = join(folder, 'short.json');
  saveProgram(path, short);
  expect(loadProgram(path)).toEqual(short);
  expect(runProgram(QEMU, loadProgram(path), makeUnit).difference?.what.length).toBeGreaterThan(0);
  expect(runProgram(QEMU, loadProgram(path)).difference).toBeNull();
});

it('planted faults: at least 20 of VT-d, some of AMD-Vi, each with a name of its own', () => {
  expect(VTD_FAULTS.length).toBeGreaterThanOrEqual(20);
  expect(AMDVI_FAULTS.length).toBeGreaterThanOrEqual(10);
  const ids = [...VTD_FAULTS, ...AMDVI_FAULTS].map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
});

it('a QEMU that dies is a finding, with what was done to it last', (context) => {
  needTool(context, QEMU);
  const dying = join(folder, 'dying-qemu');
  writeFileSync(dying, `#!/bin/sh\nexec timeout -s KILL 0.8 ${QEMU} "$@"\n`, { mode: 0o755 });
  const { difference, steps, program } = runRandom({ arch: 'intel', binary: dying, seed: 1, nrSteps: 1_000_000 });
  expect(difference?.death).toMatch(/^QEMU died[^]*last commands:[^]*write/);
  expect(difference?.step).toBe(steps);
  expect(program.steps.length).toBe(steps);
  if (difference === null) throw new Error('did not die');
  // Another QEMU does not die of it.
  expect(shrinkProgram(QEMU, { arch: 'intel', steps: program.steps.slice(0, 50) }, difference)).toBeNull();
});

it('a QEMU that dies while a register is polled: what came before is still there', (context) => {
  needTool(context, QEMU);
  const qtest = new Qtest({ binary: QEMU, devices: [] });
  try {
    qtest.writel(0x1000, 7);
    for (let i = 0; i < 500; i++) qtest.readl(0x1000);
    expect(() => qtest.ask('nonsense')).toThrow(
      /last commands:\nwritel 0x1000 0x7\nreadl 0x1000 \(500 times\)\nnonsense$/,
    );
  } finally {
    qtest.close();
  }
});

it('a QEMU that does not start, although it is there, is a finding', (context) => {
  needTool(context, QEMU);
  const broken = join(folder, 'broken-qemu');
  const script = `#!/bin/sh\n[ "$1" = --version ] && exec ${QEMU} --version\necho no more >&2\nexit 3\n`;
  writeFileSync(broken, script, { mode: 0o755 });
  const death = { step: 0, what: [], death: expect.stringContaining('broken-qemu does not start: no more') };
  expect(runRandom({ arch: 'intel', binary: broken, seed: 1, nrSteps: 10 }).difference).toEqual(death);
  expect(runStack({ arch: 'amd', binary: broken, seed: 1, steps: 10, lazy: false }).difference).toEqual(death);
});

describe('the command', () => {
  const run = (...args: string[]): { code: number | null; err: string } => {
    const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
    return { code: status, err: stderr };
  };

  it.each([
    ['is none', 'echo something else', /is no QEMU: its version is 'something else'/],
    [
      'says something else',
      `[ "$1" = --version ] && exec ${QEMU} --version; echo hello; exec sleep 60`,
      /does not speak qtest: "hello\\n"/,
    ],
  ])('refuses a QEMU that %s', (_what, script, message) => {
    const path = join(folder, 'no-qemu');
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const { code, err } = run('--qemu', path);
    expect([code, err]).toEqual([2, expect.stringMatching(message)]);
  });

  it('says how to get a QEMU that is not there', () => {
    const { code, err } = run('--qemu', '/nowhere/qemu');
    expect([code, err]).toEqual([2, expect.stringMatching(/cannot be run\. Debian: apt-get install qemu-system-x86/)]);
  });

  it('prints its results as JSON, and says so where there are no recordings', (context) => {
    needTool(context, QEMU);
    const args = ['--seed', '7', '--seeds', '1', '--steps', '500', '--no-planted', '--json', '--traces', folder];
    const results: unknown = JSON.parse(execFileSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' }));
    expect(results).toMatchObject({
      schema: 'iommukit.oracle/1',
      qemu: expect.stringMatching(/QEMU emulator version/),
      differences: 0,
      findings: [],
      random: { intel: { programs: 1, differences: 0 }, amd: { programs: 1, differences: 0 } },
      stack: { intel: { programs: 2, differences: 0 }, amd: { programs: 2, differences: 0 } },
      planted: [],
      recorded: {
        translations: 0,
        agree: 0,
        absent: expect.stringContaining(`no run with a trace and a log of translations in ${folder}`),
      },
      conformance: { failures: [] },
    });
    const { conformance } = results as { conformance: { cases: number; passed: number } };
    expect(conformance.cases).toBeGreaterThanOrEqual(150);
    expect(conformance.passed).toBe(conformance.cases);
    const { steps, random } = results as { steps: number; random: Record<OracleArch, { steps: number }> };
    expect(steps).toBe(random.intel.steps + random.amd.steps);
    expect(random.intel.steps).toBeGreaterThanOrEqual(500);
  });

  it.for([
    ['SIGINT', 'starts', /^ *\d+ \/bin\/sh /],
    // The first QEMU only shows that it can be used, and is gone sooner than that.
    ['SIGKILL', 'runs', /^ *([2-9]|\d{2,}) qemu/],
  ] as const)('leaves no QEMU and no file behind after %s while QEMU %s', async ([signal, , line], context) => {
    needTool(context, QEMU);
    const mark = join(folder, 'marked-qemu');
    const script = `#!/bin/sh\n[ "$1" = --version ] && exec ${QEMU} --version\nsleep 1\nexec ${QEMU} -name ${mark} "$@"\n`;
    writeFileSync(mark, script, { mode: 0o755 });
    const nrRunning = (like: RegExp): number =>
      execFileSync('ps', ['-eo', 'etimes=,args='], { encoding: 'utf8' })
        .split('\n')
        .filter((each) => each.includes(`${mark} `) && each.includes('-qtest') && like.test(each)).length;
    const child = spawn(process.execPath, [MAIN, '--qemu', mark, '--arch', 'intel', '--steps', '1000000'], {
      stdio: 'ignore',
      env: { ...process.env, TMPDIR: folder },
    });
    const until = async (isSo: () => boolean): Promise<void> => {
      for (let tries = 0; tries < 400 && !isSo(); tries++) await new Promise((done) => setTimeout(done, 50));
      expect(isSo()).toBe(true);
    };
    await until(() => nrRunning(line) > 0);
    child.kill(signal);
    await until(() => nrRunning(/ /) === 0);
    expect(execFileSync('ls', [folder], { encoding: 'utf8' })).not.toContain('iommukit-qemu-');
  });

  it('prints the program of a difference where no file can be written, and a case that fails; both make exit 1', (context) => {
    needTool(context, QEMU);
    const frail = join(folder, 'frail-qemu');
    const count = join(folder, 'count');
    // Its second start, which is the random program's, is killed; the fourth, which is for the cases, fails.
    const script = `#!/bin/sh
[ "$1" = --version ] && exec ${QEMU} --version
echo >>${count}
case $(wc -l <${count}) in
  2) exec timeout -s KILL 0.8 ${QEMU} "$@" ;;
  4) echo no more >&2; exit 3 ;;
esac
exec ${QEMU} "$@"
`;
    writeFileSync(frail, script, { mode: 0o755 });
    const args = ['--qemu', frail, '--arch', 'intel', '--seeds', '1', '--steps', '1000000', '--json'];
    const parts = ['--no-planted', '--no-stack', '--no-recorded'];
    // Nobody, root neither, makes files in /proc.
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args, ...parts], {
      cwd: '/proc',
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    expect(stderr).toMatch(/DIFFERENCE at step \d+: QEMU died/);
    expect(stderr).not.toMatch(/\n {4}at /);
    const [, said, text = ''] = /(the program cannot be kept: .*)\n.*\n(\{[^]*?\n\})\n/.exec(stderr) ?? [];
    expect(said).toMatch(/oracle-intel-1\.json/);
    const path = join(folder, 'printed.json');
    writeFileSync(path, text);
    expect(loadProgram(path).steps.length).toBeGreaterThan(0);
    expect(stderr).toMatch(/CASE FAILED: openvmm-vtd, ver_register \(.*\), on QEMU's unit: .*does not start: no more/);
    const { conformance } = JSON.parse(stdout) as { conformance: { cases: number; passed: number } };
    expect(conformance.cases).toBeGreaterThan(50);
    expect(conformance.passed).toBe(conformance.cases - 1);
    expect(status).toBe(1);
  });

  it('refuses a file that is no program', (context) => {
    needTool(context, QEMU);
    const path = join(folder, 'bad.json');
    const start = '{"schema":"iommukit.oracle-program/1"';
    for (const [text, message] of [
      ['<html>', /is no program of the oracle/],
      [`${start},"arch":"intel","steps":[{"op":"dma-write","device":9,"iova":0,"value":1}]}`, /step 0 is none/],
      [`${start},"steps":[]}`, /"arch" is neither intel nor amd/],
      [`${start},"arch":"amd"}`, /has no "steps"/],
      ['{"schema":"other"}', /"schema" is not/],
    ] as const) {
      writeFileSync(path, text);
      const { code, err } = run('--replay', path);
      expect(code).toBe(2);
      expect(err).toMatch(message);
    }
  });

  it.each([
    [['--seed', 'x'], /--seed wants a whole number, got 'x'/],
    [['--arch', 'arm'], /--arch is intel or amd, got 'arm'/],
    [['--what'], /--what/],
  ])('refuses %j', (args, message) => {
    const { code, err } = run(...args);
    expect([code, err]).toEqual([2, expect.stringMatching(message)]);
  });
});
