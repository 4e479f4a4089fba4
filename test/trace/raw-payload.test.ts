// Events that libtraceevent cannot print: trace-cmd and perf show their fields instead. Lines marked (recorded) are of trace-cmd 3.1.6.
import { describe, expect, test } from 'vitest';
import { readText } from './collect.ts';

const HEAD = '       scsi_eh_0-168   [001]     4.757173: ';
/** (recorded) */
const MAP_SG =
  'dma_map_sg:           [FAILED TO PARSE] device=0000:00:1f.2 full_nents=1 full_ents=1 truncated=0 phys_addrs=ARRAY[c0, a8, 12, 09, 00, 00, 00, 00] dma_addrs=ARRAY[c0, f8, f3, ff, 00, 00, 00, 00] lengths=ARRAY[00, 02, 00, 00] dir=2 attrs=0x0';
/** (recorded) */
const UNMAP_SG =
  'dma_unmap_sg:         [FAILED TO PARSE] device=0000:00:1f.2 addrs=ARRAY[c0, a8, 12, 09, 00, 00, 00, 00] dir=2 attrs=0x0';
const TWO = '00, 10, 00, 00, 01, 00, 00, 00, 00, 20, 00, 00, 00, 00, 00, 00';

describe('the fields of an event that was not printed', () => {
  test.each<[string, string, Record<string, unknown>]>([
    [
      'dma_map_sg',
      MAP_SG,
      { kind: 'dmaMapSg', device: '0000:00:1f.2', extra: 1, list: [0xfff3f8c0, 512], listTruncated: false },
    ],
    [
      'dma_map_sg of two, cut at one of three',
      MAP_SG.replace('full_ents=1', 'full_ents=3')
        .replace('full_nents=1', 'full_nents=5')
        .replace('c0, f8, f3, ff, 00, 00, 00, 00', TWO)
        .replace('00, 02, 00, 00', '00, 02, 00, 00, 00, 10, 00, 00'),
      { extra: 5, list: [0x100001000, 512, 0x2000, 4096], listTruncated: true },
    ],
    [
      'dma_map_sg of 6.12.0',
      MAP_SG.replace('full_nents=1 full_ents=1 truncated=0 ', ''),
      { extra: 1, listTruncated: false },
    ],
    [
      'dma_map_sg of nothing',
      MAP_SG.replace('c0, f8, f3, ff, 00, 00, 00, 00', '')
        .replace('00, 02, 00, 00', '')
        .replace('full_ents=1', 'full_ents=0'),
      { list: [] },
    ],
    [
      'dma_unmap_sg',
      UNMAP_SG,
      { kind: 'dmaUnmapSg', device: '0000:00:1f.2', list: [0x912a8c0, 0], listTruncated: false },
    ],
    [
      'dma_sync_sg_for_cpu',
      'dma_sync_sg_for_cpu:  [FAILED TO PARSE] device=0000:00:1f.2 dir=2',
      { kind: 'dmaSync', device: '0000:00:1f.2' },
    ],
  ])('%s', (_name, text, fields) => {
    const { events, skipped } = readText(`${HEAD}${text}\n`);
    expect(skipped).toEqual([]);
    expect(events).toMatchObject([fields]);
  });

  test('perf prints them so too (perf 6.1.187, given the same record)', () => {
    const { events, summary } = readText(
      `       scsi_eh_0   168 [001]     4.757173: dma:${MAP_SG.replace(/ +\[/, ' [')}\n`,
    );
    expect(events).toMatchObject([{ kind: 'dmaMapSg', pid: 168, list: [0xfff3f8c0, 512] }]);
    expect(summary.format).toBe('perf script');
  });
});

describe('what is not there is not guessed', () => {
  test.each([
    [
      'an event whose fields are not read',
      'dma_map_page: [FAILED TO PARSE] device=0000:00:1f.2 size=1',
      /give the trace\.dat/,
    ],
    ['no device', MAP_SG.replace('device=', 'dev='), /give the trace\.dat/],
    ['no sizes', MAP_SG.replace('lengths', 'length'), /lengths=ARRAY/],
    ['a number cut', MAP_SG.replace('c0, f8, f3, ff, 00, ', 'c0, f8, f3, '), /dma_addrs=/],
    ['a digit that is none', MAP_SG.replace('f8, f3', 'g8, f3'), /dma_addrs=/],
    ['an open list', MAP_SG.replace('00, 02, 00, 00]', '00, 02, 00, 00'), /lengths=ARRAY/],
    [
      'more sizes than addresses',
      MAP_SG.replace('00, 02, 00, 00]', '00, 02, 00, 00, 00, 02, 00, 00]'),
      /as many lengths/,
    ],
    ['more addresses than ents', MAP_SG.replace('full_ents=1', 'full_ents=0'), /full_ents/],
    ['an address above 2^53', MAP_SG.replace('ff, 00, 00, 00, 00', 'ff, 00, 00, 00, ff'), /dma_addrs=/],
    ['no addresses', UNMAP_SG.replace(' addrs=', ' frames='), /addrs=ARRAY/],
  ])('%s', (_name, text, what) => {
    const { events, skipped } = readText(`${HEAD}${text}\n`);
    expect(events).toEqual([]);
    expect(skipped).toMatchObject([{ line: 1, what: expect.stringMatching(what) }]);
  });

  test('a cut last line is not used', () => {
    const { events, skipped } = readText(`${HEAD}${UNMAP_SG}`);
    expect(events).toEqual([]);
    expect(skipped).toHaveLength(1);
  });
});
