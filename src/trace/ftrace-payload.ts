/**
 * The text of one event, `IOMMU: iova=0x... size=4096`, into a TraceEvent. Sources: the TP_printk of
 *   include/trace/events/iommu.h (3.13 to 7.0; map and unmap print a range since 5.17, its end exclusive),
 *   include/trace/events/dma.h (6.12 to 7.0; dma_map_sg without nents/ents in 6.12.0),
 *   drivers/iommu/intel/trace.h (qi_submit since 5.12, cache_tag_* since 6.10),
 *   include/trace/events/intel_iommu.h (5.4 to 5.10: map_single and friends, delivered as `other`).
 * Every parser returns '' or what it expected, as a constant: a malformed line costs no string either.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import type { Names, TraceEvent } from './events.ts';
import { EventKind } from './events.ts';
import { ByteNames, decodeUtf8 } from './bytetext.ts';
import { RAW, parseRaw } from './raw-payload.ts';
import type { LineScanner } from './scanner.ts';
import { ascii } from './scanner.ts';

/** More event names or devices than any machine has: beyond it the input is garbage and must not take memory. */
const MAX_EVENT_NAMES = 4096;
const MAX_DEVICES = 65536;
const MAX_TYPES = 64;

/** Longest mark text that is kept. */
export const MAX_MARK_BYTES = 4096;

const IOMMU = ascii('IOMMU:');
const IOVA = ascii('iova=');
const DASH = ascii('-');
const PADDR = ascii('paddr=');
const SIZE = ascii('size=');
const UNMAPPED = ascii('unmapped_size=');
const DEVICE = ascii('device=');
const GROUP = ascii('groupID=');
const FLAGS = ascii('flags=');
const DIR = ascii('dir=');
const DMA_ADDR = ascii('dma_addr=');
const DMA_ADDRS = ascii('dma_addrs=');
const SIZES = ascii('sizes=');
const PHYS_ADDR = ascii('phys_addr=');
const PHYS_ADDRS = ascii('phys_addrs=');
const NENTS = ascii('nents=');
const ENTS = ascii('ents=');
const SLASH = ascii('/');
const TRUNCATED = ascii('[TRUNCATED]');
const HEX = ascii('0x');
const TYPE = ascii(' type ');
const DID = ascii(' did ');
const MARKER = ascii('tracing_mark_write: ');
const OPEN = 123;
const CLOSE = 125;
const COMMA = 44;

const TOO_BIG = 'an address and size below 2^53';
const NO_DEVICE = 'a device name';
const TOO_MANY_DEVICES = `at most ${MAX_DEVICES} different devices`;

type Parser = (this: EventPayloads, line: LineScanner, event: TraceEvent) => string;

/** What a known event is, by its name: the system that defines it (for `system:event` lines), its kind, and its parser. */
interface KnownEvent {
  readonly name: string;
  readonly system: string;
  readonly kind: EventKind;
  readonly parser: Parser;
}

/** Parsers of event texts; one instance per reader, since it numbers event names and devices. */
export class EventPayloads {
  readonly #names: Names;
  readonly #devices = new ByteNames(MAX_DEVICES);
  /** Number in Names of each number in #devices. */
  readonly #deviceIds: number[] = [];
  readonly #eventNames = new ByteNames(MAX_EVENT_NAMES);
  readonly #types = new ByteNames(MAX_TYPES);
  /** False when a longer line could start with the line just parsed: the check for a last line without line end. */
  complete: boolean = false;

  constructor(names: Names) {
    this.#names = names;
    for (const { name: text } of KNOWN) {
      const name = ascii(text);
      this.#eventNames.intern(name, 0, name.length);
    }
  }

