/** What caches may still hold for one page of one device: the sets behind a judgement, for people. */
import { describeEntry, describeValue, wordsOf } from './explain.ts';
import type { Finding } from './finding.ts';
import { TABLE, entryPfn } from './entry-format.ts';
import { TLB } from './stale-values.ts';
import type { Tables } from './tables.ts';
import type { DeviceState, Unit } from './unit.ts';
import type { Source, Walks } from './walks.ts';
import { NOWHERE } from './walks.ts';

const PAGE = 4096;
/** No entry of a table. */
const WHOLE = { level: 0, table: -1, store: null };

/** One value that a walk may meet, and where that walk ends. */
export interface Possible {
  /** First byte of the page it ends at, -1 when it is blocked. */
  readonly paddr: number;
  /** Read 1, write 2. */
  readonly rights: number;
  /** What holds the value: memory as it is now, or a copy of what was there before. */
  readonly from: 'memory' | 'context' | 'iotlb' | 'structure' | 'device-tlb' | 'old-root' | 'late-store';
  /** Level of the stale entry, 1 for 4 KiB leaves; 0 for memory and entries of devices. */
  readonly level: number;
  /** Of a stale entry that led to a table: first byte of that table, else -1. */
  readonly table: number;
  /** The value, in words. */
  readonly text: string;
  /** The store that made it stale; null for memory as it is now, and where no single store did. */
  readonly store: Finding['store'];
}

/** All walks of a page, each value once; memory as it is now comes first. */
export function possibleOf(tables: Tables, walks: Walks, unit: Unit, state: DeviceState, page: number): Possible[] {
  walks.all(unit, state, page);
  const found = walks.outcomes.map((outcome, i): Possible => {
    const paddr = outcome === NOWHERE ? -1 : Math.floor(outcome / 4) * PAGE;
    return { paddr, rights: outcome === NOWHERE ? 0 : outcome % 4, ...described(tables, walks.sources[i], page) };
  });
  const seen = new Set<string>();
  return found
    .filter(({ paddr, rights, from, text }) => {
      const key = `${paddr} ${rights} ${from} ${text}`;
      const isNew = !seen.has(key);
      seen.add(key);
      return isNew;
    })
    .sort((a, b) => Number(b.from === 'memory') - Number(a.from === 'memory'));
}

function described(
  tables: Tables,
  { value, entry, space, isOldRoot }: Source,
  page: number,
): Omit<Possible, 'paddr' | 'rights'> {
  if (value >= 0) {
    const { values } = tables;
    const inUnit = values.cls[value] === TLB ? 'iotlb' : 'structure';
    const from = values.cached[value] === 0 ? 'late-store' : (space?.sid ?? -1) >= 0 ? 'device-tlb' : inUnit;
    const level = values.level[value];
    const lo = values.lo[value];
    const hi = values.hi[value];
    const table =
      tables.spaces[values.space[value]].unit.format.kind(lo, hi, level) === TABLE ? entryPfn(lo, hi) * PAGE : -1;
    return { from, level, table, text: describeValue(tables, value), store: wordsOf(tables, value, page) };
  }
  if (isOldRoot) {
    const domain = space?.domainId ?? -1;
    return {
      ...WHOLE,
      from: 'old-root',
      text: `caches may still hold what domain ${domain} had in other tables before`,
    };
  }
  if (entry !== null) {
    return {
      ...WHOLE,
      from: entry.cached ? 'context' : 'late-store',
      text: `the device's entry may still be held as ${describeEntry(entry.entry)}`,
    };
  }
  return { ...WHOLE, from: 'memory', text: 'the tables as they are' };
}
