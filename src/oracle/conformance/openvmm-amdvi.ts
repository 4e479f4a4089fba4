/**
 * OpenVMM's tests of its AMD-Vi unit (vm/devices/iommu/amd_iommu, MIT): the names are facts of `peers.md`, what is expected is
 * AMD 48882.
 */
import { amdvi } from '../../spec/index.ts';
import { EVENT_LOG, QUEUE, ROOT, STATUS } from './board.ts';
import type { CaseGroup, CaseStep, ConformanceCase, Rights } from './case.ts';
import * as d from './dsl.ts';

const { DATA, MIB2 } = d;
const FAR = 0x7f12_3456_7000;
const IOVA = 0x1000;
const ON = [d.on()];
const one = (test: string, title: string, ...steps: readonly CaseStep[]): ConformanceCase => ({
  test,
  title,
  arch: 'amd',
  steps,
});
const mapped = (iova: number, rights: Rights = 'rw', lg2: number = 12): readonly CaseStep[] => [
  d.device(),
  d.page(iova, DATA, { rights, lg2 }),
  ...ON,
];
const pageFault = (iova: number, access: 'read' | 'write', flags: number = 0): CaseStep =>
  d.record(amdvi.EVENT_IO_PAGE_FAULT, iova, access, {
    domain: 5,
    flags: flags | (access === 'write' ? amdvi.EVENT_FLAG_RW : 0),
  });
const PR = amdvi.EVENT_FLAG_PR;
const PE = amdvi.EVENT_FLAG_PE;
const head = (value: number, extra: d.Exceptions = {}): CaseStep =>
  d.register('head', amdvi.CMD_HEAD_REG, -1, value, extra);
const NO_EVENTS = 'QEMU 7.2 and 10.0 never log an event';
/** amdvi_cmdbuf_run. Their qtest cmdbuf-head-wrap came with the repair. */
export const WRAPS_LATE =
  'QEMU 7.2 and 10.0 write the head register before they wrap the head: it reads 4096 until the next command';
const IGNORED = 'QEMU passes over illegal commands';
const status = (name: string, mask: number, value: number): CaseStep => d.register(name, amdvi.STATUS_REG, mask, value);

/** A page of a size, asked in the middle and behind. */
const sized = (test: string, lg2: number, iova: number, at: number = DATA): readonly ConformanceCase[] => {
  const setUp = [d.device(), d.page(iova, at, { lg2 }), ...ON];
  const middle = 2 ** (lg2 - 1) + 0x234;
  return [
    one(test, 'its first byte', ...setUp, d.writes(iova, at)),
    one(test, 'its middle', ...setUp, d.reads(iova + middle, at + middle)),
    one(test, 'its last page', ...setUp, d.writes(iova + 2 ** lg2 - 4, at + 2 ** lg2 - 4)),
    one(test, 'the page behind', ...setUp, d.writeBlocked(iova + 2 ** lg2, at), pageFault(iova + 2 ** lg2, 'write')),
  ];
};

