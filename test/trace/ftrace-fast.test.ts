// The fast paths of the text reader against the exact path: same events, same skips, whatever the line looks like.
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { EventKind, FtraceTextReader } from '../../src/trace/index.ts';
import { EventPayloads } from '../../src/trace/ftrace-payload.ts';
import type { Plain, Skipped } from './collect.ts';
import { collector, readText } from './collect.ts';
import { gunzipped, runsWith } from './recordings.ts';

const DEVICE = '0000:00:04.0 dir=FROM_DEVICE';
/** Lines as 6.12 prints them. */
const TEXTS = [
  'map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
  'map: IOMMU: iova=0x0000001fffffe000 - 0x0000002000000000 paddr=0x000000e123456000 size=8192',
  'unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096',
  'unmap: IOMMU: iova=0x00000000ffe00000 - 0x0000000100000000 size=2097152 unmapped_size=40960',
  `dma_map_page: ${DEVICE} dma_addr=ffffe000 size=4096 phys_addr=123456000 attrs=`,
  'dma_map_phys: 0000:00:05.0 dir=TO_DEVICE dma_addr=1ffffe040 size=1514 phys_addr=7f40040 attrs=SKIP_CPU_SYNC|MMIO',
  'dma_map_resource: 10000:e1:00.0 dir=BIDIRECTIONAL dma_addr=0 size=64 phys_addr=fee00000 attrs=',
  `dma_unmap_page: ${DEVICE} dma_addr=ffffe000 size=4096 attrs=`,
  `dma_unmap_phys: ${DEVICE} dma_addr=ffffffffffffffff size=40960 attrs=`,
  'dma_alloc: 0000:00:04.0 dir=BIDIRECTIONAL dma_addr=fffff000 size=512 virt_addr=(____ptrval____) flags=GFP_KERNEL attrs=',
  'dma_free: 0000:00:04.0 dir=NONE dma_addr=fffff000 size=512 virt_addr=(____ptrval____) attrs=',
  `dma_map_sg: ${DEVICE} nents=3/3 ents=2/2 dma_addrs={0xfff3f8c0,0x1fff40000} sizes={0x200,0x1000} phys_addrs={0x82f28c0,0x82f3000,0x123456789} attrs=`,
  `dma_map_sg: ${DEVICE} nents=1/2 ents=1/2 [TRUNCATED] dma_addrs={0xfff3f8c0} sizes={0x200} phys_addrs={0x82f28c0} attrs=`,
  `dma_map_sg_err: ${DEVICE} dma_addrs={0x9000} err=-12 attrs=`,
  `dma_unmap_sg: ${DEVICE} phys_addrs={0x82f28c0,0x1000} attrs=`,
  `dma_unmap_sg: ${DEVICE} phys_addrs={} attrs=`,
  `dma_sync_single_for_device: ${DEVICE} dma_addr=fff00000 size=8192`,
  `dma_sync_sg_for_cpu: ${DEVICE} dma_addrs={0x1000} sizes={0x1000}`,
  'qi_submit: iotlb_inv dmar0: 0x300e2 0xffffe000 0x0 0x0',
  'qi_submit: inv_wait dmar12: 0x200000025 0xffffffff80000001 0x0 0x1',
  'qi_submit: cc_inv dmar0: 0x2000000031 0x0 0x0 0x0',
  'qi_submit: p_iotlb_inv dmar0: 0x123456789abcdef0 0x0 0x0 0x0',
  'cache_tag_assign: dmar0/dmar0 type iotlb did 2 pasid 0 ref 1',
  'cache_tag_flush_range_np: dmar0 dmar0[0] type iotlb did 5 [0x17f000-0xffffffffffffffff] addr 0x100000 pages 0x100 mask 0x8',
  'tracing_mark_write: a mark',
  'add_device_to_group: IOMMU: groupID=1 device=0000:00:04.0',
];
const HEADS = [
  '            init-1       [001] .....     3.501992: ',
  '          <idle>-0       [000] d.h2.   999.999999: ',
  '     kworker/0:1-4194303 [001] ..s1. 12345678.000001: ',
  '     t\u00e4sk with -a-77      [127] dNZff 123456.654321: ',
  '            init-1       [001] d..1    3.501992: ',
];

