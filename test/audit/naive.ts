/**
 * What one invalidation of a recording was for, worked out page by page with sets, without any code of the audit: the reference
 * for tests that break recordings.
 */
import type { Names } from '../../src/trace/index.ts';
import { EventKind } from '../../src/trace/index.ts';
import type { Recorded, Recording } from './recorded.ts';

/** A command as these tests see it. */
export interface Wire {
  readonly type: 'pages' | 'domain' | 'global' | 'context' | 'wait' | 'other';
  readonly domain: number;
  readonly first: number;
  readonly pages: number;
  readonly sid: number;
}

/** VT-d 6.5.2.1-2 and AMD 48882 2.4.3, 2.4.2: fields of the words by hand. */
export function wireOf({ isAmd, words }: Recorded): Wire {
  const [w0, w1, w2, w3] = words.map((word) => BigInt(word >>> 0));
  const none: Wire = { type: 'other', domain: -1, first: 0, pages: 0, sid: -1 };
  if (isAmd) {
    const operation = w1 >> 28n;
    const domain = Number(w1 & 0xffffn);
    if (operation === 1n) return { ...none, type: 'wait' };
    if (operation === 2n) return { ...none, type: 'context', sid: Number(w0 & 0xffffn) };
    if (operation === 8n) return { ...none, type: 'global' };
    if (operation !== 3n) return none;
    const address = (w3 << 32n) | (w2 & 0xfffff000n);
    if ((w2 & 1n) === 0n) return { ...none, type: 'pages', domain, first: Number(address >> 12n), pages: 1 };
    if (address === 0x7ffffffffffff000n) return { ...none, type: 'domain', domain };
    let size = 2n;
    for (let bit = 12n; ((address >> bit) & 1n) === 1n; bit++) size *= 2n;
    const page = address >> 12n;
    return { ...none, type: 'pages', domain, first: Number(page - (page % size)), pages: Number(size) };
  }
  const low = (w1 << 32n) | w0;
  const high = (w3 << 32n) | w2;
  const granularity = (low >> 4n) & 3n;
  const domain = Number((low >> 16n) & 0xffffn);
  if ((low & 15n) === 1n && granularity === 3n) {
    return { ...none, type: 'context', domain, sid: Number((low >> 32n) & 0xffffn) };
  }
  if ((low & 15n) !== 2n) return none;
  if (granularity === 1n) return { ...none, type: 'global' };
  if (granularity === 2n) return { ...none, type: 'domain', domain };
  const size = 1n << (high & 63n);
  const page = high >> 12n;
  return { ...none, type: 'pages', domain, first: Number(page - (page % size)), pages: Number(size) };
}

export function isCommand({ isAmd, kind }: Recorded): boolean {
  return isAmd || kind === EventKind.qiSubmit;
}

function contextOf({ pid, cpu, irqContext }: Recorded): string {
  return `${pid === 0 ? `cpu${cpu}` : pid}/${irqContext}`;
}

/** Events that no call is between. */
function isSilent({ kind, isAmd }: Recorded): boolean {
  return !isAmd && (kind === EventKind.cacheTag || kind === EventKind.addDevice || kind === EventKind.removeDevice);
}

/** What one command was for. */
export interface Purpose {
  /** Index of the command in the events. */
  readonly index: number;
  readonly context: string;
  readonly kind: 'map' | 'unmap' | 'attach';
  /** Lines of the events that it was for. */
  readonly lines: ReadonlySet<number>;
  /** Index of the event that shows that the call was over: AMD's wait, or the next event of the context; -1 for none. */
  readonly over: number;
  /** All pages of the call. */
  readonly call: ReadonlySet<number>;
  /** Pages that only this command reaches. */
  readonly pages: ReadonlySet<number>;
}

