// Lines and the records they mean. Lines marked (recorded) are from the recordings, the others follow the kernels' format strings.
import { describe, expect, test } from 'vitest';
import { collector, bytesOf, readText } from './collect.ts';
import { EventKind, FtraceTextReader } from '../../src/trace/index.ts';

const at = (timeNs: number, pid: number, cpu: number, irqContext = 0): object => ({ timeNs, pid, cpu, irqContext });
const t812 = at(812_345_678_000, 1234, 3);
const t77 = at(77_000_001_000, 4711, 5);

const LINES: readonly [name: string, line: string, record: object][] = [
  [
    'map (recorded)',
    '  ip-200     [000] .....     7.753284: map: IOMMU: iova=0x00000000fffec000 - 0x00000000fffee000 paddr=0x0000000009663000 size=8192',
    { kind: 'map', ...at(7_753_284_000, 200, 0), iova: 0xfffec000, nrBytes: 8192, paddr: 0x9663000 },
  ],
  [
    'map with four flags',
    ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
    { kind: 'map', ...t812, iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'map up to 5.16: four flags, no range',
    'kworker/0:1-17 [000] d..1 10.000001: map: IOMMU: iova=0x00000000ffffe000 paddr=0x0000000123456000 size=4096',
    { kind: 'map', ...at(10_000_001_000, 17, 0), iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'unmap',
    ' nvme-1234    [003] d..1.  812.345990: unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096',
    { kind: 'unmap', ...t812, timeNs: 812_345_990_000, iova: 0xffffe000, nrBytes: 4096, extra: 4096 },
  ],
  [
    'unmap up to 5.16, less unmapped than asked',
    ' nvme-1234    [003] d..1  812.345678: unmap: IOMMU: iova=0x00000000ffffe000 size=8192 unmapped_size=4096',
    { kind: 'unmap', ...t812, iova: 0xffffe000, nrBytes: 8192, extra: 4096 },
  ],
  [
    'hex without padding, in upper case',
    ' nvme-1234    [003] d..1  812.345678: map: IOMMU: iova=0xFFFFE000 - 0xFFFFF000 paddr=0x1000 size=4096',
    { kind: 'map', ...t812, iova: 0xffffe000, nrBytes: 4096, paddr: 0x1000 },
  ],
  [
    'the highest address, in sizes of more than nine digits',
    ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x001ffffe00000000 - 0x001fffff00000000 paddr=0x0000000100000000 size=4294967296',
    { kind: 'map', ...t812, iova: 0x1ffffe00000000, nrBytes: 4294967296, paddr: 0x100000000 },
  ],
  [
    'trace-cmd report without flags',
    '            nvme-1234  [003]   812.345678: map:                  IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
    { kind: 'map', ...t812, iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'trace-cmd report with flags',
    '            nvme-1234  [003] d.s1.   812.345678: map:                  IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
    { kind: 'map', ...t812, irqContext: 1, iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'perf script',
    'nvme  1234 [003]   812.345678: iommu:map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096',
    { kind: 'map', ...t812, iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'perf script with pid/tid and a period',
    'my task  1200/1234  [003]   812.345678:          1 iommu:unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=4096',
    { kind: 'unmap', ...t812, iova: 0x1000, nrBytes: 4096, extra: 4096 },
  ],
  [
    'perf script, an event of the same name of another system',
    'nvme  1234 [003]   812.345678: ext4:map: something',
    { kind: 'other', ...t812, text: 'map' },
  ],
  [
    'nanoseconds',
    ' nvme-1234    [003] d..1.  812.345678901: map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x0000000000001000 size=4096',
    { kind: 'map', ...t812, timeNs: 812_345_678_901, iova: 0x1000, nrBytes: 4096, paddr: 0x1000 },
  ],
  [
    'a counter clock',
    ' nvme-1234    [003] d..1.       98765: map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x0000000000001000 size=4096',
    { kind: 'map', ...t812, timeNs: 98765, iova: 0x1000, nrBytes: 4096, paddr: 0x1000 },
  ],
  [
    'the tai clock: above 2^53 ns the time is rounded, not refused',
    ' nvme-1234    [003] d..1. 1795333723.671829: tracing_mark_write: x',
    { kind: 'mark', ...t812, timeNs: 1795333723671829000, text: 'x' },
  ],
  [
    'a tgid column, known and unknown',
    ' nvme-1234    ( 1200) [003] d..1.  812.345678: tracing_mark_write: x',
    { kind: 'mark', ...t812, text: 'x' },
  ],
  [
    ' unknown',
    ' nvme-1234    (-----) [003] d..1.  812.345678: tracing_mark_write: x',
    { kind: 'mark', ...t812, text: 'x' },
  ],
  [
    'a task name with a dash, colons and a slash',
    'kworker/u4:0-9   [001] ..s1.  812.345678: tracing_mark_write: x',
    { kind: 'mark', ...at(812_345_678_000, 9, 1, 1), text: 'x' },
  ],
  [
    'idle',
    '          <idle>-0       [000] d.h2.     4.764997: tracing_mark_write: x',
    { kind: 'mark', ...at(4_764_997_000, 0, 0, 2), text: 'x' },
  ],
  [
    'a task name that ends like a pid',
    'irq/25-AMD-Vi-210 [001] d.Z..    99.100000: io_page_fault: IOMMU:nvme 0000:01:00.0 iova=0x0000000000002000 flags=0x0020',
    { kind: 'fault', ...at(99_100_000_000, 210, 1, 3), device: '0000:01:00.0', iova: 0x2000, extra: 0x20 },
  ],
  [
    'a task name like a line',
    'my task: map: x-12 [001] .....    99.100000: tracing_mark_write: y',
    { kind: 'mark', ...at(99_100_000_000, 12, 1), text: 'y' },
  ],
  [
    'a task name like a CPU column',
    '  a-1 [000] 2: b:-77 [001] .....    99.100000: tracing_mark_write: y',
    { kind: 'mark', ...at(99_100_000_000, 77, 1), text: 'y' },
  ],
  [
    'a task name with brackets',
    '       [x] [y]-77 [001] .....    99.100000: tracing_mark_write: y',
    { kind: 'mark', ...at(99_100_000_000, 77, 1), text: 'y' },
  ],
  [
    'no task name',
    '-77 [001] .....    99.100000: tracing_mark_write: y',
    { kind: 'mark', ...at(99_100_000_000, 77, 1), text: 'y' },
  ],
  [
    '128 CPUs and a long pid',
    ' x-4194304 [1023] .....    99.100000: tracing_mark_write: y',
    { kind: 'mark', ...at(99_100_000_000, 4194304, 1023), text: 'y' },
  ],
  [
    'attach',
    ' swapper/0-1  [000] .....    1.234567: attach_device_to_domain: IOMMU: device=0000:00:14.0',
    { kind: 'attach', ...at(1_234_567_000, 1, 0), device: '0000:00:14.0' },
  ],
  [
    'detach (up to 6.1)',
    ' swapper/0-1  [000] .....    1.234567: detach_device_from_domain: IOMMU: device=0000:00:14.0',
    { kind: 'detach', ...at(1_234_567_000, 1, 0), device: '0000:00:14.0' },
  ],
  [
    'add to group (recorded)',
    '            init-1       [001] .....     3.409493: add_device_to_group: IOMMU: groupID=1 device=0000:00:04.0',
    { kind: 'addDevice', ...at(3_409_493_000, 1, 1), device: '0000:00:04.0', extra: 1 },
  ],
  [
    'remove from group',
    '            init-1       [001] .....     3.409493: remove_device_from_group: IOMMU: groupID=12 device=0000:00:04.0',
    { kind: 'removeDevice', ...at(3_409_493_000, 1, 1), device: '0000:00:04.0', extra: 12 },
  ],
  [
    'a fault of a device without driver',
    ' x-1 [001] .....     3.409493: io_page_fault: IOMMU: 0000:00:04.0 iova=0x0000000000002000 flags=0x0000',
    { kind: 'fault', ...at(3_409_493_000, 1, 1), device: '0000:00:04.0', iova: 0x2000, extra: 0 },
  ],
  [
    'dma_map_page',
    ' fio-4711 [005] d..1. 77.000001: dma_map_page: 0000:01:00.0 dir=FROM_DEVICE dma_addr=ffffe000 size=4096 phys_addr=123456000 attrs=',
    { kind: 'dmaMap', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'dma_map_phys with attributes',
    ' fio-4711 [005] d..1. 77.000001: dma_map_phys: 0000:01:00.0 dir=FROM_DEVICE dma_addr=ffffe000 size=4096 phys_addr=123456000 attrs=SKIP_CPU_SYNC|MMIO',
    { kind: 'dmaMap', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 4096, paddr: 0x123456000 },
  ],
  [
    'dma_map_resource',
    ' fio-4711 [005] d..1. 77.000001: dma_map_resource: 0000:01:00.0 dir=BIDIRECTIONAL dma_addr=ffffe000 size=64 phys_addr=fee00000 attrs=',
    { kind: 'dmaMap', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 64, paddr: 0xfee00000 },
  ],
  [
    'a mapping that failed',
    ' fio-4711 [005] d..1. 77.000001: dma_map_page: 0000:01:00.0 dir=FROM_DEVICE dma_addr=ffffffffffffffff size=4096 phys_addr=123456000 attrs=',
    { kind: 'other', ...t77, text: 'dma_map_page' },
  ],
  [
    'dma_unmap_page',
    ' fio-4711 [005] d..1. 77.000001: dma_unmap_page: 0000:01:00.0 dir=FROM_DEVICE dma_addr=ffffe000 size=4096 attrs=',
    { kind: 'dmaUnmap', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 4096 },
  ],
  [
    'dma_alloc (recorded)',
    '    kworker/u8:0-12      [001] .....     4.041010: dma_alloc: 0000:00:04.0 dir=BIDIRECTIONAL dma_addr=fffff000 size=512 virt_addr=(____ptrval____) flags=GFP_KERNEL attrs=',
    { kind: 'dmaAlloc', ...at(4_041_010_000, 12, 1), device: '0000:00:04.0', iova: 0xfffff000, nrBytes: 512 },
  ],
  [
    'dma_alloc_pages without dir',
    ' fio-4711 [005] d..1. 77.000001: dma_alloc_pages: 0000:01:00.0 dma_addr=ffffe000 size=4096 virt_addr=00000000deadbeef flags=GFP_KERNEL attrs=',
    { kind: 'dmaAlloc', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 4096 },
  ],
  [
    'dma_free',
    ' fio-4711 [005] d..1. 77.000001: dma_free: 0000:01:00.0 dir=NONE dma_addr=ffffe000 size=4096 virt_addr=00000000deadbeef attrs=',
    { kind: 'dmaFree', ...t77, device: '0000:01:00.0', iova: 0xffffe000, nrBytes: 4096 },
  ],
  [
    'dma_map_sg',
    ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=3/3 ents=1/1 dma_addrs={0xfffd0000} sizes={0x3000} phys_addrs={0x100000000,0x100001000,0x100002000} attrs=',
    { kind: 'dmaMapSg', ...t77, device: '0000:01:00.0', extra: 3, list: [0xfffd0000, 0x3000], listTruncated: false },
  ],
  [
    'dma_map_sg, physical list cut but the DMA list whole',
    ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=2/3 ents=1/1 [TRUNCATED] dma_addrs={0xfffd0000} sizes={0x3000} phys_addrs={0x100000000,0x100001000} attrs=',
    { kind: 'dmaMapSg', ...t77, device: '0000:01:00.0', extra: 3, list: [0xfffd0000, 0x3000], listTruncated: false },
  ],
  [
    'dma_map_sg, DMA list cut',
    ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=1/2 ents=1/2 [TRUNCATED] dma_addrs={0xfffd0000} sizes={0x3000} phys_addrs={0x100000000} attrs=',
    { kind: 'dmaMapSg', ...t77, device: '0000:01:00.0', extra: 2, list: [0xfffd0000, 0x3000], listTruncated: true },
  ],
  [
    'dma_map_sg of 6.12.0',
    ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000,0x5000} sizes={0x1000,0x200} phys_addrs={0x9000,0xa000} attrs=',
    {
      kind: 'dmaMapSg',
      ...t77,
      device: '0000:01:00.0',
      extra: 2,
      list: [0x1000, 0x1000, 0x5000, 0x200],
      listTruncated: false,
    },
  ],
  [
    'dma_map_sg_err',
    ' fio-4711 [005] d..1. 77.000001: dma_map_sg_err: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x9000} err=-12 attrs=',
    { kind: 'dmaMapSgError', ...t77, device: '0000:01:00.0' },
  ],
  [
    'dma_unmap_sg',
    ' fio-4711 [005] d..1. 77.000001: dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x9000,0xa000} attrs=',
    { kind: 'dmaUnmapSg', ...t77, device: '0000:01:00.0', list: [0x9000, 0, 0xa000, 0], listTruncated: false },
  ],
  [
    'dma_alloc_sgt',
    ' fio-4711 [005] d..1. 77.000001: dma_alloc_sgt: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff00000 size=8192 phys_addrs={0x9000,0xb000} flags=GFP_KERNEL attrs=',
    { kind: 'dmaMapSg', ...t77, device: '0000:01:00.0', extra: 2, list: [0xfff00000, 8192], listTruncated: false },
  ],
  [
    'dma_free_sgt',
    ' fio-4711 [005] d..1. 77.000001: dma_free_sgt: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff00000 size=8192 phys_addrs={0x9000}',
    { kind: 'dmaUnmapSg', ...t77, device: '0000:01:00.0', list: [0x9000, 0], listTruncated: false },
  ],
  [
    'dma_alloc_sgt_err',
    ' fio-4711 [005] d..1. 77.000001: dma_alloc_sgt_err: 0000:01:00.0 dir=TO_DEVICE dma_addr=0 size=8192 virt_addr=0 flags=GFP_KERNEL attrs=',
    { kind: 'other', ...t77, text: 'dma_alloc_sgt_err' },
  ],
  ...['dma_sync_single_for_cpu', 'dma_sync_single_for_device'].map((name): [string, string, object] => [
    name,
    ` fio-4711 [005] d..1. 77.000001: ${name}: 0000:01:00.0 dir=TO_DEVICE dma_addr=fff00000 size=8192`,
    { kind: 'dmaSync', ...t77, device: '0000:01:00.0' },
  ]),
  ...['dma_sync_sg_for_cpu', 'dma_sync_sg_for_device'].map((name): [string, string, object] => [
    name,
    ` fio-4711 [005] d..1. 77.000001: ${name}: 0000:01:00.0 dir=TO_DEVICE dma_addrs={0x1000} sizes={0x1000}`,
    { kind: 'dmaSync', ...t77, device: '0000:01:00.0' },
  ]),
  [
    'qi_submit (recorded)',
    '            init-1       [001] d..2.     3.501992: qi_submit: iotlb_inv dmar0: 0x300e2 0x0 0x0 0x0',
    {
      kind: 'qiSubmit',
      ...at(3_501_992_000, 1, 1),
      text: 'iotlb_inv',
      words: [0x300e2, 0, 0, 0, 0, 0, 0, 0],
      extra: 0,
    },
  ],
  [
    'qi_submit with all 64 bits',
    ' x-1 [001] d..2.     3.501992: qi_submit: p_iotlb_inv dmar12: 0xffffffffffffffff 0x80000000fffff001 0x123456789abcdef 0x1',
    {
      kind: 'qiSubmit',
      ...at(3_501_992_000, 1, 1),
      text: 'p_iotlb_inv',
      words: [-1, -1, 0xfffff001 | 0, -0x80000000, 0x89abcdef | 0, 0x1234567, 1, 0],
      extra: 12,
    },
  ],
  [
    'cache_tag_flush_range_np',
    ' qemu-900 [002] d..2.  55.000090: cache_tag_flush_range_np: dmar0 dmar0[0] type iotlb did 5 [0x17f000-0xffffffffffffffff] addr 0x100000 pages 0x100 mask 0x8',
    { kind: 'cacheTag', ...at(55_000_090_000, 900, 2), text: 'cache_tag_flush_range_np', extra: 5 },
  ],
  [
    'cache_tag_assign',
    ' modprobe-70 [000] ...1.   3.100000: cache_tag_assign: dmar0/dmar0 type iotlb did 2 pasid 0 ref 1',
    { kind: 'cacheTag', ...at(3_100_000_000, 70, 0), text: 'cache_tag_assign', extra: 2 },
  ],
  ...['map_single', 'map_sg', 'bounce_map_single', 'unmap_single', 'unmap_sg', 'bounce_unmap_single'].map(
    (name): [string, string, object] => [
      `intel_iommu of 5.4: ${name}`,
      ` x-70 [000] ...1   3.100000: ${name}: dev=0000:00:14.0 dev_addr=0xfff00000 phys_addr=0x1000 size=4096`,
      { kind: 'other', ...at(3_100_000_000, 70, 0), text: name },
    ],
  ),
  [
    'a kprobe (recorded)',
    '            init-1       [000] d..1.     2.478259: amdcmd: (__iommu_queue_command_sync+0x0/0xd0) d0=0x1 d1=0x20000000 d2=0x0 d3=0x0',
    { kind: 'other', ...at(2_478_259_000, 1, 0), text: 'amdcmd' },
  ],
  [
    'the function tracer',
    '  bash-7 [000] ....  2.000000: do_sys_open <-do_syscall_64',
    { kind: 'other', ...at(2_000_000_000, 7, 0), text: 'function' },
  ],
  [
    'a mark (recorded)',
    '            init-1       [001] .....     5.636403: tracing_mark_write: LAB 101-boot-done',
    { kind: 'mark', ...at(5_636_403_000, 1, 1), text: 'LAB 101-boot-done' },
  ],
  [
    'a mark in trace-cmd report',
    '  init-1  [001]  5.636403: print:                tracing_mark_write: LAB: 101',
    { kind: 'mark', ...at(5_636_403_000, 1, 1), text: 'LAB: 101' },
  ],
  [
    'a mark in perf script',
    'init 1 [001]  5.636403: ftrace:print: tracing_mark_write: LAB 101 ',
    { kind: 'mark', ...at(5_636_403_000, 1, 1), text: 'LAB 101' },
  ],
  [
    'bprint',
    '  init-1  [001]  5.636403: bprint:               my_func: hello',
    { kind: 'mark', ...at(5_636_403_000, 1, 1), text: 'hello' },
  ],
  [
    'a mark in UTF-8',
    '  init-1  [001] ..... 5.636403: tracing_mark_write: größe 漢 🙂',
    { kind: 'mark', ...at(5_636_403_000, 1, 1), text: 'größe 漢 🙂' },
  ],
];

// The surroundings of the fast path: it needs more bytes behind a line than the line has.
const TAIL = '# padding of the block\n'.repeat(20);

describe('a line and its record', () => {
  test.each(LINES)('%s', (_name, line, record) => {
    for (const text of [`${line}\n`, `${line}\r\n`, `${line}\n${line}\n${TAIL}`]) {
      const { events, skipped } = readText(text);
      expect(skipped).toEqual([]);
      expect(events[0]).toEqual(record);
      expect(events.at(-1)).toEqual(record);
    }
  });
});

describe('lost events', () => {
  test.each([
    ['CPU:3 [LOST 123 EVENTS]', 3, 123],
    ['CPU:3 [LOST EVENTS]', 3, -1],
    ['CPU:1 [EVENTS DROPPED]', 1, -1],
    ['CPU:1 [17 EVENTS DROPPED]', 1, 17],
  ])('%s', (line, cpu, extra) => {
    const { events, summary } = readText(`${line}\n`);
    expect(events).toMatchObject([{ kind: 'lost', cpu, extra }]);
    expect(summary).toMatchObject({ lost: Math.max(0, extra), events: 1, skipped: 0 });
  });
});

const MAP =
  ' nvme-1234    [003] d..1.  812.345678: map: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 paddr=0x0000000123456000 size=4096';
const UNMAP =
  ' nvme-1234    [003] d..1.  812.345678: unmap: IOMMU: iova=0x00000000ffffe000 - 0x00000000fffff000 size=4096 unmapped_size=4096';
const SG =
  ' fio-4711 [005] d..1. 77.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=2/2 ents=1/1 dma_addrs={0xfffd0000} sizes={0x3000} phys_addrs={0x1000,0x2000} attrs=';
const QI = ' x-1 [001] d..2.     3.501992: qi_submit: iotlb_inv dmar0: 0x300e2 0x0 0x0 0x0';

const MALFORMED: readonly [name: string, line: string, what: RegExp][] = [
  ['a range that is not the size', MAP.replace('size=4096', 'size=8192'), /range as long as size/],
  ['a range backwards', MAP.replace('- 0x00000000fffff000', '- 0x00000000fffef000'), /iova=0x/],
  ['an iova of 2^53', MAP.replace(/0x00000000ffff([ef])000/g, '0x00200000ffff$1000'), /below 2\^53/],
  ['an iova of all ones', MAP.replace('iova=0x00000000ffffe000', 'iova=0xffffffffffffffff'), /./],
  ['a paddr above 2^53', MAP.replace('0x0000000123456000', '0x8000000123456000'), /below 2\^53/],
  ['a size above 2^53', MAP.replace('size=4096', 'size=18446744073709551615'), /below 2\^53/],
  ['a hex number with a wrong digit', MAP.replace('123456000', '12345g000'), /hex digits/],
  ['no size', MAP.replace(' size=4096', ''), /size=/],
  ['a negative size', MAP.replace('size=4096', 'size=-4096'), /decimal size/],
  ['a size with a tail', MAP.replace('size=4096', 'size=4096kB'), /decimal size/],
  ['more after the size', `${MAP} more`, /nothing after/],
  ['no payload', MAP.slice(0, MAP.indexOf('IOMMU')), /IOMMU: iova/],
  ['an unmap without unmapped_size', UNMAP.replace(' unmapped_size=4096', ''), /unmapped_size/],
  [
    'an unmapped_size above 2^53',
    UNMAP.replace('unmapped_size=4096', 'unmapped_size=99999999999999999999'),
    /below 2\^53/,
  ],
  ['no device', ' x-1 [000] ..... 1.0: attach_device_to_domain: IOMMU: device=', /device name/],
  ['no group', ' x-1 [000] ..... 1.0: add_device_to_group: IOMMU: groupID=x device=a', /group id/],
  ['a fault without iova', ' x-1 [000] ..... 1.0: io_page_fault: IOMMU:nvme 0000:01:00.0 flags=0x0', /iova=/],
  [
    'a DMA address that is none',
    ' x-1 [000] ..... 1.0: dma_map_page: d dir=NONE dma_addr=xyz size=1 phys_addr=0 attrs=',
    /hex digits/,
  ],
  ['a list that does not end', SG.slice(0, SG.indexOf('}')), /list/],
  ['fewer sizes than addresses', SG.replace('{0x3000}', '{}'), /as many sizes/],
  ['fewer addresses than ents', SG.replace('ents=1/1', 'ents=2/2'), /as many dma_addrs/],
  ['a list address above 2^53', SG.replace('0xfffd0000', '0xfffffffffffd0000'), /below 2\^53/],
  ['more shown than there are', SG.replace('nents=2/2', 'nents=3/2'), /nents/],
  ['a descriptor word of 17 digits', QI.replace('0x300e2', '0x10000000000000000'), /descriptor words/],
  ['three descriptor words', QI.replace(' 0x0 0x0 0x0', ' 0x0 0x0'), /descriptor words/],
  ['no unit', QI.replace('dmar0:', 'dmar0'), /unit/],
  ['a cache tag without did', ' x-1 [000] ..... 1.0: cache_tag_assign: dmar0/dmar0 type iotlb', /did/],
  ['no trace line', 'Hello world', /task-pid \[cpu\]/],
  ['no timestamp', ' x-1 [000] ..... map: IOMMU', /task-pid/],
  ['a time beyond all clocks', ' x-1 [000] ..... 99999999999999999999.000000: map: IOMMU', /task-pid/],
  ['a time with ten decimals', ' x-1 [000] ..... 1.0000000000: map: IOMMU', /task-pid/],
  ['two CPU digits', ' x-1 [00] ..... 1.000000: map: IOMMU', /task-pid/],
  ['no pid', ' xyz [000] ..... 1.000000: map: IOMMU', /task-pid/],
  ['the latency format', '  <idle>-0     0d.h3    1us : map', /task-pid/],
];

describe('a malformed line is reported, never guessed at', () => {
  test.each(MALFORMED)('%s', (_name, line, what) => {
    for (const text of [`${line}\n`, `${MAP}\n${line}\n${MAP}\n${TAIL}`]) {
      const { events, skipped, summary } = readText(text);
      expect(events.every((event) => event['kind'] === 'map' && event['iova'] === 0xffffe000)).toBe(true);
      expect(skipped).toHaveLength(1);
      expect(skipped[0]?.what).toMatch(what);
      expect(skipped[0]?.excerpt.slice(0, 20)).toBe(line.slice(0, 20));
      expect(summary.skipped).toBe(1);
      expect(summary.firstSkipped).toEqual(skipped);
    }
  });

  test('an excerpt has at most 80 characters of the line, control characters escaped', () => {
    const { skipped } = readText(`\u0000\u001b[31m\tback\\slash${'x'.repeat(200)}\n`);
    expect(skipped[0]?.excerpt).toMatch(/^\\x00\\x1b\[31m\\tback\\\\slashx+\.\.\.$/);
  });
});

describe('the end of the input', () => {
  test.each([
    ['a map line is complete when range and size agree', MAP, 1],
    ['so is an unmap of all that was asked for', UNMAP, 1],
    ['a cut size', MAP.slice(0, -1), 0],
    ['an unmapped size that may go on', UNMAP.slice(0, -1), 0],
    ['a size without a range may go on', MAP.replace(' - 0x00000000fffff000', ''), 0],
    ['a descriptor word may go on', QI, 0],
    ['a device name may go on', ' x-1 [000] ..... 1.0: attach_device_to_domain: IOMMU: device=0000:00:1f', 0],
    ['a cut header', MAP.slice(0, 30), 0],
  ])('%s', (_name, line, count) => {
    const { events, skipped, summary } = readText(`${MAP}\n${line}`);
    expect(events).toHaveLength(1 + count);
    expect(summary.skipped).toBe(1 - count);
    if (count === 0) expect(skipped).toMatchObject([{ line: 2, what: expect.stringMatching(/^a whole line/) }]);
  });

  test('a comment or blanks may end it', () => {
    for (const last of ['#', '   ', '# tracer: nop']) expect(readText(`${MAP}\n${last}`).skipped).toEqual([]);
  });
});

describe('the summary', () => {
  test('counts lines, kinds and marks of loss, and gives line numbers', () => {
    const { summary, lines } = readText(`# tracer: nop\n\n${MAP}\nCPU:0 [LOST 5 EVENTS]\n${UNMAP}\nnonsense\n`);
    expect(lines).toEqual([3, 4, 5]);
    expect(summary).toMatchObject({
      lines: 6,
      events: 3,
      skipped: 1,
      lost: 5,
      format: 'ftrace text',
    });
    expect(summary.byKind[1]).toBe(1);
    expect(summary.byKind[2]).toBe(1);
    expect(summary.byKind[EventKind.lost]).toBe(1);
  });

  test('names the tool', () => {
    expect(readText(`cpus=2\n${MAP.replace(' d..1. ', ' ').replace('map: ', 'map:          ')}\n`).summary.format).toBe(
      'trace-cmd report',
    );
    expect(
      readText(`${MAP.replace('-1234 ', ' 1234 ').replace(' d..1. ', ' ').replace('map:', 'iommu:map:')}\n`).summary
        .format,
    ).toBe('perf script');
    expect(readText('').summary).toMatchObject({ lines: 0, events: 0 });
  });

  test('a device has one number however often it comes', () => {
    const all = collector();
    const reader = new FtraceTextReader(all.names, all.sink);
    for (let i = 0; i < 1000; i++) {
      reader.push(bytesOf(` x-1 [000] ..... 1.000000: attach_device_to_domain: IOMMU: device=dev${i % 100}\n`));
    }
    expect(all.names.count).toBe(100);
    expect(all.events.map((event) => event['device'])).toEqual(Array.from({ length: 1000 }, (_, i) => `dev${i % 100}`));
  });
});