  /**
   * Parses the text at the scanner's position as event `name` of `system` (empty ranges: unknown). Sets kind, text and
   * the fields of the kind, if that is `wanted`. Returns '' or what was expected.
   */
  parse(
    line: LineScanner,
    nameStart: number,
    nameEnd: number,
    systemStart: number,
    systemEnd: number,
    event: TraceEvent,
    wanted: Uint8Array,
  ): string {
    const id = nameEnd > nameStart ? this.#eventNames.intern(line.bytes, nameStart, nameEnd) : -1;
    event.text = id >= 0 ? this.#eventNames.text(id) : nameEnd > nameStart ? '(other)' : 'function';
    event.device = -1;
    this.complete = true;
    if (id < 0 || id >= KNOWN.length || !sameSystem(KNOWN[id].system, line.bytes, systemStart, systemEnd)) {
      event.kind = EventKind.other;
      return '';
    }
    const { kind, parser } = KNOWN[id];
    event.kind = kind;
    if (wanted[kind] === 0) return '';
    if (kind === EventKind.other || !line.literal(RAW)) return parser.call(this, line, event);
    this.complete = false;
    return parseRaw(line, event, this);
  }

  /** The type name of a descriptor; '' when it is empty or one too many. */
  internType(bytes: Uint8Array, start: number, end: number): string {
    return end <= start || end - start > 32 ? '' : this.#types.text(this.#types.intern(bytes, start, end));
  }

  /** The device name at the position, up to a blank. @returns number in Names, -1 no name, -2 too many */
  device(line: LineScanner): number {
    const start = line.pos;
    line.word();
    return this.internDevice(line.bytes, start, line.pos);
  }

