/**
 * OpenVMM's tests of its AMD-Vi unit (vm/devices/iommu/amd_iommu, MIT): the names are facts of `peers.md`, what is expected is
 * AMD 48882. Here the translations; registers and rings are in openvmm-amdvi-unit.ts.
 */
import { amdvi } from '../../spec/index.ts';
import { ROOT, STATUS } from './board.ts';
import type { CaseGroup, CaseStep, ConformanceCase, Rights } from './case.ts';
import * as d from './dsl.ts';
import { AMDVI_UNIT_CASES, head, one, pageFault, status } from './openvmm-amdvi-unit.ts';
import { QEMU_LOGS_NO_EVENTS } from './play.ts';

const { DATA, MIB2 } = d;
const FAR = 0x7f12_3456_7000;
const IOVA = 0x1000;
const ON = [d.on()];
const mapped = (iova: number, rights: Rights = 'rw', lg2: number = 12): readonly CaseStep[] => [
  d.device(),
  d.page(iova, DATA, { rights, lg2 }),
  ...ON,
];
const PR = amdvi.EVENT_FLAG_PR;
const PE = amdvi.EVENT_FLAG_PE;

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

const walks: readonly ConformanceCase[] = [
  one('translate_iommu_disabled', 'addresses pass', d.on({ translation: false }), d.writes(DATA, DATA)),
  one('translate_passthrough_mode0', 'mode 0', d.device({ levels: 0 }), ...ON, d.writes(DATA, DATA), d.noRecord()),
  one('translate_dte_v0_passthrough', 'V is 0', ...ON, d.writes(DATA + 4, DATA + 4), d.noRecord()),
  one(
    'translate_device_id_out_of_range',
    'the table has 128 entries, the device is no. 256',
    d.device({ device: 2, levels: 0 }),
    ...ON,
    d.writeq(amdvi.DEV_TABLE_REG, ROOT),
    d.writeBlocked(DATA, DATA, {
      device: 2,
      qemu: d.sees('arrives', 1, 'QEMU does not compare device ids with the size of the table'),
    }),
    d.record(amdvi.EVENT_ILLEGAL_DEV_TABLE_ENTRY, DATA, 'write', {
      device: 2,
      model: d.sees(
        'reason',
        amdvi.EVENT_IO_PAGE_FAULT,
        'our model takes an entry that is not there for a page fault; that the request is blocked is the same',
      ),
    }),
  ),
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
    'translate_mode7_2g_at_l3',
    'its halves do not alias',
    d.device(),
    d.page(16 * d.GIB, 0, { lg2: 31 }),
    ...ON,
    d.reads(16 * d.GIB + DATA + 0xffc, DATA + 0xffc),
    d.readBlocked(17 * d.GIB + DATA, DATA),
    d.noRecord(),
  ),
  one(
    'translate_mode7_malformed_address_field_faults',
    'an address of ones has no size',
    d.device(),
    d.entry(0, 1, 0xfffff000 | (7 << 9) | 1, 0x600fffff),
    ...ON,
    d.readBlocked(0, DATA),
    d.record(amdvi.EVENT_IO_PAGE_FAULT, 0, 'read'),
  ),
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
    d.register('log', amdvi.EVT_TAIL_REG, -1, 0x10, { qemu: d.sees('log', 0, QEMU_LOGS_NO_EVENTS) }),
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
    'translating_memory_cross_page_single_byte',
    'the last byte of a page, the first of the next',
    d.device(),
    d.page(0x1000, DATA),
    d.page(0x2000, DATA + 0x9000),
    ...ON,
    d.block('write', 0x1fff, [
      { nrBytes: 1, at: DATA + 0xfff, arrives: true },
      { nrBytes: 1, at: DATA + 0x9000, arrives: true },
    ]),
  ),
  one(
    'translating_memory_large_intra_page',
    'most of a page at once',
    ...mapped(0x1000),
    d.block('write', 0x1000, [{ nrBytes: 4000, at: DATA, arrives: true }]),
    d.block('read', 0x1000, [{ nrBytes: 4000, at: DATA, arrives: true }]),
  ),
  one(
    'end_to_end_full_stack',
    'but for the interrupt: device, tables, commands, a store, DMA both ways, a fault',
    ...mapped(0),
    d.queue(d.invalidateDevice(0x20), d.completionStore(STATUS, 0xcafe1234, 0xdeadbeef), d.COMPLETION_INTERRUPT),
    head(0x30),
    d.word('low', STATUS, 0xcafe1234),
    d.word('high', STATUS + 4, 0xdeadbeef),
    status('wait', amdvi.STATUS_COM_WAIT_INT, amdvi.STATUS_COM_WAIT_INT),
    d.reads(0, DATA),
    d.writes(0x100, DATA + 0x100),
    d.readBlocked(0x1000, DATA),
    pageFault(0x1000, 'read'),
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
  cases: [...AMDVI_UNIT_CASES, ...walks],
  leftOut: [
    {
      tests: d.names(`
        irte_lookup_valid irte_lookup_invalid_remap_disabled irte_lookup_index_out_of_range irte_lookup_iv_not_set
        irte_lookup_multiple_indices remap_msi_basic remap_msi_logical_destination remap_msi_passthrough
        remap_msi_abort remap_msi_reserved_int_ctl remap_msi_ga_mode_128bit_irte remap_msi_ga_mode_x2apic_destination
        remap_msi_iommu_disabled remap_msi_index_out_of_range remap_msi_arbitrated_delivery
        ext_feat_advertises_xtsup_iasup_gasup iommu_ctrl_xten_intcapxten_roundtrip
        xt_interrupt_control_registers_roundtrip signal_msi_remapped signal_msi_iommu_disabled
        signal_msi_fault_drops_interrupt`),
      why: 'interrupts are not remapped by the model',
    },
    {
      tests: d.names('cmdbuf_completion_wait_delivers_msi evtlog_overflow_delivers_msi'),
      why: 'what an interrupt of the unit says is set in PCI configuration space, which the model does not have',
    },
    {
      tests: d.names(`
        pci_vendor_device_id pci_class_code pci_capability_pointer pci_capability_header pci_capability_mmio_base
        pci_capability_device_range pci_capability_misc_info suggested_bdf static_mmio_region`),
      why: 'where a unit is and what it is called there; the model begins at its registers',
    },
    {
      tests: ['devtab_base_locked_when_enabled'],
      why: 'their unit ignores a new base while it is on; our model takes it, and no kernel writes one then',
    },
    {
      tests: d.names('cmdbuf_out_of_range_tail_no_spin evtlog_out_of_range_head_masked'),
      why: 'how a pointer past its ring is cut is their choice, and QEMU 7.2 does not come back from such a tail',
    },
    {
      tests: ['translating_memory_iova_overflow'],
      why: 'a DMA past 2^64: addresses of the model are exact to 2^53',
    },
    {
      tests: d.names(`
        translating_memory_basic_read translating_memory_basic_write translating_memory_passthrough
        translating_memory_fault translating_memory_write_plain_u32 translating_memory_read_plain_u32
        translating_memory_fill translating_memory_cross_page_fill translating_memory_subrange_cross_page_write
        translating_memory_paged_range_write translating_memory_multi_region_target device_context`),
      why: 'calls of their wrapper around guest memory, over translations that the translate_* cases look at',
    },
    {
      tests: d.names(`
        spec/commands/command_entry_opcode spec/commands/command_opcodes spec/commands/completion_wait_fields
        spec/commands/completion_wait_store_address_high spec/commands/invalidate_devtab_entry
        spec/commands/invalidate_iommu_pages spec/commands/invalidate_interrupt_table
        spec/commands/invalidate_iommu_all spec/commands/command_entry_size spec/dte/dte_size
        spec/dte/dte_dw0_valid_and_mode spec/dte/dte_dw0_page_table_root spec/dte/dte_dw0_permissions
        spec/dte/dte_dw1_domain_id spec/dte/dte_dw2_interrupt_remapping spec/dte/dte_dw2_int_ctl_modes
        spec/dte/dte_dw2_passthrough_interrupts spec/dte/paging_modes spec/dte/dte_passthrough_config
        spec/dte/dte_full_translation_config spec/events/event_entry_size spec/events/event_codes
        spec/events/illegal_dev_table_entry_event spec/events/io_page_fault_event
        spec/events/illegal_command_error_event spec/events/invalid_device_request_event spec/irte/irte_size
        spec/irte/irte_basic_roundtrip spec/irte/irte_disabled spec/irte/irte_logical_destination
        spec/irte/irte_suppress_iopf spec/irte/int_types spec/irte/irte_from_raw_u32 spec/pte/pte_size
        spec/pte/pte_leaf_detection spec/pte/pte_present spec/pte/pte_permissions spec/pte/pte_address
        spec/pte/va_index_level1 spec/pte/va_index_level4 spec/pte/page_size_at_level spec/pte/page_offset_mask
        spec/pte/pte_roundtrip spec/pte/pde_roundtrip spec/pte/entries_per_table
        spec/pte/mode7_page_size_roundtrip_small spec/pte/mode7_page_size_roundtrip_16k
        spec/pte/mode7_page_size_roundtrip_64k spec/pte/mode7_page_size_roundtrip_4m
        spec/pte/mode7_page_size_with_flag_bits spec/registers/register_offsets spec/registers/dev_tab_base_roundtrip
        spec/registers/cmd_buf_base_roundtrip spec/registers/evt_log_base_roundtrip
        spec/registers/iommu_ctrl_roundtrip spec/registers/iommu_ctrl_int_remap_mode
        spec/registers/cmd_buf_head_roundtrip spec/registers/iommu_status_roundtrip
        spec/registers/cap_header_roundtrip spec/registers/base_addr_low_roundtrip spec/registers/range_roundtrip
        spec/registers/misc_info0_roundtrip`),
      why: 'accessors of their bit fields; the layouts are seen in what the other cases store and read',
    },
  ],
};
