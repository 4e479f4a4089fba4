/**
 * Small traces for tests of the grouping, one event a line: time in microseconds, context (a task; `/s`, `/h` for its softirq
 * and hardirq), what, and numbers of pages in hex:
 *   `12 dd map fff0 1 50`       iommu:map of 1 page at fff0 to physical page 50
 *   `13 dd unmap fff0 1`
 *   `13 dd mapped 0000:00:04.0 fff0 1`, `mapped-sg`, `unmapped`, `unmapped-sg` (device only)   dma:* events
 *   `14 dd attach 0000:00:04.0`
 *   `15 dd flush`               qi_submit, which nobody may look at
 */
import {
  DECISION_BEGINS,
  DECISION_DIRECT,
  DECISION_ENDS,
  DECISION_SHIFT,
  Grouper,
  NO_CALL,
  STORED_CPU,
  STORED_DOUBLES,
  StoredKind,
} from '../../src/replay/group.ts';
import { EventKind, IrqContext, Names, TraceEvent } from '../../src/trace/index.ts';

const PAGE = 4096;

const KINDS: Readonly<Record<string, EventKind>> = {
  map: EventKind.map,
  unmap: EventKind.unmap,
  mapped: EventKind.dmaMap,
  'mapped-sg': EventKind.dmaMapSg,
  unmapped: EventKind.dmaUnmap,
  'unmapped-sg': EventKind.dmaUnmapSg,
  attach: EventKind.attach,
  flush: EventKind.qiSubmit,
};
const IRQS: Readonly<Record<string, number>> = { s: IrqContext.softirq, h: IrqContext.hardirq };

/** One call as the grouper sees it. */
export interface GroupedCall {
  readonly first: number;
  nrPages: number;
  readonly firstEvent: number;
  lastEvent: number;
  readonly domain: number;
  readonly direct: boolean;
  ended: boolean;
}

/** Groups a trace. */
export function group(trace: string | Iterable<string>): Grouper {
  const names = new Names();
  const grouper = new Grouper(names);
  const pids = new Map<string, number>();
  const event = new TraceEvent();
  const lines = typeof trace === 'string' ? trace.trim().split('\n') : trace;
  for (const line of lines) {
    const [time = '', where = '', what = '', ...args] = line.trim().split(/\s+/);
    const [task = '', irq = ''] = where.split('/');
    const kind = KINDS[what];
    if (kind === undefined) throw new Error(`no such event: ${line}`);
    let pid = pids.get(task);
    if (pid === undefined) pids.set(task, (pid = pids.size + 100));
    event.kind = kind;
    event.line += 1;
    event.timeNs = Number(time) * 1000;
    event.pid = pid;
    event.cpu = 0;
    event.irqContext = IRQS[irq] ?? IrqContext.task;
    if (kind >= EventKind.dmaMap || kind === EventKind.attach) event.device = names.intern(args.shift() ?? '');
    const [first = 0, nrPages = 0, paddr = 0] = args.map((text) => parseInt(text, 16) * PAGE);
    event.iova = first;
    event.nrBytes = nrPages;
    event.paddr = paddr;
    event.list[0] = first;
    event.list[1] = nrPages;
    event.listLength = 1;
    grouper.event(event);
  }
  grouper.finish();
  return grouper;
}

/** The calls of a grouping, in the order of their last events. @throws when an unmap does not end calls that fill its extent */
export function callsOf(grouper: Grouper): GroupedCall[] {
  const calls: GroupedCall[] = [];
  /** Live calls of each slot: several when one unmap ends them all. */
  const bySlot = new Map<number, GroupedCall[]>();
  const reader = grouper.log.reader();
  for (let event = 0; event < grouper.nrStored; event++) {
    const at = reader.take(STORED_DOUBLES);
    const kind = reader.data[at] % STORED_CPU;
    const first = reader.data[at + 1] / PAGE;
    const nrPages = reader.data[at + 2] / PAGE;
    const decision = grouper.decisions[event];
    if (kind === StoredKind.map) {
      const slot = decision >> DECISION_SHIFT;
      let call = bySlot.get(slot)?.at(-1);
      if ((decision & DECISION_BEGINS) !== 0) {
        const direct = (decision & DECISION_DIRECT) !== 0;
        call = {
          first,
          nrPages: 0,
          firstEvent: event,
          lastEvent: -1,
          domain: grouper.domains[event],
          direct,
          ended: false,
        };
        bySlot.set(slot, [...(bySlot.get(slot) ?? []), call]);
      }
      if (call === undefined || call.lastEvent >= 0) throw new Error(`event ${event} belongs to no call that began`);
      if (call.first + call.nrPages !== first) throw new Error(`event ${event} does not continue its call`);
      call.nrPages += nrPages;
      if ((decision & DECISION_ENDS) === 0) continue;
      call.lastEvent = event;
      calls.push(call);
    } else if (kind === StoredKind.unmap && decision !== NO_CALL) {
      const ended = bySlot.get(decision) ?? [];
      bySlot.delete(decision);
      let end = first;
      for (const call of ended) {
        if (call.first !== end) throw new Error(`event ${event} ends calls that are not behind each other`);
        end += call.nrPages;
        call.ended = true;
      }
      if (end !== first + nrPages || ended.length === 0) throw new Error(`event ${event} ends no call`);
    }
  }
  return calls;
}

/** Calls as text: `fff0+3`, with `x` behind those that an unmap ended. */
export function shapes(grouper: Grouper): string[] {
  return callsOf(grouper).map(
    ({ first, nrPages, ended, direct }) =>
      `${first.toString(16)}+${nrPages}${ended ? 'x' : ''}${direct ? ' direct' : ''}`,
  );
}
