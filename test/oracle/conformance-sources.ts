/**
 * The names of all tests of the sources that the conformance cases come from, read off the sources themselves: microsoft/openvmm
 * at 1488a37b (MIT; "test_" left out, files beside lib.rs named), QEMU's tests/qtest of 2026, kvm-unit-tests' reports, Linux 7.0.
 */
const list = (text: string): readonly string[] => text.trim().split(/\s+/);

export const SOURCE_TESTS: Readonly<Record<string, readonly string[]>> = {
  // 53 of lib.rs and 12 of spec/.
  'openvmm-vtd': list(`
    ver_register cap_register ecap_register gcmd_read_returns_zero gsts_initial srtp_and_te_enable
    te_rejected_without_rtps ire_rejected_without_irtps sirtp_and_ire_enable wbf qie_enable_disable
    ccmd_register_invalidation fsts_rw1c ppf_dynamic_computation ics_rw1c iqa_write_guard irta_write_guard
    unmapped_offset_returns_zero unsupported_access_size 32bit_access_to_64bit_register iotlb_register_invalidation
    cfi_toggle frcd_hi_rw1c translate_4level_4kb translate_4level_4kb_with_offset translate_disabled_is_identity
    translate_3level translate_2mb_large_page translate_passthrough translate_root_not_present
    translate_context_not_present translate_pte_not_present translate_write_to_readonly
    translate_pde_permission_restricts translate_fpd_suppresses_fault extract_irte_index_no_shv
    extract_irte_index_with_shv remap_msi_basic remap_msi_x2apic_destination remap_msi_ir_disabled_passthrough
    interrupt_remapper_transitions_from_passthrough_to_remap remap_msi_irte_not_present
    remap_msi_posted_irte_rejected interrupt_entry_cache_invalidate_retranslates_routes
    remap_msi_compat_format_blocked remap_msi_compat_format_passthrough_cfis remap_msi_source_validation_verify_sid
    record_fault record_fault_overflow vtd_translator vtd_signal_msi vtd_signal_msi_no_devid_dropped
    end_to_end_linux_init_sequence spec/invalidation/parse_invalidation_wait
    spec/invalidation/parse_interrupt_cache_invalidate spec/irte/xapic_destination
    spec/pte/pte_present_requires_r_or_w spec/pte/iova_index spec/pte/page_size_at_level spec/pte/large_page_gpa
    spec/registers/gcmd_gsts_bits_aligned spec/registers/iqa_queue_size spec/registers/irta_entry_count
    spec/registers/iqh_iqt_offsets spec/root_context/address_width_levels`),
  // 108 of lib.rs and 62 of spec/.
  'openvmm-amdvi': list(`
    pci_vendor_device_id pci_class_code pci_capability_pointer pci_capability_header pci_capability_mmio_base
    pci_capability_device_range pci_capability_misc_info suggested_bdf extfeat_readback extfeat_readonly
    ctrl_enable_disable devtab_base_readback cmdbuf_base_readback devtab_base_locked_when_enabled status_rw1c
    32bit_mmio_access 32bit_mmio_write static_mmio_region initial_state evt_log_head_write evtlog_write_and_read
    evtlog_interrupt_signal evtlog_full evtlog_head_frees_space cmdbuf_basic_consumption
    cmdbuf_completion_wait_interrupt cmdbuf_completion_wait_delivers_msi cmdbuf_wrap cmdbuf_unknown_opcode
    cmdbuf_not_processed_when_disabled cmdbuf_multiple_commands cmdbuf_invalidate_all
    cmdbuf_completion_wait_store_and_interrupt translate_tv0_aborts translate_passthrough_mode0
    translate_iommu_disabled translate_dte_v0_passthrough translate_device_id_out_of_range translate_4level
    translate_4level_with_offset translate_3level translate_2mb_large_page translate_mode7_16k_large_page
    translate_mode7_64k_large_page translate_mode7_4m_at_l2 translate_mode7_read_only_denies_write
    translate_mode7_write_only_denies_read translate_mode7_pde_permission_restricts
    translate_mode7_adjacent_mappings_independent translate_mode7_malformed_address_field_faults
    translate_mode7_2g_at_l3 translate_mode7_target_with_nontrivial_bits translate_page_not_present
    translate_write_permission_denied translate_read_permission_denied translate_dte_permission_restricts
    translate_reserved_mode7 translate_iova_offset_preserved translate_fault_to_event irte_lookup_valid
    irte_lookup_invalid_remap_disabled irte_lookup_index_out_of_range irte_lookup_iv_not_set remap_msi_basic
    remap_msi_logical_destination remap_msi_passthrough remap_msi_abort remap_msi_reserved_int_ctl
    remap_msi_ga_mode_128bit_irte remap_msi_ga_mode_x2apic_destination ext_feat_advertises_xtsup_iasup_gasup
    iommu_ctrl_xten_intcapxten_roundtrip xt_interrupt_control_registers_roundtrip remap_msi_iommu_disabled
    remap_msi_index_out_of_range remap_msi_arbitrated_delivery irte_lookup_multiple_indices
    translating_memory_basic_read translating_memory_basic_write translating_memory_passthrough
    translating_memory_fault translating_memory_disabled_bypass signal_msi_remapped signal_msi_iommu_disabled
    signal_msi_fault_drops_interrupt device_context end_to_end_full_stack translating_memory_write_plain_u32
    translating_memory_read_plain_u32 translating_memory_fill translating_memory_large_intra_page
    translating_memory_cross_page_read translating_memory_cross_page_write translating_memory_cross_page_fill
    translating_memory_subrange_cross_page_write translating_memory_paged_range_write
    translating_memory_multi_region_target translating_memory_cross_page_single_byte
    translating_memory_cross_page_fault_second_page translating_memory_3level_high_iova
    cmdbuf_out_of_range_tail_no_spin evtlog_out_of_range_head_masked translating_memory_iova_overflow
    completion_wait_sets_comwaitint_without_comwaitinten evtlog_overflow_delivers_msi
    evtlog_drops_events_while_overflow_set cmdbuf_read_failure_logs_hardware_error_event
    translate_rejects_iova_exceeding_va_width spec/commands/command_entry_opcode spec/commands/command_opcodes
    spec/commands/completion_wait_fields spec/commands/completion_wait_store_address_high
    spec/commands/invalidate_devtab_entry spec/commands/invalidate_iommu_pages
    spec/commands/invalidate_interrupt_table spec/commands/invalidate_iommu_all spec/commands/command_entry_size
    spec/dte/dte_size spec/dte/dte_dw0_valid_and_mode spec/dte/dte_dw0_page_table_root spec/dte/dte_dw0_permissions
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
    spec/registers/cmd_buf_base_roundtrip spec/registers/evt_log_base_roundtrip spec/registers/iommu_ctrl_roundtrip
    spec/registers/iommu_ctrl_int_remap_mode spec/registers/cmd_buf_head_roundtrip
    spec/registers/iommu_status_roundtrip spec/registers/cap_header_roundtrip spec/registers/base_addr_low_roundtrip
    spec/registers/range_roundtrip spec/registers/misc_info0_roundtrip`),
  'qemu-qtest': list('legacy-pt legacy-trans scalable-pt scalable-slt scalable-flt stage-1 cmdbuf-head-wrap'),
  'kvm-unit-tests': [
    'fault status check',
    'QI enablement',
    'DMAR table setup',
    'IR table setup',
    'DMAR enablement',
    'IR enablement',
    'DMAR support 39 bits address width',
    'DMAR support huge pages',
    'DMAR 4B memcpy test',
    'IR IOAPIC',
    'IR MSI',
  ],
  'generic-pt': list(`
    test_increase_level test_map_simple test_map_table_to_oa test_unmap_split test_random_map test_pgsize_boundary
    test_mixed test_init test_bitops test_best_pgsize test_table_ptr test_max_va test_table_radix
    test_entry_possible_sizes test_entry_oa test_attr_from_entry test_dirty`),
};
