/** States as links: what is written is read back; whatever else a link holds becomes a message. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  LabTextError,
  formatActions,
  formatState,
  parseActions,
  parseState,
  playProgram,
} from '../../src/lab/index.ts';
import type { LabState } from '../../src/lab/index.ts';
import { anyActions, anyConfig } from './arbitrary.ts';

const read = (text: string): LabState => {
  const params = new URLSearchParams(text);
  return parseState((key) => params.get(key));
};

const anyState = anyConfig.chain((config) =>
  anyActions(20).chain((actions) =>
    fc.record({
      program: fc.constant({ config, scenario: '', actions }),
      step: fc.nat(actions.length),
      iova: fc.nat(2 ** 30 - 1).map((page) => page * 64 * 4096),
      device: fc.nat(2),
    }),
  ),
);

test('every state comes back from its link, which needs no escapes', () => {
  fc.assert(
    fc.property(anyState, (state) => {
      const text = new URLSearchParams(formatState(state)).toString();
      expect(text).not.toContain('%');
      expect(read(text)).toEqual(state);
    }),
  );
});

test('calls of a scenario are counted, not repeated', () => {
  expect(formatActions(parseActions('n.n.n.r40000.n'))).toBe('n3.r40000.n');
});

const broken: [string, string, RegExp][] = [
  ['no vendor of ours', 'm=arm_np_none_strict_vfio_linux-6.12', /'arm' is no vendor; there are intel, amd/],
  ['a kernel of the other vendor', 'm=amd_np_none_strict_vfio_linux-5.12', /is no kernel of amd/],
  ['too few parts', 'm=intel', /has 1 parts; it needs 6/],
  ['markup', 'm=<img src=x onerror=alert(1)>_1_1_1_1_1', /is no vendor/],
  ['no action', 'a=m40000_4.zz', /Action 2, 'zz', cannot be read/],
  ['too many pages', 'a=m40000_513', /the number of pages may be 1 to 512/],
  ['beyond the last page', 'a=r1000000000', /pages end at fffffffff/],
  ['a map over the end', 'a=mfffffffff_2', /beyond 48-bit addresses/],
  ['a device that is not there', 'a=r40000_3', /a device may be 0 to 2/],
  ['no scenario', 's=map/nothing', /There is no scenario 'map\/nothing'/],
  ['a scenario for another caller', 's=gather/adjacent', /does not go with this vendor, caller/],
  ['a step too far', 'a=r40000&step=2', /'2' is no step of this link; it has 0 to 1/],
  ['no step', 'a=r40000&step=-1', /'-1' is no step/],
  ['no address', 'iova=0xzz', /is no address/],
  ['an address beyond 48 bits', 'iova=1000000000000', /below 2\^48/],
  ['thousands of calls', 'a=n9999', /more than 2048 actions/],
  ['calls that add up', `a=${'n1000.'.repeat(3)}n`, /more than 2048 actions/],
  ['pages that add up', `a=${'m40000_512.'.repeat(128)}m40000_1`, /more than 65536 pages/],
  ['no calls', 'a=n0', /no calls at all/],
  ['a very long text', `a=${'r40000.'.repeat(9000)}`, /at most 32768 are read/],
];

test.each(broken)('%s', (_name, text, message) => {
  expect(() => read(text)).toThrow(LabTextError);
  expect(() => read(text)).toThrow(message);
});

test('whatever a link holds, there is a state or a message', () => {
  const letters = fc.string({ unit: fc.constantFrom(...'mruwpeitxnadcgs0123456789f._-<&'.split('')), maxLength: 40 });
  const part = fc.oneof(letters, fc.string({ maxLength: 60, unit: 'binary' }));
  const some = fc.record({ m: part, s: part, a: part, step: part, iova: part, dev: part }, { requiredKeys: [] });
  fc.assert(
    fc.property(some, (values) => {
      const given = new Map<string, string>(Object.entries(values));
      try {
        const state = parseState((key) => given.get(key) ?? null);
        expect(state.program.actions.length).toBeLessThanOrEqual(2048);
      } catch (error) {
        expect(error).toBeInstanceOf(LabTextError);
        expect((error as Error).message.length).toBeLessThan(300);
      }
    }),
    { numRuns: 3000 },
  );
});

test('every state that a link can hold can be played', () => {
  fc.assert(
    fc.property(anyState, ({ program, step, iova }) => {
      const { steps } = playProgram(program, step, { sid: 0x10, iova });
      expect(steps).toHaveLength(program.actions.length + 1);
    }),
    { numRuns: 300 },
  );
});
