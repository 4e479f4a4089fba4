/**
 * OpenVMM's tests of its VT-d unit (vm/devices/iommu/intel_vtd, MIT): the names are facts of `peers.md`, what is expected is
 * Intel VT-d rev. 4.1.
 */
import { vtd } from '../../spec/index.ts';
import { QUEUE, ROOT, STATUS } from './board.ts';
import type { CaseGroup, CaseStep, ConformanceCase, Rights } from './case.ts';
import * as d from './dsl.ts';

const FAR = 0x7f12_3456_7000;
const IOVA = 0x1000;
const { DATA, MIB2, GIB } = d;
const FRCD_W3 = 0x22c;
const IOTLB_HI = 0xf8 + 4;
const ON = [d.on()];

const one = (test: string, title: string, ...steps: readonly CaseStep[]): ConformanceCase => ({
  test,
  title,
  arch: 'intel',
  steps,
});
const status = (name: string, mask: number, value: number): CaseStep => d.register(name, vtd.GSTS_REG, mask, value);
const fault = (name: string, mask: number, value: number): CaseStep => d.register(name, vtd.FSTS_REG, mask, value);
const mapped = (iova: number, rights: Rights = 'rw', lg2: number = 12): readonly CaseStep[] => [
  d.context(),
  d.page(iova, DATA, { rights, lg2 }),
  ...ON,
];

