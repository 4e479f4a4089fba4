/**
 * OpenVMM's tests of its AMD-Vi unit (openvmm-amdvi.ts), the first half: registers, command buffer and event log.
 */
import { amdvi } from '../../spec/index.ts';
import { EVENT_LOG, QUEUE, ROOT, STATUS } from './board.ts';
import type { CaseStep, ConformanceCase } from './case.ts';
import * as d from './dsl.ts';
import { QEMU_LOGS_NO_EVENTS } from './play.ts';

const { DATA } = d;
const IOVA = 0x1000;
const ON = [d.on()];
export const one = (test: string, title: string, ...steps: readonly CaseStep[]): ConformanceCase => ({
  test,
  title,
  arch: 'amd',
  steps,
});
export const pageFault = (iova: number, access: 'read' | 'write', flags: number = 0): CaseStep =>
  d.record(amdvi.EVENT_IO_PAGE_FAULT, iova, access, {
    domain: 5,
    flags: flags | (access === 'write' ? amdvi.EVENT_FLAG_RW : 0),
  });
export const head = (value: number, extra: d.Exceptions = {}): CaseStep =>
  d.register('head', amdvi.CMD_HEAD_REG, -1, value, extra);
export const status = (name: string, mask: number, value: number): CaseStep =>
  d.register(name, amdvi.STATUS_REG, mask, value);
const ALL_ON = amdvi.CONTROL_IOMMU_EN | amdvi.CONTROL_EVENT_LOG_EN | amdvi.CONTROL_CMD_BUF_EN;
/** amdvi_cmdbuf_run. Their qtest cmdbuf-head-wrap came with the repair. */
export const WRAPS_LATE =
  'QEMU 7.2 and 10.0 write the head register before they wrap the head: it reads 4096 until the next command';
const IGNORED = 'QEMU passes over illegal commands';
const UNREAD = 'QEMU passes over commands that it cannot read';

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
    'extfeat_readback',
    'EFR has INVALIDATE_IOMMU_ALL and no page request log',
    d.register('ia ppr', amdvi.EFR_REG, (1 << amdvi.EFR_IA_BIT) | (1 << amdvi.EFR_PPR_BIT), 1 << amdvi.EFR_IA_BIT, {
      qemu: d.sees('ia ppr', 0x42, 'QEMU advertises page requests, of which it has none'),
    }),
  ),
  one(
    '32bit_mmio_access',
    'a base written at once is read in halves',
    d.writeq(amdvi.DEV_TABLE_REG, 0x123451ff, 0xdbeef),
    d.register('low', amdvi.DEV_TABLE_REG, -1, 0x123451ff),
    d.register('high', amdvi.DEV_TABLE_REG + 4, -1, 0xdbeef),
  ),
  one(
    '32bit_mmio_write',
    'a base written in halves',
    d.writel(amdvi.DEV_TABLE_REG, 0x123451ff),
    d.writel(amdvi.DEV_TABLE_REG + 4, 0xdbeef),
    d.register('low', amdvi.DEV_TABLE_REG, -1, 0x123451ff),
    d.register('high', amdvi.DEV_TABLE_REG + 4, -1, 0xdbeef),
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
    'cmdbuf_completion_wait_interrupt',
    'ComWaitInt',
    d.on({ control: ALL_ON | amdvi.CONTROL_COM_WAIT_INT_EN }),
    d.queue(d.COMPLETION_INTERRUPT),
    status('wait', amdvi.STATUS_COM_WAIT_INT, amdvi.STATUS_COM_WAIT_INT),
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
    d.register('log', amdvi.EVT_TAIL_REG, -1, 0x10, { qemu: d.sees('log', 0, QEMU_LOGS_NO_EVENTS) }),
    d.word('code', EVENT_LOG + 4, amdvi.EVENT_ILLEGAL_COMMAND_ERROR << 28, {
      qemu: d.sees('code', 0, QEMU_LOGS_NO_EVENTS),
    }),
  ),
];

