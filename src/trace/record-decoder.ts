/**
 * Binary records to TraceEvents, by the formats in the file: for each event a plan is made once, from the names of its fields.
 * The rules what is an event, what is `other` and what is skipped are those of ftrace-payload.ts, so that a trace.dat and the
 * text of the same ring buffer give the same events.
 */
import { ADDRESS_LIMIT, TWO_32 } from '../base/index.ts';
import { decodeUtf8 } from './bytetext.ts';
import type { EventFormat, FormatField } from './event-format.ts';
import type { TraceEvent } from './events.ts';
import { EventKind, IrqContext } from './events.ts';
import { MAX_MARK_BYTES, unitNumber } from './ftrace-payload.ts';
import type { EventPayloads } from './ftrace-payload.ts';

const TOO_BIG = 'an address and size below 2^53';
const OUTSIDE = 'a field inside the record';
/** trace_flag_type of include/linux/trace_events.h. */
const FLAG_HARDIRQ = 0x08;
const FLAG_SOFTIRQ = 0x10;
const FLAG_NMI = 0x40;
/** Type names of qi_submit (drivers/iommu/intel/trace.h). */
const QI_TYPES = [
  '',
  'cc_inv',
  'iotlb_inv',
  'dev_tlb_inv',
  'iec_inv',
  'inv_wait',
  'p_iotlb_inv',
  'pc_inv',
  'p_dev_tlb_inv',
  'page_grp_resp',
];

/** One record: bytes [start, end) of a page. Reads past its end give NaN or -1, never a throw. */
export class RecordView {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(new ArrayBuffer(0));
  start: number = 0;
  end: number = 0;
  /** Result of `locate`: a dynamic field's bytes. */
  dataStart: number = 0;
  dataEnd: number = 0;

  /** An integer field; NaN outside the record; rounded, but not below 2^53, when it is not exact. */
  number(field: FormatField): number {
    const at = this.start + field.offset;
    if (at + field.nrBytes > this.end) return Number.NaN;
    const { view } = this;
    switch (field.nrBytes) {
      case 1:
        return field.signed ? view.getInt8(at) : view.getUint8(at);
      case 2:
        return field.signed ? view.getInt16(at, true) : view.getUint16(at, true);
      case 4:
        return field.signed ? view.getInt32(at, true) : view.getUint32(at, true);
      case 8:
        return (
          (field.signed ? view.getInt32(at + 4, true) : view.getUint32(at + 4, true)) * TWO_32 +
          view.getUint32(at, true)
        );
      default:
        return Number.NaN;
    }
  }

  /** Bits 31:0 (`half` 0) or 63:32 (1) of an 8-byte field. The caller checked that it is inside. */
  word(field: FormatField, half: number): number {
    return this.view.getInt32(this.start + field.offset + half * 4, true);
  }

  contains(field: FormatField): boolean {
    return this.start + field.offset + field.nrBytes <= this.end;
  }

  /** Finds the bytes of a dynamic field, or of one in place; false outside the record. */
  locate(field: FormatField): boolean {
    const at = this.start + field.offset;
    if (field.location === 'none') {
      this.dataStart = at;
      this.dataEnd = field.nrBytes === 0 ? this.end : at + field.nrBytes;
      return this.dataEnd <= this.end && at <= this.end;
    }
    if (at + 4 > this.end) return false;
    const word = this.view.getUint32(at, true);
    const base = field.location === 'relative' ? at + field.nrBytes : this.start;
    this.dataStart = base + (word & 0xffff);
    this.dataEnd = this.dataStart + (word >>> 16);
    return this.dataEnd <= this.end;
  }

  /** Finds the bytes of a string field up to its null byte. */
  locateText(field: FormatField): boolean {
    if (!this.locate(field)) return false;
    let at = this.dataStart;
    while (at < this.dataEnd && this.bytes[at] !== 0) at++;
    this.dataEnd = at;
    return true;
  }
}

/** Fills an event from a record; returns '' or what was expected. */
type Decode = (record: RecordView, event: TraceEvent) => string;

/** How to decode the records of one event. */
export interface RecordPlan {
  readonly name: string;
  readonly pid: FormatField | undefined;
  readonly flags: FormatField | undefined;
  readonly decode: Decode;
  /** Whether it decodes a command of an AMD-Vi unit (amd-payload.ts). */
  readonly isCommand: boolean;
}

/** Field by name, as a thrown-away plan when it is missing: `plan` turns that into a skip. */
class MissingField extends Error {}

class Fields {
  readonly #format: EventFormat;

  constructor(format: EventFormat) {
    this.#format = format;
  }

  get(name: string, ...older: string[]): FormatField {
    for (const candidate of [name, ...older]) {
      const field = this.#format.fields.get(candidate);
      if (field !== undefined) return field;
    }
    throw new MissingField(`a field ${name} in the format of ${this.#format.name}`);
  }

