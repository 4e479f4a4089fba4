/**
 * All walks that the caches allow. For one page of one device: whatever its entry may still be held as, whatever the TLB may
 * still hold under that entry's tag, and every path through tables and copies of their entries.
 */
import { LEAF, NONE, TABLE, entryPfn, spanPages } from './entry-format.ts';
import type { OldRoot, Space } from './space.ts';
import { TLB, WALK, orderAfter, orderOf } from './stale-values.ts';
import type { TableNode } from './table-node.ts';
import type { Tables } from './tables.ts';
import type { DeviceEntry, DeviceState, StaleEntry, Unit } from './unit.ts';

/** An outcome that reaches nothing. Others are frame * 4 + rights. */
export const NOWHERE = -1;

/** Where an outcome comes from: memory as it is, a stale value (by its place), a stale entry of the device, an old root. */
export interface Source {
  readonly value: number;
  readonly entry: StaleEntry | null;
  readonly space: Space | null;
  readonly isOldRoot: boolean;
}

/** No stale value has a part in it. */
export const FROM_MEMORY: Source = { value: -1, entry: null, space: null, isOldRoot: false };

/** What a walk found on its way to a level 1 table, as long as the tree's version is the same. */
interface Way {
  version: number;
  rootPfn: number;
  levels: number;
  rights: number;
  /** First page of the table. */
  base: number;
  table: TableNode | null;
  /** Rights that the entries above the table leave. */
  left: number;
  /** Whether tables above it hold pieces of larger leaves. */
  sawPieces: boolean;
}

export class Walks {
  readonly #tables: Tables;
  /** Outcomes of the last question, and where each comes from. */
  readonly outcomes: number[] = [];
  readonly sources: Source[] = [];

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** What memory alone says. */
  inMemory(entry: DeviceEntry, page: number): number {
    if (entry.kind === 'pass') return page * 4 + entry.rights;
    if (entry.kind === 'blocked') return NOWHERE;
    const outcome = this.leafOf(entry.rootPfn, entry.levels, page, entry.rights);
    return outcome;
  }

  /** Pages, from `page` on, for which the last `inMemory` holds in the same way: the rest of its leaf, or of the hole. */
  sameFor = 1;
  /** Level 1 table at which the last walk ended, if it did at one, and the entry there. */
  #ended: TableNode | null = null;
  #endedAt = 0;
  /** Whether a table of the last walk holds pieces of larger leaves. */
  sawPieces = false;

  /** The same, entries included that follow at level 1 and go on with it: with the next frames, or with nothing. */
  sameForUpTo(most: number): number {
    const node = this.#ended;
    if (node === null || most === 1) return this.sameFor;
    const { words, format } = node;
    const first = this.#endedAt;
    const lo = words[2 * first];
    const hi = words[2 * first + 1];
    const isNothing = (lo | hi) === 0;
    // Other entries may speak for one that is not present.
    if (isNothing ? this.sawPieces : format.kind(lo, hi, 1) !== LEAF) return 1;
    const leaf = isNothing ? 1 : format.leafPages(lo, hi, 1);
    const grows = isNothing || leaf > 1 ? 0 : 4096;
    const end = Math.min(512, first + most, leaf > 1 ? first - (first % leaf) + leaf : 512);
    let i = first + 1;
    for (let next = lo + grows; i < end && words[2 * i] === next && words[2 * i + 1] === hi; i++) next += grows;
    return i - first;
  }

