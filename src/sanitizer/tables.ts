/** What stores to the tables that hardware can reach (table-tree.ts) leave behind in caches, and what invalidations take of it. */
import type { PhysMem } from '../mem/index.ts';
import { LEAF, NONE, TABLE, entryPfn, spanPages } from './entry-format.ts';
import { ALL_ZERO, ALONE, goesOn, runLo, runStep } from './leaf-runs.ts';
import { StaleValues, TLB, WALK, orderAfter, orderOf } from './stale-values.ts';
import { leftToDevices } from './device-tlbs.ts';
import { Space } from './space.ts';
import type { TableNode } from './table-node.ts';
import { TableTree } from './table-tree.ts';
import type { Unit } from './unit.ts';

const ENTRIES = 512;
const RIGHTS_ALL = 3;
/** Entries of a cache line, lg2. */
const LINE_ORDER = 3;

/** A store under way, for the values that it makes stale. */
interface Store {
  paddr: number;
  newLo: number;
  newHi: number;
}

export class Tables {
  readonly values: StaleValues = new StaleValues();
  readonly spaces: Space[] = [];
  readonly tree: TableTree;
  readonly #mem: PhysMem;
  readonly #store: Store = { paddr: 0, newLo: 0, newHi: 0 };
  /** Counts what was seen; the order of events is all that matters. */
  step = 0;
  nowNs = 0;
  /** Unmaps under way are left to a flush queue. */
  lazy = false;
  /** Values that an invalidation under way may take: the first `#nrHits`. */
  readonly #hits: number[] = [];
  #nrHits = 0;
  /** Values whose store memory does not show yet. */
  readonly unsettled: Set<number> = new Set();

