// Commands of the AMD driver from a kprobe's lines. Lines marked (recorded) are from the recordings.
import { describe, expect, test } from 'vitest';
import type { AmdCommandSummary } from '../../src/trace/index.ts';
import { AmdCommandReader, MemoryAccess, Names, TraceDatReader, commandsOf } from '../../src/trace/index.ts';
import type { Skipped } from './collect.ts';
import { bytesOf } from './collect.ts';
import * as dat from './dat-files.ts';

interface Read {
  readonly commands: unknown[][];
  readonly skipped: Skipped[];
  readonly summary: AmdCommandSummary;
}

function read(...chunks: string[]): Read {
  const commands: unknown[][] = [];
  const skipped: Skipped[] = [];
  const reader = new AmdCommandReader({
    command: (...values) => void commands.push(values),
    skipped: (line, what, excerpt) => void skipped.push({ line, what, excerpt }),
  });
  for (const chunk of chunks) reader.push(bytesOf(chunk));
  return { commands, skipped, summary: reader.end() };
}

/** (recorded) */
const LINE =
  '            init-1       [001] d..1.     2.478259: amdcmd: (__iommu_queue_command_sync+0x0/0xd0) d0=0x1 d1=0x20000000 d2=0x0 d3=0x0';
const MAP =
  '  nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096';
const TIME = 2_478_259_000;

describe('a command', () => {
  test.each<[string, string, number[]]>([
    ['as recorded', LINE, [1, 0x20000000, 0, 0, 1, TIME]],
    [
      'words as signed 32-bit numbers',
      LINE.replace('d2=0x0', 'd2=0xfffff003'),
      [1, 0x20000000, 0xfffff003 | 0, 0, 1, TIME],
    ],
    [
      'decimal words, as :u32 prints them',
      LINE.replace('d1=0x20000000', 'd1=536870912'),
      [1, 0x20000000, 0, 0, 1, TIME],
    ],
    [
      'fields in another order, and more of them',
      LINE.replace(/d0=.*/, 'd3=0x4 dev=0x9 d1=0x2 d12=0x7 d0=0x1 d2=0x3 x="d2=0x9"'),
      [1, 2, 3, 4, 1, TIME],
    ],
    ['another name of the probe', LINE.replace('amdcmd:', 'my_probe_1:'), [1, 0x20000000, 0, 0, 1, TIME]],
    ['a name of an event that is read', LINE.replace('amdcmd:', 'kprobes:map:'), [1, 0x20000000, 0, 0, 1, TIME]],
    [
      'trace-cmd report, which prints no symbol (recorded)',
      '            init-1     [000]     1.786653: amdcmd:               (ffffffffa9104fd0) d0=0x0 d1=0x20000000 d2=0x0 d3=0x0',
      [0, 0x20000000, 0, 0, 1, 1_786_653_000],
    ],
    [
      'perf script',
      '            init     1 [000]     1.786653: probe:amdcmd: (ffffffffa9104fd0) d0=0x0 d1=0x20000000 d2=0x0 d3=0x0',
      [0, 0x20000000, 0, 0, 1, 1_786_653_000],
    ],
  ])('%s', (_name, line, values) => {
    const { commands, skipped } = read(`${line}\n`);
    expect(skipped).toEqual([]);
    expect(commands).toEqual([values]);
    expect(read(`${line}\r\n`).commands).toEqual([values]);
  });

  test('among other lines of a trace, with its line number', () => {
    const other = LINE.replace(/amdcmd: .*/, 'sched_switch: prev=(x) d0=0x1 d1=0x1 d2=0x1 d3=0x1');
    const { commands, skipped, summary } = read(
      `# tracer: nop\n#\n${MAP}\n${LINE}\n${other}\nCPU:1 [LOST 3 EVENTS]\n${MAP}\n${LINE}\n`,
    );
    expect(commands.map((values) => values[4])).toEqual([4, 8]);
    expect(skipped).toEqual([]);
    expect(summary).toMatchObject({ lines: 8, commands: 2, lost: 3, skipped: 0 });
    // Two maps, one switch, one record of lost events.
    expect(summary.otherEvents).toBe(4);
  });

  test('every split gives the same', () => {
    const text = `${MAP}\n${LINE}\n`.repeat(3);
    const whole = read(text);
    for (let cut = 0; cut <= text.length; cut += 5) expect(read(text.slice(0, cut), text.slice(cut))).toEqual(whole);
  });
});

test('in a trace.dat: any probe of kprobes with four words of 32 bits', () => {
  const commands: unknown[][] = [];
  const sink = { command: (...values: number[]) => void commands.push(values), skipped: () => expect.fail('skipped') };
  const bytes = dat.traceDat([
    {
      cpu: 0,
      pages: [
        dat.page(1_000, [
          dat.record(0, dat.mapData(0x1000, 0x1000, 4096, 1)),
          dat.record(5, dat.commandData(1, 0x30000002, 0xfffff003, 4)),
        ]),
      ],
    },
  ]);
  const reader = new TraceDatReader(new MemoryAccess(bytes), new Names(), commandsOf(sink));
  while (reader.read(10));
  expect(commands).toEqual([[1, 0x30000002, 0xfffff003 | 0, 4, 2, 1_005]]);
  expect([...reader.summary.others]).toEqual([['any_name', 1]]);
});

describe('a malformed line is counted and shown', () => {
  test.each([
    ['a word is missing', LINE.replace(' d3=0x0', '')],
    ['no word is there', LINE.replace(/ d0=.*/, '')],
    ['a word is no number', LINE.replace('d2=0x0', 'd2=(fault)')],
    ['a word of more than 32 bits', LINE.replace('d2=0x0', 'd2=0x100000000')],
    ['a word is there twice', `${LINE} d0=0x1`],
    ['a word goes on', LINE.replace('d2=0x0', 'd2=0x0zz')],
    ['no trace line', 'd0=0x1 d1=0x20000000 d2=0x0 d3=0x0'],
    ['a header cut', LINE.slice(30)],
  ])('%s', (_name, line) => {
    const { commands, skipped, summary } = read(`${MAP}\n${line}\n${LINE}\n`);
    expect(commands).toHaveLength(1);
    expect(skipped).toMatchObject([{ line: 2, excerpt: expect.stringContaining(line.slice(0, 20)) }]);
    expect(summary).toMatchObject({ commands: 1, skipped: 1 });
    expect(summary.firstSkipped).toEqual(skipped);
  });

  test('the last line without a line end: a cut number is a wrong one', () => {
    const { commands, skipped } = read(LINE);
    expect(commands).toEqual([]);
    expect(skipped).toMatchObject([{ line: 1, what: expect.stringMatching(/line end/) }]);
  });

  test('a line without an end takes no memory', () => {
    const { skipped } = read(...Array.from({ length: 40 }, () => 'x'.repeat(1 << 16)), `\n${LINE}\n`);
    expect(skipped).toHaveLength(1);
  });
});