const registers: readonly ConformanceCase[] = [
  one('ver_register', 'major version 1', d.register('major', vtd.VER_REG, 0xf0, 0x10)),
  one('cap_register', 'SAGAW has 39 and 48 bits', d.register('sagaw', vtd.CAP_REG, 0x1f00, 0x600)),
  one('cap_register', 'MGAW is 48 bits', d.register('mgaw', vtd.CAP_REG, 0x3f0000, 47 << 16)),
  one(
    'cap_register',
    'CM and RWBF are 0',
    d.register('cm rwbf', vtd.CAP_REG, 0x90, 0, {
      qemu: d.sees('cm rwbf', 0x80, 'the board is started with caching-mode=on'),
    }),
  ),
  one('cap_register', '65536 domains', d.register('nd', vtd.CAP_REG, 7, 6)),
  one('cap_register', 'pages of 2 MiB and 1 GiB', d.register('sllps', vtd.CAP_REG + 4, 0x3c, 0xc)),
  one('cap_register', 'PSI with masks up to 18 bits', d.register('psi mamv', vtd.CAP_REG + 4, 0x3f0080, 0x120080)),
  one('cap_register', 'one fault record', d.register('nfr', vtd.CAP_REG + 4, 0xff00, 0)),
  one(
    'ecap_register',
    'coherent walks and queued invalidation',
    d.register('c qi', vtd.ECAP_REG, 3, 3, {
      qemu: d.sees('c qi', 2, 'QEMU never sets ECAP.C, on coherent memory neither'),
    }),
  ),
  one('gcmd_read_returns_zero', 'GCMD is write-only', ...ON, d.register('gcmd', vtd.GCMD_REG, -1, 0)),
  one('gsts_initial', 'nothing is on at first', status('gsts', -1, 0)),
  one(
    'srtp_and_te_enable',
    'RTPS, then TES',
    d.writeq(vtd.RTADDR_REG, ROOT),
    d.gcmd(vtd.GCMD_SRTP),
    status('rtps', vtd.GCMD_SRTP, vtd.GCMD_SRTP),
    status('tes', vtd.GCMD_TE, 0),
    d.gcmd(vtd.GCMD_TE),
    status('tes', vtd.GCMD_TE, vtd.GCMD_TE),
    status('rtps', vtd.GCMD_SRTP, vtd.GCMD_SRTP),
    d.gcmd(0),
    status('tes', vtd.GCMD_TE, 0),
  ),
  one('wbf', 'WBFS reads 0: no buffer to flush', d.gcmd(vtd.GCMD_WBF), status('wbfs', vtd.GCMD_WBF, 0)),
  one(
    'qie_enable_disable',
    'QIES follows QIE, the head starts at 0',
    d.writeq(vtd.IQA_REG, QUEUE),
    d.gcmd(vtd.GCMD_QIE),
    status('qies', vtd.GCMD_QIE, vtd.GCMD_QIE),
    d.register('head', vtd.IQH_REG, -1, 0),
    d.gcmd(0),
    d.register('qies', vtd.GSTS_REG, vtd.GCMD_QIE, 0, {
      qemu: d.sees(
        'qies',
        vtd.GCMD_QIE,
        'QEMU switches the queue off only where the head is at the tail and the last descriptor was a wait',
      ),
    }),
  ),
  one(
    'fsts_rw1c',
    'a zero written to PFO leaves it, a one clears it',
    d.context(),
    ...ON,
    d.readBlocked(0x1000, DATA),
    // Another requester: faults of the same one may be compressed (7.2.1).
    d.readBlocked(0x2000, DATA, { device: 1 }),
    fault('pfo', vtd.FSTS_PFO, vtd.FSTS_PFO),
    d.writel(vtd.FSTS_REG, 0),
    fault('pfo', vtd.FSTS_PFO, vtd.FSTS_PFO),
    d.writel(vtd.FSTS_REG, vtd.FSTS_PFO),
    fault('pfo', vtd.FSTS_PFO, 0),
  ),
  one(
    'ppf_dynamic_computation',
    'PPF is the OR of the F bits and cannot be written away',
    d.context(),
    ...ON,
    fault('ppf', vtd.FSTS_PPF, 0),
    d.readBlocked(0x1000, DATA),
    fault('ppf', vtd.FSTS_PPF, vtd.FSTS_PPF),
    d.writel(vtd.FSTS_REG, vtd.FSTS_PPF),
    fault('ppf', vtd.FSTS_PPF, vtd.FSTS_PPF),
    d.writel(FRCD_W3, vtd.FRCD_F_W3),
    fault('ppf', vtd.FSTS_PPF, 0),
  ),
  one(
    'frcd_hi_rw1c',
    'F is cleared by a one, not by a zero',
    d.context(),
    ...ON,
    d.readBlocked(0x1000, DATA),
    d.writel(FRCD_W3, 0),
    d.register('f', FRCD_W3, vtd.FRCD_F_W3, vtd.FRCD_F_W3),
    d.writel(FRCD_W3, vtd.FRCD_F_W3),
    d.register('f', FRCD_W3, vtd.FRCD_F_W3, 0),
  ),
  one(
    'ics_rw1c',
    'IWC is set by a wait with an interrupt, cleared by a one',
    ...ON,
    d.queue(d.WAIT_INTERRUPT),
    d.register('iwc', vtd.ICS_REG, 1, 1),
    d.writel(vtd.ICS_REG, 0),
    d.register('iwc', vtd.ICS_REG, 1, 1),
    d.writel(vtd.ICS_REG, 1),
    d.register('iwc', vtd.ICS_REG, 1, 0),
  ),
  one('unmapped_offset_returns_zero', 'nothing answers with 0', d.register('0xe00', 0xe00, -1, 0)),
  one(
    '32bit_access_to_64bit_register',
    'RTADDR in halves',
    d.writel(vtd.RTADDR_REG, 0x12345000),
    d.writel(vtd.RTADDR_REG + 4, 0x12),
    d.register('low', vtd.RTADDR_REG, -1, 0x12345000),
    d.register('high', vtd.RTADDR_REG + 4, -1, 0x12),
  ),
  one(
    'ccmd_register_invalidation',
    'ICC falls, CAIG tells global',
    d.on({ queue: false }),
    d.writeq(vtd.CCMD_REG, 0, vtd.CCMD_ICC_HI | (1 << vtd.CCMD_CIRG_SHIFT_HI)),
    d.register('icc', vtd.CCMD_REG + 4, vtd.CCMD_ICC_HI, 0),
    d.register('caig', vtd.CCMD_REG + 4, 3 << vtd.CCMD_CAIG_SHIFT_HI, 1 << vtd.CCMD_CAIG_SHIFT_HI),
  ),
  one(
    'iotlb_register_invalidation',
    'IVT falls, IAIG tells global',
    d.on({ queue: false }),
    d.writeq(0xf8, 0, vtd.IOTLB_IVT_HI | (1 << vtd.IOTLB_IIRG_SHIFT_HI)),
    d.register('ivt', IOTLB_HI, vtd.IOTLB_IVT_HI, 0),
    d.register('iaig', IOTLB_HI, 3 << vtd.IOTLB_IAIG_SHIFT_HI, 1 << vtd.IOTLB_IAIG_SHIFT_HI),
  ),
];

