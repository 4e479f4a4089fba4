/** The rules by which map and unmap events become calls, one by one. */
import { describe, expect, test } from 'vitest';
import { callsOf, group, shapes } from './group-trace.ts';

const NVME = '0000:00:04.0';
const NET = '0000:00:05.0';

/**
 * What a machine looks like when it works: `dd` reads through map_sg, two events a call, 1 us apart; `net` maps page by page,
 * 20 us apart, and often gets ascending neighbours. All of it is unmapped again. Ends before 100,000 us.
 */
const WORK: readonly string[] = Array.from({ length: 100 }, (_, i) => {
  const at = i * 1000;
  return [
    `${at} dd map 80 1 500`,
    `${at + 1} dd map 81 1 300`,
    `${at + 200} dd/h unmap 80 2`,
    `${at + 210} net map 92 1 700`,
    `${at + 230} net map 90 1 600`,
    `${at + 250} net map 91 1 800`,
    `${at + 400} net/s unmap 91 1`,
    `${at + 402} net/s unmap 90 1`,
    `${at + 404} net/s unmap 92 1`,
  ];
}).flat();
const NR_WORK_CALLS = 400;

/** The calls of a trace behind WORK. */
function after(trace: string): { shapes: string[]; ambiguous: number } {
  const grouper = group([...WORK, ...trace.trim().split('\n')]);
  return { shapes: shapes(grouper).slice(NR_WORK_CALLS), ambiguous: grouper.counts.ambiguous };
}

describe('rule 1: dma events', () => {
  test('name extent and device: times and later unmaps do not matter', () => {
    const grouper = group(`
      0 dd map 80 1 500
      900 dd map 81 1 300
      901 dd mapped-sg ${NVME} 80 2
      902 dd map 82 1 301
      903 dd mapped ${NET} 82 1
      904 dd map 83 1 400
      905 dd mapped ${NVME} 83 1
    `);
    expect(shapes(grouper)).toEqual(['80+2', '82+1', '83+1']);
    expect(callsOf(grouper).map(({ domain }) => domain)).toEqual([0, 1, 0]);
    expect(grouper.counts).toMatchObject({ told: 3, inferred: 0, ambiguous: 0 });
  });

  test('an unmap goes to the named domain, not to the newest mapping', () => {
    const grouper = group(`
      0 dd map 80 1 500
      1 dd mapped ${NVME} 80 1
      2 dd map 80 1 600
      3 dd mapped ${NET} 80 1
      4 irq unmap 80 1
      5 irq unmapped ${NVME} 80 1
    `);
    expect(shapes(grouper)).toEqual(['80+1x', '80+1']);
    expect(grouper.counts).toMatchObject({ told: 2, ambiguous: 0 });
  });

  test('dma_unmap_sg comes before its unmap and names the device alone', () => {
    const grouper = group(`
      0 dd map 80 1 500
      1 dd mapped ${NVME} 80 1
      2 dd map 80 1 600
      3 dd mapped ${NET} 80 1
      4 irq unmapped-sg ${NVME}
      5 irq unmap 80 1
    `);
    expect(shapes(grouper)).toEqual(['80+1x', '80+1']);
  });
});

