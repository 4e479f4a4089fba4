/**
 * Intel VT-d register offsets, field positions and descriptor layouts: facts, no behaviour.
 * Intel Virtualization Technology for Directed I/O, Architecture Specification, rev. 4.1 (section numbers below), as used by
 * Linux 6.12 drivers/iommu/intel/iommu.h. 64-bit fields are given per 32-bit word: `_LO` bits 31:0, `_HI` bits 63:32.
 */

// Registers (11.4). Offsets in bytes.
export const VER_REG = 0x00;
export const CAP_REG = 0x08;
export const ECAP_REG = 0x10;
export const GCMD_REG = 0x18;
export const GSTS_REG = 0x1c;
export const RTADDR_REG = 0x20;
export const CCMD_REG = 0x28;
export const FSTS_REG = 0x34;
export const FECTL_REG = 0x38;
export const FEDATA_REG = 0x3c;
export const FEADDR_REG = 0x40;
export const FEUADDR_REG = 0x44;
export const IQH_REG = 0x80;
export const IQT_REG = 0x88;
export const IQA_REG = 0x90;
export const ICS_REG = 0x9c;
export const IECTL_REG = 0xa0;
export const IEDATA_REG = 0xa4;
export const IEADDR_REG = 0xa8;
export const IEUADDR_REG = 0xac;
export const IQERCD_REG = 0xb0;
/** Size of the register window. */
export const REG_WINDOW_BYTES = 0x1000;

// Capability register (11.4.2), bit numbers within 64 bits.
export const CAP_ND_SHIFT = 0; // 2:0, domains = 2^(4 + 2 * ND)
export const CAP_RWBF_BIT = 4;
export const CAP_CM_BIT = 7;
export const CAP_SAGAW_SHIFT = 8; // 12:8, bit 1 = 39-bit (3 levels), bit 2 = 48-bit (4 levels)
export const CAP_MGAW_SHIFT = 16; // 21:16, width - 1
export const CAP_ZLR_BIT = 22;
export const CAP_FRO_SHIFT = 24; // 33:24, in 16-byte units
export const CAP_SLLPS_SHIFT = 34; // 37:34, bit 0 = 2 MiB, bit 1 = 1 GiB
export const CAP_PSI_BIT = 39;
export const CAP_NFR_SHIFT = 40; // 47:40, count - 1
export const CAP_MAMV_SHIFT = 48; // 53:48
export const CAP_DWD_BIT = 54;
export const CAP_DRD_BIT = 55;

// Extended capability register (11.4.3).
export const ECAP_C_BIT = 0;
export const ECAP_QI_BIT = 1;
export const ECAP_DT_BIT = 2;
export const ECAP_IR_BIT = 3;
export const ECAP_PT_BIT = 6;
export const ECAP_SC_BIT = 7;
export const ECAP_IRO_SHIFT = 8; // 17:8, in 16-byte units: IVA there, IOTLB 8 bytes above
export const ECAP_MHMV_SHIFT = 20; // 23:20, largest handle mask of an interrupt entry invalidation; only with IR

// Global command and status (11.4.4): same bit in both registers.
export const GCMD_TE: number = 1 << 31;
export const GCMD_SRTP: number = 1 << 30;
export const GCMD_SFL: number = 1 << 29;
export const GCMD_EAFL: number = 1 << 28;
export const GCMD_WBF: number = 1 << 27;
export const GCMD_QIE: number = 1 << 26;
export const GCMD_IRE: number = 1 << 25;
export const GCMD_SIRTP: number = 1 << 24;
export const GCMD_CFI: number = 1 << 23;

// Context command (11.4.6), high word unless said.
export const CCMD_ICC_HI: number = 1 << 31;
export const CCMD_CIRG_SHIFT_HI = 29; // 62:61, 1 global 2 domain 3 device
export const CCMD_CAIG_SHIFT_HI = 27; // 60:59, granularity actually performed
export const CCMD_FM_SHIFT_HI = 0; // 33:32
export const CCMD_SID_SHIFT_LO = 16; // 31:16
export const CCMD_DID_MASK_LO = 0xffff;

// IOTLB invalidate register (11.4.8.1), high word; its low word is reserved.
export const IOTLB_IVT_HI: number = 1 << 31;
export const IOTLB_IIRG_SHIFT_HI = 28; // 61:60, 1 global 2 domain 3 page
export const IOTLB_IAIG_SHIFT_HI = 25; // 58:57
export const IOTLB_DR_HI: number = 1 << 17;
export const IOTLB_DW_HI: number = 1 << 16;
export const IOTLB_DID_MASK_HI = 0xffff;
// Invalidate address register (11.4.8.2), low word.
export const IVA_IH: number = 1 << 6;
export const IVA_AM_MASK = 0x3f;

// Fault status (11.4.9).
export const FSTS_PFO: number = 1 << 0;
export const FSTS_PPF: number = 1 << 1;
export const FSTS_IQE: number = 1 << 4;
export const FSTS_ICE: number = 1 << 5;
export const FSTS_ITE: number = 1 << 6;
export const FSTS_FRI_SHIFT = 8; // 15:8, first record with F set
// Invalidation queue error record (11.4.18).
export const IQERCD_IQEI_MASK_LO = 0xf;
export const IQERCD_ITESID_SHIFT_HI = 0; // 47:32, requester of the device-TLB invalidation that timed out
export const IQERCD_ICESID_SHIFT_HI = 16; // 63:48, requester of the unexpected completion
// IQEI values. The register is newer than the recordings' hardware; values as in Linux 6.12's dmar.c comments and from memory.
export const IQEI_INVALID_TAIL = 1;
export const IQEI_FETCH_FAILED = 2;
export const IQEI_INVALID_TYPE = 3;
export const IQEI_RESERVED_FIELD = 4;
// Fault event control (11.4.10) and invalidation event control (11.4.17).
export const EVENT_IM: number = 1 << 31;
export const EVENT_IP: number = 1 << 30;
export const ICS_IWC: number = 1 << 0;

