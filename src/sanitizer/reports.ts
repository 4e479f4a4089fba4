/** From a wrong outcome to the finding that tells of it. */
import { hex, hexRange } from '../base/index.ts';
import { describeEntry, describeValue, missingFor, nearestTo, nearestToDevice, wordsOf } from './explain.ts';
import type { ContractId, Finding, FindingKind } from './finding.ts';
import { TABLE, entryPfn } from './entry-format.ts';
import { WALK } from './stale-values.ts';
import type { Tables } from './tables.ts';
import type { DeviceState, StaleEntry, Unit } from './unit.ts';
import { NOWHERE } from './walks.ts';
import type { Source } from './walks.ts';

const PAGE = 4096;

/** Which promise was due, and in which call. */
export interface Due {
  readonly contract: ContractId;
  readonly call: string;
}

const say = (outcome: number): string =>
  outcome === NOWHERE ? 'nothing' : `${hex(Math.floor(outcome / 4) * PAGE)}, rights ${outcome % 4}`;

/** Memory itself does not say what was promised. */
export function memoryFinding(
  due: Due,
  unit: Unit,
  state: DeviceState,
  page: number,
  expected: number,
  found: number,
): Finding {
  return {
    ...due,
    unit: unit.index,
    sid: state.sid,
    domainId: state.current.domainId,
    iova: page * PAGE,
    nrBytes: PAGE,
    level: 1,
    kind: 'wrong-entry',
    stale: `the tables give ${say(found)} where the call promised ${say(expected)}`,
    store: null,
    missing: 'no invalidation helps: the entries themselves are wrong',
    nearest: [],
  };
}

/** Nobody has emptied a unit's caches since it got its tables. */
export function unknownFinding(due: Due, unit: Unit, sid: number): Finding {
  return {
    ...due,
    unit: unit.index,
    sid,
    domainId: 0,
    iova: 0,
    nrBytes: 0,
    level: 0,
    kind: 'context',
    stale: unit.unknown ?? '',
    store: null,
    missing: 'a global context-cache invalidation, and after it a global IOTLB invalidation',
    nearest: [],
  };
}

/** A cache, or memory that lags, may give another outcome than was promised. */
export function staleFinding(
  due: Due,
  tables: Tables,
  unit: Unit,
  state: DeviceState,
  page: number,
  source: Source,
): Finding {
  const { value, entry, space } = source;
  if (value >= 0 && space !== null) return valueFinding(due, tables, unit, state, page, value);
  const base = { ...due, unit: unit.index, sid: state.sid, iova: page * PAGE, nrBytes: PAGE, level: 0 };
  if (entry !== null) {
    return {
      ...base,
      domainId: entry.entry.domainId,
      kind: entry.cached ? 'context' : 'memory',
      stale: `the device's entry may still be held as ${describeEntry(entry.entry)}`,
      store: {
        step: entry.step,
        paddr: entry.paddr,
        before: describeEntry(entry.entry),
        after: describeEntry(state.current),
      },
      missing: entry.cached
        ? `an invalidation of the entry of device ${hex(state.sid)}${unit.tagOf(entry)}`
        : `a flush of the cache line at ${hex(entry.paddr)}`,
      nearest: nearestTo(unit, -1, 0, 0, entry.step, true),
    };
  }
  const domainId = space?.domainId ?? state.current.domainId;
  return {
    ...base,
    domainId,
    kind: 'translation',
    stale: `domain id ${domainId} was used with other tables before, and translations of those may be left`,
    store: null,
    missing: `an invalidation of all of domain ${domainId}`,
    nearest: nearestTo(unit, domainId, 0, Infinity, 0, true),
  };
}

