// The text readers under input that nobody wrote: cut anywhere, garbage, endless lines. A result is right or absent.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Plain } from './collect.ts';
import { bytesOf, collector, readText } from './collect.ts';
import { FtraceTextReader, QemuLogReader } from '../../src/trace/index.ts';

const SAMPLE = [
  '# tracer: nop\r',
  ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
  ' nvme-1234    [003] d..1.  812.345990: unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096\r',
  '',
  'CPU:1 [LOST 7 EVENTS]',
  'garbage \u0000 here',
  ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=1/1 ents=1/1 dma_addrs={0xfffd0000} sizes={0x3000} phys_addrs={0x1000} attrs=',
  ' x-1 [001] d..2.     3.501992: qi_submit: iotlb_inv dmar0: 0x300e2 0x0 0x0 0x0',
  ' x-1 [001] d..2.     3.501992: tracing_mark_write: größe',
  ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4097',
  ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x0000000000001000 paddr=0x0000000000002000 size=4096',
].join('\n');

function readChunks(chunks: Iterable<Uint8Array>): unknown {
  const all = collector();
  const reader = new FtraceTextReader(all.names, all.sink);
  for (const chunk of chunks) reader.push(chunk);
  const summary = reader.end();
  return { events: all.events, lines: all.lines, skipped: all.skipped, summary };
}

