/**
 * The first pass of an audit: which commands belong to which call, as it can be told from the order of the events of each
 * context. It judges nothing; the facts that a judgement needs (what the hardware caches, which device has which domain, who
 * unmaps lazily) are known at the end of the trace only.
 *
 * - A call begins with its first iommu:map or iommu:unmap event. Further events of its context that continue it upwards
 *   without a gap, before any command, belong to it: pieces of a map_sg, several unmaps of one VFIO request.
 * - A command belongs to the call that its context is in. Linux queues a call's commands in the context of the call.
 * - A call is over when its context shows anything else: another event of iommu or dma, or, of an AMD-Vi driver, the
 *   completion wait that ends a call's commands. dma:* events also name its device.
 *
 * drivers/iommu/iommu.c, dma-iommu.c, intel/cache.c, amd/iommu.c of Linux 6.1 and 6.12.
 */
import type { Names, TraceEvent, TraceSink } from '../trace/index.ts';
import { EventKind, IrqContext } from '../trace/index.ts';
import { Contexts, RecordLog, sidOf } from '../replay/index.ts';
import type { SpillStore } from '../replay/index.ts';
import { CallQueue } from './call-queue.ts';
import { Field, Flag, RECORD_DOUBLES, RecordKind } from './call-record.ts';
import { Command, DOMAINS_PER_UNIT, EVERY_DEVICE, Effect } from './command.ts';
import { ContextCall, Coverage } from './context-call.ts';
import { DeviceDomains } from './device-domains.ts';
import { TraceFindings } from './trace-findings.ts';

const PAGE = 4096;
/** Pages of a 2 MiB leaf. */
const LARGE = 512;
/** A call without a command whose context shows nothing more counts as over when the trace goes on for so long. */
const SETTLED_NS = 250e6;

/** Kinds that the audit reads. */
const WANTED: readonly EventKind[] = Object.values(EventKind).filter(
  (kind) => kind !== EventKind.other && kind !== EventKind.fault,
);

interface Context {
  readonly call: ContextCall;
  /** CPU of an interrupt's last event, -1 for other contexts. */
  cpu: number;
  /** Device of a dma_unmap_sg or dma_free in front of its unmap, -1 for none. */
  hint: number;
  /** Context invalidations since the last attachment: devices, and whether under domain id 0. */
  readonly invalidated: { device: number; notPresent: boolean }[];
  /** Domain flushed behind them, -1 for none. */
  attachDomain: number;
  /** Domain id of the last cache_tag_assign, -1 for none. */
  assigned: number;
  /** The last command invalidated a device table entry: its wait ends no call. */
  afterContext: boolean;
}

export class CallReader implements TraceSink {
  readonly wants: readonly EventKind[] = WANTED;
  readonly log: RecordLog;
  readonly devices: DeviceDomains = new DeviceDomains();
  readonly found: TraceFindings = new TraceFindings();

  readonly #names: Names;
  readonly #contextIds = new Contexts();
  readonly #contexts: Context[] = [];
  readonly #queue: CallQueue<Context>;
  readonly #command = new Command();
  readonly #coverage = new Coverage();
  /** Completion waits so far; -1 while no AMD command came, when commands are done as soon as they are traced. */
  #waits = -1;
  #timeNs = 0;
  /** The context of each CPU's last hardware interrupt, while it may still be in a call. */
  readonly #interrupts = new Map<number, Context>();
  /** IOMMU groups by device. */
  readonly #groups = new Map<number, number>();

  constructor(names: Names, spill: SpillStore | null = null) {
    this.#names = names;
    this.log = new RecordLog(spill);
    this.#queue = new CallQueue(this.log, (context) => this.#close(context, -1));
  }

  /** A malformed line may have been a command. */
  skipped(): void {
    this.found.gap();
  }

