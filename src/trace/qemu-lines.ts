/**
 * Lines of a QEMU log by the name of their event: what each holds, and which callback of the sink it is for. Texts are read by
 * their labels, not by position: versions add fields (pasid) between the known ones.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import { decodeUtf8 } from './bytetext.ts';
import type { QemuEvent, QemuLogSink } from './qemu-events.ts';
import { AmdOperation, QemuKind } from './qemu-events.ts';
import type { LineScanner } from './scanner.ts';
import { ascii } from './scanner.ts';

const HIGH = ascii(' high 0x');
const LOW = ascii(' low 0x');
const NAME = ascii(' name ');
const MODE = ascii(' mode ');
const WRITE_TAIL = ascii('write tail ');
const DOMAIN = ascii('domain 0x');
const DOMID = ascii('domid 0x');
const ADDR = ascii('addr 0x');
const MASK = ascii('mask 0x');
const DATA = ascii('data 0x');
const SID = ascii('sid 0x');
const FMASK = ascii('fmask 0x');
const IOVA = ascii('iova 0x');
const GPA = ascii('gpa 0x');
const HPA = ascii('hpa 0x');
const SLPTE = ascii('pte 0x');
const DEVICE = ascii('device ');
const DEV = ascii('dev ');
const DEVID = ascii('devid');

const INVALIDATED = ascii(' invalidated');
/** Offset of the command tail register (48882, 3.4). */
const TAIL_REGISTER = ascii(' addr 0x2008,');
const VALUE = ascii(' val 0x');

/** Reads the text behind an event's name into the event. Returns '' or what was expected. */
type Read = (line: LineScanner, event: QemuEvent) => string;

/** A known line. */
export interface QemuLine {
  readonly name: string;
  /** For `event`; absent for lines that have a callback of their own only. */
  readonly kind?: QemuKind;
  readonly read: Read;
  /** Hands the event to the callback of its own, if it has one. */
  readonly tell?: (sink: QemuLogSink, event: QemuEvent) => void;
  /** Whether the sink has that callback. */
  readonly isWanted?: (sink: QemuLogSink) => boolean;
}

const DESCRIPTOR = 'invalidate desc type ... high 0x... low 0x... of at most 16 digits';

/** The hex number behind a label; -1 when it is missing or not exact. */
function hexAfter(line: LineScanner, label: Uint8Array): number {
  if (!line.after(label)) return -1;
  const value = line.hex();
  return value < ADDRESS_LIMIT && line.boundary() ? value : -1;
}

/** `bb:dd.f` with f of one or two digits, as QEMU prints both. */
function sourceId(line: LineScanner): number {
  line.blanks();
  const bus = line.hex();
  if (bus < 0 || bus > 255 || line.peek() !== 58) return -1;
  line.pos++;
  const device = line.hex();
  if (device < 0 || device > 31 || line.peek() !== 46) return -1;
  line.pos++;
  const fn = line.hex();
  return fn < 0 || fn > 7 ? -1 : bus * 256 + device * 8 + fn;
}

/** The words go to entryLo and entryHi (bits 63:0), value and paddr (127:64). */
function descriptor(line: LineScanner, event: QemuEvent): string {
  if (!line.after(HIGH) || !line.hexWords() || !line.boundary()) return DESCRIPTOR;
  event.value = line.lo;
  event.paddr = line.hi;
  if (!line.after(LOW) || !line.hexWords() || !line.boundary()) return DESCRIPTOR;
  event.entryLo = line.lo;
  event.entryHi = line.hi;
  return '';
}

function mark(line: LineScanner, event: QemuEvent): string {
  if (!line.after(NAME)) return 'tag ... name NAME mode ...';
  const start = line.pos;
  // A directory name may hold " mode " itself: the last one ends it.
  let end = -1;
  while (line.after(MODE)) end = line.pos - MODE.length;
  if (end <= start) return 'tag ... name NAME mode ...';
  event.text = decodeUtf8(line.bytes, start, Math.min(end, start + 4096));
  return '';
}

