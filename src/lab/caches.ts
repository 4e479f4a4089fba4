/** What the caches of a unit hold, each entry beside what memory says now. */
import { hex, hexRange } from '../base/index.ts';
import { deviceName } from '../check/index.ts';
import type { AmdviUnit, VtdUnit } from '../hw/index.ts';
import { vtd } from '../spec/index.ts';
import { vtdReason } from './faults.ts';
import { pageSize, rights } from './vtd-entries.ts';
import type { CachedView, CacheView, EntryView, Focus, WalkView } from './view.ts';

/** Walks that memory allows now, for comparison. */
export interface MemoryWalks {
  /** For a device. */
  of(sid: number, iova: number): WalkView;
  /** For any device that uses a domain; null when none does. */
  inDomain(domain: number, iova: number): WalkView | null;
}

const PAGE = 4096;

/** An entry of either architecture, in one form. */
interface Held {
  readonly key: string;
  readonly text: string;
  readonly isUsed: boolean;
  readonly isNothing: boolean;
  readonly target: number;
  readonly level: number;
  readonly iova: number;
  readonly now: CachedView['state'];
}

function cacheView(cache: CacheView['cache'], name: string, held: readonly Held[]): CacheView {
  const entries = held.map(({ now, ...entry }, nth): CachedView => ({ ...entry, nth, state: now }));
  return { cache, name, entries };
}

function same(isSame: boolean): CachedView['state'] {
  return isSame ? 'current' : 'stale';
}

/** A cached translation beside the walk of its first page. */
function leafState(walk: WalkView | null, paddr: number, bits: number): CachedView['state'] {
  if (walk === null) return 'unknown';
  const { answer } = walk;
  const now = (answer.read ? 1 : 0) | (answer.write ? 2 : 0);
  if (paddr < 0 || bits === 0) return same(answer.paddr < 0);
  return same(answer.paddr === paddr && now === bits);
}

/** A cached copy of an entry beside the entry of that level. */
function tableState(walk: WalkView | null, level: number, target: number): CachedView['state'] {
  if (walk === null) return 'unknown';
  const entry = walk.entries.find((each) => each.level === level);
  if (target < 0) return same(entry === undefined || entry.kind !== 'table');
  return same(entry?.kind === 'table' && entry.target === target);
}

function covers(first: number, nrBytes: number, iova: number): boolean {
  return iova >= first && iova < first + nrBytes;
}

export function vtdCaches(unit: VtdUnit, focus: Focus, domain: number, walks: MemoryWalks): CacheView[] {
  const { sid, iova } = focus;
  const contexts = unit.contextEntries().map((entry): Held => {
    const walk = walks.of(entry.sid, 0);
    const isNothing = entry.reason !== 0;
    const target = isNothing || entry.rootPfn < 0 ? -1 : entry.rootPfn * PAGE;
    const now = walk.entries.find(({ name }) => name === 'context entry');
    const isPass = entry.translationType === vtd.TT_PASS_THROUGH;
    const text = isNothing
      ? `fault ${hex(entry.reason)}: ${vtdReason(entry.reason)}`
      : isPass
        ? `domain ${entry.domain}: addresses pass`
        : `domain ${entry.domain}, ${entry.levels} levels, top table at ${hex(target)}`;
    return {
      key: `device ${deviceName(entry.sid)}${isNothing ? ', tagged domain 0' : ''}`,
      text,
      isUsed: entry.sid === sid,
      isNothing,
      target,
      level: 0,
      iova: 0,
      now: same(contextIsSame(now, isNothing, isPass, target) && (isNothing || walk.domain === entry.domain)),
    };
  });
  const iotlb = unit.iotlbEntries().map((entry): Held => {
    const size = pageSize(entry.level);
    const isNothing = entry.reason !== 0 || entry.rights === 0;
    const paddr = isNothing ? -1 : entry.paddr;
    return {
      key: `domain ${entry.domain}, ${hexRange(entry.iova, size.bytes)}`,
      text: isNothing
        ? `nothing is mapped (fault ${hex(entry.reason)})`
        : `leads to ${hex(paddr)}, ${rights(entry.rights)}`,
      isUsed: entry.domain === domain && covers(entry.iova, size.bytes, iova),
      isNothing,
      target: paddr,
      level: entry.level,
      iova: entry.iova,
      now: leafState(walks.inDomain(entry.domain, entry.iova), paddr, entry.rights),
    };
  });
  const structure = unit.structureEntries().map((entry): Held => {
    const size = pageSize(entry.level);
    const target = entry.tablePfn < 0 ? -1 : entry.tablePfn * PAGE;
    return {
      key: `domain ${entry.domain}, level ${entry.level} entry of ${hexRange(entry.iova, size.bytes)}`,
      text: target < 0 ? `no table (fault ${hex(entry.reason)})` : `leads to the table at ${hex(target)}`,
      isUsed: entry.domain === domain && covers(entry.iova, size.bytes, iova),
      isNothing: target < 0,
      target,
      level: entry.level,
      iova: entry.iova,
      now: tableState(walks.inDomain(entry.domain, entry.iova), entry.level, target),
    };
  });
  return [
    cacheView('context', 'context cache', contexts),
    cacheView('structure', 'paging-structure caches', structure),
    cacheView('iotlb', 'IOTLB', iotlb),
  ];
}

