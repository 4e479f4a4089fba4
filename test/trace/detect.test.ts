import { describe, expect, test } from 'vitest';
import { detect } from '../../src/trace/index.ts';
import { bytesOf } from './collect.ts';

const raw = (...bytes: number[]): Uint8Array => Uint8Array.from([...bytes, ...new Uint8Array(64)]);
const MAP = ' nvme-1234 [003] d..1. 812.345678: map: IOMMU: iova=0x1000 paddr=0x1000 size=4096\n';

describe('what an input is', () => {
  test.each([
    ['nothing', new Uint8Array(0), 'empty', /nothing/],
    ['gzip', raw(0x1f, 0x8b, 8), 'gzip', /gzip/],
    ['zstd', raw(0x28, 0xb5, 0x2f, 0xfd), 'zstd', /zstd/],
    ['zstd behind a skippable frame', raw(0x51, 0x2a, 0x4d, 0x18), 'zstd', /zstd/],
    ['trace.dat', bytesOf('\u0017\u0008Dtracing7\u0000'), 'trace.dat', /trace\.dat/],
    ['ftrace text', bytesOf(`# tracer: nop\n#\n${MAP}`), 'text', /text/],
    [
      'a trace without events',
      bytesOf('# tracer: nop\n#\n# entries-in-buffer/entries-written: 0/0   #P:2\n'),
      'text',
      /without events/,
    ],
    ['trace-cmd report', bytesOf('cpus=2\n'), 'text', /text/],
    ['a trace that starts with losses', bytesOf('CPU:1 [LOST 3 EVENTS]\n'), 'text', /text/],
    ['a QEMU log', bytesOf('14170@1795333711.505339:vtd_context_cache_reset \n'), 'qemu-log', /QEMU/],
    ['a QEMU log without times', bytesOf('vtd_context_cache_reset \n'), 'qemu-log', /QEMU/],
    ['perf.data', bytesOf(`PERFILE2${'\u0000'.repeat(20)}`), 'refused', /perf\.data/],
    ['ELF', raw(0x7f, 0x45, 0x4c, 0x46), 'refused', /ELF/],
    ['pcap', raw(0xd4, 0xc3, 0xb2, 0xa1), 'refused', /pcap/],
    ['pcapng', raw(0x0a, 0x0d, 0x0d, 0x0a), 'refused', /pcapng/],
    ['xz', raw(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), 'refused', /xz/],
    ['UTF-16', raw(0xff, 0xfe, 0x23, 0), 'refused', /UTF-16/],
    ['a text', bytesOf('Dear reader,\nthis is a letter.\n'), 'refused', /2 lines/],
    ['blank lines', bytesOf('\n \n'), 'refused', /blank/],
    ['zeros', new Uint8Array(4096), 'refused', /binary/],
  ])('%s', (_name, bytes, kind, found) => {
    const detection = detect(bytes);
    expect(detection.kind).toBe(kind);
    expect(detection.found).toMatch(found);
    if (kind === 'refused') expect(detection.advice).not.toBe('');
  });

  test('perf.data comes with what to run', () => {
    expect(detect(bytesOf('PERFILE2')).advice).toMatch(/perf script/);
  });
});