  /** The way to the level 1 table of the last walk that came to one: the next page is mostly in the same. */
  readonly #way: Way = {
    version: -1,
    rootPfn: 0,
    levels: 0,
    rights: 0,
    base: 0,
    table: null,
    left: 0,
    sawPieces: false,
  };

  leafOf(rootPfn: number, levels: number, page: number, rights: number): number {
    const { tree } = this.#tables;
    const way = this.#way;
    this.sameFor = 1;
    this.#ended = null;
    this.sawPieces = false;
    if (page >= spanPages(levels + 1)) return NOWHERE;
    let node: TableNode | null | undefined;
    let left = rights;
    const isKnown =
      way.version === tree.version &&
      way.rootPfn === rootPfn &&
      way.levels === levels &&
      way.rights === rights &&
      page >= way.base &&
      page < way.base + 512;
    if (isKnown) {
      node = way.table;
      left = way.left;
      this.sawPieces = way.sawPieces;
    } else {
      node = tree.node(rootPfn);
    }
    while (node !== undefined && node !== null) {
      const { level, format, words } = node;
      // Address bits of levels that an entry skips must be zero (AMD 48882, 2.2.3).
      if (page >= node.base + spanPages(level + 1)) return NOWHERE;
      const span = spanPages(level);
      // All of these are far below 2^53, and the conversion to 32 bits keeps the low ones.
      const index = ((page - node.base) / span) & 511;
      const lo = words[2 * index];
      const hi = words[2 * index + 1];
      const kind = format.kind(lo, hi, level);
      if (level === 1) {
        if (!isKnown) {
          way.version = tree.version;
          way.rootPfn = rootPfn;
          way.levels = levels;
          way.rights = rights;
          way.base = page - index;
          way.table = node;
          way.left = left;
          way.sawPieces = this.sawPieces;
        }
        this.#ended = node;
        this.#endedAt = index;
      }
      if (node.nrPieces > 0) this.sawPieces = true;
      if (kind !== TABLE) this.sameFor = level === 1 ? 1 : span - (page - Math.floor(page / span) * span);
      if (kind === NONE) return NOWHERE;
      left &= format.rights(lo, hi);
      if (kind === LEAF) return left === 0 ? NOWHERE : format.leafPfn(lo, hi, level, page) * 4 + left;
      if (format.childLevel(lo, level) >= level) return NOWHERE;
      node = tree.node(entryPfn(lo, hi));
    }
    return NOWHERE;
  }

  /**
   * A page that caches may give by tables that were used under the same tag before, and that the tables in use do not give.
   * @param holes what is not present may be cached @returns the page, -1 for none
   */
  differsFrom(old: OldRoot, entry: DeviceEntry, holes: boolean): number {
    const { tree } = this.#tables;
    let differs = -1;
    const compare = (page: number): void => {
      if (differs >= 0 || page >= spanPages(old.levels + 1)) return;
      const was = this.leafOf(old.pfn, old.levels, page, 3);
      if ((was !== NOWHERE || holes) && was !== this.inMemory(entry, page)) differs = page;
    };
    for (const pfn of holes ? [old.pfn, entry.rootPfn] : [old.pfn]) {
      const node = tree.node(pfn);
      if (node !== undefined) tree.eachLeaf(node, compare);
    }
    return differs;
  }

  /** Fills `outcomes` for a page of a device. */
  all(unit: Unit, state: DeviceState, page: number): void {
    this.outcomes.length = 0;
    this.sources.length = 0;
    this.#byEntry(unit, state.current, page, null);
    for (const stale of state.stale) this.#byEntry(unit, stale.entry, page, stale);
    if (state.tlb !== null && state.tlb.nrLive > 0) this.#byTlb(state.tlb, page, null);
  }

  #add(outcome: number, source: Source): void {
    this.outcomes.push(outcome);
    this.sources.push(source);
  }

  #byEntry(unit: Unit, entry: DeviceEntry, page: number, stale: StaleEntry | null): void {
    const source = stale === null ? FROM_MEMORY : { ...FROM_MEMORY, entry: stale };
    if (entry.kind !== 'table') {
      this.#add(entry.kind === 'pass' ? page * 4 + entry.rights : NOWHERE, source);
      return;
    }
    const space = unit.space(entry.domainId);
    if (space.nrLive > 0) this.#byTlb(space, page, stale);
    for (const root of space.oldRoots) {
      // Beyond its reach no entry was read that could have been kept.
      if (page >= spanPages(root.levels + 1)) continue;
      const outcome = this.leafOf(root.pfn, root.levels, page, 3);
      if (outcome === NOWHERE && !unit.cachesNotPresent) continue;
      this.#add(outcome, { ...source, space, isOldRoot: true });
    }
    if (page >= spanPages(entry.levels + 1)) {
      this.#add(NOWHERE, source);
      return;
    }
    this.#walk(space, this.#tables.tree.node(entry.rootPfn), page, entry.rights, source);
  }

  /** Translations that the TLB may hold under a tag. */
  #byTlb(space: Space, page: number, stale: StaleEntry | null): void {
    const { values } = this.#tables;
    const top = orderOf(space.unit.levels);
    for (let order = 0; order <= top; order = orderAfter(order)) {
      if (space.nrOfOrder[order] === 0) continue;
      const home = order === 0 ? page : page - (page % 2 ** order);
      for (let at = values.firstAt(space.id, TLB, order, home); at >= 0; at = values.nextAt(at)) {
        if (page < values.page[at] || page >= values.page[at] + values.pages[at]) continue;
        const lo = this.#tables.loAt(at, page);
        const hi = values.hi[at];
        const level = values.level[at];
        const { format } = space.unit;
        const rights = values.rights[at] & format.rights(lo, hi);
        const isNothing = format.kind(lo, hi, level) === NONE || rights === 0;
        const outcome = isNothing ? NOWHERE : format.leafPfn(lo, hi, level, page) * 4 + rights;
        this.#add(outcome, { value: at, entry: stale, space, isOldRoot: false });
      }
    }
  }

  #walk(space: Space, node: TableNode | undefined, page: number, rights: number, source: Source): void {
    if (node === undefined || page >= node.base + spanPages(node.level + 1)) {
      this.#add(NOWHERE, source);
      return;
    }
    const { values } = this.#tables;
    const { level, words } = node;
    const span = spanPages(level);
    // All of these are far below 2^53, and the conversion to 32 bits keeps the low ones.
    const index = ((page - node.base) / span) & 511;
    this.#through(space, level, words[2 * index], words[2 * index + 1], page, rights, source);
    if (level === 1 || space.nrLive === 0) return;
    const home = page - (page % span);
    for (let at = values.firstAt(space.id, WALK, orderOf(level), home); at >= 0; at = values.nextAt(at)) {
      const from = { ...source, value: at, space };
      this.#through(space, level, values.lo[at], values.hi[at], page, rights, from);
    }
  }

  #through(space: Space, level: number, lo: number, hi: number, page: number, rights: number, source: Source): void {
    const { format } = space.unit;
    const kind = format.kind(lo, hi, level);
    const left = rights & format.rights(lo, hi);
    if (kind === NONE || left === 0) this.#add(NOWHERE, source);
    else if (kind === LEAF) this.#add(format.leafPfn(lo, hi, level, page) * 4 + left, source);
    else if (kind === TABLE && format.childLevel(lo, level) < level) {
      this.#walk(space, this.#tables.tree.node(entryPfn(lo, hi)), page, left, source);
    } else this.#add(NOWHERE, source);
  }

  /**
   * Whether another entry of the same leaf, a replica, still gives a page: hardware that comes by it caches the whole leaf.
   * @returns the outcome, or NOWHERE
   */
  replicaOf(entry: DeviceEntry, page: number): number {
    if (entry.kind !== 'table' || this.#tables.tree.node(entry.rootPfn)?.format.hasReplicas !== true) return NOWHERE;
    let node = this.#tables.tree.node(entry.rootPfn);
    while (node !== undefined) {
      const { level, format, words } = node;
      const span = spanPages(level);
      // All of these are far below 2^53, and the conversion to 32 bits keeps the low ones.
      const index = ((page - node.base) / span) & 511;
      for (let bit = 1; bit < 512; bit *= 2) {
        const other = index ^ bit;
        const lo = words[2 * other];
        const hi = words[2 * other + 1];
        if (format.kind(lo, hi, level) !== LEAF || format.leafPages(lo, hi, level) <= span * bit) continue;
        return format.leafPfn(lo, hi, level, page) * 4 + format.rights(lo, hi);
      }
      const lo = words[2 * index];
      const hi = words[2 * index + 1];
      if (format.kind(lo, hi, level) !== TABLE || format.childLevel(lo, level) >= level) return NOWHERE;
      node = this.#tables.tree.node(entryPfn(lo, hi));
    }
    return NOWHERE;
  }
}
