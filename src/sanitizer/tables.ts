/**
 * The page tables that hardware can reach, and what stores to them leave behind. A table page is known from the moment on at
 * which an entry that hardware can reach leads to it, until no entry and no stale copy of one does.
 *
 * The words of a known page are kept here as well: the observer of stores hears of a store after it was made, and what a cache
 * may hold is what was there before.
 */
import type { PhysMem } from '../mem/index.ts';
import { LEAF, NONE, TABLE, entryPfn, spanPages } from './entry-format.ts';
import { StaleValues, TLB, WALK } from './stale-values.ts';
import { Space } from './space.ts';
import { TableNode } from './table-node.ts';
import type { Unit } from './unit.ts';

const ENTRIES = 512;
const RIGHTS_ALL = 3;

/** A store under way, for the values that it makes stale. */
interface Store {
  paddr: number;
  newLo: number;
  newHi: number;
}

export class Tables {
  readonly values: StaleValues = new StaleValues();
  readonly spaces: Space[] = [];
  readonly #mem: PhysMem;
  readonly #nodes = new Map<number, TableNode>();
  /** Nodes by arena slot, since stores come by word index. */
  readonly #bySlot: (TableNode | undefined)[] = [];
  readonly #store: Store = { paddr: 0, newLo: 0, newHi: 0 };
  /** Counts what was seen; the order of events is all that matters. */
  step = 0;
  nowNs = 0;
  /** Unmaps under way are left to a flush queue. */
  lazy = false;
  /** Values that an invalidation under way may take. */
  readonly #hits: number[] = [];
  /** Values whose store memory does not show yet. */
  readonly unsettled: Set<number> = new Set();

  constructor(mem: PhysMem) {
    this.#mem = mem;
  }

  get nrTables(): number {
    return this.#nodes.size;
  }

  node(pfn: number): TableNode | undefined {
    return this.#nodes.get(pfn);
  }

  /** @param domainId -1 for the TLB of a device @param sid that device, else -1 */
  makeSpace(unit: Unit, domainId: number, sid: number): Space {
    const space = new Space(this.spaces.length, unit, domainId, sid);
    this.spaces.push(space);
    return space;
  }

  // Ways: entries that lead to a table.

