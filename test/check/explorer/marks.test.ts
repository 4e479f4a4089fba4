/**
 * The marks of a played counterexample beside an independent witness: the sanitizer, which knows no hardware model, names the
 * store that made an entry stale and the call at whose end the promise was due.
 */
import { describe, expect, it } from 'vitest';
import type { ContractMutant, Mark, PlayedSchedule } from '../../../src/check/index.ts';
import { MUTANTS, SCENARIOS, SanitizerJudge, explore, play, playSchedule } from '../../../src/check/index.ts';
import { hex } from '../../../src/base/index.ts';
import { BUGS as PLAIN_BUGS } from './bugs.ts';
import { named } from '../../../src/check/scenarios/named.ts';

// The explorer's units have no device TLBs (26d, 28a), and a schedule names drivers only, no core (14a, 15, 16a).
const BUGS = MUTANTS.filter(
  (mutant): mutant is ContractMutant =>
    mutant.kind === 'contract' && mutant.mutant.makeCore === undefined && !['26d', '28a'].includes(mutant.id),
);

function playedBug({ id, scenario, mutant, contract }: ContractMutant): PlayedSchedule | null {
  const { makeDriver } = mutant;
  const options = { mostPages: 2, everyContract: true, mostSchedules: 100_000 };
  const { counterexamples } = explore(
    scenario,
    mutant,
    makeDriver === undefined ? options : { ...options, driver: id },
  );
  const found = counterexamples.find((each) => each.contract === contract);
  if (found === undefined) return null;
  return playSchedule(found.schedule, { scenarios: [scenario], driverOf: () => makeDriver });
}

const textOf = (played: PlayedSchedule, mark: Mark): string => {
  const { by, text } = played.steps[mark.at];
  return `${by}: ${text}`;
};

describe('marks of known bugs, beside what the sanitizer says of the same bug', () => {
  let nrCompared = 0;

  it.each(BUGS)('$id: $title', (bug) => {
    const played = playedBug(bug);
    // Pages beyond the first two show it (2b, 6): other tests explore those.
    if (played === null) return;
    const judge = new SanitizerJudge();
    play(bug.scenario, bug.mutant, judge);
    const told = judge.findings.filter(({ contract }) => contract === bug.contract);
    expect(told).not.toEqual([]);
    const { broken } = played;
    if (broken === null) throw new Error('nothing is broken');
    const stores = broken.marks.filter(({ mark }) => mark === 'made-stale').map((mark) => textOf(played, mark));
    const ends = broken.marks.filter(({ mark }) => mark === 'returned-too-early').map((mark) => textOf(played, mark));
    const due = told.filter(
      ({ call }) => ends.length === 0 || ends.some((end) => end.startsWith(`call: ${call} returns`)),
    );
    expect(due, `${ends.join()} of ${told.map(({ call }) => call).join()}`).not.toEqual([]);
    if (broken.held.length === 0) {
      expect(stores).toEqual([]);
      return;
    }
    const places = due.flatMap(({ store }) => (store === null ? [] : [store.paddr]));
    // A run of stores is one step that names its first entry; a device table entry has four words, written in two steps.
    const nrBytes = bug.contract === 'C-ATTACH' && bug.mutant.arch === 'amd' ? 32 : 8;
    const isTold = stores.some((text) => {
      const [, nr = '1', at] = /writes (?:(\d+) entries from|\S+ at) (0x[0-9a-f]+)/.exec(text) ?? [];
      return places.some((paddr) => paddr + nrBytes > Number(at) && paddr < Number(at) + Number(nr) * 8);
    });
    expect(isTold, `${stores.join('; ')} beside ${places.map(hex).join()}`).toBe(true);
    nrCompared += 1;
  });

  it('compared most of them', () => {
    expect(nrCompared).toBeGreaterThanOrEqual(15);
  });
});

describe('the story of a stale entry', () => {
  it('is cached, made stale, and used after the call returned, in this order', () => {
    const setup = { arch: 'amd', caller: 'vfio', mapFlush: 'caller', npCache: true } as const;
    const scenario = named(SCENARIOS, 'map/one-page');
    const [found] = explore(scenario, setup).counterexamples;
    const { steps, broken } = playSchedule(found.schedule, { scenarios: [scenario] });
    const of = (entry: number): string[] =>
      (broken?.marks ?? []).filter((mark) => mark.entry === entry || mark.entry < 0).map(({ mark }) => mark);
    expect(of(0)).toEqual(['cached', 'made-stale', 'returned-too-early', 'used-stale']);
    expect(broken?.held[0]).toEqual({
      cache: 'iotlb',
      text: 'cached translation, domain 1, 0x40000000+0x1000: nothing is mapped',
    });
    const last = broken?.marks.at(-1);
    expect(steps[last?.at ?? -1].by).toBe('judge');
  });

  it('blames memory where a line was never flushed', () => {
    const bug = PLAIN_BUGS.find(({ name }) => name === 'lines never written back');
    if (bug === undefined) throw new Error('no such bug');
    const { scenario, setup } = bug;
    const [found] = explore(scenario, setup, { driver: 'by hand' }).counterexamples;
    const { makeDriver } = setup;
    const { steps, broken } = playSchedule(found.schedule, { scenarios: [scenario], driverOf: () => makeDriver });
    // The driver flushes nothing at all: root, context and each level of the tables.
    expect(new Set(broken?.held.map(({ cache }) => cache))).toEqual(new Set(['memory']));
    expect(broken?.held).toHaveLength(6);
    const lineOf = (text: string): number => Math.floor(Number(/0x[0-9a-f]+$/.exec(text)?.[0]) / 64);
    const stale = broken?.marks.filter(({ mark }) => mark === 'made-stale') ?? [];
    expect(stale).toHaveLength(6);
    for (const { at, entry } of stale) {
      const [line] = /0x[0-9a-f]+/.exec(broken?.held[entry].text ?? '') ?? [];
      expect(lineOf(steps[at].text)).toBe(Number(line) / 64);
    }
  });

  it('is not told of a schedule that shows nothing', () => {
    const setup = { arch: 'amd', caller: 'vfio', mapFlush: 'caller', npCache: true } as const;
    const scenario = named(SCENARIOS, 'map/one-page');
    const [found] = explore(scenario, setup).counterexamples;
    const repaired = { ...found.schedule, setup: { ...found.schedule.setup, mapFlush: 'sync-map' as const } };
    expect(playSchedule(repaired, { scenarios: [scenario] })).toMatchObject({ isShown: false, broken: null });
  });
});
