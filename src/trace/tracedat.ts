/**
 * Reader of trace.dat files (trace-cmd, versions 6 and 7; see dat-layout.ts, ring-buffer.ts and record-decoder.ts for the
 * parts). Merges the CPUs by time, the lower CPU first at equal times, as the kernel's own `trace` file does. Memory: one page
 * or chunk per CPU and the event formats.
 */
import { excerpt } from './bytetext.ts';
import type { RandomAccess } from './dat-bytes.ts';
import type { DatLayout, Decompressors } from './dat-layout.ts';
import { readDatLayout } from './dat-layout.ts';
import type { Names, TraceSink } from './events.ts';
import { EventKind, NR_KINDS, TraceEvent, wantedKinds } from './events.ts';
import { EventPayloads } from './ftrace-payload.ts';
import type { RecordPlan } from './record-decoder.ts';
import { RecordView, irqContextOfFlags, planFor } from './record-decoder.ts';
import { CpuStream, RecordStatus } from './ring-buffer.ts';
import type { Skip } from './skips.ts';
import { SkipLog } from './skips.ts';

const MAX_UNKNOWN_IDS = 1024;

/** What was in a trace.dat. */
export interface DatSummary {
  readonly format: 'trace.dat';
  readonly version: 6 | 7;
  readonly compression: string;
  readonly nrCpus: number;
  /** Records read: delivered, skipped, unknown. */
  readonly records: number;
  readonly events: number;
  /** Those by EventKind. */
  readonly byKind: readonly number[];
  readonly skipped: number;
  readonly firstSkipped: readonly Skip[];
  readonly lost: number;
  /** Event ids without a format in the file, and how many records have them; those records are among the skipped. */
  readonly unknownIds: readonly { readonly id: number; readonly records: number }[];
  /** Records tell what an interrupt did. */
  readonly hasIrqContext: true;
  /** Events of kind `other` by name. */
  readonly others: ReadonlyMap<string, number>;
}

/** Pull reader: `read` some records at a time, until it returns false. */
export class TraceDatReader {
  readonly layout: DatLayout;
  readonly #sink: TraceSink;
  readonly #wanted: Uint8Array;
  readonly #payloads: EventPayloads;
  readonly #event = new TraceEvent();
  readonly #record = new RecordView();
  readonly #plans = new Map<number, RecordPlan>();
  readonly #unknown = new Map<number, number>();
  readonly #skips = new SkipLog();
  readonly #byKind = new Float64Array(NR_KINDS);
  readonly #others = new Map<string, number>();
  readonly #streams: CpuStream[] = [];
  readonly #status: number[] = [];
  /** Streams that have a record, as a heap by (time, index). */
  readonly #heap: number[] = [];
  #records = 0;
  #lost = 0;

  /** Reads the layout and the first record of each CPU. @throws TraceError */
  constructor(source: RandomAccess, names: Names, sink: TraceSink, decompressors: Decompressors = {}) {
    this.layout = readDatLayout(source, decompressors);
    this.#sink = sink;
    this.#wanted = wantedKinds(sink);
    this.#payloads = new EventPayloads(names);
    for (const data of this.layout.cpus) this.#streams.push(new CpuStream(source, this.layout, data));
    for (let index = 0; index < this.#streams.length; index++) this.#advance(index);
  }

  /** Bytes of CPU data read so far, and in all. */
  get progress(): { readonly done: number; readonly total: number } {
    let done = 0;
    let total = 0;
    for (const stream of this.#streams) done += stream.consumed;
    for (const data of this.layout.cpus) total += data.nrBytes;
    return { done, total };
  }

  /** Delivers up to `limit` records; false when there are no more. @throws TraceError when the file breaks off */
  read(limit: number): boolean {
    for (let count = 0; count < limit; count++) {
      const index = this.#heap[0];
      if (index === undefined) return false;
      this.#deliver(this.#streams[index], this.#status[index]);
      this.#pop();
      this.#advance(index);
    }
    return this.#heap.length > 0;
  }

  /** What was read up to now. */
  get summary(): DatSummary {
    let events = 0;
    for (const count of this.#byKind) events += count;
    const byKind = Array.from(this.#byKind);
    const cpus = new Set(this.layout.cpus.map((data) => data.cpu));
    return {
      format: 'trace.dat',
      version: this.layout.version,
      compression: this.layout.compression,
      nrCpus: cpus.size,
      records: this.#records,
      events,
      byKind,
      skipped: this.#skips.count,
      firstSkipped: this.#skips.first,
      lost: this.#lost,
      unknownIds: [...this.#unknown].map(([id, records]) => ({ id, records })),
      hasIrqContext: true,
      others: this.#others,
    };
  }

  #advance(index: number): void {
    const status = this.#streams[index].next();
    this.#status[index] = status;
    if (status !== RecordStatus.end) this.#push(index);
  }

  #before(a: number, b: number): boolean {
    const x = this.#streams[a];
    const y = this.#streams[b];
    return x.time < y.time || (x.time === y.time && a < b);
  }

  #push(index: number): void {
    const heap = this.#heap;
    let at = heap.push(index) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!this.#before(index, heap[up])) break;
      heap[at] = heap[up];
      at = up;
    }
    heap[at] = index;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let down = at * 2 + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && this.#before(heap[down + 1], heap[down])) down++;
      if (!this.#before(heap[down], last)) break;
      heap[at] = heap[down];
      at = down;
    }
    heap[at] = last;
  }

  #skip(what: string, text: string): void {
    this.#skips.add(this.#records, what, text);
    this.#sink.skipped(this.#records, what, text);
  }

