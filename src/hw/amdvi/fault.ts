/**
 * Why a request was refused, and which event tells it. AMD-Vi 48882 rev. 3.x sections 2.1.3 (conditions) and 2.5.2 to 2.5.10
 * (events). Caches keep the small numbers of this file; events are made from them when one is logged.
 */
import { amdvi } from '../../spec/index.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  EVENT_DEV_TAB_HARDWARE_ERROR,
  EVENT_FLAG_PE,
  EVENT_FLAG_PR,
  EVENT_FLAG_RZ,
  EVENT_ILLEGAL_DEV_TABLE_ENTRY,
  EVENT_INVALID_DEVICE_REQUEST,
  EVENT_INVALID_PPR_REQUEST,
  EVENT_IO_PAGE_FAULT,
  EVENT_PAGE_TAB_HARDWARE_ERROR,
  EVENT_TYPE_SHIFT,
  HARDWARE_MASTER_ABORT,
  INVALID_REQUEST_INTERRUPT_READ,
  INVALID_REQUEST_PRETRANSLATED,
} = amdvi;

// The walk. The first four fit an IOTLB entry (iotlb.ts).
/** An entry with PR = 0. The only fault that needs NpCache to be cached: all others come from entries that are present. */
export const FAULT_NOT_PRESENT = 1;
/** A level, a page size, or an address that the levels do not reach: whatever PR without RZ and PE means. */
export const FAULT_LEVEL = 2;
export const FAULT_RESERVED = 3;
export const FAULT_PERMISSION = 4;
export const FAULT_TABLE_UNREADABLE = 5;
// The device table.
export const FAULT_DTE_RESERVED = 6;
export const FAULT_DTE_LEVEL = 7;
export const FAULT_DTE_UNREADABLE = 8;
/** The device table does not reach to this device. */
export const FAULT_DTE_MISSING = 9;
/** V = 1 and TV = 0: there is no translation to walk. */
export const FAULT_NO_TRANSLATION = 10;
// The request.
export const FAULT_INTERRUPT_READ = 11;
/** A translation request, or a translated one, of a device that may not use ATS. */
export const FAULT_ATS = 12;
export const FAULT_PAGE_REQUEST = 13;

function pack(code: number, flags: number): number {
  return (code << 12) | flags;
}

/** Event code << 12 | flags that the fault alone determines; by fault number. */
const EVENTS: readonly number[] = [
  0,
  pack(EVENT_IO_PAGE_FAULT, 0),
  pack(EVENT_IO_PAGE_FAULT, EVENT_FLAG_PR),
  pack(EVENT_IO_PAGE_FAULT, EVENT_FLAG_PR | EVENT_FLAG_RZ),
  pack(EVENT_IO_PAGE_FAULT, EVENT_FLAG_PR | EVENT_FLAG_PE),
  pack(EVENT_PAGE_TAB_HARDWARE_ERROR, HARDWARE_MASTER_ABORT << EVENT_TYPE_SHIFT),
  pack(EVENT_ILLEGAL_DEV_TABLE_ENTRY, EVENT_FLAG_RZ),
  pack(EVENT_ILLEGAL_DEV_TABLE_ENTRY, 0),
  pack(EVENT_DEV_TAB_HARDWARE_ERROR, HARDWARE_MASTER_ABORT << EVENT_TYPE_SHIFT),
  pack(EVENT_IO_PAGE_FAULT, 0),
  pack(EVENT_IO_PAGE_FAULT, 0),
  pack(EVENT_INVALID_DEVICE_REQUEST, INVALID_REQUEST_INTERRUPT_READ << EVENT_TYPE_SHIFT),
  pack(EVENT_INVALID_DEVICE_REQUEST, INVALID_REQUEST_PRETRANSLATED << EVENT_TYPE_SHIFT),
  pack(EVENT_INVALID_PPR_REQUEST, 0),
];

export function faultCode(fault: number): number {
  return EVENTS[fault] >>> 12;
}

export function faultFlags(fault: number): number {
  return EVENTS[fault] & 0xfff;
}