function tail(line: LineScanner, event: QemuEvent): string {
  event.value = line.after(WRITE_TAIL) ? line.decimal() : -1;
  return event.value < 0 || event.value >= ADDRESS_LIMIT || !line.boundary() ? 'write tail NUMBER' : '';
}

/** `REGISTER write addr 0x2008, size 8, val 0x20, offset 0x0`; value = -1 for other registers. */
function amdRegister(line: LineScanner, event: QemuEvent): string {
  event.value = -1;
  if (!line.after(TAIL_REGISTER)) return '';
  if (!line.after(VALUE)) return 'val 0x...';
  event.value = line.hex();
  return event.value < 0 || event.value >= ADDRESS_LIMIT ? 'val 0x... below 2^53' : '';
}

function nothing(): string {
  return '';
}

function domain(line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMAIN);
  return event.domain < 0 ? 'domain 0x...' : '';
}

function contextDevices(line: LineScanner, event: QemuEvent): string {
  event.device = hexAfter(line, SID);
  event.value = hexAfter(line, FMASK);
  return event.device < 0 || event.value < 0 ? 'sid 0x... fmask 0x...' : '';
}

function contextDevice(line: LineScanner, event: QemuEvent): string {
  event.device = line.after(DEVICE) ? sourceId(line) : -1;
  return event.device < 0 ? 'device bb:dd.ff' : '';
}

function iotlbPages(line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMAIN);
  event.iova = hexAfter(line, ADDR);
  event.value = hexAfter(line, MASK);
  return event.domain < 0 || event.iova < 0 || event.value < 0 ? 'domain 0x... addr 0x... mask 0x... below 2^53' : '';
}

function wait(line: LineScanner, event: QemuEvent): string {
  event.paddr = hexAfter(line, ADDR);
  event.value = hexAfter(line, DATA);
  return event.paddr < 0 || event.value < 0 ? 'addr 0x... data 0x... below 2^53' : '';
}

function translate(line: LineScanner, event: QemuEvent): string {
  event.device = line.after(DEV) ? sourceId(line) : -1;
  event.iova = hexAfter(line, IOVA);
  event.paddr = hexAfter(line, GPA);
  event.value = hexAfter(line, MASK);
  return event.device < 0 || event.iova < 0 || event.paddr < 0 || event.value < 0
    ? 'dev bb:dd.ff iova 0x... -> gpa 0x... mask 0x... below 2^53'
    : '';
}

/** The entry is 64 bits with flags at the top: words, not a number. QEMU 10 prints `pte` where 7.2 has `slpte`. */
function pageUpdate(line: LineScanner, event: QemuEvent): string {
  event.device = hexAfter(line, SID);
  event.iova = hexAfter(line, IOVA);
  if (!line.after(SLPTE) || !line.hexWords() || !line.boundary()) return 'slpte 0x...';
  event.entryLo = line.lo;
  event.entryHi = line.hi;
  event.domain = hexAfter(line, DOMAIN);
  return event.device < 0 || event.iova < 0 || event.domain < 0 ? 'sid 0x... iova 0x... slpte 0x... domain 0x...' : '';
}

/** `devid: bb:dd.f`, in some events `devid bb:dd.f`. */
function amdDevice(line: LineScanner, event: QemuEvent): boolean {
  if (!line.after(DEVID)) return false;
  if (line.peek() === 58) line.pos++;
  event.device = sourceId(line);
  return event.device >= 0;
}

function amdTranslate(line: LineScanner, event: QemuEvent): string {
  const hasDevice = amdDevice(line, event);
  event.iova = hexAfter(line, GPA);
  event.paddr = hexAfter(line, HPA);
  return !hasDevice || event.iova < 0 || event.paddr < 0 ? 'devid: bb:dd.f gpa 0x... hpa 0x... below 2^53' : '';
}

function amdCacheUpdate(line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMID);
  return event.domain < 0 ? 'domid 0x...' : amdTranslate(line, event);
}