  #deliver(stream: CpuStream, status: number): void {
    const event = this.#event;
    event.cpu = stream.cpu;
    event.device = -1;
    if (status === RecordStatus.lost) {
      event.kind = EventKind.lost;
      event.line = this.#records;
      event.timeNs = this.#toNs(stream.time);
      event.pid = 0;
      event.irqContext = 0;
      event.extra = stream.lost;
      event.text = 'lost';
      if (stream.lost > 0) this.#lost += stream.lost;
      this.#byKind[EventKind.lost]++;
      if (this.#wanted[EventKind.lost] !== 0) this.#sink.event(event);
      return;
    }
    this.#records++;
    if (status === RecordStatus.malformed) {
      this.#skip(stream.problem, `page of CPU ${stream.cpu}, the rest of it left out`);
      return;
    }
    const record = this.#record;
    record.bytes = stream.bytes;
    record.view = stream.view;
    record.start = stream.start;
    record.end = stream.end;
    event.line = this.#records;
    event.timeNs = this.#toNs(stream.time);
    const id = stream.end - stream.start >= 8 ? record.view.getUint16(stream.start, true) : -1;
    const plan = this.#planOf(id);
    if (plan === undefined) {
      if (id >= 0 && (this.#unknown.has(id) || this.#unknown.size < MAX_UNKNOWN_IDS)) {
        this.#unknown.set(id, (this.#unknown.get(id) ?? 0) + 1);
      }
      this.#skip(
        id < 0 ? 'a record of at least 8 bytes' : 'an event id that has a format in the file',
        `event id ${id}`,
      );
      return;
    }
    event.text = plan.name;
    event.pid = plan.pid === undefined ? 0 : record.number(plan.pid) || 0;
    event.irqContext = plan.flags === undefined ? 0 : irqContextOfFlags(record.number(plan.flags));
    const why = plan.decode(record, event);
    if (why === '') {
      if (plan.isCommand) this.#sink.amdCommand?.(event);
      this.#byKind[event.kind]++;
      if (event.kind === EventKind.other) this.#others.set(event.text, (this.#others.get(event.text) ?? 0) + 1);
      if (this.#wanted[event.kind] !== 0) this.#sink.event(event);
    } else this.#skip(`${plan.name}: ${why}`, excerpt(record.bytes, record.start, record.end));
  }

  #planOf(id: number): RecordPlan | undefined {
    const known = this.#plans.get(id);
    if (known !== undefined) return known;
    const format = this.layout.formats.get(id);
    if (format === undefined) return undefined;
    const plan = planFor(format, this.#payloads);
    this.#plans.set(id, plan);
    return plan;
  }

  /** Clock ticks to nanoseconds: the TSC conversion as trace-cmd does it, on 64-bit integers. */
  #toNs(time: number): number {
    const { tsc } = this.layout;
    if (tsc === undefined) return time;
    const product = (BigInt(time) * BigInt(tsc.multiplier)) >> BigInt(tsc.shift);
    return Number(BigInt.asUintN(64, product + BigInt(tsc.offset)));
  }
}
