/** `iommukit check`: its options, exit codes, JSON, and modules that are no drivers. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SCENARIOS, explore, saveSchedule } from '../../src/check/index.ts';
import { file, folder, root, run, useFolder } from './program.ts';

useFolder();

/** A module inside the package's reach: it imports iommukit's own drivers by path. */
const drivers = join(root, 'dist/drivers/index.js');
const broken = `import { IntelIommu } from '${drivers}';
export default (platform, { arch, ...setup }) => new IntelIommu(platform, { ...setup, mapFlush: 'none' });`;

describe('iommukit check', () => {
  it('plays scenarios by name and exits 0 when all held', () => {
    const { code, out, err } = run(['check', '--scenario', 'map/one-page', '--preset', 'linux-6.12']);
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(/^no finding$/m);
    expect(out).toMatch(/known to fail, and why:/i);
  });

  it('prints the table of 2019 and plays everything', () => {
    const { code, out } = run(['check', '--driver', 'intel', '--caching-mode', 'on']);
    expect(out).toMatch(/^no finding$/m);
    expect(code).toBe(0);
    expect(out).toMatch(/^intel +vfio +VIOLATED +0 +VIOLATED +0 +held +16 +held +16$/m);
    expect(out).not.toMatch(/^amd/m);
  }, 120_000);

  it('stops at the bound of --budget, and says so: exit code 3', () => {
    const { code, out } = run(['check', '--scenario', 'hw/*', '--budget', '0.001']);
    expect(code).toBe(3);
    expect(out).toMatch(/the bound of --budget was reached/);
  });

  it('writes JSON', () => {
    const { code, out } = run(['check', '--json', '--scenario', 'map/*', '--driver', 'amd', '--caching-mode', 'on']);
    expect(code).toBe(0);
    const report: unknown = JSON.parse(out);
    expect(report).toMatchObject({ schema: 'iommukit.check/1', findings: [], complete: true, driver: null });
    const { scenarios } = report as { scenarios: { name: string; cases: number }[] };
    expect(scenarios.map(({ name }) => name)).toContain('map/one-page');
    for (const { name, cases } of scenarios) {
      expect(name).toMatch(/^map\//);
      expect(cases).toBeGreaterThan(10);
    }
  });

  it('plays random programs: the same seed, the same result', () => {
    const once = run(['check', '--driver', 'intel', '--random', '2000', '--seed', '5', '--json']);
    expect(once.code).toBe(0);
    expect(JSON.parse(once.out)).toMatchObject({ random: { seed: 5, asked: 2000, operations: 2000 }, scenarios: [] });
    expect(run(['check', '--driver', 'intel', '--random', '2000', '--seed', '5', '--json']).out).toBe(once.out);
  });

  it('checks a driver of the user and exits 1 with what it found', () => {
    const path = file('broken.mjs', broken);
    const { code, out } = run(['check', path, '--scenario', 'map/one-page']);
    expect(code).toBe(1);
    expect(out).toMatch(/^FINDING C-MAP-VISIBLE in map\/one-page \(intel, own driver, caching mode on, core\)$/m);
    const random = run(['check', path, '--random', '500', '--caching-mode', 'on']);
    expect(random.code).toBe(1);
    expect(random.out).toMatch(/random program of seed \d+, shortened:\n {4}map 0x/);
  });

  it('writes to files beside what it prints', () => {
    const [csv, json] = [join(folder, 'check.csv'), join(folder, 'check.json')];
    const { code, out } = run(['check', '--scenario', 'map/remap', '--driver', 'amd', '-o', csv, '-o', json]);
    expect(code).toBe(0);
    expect(out).toMatch(/no finding/);
    const { scenarios } = JSON.parse(readFileSync(json, 'utf8'));
    const [names = '', ...rows] = readFileSync(csv, 'utf8').trimEnd().split('\r\n');
    expect(names).toBe('kind,name,setup,verdict,contract,cases,held,known,findings,commands,detail');
    const [{ cases, held, known }] = scenarios;
    expect(rows.at(-1)).toMatch(new RegExp(`^scenario,map/remap,,held,,${cases},${held},${known},0,,`));
  });

  it('of one schedule there is no table', () => {
    const schedule = join(root, 'docs/counterexamples/bug-6.json');
    expect(run(['check', '--replay', schedule, '-o', join(folder, 'steps.csv')])).toMatchObject({
      code: 2,
      out: '',
      err: expect.stringMatching(/steps\.csv: the name must end in \.html, \.json, which says/),
    });
  });
});

describe('wrong usage is told in one line, exit code 2', () => {
  it.each([
    [['--scenario', 'nonsense/*'], /no scenario is named nonsense\/\*; there are map\/one-page/],
    [['--preset', 'linux-2.6'], /unknown --preset linux-2\.6; there are intel: linux-5\.1/],
    [['--preset', 'linux-5.3', '--driver', 'intel'], /unknown --preset linux-5\.3/],
    [['--driver', 'arm'], /Allowed choices are intel, amd/],
    [['--random', '1.5'], /'1\.5' is not a whole number of at least 1/],
    [['--random', '0'], /'0' is not a whole number/],
    [['--budget', '-1'], /'-1' is not a number of seconds above 0/],
    [['--mutants', '--random', '5'], /--mutants plays drivers with known bugs/],
    [['no-such-file.js'], /no-such-file\.js: does not exist/],
    [['.'], /is a folder/],
    [[join(root, 'README.md')], /README\.md: is no JavaScript module by its name/],
  ])('%j', (args, message) => {
    const { code, out, err } = run(['check', ...args]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/ at .*:\d+:\d+/);
  });
});

describe('the explorer', () => {
  it('tries every schedule of a small scenario, and the sanitizer agrees', () => {
    const { code, out } = run(['check', '--explore', '--scenario', 'map/one-page', '--driver', 'intel']);
    expect(code).toBe(0);
    expect(out).toMatch(
      /^[\d,]+ schedules and [\d,]+ states of the hardware explored; the sanitizer agrees in (\d+) of \1 cases$/m,
    );
  }, 120_000);

  it('saves a schedule that is played again, step by step: exit code 1', () => {
    const [scenario] = SCENARIOS;
    const { counterexamples } = explore(scenario, { arch: 'amd', caller: 'vfio', npCache: true, mapFlush: 'caller' });
    const path = file('schedule.json', saveSchedule(counterexamples[0].schedule));
    const { code, out } = run(['check', '--replay', path]);
    expect(code).toBe(1);
    expect(out).toMatch(/^ +\d+ +hardware +walk for .*0x40000000.*may be cached$/m);
    expect(out).toMatch(/^FINDING C-MAP-VISIBLE, as the file says$/m);
  });

  const examples = join(root, 'docs/counterexamples');
  it.each(readdirSync(examples).filter((name) => name.endsWith('.json')))('%s reproduces', (name) => {
    const path = join(examples, name);
    const { contract }: { contract: string } = JSON.parse(readFileSync(path, 'utf8'));
    const { code, out, err } = run(['check', '--replay', path]);
    expect([code, err]).toEqual([1, '']);
    expect(out).toContain(`\nFINDING ${contract}, as the file says\n`);
    expect(out).toMatch(/\^ (made stale here|wrong from here on)/);
    expect(out).toMatch(/\^ (returned|freed) too early/);
  });

  it('--save writes a file for each case that breaks a promise, which --replay plays', () => {
    const found = join(folder, 'found');
    const { code } = run(['check', '--explore', '--scenario', 'bug/26a', '--save', found]);
    expect(code).toBe(0);
    expect(readdirSync(found)).toEqual(['bug-26a.json']);
    const { out } = run(['check', '--replay', join(found, 'bug-26a.json')]);
    expect(out).toMatch(/^ +\^ made stale here: cached entry of a device, 00:02\.0/m);
    expect(out).toMatch(/^ +\^ returned too early$/m);
  }, 60_000);

  it('--save says what is wrong with its folder, and that it goes with --explore', () => {
    const path = file('taken', '');
    expect(run(['check', '--explore', '--scenario', 'bug/26a', '--save', path])).toMatchObject({ code: 2, out: '' });
    const { code, err } = run(['check', '--save', path]);
    expect([code, err]).toEqual([2, expect.stringContaining('--save is for the schedules that --explore finds')]);
  });

  it.each([
    ['no JSON', 'hello', /schedule\.json: /],
    ['another file', '{"schema":"iommukit.replay/1"}', /schedule\.json: /],
  ])('refuses %s', (_what, text, message) => {
    const { code, err } = run(['check', '--replay', file('schedule.json', text)]);
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/ at .*:\d+:\d+/);
  });
});

