/** The comparison: longest common subsequence against a naive table, and which orders of concurrent commands are allowed. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PageLog, noCommands } from '../../src/replay/commands.ts';
import { compareRun, lcsLength, linearize } from '../../src/replay/compare.ts';
import { AmdObserved, VtdObserved } from '../../src/replay/observed.ts';
import { VTD_COMMANDS } from '../../src/replay/vtd-commands.ts';

/** Commands as [key, event, latest]. */
function pages(commands: readonly (readonly [key: number, event: number, latest: number])[]): PageLog {
  const log = new PageLog();
  for (const [key, event, latest] of commands) {
    log.key.push(key);
    log.domain.push(0);
    log.event.push(event);
    log.latest.push(latest);
  }
  return log;
}

/** One command per event, each certainly done before the next event. */
const sequential = (keys: readonly number[]): PageLog => pages(keys.map((key, at) => [key, at, at + 1]));

function naiveLcs(a: readonly number[], b: readonly number[]): number {
  const row = Array.from({ length: b.length + 1 }, () => 0);
  for (const x of a) {
    let diagonal = 0;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j];
      row[j] = x === b[j - 1] ? diagonal + 1 : Math.max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row[b.length];
}

describe('lcsLength', () => {
  test.each([
    { a: [], b: [], length: 0 },
    { a: [1, 2, 3], b: [], length: 0 },
    { a: [1, 2, 3], b: [1, 2, 3], length: 3 },
    { a: [1, 2, 3, 4], b: [2, 4], length: 2 },
    { a: [1, 2, 3], b: [3, 2, 1], length: 1 },
  ])('$a and $b: $length', ({ a, b, length }) => {
    expect(lcsLength(Float64Array.from(a), Float64Array.from(b))).toBe(length);
  });

  test('random sequences, longer than a machine word, as the naive table', () => {
    const keys = fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 150 });
    fc.assert(
      fc.property(keys, keys, (a, b) => {
        expect(lcsLength(Float64Array.from(a), Float64Array.from(b))).toBe(naiveLcs(a, b));
      }),
      { numRuns: 300 },
    );
  });
});