/** Of trace-cmd report 3.1, of one that prints flags, of perf script (the first as perf 6.1.187 prints it); `printed` adds the rest. */
const TOOL_HEADS = [
  '            init-1     [001]     3.501992: ',
  '          <idle>-0     [000] 12345678.999999: ',
  '     kworker/0:1-4194303 [001] d..1.     3.501992: ',
  '            init     1 [001]     3.501992: ',
  ' :-1 [x] 12    4194303 [000] 123456.654321: ',
];

/** An event as the tool of a head prints it: the name filled with blanks to 22 columns, or with its system in front. */
function printed(head: string, text: string): string {
  const name = text.slice(0, text.indexOf(':') + 1);
  const rest = text.slice(name.length + 1);
  if (head.includes('-')) {
    if (!head.startsWith(' :')) return `${head}${name.padEnd(21)} ${rest}`;
  }
  const system = /^(map|unmap|.*_group|.*_domain):/.test(name)
    ? 'iommu'
    : name.startsWith('dma_')
      ? 'dma'
      : /^(qi_|cache_)/.test(name)
        ? 'intel_iommu'
        : 'ftrace';
  return `${head}${`${system}:${name}`.padStart(text.length % 30)} ${rest}`;
}

/** Every head with every text, as the tools print them. */
const LINES = [
  ...HEADS.flatMap((head) => TEXTS.map((text) => head + text)),
  ...TOOL_HEADS.flatMap((head) => TEXTS.map((text) => printed(head, text))),
];

interface Outcome {
  events: Plain[];
  lines: number[];
  skipped: Skipped[];
  summary: unknown;
}

function read(lines: readonly Uint8Array[], inOneChunk: boolean): Outcome {
  const all = collector();
  const reader = new FtraceTextReader(all.names, all.sink);
  // Alone in its chunk a line has nothing behind it, so that no fast path dares to touch it.
  if (!inOneChunk) for (const line of lines) reader.push(line);
  else {
    const chunk = new Uint8Array(lines.reduce((sum, line) => sum + line.length, 0));
    let at = 0;
    for (const line of lines) {
      chunk.set(line, at);
      at += line.length;
    }
    reader.push(chunk);
  }
  const summary = reader.end();
  return { events: all.events, lines: all.lines, skipped: all.skipped, summary };
}

function lineOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(`${text}\n`, 'utf8'));
}

const PADDING = Array.from({ length: 300 }, () => lineOf('#'));

afterEach(() => void vi.restoreAllMocks());

