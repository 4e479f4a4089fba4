/**
 * AMD-Vi register offsets, field positions, table entries, commands and events: facts, no behaviour.
 * AMD I/O Virtualization Technology (IOMMU) Specification, 48882 rev. 3.x (section numbers below), as used by Linux
 * drivers/iommu/amd/amd_iommu_types.h. 64-bit fields are given per 32-bit word: `_LO` bits 31:0, `_HI` bits 63:32 of the quad
 * word that the name tells; of commands and events the words are counted W0..W3, of device table entries W0..W7.
 */

// Capability block (3.2) in the configuration space of the IOMMU's PCI function: offsets from the capability pointer.
export const CAP_HEADER = 0x00;
export const CAP_BASE_LO = 0x04;
export const CAP_BASE_HI = 0x08;
export const CAP_RANGE = 0x0c;
export const CAP_MISC = 0x10;
/** Capability id of a secure device, and the capability type that says IOMMU (18:16). */
export const CAP_ID_SECURE = 0x0f;
export const CAP_TYPE_SHIFT = 16;
export const CAP_TYPE_IOMMU = 3;
export const CAP_REV_SHIFT = 19;
/** Devices behind the unit may have TLBs of their own (ATS). */
export const CAP_IOTLB_SUP: number = 1 << 24;
export const CAP_HT_TUNNEL: number = 1 << 25;
/** Entries that are not present may be cached: software invalidates after it makes one present. */
export const CAP_NP_CACHE: number = 1 << 26;
export const CAP_EFR_SUP: number = 1 << 27;
export const CAP_EXT: number = 1 << 28;
/** Base address low: the window answers. Address bits from 14 up. */
export const CAP_BASE_ENABLE: number = 1 << 0;
export const CAP_MISC_PA_SIZE_SHIFT = 8; // 14:8, bits of a physical address
export const CAP_MISC_VA_SIZE_SHIFT = 15; // 21:15, bits of a device's address

// Registers (3.4). Offsets in bytes; all are 64 bits wide.
export const DEV_TABLE_REG = 0x0000;
export const CMD_BASE_REG = 0x0008;
export const EVT_BASE_REG = 0x0010;
export const CONTROL_REG = 0x0018;
export const EXCL_BASE_REG = 0x0020;
export const EXCL_LIMIT_REG = 0x0028;
export const EFR_REG = 0x0030;
export const PPR_BASE_REG = 0x0038;
export const CMD_HEAD_REG = 0x2000;
export const CMD_TAIL_REG = 0x2008;
export const EVT_HEAD_REG = 0x2010;
export const EVT_TAIL_REG = 0x2018;
export const STATUS_REG = 0x2020;
export const PPR_HEAD_REG = 0x2030;
export const PPR_TAIL_REG = 0x2038;
/** Size of the register window without performance counters. */
export const REG_WINDOW_BYTES = 0x4000;

/** Device table base: size in pages, minus one (8:0). */
export const DEV_TABLE_SIZE_MASK_LO = 0x1ff;
/** Address bits 51:32 in the high word of every base register, table entry and store address. */
export const ADDR_MASK_HI = 0xfffff;
/** Command buffer and event log base: a ring of 2^len entries, 8..15 (59:56). */
export const RING_LEN_SHIFT_HI = 24;
export const RING_LEN_MASK = 0xf;
export const RING_LEN_MIN = 8;
/** Head and tail of a ring: byte offset of an entry (18:4). */
export const RING_POINTER_MASK = 0x7fff0;
export const RING_ENTRY_BYTES = 16;

// Control register, low word.
export const CONTROL_IOMMU_EN: number = 1 << 0;
export const CONTROL_HT_TUN_EN: number = 1 << 1;
export const CONTROL_EVENT_LOG_EN: number = 1 << 2;
export const CONTROL_EVENT_INT_EN: number = 1 << 3;
export const CONTROL_COM_WAIT_INT_EN: number = 1 << 4;
export const CONTROL_INV_TIMEOUT_SHIFT = 5; // 7:5, 0 = wait for ever, 1..6 = 1 ms .. 100 s by powers of ten
export const CONTROL_PASS_PW: number = 1 << 8;
export const CONTROL_RES_PASS_PW: number = 1 << 9;
export const CONTROL_COHERENT: number = 1 << 10;
export const CONTROL_ISOC: number = 1 << 11;
export const CONTROL_CMD_BUF_EN: number = 1 << 12;
export const CONTROL_PPR_LOG_EN: number = 1 << 13;
export const CONTROL_PPR_INT_EN: number = 1 << 14;
export const CONTROL_PPR_EN: number = 1 << 15;
export const CONTROL_GT_EN: number = 1 << 16;