/** The purposes of all commands that have one: those without are redundant, or start a unit, or serve a flush queue. */
export function purposes(events: readonly Recorded[], { isAmd, cachingMode }: Recording): Purpose[] {
  const byContext = new Map<string, number[]>();
  for (const [index, event] of events.entries()) {
    if (isSilent(event)) continue;
    const list = byContext.get(contextOf(event)) ?? [];
    list.push(index);
    byContext.set(contextOf(event), list);
  }
  const found: Purpose[] = [];
  for (const list of byContext.values()) {
    for (let at = 0; at < list.length; at++) {
      if (!isCommand(events[list[at]]) || (at > 0 && isCommand(events[list[at - 1]]))) continue;
      // A run of commands: [at, end).
      let end = at;
      while (end < list.length && isCommand(events[list[end]])) end++;
      found.push(...purposesOfRun(events, list, at, end, isAmd, cachingMode));
    }
  }
  return found.toSorted((a, b) => a.index - b.index);
}

function purposesOfRun(
  events: readonly Recorded[],
  list: readonly number[],
  begin: number,
  end: number,
  isAmd: boolean,
  cachingMode: boolean,
): Purpose[] {
  const run = list.slice(begin, end).map((index) => ({ index, wire: wireOf(events[index]) }));
  const after = end < list.length ? list[end] : -1;
  const next = after < 0 ? null : events[after];
  if (next?.kind === EventKind.attach) {
    // An attachment: the entry of the device, and its domain. The device of the event cannot be seen here; Linux queues just its own.
    const needed = run.filter(
      ({ wire }) => wire.type === 'context' || (!isAmd && cachingMode && wire.type === 'domain'),
    );
    const last = needed.slice(isAmd ? -1 : -2);
    return last.map(({ index }) => ({
      index,
      context: contextOf(next),
      kind: 'attach' as const,
      lines: new Set([next.line]),
      over: after,
      call: new Set<number>(),
      pages: new Set<number>(),
    }));
  }
  // The events in front: one unmap, or maps that continue each other.
  const lines = new Set<number>();
  const pages = new Set<number>();
  let kind: 'map' | 'unmap' | null = null;
  for (let at = begin - 1; at >= 0; at--) {
    const event = events[list[at]];
    const isMap = event.kind === EventKind.map;
    if (!isMap && event.kind !== EventKind.unmap) break;
    const first = event.iova / 4096;
    const count = event.nrBytes / 4096;
    if (kind !== null && (kind === 'unmap' || !isMap || !pages.has(first + count))) break;
    kind = isMap ? 'map' : 'unmap';
    lines.add(event.line);
    for (let page = first; page < first + count; page++) pages.add(page);
  }
  if (kind === null || (kind === 'map' && !cachingMode)) return [];
  const wait = isAmd ? run.findIndex(({ wire }) => wire.type === 'wait') : -1;
  const own = isAmd && wait >= 0 ? run.slice(0, wait) : run;
  const over = isAmd && wait >= 0 ? run[wait].index : after;
  const reaches = ({ type, first, pages: count }: Wire, page: number): boolean =>
    type === 'domain' || type === 'global' || (type === 'pages' && page >= first && page < first + count);
  const result: Purpose[] = [];
  for (const { index, wire } of own) {
    if (wire.type !== 'pages') continue;
    const only = [...pages].filter(
      (page) => reaches(wire, page) && !own.some((other) => other.index !== index && reaches(other.wire, page)),
    );
    if (only.length > 0)
      result.push({ index, context: contextOf(events[index]), kind, lines, over, call: pages, pages: new Set(only) });
  }
  return result;
}

/**
 * Whether the domains of a recording's commands contradict what is mapped and unmapped, when one command names another domain:
 * a page mapped twice in a domain, unmapped where it is not mapped, a domain that nothing else names, or one call in two.
 * Recordings from boot on only. @param known domains that have a device.
 * Where this is false, nothing in the trace shows the wrong domain.
 */