describe('the fast paths', () => {
  test('read every line as the exact path does', () => {
    const lines = [...[...HEADS, ...TOOL_HEADS].keys()].flatMap((head) => {
      const own = LINES.slice(head * TEXTS.length, (head + 1) * TEXTS.length);
      return [...own, ...own].map(lineOf);
    });
    lines.push(...PADDING);
    expect(read(lines, true)).toEqual(read(lines, false));
    expect(read(lines, true).skipped).toEqual([]);
  });

  test('read damaged lines as the exact path does, or leave them to it', () => {
    const alphabet = '0123456789abcdefxX .:-=[](){},/_IOMUtypesizdrm#\t\n\r\u0000\u007f\u00ff';
    const place = fc.nat(1 << 20);
    const change = fc.tuple(
      fc.constantFrom('set', 'insert', 'delete', 'copy'),
      place,
      fc.nat(alphabet.length - 1),
      place,
    );
    const damaged = fc
      .tuple(fc.constantFrom(...LINES), fc.array(change, { maxLength: 3 }), fc.boolean())
      .map(([line, changes, crlf]) => {
        const bytes = Array.from(Buffer.from(`${line}${crlf ? '\r' : ''}\n`, 'utf8'));
        for (const [how, where, letter, from] of changes) {
          const at = where % (bytes.length - 1);
          const byte = alphabet.charCodeAt(letter);
          if (how === 'set') bytes[at] = byte;
          else if (how === 'insert') bytes.splice(at, 0, byte);
          else if (how === 'delete' && bytes.length > 2) bytes.splice(at, 1);
          else bytes[at] = bytes[from % (bytes.length - 1)] ?? 0;
        }
        return Uint8Array.from(bytes);
      });
    const whole = fc.constantFrom(...LINES).map(lineOf);
    fc.assert(
      fc.property(fc.array(fc.oneof(damaged, whole), { minLength: 1, maxLength: 12 }), (lines) => {
        // The same lines in the exact path come one by one, also those that the damage cut in two.
        const cut = lines.flatMap((bytes) => {
          const parts: Uint8Array[] = [];
          for (let at = 0; at < bytes.length;) {
            const end = bytes.indexOf(10, at) + 1;
            parts.push(bytes.subarray(at, end));
            at = end;
          }
          return parts;
        });
        const all = [...cut, ...PADDING];
        expect(read(all, true)).toEqual(read(all, false));
      }),
      { seed: 11, numRuns: 3000 },
    );
  });

  test.each([
    ['a comment shaped like a line', `#           init-1       [001] .....     3.501992: ${TEXTS[0]}`],
    ['another task name with the same pid and end', `          zzinit-1       [001] .....     3.501992: ${TEXTS[0]}`],
    ['another first letter', `x           init-1       [001] .....     3.501992: ${TEXTS[0]}`],
    ['a blank too many before the text', `${HEADS[0]}cache_tag_assign:  type iotlb did 2 pasid 0 ref 1`],
    ['a tab before the text', `${HEADS[0]}cache_tag_assign:\t type iotlb did 2 pasid 0 ref 1`],
    ['no blank before the name', `${HEADS[0].trimEnd()}0${TEXTS[0]}`],
    ['a direction in two words', `${HEADS[0]}${TEXTS[4].replace('FROM_DEVICE', 'FRO _DEVICE')}`],
    ['another direction', `${HEADS[0]}${TEXTS[4].replace('FROM_DEVICE', 'FROX_DEVICE')}`],
    ['an address of 17 digits', `${HEADS[0]}${TEXTS[4].replace('ffffe000', '000000000ffffe000')}`],
    ['an address of 2^53', `${HEADS[0]}${TEXTS[4].replace('ffffe000', '20000000000000')}`],
    ['an address that ends at 2^53', `${HEADS[0]}${TEXTS[4].replace('ffffe000', '1ffffffffff000')}`],
    ['a physical address that ends at 2^53', `${HEADS[0]}${TEXTS[4].replace('123456000', '1ffffffffff000')}`],
    ['a mapping at 2^53', `${HEADS[0]}${TEXTS[0].replaceAll('0x00000000ffff', '0x002000000000')}`],
    ['a map with bits 63:56', `${HEADS[0]}${TEXTS[0].replaceAll('0x00000000ffff', '0x01000000ffff')}`],
    ['a paddr with bits 63:56', `${HEADS[0]}${TEXTS[0].replace('0x0000000123456000', '0x0100000123456000')}`],
    ['a size of ten digits', `${HEADS[0]}${TEXTS[0].replace('=4096', '=0000004096')}`],
    ['a size that is a page and more', `${HEADS[0]}${TEXTS[4].replace('=4096', '=40961')}`],
    ['a size that is four digits and a letter', `${HEADS[0]}${TEXTS[4].replace('=4096', '=4096k')}`],
    ['a descriptor of 17 digits', `${HEADS[0]}${TEXTS[18].replace('0x300e2', '0x00000000000000001')}`],
    ['fewer sizes than addresses', `${HEADS[0]}${TEXTS[11].replace('0x200,0x1000', '0x200')}`],
    ['more addresses than ents', `${HEADS[0]}${TEXTS[11].replace('ents=2/2 dma', 'ents=1/1 dma')}`],
    ['a segment that ends at 2^53', `${HEADS[0]}${TEXTS[11].replace('0x1fff40000', '0x1ffffffffff000')}`],
    ['a list without a comma', `${HEADS[0]}${TEXTS[14].replace(',', '')}`],
    ['an open list', `${HEADS[0]}${TEXTS[14].replace('}', '')}`],
    ['nothing behind the device', `${HEADS[0]}dma_sync_single_for_cpu: 0000:00:04.0 dir=TO_DEVICE`],
    ['a longer event name', `${HEADS[0]}${TEXTS[4].replace('page:', 'pages:')}`],
    ['an event name with another middle', `${HEADS[0]}${TEXTS[16].replace('_single_', '_sxngle_')}`],
    ['an event name with another eighth letter', `${HEADS[0]}${TEXTS[16].replace('_sync_', '_synx_')}`],
    ['a physical address of 2^53 in a list', `${HEADS[0]}${TEXTS[14].replace('0x1000', '0x20000000000000')}`],
    ['a last size that is a page and more', `${HEADS[0]}${TEXTS[7].replace('=4096', '=40961')}`],
    ['a last size that is four digits and a letter', `${HEADS[0]}${TEXTS[7].replace('=4096', '=4096k')}`],
    ['a size that is a page modulo 2^32', `${HEADS[0]}${TEXTS[0].replace('=4096', '=4294971392')}`],
    [
      'fewer sizes than addresses and ents',
      `${HEADS[0]}${TEXTS[11].replace('ents=2/2 dma', 'ents=1/1 dma').replace('0x200,0x1000', '0x200')}`,
    ],
    ['a carriage return', `${HEADS[0]}${TEXTS[0]}\r`],
    ['a carriage return behind attributes', `${HEADS[0]}${TEXTS[4]}\r`],
    ['a carriage return behind a descriptor', `${HEADS[0]}${TEXTS[18]}\r`],
    ['more blanks than any column has', `${HEADS[0]}map:${' '.repeat(60)}${TEXTS[0].slice(5)}`],
    ['more blanks than any column has, and nothing else', `${HEADS[0]}map:${' '.repeat(300)}`],
    ['an event of the same name of another system', `${TOOL_HEADS[3]}dma:${TEXTS[0]}`],
    ['an event of a system whose name begins as ours', `${TOOL_HEADS[3]}iommufd:${TEXTS[0]}`],
    ['a dma event of iommu', `${TOOL_HEADS[3]}iommu:${TEXTS[4]}`],
    ['a system in the text of ftrace', `${HEADS[0]}iommu:${TEXTS[0]}`],
    ['a blank before the pid, and flags', `${HEADS[0].replace('-1', ' 1')}iommu:${TEXTS[0]}`],
    ['no flags in one line', `${HEADS[0].replace('.....', '     ')}${TEXTS[0]}`],
    ['a pid/tid as perf may print it', `${TOOL_HEADS[3].replace('     1 ', ' 300/301 ')}iommu:${TEXTS[0]}`],
    ['a period before the event', `${TOOL_HEADS[3]}    1  iommu:${TEXTS[0]}`],
    ['a time of nanoseconds', `${TOOL_HEADS[0].replace('501992', '501992123')}${TEXTS[0]}`],
  ])('%s', (_what, text) => {
    for (const before of [HEADS[0] + TEXTS[0], printed(TOOL_HEADS[0], TEXTS[0]), printed(TOOL_HEADS[3], TEXTS[0])]) {
      const lines = [lineOf(before), lineOf(text), lineOf(before), ...PADDING];
      expect(read(lines, true)).toEqual(read(lines, false));
    }
  });

  test('never look past the chunk: at any distance from its end a line is read the same', () => {
    for (const text of TEXTS) {
      const lines = [lineOf(HEADS[0] + text), lineOf(HEADS[0] + text), lineOf(HEADS[0] + text)];
      const expected = read(lines, false);
      for (let behind = 0; behind < 500; behind += 7) {
        const padded = [...lines, lineOf(`#${'x'.repeat(behind)}`)];
        expect(read(padded, true).events).toEqual(expected.events);
      }
    }
  });

  test('a list that ends at the end of the chunk', () => {
    for (let count = 1; count < 60; count++) {
      const list = Array.from({ length: count }, (_, i) => `0x${(i * 4096).toString(16)}`).join(',');
      for (const tail of ['', ' ', ' attrs=', '}', ',']) {
        const text = `dma_map_sg: ${DEVICE} nents=${count}/${count} ents=${count}/${count} dma_addrs={${list}} sizes={${list}} phys_addrs={${list}}${tail}`;
        const lines = [lineOf(HEADS[0] + TEXTS[0]), lineOf(HEADS[0] + text)];
        expect(read(lines, true)).toEqual(read(lines, false));
      }
    }
  });

  test('a list line above the limit of a line is skipped', () => {
    const count = 100_000;
    const list = Array.from({ length: count }, () => '0x1000').join(',');
    const text = `dma_map_sg: ${DEVICE} nents=${count}/${count} ents=${count}/${count} dma_addrs={${list}} sizes={${list}} phys_addrs={${list}} attrs=`;
    const { events, skipped } = read([lineOf(HEADS[0] + TEXTS[0]), lineOf(HEADS[0] + text), ...PADDING], true);
    expect(events).toHaveLength(1);
    expect(skipped).toMatchObject([{ line: 2, what: expect.stringMatching(/at most/) }]);
  });

  test.each([HEADS[1], ...TOOL_HEADS])('are taken by the lines that they are for: %j', (head) => {
    const exact = vi.spyOn(EventPayloads.prototype, 'parse');
    const texts = TEXTS.filter((text) => !/TRUNCATED|_err|mark|group|NONE|ffffffffffffffff size|p_iotlb/.test(text));
    const lines = texts.flatMap((text) =>
      Array.from({ length: 10 }, () => lineOf(head === HEADS[1] ? head + text : printed(head, text))),
    );
    expect(read([...lines, ...PADDING], true).events).toHaveLength(lines.length);
    // The first line says where the CPU column is.
    expect(exact.mock.calls.length).toBe(1);
  });

  test.each(runsWith('trace.txt.gz'))('take nearly all lines of $name', (run) => {
    const exact = vi.spyOn(EventPayloads.prototype, 'parse');
    const { summary } = readText(gunzipped(run, 'trace.txt.gz'));
    expect(exact.mock.calls.length).toBeLessThan(100 + summary.events * 0.01);
  });
});

