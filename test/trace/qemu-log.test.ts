// Lines of QEMU logs and what they mean. Lines marked (recorded) are from the recordings.
import { describe, expect, test } from 'vitest';
import { AmdOperation, QemuKind, QemuLogReader } from '../../src/trace/index.ts';
import { bytesOf } from './collect.ts';

type Call = readonly [name: string, ...values: unknown[]];

const FIELDS: Record<number, readonly string[]> = {
  [QemuKind.contextGlobal]: [],
  [QemuKind.contextDomain]: ['domain'],
  [QemuKind.contextDevices]: ['device', 'value'],
  [QemuKind.contextDevice]: ['device'],
  [QemuKind.iotlbGlobal]: [],
  [QemuKind.iotlbDomain]: ['domain'],
  [QemuKind.iotlbPages]: ['domain', 'iova', 'value'],
  [QemuKind.wait]: ['paddr', 'value'],
  [QemuKind.translate]: ['device', 'iova', 'paddr', 'value'],
  [QemuKind.pageUpdate]: ['device', 'iova', 'domain', 'entryLo', 'entryHi'],
  [QemuKind.amdTranslate]: ['device', 'iova', 'paddr'],
  [QemuKind.amdCacheUpdate]: ['device', 'iova', 'paddr', 'domain'],
  [QemuKind.amd]: ['text'],
  [QemuKind.amdCommand]: ['value', 'domain', 'device'],
};

function read(chunks: Iterable<Uint8Array>): {
  calls: Call[];
  summary: ReturnType<QemuLogReader['end']>;
  times: number[];
} {
  const calls: Call[] = [];
  const times: number[] = [];
  const reader = new QemuLogReader({
    descriptor: (...words) => void calls.push(['descriptor', ...words.slice(0, 4)]),
    mark: (name) => void calls.push(['mark', name]),
    tail: (value) => void calls.push(['tail', value]),
    amdCommand: (operation, domain, device) => void calls.push(['amdCommand', operation, domain, device]),
    translation: (device, iova, paddr) => void calls.push(['translation', device, iova, paddr]),
    event(event) {
      times.push(event.timeUs);
      calls.push([
        event.name,
        ...(FIELDS[event.kind] ?? []).map((field) => (event as unknown as Record<string, unknown>)[field]),
      ]);
    },
    skipped: (line, what) => void calls.push(['skipped', line, what]),
  });
  for (const chunk of chunks) reader.push(chunk);
  return { summary: reader.end(), calls, times };
}

const LINES: readonly [line: string, ...calls: Call[]][] = [
  ['vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x400e2', ['descriptor', 0x400e2, 0, 0, 0]],
  [
    'vtd_inv_desc invalidate desc type iotlb high 0xfffff000 low 0x8000000300000001',
    ['descriptor', 0x1, 0x80000003 | 0, 0xfffff000 | 0, 0],
  ],
  ['vtd_inv_desc_cc_global context invalidate globally', ['vtd_inv_desc_cc_global']],
  ['vtd_inv_desc_cc_domain context invalidate domain 0x7', ['vtd_inv_desc_cc_domain', 7]],
  ['vtd_inv_desc_cc_devices context invalidate devices sid 0x20 fmask 0x0', ['vtd_inv_desc_cc_devices', 0x20, 0]],
  ['vtd_inv_desc_cc_device context invalidate device 00:1f.02', ['vtd_inv_desc_cc_device', 0xfa]],
  ['vtd_inv_desc_iotlb_global iotlb invalidate global', ['vtd_inv_desc_iotlb_global']],
  ['vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x4', ['vtd_inv_desc_iotlb_domain', 4]],
  [
    'vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x3 addr 0xfffff000 mask 0x5',
    ['vtd_inv_desc_iotlb_pages', 3, 0xfffff000, 5],
  ],
  ['vtd_inv_desc_wait_sw wait invalidate status write addr 0x7baa43c data 0x2', ['vtd_inv_desc_wait_sw', 0x7baa43c, 2]],
  ['vtd_inv_qi_tail write tail 18', ['tail', 18]],
  [
    'vtd_dmar_translate dev 00:04.00 iova 0xffffe000 -> gpa 0x83e5000 mask 0xfff',
    ['translation', 0x20, 0xffffe000, 0x83e5000],
    ['vtd_dmar_translate', 0x20, 0xffffe000, 0x83e5000, 0xfff],
  ],
  [
    'vtd_iotlb_page_update IOTLB page update sid 0x20 iova 0xffffe000 slpte 0x83e5003 domain 0x3',
    ['vtd_iotlb_page_update', 0x20, 0xffffe000, 3, 0x83e5003, 0],
  ],
  [
    'vtd_iotlb_page_update IOTLB page update sid 0x20 iova 0xffffe000 pte 0x80000000083e5003 domain 0x3',
    ['vtd_iotlb_page_update', 0x20, 0xffffe000, 3, 0x83e5003, -0x80000000],
  ],
  [
    'amdvi_translation_result devid: 00:04.0 gpa 0xffffe000 hpa 0x4d975000',
    ['translation', 0x20, 0xffffe000, 0x4d975000],
    ['amdvi_translation_result', 0x20, 0xffffe000, 0x4d975000],
  ],
  [
    'amdvi_cache_update  update iotlb domid 0x2 devid: 00:04.0 gpa 0xffffe000 hpa 0x4d975000',
    ['amdvi_cache_update', 0x20, 0xffffe000, 0x4d975000, 2],
  ],
  [
    'amdvi_command_exec command buffer head at 0x0 command buffer tail at 0x10 command buffer base at 0x42c0000',
    ['amdvi_command_exec', 'command buffer head at 0x0 command buffer tail at 0x10 command buffer base at 0x42c0000'],
  ],
  [
    'amdvi_devtab_inval device table entry for devid: 00:0f.3 invalidated',
    ['amdCommand', AmdOperation.devtabEntry, -1, 0x7b],
    ['amdvi_devtab_inval', 2, -1, 0x7b],
  ],
  [
    'amdvi_pages_inval AMD-Vi pages for domain 0x12 invalidated',
    ['amdCommand', AmdOperation.pages, 0x12, -1],
    ['amdvi_pages_inval', 3, 0x12, -1],
  ],
  [
    'amdvi_completion_wait completion wait requested with store address 0x42b3000 and store data 0x1',
    ['amdCommand', AmdOperation.completionWait, -1, -1],
    ['amdvi_completion_wait', 1, -1, -1],
  ],
  [
    'amdvi_intr_inval Interrupt table invalidated',
    ['amdCommand', AmdOperation.interruptTable, -1, -1],
    ['amdvi_intr_inval', 5, -1, -1],
  ],
  [
    'amdvi_all_inval Invalidation of all AMD-Vi cache requested ',
    ['amdCommand', AmdOperation.all, -1, -1],
    ['amdvi_all_inval', 8, -1, -1],
  ],
  [
    'amdvi_iotlb_inval IOTLB pages invalidated',
    ['amdCommand', AmdOperation.iotlbPages, -1, -1],
    ['amdvi_iotlb_inval', 4, -1, -1],
  ],
  ['amdvi_mmio_write AMDVI_MMIO_COMMAND_TAIL write addr 0x2008, size 8, val 0x20, offset 0x0', ['tail', 0x20]],
  ['amdvi_mmio_write AMDVI_MMIO_COMMAND_HEAD write addr 0x2000, size 8, val 0x0, offset 0x0'],
  ['v9fs_mkdir tag 0 id 72 fid 2 name 101-boot-done mode 16877 gid 0', ['mark', '101-boot-done']],
  ['v9fs_mkdir tag 0 id 72 fid 2 name a name with mode 7 mode 16877 gid 0', ['mark', 'a name with mode 7']],
  ['vtd_context_cache_reset '],
  ['vtd_switch_address_space Device 00:00.0 switching address space (iommu enabled=0)'],
  ['kvm_exit reason 1'],
];