const LOG_ENTRY = amdvi.RING_ENTRY_BYTES;
/** A log of 256 entries holds 255. */
const FULL = 255 * LOG_ENTRY;
const logTail = (value: number): CaseStep =>
  d.register(
    'tail',
    amdvi.EVT_TAIL_REG,
    -1,
    value,
    value === 0 ? {} : { qemu: d.sees('tail', 0, QEMU_LOGS_NO_EVENTS) },
  );
const logStatus = (mask: number, value: number): CaseStep =>
  d.register('log', amdvi.STATUS_REG, mask, value, value === 0 ? {} : { qemu: d.sees('log', 0, QEMU_LOGS_NO_EVENTS) });
const faults = (nr: number): readonly CaseStep[] => d.times(nr, () => d.readBlocked(IOVA, DATA));

const events: readonly ConformanceCase[] = [
  one(
    'evtlog_write_and_read',
    'the tail goes on by one, the event names device, domain and address',
    d.device(),
    ...ON,
    d.writeBlocked(0xdead0000, DATA),
    logTail(LOG_ENTRY),
    pageFault(0xdead0000, 'write'),
  ),
  one(
    'evtlog_interrupt_signal',
    'EventLogInt; a one clears it',
    d.device(),
    ...ON,
    ...faults(1),
    logStatus(amdvi.STATUS_EVENT_LOG_INT, amdvi.STATUS_EVENT_LOG_INT),
    d.writel(amdvi.STATUS_REG, amdvi.STATUS_EVENT_LOG_INT),
    logStatus(amdvi.STATUS_EVENT_LOG_INT, 0),
  ),
  one(
    'evtlog_full',
    'one entry stays free; the next event is lost: EventOverflow',
    d.device(),
    ...ON,
    ...faults(255),
    logTail(FULL),
    logStatus(amdvi.STATUS_EVENT_OVERFLOW, 0),
    ...faults(1),
    logTail(FULL),
    logStatus(amdvi.STATUS_EVENT_OVERFLOW, amdvi.STATUS_EVENT_OVERFLOW),
  ),
  one(
    'evtlog_head_frees_space',
    'the head gives an entry free, the tail wraps',
    d.device(),
    ...ON,
    ...faults(255),
    logTail(FULL),
    d.writel(amdvi.EVT_HEAD_REG, LOG_ENTRY),
    ...faults(1),
    logTail(0),
    logStatus(amdvi.STATUS_EVENT_OVERFLOW, 0),
  ),
  one(
    'evtlog_drops_events_while_overflow_set',
    'room alone does not start the log again (2.5)',
    d.device(),
    ...ON,
    ...faults(256),
    d.writel(amdvi.EVT_HEAD_REG, 10 * LOG_ENTRY),
    ...faults(1),
    logTail(FULL),
    logStatus(amdvi.STATUS_EVENT_OVERFLOW, amdvi.STATUS_EVENT_OVERFLOW),
  ),
  one(
    'cmdbuf_read_failure_logs_hardware_error_event',
    'a command buffer where no memory is: an event, and the buffer stops (2.5.7)',
    ...ON,
    d.writel(amdvi.CONTROL_REG, amdvi.CONTROL_IOMMU_EN | amdvi.CONTROL_EVENT_LOG_EN),
    d.writeq(amdvi.CMD_BASE_REG, 0, (8 << 24) | 0x10),
    d.writel(amdvi.CONTROL_REG, ALL_ON),
    d.writel(amdvi.CMD_TAIL_REG, LOG_ENTRY),
    d.register('runs', amdvi.STATUS_REG, amdvi.STATUS_CMD_BUF_RUN, 0, { qemu: d.sees('runs', 16, UNREAD) }),
    logTail(LOG_ENTRY),
    d.word(
      'code',
      EVENT_LOG + 4,
      ((amdvi.EVENT_COMMAND_HARDWARE_ERROR << 28) | (amdvi.HARDWARE_MASTER_ABORT << 25)) >>> 0,
      {
        qemu: d.sees('code', 0, QEMU_LOGS_NO_EVENTS),
      },
    ),
  ),
];

export const AMDVI_UNIT_CASES: readonly ConformanceCase[] = [...registers, ...commands, ...events];
