/**
 * The events that fill a trace beside map and unmap, in the shape that the kernel prints: dma:*, qi_submit and cache_tag_*. Their
 * header is already read. What is not exactly of that shape is left to the exact path (ftrace-payload.ts), which accepts all
 * that is accepted here and reads the same from it.
 */
import { ADDRESS_LIMIT as IMPORTED_LIMIT } from '../base/index.ts';
import type { TraceEvent } from './events.ts';
import { VALUE, decimalField, descriptorWord, dirField, listField, physField, rangeFields } from './fast-fields.ts';
import { TextShape, fastKind, fastShape, fastText } from './fast-names.ts';
import type { EventPayloads } from './ftrace-payload.ts';
import { INDEX_MASK as IMPORTED_MASK, restOfLine, text4, text8 } from './words.ts';

const ADDRESS_LIMIT = IMPORTED_LIMIT;
const INDEX_MASK = IMPORTED_MASK;
const OUT = VALUE;
const BLANK = 32;
const LINE_END = 10;
/** Longest device name that is read here; the exact path takes longer ones. */
const MAX_DEVICE_BYTES = 40;
const DEVICE_SLOTS = 64;
/** Longest text before the type and the domain of a cache tag, likewise. */
const MAX_TAG_BYTES = 80;

const SHAPE_MAP = TextShape.map;
const SHAPE_RANGE = TextShape.range;
const SHAPE_MAP_SG = TextShape.mapSg;
const SHAPE_UNMAP_SG = TextShape.unmapSg;
const SHAPE_DESCRIPTOR = TextShape.descriptor;

export class FastEvents {
  readonly #payloads: EventPayloads;
  /** Names of twelve bytes, as PCI functions have: the first eight, the last four, and the number in Names. */
  readonly #deviceHeads = new Float64Array(DEVICE_SLOTS).fill(Number.NaN);
  readonly #deviceTails = new Int32Array(DEVICE_SLOTS);
  readonly #deviceIds = new Int32Array(DEVICE_SLOTS);

  constructor(payloads: EventPayloads) {
    this.#payloads = payloads;
  }

  /**
   * Reads the text at `at` of the event that `fastName` found. The view must reach 200 bytes further, with a line end somewhere.
   * @returns the start of the next line, -1 for another shape
   */
  read(b: Uint8Array, d: DataView, at: number, name: number, event: TraceEvent): number {
    const text = at & INDEX_MASK;
    const shape = fastShape(name);
    event.kind = fastKind(name);
    if (shape === SHAPE_DESCRIPTOR) return descriptor(d, text, event);
    if (shape > SHAPE_DESCRIPTOR) return cacheTag(d, text, fastText(name), event);
    let i = this.#device(b, d, text, event);
    if (i < 0) return -1;
    i = dirField(d, i);
    if (i < 0) return -1;
    switch (shape) {
      case SHAPE_MAP:
        i = rangeFields(d, i, event);
        if (i < 0) return -1;
        i = physField(d, i, event);
        break;
      case SHAPE_RANGE:
        i = rangeFields(d, i, event);
        break;
      case SHAPE_MAP_SG:
        i = mapSg(d, i, event);
        break;
      case SHAPE_UNMAP_SG:
        i = unmapSg(d, i, event);
        break;
      default:
        // The device is all that is wanted.
        break;
    }
    return i < 0 ? -1 : restOfLine(d, i);
  }

  /** A device name up to a blank, its number to `event.device`. @returns the blank */
  #device(b: Uint8Array, d: DataView, from: number, event: TraceEvent): number {
    const at = from & INDEX_MASK;
    const head = d.getFloat64(at, true);
    const tail = d.getInt32(at + 8, true);
    const slot = Math.imul(tail, 0x9e3779b1) >>> 26;
    if (head === this.#deviceHeads[slot] && tail === this.#deviceTails[slot] && d.getUint8(at + 12) === BLANK) {
      event.device = this.#deviceIds[slot];
      return at + 12;
    }
    let end = at;
    for (; ; end++) {
      const byte = d.getUint8(end);
      if (byte === BLANK) break;
      if (byte < BLANK || byte > 126 || end - at > MAX_DEVICE_BYTES) return -1;
    }
    const device = this.#payloads.internDevice(b, at, end);
    if (device < 0) return -1;
    event.device = device;
    if (end === at + 12) {
      this.#deviceHeads[slot] = head;
      this.#deviceTails[slot] = tail;
      this.#deviceIds[slot] = device;
    }
    return end;
  }
}

const NENTS_0 = text4(' nen');
const NENTS_3 = text4('nts=');
const ENTS = text4(' ent');
const DMA_ADDRS_0 = text8(' dma_add');
const DMA_ADDRS_4 = text8('_addrs={');
const SIZES = text8(' sizes={');
const PHYS_0 = text8(' phys_ad');
const PHYS_5 = text8('_addrs={');