/** A device left a domain by which it had ATS, and nobody has emptied its TLB since. */
export function leftFinding(due: Due, unit: Unit, state: DeviceState, left: StaleEntry): Finding {
  return {
    ...due,
    unit: unit.index,
    sid: state.sid,
    domainId: left.entry.domainId,
    iova: 0,
    nrBytes: 0,
    level: 0,
    kind: 'device-tlb',
    stale: `the device's own TLB may still hold what its entry led to before: ${describeEntry(left.entry)}`,
    store: {
      step: left.step,
      paddr: left.paddr,
      before: describeEntry(left.entry),
      after: describeEntry(state.current),
    },
    missing: `an invalidation of the whole TLB of device ${hex(state.sid)}, behind that of its entry`,
    nearest: nearestToDevice(unit, state.sid, 0, Infinity, left.step),
  };
}

function valueFinding(
  due: Due,
  tables: Tables,
  unit: Unit,
  { sid, current }: DeviceState,
  page: number,
  at: number,
): Finding {
  const { values } = tables;
  const tag = tables.spaces[values.space[at]];
  const isDevice = tag.sid >= 0;
  const domainId = isDevice ? current.domainId : tag.domainId;
  const first = values.page[at];
  const pages = values.pages[at];
  const isWalk = values.cls[at] === WALK;
  const lags = values.cached[at] === 0 || values.settled[at] === Infinity;
  const isNothing = unit.format.kind(values.lo[at], values.hi[at], values.level[at]) === 0;
  let kind: FindingKind = isNothing ? 'not-present' : isWalk ? 'table' : 'translation';
  if (isDevice) kind = 'device-tlb';
  if (lags) kind = 'memory';
  let missing = missingFor(unit, domainId, first, pages, !isWalk);
  if (isDevice)
    missing = `an invalidation of ${hexRange(first * PAGE, pages * PAGE)} in the TLB of device ${hex(sid)}, behind the unit's own`;
  if (lags) missing = `a flush of the cache line or write buffer at ${hex(values.paddr[at])}`;
  // Whose unmap was left to a queue should not have been mapped again before the flush.
  const isEarly = values.lazy[at] === 1 && due.contract === 'C-MAP-VISIBLE';
  return {
    contract: isEarly ? 'C-LAZY-BOUND' : due.contract,
    call: due.call,
    unit: unit.index,
    sid,
    domainId,
    iova: page * PAGE,
    nrBytes: PAGE,
    level: values.level[at],
    kind,
    stale: describeValue(tables, at),
    store: wordsOf(tables, at, page),
    missing,
    nearest: isDevice
      ? nearestToDevice(unit, sid, first, pages, values.step[at])
      : nearestTo(unit, domainId, first, pages, values.step[at], isWalk),
  };
}

/** A stale copy of an entry that leads to a frame, -1 for none. */
function pointerTo(tables: Tables, pfn: number): number {
  const { values } = tables;
  for (const space of tables.spaces) {
    for (let at = space.newest; at >= 0; at = values.older[at]) {
      if (values.cls[at] !== WALK || entryPfn(values.lo[at], values.hi[at]) !== pfn) continue;
      if (space.unit.format.kind(values.lo[at], values.hi[at], values.level[at]) === TABLE) return at;
    }
  }
  return -1;
}

/** A page was given back that hardware can still come by. Null when it cannot. */
export function freedFinding(call: string, tables: Tables, pfn: number): Finding | null {
  const node = tables.tree.node(pfn);
  if (node === undefined) return null;
  const [{ unit, domainId }] = node.spaces;
  const { values } = tables;
  const at = pointerTo(tables, pfn);
  const pages = 512 ** node.level;
  return {
    contract: 'C-TABLE-LIVE',
    call,
    unit: unit.index,
    sid: -1,
    domainId,
    iova: node.base * PAGE,
    nrBytes: pages * PAGE,
    level: at < 0 ? node.level + 1 : values.level[at],
    kind: 'table',
    stale:
      at < 0
        ? `an entry, or a stale one of a device, still leads to the freed page ${hex(pfn * PAGE)}`
        : describeValue(tables, at),
    store: at < 0 ? null : wordsOf(tables, at, values.page[at]),
    missing: missingFor(unit, domainId, node.base, pages, false),
    nearest: nearestTo(unit, domainId, node.base, pages, at < 0 ? 0 : values.step[at], true),
  };
}
