/** Builds small trace.dat files by the text of trace-cmd.dat.v6(5) and v7(5), independent of the reader's own code. */

const encoder = new TextEncoder();

export class Bytes {
  readonly parts: Uint8Array[] = [];
  length = 0;

  raw(bytes: Uint8Array): this {
    this.parts.push(bytes);
    this.length += bytes.length;
    return this;
  }

  text(text: string): this {
    return this.raw(encoder.encode(text));
  }

  int(value: number | bigint, nrBytes: number): this {
    const bytes = new Uint8Array(nrBytes);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < nrBytes; i++) {
      bytes[i] = Number(rest & 255n);
      rest >>= 8n;
    }
    return this.raw(bytes);
  }

  pad(length: number): this {
    return this.raw(new Uint8Array(Math.max(0, length - this.length)));
  }

  align(nrBytes: number): this {
    return this.pad(Math.ceil(this.length / nrBytes) * nrBytes);
  }

  get bytes(): Uint8Array {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

const COMMON = `format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

`;

function format(name: string, id: number, fields: string): string {
  return `name: ${name}\nID: ${id}\n${COMMON}${fields}\nprint fmt: "x"\n`;
}

export const PRINT = 5;
export const MAP = 1265;
export const ATTACH = 1266;
export const OTHER = 77;
export const PROBE = 1900;

const FTRACE_FORMATS = [
  format(
    'print',
    PRINT,
    '\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;\n\tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;\n',
  ),
];

/** `swapped`: paddr before iova, which only a reader that goes by the format gets right. */
function systems(swapped: boolean): [string, string[]][] {
  const [iova, paddr] = swapped ? [16, 8] : [8, 16];
  return [
    [
      'iommu',
      [
        format(
          'map',
          MAP,
          `\tfield:u64 iova;\toffset:${iova};\tsize:8;\tsigned:0;\n\tfield:u64 paddr;\toffset:${paddr};\tsize:8;\tsigned:0;\n\tfield:size_t size;\toffset:24;\tsize:8;\tsigned:0;\n`,
        ),
        format('attach_device_to_domain', ATTACH, '\tfield:__data_loc char[] device;\toffset:8;\tsize:4;\tsigned:0;\n'),
      ],
    ],
    [
      'kprobes',
      [
        format(
          'any_name',
          PROBE,
          `\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n${[2, 1, 0, 3]
            .map((word, i) => `\tfield:u32 d${word};\toffset:${16 + i * 4};\tsize:4;\tsigned:0;\n`)
            .join('')}`,
        ),
      ],
    ],
    ['sched', [format('sched_switch', OTHER, '\tfield:int x;\toffset:8;\tsize:4;\tsigned:1;\n')]],
  ];
}

export interface FileOptions {
  version?: 6 | 7;
  longBytes?: 4 | 8;
  pageBytes?: number;
  swapped?: boolean;
  /** Version 7: packs sections and pages. */
  compression?: { name: string; pack: (bytes: Uint8Array) => Uint8Array };
}

function headerInfo(longBytes: number, pageBytes: number): Bytes {
  const pageText = `	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:${longBytes};	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:${8 + longBytes};	size:${pageBytes - 8 - longBytes};	signed:1;
`;
  const event = '# compressed entry header\n\ttype_len    :    5 bits\n';
  return new Bytes()
    .text('header_page\0')
    .int(pageText.length, 8)
    .text(pageText)
    .text('header_event\0')
    .int(event.length, 8)
    .text(event);
}

function ftraceFormats(): Bytes {
  const part = new Bytes().int(FTRACE_FORMATS.length, 4);
  for (const text of FTRACE_FORMATS) part.int(text.length, 8).text(text);
  return part;
}

function eventFormats(swapped: boolean): Bytes {
  const all = systems(swapped);
  const part = new Bytes().int(all.length, 4);
  for (const [system, formats] of all) {
    part.text(`${system}\0`).int(formats.length, 4);
    for (const text of formats) part.int(text.length, 8).text(text);
  }
  return part;
}

/** A page: a time, the flags of the commit word, and records made by the functions below. */
export function page(
  time: number | bigint,
  records: readonly Uint8Array[],
  options: FileOptions = {},
  commitFlags = 0,
): Uint8Array {
  const longBytes = options.longBytes ?? 8;
  const data = new Bytes();
  for (const one of records) data.raw(one);
  return new Bytes()
    .int(time, 8)
    .int(BigInt(data.length) | (BigInt(commitFlags) & 0xffffffffn), longBytes)
    .raw(data.bytes)
    .pad(options.pageBytes ?? 4096).bytes;
}

/** A record with its data, in the short form when it fits (type_len 1..28), or with a length word. */
export function record(delta: number, data: Uint8Array, long = false): Uint8Array {
  const words = Math.ceil(data.length / 4);
  const out = new Bytes();
  if (!long && words >= 1 && words <= 28) out.int(words + delta * 32, 4);
  else out.int(delta * 32, 4).int(words * 4 + 4, 4);
  return out.raw(data).align(4).bytes;
}

export const timeExtend = (delta: bigint): Uint8Array =>
  new Bytes().int((delta & 0x7ffffffn) * 32n + 30n, 4).int(delta >> 27n, 4).bytes;
export const timeStamp = (time: bigint): Uint8Array =>
  new Bytes().int((time & 0x7ffffffn) * 32n + 31n, 4).int(time >> 27n, 4).bytes;
export const padding = (nrBytes: number, delta = 1): Uint8Array =>
  new Bytes()
    .int(delta * 32 + 29, 4)
    .int(nrBytes - 4, 4)
    .pad(nrBytes).bytes;
export const endOfPage = (): Uint8Array => new Bytes().int(29, 4).bytes;

function common(id: number, pid: number, flags: number): Bytes {
  return new Bytes().int(id, 2).int(flags, 1).int(0, 1).int(pid, 4);
}

export function mapData(
  first: number | bigint,
  second: number | bigint,
  size: number | bigint,
  pid = 7,
  flags = 0,
): Uint8Array {
  return common(MAP, pid, flags).int(first, 8).int(second, 8).int(size, 8).bytes;
}

export function attachData(device: string, pid = 7): Uint8Array {
  return common(ATTACH, pid, 0)
    .int(12 + ((device.length + 1) << 16), 4)
    .text(`${device}\0`).bytes;
}

export function markData(text: string): Uint8Array {
  return common(PRINT, 9, 0).int(0xffffffff81000000n, 8).text(`${text}\n\0`).bytes;
}

/** A command of the AMD driver; the format has d2 before d1 before d0. */
export function commandData(d0: number, d1: number, d2: number, d3: number): Uint8Array {
  const bytes = common(PROBE, 1, 0).int(0, 8);
  for (const word of [d2, d1, d0, d3]) bytes.int(word, 4);
  return bytes.bytes;
}

export function plainData(id: number): Uint8Array {
  return common(id, 1, 0).int(0, 4).bytes;
}

export interface Cpu {
  cpu: number;
  pages: readonly Uint8Array[];
}

function concat(pages: readonly Uint8Array[]): Uint8Array {
  const all = new Bytes();
  for (const one of pages) all.raw(one);
  return all.bytes;
}

function initial(version: number, options: FileOptions): Bytes {
  return new Bytes()
    .raw(Uint8Array.of(0x17, 0x08, 0x44))
    .text(`tracing${version}\0`)
    .int(0, 1)
    .int(options.longBytes ?? 8, 1)
    .int(options.pageBytes ?? 4096, 4);
}

function version6(cpus: readonly Cpu[], options: FileOptions): Uint8Array {
  const pageBytes = options.pageBytes ?? 4096;
  const file = initial(6, options)
    .raw(headerInfo(options.longBytes ?? 8, pageBytes).bytes)
    .raw(ftraceFormats().bytes)
    .raw(eventFormats(options.swapped ?? false).bytes);
  file.int(5, 4).text('kall\n').int(3, 4).text('pk\n').int(6, 8).text('7 ip-x');
  file.int(cpus.length, 4).text('options  \0').int(1, 2).int(4, 4).text('date').int(0, 2).text('flyrecord\0');
  let offset = Math.ceil((file.length + cpus.length * 16) / pageBytes) * pageBytes;
  for (const { pages } of cpus) {
    file.int(offset, 8).int(pages.length * pageBytes, 8);
    offset += pages.length * pageBytes;
  }
  file.align(pageBytes);
  for (const { pages } of cpus) file.raw(concat(pages));
  return file.bytes;
}

function version7(cpus: readonly Cpu[], options: FileOptions): Uint8Array {
  const pageBytes = options.pageBytes ?? 4096;
  const { compression } = options;
  const head = initial(7, options).text(`${compression?.name ?? 'none'}\0${compression === undefined ? '' : '1.0'}\0`);
  const body = new Bytes();
  const base = head.length + 8;
  const section = (id: number, content: Uint8Array, packed = compression !== undefined): number => {
    const at = base + body.length;
    let stored = content;
    if (packed && compression !== undefined) {
      const small = compression.pack(content);
      stored = new Bytes().int(small.length, 4).int(content.length, 4).raw(small).bytes;
    }
    body
      .int(id, 2)
      .int(packed ? 1 : 0, 2)
      .int(0, 4)
      .int(stored.length, 8)
      .raw(stored);
    return at;
  };
  const option = (id: number, content: Uint8Array): Uint8Array =>
    new Bytes().int(id, 2).int(content.length, 4).raw(content).bytes;
  const pointer = (offset: number): Uint8Array => new Bytes().int(offset, 8).bytes;

  const info = section(16, headerInfo(options.longBytes ?? 8, pageBytes).bytes);
  const ftrace = section(17, ftraceFormats().bytes);
  const events = section(18, eventFormats(options.swapped ?? false).bytes);
  // The data of a buffer: its section header, then per CPU pages or a count and chunks of two pages.
  const bufferAt = base + body.length;
  const table = new Bytes().int(bufferAt, 8).text('\0mono\0').int(pageBytes, 4).int(cpus.length, 4);
  const data = new Bytes();
  for (const { cpu, pages } of cpus) {
    const offset = bufferAt + 16 + data.length;
    if (compression === undefined) {
      data.raw(concat(pages));
      table
        .int(cpu, 4)
        .int(offset, 8)
        .int(pages.length * pageBytes, 8);
      continue;
    }
    const chunks = new Bytes();
    let count = 0;
    for (let at = 0; at < pages.length; at += 2, count++) {
      const content = concat(pages.slice(at, at + 2));
      const small = compression.pack(content);
      chunks.int(small.length, 4).int(content.length, 4).raw(small);
    }
    data.int(count, 4).raw(chunks.bytes);
    // The size leaves the count out, as trace-cmd 3.1.6 writes it.
    table.int(cpu, 4).int(offset, 8).int(chunks.length, 8);
  }
  body
    .int(3, 2)
    .int(compression === undefined ? 0 : 1, 2)
    .int(0, 4)
    .int(data.length, 8)
    .raw(data.bytes);
  // Two option sections, chained.
  const second = new Bytes()
    .raw(option(3, table.bytes))
    .raw(option(99, new Uint8Array(5)))
    .raw(option(0, pointer(0)));
  const secondAt = section(0, second.bytes, false);
  const first = new Bytes()
    .raw(option(16, pointer(info)))
    .raw(option(17, pointer(ftrace)))
    .raw(option(18, pointer(events)))
    .raw(option(0, pointer(secondAt)));
  const firstAt = section(0, first.bytes);
  return head.int(firstAt, 8).raw(body.bytes).bytes;
}

export function traceDat(cpus: readonly Cpu[], options: FileOptions = {}): Uint8Array {
  return options.version === 7 ? version7(cpus, options) : version6(cpus, options);
}