// Fault recording register (11.4.14), 128 bits: words 0..3.
export const FRCD_BYTES = 16;
export const FRCD_F_W3: number = 1 << 31; // bit 127, write 1 to clear
export const FRCD_T1_W3: number = 1 << 30; // bit 126: 1 = read, 0 = write (together with T2 = 0)
export const FRCD_AT_SHIFT_W3 = 28; // 125:124
export const FRCD_REASON_MASK_W3 = 0xff; // 103:96
export const FRCD_SID_MASK_W2 = 0xffff; // 79:64

// Fault reasons (7.2.1 / table "fault reason encodings", legacy mode).
export const FR_ROOT_NOT_PRESENT = 0x1;
export const FR_CONTEXT_NOT_PRESENT = 0x2;
export const FR_CONTEXT_INVALID = 0x3;
export const FR_BEYOND_ADDRESS_WIDTH = 0x4;
export const FR_WRITE_DENIED = 0x5;
export const FR_READ_DENIED = 0x6;
export const FR_NEXT_TABLE_UNREACHABLE = 0x7;
export const FR_ROOT_TABLE_UNREACHABLE = 0x8;
export const FR_CONTEXT_TABLE_UNREACHABLE = 0x9;
export const FR_ROOT_RESERVED = 0xa;
export const FR_CONTEXT_RESERVED = 0xb;
export const FR_ENTRY_RESERVED = 0xc;
export const FR_REQUEST_BLOCKED = 0xd;
export const FR_INTERRUPT_RANGE_OUTPUT = 0xe;

// Root entry (9.1), 128 bits.
export const ROOT_PRESENT: number = 1 << 0;
// Context entry (9.3), 128 bits.
export const CONTEXT_PRESENT: number = 1 << 0;
export const CONTEXT_FPD: number = 1 << 1;
export const CONTEXT_TT_SHIFT = 2; // 3:2 of the low quadword
export const CONTEXT_TT_MASK = 3;
/** Second-stage translation of untranslated requests only; 1 also serves device TLBs; 2 passes through. */
export const TT_MULTI_LEVEL = 0;
export const TT_DEVICE_TLB = 1;
export const TT_PASS_THROUGH = 2;
export const CONTEXT_AW_MASK_W2 = 7; // 66:64, 1 = 39-bit (3 levels), 2 = 48-bit (4 levels)
export const CONTEXT_DID_SHIFT_W2 = 8; // 87:72

// Second-stage paging entry (9.8).
export const SS_READ: number = 1 << 0;
export const SS_WRITE: number = 1 << 1;
export const SS_PAGE_SIZE: number = 1 << 7;
export const SS_ACCESSED: number = 1 << 8;
export const SS_DIRTY: number = 1 << 9;
export const SS_SNOOP: number = 1 << 11;
/** Transient mapping, bit 62 of a leaf: a hint for device TLBs; reserved where there are none. */
export const SS_TM_HI: number = 1 << 30;
/** Address bits 51:32 in the high word of an entry. Bits 62:52 are ignored or for software; bit 63 and 62 likewise in legacy mode. */
export const SS_ADDR_MASK_HI = 0xfffff;

// Queued invalidation (6.5.2). Type in bits 3:0 of word 0.
export const DESC_CONTEXT = 1;
export const DESC_IOTLB = 2;
export const DESC_DEVICE_IOTLB = 3;
export const DESC_INTERRUPT_ENTRY = 4;
export const DESC_WAIT = 5;
export const DESC_PIOTLB = 6;
export const DESC_PASID_CACHE = 7;
export const DESC_GRANULARITY_SHIFT = 4; // 5:4
export const GRANULARITY_GLOBAL = 1;
export const GRANULARITY_DOMAIN = 2;
/** Page for an IOTLB descriptor, device for a context descriptor. */
export const GRANULARITY_PAGE = 3;
export const GRANULARITY_DEVICE = 3;
export const DESC_DID_SHIFT = 16; // 31:16 of word 0
export const IOTLB_DESC_DW: number = 1 << 6;
export const IOTLB_DESC_DR: number = 1 << 7;
export const IOTLB_DESC_IH_W2: number = 1 << 6;
export const IOTLB_DESC_AM_MASK_W2 = 0x3f;
export const WAIT_IF: number = 1 << 4;
export const WAIT_SW: number = 1 << 5;
export const WAIT_FN: number = 1 << 6;
// Queue address register (11.4.12): QS bits 2:0, queue of 2^QS pages of 256 descriptors; DW bit 11 = 256-bit descriptors.
export const IQA_QS_MASK = 7;
export const IQA_DW: number = 1 << 11;
export const QI_DESC_BYTES = 16;
export const IQ_INDEX_SHIFT = 4;
/** Interrupt address range, never translated (3.14): [first, last]. */
export const INTERRUPT_RANGE_FIRST = 0xfee00000;
export const INTERRUPT_RANGE_LAST = 0xfeefffff;
