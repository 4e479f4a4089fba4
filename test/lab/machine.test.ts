/** Lab machines: the dispute of 2019 step by step, looking that changes nothing, scenarios in steps. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SCENARIOS, SanitizerJudge, play } from '../../src/check/index.ts';
import type { Arch, CallerKind } from '../../src/check/index.ts';
import type { MapFlush } from '../../src/drivers/index.ts';
import {
  DEFAULT_CONFIG,
  parseActions,
  playProgram,
  scenarioActions,
  scenariosFor,
  snapshotAt,
  storyEnds,
} from '../../src/lab/index.ts';
import { stageSetup } from '../../src/lab/config.ts';
import { STOPPED } from '../../src/lab/lab.ts';
import type { LabConfig, LabProgram, LabRun, Result } from '../../src/lab/index.ts';
import { anyActions, anyConfig } from './arbitrary.ts';

const FOCUS = { sid: 0x10, iova: 0x4000_0000 };

function program(actions: string, config: Partial<LabConfig> = {}): LabProgram {
  return { config: { ...DEFAULT_CONFIG, ...config }, scenario: '', actions: parseActions(actions) };
}

function run(actions: string, config: Partial<LabConfig> = {}): LabRun {
  const made = program(actions, config);
  return playProgram(made, made.actions.length, FOCUS);
}

describe('the dispute of April 2019', () => {
  // Who may use a mapping at once, by the mails: nobody; callers that flush (the DMA API); everybody; everybody.
  const rows: [MapFlush, CallerKind, Result][] = [
    ['none', 'dma-iommu', 'fault'],
    ['none', 'vfio', 'fault'],
    ['caller', 'dma-iommu', 'reached'],
    ['caller', 'vfio', 'fault'],
    ['map', 'dma-iommu', 'reached'],
    ['map', 'vfio', 'reached'],
    ['sync-map', 'dma-iommu', 'reached'],
    ['sync-map', 'vfio', 'reached'],
  ];
  const cases = (['intel', 'amd'] as const).flatMap((arch: Arch) => rows.map((row) => [arch, ...row] as const));

  test.each(cases)('%s, %s, %s: a device that looked too early then gets: %s', (arch, mapFlush, caller, result) => {
    const { steps, now } = run('p40000.m40000_4s.w40000', { arch, mapFlush, caller });
    expect(steps.at(-1)?.result).toBe(result);
    expect(now.faults.length).toBe(result === 'fault' ? 1 : 0);
    expect(now.findings.length > 0).toBe(result === 'fault');
  });

  test.each(cases)(
    '%s, %s, %s: without caching of what is not present nothing can go wrong',
    (arch, mapFlush, caller) => {
      const { steps, now } = run('p40000.m40000_4s.w40000', { arch, mapFlush, caller, npCache: false });
      expect(steps.at(-1)?.result).toBe('reached');
      expect(now.findings).toEqual([]);
    },
  );

  test('the story has all of these ends', () => {
    const ends = storyEnds().map(({ arch, mapFlush, caller, result }) => [arch, mapFlush, caller, result]);
    expect(new Set(ends.map(String))).toEqual(new Set(cases.map(String)));
    // Four pages apart from each other: per callback four commands, per call one, from a caller that maps them in one call.
    const cost = (mapFlush: MapFlush): unknown[] =>
      storyEnds()
        .filter((end) => end.mapFlush === mapFlush && end.caller === 'dma-iommu')
        .map(({ nrCommands }) => nrCommands);
    expect([cost('none'), cost('caller'), cost('map'), cost('sync-map')]).toEqual([
      [0, 0],
      [1, 1],
      [4, 4],
      [1, 1],
    ]);
  });

  test.each(['intel', 'amd'] as const)('%s: the stale entry, and what the sanitizer says of it', (arch) => {
    const { now } = run('p40000.m40000_1', { arch, mapFlush: 'none' });
    const iotlb = now.machine.caches.find(({ cache }) => cache === 'iotlb')?.entries ?? [];
    expect(iotlb).toMatchObject([{ isNothing: true, isUsed: true, state: 'stale', iova: FOCUS.iova }]);
    expect(now.machine.walk.answer).toEqual({ paddr: 0x1_0000_0000, read: true, write: true });
    expect(now.machine.now).toEqual({ paddr: -1, read: false, write: false });
    expect(now.promise).toMatchObject({ state: 'mapped', answer: { paddr: 0x1_0000_0000 } });
    expect(now.mayHold[0]).toMatchObject({ from: 'memory', paddr: 0x1_0000_0000, isWrong: false });
    expect(now.mayHold.find(({ from }) => from === 'iotlb')).toMatchObject({ paddr: -1, isHeld: true, isWrong: true });
    expect(now.findings.map(({ contract }) => contract)).toEqual(['C-MAP-VISIBLE']);
  });

  test('what was never looked at may be held and is not', () => {
    const { now } = run('m40000_1', { mapFlush: 'none' });
    expect(now.mayHold.find(({ from }) => from === 'iotlb')).toMatchObject({ paddr: -1, isHeld: false, isWrong: true });
  });

  test('faults: VT-d reason 5 for a write, 6 for a read; AMD a page fault of an entry that is not present', () => {
    const vtd = run('r40000.w40000').now.faults;
    expect(vtd).toMatchObject([
      { step: 1, code: 6, access: 'read', isPending: false, device: '00:02.0', iova: FOCUS.iova },
      { step: 2, code: 5, access: 'write', isPending: true },
    ]);
    const amd = run('r40000.w40000', { arch: 'amd' }).now.faults;
    expect(amd).toMatchObject([
      { step: 1, name: 'IO_PAGE_FAULT', access: 'read', isPending: false },
      { step: 2, name: 'IO_PAGE_FAULT', access: 'write', isPending: true },
    ]);
  });

  test.each(['ip40000', 'id40000', 'ig40000'])('an invalidation by hand (%s) puts it right', (hand) => {
    for (const arch of ['intel', 'amd'] as const) {
      const { steps } = run(`p40000.m40000_1.w40000.${hand}.w40000`, { arch, mapFlush: 'none' });
      expect(steps.map(({ result }) => result)).toEqual(['done', 'done', 'done', 'fault', 'done', 'reached']);
      expect(steps[4]?.nrCommands).toBe(1);
    }
  });

  test('the entry leaves the caches by itself: the fault is gone, the finding stays', () => {
    const { machine } = run('p40000.m40000_1', { mapFlush: 'none' }).now;
    const evictions = machine.caches.flatMap(({ cache, entries }) =>
      entries.filter(({ state }) => state === 'stale').map(({ nth }) => `e${cache[0]}${nth}`),
    );
    expect(evictions).toHaveLength(2);
    const { steps, now } = run(`p40000.m40000_1.${evictions.join('.')}.w40000`, { mapFlush: 'none' });
    expect(steps.at(-1)?.result).toBe('reached');
    expect(now.findings).toHaveLength(1);
  });
});

test('a lazy unmap leaves a window that the queue closes', () => {
  const { steps } = run('m40000_1.w40000.u40000.w40000.m40000_1.t20.t20.w40000.m40000_1', { unmapFlush: 'lazy' });
  expect(steps.map(({ result }) => result)).toEqual([
    'done',
    'done',
    'reached',
    'done',
    'open',
    'refused',
    'done',
    'done',
    'blocked',
    'done',
  ]);
});

test('an entry that is cleared behind the driver is served from the IOTLB until that forgets it', () => {
  const { steps } = run('m40000_1.w40000.xc40000.w40000.ig40000.w40000');
  expect(steps.map(({ result }) => result)).toEqual(['done', 'done', 'reached', 'done', 'reached', 'done', 'fault']);
});

test('a detached device reaches nothing, and again what is mapped when it comes back', () => {
  for (const arch of ['intel', 'amd'] as const) {
    const { steps } = run('m40000_1.w40000.d0.w40000.a0.w40000', { arch });
    expect(steps.map(({ result }) => result)).toEqual([
      'done',
      'done',
      'reached',
      'done',
      'blocked',
      'done',
      'reached',
    ]);
  }
});

test('512 pages in one run are one leaf of 2 MiB', () => {
  const { now } = run('m40000_200'.replace('200', '512'));
  expect(now.machine.walk.entries.at(-1)).toMatchObject({ level: 2, kind: 'page' });
});

test('a kernel that stops over an entry changed behind its back says so, and the machine goes on', () => {
  const { steps } = run('m40000_1.xc40000.u40000.m40001_1.w40001', { caller: 'iommufd' });
  expect(steps[3]).toMatchObject({ result: 'refused', text: expect.stringMatching(/^the kernel stopped: /) as string });
  expect(steps.at(-1)?.result).toBe('reached');
});

test('nothing but that makes a kernel stop', () => {
  const actions = anyActions(16).map((list) => list.filter((action) => action.do !== 'edit'));
  fc.assert(
    fc.property(anyConfig, actions, (config, list) => {
      const { steps } = playProgram({ config, scenario: '', actions: list }, list.length, FOCUS);
      expect(steps.filter(({ text }) => text.startsWith(STOPPED))).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test('what the lab refuses', () => {
  const { steps } = run('u40000.a0.m40000_1.m40000_1.mfee00_1.d1.ei99.n');
  expect(steps.map(({ result }) => result)).toEqual([
    'done',
    'refused',
    'refused',
    'done',
    'refused',
    'refused',
    'refused',
    'refused',
    'refused',
  ]);
});

test('the walk by memory is what the sanitizer reads, and what an emptied unit answers', () => {
  fc.assert(
    fc.property(anyConfig, anyActions(12), (config, actions) => {
      const emptied = [...actions, ...parseActions('ig40000.ic40000')];
      const { now, steps } = playProgram({ config, scenario: '', actions: emptied }, emptied.length, FOCUS);
      const { walk } = now.machine;
      const rights = (walk.answer.read ? 1 : 0) | (walk.answer.write ? 2 : 0);
      expect(now.mayHold[0]).toMatchObject({ from: 'memory', paddr: walk.answer.paddr, rights });
      if (steps.slice(-2).every(({ result }) => result === 'done')) expect(now.machine.now).toEqual(walk.answer);
    }),
    { numRuns: 200 },
  );
});

test('a driver as it is now keeps its promises, whatever is done to the hardware', () => {
  const actions = anyActions(16).map((list) => list.filter((action) => action.do !== 'edit'));
  fc.assert(
    fc.property(anyConfig, actions, (config, list) => {
      const fixed = { ...config, mapFlush: 'sync-map', preset: 'linux-6.12' } as const;
      const { steps, now } = playProgram({ config: fixed, scenario: '', actions: list }, list.length, FOCUS);
      expect(steps.filter(({ result }) => result === 'fault' || result === 'leak')).toEqual([]);
      expect(now.findings).toEqual([]);
    }),
    { numRuns: 200 },
  );
});

test('looking changes nothing, and the same program gives the same machine', () => {
  fc.assert(
    fc.property(anyConfig, anyActions(8), fc.nat(8), (config, actions, step) => {
      const made = { config, scenario: '', actions };
      const early = playProgram(made, step, { sid: 0xfb, iova: 0x1234_5000 });
      const late = playProgram(made, actions.length, FOCUS);
      expect(early.steps).toEqual(late.steps);
      expect(snapshotAt(made, step, FOCUS)).toEqual(playProgram(made, step, FOCUS).now);
    }),
    { numRuns: 60 },
  );
});

describe('scenarios in steps', () => {
  const configs: LabConfig[] = [
    DEFAULT_CONFIG,
    { ...DEFAULT_CONFIG, mapFlush: 'none' },
    { ...DEFAULT_CONFIG, arch: 'amd', caller: 'core', preset: 'linux-5.3' },
    { ...DEFAULT_CONFIG, unmapFlush: 'lazy' },
    { ...DEFAULT_CONFIG, caller: 'vfio', preset: 'linux-5.1', mapFlush: 'map' },
  ];

  test.each(configs.map((config) => [Object.values(config).join(' '), config] as const))(
    '%s: played call by call they are what check finds',
    (_name, config) => {
      for (const scenario of scenariosFor(config)) {
        const judge = new SanitizerJudge();
        const outcome = play(scenario, stageSetup(config), judge);
        const actions = scenarioActions(config, scenario.name).slice(0, 2048);
        const { now, steps } = playProgram({ config, scenario: scenario.name, actions }, actions.length, FOCUS);
        expect(steps).toHaveLength(actions.length + 1);
        if (actions.length < 2048) expect(now.findings, scenario.name).toEqual(outcome.findings);
      }
    },
  );

  test('a device looks between two calls', () => {
    const made: LabProgram = {
      config: { ...DEFAULT_CONFIG, mapFlush: 'none' },
      scenario: 'map/one-page',
      actions: parseActions('n.r40000.n.r40000.n.r40000.n'),
    };
    const { steps } = playProgram(made, 7, FOCUS);
    expect(steps.map(({ label, result }) => [label, result])).toEqual([
      ['the machine starts', 'done'],
      ['attach 0000:00:02.0 to dma-iommu 0', 'done'],
      ['00:02.0 reads 0x40000000', 'blocked'],
      ['dma_map_sg 0x40000000+0x1000', 'done'],
      ['00:02.0 reads 0x40000000', 'fault'],
      ['dma_unmap_sg 0x40000000+0x1000', 'done'],
      ['00:02.0 reads 0x40000000', 'blocked'],
      ['next call of the scenario', 'refused'],
    ]);
  });

  test('every scenario that other callers can play is one for some machine', () => {
    const machines = [...configs, { ...DEFAULT_CONFIG, caller: 'core' as const }];
    const all = new Set(machines.flatMap((config) => scenariosFor(config).map(({ name }) => name)));
    expect(SCENARIOS.filter(({ name, callers }) => !all.has(name) && callers?.includes('iommufd') !== true)).toEqual(
      [],
    );
  });
});
