/**
 * What lines of a QEMU log mean: QEMU 7.2, checked against the trace-events files up to 10.0. hw/i386/trace-events has vtd_* and
 * amdvi_*, hw/9pfs/trace-events has v9fs_mkdir, the marks.
 */

/** What a QemuEvent is. */
export const QemuKind = {
  /** vtd_inv_desc_cc_global. */
  contextGlobal: 1,
  /** vtd_inv_desc_cc_domain. domain. */
  contextDomain: 2,
  /** vtd_inv_desc_cc_devices. device, value = function mask. */
  contextDevices: 3,
  /** vtd_inv_desc_cc_device, one per function hit by the one above. device. */
  contextDevice: 4,
  /** vtd_inv_desc_iotlb_global. */
  iotlbGlobal: 5,
  /** vtd_inv_desc_iotlb_domain. domain. */
  iotlbDomain: 6,
  /** vtd_inv_desc_iotlb_pages. domain, iova, value = address mask (log2 of the pages). */
  iotlbPages: 7,
  /** vtd_inv_desc_wait_sw. paddr = status address, value = status data. */
  wait: 8,
  /** vtd_dmar_translate. device, iova, paddr, value = page mask. */
  translate: 9,
  /** vtd_iotlb_page_update. device, iova, domain, entryLo and entryHi. */
  pageUpdate: 10,
  /** amdvi_translation_result. device, iova, paddr = the base of the page, whose size the line does not tell. */
  amdTranslate: 11,
  /** amdvi_cache_update. device, iova, paddr, domain. */
  amdCacheUpdate: 12,
  /** Any other amdvi_* line. text. */
  amd: 13,
  /** amdvi_completion_wait, _devtab_inval, _pages_inval, _iotlb_inval, _intr_inval, _prefetch_pages, _ppr_exec, _all_inval. value = operation, domain, device. */
  amdCommand: 14,
} as const;
export type QemuKind = (typeof QemuKind)[keyof typeof QemuKind];

/** Operations of AMD-Vi commands as the specification numbers them (48882, 2.4). */
export const AmdOperation = {
  completionWait: 1,
  devtabEntry: 2,
  pages: 3,
  iotlbPages: 4,
  interruptTable: 5,
  prefetchPages: 6,
  completePpr: 7,
  all: 8,
} as const;
export type AmdOperation = (typeof AmdOperation)[keyof typeof AmdOperation];

/** One decoded line, reused from line to line: copy what must survive the call. */
export class QemuEvent {
  kind: QemuKind = QemuKind.contextGlobal;
  /** The trace event's name. */
  name: string = '';
  line: number = 0;
  /** Microseconds since 1970 on the host; -1 in a log without times. */
  timeUs: number = -1;
  /** PCI source id: bus << 8 | device << 3 | function; -1 when the line names none. */
  device: number = -1;
  /** Domain id; -1 in a command that names none. */
  domain: number = 0;
  iova: number = 0;
  paddr: number = 0;
  value: number = 0;
  entryLo: number = 0;
  entryHi: number = 0;
  /** The line's text for kind amd. */
  text: string = '';
}

/**
 * What the reader of a QEMU log tells. Lines that no callback of the sink wants are counted by their name and not looked at
 * further: none of them is skipped as malformed.
 */
export interface QemuLogSink {
  /** vtd_inv_desc: a descriptor as its unit fetched it, bits 31:0, 63:32, 95:64, 127:96. */
  descriptor?(w0: number, w1: number, w2: number, w3: number, line: number): void;
  /**
   * A command that an AMD-Vi unit executed: its operation, and the domain (pages) or device (devtabEntry) that the line names,
   * -1 for none. QEMU logs no address; those are in the guest's record of its commands (amd-commands.ts).
   */
  amdCommand?(operation: AmdOperation, domain: number, device: number, line: number): void;
  /** v9fs_mkdir: a phase begins. */
  mark(name: string, line: number): void;
  /** vtd_inv_qi_tail, or amdvi_mmio_write to the command tail: the guest rang the doorbell. The register's new value. */
  tail?(value: number, line: number): void;
  /** vtd_dmar_translate, amdvi_translation_result: a device's access and where it went. AMD's `paddr` is the base of the page. */
  translation?(device: number, iova: number, paddr: number, line: number): void;
  /** Every line of a kind in QemuKind. */
  event?(event: QemuEvent): void;
  skipped(line: number, what: string, excerpt: string): void;
}