describe('modules that are no drivers', () => {
  it.each([
    ['nothing', '', /has no driver: its default export must be a function/],
    ['a number', 'export default 5;', /it is a number/],
    ['a syntax error', 'export default (', /cannot be loaded: SyntaxError/],
    ['an import that is not there', "import './nowhere.js';", /cannot be loaded: .*nowhere\.js/],
    ['a thread that ends itself', 'process.exit(0);', /ended its thread with code 0 \(while it was loaded\)/],
    ['a throw while loading', "throw new Error('bad day');", /cannot be loaded: Error: bad day/],
    ['another architecture', "export const arch = 'arm'; export default () => 1;", /exports arch = "arm"/],
  ])('%s: refused before anything is played', (_what, text, message) => {
    const path = file('module.mjs', text);
    const { code, err } = run(['check', path]);
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/ at .*:\d+:\d+/);
  });

  it.each([
    ['returns nothing', 'export default () => undefined;', /returned missing, not an IommuOps|returned undefined/],
    [
      'lacks methods',
      'export default () => ({ name: "x", domainAlloc() { return null; } });',
      /lacks domainFree, probeDevice/,
    ],
    ['throws', "export default () => { throw new Error('no unit'); };", /no unit/],
    [
      'waits for ever',
      'export default (platform) => { for (;;) platform.relax(); };',
      /waits for something that does not come/,
    ],
    [
      'gives no domains',
      `const ops = Object.fromEntries(['domainFree','probeDevice','releaseDevice','attachDev','detachDev','getResvRegions','mapPages','unmapPages','iotlbSyncMap','iotlbSync','flushIotlbAll','flushNpCache','iovaToPhys'].map((name) => [name, () => 0]));
       export default () => ({ name: 'x', ...ops, domainAlloc: () => null });`,
      /domainAlloc\(paging\) returned null/,
    ],
  ])('%s: a finding that says so', (_what, text, message) => {
    const path = file('module.mjs', text);
    const { code, out } = run(['check', path, '--scenario', 'map/one-page', '--caching-mode', 'off']);
    expect(code).toBe(1);
    expect(out).toMatch(/^FINDING failed in map\/one-page/m);
    expect(out).toMatch(message);
    expect(out).not.toMatch(/ at .*:\d+:\d+/);
  });
});

it('a driver that never returns is stopped', () => {
  const path = file('endless.mjs', 'export default () => { for (;;); };');
  const { code, err } = run(['check', path]);
  expect(code).toBe(2);
  expect(err).toMatch(/endless\.mjs: does not return \(in map\/one-page, 20 s\)/);
}, 90_000);