export function contradicts(
  events: readonly Recorded[],
  all: readonly Purpose[],
  changed: number,
  domain: number,
  known: readonly number[],
): boolean {
  if (!known.includes(domain)) return true;
  const callOf = new Map<number, { kind: 'map' | 'unmap'; pages: ReadonlySet<number>; domains: Set<number> }>();
  for (const { index, kind, lines, call } of all) {
    if (kind === 'attach') continue;
    const line = Math.min(...lines);
    const own = index === changed ? domain : wireOf(events[index]).domain;
    const found = callOf.get(line) ?? { kind, pages: call, domains: new Set<number>() };
    found.domains.add(own);
    callOf.set(line, found);
  }
  const live = new Map<number, Set<number>>();
  const uncertain = new Set<number>();
  for (const event of events) {
    const isMap = event.kind === EventKind.map && !event.isAmd;
    if (event.isAmd || (!isMap && event.kind !== EventKind.unmap)) continue;
    const call = callOf.get(event.line);
    if (call === undefined) {
      // An unmap without a command, in a domain that is not told.
      const first = event.iova / 4096;
      if (!isMap) for (let page = first; page < first + event.nrBytes / 4096; page++) uncertain.add(page);
      continue;
    }
    if (call.domains.size > 1) return true;
    for (const own of call.domains) {
      const pages = live.get(own) ?? new Set<number>();
      live.set(own, pages);
      for (const page of call.pages) {
        if (!uncertain.has(page) && pages.has(page) === (call.kind === 'map')) return true;
        if (call.kind === 'map') pages.add(page);
        else pages.delete(page);
      }
    }
  }
  return false;
}

/** A domain flush of a flush queue between the unmap of a page and its next map in the same domain, the only one there. */
export interface QueueFlush {
  readonly index: number;
  /** Index of the event that ends the next map. */
  readonly reuse: number;
  /** Lines of the iommu:map events of these maps. */
  readonly lines: ReadonlySet<number>;
}

/**
 * Flushes without which a page is used again too early, of recordings whose dma:* events name devices and whose
 * cache_tag_assign events (6.10 and later) name their domains. Pages of scatterlists are left out: unmapping one prints no address.
 */
export function queueFlushes(events: readonly Recorded[], names: Names): QueueFlush[] {
  const domainOf = new Map<string, number>();
  let assigned = -1;
  for (const event of events) {
    if (event.kind === EventKind.cacheTag && event.text === 'cache_tag_assign') assigned = event.extra;
    if (event.kind === EventKind.attach && assigned >= 0) domainOf.set(names.nameOf(event.device), assigned);
  }
  const found = new Map<number, { reuse: number; lines: Set<number> }>();
  const lastFlush = new Map<number, number>();
  /** By domain and page: the flushes of the domain since its unmap, as far as one tells more than none. */
  const unmapped = new Map<string, number>();
  const nrFlushes = new Map<number, number>();
  for (const [index, event] of events.entries()) {
    if (isCommand(event)) {
      const { type, domain } = wireOf(event);
      if (type !== 'domain') continue;
      lastFlush.set(domain, index);
      nrFlushes.set(domain, (nrFlushes.get(domain) ?? 0) + 1);
      continue;
    }
    const isMap = event.kind === EventKind.dmaMap;
    if (!isMap && event.kind !== EventKind.dmaUnmap) continue;
    const domain = domainOf.get(names.nameOf(event.device));
    if (domain === undefined) continue;
    const key = `${domain}/${Math.floor(event.iova / 4096)}`;
    if (!isMap) {
      unmapped.set(key, nrFlushes.get(domain) ?? 0);
      continue;
    }
    const before = unmapped.get(key);
    unmapped.delete(key);
    const flush = lastFlush.get(domain);
    if (before === undefined || flush === undefined || (nrFlushes.get(domain) ?? 0) !== before + 1) continue;
    let map = index;
    while (events[map].kind !== EventKind.map || events[map].pid !== event.pid) map--;
    const one = found.get(flush) ?? { reuse: index, lines: new Set<number>() };
    one.lines.add(events[map].line);
    found.set(flush, one);
  }
  return [...found].map(([index, rest]) => ({ index, ...rest }));
}