const walks: readonly ConformanceCase[] = [
  one('translate_4level_4kb', 'write', ...mapped(IOVA), d.writes(IOVA, DATA)),
  one('translate_4level_4kb', 'read', ...mapped(IOVA), d.reads(IOVA, DATA)),
  one('translate_4level_4kb', 'every level has an index of its own', ...mapped(FAR), d.writes(FAR, DATA)),
  one('translate_4level_4kb_with_offset', 'the offset stays', ...mapped(IOVA), d.writes(IOVA + 0xabc, DATA + 0xabc)),
  one('translate_disabled_is_identity', 'TE is 0', d.context(), d.on({ translation: false }), d.writes(DATA, DATA)),
  one(
    'translate_3level',
    'AW 1',
    d.context({ levels: 3 }),
    d.page(0x40201000, DATA, { levels: 3 }),
    ...ON,
    d.writes(0x40201124, DATA + 0x124),
  ),
  one('translate_2mb_large_page', 'first byte', ...mapped(MIB2, 'rw', 21), d.writes(MIB2, DATA)),
  one('translate_2mb_large_page', 'inside', ...mapped(MIB2, 'rw', 21), d.writes(MIB2 + 0x123454, DATA + 0x123454)),
  one('translate_2mb_large_page', 'behind it', ...mapped(MIB2, 'rw', 21), d.writeBlocked(2 * MIB2, DATA)),
  one(
    'translate_2mb_large_page',
    'beyond the source: a page of 1 GiB, as its SLLPS offers',
    d.context(),
    d.page(4 * GIB, 0, { lg2: 30 }),
    ...ON,
    d.writes(4 * GIB + DATA + 0x7654, DATA + 0x7654),
  ),
  one('translate_passthrough', 'TT 2', d.context({ type: 2 }), ...ON, d.writes(DATA + 0x458, DATA + 0x458)),
  one(
    'translate_root_not_present',
    'reason 1',
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.record(vtd.FR_ROOT_NOT_PRESENT, IOVA, 'write'),
  ),
  one(
    'translate_context_not_present',
    'reason 2',
    d.context({ present: false }),
    ...ON,
    d.readBlocked(IOVA, DATA),
    d.record(vtd.FR_CONTEXT_NOT_PRESENT, IOVA, 'read'),
  ),
  one(
    'translate_context_not_present',
    'of the other device on the bus',
    d.context(),
    ...ON,
    d.writeBlocked(IOVA, DATA, { device: 1 }),
    d.record(vtd.FR_CONTEXT_NOT_PRESENT, IOVA, 'write', { device: 1 }),
  ),
  one(
    'translate_pte_not_present',
    'a read: reason 6',
    ...mapped(IOVA),
    d.readBlocked(0x2000, DATA),
    d.record(vtd.FR_READ_DENIED, 0x2000, 'read'),
  ),
  one(
    'translate_pte_not_present',
    'a write: reason 5',
    ...mapped(IOVA),
    d.writeBlocked(0x2000, DATA),
    d.record(vtd.FR_WRITE_DENIED, 0x2000, 'write'),
  ),
  one('translate_pte_not_present', 'no level is there', ...mapped(IOVA), d.writeBlocked(FAR, DATA)),
  one(
    'translate_write_to_readonly',
    'reason 5; reads pass',
    ...mapped(IOVA, 'r'),
    d.writeBlocked(IOVA, DATA),
    d.record(vtd.FR_WRITE_DENIED, IOVA, 'write'),
    d.reads(IOVA, DATA),
    d.noRecord(),
  ),
  one(
    'translate_write_to_readonly',
    'the other way: reads of a page that may be written',
    ...mapped(IOVA, 'w'),
    d.readBlocked(IOVA, DATA),
    d.record(vtd.FR_READ_DENIED, IOVA, 'read'),
    d.writes(IOVA, DATA),
  ),
  one(
    'translate_pde_permission_restricts',
    'rights are those of all levels',
    d.context(),
    d.page(IOVA, DATA, { above: 'r' }),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.record(vtd.FR_WRITE_DENIED, IOVA, 'write'),
    d.reads(IOVA, DATA),
  ),
  one(
    'translate_fpd_suppresses_fault',
    'FPD',
    d.context({ fpd: true }),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.noRecord(),
  ),
  one(
    'translate_fpd_suppresses_fault',
    'FPD of a context that is not present',
    d.context({ fpd: true, present: false }),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.noRecord(),
  ),
  one(
    'translate_context_not_present',
    'beyond the source: reason 3, a translation type that is none',
    d.context({ type: 3 }),
    ...ON,
    d.writeBlocked(IOVA, DATA),
    d.record(vtd.FR_CONTEXT_INVALID, IOVA, 'write'),
  ),
  one(
    'translate_3level',
    'beyond the source: reason 4, an address past 39 bits at 3 levels',
    d.context({ levels: 3 }),
    ...ON,
    d.writeBlocked(2 ** 39, DATA),
    d.record(vtd.FR_BEYOND_ADDRESS_WIDTH, 2 ** 39, 'write'),
  ),
  one(
    'record_fault',
    'the record: requester, page, direction',
    d.context({ device: 2 }),
    ...ON,
    d.readBlocked(FAR + 0x124, DATA, { device: 2 }),
    d.record(vtd.FR_READ_DENIED, FAR, 'read', { device: 2 }),
    d.noRecord(),
  ),
  one(
    'record_fault_overflow',
    'the first record stays, PFO says that one was lost',
    d.context(),
    ...ON,
    d.readBlocked(0x1000, DATA),
    fault('pfo', vtd.FSTS_PFO, 0),
    d.writeBlocked(0x2000, DATA, { device: 1 }),
    fault('pfo', vtd.FSTS_PFO, vtd.FSTS_PFO),
    d.record(vtd.FR_READ_DENIED, 0x1000, 'read'),
  ),
  one(
    'end_to_end_linux_init_sequence',
    'queue, global invalidations, wait, translation',
    d.context(),
    d.page(IOVA, DATA),
    d.on({ translation: false }),
    d.queue(d.contextGlobal, d.iotlbGlobal, d.waitStore(STATUS, 0x5a5a)),
    d.word('status', STATUS, 0x5a5a),
    d.register('head', vtd.IQH_REG, -1, 0x30),
    d.gcmd(vtd.GCMD_TE | vtd.GCMD_QIE),
    d.writes(IOVA, DATA),
    fault('fsts', -1, 0),
  ),
];

export const OPENVMM_VTD: CaseGroup = {
  id: 'openvmm-vtd',
  title: 'OpenVMM, VT-d',
  file: 'microsoft/openvmm@1488a37b vm/devices/iommu/intel_vtd/src/lib.rs',
  cases: [...registers, ...walks],
  leftOut: [
    {
      tests: ['ire_rejected_without_irtps', 'sirtp_and_ire_enable', 'irta_write_guard', 'cfi_toggle'],
      why: 'interrupts are not remapped by the model',
    },
    {
      tests: ['extract_irte_index_*', 'remap_msi_*', 'interrupt_*', 'vtd_signal_msi*'],
      why: 'interrupts are not remapped by the model',
    },
    {
      tests: ['unsupported_access_size'],
      why: 'the model has registers of 32 and 64 bits only: other sizes cannot be asked',
    },
    {
      tests: ['te_rejected_without_rtps', 'iqa_write_guard'],
      why: 'the specification calls both software errors and leaves what happens open',
    },
    { tests: ['vtd_translator'], why: 'the interface of their own memory wrapper' },
  ],
};