describe('a line of a QEMU log', () => {
  test.each(LINES)('%s', (line, ...calls) => {
    expect(read([bytesOf(`14173@1795333723.671829:${line}\n`)]).calls).toEqual(calls);
    expect(read([bytesOf(`${line}\r\n`)]).calls).toEqual(calls);
  });

  test('times are microseconds, -1 without', () => {
    const line = 'vtd_inv_desc_cc_global context invalidate globally\n';
    expect(read([bytesOf(`14173@1795333723.671829:${line}${line}`)]).times).toEqual([1795333723671829, -1]);
  });
});

describe('a malformed line is reported', () => {
  test.each([
    'vtd_inv_desc invalidate desc type iotlb high 0x0',
    'vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x10000000000000000',
    'vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x40zz',
    'vtd_inv_qi_tail write tail -1',
    'vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x3 addr 0xffffffffffffffff mask 0x0',
    'vtd_dmar_translate dev 00:44.00 iova 0x0 -> gpa 0x0 mask 0xfff',
    'v9fs_mkdir tag 0 id 72 fid 2',
    'amdvi_pages_inval AMD-Vi pages for domain 0x12',
    'amdvi_pages_inval AMD-Vi pages for domain 12 invalidated',
    'amdvi_devtab_inval device table entry for devid: 00:2f.3 invalidated',
    'amdvi_devtab_inval device table entry for devid: 00:0f.3',
    'amdvi_translation_result devid: 00:04.0 gpa 0xffffe000',
    'amdvi_mmio_write AMDVI_MMIO_COMMAND_TAIL write addr 0x2008, size 8',
    'qemu-system-x86_64: warning: something',
    '12@34.5:vtd_inv_qi_tail write tail 3',
    '\u0000\u0001\u0002',
  ])('%s', (line) => {
    const { calls, summary } = read([bytesOf(`${line}\nvtd_inv_qi_tail write tail 3\n`)]);
    expect(calls).toEqual([
      ['skipped', 1, expect.stringMatching(/./)],
      ['tail', 3],
    ]);
    expect(summary).toMatchObject({ lines: 2, skipped: 1 });
  });

  test('the last line without a line end: a cut number is a wrong one', () => {
    const { calls, summary } = read([bytesOf('vtd_inv_qi_tail write tail 18')]);
    expect(calls).toEqual([['skipped', 1, expect.stringMatching(/^a whole line, with a line end/)]]);
    expect(summary.skipped).toBe(1);
  });
});

test('lines that no callback wants are counted, not looked at', () => {
  const marks: string[] = [];
  const reader = new QemuLogReader({ mark: (name) => void marks.push(name), skipped: () => expect.fail('skipped') });
  for (const [line] of LINES) reader.push(bytesOf(`${line} nonsense\n`));
  const { byName, lines } = reader.end();
  expect(lines).toBe(LINES.length);
  expect([...byName].reduce((sum, [, count]) => sum + count, 0)).toBe(LINES.length);
  expect(marks).toHaveLength(2);
});

test('every split gives the same calls', () => {
  const bytes = bytesOf(LINES.map(([line], i) => (i % 2 === 0 ? `1@2.000003:${line}\n` : `${line}\r\n`)).join(''));
  const whole = read([bytes]);
  for (let cut = 0; cut <= bytes.length; cut += 3)
    expect(read([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(whole);
});
