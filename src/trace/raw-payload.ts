/**
 * Events whose text a tool could not print. libtraceevent, which trace-cmd and perf print with, does not parse every print
 * format of the kernel: of 6.12's dma_map_sg and dma_unmap_sg, trace-cmd 3.1.6 prints the fields instead:
 *
 *   dma_map_sg:  [FAILED TO PARSE] device=0000:00:1f.2 full_nents=1 full_ents=1 truncated=0
 *                phys_addrs=ARRAY[c0, a8, 12, 09, 00, 00, 00, 00] dma_addrs=ARRAY[...] lengths=ARRAY[00, 02, 00, 00] dir=2
 *
 * Nothing is lost in that. Field names are those of the kernel's event formats, arrays are bytes in memory order, read as
 * little endian. Results are as in ftrace-payload.ts.
 */
import { ADDRESS_LIMIT } from '../base/index.ts';
import type { TraceEvent } from './events.ts';
import { EventKind } from './events.ts';
import type { LineScanner } from './scanner.ts';
import { HEX_VALUE, ascii } from './scanner.ts';

/** What stands in front of the fields. */
export const RAW: Uint8Array = ascii('[FAILED TO PARSE]');

const DEVICE = ascii(' device=');
const NENTS = ascii(' full_nents=');
const ENTS = ascii(' full_ents=');
const TRUNCATED = ascii(' truncated=');
const PHYS_ADDRS = ascii(' phys_addrs=ARRAY[');
const ADDRS = ascii(' addrs=ARRAY[');
const DMA_ADDRS = ascii(' dma_addrs=ARRAY[');
const LENGTHS = ascii(' lengths=ARRAY[');
const CLOSE = 93;
const COMMA = 44;
const BLANK = 32;

const UNREADABLE = 'an event that the tool could print; give the trace.dat itself';
const TOO_BIG = 'an address and size below 2^53';

/** Gives devices their numbers, as EventPayloads does. */
export interface DeviceNumbers {
  /** The device name at the position: its number, negative when there is none. */
  device(line: LineScanner): number;
}

/** The fields behind RAW into an event whose kind is set. Returns '' or what was expected. */
export function parseRaw(line: LineScanner, event: TraceEvent, devices: DeviceNumbers): string {
  const { kind } = event;
  const fields = line.pos;
  if (!seek(line, fields, DEVICE)) return UNREADABLE;
  event.device = devices.device(line);
  if (event.device < 0) return 'a device name';
  if (kind === EventKind.dmaSync || kind === EventKind.dmaMapSgError) return '';
  if (kind === EventKind.dmaMapSg) return mapSg(line, fields, event);
  return kind === EventKind.dmaUnmapSg ? unmapSg(line, fields, event) : UNREADABLE;
}

function mapSg(line: LineScanner, fields: number, event: TraceEvent): string {
  const nrPhys = seek(line, fields, PHYS_ADDRS) ? array(line, event, 8, -1) : -1;
  const nrAddresses = seek(line, fields, DMA_ADDRS) ? array(line, event, 8, 0) : -1;
  const nrSizes = seek(line, fields, LENGTHS) ? array(line, event, 4, 1) : -1;
  if (nrPhys < 0 || nrAddresses < 0 || nrSizes < 0) return 'phys_addrs=, dma_addrs= and lengths=ARRAY[...]';
  if (nrSizes !== nrAddresses) return 'as many lengths as dma_addrs';
  // Kernels before 6.12.1 count neither.
  event.extra = seek(line, fields, NENTS) ? line.decimal() : nrPhys;
  const nrEnts = seek(line, fields, ENTS) ? line.decimal() : nrAddresses;
  if (event.extra < 0 || nrEnts < nrAddresses) return 'full_nents= and full_ents=, at least as many as dma_addrs';
  event.listLength = nrAddresses;
  event.listTruncated = nrAddresses < nrEnts;
  for (let i = 0; i < nrAddresses; i++) if (event.list[i * 2] + event.list[i * 2 + 1] >= ADDRESS_LIMIT) return TOO_BIG;
  return '';
}

/** dma_unmap_sg calls them addrs, dma_free_sgt phys_addrs. */
function unmapSg(line: LineScanner, fields: number, event: TraceEvent): string {
  const found = seek(line, fields, ADDRS) || seek(line, fields, PHYS_ADDRS);
  const count = found ? array(line, event, 8, 0) : -1;
  if (count < 0) return 'addrs=ARRAY[...]';
  for (let i = 0; i < count; i++) event.list[i * 2 + 1] = 0;
  event.listLength = count;
  event.listTruncated = seek(line, fields, TRUNCATED) && line.decimal() === 1;
  return '';
}

/** Moves behind a field's name and `=`, wherever it stands. */
function seek(line: LineScanner, fields: number, name: Uint8Array): boolean {
  line.pos = fields;
  return line.after(name);
}

/**
 * `c0, a8, 12, 09]`, numbers of `step` bytes, into every second number of `event.list` from `slot`, or nowhere for -1.
 * @returns how many, -1 when malformed or not exact
 */
function array(line: LineScanner, event: TraceEvent, step: number, slot: number): number {
  const { bytes, end } = line;
  let at = line.pos;
  let count = 0;
  let value = 0;
  let scale = 1;
  let filled = 0;
  if (at < end && bytes[at] === CLOSE) return 0;
  while (at + 2 < end) {
    const high = HEX_VALUE[bytes[at]];
    const low = HEX_VALUE[bytes[at + 1]];
    if (high < 0 || low < 0) return -1;
    value += (high * 16 + low) * scale;
    scale *= 256;
    filled++;
    at += 2;
    if (filled === step) {
      if (value >= ADDRESS_LIMIT) return -1;
      if (slot >= 0) {
        if (count * 2 + 2 > event.list.length) event.growList();
        event.list[count * 2 + slot] = value;
      }
      count++;
      value = 0;
      scale = 1;
      filled = 0;
    }
    const next = bytes[at];
    if (next === CLOSE) return filled === 0 ? count : -1;
    if (next !== COMMA || bytes[at + 1] !== BLANK) return -1;
    at += 2;
  }
  return -1;
}