describe('chunk borders', () => {
  const bytes = bytesOf(SAMPLE);
  const whole = readChunks([bytes]);

  test('every single split gives the same events', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(readChunks([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(whole);
    }
  });

  test('so do single bytes and any other way to cut', () => {
    expect(readChunks(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(whole);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 20 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
        expect(readChunks(at.slice(1).map((end, i) => bytes.subarray(at[i], end)))).toEqual(whole);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('the fast path and the exact path agree', () => {
    // In one chunk most lines take the fast path; line by line, with nothing behind it, none does.
    const text = SAMPLE.split('\n').slice(0, 9).join('\n');
    const many = bytesOf(`${text}\n`.repeat(50));
    const lines: Uint8Array[] = [];
    for (let at = 0; at < many.length;) {
      const end = many.indexOf(10, at) + 1;
      lines.push(many.subarray(at, end));
      at = end;
    }
    expect(readChunks([many])).toEqual(readChunks(lines));
  });
});

const LINE_TEMPLATE =
  '          task-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096';

/** What a map line says, by a regular expression and bigint: the independent reading. */
function oracle(line: string): Plain | undefined {
  const match =
    /^.*-(\d{1,10})\s+\[(\d{3,6})\]\s+(?:([^\s]{4,8})\s+)?(\d+)(?:\.(\d{1,9}))?:\s+map:\s+IOMMU:\s*iova=0x([0-9a-fA-F]+)\s+-\s*0x([0-9a-fA-F]+)\s+paddr=0x([0-9a-fA-F]+)\s+size=(\d+)\s*$/.exec(
      line,
    );
  if (match === null) return undefined;
  const [iova, end, paddr] = [match[6], match[7], match[8]].map((digits) => BigInt(`0x${digits}`)) as [
    bigint,
    bigint,
    bigint,
  ];
  const size = BigInt(match[9] ?? '');
  const limit = 2n ** 53n;
  if (end - iova !== size || end >= limit || paddr + size >= limit) return undefined;
  return {
    iova: Number(iova),
    nrBytes: Number(size),
    paddr: Number(paddr),
    pid: Number(match[1]),
    cpu: Number(match[2]),
  };
}

describe('damaged lines', () => {
  test('a map line with bytes exchanged is read as it stands or not at all', () => {
    const alphabet = '0123456789abcdefxX .:-=[]IOMUsize\t\u0000\u00ff';
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(LINE_TEMPLATE.length - 1), fc.nat(alphabet.length - 1)), {
          minLength: 1,
          maxLength: 3,
        }),
        fc.boolean(),
        (changes, padded) => {
          const chars = LINE_TEMPLATE.split('');
          for (const [at, letter] of changes) chars[at] = alphabet[letter] ?? ' ';
          const line = chars.join('');
          const head = `${LINE_TEMPLATE}\n`;
          const bytes = Uint8Array.from(head + line + '\n' + (padded ? '#\n'.repeat(200) : ''), (char) =>
            char.charCodeAt(0),
          );
          const events = readText(bytes).events.slice(1);
          for (const event of events.filter((one) => one['kind'] === 'map')) {
            const expected = oracle(line);
            expect(expected, line).toBeDefined();
            expect(event).toMatchObject(expected as Plain);
          }
        },
      ),
      { seed: 7, numRuns: 20000 },
    );
  });

  test('random bytes are skipped line by line', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const { summary, skipped } = readText(bytes);
        expect(summary.events).toBe(0);
        expect(summary.skipped).toBe(skipped.length);
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  test('brackets and blanks without end cost linear time', () => {
    for (const piece of ['[000] ', ' [', '-1 [000] ', '          ', '1 [000] 1.0: ', '\u0000']) {
      const started = performance.now();
      const { summary } = readText(`${piece.repeat(100_000)}\n`);
      expect(summary.events).toBe(0);
      expect(performance.now() - started).toBeLessThan(2000);
    }
  });

  test('a list of any length is read and grows the list', () => {
    const list = Array.from({ length: 5000 }, (_, i) => `0x${(i * 4096).toString(16)}`).join(',');
    const { events, skipped } = readText(
      ` x-1 [000] ..... 1.000000: dma_map_sg: d dir=NONE dma_addrs={${list}} sizes={${list}} phys_addrs={${list}} attrs=\n`,
    );
    expect(skipped).toEqual([]);
    expect(events[0]).toMatchObject({ extra: 5000 });
    expect(events[0]?.['list']).toHaveLength(10000);
  });

  test('endless new names take no memory', () => {
    let text = '';
    for (let i = 0; i < 6000; i++) text += ` x-1 [000] ..... 1.000000: event_${i}: x\n`;
    const { events } = readText(text);
    expect(events).toHaveLength(6000);
    expect(events.at(-1)).toMatchObject({ kind: 'other', text: '(other)' });
  });
});

describe('long lines', () => {
  const mib = new Uint8Array(1 << 20).fill(120);

  test('a line of 2 GB is one skip, in bounded memory', () => {
    const all = collector();
    const reader = new FtraceTextReader(all.names, all.sink);
    reader.push(bytesOf(`${LINE_TEMPLATE}\n`));
    const before = process.memoryUsage();
    for (let i = 0; i < 2048; i++) reader.push(mib);
    const after = process.memoryUsage();
    reader.push(bytesOf(`\n${LINE_TEMPLATE}\n`));
    const summary = reader.end();
    expect(summary).toMatchObject({ lines: 3, events: 2, skipped: 1 });
    expect(all.skipped).toMatchObject([
      { line: 2, what: expect.stringMatching(/at most/), excerpt: `${'x'.repeat(80)}...` },
    ]);
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 << 20);
  });

  test('the limit does not depend on where chunks end', () => {
    for (const length of [(1 << 20) - 1, 1 << 20, (1 << 20) + 1]) {
      const line = new Uint8Array(length + 1).fill(120);
      line[length] = 10;
      const whole = readChunks([line]);
      expect(readChunks([line.subarray(0, 1000), line.subarray(1000)])).toEqual(whole);
      expect(readChunks([line.subarray(0, length), line.subarray(length)])).toEqual(whole);
      const what = (whole as { skipped: { what: string }[] }).skipped[0]?.what;
      expect(what).toMatch(length > 1 << 20 ? /at most/ : /task-pid/);
    }
  });

  test('a QEMU log too', () => {
    const skipped: string[] = [];
    const reader = new QemuLogReader({
      descriptor() {},
      mark() {},
      tail() {},
      skipped: (_line, what) => void skipped.push(what),
    });
    for (let i = 0; i < 64; i++) reader.push(mib);
    expect(reader.end()).toMatchObject({ lines: 1, skipped: 1 });
    expect(skipped).toHaveLength(1);
  });
});