describe('wants', () => {
  const wants = Object.values(EventKind).filter((kind) => kind !== EventKind.qiSubmit && kind !== EventKind.cacheTag);
  const lines = [...HEADS, ...HEADS].flatMap((head) => TEXTS.map((text) => lineOf(head + text)));

  test.each([true, false])('only the kinds asked for are delivered, all are counted (one chunk: %s)', (inOneChunk) => {
    const all = collector();
    const reader = new FtraceTextReader(all.names, { wants, ...all.sink });
    const pushed = inOneChunk ? [Buffer.concat([...lines, ...PADDING])] : [...lines, ...PADDING];
    for (const chunk of pushed) reader.push(new Uint8Array(chunk));
    const full = read([...lines, ...PADDING], true);
    expect(all.events).toEqual(full.events.filter(({ kind }) => kind !== 'qiSubmit' && kind !== 'cacheTag'));
    expect(reader.end()).toEqual(full.summary);
  });

  test('a line of a kind that is not wanted is counted by its name, whatever follows', () => {
    const texts = ['qi_submit: nonsense', 'cache_tag_assign: nonsense', 'qi_submit: iotlb_inv dmar0: 0x1 0x2'];
    const damaged = texts.map((text) => lineOf(HEADS[0] + text));
    for (const padding of [[], PADDING]) {
      const all = collector();
      const reader = new FtraceTextReader(all.names, { wants, ...all.sink });
      reader.push(new Uint8Array(Buffer.concat([lineOf(HEADS[0] + TEXTS[0]), ...damaged, ...padding])));
      const { byKind, skipped } = reader.end();
      expect(skipped).toBe(0);
      expect(byKind[EventKind.qiSubmit]).toBe(2);
      expect(byKind[EventKind.cacheTag]).toBe(1);
      expect(all.events).toHaveLength(1);
    }
  });

  test('nothing wanted, nothing delivered', () => {
    const all = collector();
    const reader = new FtraceTextReader(all.names, { ...all.sink, wants: [] });
    for (const chunk of [...lines, ...PADDING]) reader.push(chunk);
    expect(reader.end().events).toBe(lines.length);
    expect(all.events).toEqual([]);
  });
});