  /** Present or undefined. */
  maybe(name: string): FormatField | undefined {
    return this.#format.fields.get(name);
  }
}

/** The plan for a format. Never throws: a known event whose format lacks a field gets a plan that skips its records. */
export function planFor(format: EventFormat, payloads: EventPayloads): RecordPlan {
  const pid = format.fields.get('common_pid');
  const flags = format.fields.get('common_flags');
  let decode: Decode;
  const command = commandDecoder(format);
  if (command !== null) return { name: format.name, pid, flags, decode: command, isCommand: true };
  try {
    decode = decoderFor(format, new Fields(format), payloads);
  } catch (error) {
    if (!(error instanceof MissingField)) throw error;
    const why = error.message;
    decode = () => why;
  }
  return { name: format.name, pid, flags, decode, isCommand: false };
}

/** A probe's record with the four words of a command; null for other formats. */
function commandDecoder(format: EventFormat): Decode | null {
  if (format.system !== 'kprobes') return null;
  const found = ['d0', 'd1', 'd2', 'd3'].map((name) => format.fields.get(name));
  const words = found.filter((field) => field !== undefined && field.nrBytes === 4 && field.location === 'none');
  if (words.length !== 4) return null;
  return (record, event) => {
    event.kind = EventKind.other;
    for (const [i, field] of words.entries()) {
      if (field === undefined || !record.contains(field)) return OUTSIDE;
      event.words[i] = record.number(field) | 0;
    }
    return '';
  };
}

/** IrqContext of common_flags. */
export function irqContextOfFlags(flags: number): number {
  if ((flags & FLAG_NMI) !== 0) return IrqContext.nmi;
  if ((flags & FLAG_HARDIRQ) !== 0) return IrqContext.hardirq;
  return (flags & FLAG_SOFTIRQ) !== 0 ? IrqContext.softirq : IrqContext.task;
}

function exact(value: number): boolean {
  return value >= 0 && value < ADDRESS_LIMIT;
}

function decoderFor(format: EventFormat, fields: Fields, payloads: EventPayloads): Decode {
  const key = `${format.system}:${format.name}`;
  switch (key) {
    case 'iommu:map':
      return mapDecoder(fields);
    case 'iommu:unmap':
      return unmapDecoder(fields);
    case 'iommu:attach_device_to_domain':
      return deviceOnly(EventKind.attach, fields, payloads);
    case 'iommu:detach_device_from_domain':
      return deviceOnly(EventKind.detach, fields, payloads);
    case 'iommu:add_device_to_group':
      return groupDecoder(EventKind.addDevice, fields, payloads);
    case 'iommu:remove_device_from_group':
      return groupDecoder(EventKind.removeDevice, fields, payloads);
    case 'iommu:io_page_fault':
      return faultDecoder(fields, payloads);
    case 'dma:dma_map_page':
    case 'dma:dma_map_phys':
    case 'dma:dma_map_resource':
      return dmaRangeDecoder(EventKind.dmaMap, fields, payloads, fields.get('phys_addr'));
    case 'dma:dma_unmap_page':
    case 'dma:dma_unmap_phys':
    case 'dma:dma_unmap_resource':
      return dmaRangeDecoder(EventKind.dmaUnmap, fields, payloads, undefined, 'addr');
    case 'dma:dma_alloc':
    case 'dma:dma_alloc_pages':
      return dmaRangeDecoder(EventKind.dmaAlloc, fields, payloads, undefined);
    case 'dma:dma_free':
    case 'dma:dma_free_pages':
      return dmaRangeDecoder(EventKind.dmaFree, fields, payloads, undefined);
    case 'dma:dma_map_sg':
      return mapSgDecoder(fields, payloads);
    case 'dma:dma_alloc_sgt':
      return allocSgtDecoder(fields, payloads);
    case 'dma:dma_unmap_sg':
      return physListDecoder(
        deviceOnly(EventKind.dmaUnmapSg, fields, payloads),
        fields.get('addrs', 'phys_addrs'),
        fields,
      );
    case 'dma:dma_free_sgt':
      return physListDecoder(
        dmaRangeDecoder(EventKind.dmaUnmapSg, fields, payloads, undefined),
        fields.get('phys_addrs', 'addrs'),
        fields,
      );
    case 'dma:dma_map_sg_err':
      return deviceOnly(EventKind.dmaMapSgError, fields, payloads);
    case 'dma:dma_sync_single_for_cpu':
    case 'dma:dma_sync_single_for_device':
    case 'dma:dma_sync_sg_for_cpu':
    case 'dma:dma_sync_sg_for_device':
      return deviceOnly(EventKind.dmaSync, fields, payloads);
    case 'ftrace:print':
      return markDecoder(fields);
    case 'intel_iommu:qi_submit':
      return qiSubmitDecoder(fields);
    case 'intel_iommu:cache_tag_assign':
    case 'intel_iommu:cache_tag_unassign':
    case 'intel_iommu:cache_tag_flush_all':
    case 'intel_iommu:cache_tag_flush_range':
    case 'intel_iommu:cache_tag_flush_range_np':
      return cacheTagDecoder(fields);
    default:
      return (_record, event) => {
        event.kind = EventKind.other;
        return '';
      };
  }
}