  #contextOf(event: TraceEvent): Context {
    const id = this.#contextIds.idOf(event.pid, event.cpu, event.irqContext);
    return (this.#contexts[id] ??= {
      call: new ContextCall(),
      cpu: -1,
      hint: -1,
      invalidated: [],
      attachDomain: -1,
      assigned: -1,
      afterContext: false,
    });
  }

  /**
   * The context of an event that was recorded. A hardware interrupt ends before its CPU shows anything it interrupted, or
   * another task.
   */
  #entered(event: TraceEvent): Context {
    const context = this.#contextOf(event);
    const { cpu, irqContext } = event;
    const interrupt = this.#interrupts.get(cpu);
    if (interrupt !== undefined && interrupt !== context && interrupt.cpu === cpu) {
      if (irqContext < IrqContext.hardirq || interrupt.call.kind === 0) this.#interrupts.delete(cpu);
      if (irqContext <= IrqContext.hardirq) this.#close(interrupt, event.line);
    }
    if (irqContext === IrqContext.hardirq) {
      context.cpu = cpu;
      this.#interrupts.set(cpu, context);
    }
    return context;
  }

  /** Whether the context of an event is in a call: then a command of the same microsecond comes before its next event. */
  isInCall(event: TraceEvent): boolean {
    return this.#contextOf(event).call.kind !== 0;
  }

  event(event: TraceEvent): void {
    this.#timeNs = event.timeNs;
    const { kind, line } = event;
    if (kind === EventKind.lost) {
      this.found.gap();
      return;
    }
    const context = this.#entered(event);
    switch (kind) {
      case EventKind.map:
        this.#mapped(context, event);
        return;
      case EventKind.unmap:
        this.#unmapped(context, event);
        return;
      case EventKind.qiSubmit:
        this.#command.vtd(event.words, Math.max(0, event.extra));
        this.#commanded(context, line);
        return;
      case EventKind.cacheTag:
        if (event.text === 'cache_tag_assign') context.assigned = event.extra;
        return;
      case EventKind.attach:
        this.#attached(context, event);
        return;
      case EventKind.detach:
        this.#close(context, line);
        this.#forgetAttach(context);
        return;
      case EventKind.addDevice:
        this.#groups.set(event.device, event.extra);
        return;
      case EventKind.removeDevice:
      case EventKind.mark:
      case EventKind.fault:
      case EventKind.other:
        return;
      case EventKind.dmaMap:
      case EventKind.dmaUnmap:
      case EventKind.dmaAlloc:
      case EventKind.dmaFree:
      case EventKind.dmaMapSg:
      case EventKind.dmaUnmapSg:
      case EventKind.dmaMapSgError:
      case EventKind.dmaSync:
        this.#dma(context, event);
    }
  }

  /** A command of an AMD-Vi driver, of this trace or of another record of the same run. */
  amdCommand(event: TraceEvent): void {
    if (this.#waits < 0) this.#waits = 0;
    this.#command.amd(event.words);
    this.#timeNs = event.timeNs;
    this.#commanded(this.#entered(event), event.line);
  }

  #mapped(context: Context, event: TraceEvent): void {
    const { call } = context;
    const start = Math.floor(event.iova / PAGE);
    const end = Math.ceil((event.iova + event.nrBytes) / PAGE);
    this.found.nrMapEvents += 1;
    context.hint = -1;
    this.#forgetAttach(context);
    if (end <= start) return;
    if (call.kind === RecordKind.map && call.nrCommands === 0 && !call.isSealed && start === call.end) {
      call.extend(end, event.line);
    } else if (call.kind === RecordKind.map && start === call.end && this.#waits < 0 && call.flushedPart >= 0) {
      // The command in between was for a call before this one, which this event continues only by its address.
      const { starts, lines, end: middle } = call.split(call.flushedPart);
      this.#close(context, lines[0], Flag.late);
      this.#open(context, RecordKind.map, starts[0], starts[1] ?? middle, { line: lines[0], timeNs: event.timeNs });
      for (let i = 1; i < starts.length; i++) call.extend(starts[i + 1] ?? middle, lines[i]);
      call.extend(end, event.line);
    } else {
      this.#close(context, event.line);
      this.#open(context, RecordKind.map, start, end, event);
    }
    call.isIdentity &&= event.iova === event.paddr;
    call.nrLarge += largePages(start, end, Math.floor(event.paddr / PAGE));
  }

  #unmapped(context: Context, event: TraceEvent): void {
    const { call } = context;
    const start = Math.floor(event.iova / PAGE);
    // What was taken away may be more than what was asked for, by a large page.
    const end = Math.ceil((event.iova + event.extra) / PAGE);
    this.found.nrUnmapEvents += 1;
    this.#forgetAttach(context);
    if (end <= start) {
      this.#close(context, event.line);
      return;
    }
    const device = context.hint;
    context.hint = -1;
    const continues = start === call.end && device === call.device && call.nrCommands === 0 && !call.isSealed;
    if (call.kind === RecordKind.unmap && continues) {
      call.extend(end, event.line);
      call.records.push(this.#queue.open(context));
      return;
    }
    this.#close(context, event.line);
    this.#open(context, RecordKind.unmap, start, end, event);
    call.device = device;
  }

  #open(
    context: Context,
    kind: RecordKind,
    start: number,
    end: number,
    event: Pick<TraceEvent, 'line' | 'timeNs'>,
  ): void {
    context.call.open(kind, start, end, event.line, event.timeNs);
    context.call.records.push(this.#queue.open(context));
    context.afterContext = false;
  }

  /** dma:* events end a call and name its device; those of dma_unmap_sg and dma_free come before their unmap. */
  #dma(context: Context, event: TraceEvent): void {
    const { call } = context;
    const { kind } = event;
    this.found.nrDmaEvents += 1;
    const address = kind === EventKind.dmaMapSg && event.listLength > 0 ? event.list[0] : event.iova;
    const isMap = kind === EventKind.dmaMap || kind === EventKind.dmaAlloc || kind === EventKind.dmaMapSg;
    const isUnmap = kind === EventKind.dmaUnmap || kind === EventKind.dmaFree || kind === EventKind.dmaUnmapSg;
    const page = Math.floor(address / PAGE);
    const isOfCall = kind !== EventKind.dmaUnmapSg && page >= call.start && page < call.end;
    const device = event.device < 0 ? -1 : this.devices.of(event.device);
    context.hint = -1;
    if (isOfCall && (isMap ? call.kind === RecordKind.map : isUnmap && call.kind === RecordKind.unmap)) {
      call.device = device;
    } else if (isUnmap) {
      this.#close(context, event.line);
      context.hint = device;
    }
    this.#close(context, event.line);
  }

  #commanded(context: Context, line: number): void {
    const command = this.#command;
    const { call } = context;
    const { effect } = command;
    const { found } = this;
    found.nrCommands += 1;
    if (effect === Effect.wait) {
      this.#waits += 1;
      if (!context.afterContext) call.isSealed = true;
      context.afterContext = false;
      return;
    }
    context.afterContext = effect === Effect.context;
    if (effect === Effect.none) return;
    if (effect === Effect.context) {
      const notPresent = this.#waits >= 0 || command.domain % DOMAINS_PER_UNIT === 0;
      if (command.device !== EVERY_DEVICE && notPresent && this.#waits < 0) found.nrNotPresentContexts += 1;
      context.invalidated.push({ device: command.device, notPresent });
      if (context.invalidated.length > MAX_INVALIDATED) context.invalidated.shift();
      return;
    }
    if (effect !== Effect.global) this.devices.sawDomain(command.domain);
    const meets = call.kind !== 0 && !call.isSealed && call.meets(command);
    if (meets) call.add(command, line, this.#waits);
    if (effect === Effect.pages) {
      found.nrPageCommands += 1;
      if (meets) return;
      found.nrUseless += 1;
      this.#flushRecord(RecordKind.pageFlush, line, 0);
    } else if (effect === Effect.domain) {
      found.nrDomainCommands += 1;
      const isAttaching = context.invalidated.length > 0;
      if (isAttaching) context.attachDomain = command.domain;
      else found.lazyFlush(command.domain);
      this.#flushRecord(RecordKind.domainFlush, line, isAttaching ? Flag.attaching : 0);
    } else {
      this.#flushRecord(RecordKind.globalFlush, line, 0);
    }
  }

  #flushRecord(kind: RecordKind, line: number, flags: number): void {
    const { domain, start, nrPages } = this.#command;
    this.#write(kind, line, start, nrPages, -1, domain, flags);
  }

  #attached(context: Context, event: TraceEvent): void {
    const { call, invalidated } = context;
    const isDirect = call.kind === RecordKind.map && call.isIdentity;
    const sid = sidOf(this.#names.nameOf(event.device));
    const device = this.devices.attach(event.device, context.attachDomain, context.assigned);
    if (isDirect) call.device = device;
    this.#close(context, event.line, isDirect ? Flag.direct : 0);
    let flags = sid < 0 ? Flag.noAddress : 0;
    for (const each of invalidated) {
      if (each.device !== sid && each.device !== EVERY_DEVICE) continue;
      flags |= Flag.context | (each.notPresent ? Flag.notPresent : 0);
    }
    this.found.nrAttached += 1;
    const group = this.#groups.get(event.device) ?? -1;
    this.#write(RecordKind.attach, event.line, group, 0, device, context.attachDomain, flags);
    this.#forgetAttach(context);
  }

  #forgetAttach(context: Context): void {
    context.invalidated.length = 0;
    context.attachDomain = -1;
    context.assigned = -1;
  }

  /** A record that is complete at once. */
  #write(
    kind: RecordKind,
    line: number,
    start: number,
    nrPages: number,
    device: number,
    domain: number,
    flags: number,
  ): void {
    const number = this.#queue.open(NOBODY);
    this.#fill(number, kind, line, start, nrPages, device, domain, flags | (this.found.hasGap ? Flag.doubtful : 0));
    this.#queue.done(number);
  }

  #fill(
    number: number,
    kind: RecordKind,
    line: number,
    start: number,
    nrPages: number,
    device: number,
    domain: number,
    flags: number,
  ): void {
    const at = this.#queue.at(number);
    const { data } = this.#queue;
    data.fill(-1, at, at + RECORD_DOUBLES);
    data[at + Field.kind] = kind;
    data[at + Field.line] = line;
    data[at + Field.start] = start;
    data[at + Field.nrPages] = nrPages;
    data[at + Field.device] = device;
    data[at + Field.domain] = domain;
    data[at + Field.flags] = flags;
    data[at + Field.timeNs] = this.#timeNs;
  }

  /** The call of a context is over. @param line of what showed it, -1 for the end of the trace */
  #close(context: Context, line: number, extraFlags: number = 0): void {
    const { call } = context;
    if (call.kind === 0) return;
    const kind = call.kind === RecordKind.map ? RecordKind.map : RecordKind.unmap;
    call.kind = 0;
    const { found } = this;
    const best = this.#coverage;
    let flags = extraFlags | (found.hasGap ? Flag.doubtful : 0);
    let other = -1;
    best.badPage = call.start;
    best.domain = -1;
    if (call.nrCommands > 0) {
      other = call.coverage(best, this.#waits);
      flags |= Flag.flushed | (best.badPage < 0 ? Flag.covered : 0) | (best.unwaited ? Flag.unwaited : 0);
      flags |= (best.keepsTables ? Flag.keepsTables : 0) | (best.wide ? Flag.wide : 0);
      if (this.#waits < 0 && call.device < 0 && call.hasLateFlush) flags |= Flag.late;
      if ((flags & Flag.late) !== 0) best.badPage = call.start;
    } else if (line < 0 && this.#timeNs - call.timeNs < SETTLED_NS) {
      flags |= Flag.openEnd;
    }
    const isMap = kind === RecordKind.map;
    if (isMap && largePages(call.start, call.end, call.start) > call.nrLarge) flags |= Flag.hasTables;
    const { data } = this.#queue;
    const [number] = call.records;
    const selected = call.selected(best.domain);
    if (call.records.length > 1 && selected === 0) {
      // Unmaps without a command for their pages may wait in a flush queue, each for itself.
      for (const [i, record] of call.records.entries()) {
        const start = call.pieceStarts[i];
        const end = i + 1 < call.pieceStarts.length ? call.pieceStarts[i + 1] : call.end;
        this.#fill(record, kind, call.pieceLines[i], start, end - start, call.device, best.domain, flags);
        const at = this.#queue.at(record);
        data[at + Field.flushLine] = call.lines[0] ?? -1;
        data[at + Field.badPage] = start;
        data[at + Field.badLine] = call.pieceLines[i];
        data[at + Field.selected] = 0;
        data[at + Field.timeNs] = call.timeNs;
        data[at + Field.endLine] = line;
      }
    } else {
      for (const record of call.records) data[this.#queue.at(record)] = RecordKind.none;
      this.#fill(number, kind, call.pieceLines[0], call.start, call.end - call.start, call.device, best.domain, flags);
      const at = this.#queue.at(number);
      data[at + Field.flushLine] = call.lines[0] ?? -1;
      data[at + Field.badPage] = best.badPage;
      data[at + Field.badLine] = best.badPage < 0 ? -1 : call.lineOf(best.badPage);
      data[at + Field.selected] = selected;
      data[at + Field.endLine] = line;
      data[at + Field.otherDomain] = other;
      data[at + Field.timeNs] = call.timeNs;
    }
    const isOwn = isMap || (flags & Flag.wide) === 0;
    if (isOwn && best.domain >= 0 && call.device >= 0) this.devices.vote(call.device, best.domain);
    if (isMap) found.mapCall(call.nrCommands > 0, (flags & Flag.direct) !== 0);
    else if (call.nrCommands > 0) found.flushedUnmap(best.domain, number, isOwn);
    for (const record of call.records) this.#queue.done(record);
  }

  /** The trace is over. */
  finish(): void {
    this.found.endNs = this.#timeNs;
    for (const context of this.#contexts) this.#close(context, -1);
    this.devices.finish();
    this.found.isAmd = this.#waits >= 0;
  }
}

/** Attachments of one task without an event between them are few; a list that nothing ends must not grow. */
const MAX_INVALIDATED = 64;

/** Owner of records that are complete at once. */
const NOBODY: Context = {
  call: new ContextCall(),
  cpu: -1,
  hint: -1,
  invalidated: [],
  attachDomain: -1,
  assigned: -1,
  afterContext: false,
};

/** 2 MiB pages that one event can be mapped with. */
function largePages(start: number, end: number, paddr: number): number {
  if ((paddr - start) % LARGE !== 0) return 0;
  return Math.max(0, Math.floor(end / LARGE) - Math.ceil(start / LARGE));
}