describe('linearize', () => {
  test('calls that did not overlap keep their order, whatever the log says', () => {
    const { keys, concurrent } = linearize(sequential([1, 2, 3]), 3, Float64Array.from([3, 2, 1]));
    expect([...keys]).toEqual([1, 2, 3]);
    expect(concurrent).toBe(0);
  });

  test('a call whose context went on later may be overtaken until then, and not further', () => {
    // Command 7 began at event 0; its context showed the next event at 3. Commands 8 (event 1) and 9 (event 2) may pass, 10 not.
    const log = pages([
      [7, 0, 3],
      [8, 1, 2],
      [9, 2, 3],
      [10, 3, 4],
    ]);
    expect([...linearize(log, 4, Float64Array.from([8, 9, 7, 10])).keys]).toEqual([8, 9, 7, 10]);
    expect([...linearize(log, 4, Float64Array.from([8, 9, 10, 7])).keys]).toEqual([8, 9, 7, 10]);
    expect(linearize(log, 4, Float64Array.from([8, 9, 7, 10])).concurrent).toBe(2);
  });

  test('of two waiting commands that are alike the one due first is taken, so that the other can still wait', () => {
    // Both make command 7: the first may wait until event 9, the second only until event 3.
    const log = pages([
      [7, 0, 9],
      [7, 1, 3],
      [8, 3, 4],
      [9, 4, 5],
    ]);
    expect([...linearize(log, 4, Float64Array.from([7, 8, 9, 7])).keys]).toEqual([7, 8, 9, 7]);
  });

  test('one command missing in the log does not move the others', () => {
    const log = sequential([1, 2, 3, 4, 5]);
    expect([...linearize(log, 5, Float64Array.from([1, 3, 4, 5])).keys]).toEqual([1, 2, 3, 4, 5]);
    expect([...linearize(log, 5, Float64Array.from([1, 2, 9, 3, 4, 5])).keys]).toEqual([1, 2, 3, 4, 5]);
  });

  test('any log: a permutation, and no command before one that was certainly done when it began', () => {
    const command = fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 6 }));
    fc.assert(
      fc.property(
        fc.array(command, { maxLength: 40 }),
        fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 45 }),
        (input, wanted) => {
          // Keys made unique in the high part, so that each can be followed.
          const commands = input.map(([key, delay], at) => [key, at, at + delay] as const);
          const log = pages(commands);
          const { keys } = linearize(log, commands.length, Float64Array.from(wanted));
          expect(keys.toSorted()).toEqual(Float64Array.from(commands, ([key]) => key).toSorted());
          // Which of several equal commands stands at a place is open, so any allowed choice will do; taking the one due first
          // finds one if there is one. A command may be placed when none left behind was done before it began.
          const left = commands.map((entry) => [...entry] as [number, number, number]);
          for (const key of keys) {
            const due = Math.min(...left.map(([, , latest]) => latest));
            const fits = left.filter(([other, event]) => other === key && event < due);
            expect(fits.length).toBeGreaterThan(0);
            const taken = fits.reduce((a, b) => (b[2] < a[2] ? b : a));
            left.splice(left.indexOf(taken), 1);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('compareRun', () => {
  const psi = (page: number): [number, number, number, number] => [0x300f2, 0, (page << 12) | 0, 0];

  function observed(commands: readonly (number | string)[]): VtdObserved {
    const log = new VtdObserved();
    let line = 0;
    for (const command of commands) {
      line += 1;
      if (typeof command === 'string') log.mark(command);
      else log.command(...psi(command), line);
    }
    return log;
  }

  function predicted(
    keys: readonly number[],
    marks: readonly (readonly [name: string, nrPages: number])[],
  ): Parameters<typeof compareRun>[0] {
    const counts = { ...noCommands(), page: keys.length, total: keys.length };
    return {
      pages: sequential(keys.map((page) => VTD_COMMANDS.pageKey((page << 12) | 0, 0))),
      counts,
      domainsTold: true,
      marks: marks.map(([name, nrPages]) => ({
        name,
        nrPages,
        commands: { ...noCommands(), page: nrPages, total: nrPages },
      })),
    };
  }

  test('ends at the last mark that both have; the rest of the log is counted', () => {
    const comparison = compareRun(
      predicted(
        [1, 2, 3],
        [
          ['LAB 101-a', 1],
          ['LAB 102-b', 2],
          ['LAB 103-only-here', 3],
        ],
      ),
      observed(['101-a', 1, '102-b', 2, 3, 9, '999-off', 8]),
    );
    // Mark 102-b stands behind one command in the log and two in the trace: that is a difference, found up to there.
    expect(comparison).toMatchObject({
      upTo: '102-b',
      observed: { page: 1 },
      predicted: { page: 2 },
      afterTrace: 4,
      matching: 1,
    });
  });

  test('without a common mark everything is compared', () => {
    const comparison = compareRun(predicted([1, 2], []), observed([1, 2, '7-x']));
    expect(comparison).toMatchObject({
      upTo: null,
      identical: true,
      matching: 2,
      afterTrace: 0,
      firstDifference: null,
    });
  });

  test.each([
    { domainsTold: true, log: [2, 3, 2], by: 'domain', identical: true, firstDifference: null },
    {
      domainsTold: true,
      log: [2, 4, 2],
      by: 'domain',
      identical: false,
      firstDifference: { observed: { domain: 4 }, predicted: { domain: 3 } },
    },
    { domainsTold: false, log: [2, 4, 2], by: 'count', identical: true, firstDifference: null },
    {
      domainsTold: false,
      log: [2, 4],
      by: 'count',
      identical: false,
      firstDifference: { index: 2, observed: null, predicted: null },
    },
  ])(
    'a log without addresses, domains told $domainsTold, $log: compared by $by',
    ({ domainsTold, log, ...expected }) => {
      const side = predicted([1, 2, 3], []);
      for (const [at, domain] of [2, 3, 2].entries()) side.pages.domain.view()[at] = domain;
      const qemu = new AmdObserved(false);
      for (const [at, domain] of log.entries()) qemu.operation(3, domain, at + 1);
      expect(compareRun({ ...side, domainsTold }, qemu)).toMatchObject(expected);
    },
  );

  test('the first difference names both commands and the line of the log', () => {
    const { firstDifference } = compareRun(predicted([1, 2], []), observed([1, 5]));
    expect(firstDifference).toEqual({
      index: 1,
      observed: { iova: '0x5000', am: 0, ih: false },
      predicted: { iova: '0x2000', am: 0, ih: false },
      logLine: 2,
    });
  });
});