const registers: readonly ConformanceCase[] = [
  one(
    'initial_state',
    'control and status are 0',
    d.register('control', amdvi.CONTROL_REG, -1, 0),
    status('status', -1, 0),
  ),
  one(
    'devtab_base_readback',
    'base and size',
    d.writeq(amdvi.DEV_TABLE_REG, ROOT | 3),
    d.register('base', amdvi.DEV_TABLE_REG, -1, ROOT | 3),
  ),
  one(
    'cmdbuf_base_readback',
    'base and length',
    d.writeq(amdvi.CMD_BASE_REG, QUEUE, 8 << 24),
    d.register('base', amdvi.CMD_BASE_REG, -1, QUEUE),
    d.register('length', amdvi.CMD_BASE_REG + 4, -1, 8 << 24),
  ),
  one(
    'ctrl_enable_disable',
    'the control register is read back',
    ...ON,
    d.register('on', amdvi.CONTROL_REG, 1, 1),
    d.writel(amdvi.CONTROL_REG, 0),
    d.register('on', amdvi.CONTROL_REG, 1, 0),
  ),
  one(
    'extfeat_readonly',
    'a write to EFR changes nothing: IA stays',
    d.writeq(amdvi.EFR_REG, 0, 0),
    d.register('ia', amdvi.EFR_REG, 1 << amdvi.EFR_IA_BIT, 1 << amdvi.EFR_IA_BIT),
  ),
  one(
    'status_rw1c',
    'ComWaitInt: a zero leaves it, a one clears it',
    ...ON,
    d.queue(d.COMPLETION_INTERRUPT),
    status('wait', amdvi.STATUS_COM_WAIT_INT, amdvi.STATUS_COM_WAIT_INT),
    d.writel(amdvi.STATUS_REG, 0),
    status('wait', amdvi.STATUS_COM_WAIT_INT, amdvi.STATUS_COM_WAIT_INT),
    d.writel(amdvi.STATUS_REG, amdvi.STATUS_COM_WAIT_INT),
    d.register('wait', amdvi.STATUS_REG, amdvi.STATUS_COM_WAIT_INT, 0, {
      qemu: d.sees('wait', 4, 'QEMU does not clear ComWaitInt by ones'),
    }),
  ),
  one(
    'evt_log_head_write',
    'the head is read back',
    ...ON,
    d.writel(amdvi.EVT_HEAD_REG, 0x40),
    d.register('head', amdvi.EVT_HEAD_REG, -1, 0x40),
  ),
];

const commands: readonly ConformanceCase[] = [
  one('cmdbuf_basic_consumption', 'the head follows', ...ON, d.queue(d.INVALIDATE_ALL), head(0x10)),
  one(
    'cmdbuf_multiple_commands',
    'three',
    ...ON,
    d.queue(d.INVALIDATE_ALL, d.invalidateDomain(5), d.invalidateDevice(0x20)),
    head(0x30),
  ),
  one('cmdbuf_invalidate_all', 'illegal it is not', ...ON, d.queue(d.INVALIDATE_ALL), d.noRecord()),
  one(
    'cmdbuf_completion_wait_store_and_interrupt',
    'stores 64 bits',
    ...ON,
    d.queue(d.completionStore(STATUS, 0x1234abcd, 0x55)),
    d.word('low', STATUS, 0x1234abcd),
    d.word('high', STATUS + 4, 0x55),
  ),
  one(
    'completion_wait_sets_comwaitint_without_comwaitinten',
    'the bit does not need the interrupt',
    ...ON,
    d.queue(d.COMPLETION_INTERRUPT),
    status('wait', amdvi.STATUS_COM_WAIT_INT, amdvi.STATUS_COM_WAIT_INT),
  ),
  one(
    'cmdbuf_wrap',
    'after 256 commands the head is 0',
    ...ON,
    d.queue(...d.times(255, () => d.INVALIDATE_ALL)),
    d.queue(d.INVALIDATE_ALL),
    head(0, {
      qemu: d.sees('head', 4096, WRAPS_LATE),
    }),
  ),
  one(
    'cmdbuf_not_processed_when_disabled',
    'CmdBufEn is 0',
    d.on({ queue: false }),
    d.queue(d.completionStore(STATUS, 1, 0)),
    head(0),
    d.word('status', STATUS, 0),
  ),
  one(
    'cmdbuf_unknown_opcode',
    'an event, and the buffer stops',
    ...ON,
    d.queue([0, 0xf0000000 | 0, 0, 0], d.completionStore(STATUS, 1, 0)),
    d.word('status', STATUS, 0, { qemu: d.sees('status', 1, IGNORED) }),
    d.register('runs', amdvi.STATUS_REG, amdvi.STATUS_CMD_BUF_RUN, 0, { qemu: d.sees('runs', 16, IGNORED) }),
    d.register('log', amdvi.EVT_TAIL_REG, -1, 0x10, { qemu: d.sees('log', 0, NO_EVENTS) }),
    d.word('code', EVENT_LOG + 4, amdvi.EVENT_ILLEGAL_COMMAND_ERROR << 28, { qemu: d.sees('code', 0, NO_EVENTS) }),
  ),
];

