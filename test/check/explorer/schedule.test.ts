/** Schedules as files: what is saved is loaded again, and whatever else is in a file is refused in a sentence. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { explore, loadSchedule, playSchedule, saveSchedule, ScheduleError } from '../../../src/check/index.ts';
import { BUGS, MAP } from './bugs.ts';

const [{ scenario, setup }] = BUGS;
const [found] = explore(scenario, setup).counterexamples;
const TEXT = saveSchedule(found.schedule);
const WORLD = { scenarios: [MAP] };

type Json = Record<string, unknown>;
/** The file with something changed. */
function changed(change: (file: Json & { tape: Json[]; target: Json; setup: Json }) => void): string {
  const file = JSON.parse(TEXT);
  change(file);
  return JSON.stringify(file);
}

describe('a saved schedule', () => {
  it('comes back as it was', () => {
    expect(loadSchedule(TEXT)).toEqual(found.schedule);
    expect(JSON.parse(TEXT)).toMatchObject({
      schema: 'iommukit.schedule/1',
      scenario: 'map',
      contract: 'C-MAP-VISIBLE',
      target: { sids: ['0x10'], pages: ['0x40000000'] },
      tape: [{ do: 'walk', sid: '0x10', iova: '0x40000000', kept: true }],
    });
  });

  it('with decision and all is told step by step, ending with what the device got', () => {
    const { steps, isShown } = playSchedule(loadSchedule(TEXT), WORLD);
    expect(isShown).toBe(true);
    const told = steps.map(({ by, text }) => `${by}: ${text}`);
    expect(told).toContain('call: iommu_map 0x40000000+0x1000 returns 0');
    expect(told.some((line) => line.startsWith('hardware: walk for 00:02.0 page 0x40000000: finds nothing'))).toBe(
      true,
    );
    expect(told.at(-1)).toBe(
      'judge: C-MAP-VISIBLE: a read of 00:02.0 at 0x40000000 reaches nothing, promised is 0x100000000',
    );
  });

  it.each<[string, string, RegExp]>([
    ['no JSON', '{', /is not JSON/],
    ['a list', '[]', /must be an object/],
    ['another schema', changed((file) => (file.schema = 'iommukit.schedule/9')), /expected 'iommukit.schedule\/1'/],
    ['no scenario', changed((file) => delete file.scenario), /scenario must be a string/],
    ['another architecture', changed((file) => (file.setup.arch = 'arm')), /arch is 'arm', expected one of intel, amd/],
    ['a step that is none', changed((file) => (file.tape[0].do = 'fly')), /tape\[0\]: do is 'fly'/],
    ['a step before the start', changed((file) => (file.tape[0].after = -1)), /after must be an integer/],
    ['a step at half past', changed((file) => (file.tape[0].after = 1.5)), /after must be an integer/],
    ['an address as number', changed((file) => (file.tape[0].iova = 4096)), /iova must be a hex string/],
    ['an address beyond all', changed((file) => (file.tape[0].iova = '0xffffffffffffff')), /iova must be a hex string/],
    ['half a page', changed((file) => (file.tape[0].iova = '0x40000010')), /page's address/],
    [
      'time that runs back',
      changed((file) => file.tape.push({ after: 0, do: 'execute', slot: 0 })),
      /before the step above/,
    ],
    [
      'a tape without end',
      changed((file) => (file.tape = Array.from({ length: 10_001 }, () => file.tape[0]))),
      /more than 10000/,
    ],
    ['a driver of a number', changed((file) => (file.driver = 7)), /driver must be a string or null/],
  ])('%s is refused', (_, text, message) => {
    expect(() => loadSchedule(text)).toThrow(ScheduleError);
    expect(() => loadSchedule(text)).toThrow(message);
  });

  it('that names what is not there is refused', () => {
    const { schedule } = found;
    expect(() => playSchedule({ ...schedule, scenario: 'x' }, WORLD)).toThrow(/there is no scenario 'x'/);
    expect(() => playSchedule({ ...schedule, driver: 'mine' }, WORLD)).toThrow(/there is no driver 'mine'/);
    const impossible = loadSchedule(changed((file) => (file.setup.preset = 'linux-99')));
    expect(() => playSchedule(impossible, WORLD)).toThrow(/cannot be: .*unknown preset 'linux-99'/);
  });

  it('that does not fit the scenario says where', () => {
    const never = loadSchedule(changed((file) => Object.assign(file.tape[0], { do: 'evict', cache: 'iotlb', nth: 3 })));
    const played = playSchedule(never, WORLD);
    expect(played.isShown).toBe(false);
    expect(played.failure).toMatch(/ScheduleMismatch: an entry leaves the iotlb cache: impossible after step \d+/);
  });

  it('with any one value replaced loads and plays, or is refused', () => {
    const paths: (string | number)[][] = [];
    const walk = (value: unknown, path: (string | number)[]): void => {
      if (path.length > 0) paths.push(path);
      if (typeof value === 'object' && value !== null) {
        for (const [key, member] of Object.entries(value)) if (path[0] !== 'steps') walk(member, [...path, key]);
      }
    };
    walk(JSON.parse(TEXT), []);
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.jsonValue({ maxDepth: 1 }), (path, value) => {
        const file = JSON.parse(TEXT);
        let at = file;
        for (const key of path.slice(0, -1)) at = at[key];
        at[path.at(-1)!] = value;
        try {
          playSchedule(loadSchedule(JSON.stringify(file)), WORLD);
        } catch (error) {
          expect(error).toBeInstanceOf(ScheduleError);
        }
      }),
      { numRuns: 400 },
    );
  });
});