function mapDecoder(fields: Fields): Decode {
  const iova = fields.get('iova');
  const paddr = fields.get('paddr');
  const size = fields.get('size');
  return (record, event) => {
    event.kind = EventKind.map;
    event.iova = record.number(iova);
    event.paddr = record.number(paddr);
    event.nrBytes = record.number(size);
    if (Number.isNaN(event.iova + event.paddr + event.nrBytes)) return OUTSIDE;
    return exact(event.iova + event.nrBytes) && exact(event.paddr + event.nrBytes) ? '' : TOO_BIG;
  };
}

function unmapDecoder(fields: Fields): Decode {
  const iova = fields.get('iova');
  const size = fields.get('size');
  const unmapped = fields.get('unmapped_size');
  return (record, event) => {
    event.kind = EventKind.unmap;
    event.iova = record.number(iova);
    event.nrBytes = record.number(size);
    event.extra = record.number(unmapped);
    if (Number.isNaN(event.iova + event.nrBytes + event.extra)) return OUTSIDE;
    return exact(event.iova + event.nrBytes) && exact(event.extra) ? '' : TOO_BIG;
  };
}

function readDevice(record: RecordView, event: TraceEvent, field: FormatField, payloads: EventPayloads): string {
  if (!record.locateText(field)) return OUTSIDE;
  event.device = payloads.internDevice(record.bytes, record.dataStart, record.dataEnd);
  return event.device >= 0 ? '' : 'a device name, and not too many different ones';
}

function deviceOnly(kind: EventKind, fields: Fields, payloads: EventPayloads): Decode {
  const device = fields.get('device');
  return (record, event) => {
    event.kind = kind;
    return readDevice(record, event, device, payloads);
  };
}

function groupDecoder(kind: EventKind, fields: Fields, payloads: EventPayloads): Decode {
  const device = fields.get('device');
  const group = fields.get('gid');
  return (record, event) => {
    event.kind = kind;
    event.extra = record.number(group);
    return Number.isNaN(event.extra) ? OUTSIDE : readDevice(record, event, device, payloads);
  };
}

function faultDecoder(fields: Fields, payloads: EventPayloads): Decode {
  const device = fields.get('device');
  const iova = fields.get('iova');
  const flags = fields.get('flags');
  return (record, event) => {
    event.kind = EventKind.fault;
    event.iova = record.number(iova);
    // Printed with %x: an unsigned number even when the field is an int.
    const value = record.number(flags);
    event.extra = value < 0 ? value + TWO_32 : value;
    if (Number.isNaN(event.iova + event.extra)) return OUTSIDE;
    return exact(event.iova) ? readDevice(record, event, device, payloads) : TOO_BIG;
  };
}

function dmaRangeDecoder(
  kind: EventKind,
  fields: Fields,
  payloads: EventPayloads,
  phys: FormatField | undefined,
  olderAddress = 'dma_addr',
): Decode {
  const device = fields.get('device');
  const address = fields.get('dma_addr', olderAddress);
  const size = fields.get('size');
  return (record, event) => {
    event.kind = kind;
    const why = readDevice(record, event, device, payloads);
    if (why !== '') return why;
    event.iova = record.number(address);
    event.nrBytes = record.number(size);
    if (Number.isNaN(event.iova + event.nrBytes)) return OUTSIDE;
    if (address.nrBytes === 8 && record.word(address, 0) === -1 && record.word(address, 1) === -1) {
      // DMA_MAPPING_ERROR: nothing was mapped.
      event.kind = EventKind.other;
      return '';
    }
    if (!exact(event.iova + event.nrBytes)) return TOO_BIG;
    if (phys === undefined) return '';
    event.paddr = record.number(phys);
    if (Number.isNaN(event.paddr)) return OUTSIDE;
    return exact(event.paddr + event.nrBytes) ? '' : TOO_BIG;
  };
}

/** Elements of a dynamic array into every second number of `event.list` from `slot`; -1 outside the record, -2 not exact. */
function readList(record: RecordView, event: TraceEvent, field: FormatField, slot: number): number {
  if (!record.locate(field)) return -1;
  const step = field.elementBytes;
  if (step !== 4 && step !== 8) return -1;
  const count = Math.floor((record.dataEnd - record.dataStart) / step);
  while (count * 2 > event.list.length) event.growList();
  for (let i = 0; i < count; i++) {
    const at = record.dataStart + i * step;
    const high = step === 8 ? record.view.getUint32(at + 4, true) : 0;
    if (high >= 0x200000) return -2;
    event.list[i * 2 + slot] = high * TWO_32 + record.view.getUint32(at, true);
  }
  return count;
}