  /** An entry, current or stale, leads to a table for a space. */
  reach(space: Space, pfn: number, level: number, base: number, rights: number): void {
    let node = this.#nodes.get(pfn);
    if (node === undefined) {
      const slot = this.#mem.ensure(pfn);
      const words = this.#mem.words.slice(slot << 10, (slot + 1) << 10);
      node = new TableNode(pfn, level, base, rights, space.unit.format, words);
      this.#nodes.set(pfn, node);
      this.#bySlot[slot] = node;
    }
    const at = node.spaces.indexOf(space);
    if (at >= 0) {
      node.ways[at] += 1;
      node.rights = rights;
      return;
    }
    node.rights = rights;
    node.spaces.push(space);
    node.ways.push(1);
    this.#eachTable(node, (child, childLevel, first, childRights) =>
      this.reach(space, child, childLevel, first, childRights),
    );
  }

  /** One way less. */
  leave(space: Space, pfn: number): void {
    const node = this.#nodes.get(pfn);
    const at = node === undefined ? -1 : node.spaces.indexOf(space);
    if (node === undefined || at < 0) return;
    node.ways[at] -= 1;
    if (node.ways[at] > 0) return;
    node.spaces.splice(at, 1);
    node.ways.splice(at, 1);
    this.#eachTable(node, (child) => this.leave(space, child));
    if (node.spaces.length > 0) return;
    this.#nodes.delete(pfn);
    this.#bySlot[this.#mem.slotOf(pfn)] = undefined;
  }

  #eachTable(node: TableNode, seen: (pfn: number, level: number, base: number, rights: number) => void): void {
    const { words, level, format } = node;
    if (level <= 1) return;
    const span = spanPages(level);
    for (let i = 0; i < ENTRIES; i++) {
      const lo = words[2 * i];
      const hi = words[2 * i + 1];
      if ((lo | hi) === 0 || format.kind(lo, hi, level) !== TABLE) continue;
      const childLevel = format.childLevel(lo, level);
      // An entry that does not lead down leads nowhere: hardware faults.
      if (childLevel >= level) continue;
      seen(entryPfn(lo, hi), childLevel, node.base + i * span, node.rights & format.rights(lo, hi));
    }
  }

  /** The leaves at and below a table, as they are now. */
  eachLeaf(node: TableNode, seen: (page: number, level: number, lo: number, hi: number, rights: number) => void): void {
    const { words, level, format } = node;
    const span = spanPages(level);
    for (let i = 0; i < ENTRIES; i++) {
      const lo = words[2 * i];
      const hi = words[2 * i + 1];
      if ((lo | hi) === 0) continue;
      const kind = format.kind(lo, hi, level);
      if (kind === LEAF) seen(node.base + i * span, level, lo, hi, node.rights);
      else if (kind === TABLE && level > 1) {
        const child = this.#nodes.get(entryPfn(lo, hi));
        if (child !== undefined && child.level < level) this.eachLeaf(child, seen);
      }
    }
  }

  // Stores.

  /** Software stored words; `wordIndex` counts in the arena. @returns whether they are in a table */
  stored(wordIndex: number, nrWords: number): boolean {
    this.step += 1;
    const node = this.#bySlot[wordIndex >>> 10];
    if (node === undefined) return false;
    const { words } = this.#mem;
    const first = (wordIndex & 1023) >>> 1;
    const last = ((wordIndex & 1023) + nrWords - 1) >>> 1;
    const page = wordIndex & -1024;
    for (let i = first; i <= last; i++) {
      const oldLo = node.words[2 * i];
      const oldHi = node.words[2 * i + 1];
      const newLo = words[page + 2 * i];
      const newHi = words[page + 2 * i + 1];
      if (oldLo === newLo && oldHi === newHi) continue;
      node.words[2 * i] = newLo;
      node.words[2 * i + 1] = newHi;
      if (!node.format.isSame(oldLo, oldHi, newLo, newHi)) this.#changed(node, i, oldLo, oldHi, newLo, newHi);
    }
    return true;
  }

  #changed(node: TableNode, index: number, oldLo: number, oldHi: number, newLo: number, newHi: number): void {
    const { format, level, spaces } = node;
    const span = spanPages(level);
    const first = node.base + index * span;
    const oldKind = format.kind(oldLo, oldHi, level);
    const newKind = format.kind(newLo, newHi, level);
    this.#store.paddr = node.pfn * 4096 + index * 8;
    this.#store.newLo = newLo;
    this.#store.newHi = newHi;
    // By number, not by iterator: leaving takes spaces out.
    const nr = spaces.length;
    const childLevel = newKind === TABLE ? format.childLevel(newLo, level) : 0;
    if (newKind === TABLE && childLevel < level) {
      const rights = node.rights & format.rights(newLo, newHi);
      for (let s = 0; s < nr; s++) this.reach(spaces[s], entryPfn(newLo, newHi), childLevel, first, rights);
    }
    for (let s = 0; s < nr; s++) {
      const space = spaces[s];
      if (oldKind === NONE) this.#wasNothing(space, level, first, span, oldLo, oldHi, newKind, newLo, newHi);
      else if (oldKind === LEAF) this.#born(space, TLB, level, first, span, oldLo, oldHi, node.rights, true);
      else this.#wasTable(space, node, level, first, span, oldLo, oldHi, newKind);
    }
    if (oldKind === TABLE && format.childLevel(oldLo, level) < level) {
      for (const space of spaces.slice(0, nr)) this.leave(space, entryPfn(oldLo, oldHi));
    }
  }

  #wasNothing(
    space: Space,
    level: number,
    first: number,
    span: number,
    oldLo: number,
    oldHi: number,
    newKind: number,
    newLo: number,
    newHi: number,
  ): void {
    const cached = space.unit.cachesNotPresent;
    if (!cached && !space.unit.storesLag) return;
    if (level > 1) this.#born(space, WALK, level, first, span, oldLo, oldHi, RIGHTS_ALL, cached);
    if (newKind === LEAF) this.#born(space, TLB, level, first, span, 0, 0, RIGHTS_ALL, cached);
    if (newKind !== TABLE) return;
    const child = this.#nodes.get(entryPfn(newLo, newHi));
    if (child === undefined || !cached) return;
    this.eachLeaf(child, (page, leafLevel) => {
      this.#born(space, TLB, leafLevel, page, spanPages(leafLevel), 0, 0, RIGHTS_ALL, cached);
    });
  }

  #wasTable(
    space: Space,
    node: TableNode,
    level: number,
    first: number,
    span: number,
    oldLo: number,
    oldHi: number,
    newKind: number,
  ): void {
    this.#born(space, WALK, level, first, span, oldLo, oldHi, node.rights, true);
    const child = this.#nodes.get(entryPfn(oldLo, oldHi));
    if (child === undefined) return;
    this.eachLeaf(child, (page, leafLevel, lo, hi, rights) => {
      this.#born(space, TLB, leafLevel, page, spanPages(leafLevel), lo, hi, rights, true);
    });
    // Pages that the old table had nothing for may be cached as such.
    if (newKind === LEAF && space.unit.cachesNotPresent) {
      this.#born(space, TLB, level, first, span, 0, 0, RIGHTS_ALL, true);
    }
  }

  /** Enters a stale value, or makes the one that is there already as young as this store. */
  #born(
    space: Space,
    cls: number,
    level: number,
    page: number,
    pages: number,
    lo: number,
    hi: number,
    rights: number,
    cached: boolean,
  ): void {
    const { values } = this;
    let at = values.firstAt(space.id, cls, level, page);
    while (
      at >= 0 &&
      !(
        values.lo[at] === lo &&
        values.hi[at] === hi &&
        values.rights[at] === rights &&
        values.cached[at] === (cached ? 1 : 0) &&
        values.page[at] === page &&
        values.pages[at] === pages
      )
    ) {
      at = values.nextAt(at);
    }
    if (at < 0) {
      at = values.insert(space.id, cls, level, page);
      values.page[at] = page;
      values.pages[at] = pages;
      values.lo[at] = lo;
      values.hi[at] = hi;
      values.rights[at] = rights;
      values.cached[at] = cached ? 1 : 0;
      if (cls === WALK) this.#holdTable(space, at, true);
    } else {
      space.leave(values, at);
    }
    space.enter(values, at);
    values.step[at] = this.step;
    values.lazy[at] = this.lazy ? 1 : 0;
    values.timeNs[at] = this.nowNs;
    values.paddr[at] = this.#store.paddr;
    values.newLo[at] = this.#store.newLo;
    values.newHi[at] = this.#store.newHi;
    if (space.unit.storesLag) {
      values.settled[at] = Infinity;
      this.unsettled.add(at);
    } else {
      values.settled[at] = this.step;
      this.unsettled.delete(at);
      // Nothing lags and nothing is cached.
      if (!cached) this.drop(at);
    }
  }

  /** A stale copy of an entry keeps the table that it leads to. */
  #holdTable(space: Space, at: number, holds: boolean): void {
    const { values } = this;
    const { format } = space.unit;
    const lo = values.lo[at];
    const hi = values.hi[at];
    const level = values.level[at];
    if (format.kind(lo, hi, level) !== TABLE) return;
    const childLevel = format.childLevel(lo, level);
    if (childLevel >= level) return;
    const pfn = entryPfn(lo, hi);
    if (holds) this.reach(space, pfn, childLevel, values.home[at], values.rights[at] & format.rights(lo, hi));
    else this.leave(space, pfn);
  }

  /** A value can no longer be held by anything. */
  drop(at: number): void {
    const { values } = this;
    const space = this.spaces[values.space[at]];
    space.leave(values, at);
    this.unsettled.delete(at);
    if (values.cls[at] === WALK) this.#holdTable(space, at, false);
    values.remove(at);
  }

  /** A stale copy of an entry that leads to a frame, -1 for none. */
  pointerTo(pfn: number): number {
    const { values } = this;
    for (const space of this.spaces) {
      for (let at = space.newest; at >= 0; at = values.older[at]) {
        if (values.cls[at] !== WALK || entryPfn(values.lo[at], values.hi[at]) !== pfn) continue;
        if (space.unit.format.kind(values.lo[at], values.hi[at], values.level[at]) === TABLE) return at;
      }
    }
    return -1;
  }

  /** Leaf values that a copy of an entry may have put into the TLB outside of the pages that an invalidation covered. */
  #spill(at: number, from: number, to: number, step: number): void {
    const { values } = this;
    const space = this.spaces[values.space[at]];
    const { format } = space.unit;
    const lo = values.lo[at];
    const hi = values.hi[at];
    const level = values.level[at];
    const first = values.home[at];
    const outside = (page: number, pages: number): boolean => page < from || page + pages > to;
    const wasTable = format.kind(lo, hi, level) === TABLE;
    const born = (page: number, leafLevel: number, leafLo: number, leafHi: number, rights: number): void => {
      this.#born(space, TLB, leafLevel, page, spanPages(leafLevel), leafLo, leafHi, rights, true);
    };
    const before = this.step;
    this.step = step;
    this.#store.paddr = values.paddr[at];
    this.#store.newLo = values.newLo[at];
    this.#store.newHi = values.newHi[at];
    if (wasTable) {
      const child = this.#nodes.get(entryPfn(lo, hi));
      if (child !== undefined) {
        this.eachLeaf(child, (page, leafLevel, leafLo, leafHi, rights) => {
          if (outside(page, spanPages(leafLevel)) && !this.#isCurrent(space, page, leafLo, leafHi)) {
            born(page, leafLevel, leafLo, leafHi, rights);
          }
        });
      }
    } else if (space.unit.cachesNotPresent) {
      const current = this.#childAt(space, level, first);
      if (current !== undefined) {
        this.eachLeaf(current, (page, leafLevel) => {
          if (outside(page, spanPages(leafLevel))) born(page, leafLevel, 0, 0, RIGHTS_ALL);
        });
      }
    }
    this.step = before;
  }

  /** The table that the entry of a level leads to now, in the tree of a space. */
  #childAt(space: Space, level: number, page: number): TableNode | undefined {
    for (const pfn of space.roots.keys()) {
      let node = this.#nodes.get(pfn);
      while (node !== undefined && node.level >= level) {
        const index = ((page - node.base) / spanPages(node.level)) & (ENTRIES - 1);
        const lo = node.words[2 * index];
        const hi = node.words[2 * index + 1];
        if (node.format.kind(lo, hi, node.level) !== TABLE) return undefined;
        const child = this.#nodes.get(entryPfn(lo, hi));
        if (node.level === level) return child;
        node = child !== undefined && child.level < node.level ? child : undefined;
      }
    }
    return undefined;
  }

  /** Whether the tables give this very leaf for a page now. */
  #isCurrent(space: Space, page: number, lo: number, hi: number): boolean {
    const table = this.#childAt(space, 2, page);
    if (table === undefined || table.level !== 1) return false;
    const index = page % ENTRIES;
    return table.format.isSame(lo, hi, table.words[2 * index], table.words[2 * index + 1]);
  }

  // Invalidations.

  /** Takes what a range invalidation of a space covers. @param leavesOnly copies of entries above the leaves stay */
  dropPages(space: Space, from: number, pages: number, leavesOnly: boolean, step: number): void {
    if (space.nrLive === 0) return;
    const to = from + pages;
    const { values } = this;
    if (pages > 64 || space.nrLive < 16) {
      this.#coverAll(space, from, to, leavesOnly, step);
      return;
    }
    const hits = this.#hits;
    hits.length = 0;
    for (let level = 1; level <= space.unit.levels; level++) {
      const span = spanPages(level);
      const last = to - 1 - ((to - 1) % span);
      for (let home = from - (from % span); home <= last; home += span) {
        for (let cls = TLB; cls <= WALK; cls++) {
          for (let at = values.firstAt(space.id, cls, level, home); at >= 0; at = values.nextAt(at)) hits.push(at);
        }
      }
    }
    this.#coverHits(space, from, to, leavesOnly, step);
  }

  #coverAll(space: Space, from: number, to: number, leavesOnly: boolean, step: number): void {
    this.#hits.length = 0;
    for (let at = space.oldest; at >= 0; at = this.values.newer[at]) this.#hits.push(at);
    this.#coverHits(space, from, to, leavesOnly, step);
  }

  /** Listed first: what a dying copy of an entry leaves behind is entered while it dies, and moves values about. */
  #coverHits(space: Space, from: number, to: number, leavesOnly: boolean, step: number): void {
    const hits = this.#hits;
    for (let i = 0; i < hits.length; i++) {
      if (this.values.space[hits[i]] === space.id) this.#cover(hits[i], from, to, leavesOnly, step);
    }
  }

  /** Takes what is older than an invalidation of a whole space. */
  dropSpace(space: Space, leavesOnly: boolean, step: number): void {
    if (space.nrLive > 0) this.#coverAll(space, 0, Infinity, leavesOnly, step);
    if (leavesOnly || space.oldRoots.length === 0) return;
    const gone = space.oldRoots.filter((root) => root.step < step);
    space.oldRoots = space.oldRoots.filter((root) => root.step >= step);
    for (const root of gone) this.leave(space, root.pfn);
  }

  #cover(at: number, from: number, to: number, leavesOnly: boolean, step: number): void {
    const { values } = this;
    if (values.step[at] >= step || values.settled[at] >= step || values.cached[at] === 0) return;
    const page = values.page[at];
    const end = page + values.pages[at];
    if (page >= to || end <= from) return;
    const space = this.spaces[values.space[at]];
    if (space.deviceTlbs.length > 0 && (values.cls[at] === TLB || !leavesOnly)) {
      this.#leftToDevices(space, at, Math.max(page, from), Math.min(end, to), step);
    }
    if (values.cls[at] === WALK) {
      if (leavesOnly) return;
      if (page < from || end > to) this.#spill(at, from, to, step);
      this.drop(at);
    } else if (page >= from && end <= to) {
      this.drop(at);
    } else {
      this.#cut(at, from, to);
    }
  }

  /**
   * An invalidation takes a value from the unit. Devices could ask for the translations in it until then, whatever was sent to
   * them before, so that only now they can lose them. While the unit holds the value, theirs make no difference.
   */
  #leftToDevices(space: Space, at: number, from: number, to: number, step: number): void {
    const { values } = this;
    const lo = values.lo[at];
    const hi = values.hi[at];
    const level = values.level[at];
    const kind = space.unit.format.kind(lo, hi, level);
    if (values.cls[at] === TLB) {
      if (kind === LEAF)
        this.#leftToDevice(space, at, level, values.home[at], from, to, lo, hi, values.rights[at], step);
      return;
    }
    const child = kind === TABLE ? this.#nodes.get(entryPfn(lo, hi)) : undefined;
    if (child === undefined) return;
    this.eachLeaf(child, (page, leafLevel, leafLo, leafHi, rights) => {
      const first = Math.max(page, from);
      const end = Math.min(page + spanPages(leafLevel), to);
      if (first >= end || this.#isCurrent(space, page, leafLo, leafHi)) return;
      this.#leftToDevice(space, at, leafLevel, page, first, end, leafLo, leafHi, rights, step);
    });
  }

  /** @param at value of the unit that it comes from @param home first page of the entry @param step until when the unit gave it */
  #leftToDevice(
    space: Space,
    at: number,
    level: number,
    home: number,
    from: number,
    to: number,
    lo: number,
    hi: number,
    rights: number,
    step: number,
  ): void {
    const { values } = this;
    for (const tlb of space.deviceTlbs) {
      let held = values.firstAt(tlb.id, TLB, level, home);
      while (
        held >= 0 &&
        !(
          values.lo[held] === lo &&
          values.hi[held] === hi &&
          values.rights[held] === rights &&
          values.page[held] === from &&
          values.pages[held] === to - from
        )
      ) {
        held = values.nextAt(held);
      }
      if (held < 0) {
        held = values.insert(tlb.id, TLB, level, home);
        values.page[held] = from;
        values.pages[held] = to - from;
        values.lo[held] = lo;
        values.hi[held] = hi;
        values.rights[held] = rights;
      } else tlb.leave(values, held);
      tlb.enter(values, held);
      values.cached[held] = 1;
      values.step[held] = step;
      values.settled[held] = step;
      values.lazy[held] = values.lazy[at];
      values.timeNs[held] = values.timeNs[at];
      values.paddr[held] = values.paddr[at];
      values.newLo[held] = values.newLo[at];
      values.newHi[held] = values.newHi[at];
    }
  }

  /** Takes a part out of a range that is cached as several pieces. */
  #cut(at: number, from: number, to: number): void {
    const { values } = this;
    const page = values.page[at];
    const end = page + values.pages[at];
    if (page < from && end > to) {
      const rest = values.insert(values.space[at], TLB, values.level[at], values.home[at]);
      for (const field of [
        values.lo,
        values.hi,
        values.rights,
        values.step,
        values.settled,
        values.cached,
        values.lazy,
      ]) {
        field[rest] = field[at];
      }
      for (const field of [values.timeNs, values.paddr, values.newLo, values.newHi]) field[rest] = field[at];
      values.page[rest] = to;
      values.pages[rest] = end - to;
      this.spaces[values.space[at]].enter(values, rest);
      values.pages[at] = from - page;
    } else if (page < from) {
      values.pages[at] = from - page;
    } else {
      values.page[at] = to;
      values.pages[at] = end - to;
    }
  }

  // Memory that lags.

  /** Stores of a range were pushed to memory. */
  flushed(paddr: number, nrBytes: number): void {
    this.step += 1;
    if (this.unsettled.size === 0) return;
    const { values } = this;
    const line = 64;
    const from = paddr - (paddr % line);
    for (const at of this.unsettled) {
      if (values.paddr[at] >= from && values.paddr[at] < paddr + nrBytes) this.#settle(at, this.step);
    }
  }

  /** A write buffer was emptied at a step. @param unit whose walker reads behind it */
  drained(unit: Unit, step: number): void {
    const { values } = this;
    for (const at of this.unsettled) {
      if (this.spaces[values.space[at]].unit === unit && values.step[at] < step) this.#settle(at, values.step[at]);
    }
  }

  #settle(at: number, step: number): void {
    this.unsettled.delete(at);
    this.values.settled[at] = step;
    if (this.values.cached[at] === 0) this.drop(at);
  }
}
