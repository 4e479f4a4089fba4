/** Fault records in words: VT-d rev. 4.1 section 7 (reasons of legacy mode), AMD 48882 rev. 3.x section 2.5 (events and flags). */
import { hex } from '../base/index.ts';
import { deviceName } from '../check/index.ts';
import type { AmdviFaultRecord, AmdviUnit, FaultRecord } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import type { FaultView } from './view.ts';

const VTD_REASONS: Readonly<Record<number, string>> = {
  [vtd.FR_ROOT_NOT_PRESENT]: 'the present bit of the root entry is clear',
  [vtd.FR_CONTEXT_NOT_PRESENT]: 'the present bit of the context entry is clear',
  [vtd.FR_CONTEXT_INVALID]: 'the context entry asks for what this unit cannot do',
  [vtd.FR_BEYOND_ADDRESS_WIDTH]: 'the address is beyond the width of the context',
  [vtd.FR_WRITE_DENIED]: 'a write, and the entries do not let it write (or nothing is mapped)',
  [vtd.FR_READ_DENIED]: 'a read, and the entries do not let it read (or nothing is mapped)',
  [vtd.FR_NEXT_TABLE_UNREACHABLE]: 'the next table cannot be read',
  [vtd.FR_ROOT_TABLE_UNREACHABLE]: 'the root table cannot be read',
  [vtd.FR_CONTEXT_TABLE_UNREACHABLE]: 'the context table cannot be read',
  [vtd.FR_ROOT_RESERVED]: 'a reserved bit of the root entry is set',
  [vtd.FR_CONTEXT_RESERVED]: 'a reserved bit of the context entry is set',
  [vtd.FR_ENTRY_RESERVED]: 'a reserved bit of a paging entry is set',
  [vtd.FR_REQUEST_BLOCKED]: 'the context blocks requests of this kind',
  [vtd.FR_INTERRUPT_RANGE_OUTPUT]: 'the translation leads into the interrupt range',
};

export function vtdReason(reason: number): string {
  return VTD_REASONS[reason] ?? 'a reason without a name here';
}

export function vtdFault({ sid, reason, address, isRead }: FaultRecord): FaultView {
  return {
    sid,
    device: deviceName(sid),
    iova: address,
    access: isRead ? 'read' : 'write',
    code: reason,
    name: `fault reason ${hex(reason)}`,
    text: vtdReason(reason),
  };
}

const AMD_EVENTS: Readonly<Record<number, string>> = {
  [amdvi.EVENT_ILLEGAL_DEV_TABLE_ENTRY]: 'ILLEGAL_DEV_TABLE_ENTRY',
  [amdvi.EVENT_IO_PAGE_FAULT]: 'IO_PAGE_FAULT',
  [amdvi.EVENT_DEV_TAB_HARDWARE_ERROR]: 'DEV_TAB_HARDWARE_ERROR',
  [amdvi.EVENT_PAGE_TAB_HARDWARE_ERROR]: 'PAGE_TAB_HARDWARE_ERROR',
  [amdvi.EVENT_ILLEGAL_COMMAND_ERROR]: 'ILLEGAL_COMMAND_ERROR',
  [amdvi.EVENT_COMMAND_HARDWARE_ERROR]: 'COMMAND_HARDWARE_ERROR',
  [amdvi.EVENT_IOTLB_INV_TIMEOUT]: 'IOTLB_INV_TIMEOUT',
  [amdvi.EVENT_INVALID_DEVICE_REQUEST]: 'INVALID_DEVICE_REQUEST',
  [amdvi.EVENT_INVALID_PPR_REQUEST]: 'INVALID_PPR_REQUEST',
};

/** What the flags of a page fault say together (2.5.3). */
function pageFault(flags: number): string {
  if ((flags & amdvi.EVENT_FLAG_PR) === 0) return 'nothing is mapped there (PR = 0)';
  if ((flags & amdvi.EVENT_FLAG_RZ) !== 0) return 'a reserved bit of an entry is set (PR = 1, RZ = 1)';
  if ((flags & amdvi.EVENT_FLAG_PE) !== 0) return 'the entries do not allow this access (PR = 1, PE = 1)';
  return 'a level of the tables is encoded wrongly (PR = 1)';
}

export function amdFault({ sid, reason, flags, address, isRead, domain }: AmdviFaultRecord): FaultView {
  const isPageFault = reason === amdvi.EVENT_IO_PAGE_FAULT;
  return {
    sid,
    device: deviceName(sid),
    iova: address,
    access: isRead ? 'read' : 'write',
    code: reason,
    name: AMD_EVENTS[reason] ?? `event ${reason}`,
    text: `${isPageFault ? `${pageFault(flags)}, ` : ''}domain ${domain}, flags ${hex(flags)}`,
  };
}

/** The log was full and lost faults: VT-d FSTS.PFO, AMD EventOverflow. */
export function lostFaults(unit: VtdUnit | AmdviUnit): boolean {
  return unit instanceof VtdUnit
    ? (unit.read32(vtd.FSTS_REG) & vtd.FSTS_PFO) !== 0
    : (unit.read32(amdvi.STATUS_REG) & amdvi.STATUS_EVENT_OVERFLOW) !== 0;
}