/** ` nents=1/1 ents=1/1 dma_addrs={...} sizes={...} phys_addrs={...}`, nothing cut. */
function mapSg(d: DataView, from: number, event: TraceEvent): number {
  const start = from & INDEX_MASK;
  if (d.getInt32(start, true) !== NENTS_0 || d.getInt32(start + 3, true) !== NENTS_3) return -1;
  let at = wholeFraction(d, start + 7);
  if (at < 0) return -1;
  event.extra = OUT[0];
  if (d.getInt32(at, true) !== ENTS || d.getUint8(at + 4) !== 115 || d.getUint8(at + 5) !== 61) return -1;
  at = wholeFraction(d, at + 6);
  if (at < 0) return -1;
  const nrEnts = OUT[0];
  if (d.getFloat64(at, true) !== DMA_ADDRS_0 || d.getFloat64(at + 4, true) !== DMA_ADDRS_4) return -1;
  at = listField(d, at + 12, event, 0);
  if (at < 0 || OUT[0] !== nrEnts || d.getFloat64(at, true) !== SIZES) return -1;
  at = listField(d, at + 8, event, 1);
  if (at < 0 || OUT[0] !== nrEnts) return -1;
  if (d.getFloat64(at, true) !== PHYS_0 || d.getFloat64(at + 5, true) !== PHYS_5) return -1;
  at = listField(d, at + 13, event, -1);
  if (at < 0 || d.getUint8(at) !== BLANK) return -1;
  const { list } = event;
  for (let i = 0; i < nrEnts * 2; i += 2) if (list[i] + list[i + 1] >= ADDRESS_LIMIT) return -1;
  event.listLength = nrEnts;
  event.listTruncated = false;
  return at;
}

/** `n/n`: all of a list is shown. */
function wholeFraction(d: DataView, from: number): number {
  let at = decimalField(d, from);
  if (at < 0 || d.getUint8(at) !== 47) return -1;
  const shown = OUT[0];
  at = decimalField(d, at + 1);
  return at < 0 || OUT[0] !== shown ? -1 : at;
}

/** ` phys_addrs={...}`. */
function unmapSg(d: DataView, from: number, event: TraceEvent): number {
  const start = from & INDEX_MASK;
  if (d.getFloat64(start, true) !== PHYS_0 || d.getFloat64(start + 5, true) !== PHYS_5) return -1;
  const at = listField(d, start + 13, event, 0);
  if (at < 0 || d.getUint8(at) !== BLANK) return -1;
  const count = OUT[0];
  const { list } = event;
  for (let i = 1; i < count * 2; i += 2) list[i] = 0;
  event.listLength = count;
  event.listTruncated = false;
  return at;
}

const IOTLB_0 = text8('iotlb_in');
const IOTLB_2 = text8('tlb_inv ');
const WAIT = text8('inv_wait');
const CONTEXT_0 = text4('cc_i');
const CONTEXT_3 = text4('inv ');
const DEV_TLB = text8('dev_tlb_');
const INTERRUPT = text8('iec_inv ');
const UNIT = text4('dmar');
const ZERO_WORDS = text8(' 0x0 0x0');

/** `iotlb_inv dmar0: 0x... 0x... 0x... 0x...`, the rarer types left to the exact path. */
function descriptor(d: DataView, from: number, event: TraceEvent): number {
  let at = from & INDEX_MASK;
  const head = d.getFloat64(at, true);
  if (head === IOTLB_0 && d.getFloat64(at + 2, true) === IOTLB_2) {
    event.text = 'iotlb_inv';
    at += 10;
  } else if (head === WAIT && d.getUint8(at + 8) === BLANK) {
    event.text = 'inv_wait';
    at += 9;
  } else if (d.getInt32(at, true) === CONTEXT_0 && d.getInt32(at + 3, true) === CONTEXT_3) {
    event.text = 'cc_inv';
    at += 7;
  } else if (head === DEV_TLB && d.getInt32(at + 8, true) === CONTEXT_3) {
    event.text = 'dev_tlb_inv';
    at += 12;
  } else if (head === INTERRUPT) {
    event.text = 'iec_inv';
    at += 8;
  } else return -1;
  if (d.getInt32(at, true) !== UNIT) return -1;
  at = decimalField(d, at + 4);
  if (at < 0 || d.getUint8(at) !== 58) return -1;
  event.extra = OUT[0];
  const { words } = event;
  at = descriptorWord(d, at + 1, words, 0);
  if (at < 0) return -1;
  at = descriptorWord(d, at, words, 2);
  if (at < 0) return -1;
  if (d.getFloat64(at, true) === ZERO_WORDS && d.getUint8(at + 8) === LINE_END) {
    words[4] = 0;
    words[5] = 0;
    words[6] = 0;
    words[7] = 0;
    event.device = -1;
    return at + 9;
  }
  at = descriptorWord(d, at, words, 4);
  if (at < 0) return -1;
  at = descriptorWord(d, at, words, 6);
  if (at < 0 || d.getUint8(at) !== LINE_END) return -1;
  event.device = -1;
  return at + 1;
}

const TYPE = text4('type');
const DID = text4('did ');

/** `... type WORD did N ...`: the first ` type `, and the first ` did ` behind it. */
function cacheTag(d: DataView, from: number, name: string, event: TraceEvent): number {
  const start = from & INDEX_MASK;
  let at = start;
  for (; ; at++) {
    const byte = d.getUint8(at);
    if (byte === BLANK && d.getInt32(at + 1, true) === TYPE && d.getUint8(at + 5) === BLANK) break;
    if (byte < BLANK || at - start > MAX_TAG_BYTES) return -1;
  }
  for (at += 6; ; at++) {
    const byte = d.getUint8(at);
    if (byte === BLANK && d.getInt32(at + 1, true) === DID) break;
    if (byte < BLANK || at - start > MAX_TAG_BYTES) return -1;
  }
  at = decimalField(d, at + 5);
  if (at < 0 || d.getUint8(at) !== BLANK) return -1;
  event.extra = OUT[0];
  event.text = name;
  event.device = -1;
  return restOfLine(d, at);
}