function contextIsSame(now: EntryView | undefined, isNothing: boolean, isPass: boolean, target: number): boolean {
  if (isNothing) return now?.kind !== 'table' && now?.kind !== 'pass';
  if (isPass) return now?.kind === 'pass';
  return now?.kind === 'table' && now.target === target;
}

const AMD_FAULTS: readonly string[] = [
  '',
  'nothing is mapped',
  'a level is encoded wrongly',
  'a reserved bit is set',
  'the right is missing',
  'a table cannot be read',
  'a reserved bit of the device table entry is set',
  'a level of the device table entry is wrong',
  'the device table cannot be read',
  'the device table does not reach so far',
  'no translation for this device',
];

export function amdCaches(unit: AmdviUnit, focus: Focus, domain: number, walks: MemoryWalks): CacheView[] {
  const { sid, iova } = focus;
  const devices = unit.contextEntries().map((entry): Held => {
    const walk = walks.of(entry.sid, 0);
    const now = walk.entries.find(({ name }) => name === 'device table entry');
    const isPass = entry.fault === 0 && (!entry.isValid || entry.levels === 0);
    const isNothing = entry.fault !== 0;
    const target = entry.rootPfn < 0 || isNothing || isPass ? -1 : entry.rootPfn * PAGE;
    const text = isNothing
      ? AMD_FAULTS[entry.fault]
      : isPass
        ? 'addresses pass'
        : `domain ${entry.domain}, ${entry.levels} levels, top table at ${hex(target)}, ${rights(entry.rights)}`;
    const isSame = contextIsSame(now, isNothing, isPass, target);
    return {
      key: `device ${deviceName(entry.sid)}`,
      text,
      isUsed: entry.sid === sid,
      isNothing,
      target,
      level: 0,
      iova: 0,
      now: same(isSame && (isNothing || isPass || walk.domain === entry.domain)),
    };
  });
  const iotlb = unit.iotlbEntries().map((entry): Held => {
    const isNothing = entry.fault !== 0 || entry.rights === 0;
    const paddr = isNothing ? -1 : entry.paddr;
    const nrBytes = 2 ** entry.sizeLg2;
    return {
      key: `domain ${entry.domain}, ${hexRange(entry.iova, nrBytes)}`,
      text: isNothing
        ? (AMD_FAULTS[entry.fault] ?? `fault ${entry.fault}`)
        : `leads to ${hex(paddr)}, ${rights(entry.rights)}`,
      isUsed: entry.domain === domain && covers(entry.iova, nrBytes, iova),
      isNothing,
      target: paddr,
      level: 1,
      iova: entry.iova,
      now: leafState(walks.inDomain(entry.domain, entry.iova), paddr, entry.rights),
    };
  });
  const structure = unit.structureEntries().map((entry): Held => {
    const size = pageSize(entry.level);
    const target = entry.tablePfn < 0 ? -1 : entry.tablePfn * PAGE;
    return {
      key: `domain ${entry.domain}, level ${entry.level} entry of ${hexRange(entry.iova, size.bytes)}`,
      text: target < 0 ? (AMD_FAULTS[entry.fault] ?? `fault ${entry.fault}`) : `leads to the table at ${hex(target)}`,
      isUsed: entry.domain === domain && covers(entry.iova, size.bytes, iova),
      isNothing: target < 0,
      target,
      level: entry.level,
      iova: entry.iova,
      now: tableState(walks.inDomain(entry.domain, entry.iova), entry.level, target),
    };
  });
  return [
    cacheView('context', 'device table cache', devices),
    cacheView('structure', 'cache of directory entries', structure),
    cacheView('iotlb', 'IOTLB', iotlb),
  ];
}