function listProblem(count: number): string {
  return count === -2 ? TOO_BIG : OUTSIDE;
}

function mapSgDecoder(fields: Fields, payloads: EventPayloads): Decode {
  const device = fields.get('device');
  const addresses = fields.get('dma_addrs');
  const sizes = fields.get('lengths');
  const phys = fields.get('phys_addrs');
  const nents = fields.maybe('full_nents');
  const ents = fields.maybe('full_ents');
  return (record, event) => {
    event.kind = EventKind.dmaMapSg;
    const why = readDevice(record, event, device, payloads);
    if (why !== '') return why;
    const nrAddresses = readList(record, event, addresses, 0);
    if (nrAddresses < 0) return listProblem(nrAddresses);
    const nrSizes = readList(record, event, sizes, 1);
    if (nrSizes < 0) return listProblem(nrSizes);
    if (nrSizes !== nrAddresses) return 'as many sizes as dma_addrs';
    if (!record.locate(phys)) return OUTSIDE;
    event.extra = nents === undefined ? (record.dataEnd - record.dataStart) / phys.elementBytes : record.number(nents);
    const nrEnts = ents === undefined ? nrAddresses : record.number(ents);
    if (Number.isNaN(event.extra + nrEnts)) return OUTSIDE;
    event.listLength = nrAddresses;
    event.listTruncated = nrAddresses < nrEnts;
    for (let i = 0; i < nrAddresses; i++) {
      if (!exact(event.list[i * 2] + event.list[i * 2 + 1])) return TOO_BIG;
    }
    return '';
  };
}

function allocSgtDecoder(fields: Fields, payloads: EventPayloads): Decode {
  const range = dmaRangeDecoder(EventKind.dmaMapSg, fields, payloads, undefined);
  const phys = fields.get('phys_addrs');
  return (record, event) => {
    const why = range(record, event);
    if (why !== '' || event.kind === EventKind.other) return why;
    if (!record.locate(phys)) return OUTSIDE;
    event.extra = (record.dataEnd - record.dataStart) / phys.elementBytes;
    event.list[0] = event.iova;
    event.list[1] = event.nrBytes;
    event.listLength = 1;
    event.listTruncated = false;
    return '';
  };
}

function physListDecoder(start: Decode, phys: FormatField, fields: Fields): Decode {
  const truncated = fields.maybe('truncated');
  return (record, event) => {
    const why = start(record, event);
    if (why !== '' || event.kind === EventKind.other) return why;
    const count = readList(record, event, phys, 0);
    if (count < 0) return listProblem(count);
    for (let i = 0; i < count; i++) event.list[i * 2 + 1] = 0;
    event.listLength = count;
    event.listTruncated = truncated !== undefined && record.number(truncated) === 1;
    return '';
  };
}

function markDecoder(fields: Fields): Decode {
  const text = fields.get('buf');
  return (record, event) => {
    event.kind = EventKind.mark;
    if (!record.locateText(text)) return OUTSIDE;
    let end = record.dataEnd;
    while (end > record.dataStart && record.bytes[end - 1] <= 32) end--;
    // As the text shows it: blanks before the text belong to the column, and a mark is one line.
    let start = record.dataStart;
    while (start < end && (record.bytes[start] === 32 || record.bytes[start] === 9)) start++;
    event.text = decodeUtf8(record.bytes, start, Math.min(end, start + MAX_MARK_BYTES));
    return '';
  };
}

function qiSubmitDecoder(fields: Fields): Decode {
  const words = [fields.get('qw0'), fields.get('qw1'), fields.get('qw2'), fields.get('qw3')];
  const unit = fields.get('iommu');
  return (record, event) => {
    event.kind = EventKind.qiSubmit;
    for (let i = 0; i < 4; i++) {
      const field = words[i];
      if (field === undefined || field.nrBytes !== 8 || !record.contains(field)) return OUTSIDE;
      event.words[i * 2] = record.word(field, 0);
      event.words[i * 2 + 1] = record.word(field, 1);
    }
    if (!record.locateText(unit)) return OUTSIDE;
    event.extra = unitNumber(record.bytes, record.dataStart, record.dataEnd);
    const type = event.words[0] & 0xf;
    event.text = QI_TYPES[type] || `0x${type.toString(16)}`;
    return '';
  };
}

function cacheTagDecoder(fields: Fields): Decode {
  const domain = fields.get('domain_id');
  return (record, event) => {
    event.kind = EventKind.cacheTag;
    event.extra = record.number(domain);
    return Number.isNaN(event.extra) ? OUTSIDE : '';
  };
}