  /** Number in Names of a device given as bytes; -1 for an empty or overlong name, -2 when there are too many. */
  internDevice(bytes: Uint8Array, start: number, end: number): number {
    if (end <= start || end - start > 128) return -1;
    const id = this.#devices.intern(bytes, start, end);
    if (id < 0) return -2;
    if (id < this.#deviceIds.length) return this.#deviceIds[id];
    const number = this.#names.intern(this.#devices.text(id));
    this.#deviceIds.push(number);
    return number;
  }
}

function sameSystem(system: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (end <= start) return true;
  if (end - start !== system.length) return false;
  for (let i = 0; i < system.length; i++) if (bytes[start + i] !== system.charCodeAt(i)) return false;
  return true;
}

/** After blanks, `text`, in one step. */
function label(line: LineScanner, text: Uint8Array): boolean {
  line.blanks();
  return line.literal(text);
}

/** `IOMMU: iova=0xA[ - 0xB]`: sets iova and returns the size of the range, -1 without a range, -2 when malformed. */
function range(line: LineScanner, event: TraceEvent): number {
  if (!label(line, IOMMU) || !label(line, IOVA)) return -2;
  const iova = line.prefixedHex();
  if (iova < 0 || !line.boundary()) return -2;
  event.iova = iova;
  if (!label(line, DASH)) return -1;
  line.blanks();
  const end = line.prefixedHex();
  if (end < iova || !line.boundary()) return -2;
  return end - iova;
}

function parseMap(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const nrBytes = range(line, event);
  if (nrBytes === -2) return 'map: IOMMU: iova=0x... - 0x... paddr=0x... size=...';
  if (!label(line, PADDR)) return 'map: paddr=0x... after the iova';
  event.paddr = line.prefixedHex();
  if (event.paddr < 0 || !line.boundary()) return 'map: hex digits after paddr=';
  if (!label(line, SIZE)) return 'map: size=... after paddr';
  event.nrBytes = line.decimal();
  if (event.nrBytes < 0 || !line.boundary()) return 'map: a decimal size';
  if (event.iova + event.nrBytes >= ADDRESS_LIMIT || event.paddr + event.nrBytes >= ADDRESS_LIMIT) return TOO_BIG;
  if (nrBytes >= 0 && nrBytes !== event.nrBytes) return 'map: a range as long as size';
  this.complete = nrBytes >= 0;
  return atLineEnd(line);
}

function parseUnmap(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const nrBytes = range(line, event);
  if (nrBytes === -2) return 'unmap: IOMMU: iova=0x... - 0x... size=... unmapped_size=...';
  if (!label(line, SIZE)) return 'unmap: size=... after the iova';
  event.nrBytes = line.decimal();
  if (event.nrBytes < 0 || !line.boundary()) return 'unmap: a decimal size';
  if (!label(line, UNMAPPED)) return 'unmap: unmapped_size=... after size';
  event.extra = line.decimal();
  if (event.extra < 0 || !line.boundary()) return 'unmap: a decimal unmapped_size';
  if (event.iova + event.nrBytes >= ADDRESS_LIMIT || event.extra >= ADDRESS_LIMIT) return TOO_BIG;
  if (nrBytes >= 0 && nrBytes !== event.nrBytes) return 'unmap: a range as long as size';
  this.complete = nrBytes >= 0 && event.extra === event.nrBytes;
  return atLineEnd(line);
}

function atLineEnd(line: LineScanner): string {
  line.blanks();
  return line.atEnd ? '' : 'nothing after the last field';
}

function deviceResult(event: TraceEvent, device: number): string {
  event.device = device;
  return device >= 0 ? '' : device === -2 ? TOO_MANY_DEVICES : NO_DEVICE;
}

function parseAttach(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  if (!label(line, IOMMU) || !label(line, DEVICE)) return 'IOMMU: device=...';
  this.complete = false;
  return deviceResult(event, this.device(line)) || atLineEnd(line);
}

function parseGroup(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  if (!label(line, IOMMU) || !label(line, GROUP)) return 'IOMMU: groupID=... device=...';
  event.extra = line.signed();
  if (!(Math.abs(event.extra) < ADDRESS_LIMIT) || !line.boundary()) return 'a decimal group id';
  if (!label(line, DEVICE)) return 'device=... after groupID';
  this.complete = false;
  return deviceResult(event, this.device(line)) || atLineEnd(line);
}

/** `IOMMU:driver device iova=0x... flags=0x...`: the driver may be empty or hold blanks, so the device is the word before iova=. */
function parseFault(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  if (!label(line, IOMMU)) return 'IOMMU:driver device iova=0x... flags=0x...';
  const start = line.pos;
  if (!line.after(IOVA)) return 'iova=0x... in a fault';
  let wordEnd = line.pos - IOVA.length;
  while (wordEnd > start && line.bytes[wordEnd - 1] === 32) wordEnd--;
  let word = wordEnd;
  while (word > start && line.bytes[word - 1] !== 32) word--;
  event.iova = line.prefixedHex();
  if (event.iova < 0 || !line.boundary()) return 'hex digits after iova=';
  if (!label(line, FLAGS)) return 'flags=0x... after iova';
  event.extra = line.prefixedHex();
  if (event.extra < 0 || !line.boundary()) return 'hex digits after flags=';
  if (event.iova >= ADDRESS_LIMIT || event.extra >= ADDRESS_LIMIT) return TOO_BIG;
  this.complete = false;
  return deviceResult(event, this.internDevice(line.bytes, word, wordEnd)) || atLineEnd(line);
}

/** `device [dir=WORD]`, the start of every dma event. */
function dmaStart(payloads: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = deviceResult(event, payloads.device(line));
  if (why !== '') return why;
  if (label(line, DIR)) line.word();
  return '';
}

/** DMA_MAPPING_ERROR, all ones: the address of a mapping that failed. Leaves the position where it is. */
function isMappingError(line: LineScanner, start: number): boolean {
  const end = line.pos;
  line.pos = start;
  const failed = line.hexWords() && line.lo === -1 && line.hi === -1;
  line.pos = end;
  return failed;
}

/** `dma_addr=HEX size=DECIMAL`. A failed mapping becomes `other`. */
function dmaRange(line: LineScanner, event: TraceEvent): string {
  if (!label(line, DMA_ADDR)) return 'dma_addr=... after the device and dir';
  const start = line.pos;
  event.iova = line.hex();
  if (event.iova < 0 || !line.boundary()) return 'hex digits after dma_addr=';
  if (event.iova >= ADDRESS_LIMIT && isMappingError(line, start)) {
    event.kind = EventKind.other;
    return '';
  }
  if (!label(line, SIZE)) return 'size=... after dma_addr';
  event.nrBytes = line.decimal();
  if (event.nrBytes < 0 || !line.boundary()) return 'a decimal size';
  return event.iova + event.nrBytes >= ADDRESS_LIMIT ? TOO_BIG : '';
}

/** dma_map_page, dma_map_phys, dma_map_resource. */
function parseDmaMap(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = dmaStart(this, line, event) || dmaRange(line, event);
  if (why !== '' || event.kind === EventKind.other) return why;
  if (!label(line, PHYS_ADDR)) return 'phys_addr=... after size';
  event.paddr = line.hex();
  if (event.paddr < 0 || !line.boundary()) return 'hex digits after phys_addr=';
  this.complete = !line.atEnd;
  return event.paddr + event.nrBytes >= ADDRESS_LIMIT ? TOO_BIG : '';
}

/** dma_unmap_*, dma_alloc, dma_alloc_pages, dma_free, dma_free_pages. */
function parseDmaRange(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = dmaStart(this, line, event) || dmaRange(line, event);
  this.complete = !line.atEnd;
  return why;
}

/**
 * `{0x1,0x2}` into every second number of `event.list` from `offset`; grows the list.
 * @returns how many, -1 when malformed, -2 when a value is not exact
 */
function array(line: LineScanner, event: TraceEvent, offset: number): number {
  if (line.peek() !== OPEN) return -1;
  line.pos++;
  let count = 0;
  if (line.peek() === CLOSE) {
    line.pos++;
    return 0;
  }
  for (;;) {
    const value = line.prefixedHex();
    if (value < 0) return -1;
    if (value >= ADDRESS_LIMIT) return -2;
    if (count * 2 + 2 > event.list.length) event.growList();
    event.list[count * 2 + offset] = value;
    count++;
    const next = line.peek();
    line.pos++;
    if (next === CLOSE) return count;
    if (next !== COMMA) return -1;
  }
}

function listProblem(count: number): string {
  return count === -2 ? TOO_BIG : 'a list {0x...,0x...}';
}

/** Skips `{...}` without keeping it; the number of elements or -1. */
function countArray(line: LineScanner): number {
  if (line.peek() !== OPEN) return -1;
  line.pos++;
  if (line.peek() === CLOSE) {
    line.pos++;
    return 0;
  }
  for (let count = 1; ; count++) {
    if (line.prefixedHex() < 0) return -1;
    const next = line.peek();
    line.pos++;
    if (next === CLOSE) return count;
    if (next !== COMMA) return -1;
  }
}

/** `a/b`: returns b, and sets listTruncated when a is less. -1 when malformed. */
function fraction(line: LineScanner, event: TraceEvent): number {
  const shown = line.decimal();
  if (shown < 0 || !line.literal(SLASH)) return -1;
  const all = line.decimal();
  event.listTruncated = shown < all;
  return all < 0 || shown > all ? -1 : all;
}

function parseMapSg(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = dmaStart(this, line, event);
  if (why !== '') return why;
  event.extra = -1;
  event.listTruncated = false;
  let nrEnts = -1;
  if (label(line, NENTS)) {
    event.extra = fraction(line, event);
    if (event.extra < 0 || !label(line, ENTS)) return 'nents=a/b ents=c/d';
    nrEnts = fraction(line, event);
    if (nrEnts < 0) return 'nents=a/b ents=c/d';
    label(line, TRUNCATED);
  } else event.listTruncated = label(line, TRUNCATED);
  if (!label(line, DMA_ADDRS)) return 'dma_addrs={...}';
  const nrAddresses = array(line, event, 0);
  if (nrAddresses < 0) return listProblem(nrAddresses);
  if (!label(line, SIZES)) return 'sizes={...} after dma_addrs';
  const nrSizes = array(line, event, 1);
  if (nrSizes < 0) return listProblem(nrSizes);
  if (nrSizes !== nrAddresses) return 'as many sizes as dma_addrs';
  if (nrEnts >= 0 && !event.listTruncated && nrEnts !== nrAddresses) return 'as many dma_addrs as ents';
  if (!label(line, PHYS_ADDRS)) return 'phys_addrs={...} after sizes';
  const nrPhys = countArray(line);
  if (nrPhys < 0) return 'phys_addrs={...} after sizes';
  if (event.extra < 0) event.extra = nrPhys;
  event.listLength = nrAddresses;
  for (let i = 0; i < nrAddresses; i++) {
    if (event.list[i * 2] + event.list[i * 2 + 1] >= ADDRESS_LIMIT) return TOO_BIG;
  }
  return '';
}

/** phys_addrs with size 0, of dma_unmap_sg and dma_free_sgt. */
function physList(line: LineScanner, event: TraceEvent): string {
  const truncated = label(line, TRUNCATED);
  if (!label(line, PHYS_ADDRS)) return 'phys_addrs={...}';
  const count = array(line, event, 0);
  if (count < 0) return listProblem(count);
  for (let i = 0; i < count; i++) event.list[i * 2 + 1] = 0;
  event.listLength = count;
  event.listTruncated = truncated;
  return '';
}

function parseUnmapSg(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  return dmaStart(this, line, event) || physList(line, event);
}

function parseFreeSgt(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  return dmaStart(this, line, event) || dmaRange(line, event) || physList(line, event);
}

/** A non-contiguous allocation has one DMA segment: the list is that one. */
function parseAllocSgt(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = dmaStart(this, line, event) || dmaRange(line, event);
  if (why !== '' || event.kind === EventKind.other) return why;
  if (!label(line, PHYS_ADDRS)) return 'phys_addrs={...} after size';
  const nrPhys = countArray(line);
  if (nrPhys < 0) return 'phys_addrs={...} after size';
  event.extra = nrPhys;
  event.list[0] = event.iova;
  event.list[1] = event.nrBytes;
  event.listLength = 1;
  event.listTruncated = false;
  return '';
}

/** dma_map_sg_err and dma_sync_*: the device only. */
function parseDmaDevice(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const why = dmaStart(this, line, event);
  this.complete = !line.atEnd;
  return why || (line.atEnd ? 'fields after the device' : '');
}

/** `iotlb_inv dmar0: 0x... 0x... 0x... 0x...`. extra = the number in the unit's name (dmar0), -1 when it has none. */
function parseQiSubmit(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  const start = line.pos;
  line.word();
  const type = this.internType(line.bytes, start, line.pos);
  if (type === '') return 'qi_submit: type unit: 0x... 0x... 0x... 0x...';
  event.text = type;
  line.blanks();
  const unit = line.pos;
  line.word();
  if (line.pos - unit < 2 || line.bytes[line.pos - 1] !== 58) return 'qi_submit: the unit name and a colon';
  event.extra = unitNumber(line.bytes, unit, line.pos - 1);
  for (let word = 0; word < 4; word++) {
    line.blanks();
    if (!line.literal(HEX) || !line.hexWords() || !line.boundary())
      return 'qi_submit: four descriptor words of at most 16 hex digits';
    event.words[word * 2] = line.lo;
    event.words[word * 2 + 1] = line.hi;
  }
  this.complete = false;
  return atLineEnd(line);
}

/** The decimal at the end of a name: 0 of dmar0; -1 when there is none or it is too long. */
export function unitNumber(bytes: Uint8Array, start: number, end: number): number {
  let at = end;
  let value = 0;
  let scale = 1;
  while (at > start && bytes[at - 1] >= 48 && bytes[at - 1] <= 57) {
    value += (bytes[--at] - 48) * scale;
    scale *= 10;
  }
  return at === end || end - at > 9 ? -1 : value;
}

/** `... type WORD did N ...`: extra = the domain id. */
function parseCacheTag(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  if (!line.after(TYPE) || !line.after(DID)) return 'cache_tag: ... type WORD did N ...';
  event.extra = line.decimal();
  if (event.extra < 0 || !line.boundary()) return 'cache_tag: a decimal domain id';
  this.complete = !line.atEnd;
  return '';
}

/** Up to the last byte that is no blank or control character. */
function markText(line: LineScanner, event: TraceEvent): string {
  let end = line.end;
  while (end > line.pos && line.bytes[end - 1] <= 32) end--;
  event.text = decodeUtf8(line.bytes, line.pos, Math.min(end, line.pos + MAX_MARK_BYTES));
  return '';
}

function parseMark(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  return markText(line, event);
}

/** `function: text`, as trace-cmd and perf print the marker: the writing function is left out. */
function parsePrint(this: EventPayloads, line: LineScanner, event: TraceEvent): string {
  if (!line.literal(MARKER)) {
    const start = line.pos;
    line.word();
    const last = line.bytes[line.pos - 1];
    if (line.pos > start + 1 && last === 58) line.blanks();
    else line.pos = start;
  }
  return markText(line, event);
}

function parseOther(): string {
  return '';
}

function known(system: string, kind: EventKind, parser: Parser, names: string): KnownEvent[] {
  return names.split(' ').map((name) => ({ name, system, kind, parser }));
}

const KNOWN: readonly KnownEvent[] = [
  ...known('iommu', EventKind.map, parseMap, 'map'),
  ...known('iommu', EventKind.unmap, parseUnmap, 'unmap'),
  ...known('iommu', EventKind.attach, parseAttach, 'attach_device_to_domain'),
  ...known('iommu', EventKind.detach, parseAttach, 'detach_device_from_domain'),
  ...known('iommu', EventKind.addDevice, parseGroup, 'add_device_to_group'),
  ...known('iommu', EventKind.removeDevice, parseGroup, 'remove_device_from_group'),
  ...known('iommu', EventKind.fault, parseFault, 'io_page_fault'),
  ...known('dma', EventKind.dmaMap, parseDmaMap, 'dma_map_page dma_map_phys dma_map_resource'),
  ...known('dma', EventKind.dmaUnmap, parseDmaRange, 'dma_unmap_page dma_unmap_phys dma_unmap_resource'),
  ...known('dma', EventKind.dmaAlloc, parseDmaRange, 'dma_alloc dma_alloc_pages'),
  ...known('dma', EventKind.dmaFree, parseDmaRange, 'dma_free dma_free_pages'),
  ...known('dma', EventKind.dmaMapSg, parseMapSg, 'dma_map_sg'),
  ...known('dma', EventKind.dmaMapSg, parseAllocSgt, 'dma_alloc_sgt'),
  ...known('dma', EventKind.dmaUnmapSg, parseUnmapSg, 'dma_unmap_sg'),
  ...known('dma', EventKind.dmaUnmapSg, parseFreeSgt, 'dma_free_sgt'),
  ...known('dma', EventKind.dmaMapSgError, parseDmaDevice, 'dma_map_sg_err'),
  ...known('dma', EventKind.dmaSync, parseDmaDevice, 'dma_sync_single_for_cpu dma_sync_single_for_device'),
  ...known('dma', EventKind.dmaSync, parseDmaDevice, 'dma_sync_sg_for_cpu dma_sync_sg_for_device'),
  ...known('ftrace', EventKind.mark, parseMark, 'tracing_mark_write'),
  ...known('ftrace', EventKind.mark, parsePrint, 'print bprint'),
  ...known('intel_iommu', EventKind.qiSubmit, parseQiSubmit, 'qi_submit'),
  ...known('intel_iommu', EventKind.cacheTag, parseCacheTag, 'cache_tag_assign cache_tag_unassign cache_tag_flush_all'),
  ...known('intel_iommu', EventKind.cacheTag, parseCacheTag, 'cache_tag_flush_range cache_tag_flush_range_np'),
  ...known('dma', EventKind.other, parseOther, 'dma_alloc_sgt_err'),
];