describe('rule 2: one unmap of exactly the extent', () => {
  test.each([
    ['one call', ['unmap 80 3'], ['80+3x']],
    ['three calls', ['unmap 80 1', 'unmap 82 1', 'unmap 81 1'], ['80+1x', '81+1x', '82+1x']],
    ['two and one', ['unmap 82 1', 'unmap 80 2'], ['80+2x', '82+1x']],
    ['one and two', ['unmap 80 1', 'unmap 81 2'], ['80+1x', '81+2x']],
  ])('three events that could be one: %s, and nothing to doubt', (_, unmaps, expected) => {
    const grouper = group(`
      0 dd map 80 1 500
      20 dd map 81 1 300
      40 dd map 82 1 700
      ${unmaps.map((unmap) => `100 irq ${unmap}`).join('\n')}
    `);
    expect(shapes(grouper)).toEqual(expected);
    expect(grouper.counts).toMatchObject({ ambiguous: 0, unmapWithoutMap: 0, inferred: expected.length });
  });

  test('what is physically contiguous is two calls (the core would have merged one), and one unmap may end both', () => {
    const grouper = group(`
      0 dd map 80 1 500
      1 dd map 81 1 501
      9 irq unmap 80 2
    `);
    expect(shapes(grouper)).toEqual(['80+1x', '81+1x']);
    expect(grouper.counts).toMatchObject({ unmapWithoutMap: 0, inferred: 2, ambiguous: 0 });
  });

  test('calls that one unmap ends are told apart from others whose records are reused meanwhile', () => {
    const grouper = group(`
      0 a map 80 1 500
      1 b map 200 1 900
      2 irq unmap 200 1
      3 a map 81 1 501
      4 b map 200 1 900
      5 a map 82 2 502
      6 irq unmap 80 4
      7 irq unmap 200 1
    `);
    expect(shapes(grouper)).toEqual(['80+1x', '200+1x', '81+1x', '200+1x', '82+2x']);
  });

  test.each([
    ['a part is missing', ['map 80 1 500', 'map 82 1 502']],
    ['a call reaches over the end', ['map 80 1 500', 'map 81 3 501']],
    ['a call reaches over the begin', ['map 7f 2 500', 'map 81 2 502']],
    ['the upper one was made first', ['map 81 2 501', 'map 80 1 500']],
  ])('an unmap of several calls must be filled by them: %s', (_, maps) => {
    const grouper = group([...maps.map((text, i) => `${i} dd ${text}`), '9 irq unmap 80 3']);
    expect(grouper.counts.unmapWithoutMap).toBe(1);
    expect(shapes(grouper).filter((shape) => shape.endsWith('x'))).toEqual([]);
  });

  test.each([
    ['another task', 'dd2'],
    ['a softirq of the same task', 'dd/s'],
    ['a hardirq of the same task', 'dd/h'],
  ])('a call is made by one context: %s does not continue it', (_, second) => {
    expect(shapes(group(`0 dd map 80 1 500\n1 ${second} map 81 1 300`))).toEqual(['80+1', '81+1']);
  });

  test('other contexts may come between the events of a call', () => {
    const trace = `
      0 dd map 80 1 500
      1 dd/h map f0 1 900
      2 other map 81 1 100
      3 dd map 81 1 300
      9 irq unmap 80 2
    `;
    expect(shapes(group(trace))).toEqual(['f0+1', '81+1', '80+2x']);
  });

  test('an unmap of the same context ends a call', () => {
    expect(shapes(group(`0 dd map 80 1 500\n1 dd unmap 200 1\n2 dd map 81 1 300`))).toEqual(['80+1', '81+1']);
  });

  test('an unmap whose map is not in the trace ends nothing', () => {
    const grouper = group(`0 dd map 80 2 500\n5 irq unmap 80 1\n6 irq unmap 200 1\n7 irq unmap 80 2`);
    expect(shapes(grouper)).toEqual(['80+2x']);
    expect(grouper.counts.unmapWithoutMap).toBe(2);
  });

  test('calls that look alike in several domains leave nothing to doubt: any choice leads to the same flushes', () => {
    const { shapes: calls, ambiguous } = after(`
      100000 a map 90 1 500
      100000 b map 90 1 510
      100000 c map 90 1 520
      100100 irq unmap 90 1
      100110 irq unmap 90 1
    `);
    expect(calls.toSorted()).toEqual(['90+1', '90+1x', '90+1x']);
    expect(ambiguous).toBe(0);
  });
});

describe('likelihood, learned from the trace itself', () => {
  test('WORK is grouped without a mistake', () => {
    const grouper = group(WORK);
    const all = shapes(grouper);
    expect(all.filter((shape) => shape === '80+2x')).toHaveLength(100);
    expect(all.filter((shape) => /^9.\+1x$/.test(shape))).toHaveLength(300);
    expect(grouper.counts).toMatchObject({ inferred: NR_WORK_CALLS, ambiguous: 0 });
  });

  test('a piece of a tight chain is no call: the older, separate mapping is', () => {
    const { shapes: calls, ambiguous } = after(`
      100000 b map 81 1 900
      100100 dd map 80 1 500
      100101 dd map 81 1 300
      100200 irq unmap 81 1
    `);
    expect(calls).toEqual(['81+1x', '80+2']);
    expect(ambiguous).toBe(0);
  });

  test('events as far apart as calls are not joined when a tight chain fits as well', () => {
    const { shapes: calls } = after(`
      100000 dd map 90 1 500
      100001 dd map 91 1 300
      100100 net map 90 1 700
      100120 net map 91 1 900
      100200 irq unmap 90 2
      100210 irq unmap 91 1
      100220 irq unmap 90 1
    `);
    expect(calls).toEqual(['90+2x', '90+1x', '91+1x']);
  });

  test('a call that was interrupted is known by its tight rest', () => {
    const { shapes: calls } = after(`
      100000 x map 90 1 510
      100001 x map 91 1 310
      100040 x map 92 1 710
      100041 x map 93 1 910
      100042 x map 94 1 110
    `);
    expect(calls).toEqual(['90+5']);
  });

  test('a task that joined so far joins on, one that did not does not', () => {
    const { shapes: calls } = after(`
      100000 dd map 90 1 510
      100020 dd map 91 1 310
      100100 net map 90 1 710
      100120 net map 91 1 910
      100200 irq unmap 90 2
    `);
    expect(calls).toEqual(['90+2x', '90+1', '91+1']);
  });

  test('of two that fit, the one of the usual age is unmapped, here 150 to 200 us', () => {
    const { shapes: calls } = after(`
      100000 a map 90 1 710
      100010 b map c0 1 610
      100188 b map 90 1 810
      100190 irq unmap 90 1
    `);
    expect(calls).toEqual(['90+1x', 'c0+1', '90+1']);
  });

  test('between equals the newest', () => {
    expect(shapes(group(`0 a map 90 1 500\n0 b map 90 1 600\n9 irq unmap 90 1`))).toEqual(['90+1', '90+1x']);
  });

  test('a doubtful choice counts as ambiguous, though all of it is unmapped', () => {
    const { ambiguous } = after(`
      100000 a map 90 1 510
      100020 a map 91 1 310
      100040 b map 91 1 710
      100200 irq unmap 91 1
      100210 irq unmap 90 2
    `);
    expect(ambiguous).toBe(1);
  });
});