const walks: readonly ConformanceCase[] = [
  one('translate_iommu_disabled', 'addresses pass', d.on({ translation: false }), d.writes(DATA, DATA)),
  one('translate_passthrough_mode0', 'mode 0', d.device({ levels: 0 }), ...ON, d.writes(DATA, DATA), d.noRecord()),
  one('translate_dte_v0_passthrough', 'V is 0', ...ON, d.writes(DATA + 4, DATA + 4), d.noRecord()),
  one('translate_tv0_aborts', 'TV is 0', d.device({ translates: false }), ...ON, d.writeBlocked(IOVA, DATA)),
  one('translate_4level', 'write', ...mapped(IOVA), d.writes(IOVA, DATA)),
  one('translate_4level', 'read', ...mapped(IOVA), d.reads(IOVA, DATA)),
  one('translate_4level', 'every level has an index of its own', ...mapped(FAR), d.writes(FAR, DATA)),
  one('translate_4level_with_offset', 'the offset stays', ...mapped(IOVA), d.writes(IOVA + 0xabc, DATA + 0xabc)),
  one('translate_iova_offset_preserved', 'its last word', ...mapped(IOVA), d.reads(IOVA + 0xffc, DATA + 0xffc)),
  one(
    'translate_3level',
    'mode 3',
    d.device({ levels: 3 }),
    d.page(0x40201000, DATA, { levels: 3 }),
    ...ON,
    d.writes(0x40201124, DATA + 0x124),
  ),
  one(
    'translating_memory_3level_high_iova',
    'the last page of mode 3',
    d.device({ levels: 3 }),
    d.page(2 ** 39 - 4096, DATA, { levels: 3 }),
    ...ON,
    d.writes(2 ** 39 - 4, DATA + 0xffc),
  ),
  ...sized('translate_2mb_large_page', 21, MIB2),
  ...sized('translate_mode7_16k_large_page', 14, 0x10000),
  ...sized('translate_mode7_64k_large_page', 16, 0x10000),
  ...sized('translate_mode7_4m_at_l2', 22, 0x400000),
  ...sized('translate_mode7_target_with_nontrivial_bits', 15, 0x18000, DATA + 0x158000),
  one(
    'translate_mode7_read_only_denies_write',
    'PR and PE',
    ...mapped(0x10000, 'r', 16),
    d.writeBlocked(0x14000, DATA),
    pageFault(0x14000, 'write', PR | PE),
    d.reads(0x14000, DATA + 0x4000),
  ),
  one(
    'translate_mode7_write_only_denies_read',
    'PR and PE',
    ...mapped(0x10000, 'w', 16),
    d.readBlocked(0x14000, DATA),
    pageFault(0x14000, 'read', PR | PE),
    d.writes(0x14000, DATA + 0x4000),
  ),
  one(
    'translate_mode7_pde_permission_restricts',
    'rights are those of all levels',
    d.device(),
    d.page(0x10000, DATA, { lg2: 16, above: 'r' }),
    ...ON,
    d.writeBlocked(0x10000, DATA),
    d.reads(0x10000, DATA),
  ),
  one(
    'translate_mode7_adjacent_mappings_independent',
    'two of 16 KiB side by side',
    d.device(),
    d.page(0x10000, DATA, { lg2: 14 }),
    d.page(0x14000, DATA + 0x40000, { lg2: 14 }),
    ...ON,
    d.writes(0x13ffc, DATA + 0x3ffc),
    d.writes(0x14000, DATA + 0x40000),
  ),
  one(
    'translate_page_not_present',
    'a write',
    ...mapped(IOVA),
    d.writeBlocked(0x2000, DATA),
    pageFault(0x2000, 'write'),
  ),
  one('translate_page_not_present', 'a read', ...mapped(IOVA), d.readBlocked(0x2000, DATA), pageFault(0x2000, 'read')),
  one('translate_page_not_present', 'no level is there', ...mapped(IOVA), d.readBlocked(FAR, DATA)),
  one(
    'translate_write_permission_denied',
    'PR and PE',
    ...mapped(IOVA, 'r'),
    d.writeBlocked(IOVA, DATA),
    pageFault(IOVA, 'write', PR | PE),
    d.reads(IOVA, DATA),
    d.noRecord(),
  ),
  one(
    'translate_read_permission_denied',
    'PR and PE',
    ...mapped(IOVA, 'w'),
    d.readBlocked(IOVA, DATA),
    pageFault(IOVA, 'read', PR | PE),
    d.writes(IOVA, DATA),
  ),
  one(
    'translate_dte_permission_restricts',
    'IW of the device is 0',
    d.device({ rights: 'r' }),
    d.page(IOVA, DATA),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.reads(IOVA, DATA),
  ),
  one(
    'translate_dte_permission_restricts',
    'IR of the device is 0',
    d.device({ rights: 'w' }),
    d.page(IOVA, DATA),
    ...ON,
    d.readBlocked(IOVA, DATA),
    d.writes(IOVA, DATA),
  ),
  one(
    'translate_reserved_mode7',
    'mode 7 is illegal',
    d.device({ levels: 7 }),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.register('log', amdvi.EVT_TAIL_REG, -1, 0x10, { qemu: d.sees('log', 0, NO_EVENTS) }),
  ),
  one(
    'translate_fault_to_event',
    'requester, domain, address',
    d.device({ device: 2, domain: 0x1234 }),
    ...ON,
    d.readBlocked(0x5124, DATA, { device: 2 }),
    d.record(amdvi.EVENT_IO_PAGE_FAULT, 0x5124, 'read', { device: 2, domain: 0x1234 }),
    d.noRecord(),
  ),
  one(
    'translate_rejects_iova_exceeding_va_width',
    'past 48 bits at 4 levels',
    ...mapped(0),
    d.writeBlocked(2 ** 48, DATA, { qemu: d.sees('arrives', 1, 'in QEMU addresses beyond the levels alias') }),
  ),
  one('translating_memory_disabled_bypass', 'reads', d.on({ translation: false }), d.reads(DATA, DATA)),
  one(
    'translating_memory_cross_page_write',
    'two pages that lie apart',
    d.device(),
    d.page(0x1000, DATA),
    d.page(0x2000, DATA + 0x9000),
    ...ON,
    d.block('write', 0x1ff0, [
      { nrBytes: 16, at: DATA + 0xff0, arrives: true },
      { nrBytes: 16, at: DATA + 0x9000, arrives: true },
    ]),
  ),
  one(
    'translating_memory_cross_page_read',
    'two pages that lie apart',
    d.device(),
    d.page(0x1000, DATA + 0x9000),
    d.page(0x2000, DATA),
    ...ON,
    d.block('read', 0x1ff0, [
      { nrBytes: 16, at: DATA + 0x9ff0, arrives: true },
      { nrBytes: 16, at: DATA, arrives: true },
    ]),
  ),
  one(
    'translating_memory_cross_page_fault_second_page',
    'the first page gets its part',
    ...mapped(0x1000),
    d.block('write', 0x1ff0, [
      { nrBytes: 16, at: DATA + 0xff0, arrives: true },
      { nrBytes: 16, at: DATA + 0x9000, arrives: false },
    ]),
    pageFault(0x2000, 'write'),
  ),
];

export const OPENVMM_AMDVI: CaseGroup = {
  id: 'openvmm-amdvi',
  title: 'OpenVMM, AMD-Vi',
  file: 'microsoft/openvmm@1488a37b vm/devices/iommu/amd_iommu/src/lib.rs',
  cases: [...registers, ...commands, ...walks],
  leftOut: [
    { tests: ['irte_*', 'remap_msi_*', 'signal_msi_*', '*xt*'], why: 'interrupts are not remapped by the model' },
  ],
};