// Exclusion base, low word; the limit's low twelve bits count as ones.
export const EXCL_ENABLE: number = 1 << 0;
/** Every device may use the range, not only those whose entry has EX. */
export const EXCL_ALLOW_ALL: number = 1 << 1;

// Extended feature register, bit numbers within 64 bits.
export const EFR_PREFETCH_BIT = 0;
export const EFR_PPR_BIT = 1;
export const EFR_XT_BIT = 2;
export const EFR_NX_BIT = 3;
export const EFR_GT_BIT = 4;
export const EFR_IA_BIT = 6;
export const EFR_GA_BIT = 7;
export const EFR_HE_BIT = 8;
export const EFR_PC_BIT = 9;
export const EFR_HATS_SHIFT = 10; // 11:10, host tables of at most 4 + HATS levels
export const EFR_GATS_SHIFT = 12;

// Status register, low word. Bits 0..2 are cleared by writing ones, the Run bits are read-only.
export const STATUS_EVENT_OVERFLOW: number = 1 << 0;
export const STATUS_EVENT_LOG_INT: number = 1 << 1;
export const STATUS_COM_WAIT_INT: number = 1 << 2;
export const STATUS_EVENT_LOG_RUN: number = 1 << 3;
export const STATUS_CMD_BUF_RUN: number = 1 << 4;

// Device table entry (2.2.2.1), 256 bits.
export const DTE_BYTES = 32;
export const DTE_V_W0: number = 1 << 0;
export const DTE_TV_W0: number = 1 << 1;
export const DTE_HAD_SHIFT_W0 = 7; // 8:7
export const DTE_MODE_SHIFT_W0 = 9; // 11:9, levels of the host table; 0 = none, addresses pass
export const DTE_MODE_MASK = 7;
export const DTE_GV_W1: number = 1 << (55 - 32);
export const DTE_IR_W1: number = 1 << (61 - 32);
export const DTE_IW_W1: number = 1 << (62 - 32);
export const DTE_DOMAIN_MASK_W2 = 0xffff; // 79:64
export const DTE_IOTLB_W3: number = 1 << 0; // 96, the device's own TLB may ask for translations
/** Page faults are logged once per device (SE), or not at all (SA). */
export const DTE_SE_W3: number = 1 << 1;
export const DTE_SA_W3: number = 1 << 2;
export const DTE_EX_W3: number = 1 << 7; // 103, the exclusion range is open to this device
export const DTE_SYS_MGT_SHIFT_W3 = 8; // 105:104
export const DTE_IV_W4: number = 1 << 0; // 128, the interrupt fields behind it are valid
/** Reserved bits when V = 1, without guest translation, guest I/O protection and enhanced page requests. */
export const DTE_RESERVED_W0: number = 0x7c; // 6:2
export const DTE_RESERVED_W1: number = 0x9ff00000 | 0; // 63 and what the absent features would use, 60:52
export const DTE_RESERVED_W2: number = 0xffff0000 | 0; // 95:80
export const DTE_RESERVED_W3: number = 0xfffffc00 | 0; // 127:106

// Host page table entry (2.2.3), version 1 format.
export const PTE_PR_LO: number = 1 << 0;
export const PTE_ACCESSED_LO: number = 1 << 5;
export const PTE_DIRTY_LO: number = 1 << 6;
export const PTE_NEXT_LEVEL_SHIFT_LO = 9; // 11:9
export const PTE_NEXT_LEVEL_MASK = 7;
/** The entry maps a page of its level's size: 4 KiB * 512^(level - 1). */
export const NEXT_LEVEL_LEAF = 0;
/** The entry maps a page whose size stands in its address: 4 KiB * 2^n has n - 1 ones from bit 12 up and then a zero. */
export const NEXT_LEVEL_SIZED_LEAF = 7;
export const PTE_U_HI: number = 1 << (59 - 32);
export const PTE_FC_HI: number = 1 << (60 - 32);
export const PTE_IR_HI: number = 1 << (61 - 32);
export const PTE_IW_HI: number = 1 << (62 - 32);
/** Reserved bits of an entry that maps a page: 58:52. */
export const PTE_RESERVED_HI: number = 0x07f00000;
/** Reserved bits of an entry that leads to a table: 60:52. */
export const PDE_RESERVED_HI: number = 0x1ff00000;
export const MAX_LEVELS = 6;