function amdPages(line: LineScanner, event: QemuEvent): string {
  event.domain = hexAfter(line, DOMAIN);
  return event.domain < 0 || !line.literal(INVALIDATED) ? 'AMD-Vi pages for domain 0x... invalidated' : '';
}

function amdDevtab(line: LineScanner, event: QemuEvent): string {
  return amdDevice(line, event) && line.literal(INVALIDATED) ? '' : 'device table entry for devid: bb:dd.f invalidated';
}

function amdCommand(name: string, operation: AmdOperation, read: Read = nothing): QemuLine {
  return {
    name,
    kind: QemuKind.amdCommand,
    read(line, event) {
      event.value = operation;
      event.domain = -1;
      return read(line, event);
    },
    tell: (sink, event) => sink.amdCommand?.(operation, event.domain, event.device, event.line),
    isWanted: (sink) => sink.amdCommand !== undefined,
  };
}

function translation(name: string, kind: QemuKind, read: Read): QemuLine {
  return {
    name,
    kind,
    read,
    tell: (sink, { device, iova, paddr, line }) => sink.translation?.(device, iova, paddr, line),
    isWanted: (sink) => sink.translation !== undefined,
  };
}

function doorbell(name: string, read: Read): QemuLine {
  return {
    name,
    read,
    tell(sink, { value, line }) {
      if (value >= 0) sink.tail?.(value, line);
    },
    isWanted: (sink) => sink.tail !== undefined,
  };
}

/** Known lines, in the order their names are numbered in. */
export const QEMU_LINES: readonly QemuLine[] = [
  {
    name: 'vtd_inv_desc',
    read: descriptor,
    tell: (sink, { entryLo, entryHi, value, paddr, line }) => sink.descriptor?.(entryLo, entryHi, value, paddr, line),
    isWanted: (sink) => sink.descriptor !== undefined,
  },
  { name: 'v9fs_mkdir', read: mark, tell: (sink, { text, line }) => sink.mark(text, line), isWanted: () => true },
  doorbell('vtd_inv_qi_tail', tail),
  { name: 'vtd_inv_desc_cc_global', kind: QemuKind.contextGlobal, read: nothing },
  { name: 'vtd_inv_desc_cc_domain', kind: QemuKind.contextDomain, read: domain },
  { name: 'vtd_inv_desc_cc_devices', kind: QemuKind.contextDevices, read: contextDevices },
  { name: 'vtd_inv_desc_cc_device', kind: QemuKind.contextDevice, read: contextDevice },
  { name: 'vtd_inv_desc_iotlb_global', kind: QemuKind.iotlbGlobal, read: nothing },
  { name: 'vtd_inv_desc_iotlb_domain', kind: QemuKind.iotlbDomain, read: domain },
  { name: 'vtd_inv_desc_iotlb_pages', kind: QemuKind.iotlbPages, read: iotlbPages },
  { name: 'vtd_inv_desc_wait_sw', kind: QemuKind.wait, read: wait },
  translation('vtd_dmar_translate', QemuKind.translate, translate),
  { name: 'vtd_iotlb_page_update', kind: QemuKind.pageUpdate, read: pageUpdate },
  translation('amdvi_translation_result', QemuKind.amdTranslate, amdTranslate),
  { name: 'amdvi_cache_update', kind: QemuKind.amdCacheUpdate, read: amdCacheUpdate },
  amdCommand('amdvi_completion_wait', AmdOperation.completionWait),
  amdCommand('amdvi_devtab_inval', AmdOperation.devtabEntry, amdDevtab),
  amdCommand('amdvi_pages_inval', AmdOperation.pages, amdPages),
  amdCommand('amdvi_iotlb_inval', AmdOperation.iotlbPages),
  amdCommand('amdvi_intr_inval', AmdOperation.interruptTable),
  amdCommand('amdvi_prefetch_pages', AmdOperation.prefetchPages),
  amdCommand('amdvi_ppr_exec', AmdOperation.completePpr),
  amdCommand('amdvi_all_inval', AmdOperation.all),
  doorbell('amdvi_mmio_write', amdRegister),
];