describe('rule 3: what is never unmapped', () => {
  test('an address that nothing was unmapped from cannot lie above a later call: joined, however far apart', () => {
    expect(after(`100000 x map c0 1 510\n100900 x map c1 1 310`).shapes).toEqual(['c0+2']);
  });

  test('one that was unmapped before can', () => {
    expect(after(`100000 net map 90 1 510\n100020 net map 91 1 310`).shapes).toEqual(['90+1', '91+1']);
  });

  test('two that fill the next slot of an allocator that goes down are one', () => {
    const { shapes: calls } = after(`
      100000 init map 92 1 510
      100020 init map 90 1 310
      100040 init map 91 1 710
    `);
    expect(calls).toEqual(['92+1', '90+2']);
  });

  test('a call begins aligned to its size: three tight pages at 91 are not one, nor are two', () => {
    expect(after(`100000 x map 91 1 510\n100001 x map 92 1 310\n100002 x map 93 1 710`).shapes).toEqual([
      '91+1',
      '92+2',
    ]);
  });

  test('joints that could be either are counted', () => {
    const { ambiguous } = after(`100000 x map 90 1 510\n100020 x map 91 1 310`);
    expect(ambiguous).toBeGreaterThan(0);
  });
});

describe('rule 4: direct mappings', () => {
  test('one-to-one and followed by an attachment in the same context', () => {
    expect(shapes(group(`0 init map 0 1000 0\n1 init attach 0000:00:1f.0`))).toEqual(['0+4096 direct']);
  });

  test.each([
    ['not one-to-one', `0 init map 0 10 5\n1 init attach 0000:00:1f.0`],
    ['attached elsewhere', `0 init map 0 10 0\n1 other attach 0000:00:1f.0`],
    ['something between', `0 init map 0 10 0\n1 init map 90 1 600\n2 init attach 0000:00:1f.0`],
  ])('%s: not direct', (_, trace) => {
    expect(shapes(group(trace)).filter((shape) => shape.endsWith('direct'))).toEqual([]);
  });
});

test('answers in the trace change nothing', () => {
  const without = [...WORK, '100000 x map 90 1 510', '100020 x map 91 1 310', '100300 irq unmap 91 1'];
  const withFlushes = without.flatMap((line) => [line, `${line.split(' ').slice(0, 2).join(' ')} flush`]);
  const [a, b] = [group(without), group(withFlushes)];
  expect(b.decisions).toEqual(a.decisions);
  expect(b.latest).toEqual(a.latest);
  expect(b.counts).toEqual(a.counts);
});

test('long chains, many domains and empty traces do not take long', () => {
  const started = performance.now();
  expect(shapes(group([]))).toEqual([]);
  // A chain of 100,000 pages, unmapped page by page from its begin, from its end, and not at all.
  const nr = 50_000;
  const hex = (page: number): string => page.toString(16);
  const chain = (at: number): string[] =>
    Array.from({ length: nr }, (_, i) => `${at + i} dd map ${hex(0x100000 + i)} 1 ${hex((i * 7) % 65_536)}`);
  const up = Array.from({ length: nr }, (_, i) => `${nr + i} irq unmap ${hex(0x100000 + i)} 1`);
  const down = Array.from({ length: nr }, (_, i) => `${3 * nr + i} irq unmap ${hex(0x100000 + nr - 1 - i)} 1`);
  const domains = Array.from({ length: 2000 }, (_, i) => `${i} t${i} map 90 1 ${hex(i)}`);
  const ends = domains.map((_, i) => `${9000 + i} irq unmap 90 1`);
  const grouper = group([
    ...domains,
    ...ends,
    ...chain(10_000),
    ...up,
    ...chain(10_000 + 2 * nr),
    ...down,
    ...chain(10_000 + 4 * nr),
  ]);
  expect(grouper.counts).toMatchObject({ map: 3 * nr + 2000, unmapWithoutMap: 0 });
  expect(performance.now() - started).toBeLessThan(20_000);
});