  constructor(mem: PhysMem) {
    this.#mem = mem;
    this.tree = new TableTree(mem, (space, node) => this.#readLate(space, node));
  }

  /** @param domainId -1 for the TLB of a device @param sid that device, else -1 */
  makeSpace(unit: Unit, domainId: number, sid: number): Space {
    const space = new Space(this.spaces.length, unit, domainId, sid);
    this.spaces.push(space);
    return space;
  }

  // Stores.

  /** Frames that hold entries of devices: units want to hear of stores there. */
  watchFrame(pfn: number): void {
    const slot = this.#mem.ensure(pfn);
    while (this.#isWatched.length <= slot) this.#isWatched.push(false);
    this.#isWatched[slot] = true;
  }

  /** By slot in the arena. */
  readonly #isWatched: boolean[] = [];

  /** Software stored words; `wordIndex` counts in the arena. @returns whether they may be in entries of devices */
  stored(wordIndex: number, nrWords: number): boolean {
    this.step += 1;
    const slot = wordIndex >>> 10;
    const node = this.tree.atSlot(slot);
    if (node === undefined) return slot < this.#isWatched.length && this.#isWatched[slot];
    const { words } = this.#mem;
    const first = (wordIndex & 1023) >>> 1;
    const last = ((wordIndex & 1023) + nrWords - 1) >>> 1;
    const page = wordIndex & -1024;
    if (node.level === 1) {
      this.#leavesStored(node, first, last, page);
      return false;
    }
    this.tree.version += 1;
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
    return false;
  }

  /** Level 1 entries: runs of them that changed alike go as one. @param page of the table, in the arena */
  #leavesStored(node: TableNode, first: number, last: number, page: number): void {
    const { words } = this.#mem;
    const { format, words: old } = node;
    for (let i = first, end = first; i <= last; i = end) {
      end = i + 1;
      const oldLo = old[2 * i];
      const oldHi = old[2 * i + 1];
      const newLo = words[page + 2 * i];
      const newHi = words[page + 2 * i + 1];
      if (oldLo === newLo && oldHi === newHi) continue;
      const oldStep = runStep(format, oldLo, oldHi);
      const newStep = runStep(format, newLo, newHi);
      old[2 * i] = newLo;
      old[2 * i + 1] = newHi;
      if (format.isSame(oldLo, oldHi, newLo, newHi)) continue;
      // Leaf to leaf: with different steps some entry could come out the same.
      const areAlike = oldStep === ALL_ZERO || newStep === ALL_ZERO || oldStep === newStep;
      if (areAlike && oldStep !== ALONE && newStep !== ALONE) {
        for (let nr = 1; end <= last; end++, nr++) {
          const at = page + 2 * end;
          if (!goesOn(old, 2 * end, oldLo, oldHi, oldStep, nr) || !goesOn(words, at, newLo, newHi, newStep, nr)) break;
          old[2 * end] = words[at];
          old[2 * end + 1] = words[at + 1];
        }
      }
      if (oldStep === ALONE || newStep === ALONE) this.#changed(node, i, oldLo, oldHi, newLo, newHi);
      else this.#runChanged(node, i, end, oldLo, oldHi, newLo, newHi);
    }
  }

  #runChanged(
    node: TableNode,
    from: number,
    to: number,
    oldLo: number,
    oldHi: number,
    newLo: number,
    newHi: number,
  ): void {
    const { format, spaces, base } = node;
    const wasNothing = (oldLo | oldHi) === 0;
    node.countPieces(oldLo, oldHi, from - to);
    node.countPieces(newLo, newHi, to - from);
    for (let s = 0; s < spaces.length; s++) {
      const space = spaces[s];
      const { cachesNotPresent, storesLag } = space.unit;
      if (wasNothing && !cachesNotPresent && !storesLag) continue;
      // Lines of memory are flushed one by one.
      const most = storesLag ? LINE_ORDER : 9;
      for (let i = from; i < to;) {
        const order = Math.min(most, 31 - Math.clz32(i === 0 ? ENTRIES : i & -i), 31 - Math.clz32(to - i));
        this.#store.paddr = node.pfn * 4096 + i * 8;
        this.#store.newLo = runLo(format, newLo, newHi, i - from);
        this.#store.newHi = newHi;
        const lo = runLo(format, oldLo, oldHi, i - from);
        this.#bornAs(
          order,
          space,
          TLB,
          1,
          base + i,
          1 << order,
          lo,
          oldHi,
          wasNothing ? RIGHTS_ALL : node.rights,
          !wasNothing || cachesNotPresent,
        );
        i += 1 << order;
      }
    }
  }

  /** Low word that a value had for one of its pages. */
  loAt(at: number, page: number): number {
    const { values } = this;
    const lo = values.lo[at];
    if (values.level[at] !== 1 || values.order[at] === 0) return lo;
    return runLo(this.spaces[values.space[at]].unit.format, lo, values.hi[at], page - values.home[at]);
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
    node.countPieces(oldLo, oldHi, -1);
    node.countPieces(newLo, newHi, 1);
    // By number, not by iterator: leaving takes spaces out.
    const nr = spaces.length;
    const childLevel = newKind === TABLE ? format.childLevel(newLo, level) : 0;
    if (newKind === TABLE && childLevel < level) {
      const rights = node.rights & format.rights(newLo, newHi);
      for (let s = 0; s < nr; s++) this.tree.reach(spaces[s], entryPfn(newLo, newHi), childLevel, first, rights);
    }
    for (let s = 0; s < nr; s++) {
      this.#madeStale(spaces[s], node, first, oldLo, oldHi, newLo, newHi);
    }
    if (oldKind === TABLE && format.childLevel(oldLo, level) < level) {
      for (const space of spaces.slice(0, nr)) this.tree.leave(space, entryPfn(oldLo, oldHi));
    }
  }

  /** What a space's caches may still hold of an entry. */
  #madeStale(
    space: Space,
    node: TableNode,
    first: number,
    oldLo: number,
    oldHi: number,
    newLo: number,
    newHi: number,
  ): void {
    const { format, level } = node;
    const span = spanPages(level);
    const oldKind = format.kind(oldLo, oldHi, level);
    const newKind = format.kind(newLo, newHi, level);
    if (oldKind === NONE) this.#wasNothing(space, level, first, span, oldLo, oldHi, newKind, newLo, newHi);
    else if (oldKind === LEAF) this.#born(space, TLB, level, first, span, oldLo, oldHi, node.rights, true);
    else this.#wasTable(space, node, level, first, span, oldLo, oldHi, newKind, newLo, newHi);
  }

  /** A unit that does not snoop comes to a table: what was stored there and not flushed it does not see yet. */
  #readLate(space: Space, node: TableNode): void {
    if (!space.unit.storesLag || this.#mem.coherent) return;
    const { deviceWords } = this.#mem;
    const { words, format, level } = node;
    const page = this.#mem.slotOf(node.pfn) << 10;
    // The store that put the table there may be under way.
    const { paddr, newLo: storedLo, newHi: storedHi } = this.#store;
    for (let i = 0; i < ENTRIES; i++) {
      const oldLo = deviceWords[page + 2 * i];
      const oldHi = deviceWords[page + 2 * i + 1];
      const newLo = words[2 * i];
      const newHi = words[2 * i + 1];
      if ((oldLo === newLo && oldHi === newHi) || format.isSame(oldLo, oldHi, newLo, newHi)) continue;
      this.#store.paddr = node.pfn * 4096 + i * 8;
      this.#store.newLo = newLo;
      this.#store.newHi = newHi;
      this.#madeStale(space, node, node.base + i * spanPages(level), oldLo, oldHi, newLo, newHi);
    }
    this.#store.paddr = paddr;
    this.#store.newLo = storedLo;
    this.#store.newHi = storedHi;
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
    const child = this.tree.node(entryPfn(newLo, newHi));
    if (child === undefined || !cached) return;
    this.tree.eachLeaf(child, (page, leafLevel) => {
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
    newLo: number,
    newHi: number,
  ): void {
    this.#born(space, WALK, level, first, span, oldLo, oldHi, node.rights, true);
    const child = this.tree.node(entryPfn(oldLo, oldHi));
    if (child === undefined) return;
    this.tree.eachLeaf(child, (page, leafLevel, lo, hi, rights) => {
      this.#born(space, TLB, leafLevel, page, spanPages(leafLevel), lo, hi, rights, true);
    });
    if (!space.unit.cachesNotPresent) return;
    // Pages that the old table had nothing for may be cached as such.
    if (newKind === LEAF) this.#born(space, TLB, level, first, span, 0, 0, RIGHTS_ALL, true);
    const other = newKind === TABLE ? this.tree.node(entryPfn(newLo, newHi)) : undefined;
    if (other !== undefined) this.#holes(space, child, other);
  }

  /** A table gives way to another one: what only the new one has may be cached as not present. */
  #holes(space: Space, old: TableNode, node: TableNode): void {
    const { level, words, format } = node;
    if (old.level !== level) return;
    const span = spanPages(level);
    for (let i = 0; i < ENTRIES; i++) {
      const oldLo = old.words[2 * i];
      const oldHi = old.words[2 * i + 1];
      const lo = words[2 * i];
      const hi = words[2 * i + 1];
      const kind = format.kind(lo, hi, level);
      if (kind === NONE) continue;
      const oldKind = format.kind(oldLo, oldHi, level);
      if (oldKind === NONE) this.#wasNothing(space, level, node.base + i * span, span, oldLo, oldHi, kind, lo, hi);
      if (oldKind !== TABLE || kind !== TABLE || level === 1) continue;
      const oldChild = this.tree.node(entryPfn(oldLo, oldHi));
      const child = this.tree.node(entryPfn(lo, hi));
      if (oldChild !== undefined && child !== undefined) this.#holes(space, oldChild, child);
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
    this.#bornAs(orderOf(level), space, cls, level, page, pages, lo, hi, rights, cached);
  }

  #bornAs(
    order: number,
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
    let at = space.nrOfOrder[order] === 0 ? -1 : values.firstAt(space.id, cls, order, page);
    while (
      at >= 0 &&
      !(
        values.lo[at] === lo &&
        values.hi[at] === hi &&
        values.rights[at] === rights &&
        values.level[at] === level &&
        values.cached[at] === (cached ? 1 : 0) &&
        values.page[at] === page &&
        values.pages[at] === pages
      )
    ) {
      at = values.nextAt(at);
    }
    if (at < 0) {
      at = values.insert(space.id, cls, order, page);
      values.level[at] = level;
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
    if (this.lazy && this.nowNs < space.lazySinceNs) space.lazySinceNs = this.nowNs;
    values.paddr[at] = this.#store.paddr;
    values.newLo[at] = this.#store.newLo;
    values.newHi[at] = this.#store.newHi;
    if (space.unit.storesLag) {
      values.settled[at] = Infinity;
      this.unsettled.add(at);
    } else {
      values.settled[at] = this.step;
      if (this.unsettled.size > 0) this.unsettled.delete(at);
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
    if (holds) this.tree.reach(space, pfn, childLevel, values.home[at], values.rights[at] & format.rights(lo, hi));
    else this.tree.leave(space, pfn);
  }

  /** A value can no longer be held by anything. */
  drop(at: number): void {
    const { values } = this;
    const space = this.spaces[values.space[at]];
    space.leave(values, at);
    if (this.unsettled.size > 0) this.unsettled.delete(at);
    if (values.cls[at] === WALK) this.#holdTable(space, at, false);
    values.remove(at);
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
      const child = this.tree.node(entryPfn(lo, hi));
      if (child !== undefined) {
        this.tree.eachLeaf(child, (page, leafLevel, leafLo, leafHi, rights) => {
          if (outside(page, spanPages(leafLevel)) && !this.tree.isCurrent(space, page, leafLo, leafHi)) {
            born(page, leafLevel, leafLo, leafHi, rights);
          }
        });
      }
    } else if (space.unit.cachesNotPresent) {
      const current = this.tree.childAt(space, level, first);
      if (current !== undefined) {
        this.tree.eachLeaf(current, (page, leafLevel) => {
          if (outside(page, spanPages(leafLevel))) born(page, leafLevel, 0, 0, RIGHTS_ALL);
        });
      }
    }
    this.step = before;
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
    this.#nrHits = 0;
    const top = orderOf(space.unit.levels);
    for (let order = 0; order <= top; order = orderAfter(order)) {
      if (space.nrOfOrder[order] === 0) continue;
      const span = 2 ** order;
      const last = to - 1 - ((to - 1) % span);
      for (let home = from - (from % span); home <= last; home += span) {
        for (let cls = TLB; cls <= WALK; cls++) {
          for (let at = values.firstAt(space.id, cls, order, home); at >= 0; at = values.nextAt(at)) this.#hit(at);
        }
      }
    }
    this.#coverHits(space, from, to, leavesOnly, step);
  }

  #coverAll(space: Space, from: number, to: number, leavesOnly: boolean, step: number): void {
    this.#nrHits = 0;
    for (let at = space.oldest; at >= 0; at = this.values.newer[at]) this.#hit(at);
    this.#coverHits(space, from, to, leavesOnly, step);
  }

  #hit(at: number): void {
    const index = this.#nrHits++;
    if (index < this.#hits.length) this.#hits[index] = at;
    else this.#hits.push(at);
  }

  /** Listed first: what a dying copy of an entry leaves behind is entered while it dies, and moves values about. */
  #coverHits(space: Space, from: number, to: number, leavesOnly: boolean, step: number): void {
    const hits = this.#hits;
    const nr = this.#nrHits;
    for (let i = 0; i < nr; i++) {
      if (this.values.space[hits[i]] === space.id) this.#cover(hits[i], from, to, leavesOnly, step);
    }
  }

  /** Takes what is older than an invalidation of a whole space. */
  dropSpace(space: Space, leavesOnly: boolean, step: number): void {
    if (space.nrLive > 0) this.#coverAll(space, 0, Infinity, leavesOnly, step);
    if (leavesOnly || space.oldRoots.length === 0) return;
    const gone = space.oldRoots.filter((root) => root.step < step);
    space.oldRoots = space.oldRoots.filter((root) => root.step >= step);
    for (const root of gone) this.tree.leave(space, root.pfn);
  }

  #cover(at: number, from: number, to: number, leavesOnly: boolean, step: number): void {
    const { values } = this;
    if (values.settled[at] >= step || values.cached[at] === 0) return;
    const page = values.page[at];
    const end = page + values.pages[at];
    if (page >= to || end <= from) return;
    const space = this.spaces[values.space[at]];
    if (space.deviceTlbs.length > 0 && (values.cls[at] === TLB || !leavesOnly)) {
      leftToDevices(this.tree, values, space, at, Math.max(page, from), Math.min(end, to), step);
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

  /** Takes a part out of a range that is cached as several pieces. */
  #cut(at: number, from: number, to: number): void {
    const { values } = this;
    const page = values.page[at];
    const end = page + values.pages[at];
    if (page < from && end > to) {
      const rest = values.insert(values.space[at], TLB, values.order[at], values.home[at]);
      for (const field of [
        values.level,
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