// Commands (2.4): 128 bits, the operation in bits 63:60.
export const CMD_OP_SHIFT_W1 = 28;
export const CMD_COMPLETION_WAIT = 1;
export const CMD_INVALIDATE_DEVTAB_ENTRY = 2;
export const CMD_INVALIDATE_IOMMU_PAGES = 3;
export const CMD_INVALIDATE_IOTLB_PAGES = 4;
export const CMD_INVALIDATE_INTERRUPT_TABLE = 5;
export const CMD_PREFETCH_IOMMU_PAGES = 6;
export const CMD_COMPLETE_PPR_REQUEST = 7;
export const CMD_INVALIDATE_IOMMU_ALL = 8;
// COMPLETION_WAIT (2.4.1): store address 51:3 in words 0 and 1, data in words 2 and 3.
export const WAIT_STORE_W0: number = 1 << 0;
export const WAIT_INT_W0: number = 1 << 1;
export const WAIT_FLUSH_W0: number = 1 << 2;
// Device id of every command that has one, and domain id of INVALIDATE_IOMMU_PAGES (2.4.3).
export const CMD_DEVICE_MASK_W0 = 0xffff;
export const CMD_DOMAIN_MASK_W1 = 0xffff;
// INVALIDATE_IOMMU_PAGES and INVALIDATE_IOTLB_PAGES (2.4.4): address 63:12 in words 2 and 3.
/** More than one page: 4 KiB * 2^(n + 1) for the n ones of the address from bit 12 up, which do not count as address. */
export const INV_SIZE_W2: number = 1 << 0;
/** Copies of entries that lead to tables go too. Without it they stay. */
export const INV_PDE_W2: number = 1 << 1;
export const INV_GN_W2: number = 1 << 2;
/** With S = 1, the address that means all pages of the domain: every bit above 11 but the last is one. */
export const INV_ALL_PAGES_LO: number = 0xfffff000 | 0;
export const INV_ALL_PAGES_HI: number = 0x7fffffff;

// Events (2.5): 128 bits. Device id in 15:0, domain id in 47:32, flags in 59:48, code in 63:60, an address in 127:64.
export const EVENT_CODE_SHIFT_W1 = 28;
export const EVENT_FLAGS_SHIFT_W1 = 16;
export const EVENT_DEVICE_MASK_W0 = 0xffff;
export const EVENT_DOMAIN_MASK_W1 = 0xffff;
export const EVENT_ILLEGAL_DEV_TABLE_ENTRY = 1;
export const EVENT_IO_PAGE_FAULT = 2;
export const EVENT_DEV_TAB_HARDWARE_ERROR = 3;
export const EVENT_PAGE_TAB_HARDWARE_ERROR = 4;
export const EVENT_ILLEGAL_COMMAND_ERROR = 5;
export const EVENT_COMMAND_HARDWARE_ERROR = 6;
export const EVENT_IOTLB_INV_TIMEOUT = 7;
export const EVENT_INVALID_DEVICE_REQUEST = 8;
export const EVENT_INVALID_PPR_REQUEST = 9;
// Flags, as numbers in 11:0: what Linux prints as flags=0x....
/** An interrupt was asked for; otherwise memory. */
export const EVENT_FLAG_I = 0x008;
/** The page was present (or, for a fault of the device table entry, V was 1). */
export const EVENT_FLAG_PR = 0x010;
/** A write. */
export const EVENT_FLAG_RW = 0x020;
/** The permission was missing. */
export const EVENT_FLAG_PE = 0x040;
/** A reserved bit was not zero; with PR and without PE and RZ, a level was encoded wrongly. */
export const EVENT_FLAG_RZ = 0x080;
/** A translation request; otherwise a transaction. */
export const EVENT_FLAG_TR = 0x100;
export const EVENT_TYPE_SHIFT = 9; // hardware errors 10:9, INVALID_DEVICE_REQUEST 11:9
/** Kinds of hardware error: no one answered, the access was refused, data was bad. */
export const HARDWARE_MASTER_ABORT = 1;
export const HARDWARE_TARGET_ABORT = 2;
export const HARDWARE_DATA_ERROR = 3;
/** Kinds of INVALID_DEVICE_REQUEST: a read of the interrupt range; a request that only a device with I = 1 may make. */
export const INVALID_REQUEST_INTERRUPT_READ = 0;
export const INVALID_REQUEST_PRETRANSLATED = 1;

/** Interrupt address range, never translated (2.1.2, 2.8): [first, last]. */
export const INTERRUPT_RANGE_FIRST = 0xfee00000;
export const INTERRUPT_RANGE_LAST = 0xfeefffff;
