/**
 * The `format` files of tracefs (events/<system>/<event>/format), which a trace.dat carries: they say where each field of a
 * record is, so that decoding follows the kernel that made the trace. Format of the text: kernel/trace/trace_events.c
 * (f_show), unchanged from 2.6.30 to 7.0 but for the field types.
 */

/** One field of a record. */
export interface FormatField {
  readonly name: string;
  readonly offset: number;
  readonly nrBytes: number;
  readonly signed: boolean;
  /** 'none': the value is in place. 'data': a word with offset and length of it. 'relative': the same, from the field's end. */
  readonly location: 'none' | 'data' | 'relative';
  /** Bytes of one element of a dynamic array; 1 for strings. */
  readonly elementBytes: number;
}

/** The layout of one event's records. */
export interface EventFormat {
  readonly system: string;
  readonly name: string;
  readonly id: number;
  readonly fields: ReadonlyMap<string, FormatField>;
}

const FIELD = /^\s*field:([^;]*);\s*offset:(\d{1,9});\s*size:(\d{1,9});(?:\s*signed:(\d);)?/;
const EIGHT_BYTES = /\b(?:u64|s64|__u64|dma_addr_t|phys_addr_t|long long|unsigned long|long)\b/;
const FOUR_BYTES = /\b(?:u32|s32|__u32|int|unsigned)\b/;
const TWO_BYTES = /\b(?:u16|s16|__u16|short)\b/;

function elementBytes(type: string): number {
  if (/\bchar\b|\bu8\b/.test(type)) return 1;
  if (TWO_BYTES.test(type)) return 2;
  if (EIGHT_BYTES.test(type)) return 8;
  return FOUR_BYTES.test(type) ? 4 : 1;
}

/** The field of one `field:` line, undefined for any other line. */
function parseField(line: string): FormatField | undefined {
  const match = FIELD.exec(line);
  if (match === null) return undefined;
  const declaration = match[1] ?? '';
  const words = declaration
    .replace(/\[[^\]]*\]\s*$/, '')
    .trim()
    .split(/[\s*]+/);
  const name = words.pop() ?? '';
  return {
    name,
    offset: Number(match[2]),
    nrBytes: Number(match[3]),
    signed: match[4] === '1',
    location: declaration.startsWith('__data_loc') ? 'data' : declaration.startsWith('__rel_loc') ? 'relative' : 'none',
    elementBytes: elementBytes(words.join(' ')),
  };
}

/** All fields of a text: a `format` file or the header_page file. */
export function parseFields(text: string): Map<string, FormatField> {
  const fields = new Map<string, FormatField>();
  for (const line of text.split('\n')) {
    if (line.startsWith('print fmt')) break;
    const field = parseField(line);
    if (field !== undefined && !fields.has(field.name)) fields.set(field.name, field);
  }
  return fields;
}

/** A whole `format` file; undefined when it has no name or id. */
export function parseFormat(system: string, text: string): EventFormat | undefined {
  const name = /^name: ([^\n]{1,200})$/m.exec(text);
  const id = /^ID: (\d{1,9})$/m.exec(text);
  if (name === null || id === null) return undefined;
  return { system, name: name[1] ?? '', id: Number(id[1]), fields: parseFields(text) };
}
