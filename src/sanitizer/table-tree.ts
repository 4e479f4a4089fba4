/**
 * The table pages that hardware can reach. One is known from the moment on at which an entry that hardware can reach leads to
 * it, until no entry and no stale copy of one does.
 *
 * The words of a known page are kept here as well: the observer of stores hears of a store after it was made, and what a cache
 * may hold is what was there before.
 */
import type { PhysMem } from '../mem/index.ts';
import { LEAF, TABLE, entryPfn, spanPages } from './entry-format.ts';
import type { Space } from './space.ts';
import { TableNode } from './table-node.ts';

const ENTRIES = 512;

export class TableTree {
  readonly #mem: PhysMem;
  readonly #reached: (space: Space, node: TableNode) => void;
  /** By slot of their page in the arena, since stores come by word index. */
  readonly #bySlot: (TableNode | undefined)[] = [];
  /** Number of tables. */
  size = 0;
  /** Changes with every entry above level 1 and with every table that comes or goes. */
  version = 0;

  /** @param reached hears of a space that comes to a table which it did not know, before those below it */
  constructor(mem: PhysMem, reached: (space: Space, node: TableNode) => void) {
    this.#mem = mem;
    this.#reached = reached;
  }

  node(pfn: number): TableNode | undefined {
    return this.atSlot(this.#mem.slotOf(pfn));
  }

  /** @param slot of a page in the arena of memory, -1 for none */
  atSlot(slot: number): TableNode | undefined {
    return slot >= 0 && slot < this.#bySlot.length ? this.#bySlot[slot] : undefined;
  }

  // Ways: entries that lead to a table.

  /** An entry, current or stale, leads to a table for a space. */
  reach(space: Space, pfn: number, level: number, base: number, rights: number): void {
    let node = this.node(pfn);
    if (node === undefined) {
      const slot = this.#mem.ensure(pfn);
      const words = this.#mem.words.slice(slot << 10, (slot + 1) << 10);
      node = new TableNode(pfn, level, base, rights, space.unit.format, words);
      while (this.#bySlot.length <= slot) this.#bySlot.push(undefined);
      this.#bySlot[slot] = node;
      this.size += 1;
      this.version += 1;
      for (let i = 0; i < ENTRIES; i++) node.countPieces(words[2 * i], words[2 * i + 1], 1);
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
    this.#reached(space, node);
    this.#eachTable(node, (child, childLevel, first, childRights) =>
      this.reach(space, child, childLevel, first, childRights),
    );
  }

  /** One way less. */
  leave(space: Space, pfn: number): void {
    const node = this.node(pfn);
    const at = node === undefined ? -1 : node.spaces.indexOf(space);
    if (node === undefined || at < 0) return;
    node.ways[at] -= 1;
    if (node.ways[at] > 0) return;
    node.spaces.splice(at, 1);
    node.ways.splice(at, 1);
    this.#eachTable(node, (child) => this.leave(space, child));
    if (node.spaces.length > 0) return;
    this.#bySlot[this.#mem.slotOf(pfn)] = undefined;
    this.size -= 1;
    this.version += 1;
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
        const child = this.node(entryPfn(lo, hi));
        if (child !== undefined && child.level < level) this.eachLeaf(child, seen);
      }
    }
  }

  /** The table that the entry of a level leads to now, in the tree of a space. */
  childAt(space: Space, level: number, page: number): TableNode | undefined {
    for (const pfn of space.roots.keys()) {
      let node = this.node(pfn);
      while (node !== undefined && node.level >= level) {
        const index = ((page - node.base) / spanPages(node.level)) & (ENTRIES - 1);
        const lo = node.words[2 * index];
        const hi = node.words[2 * index + 1];
        if (node.format.kind(lo, hi, node.level) !== TABLE) return undefined;
        const child = this.node(entryPfn(lo, hi));
        if (node.level === level) return child;
        node = child !== undefined && child.level < node.level ? child : undefined;
      }
    }
    return undefined;
  }

  /** Whether the tables give this very leaf for a page now. */
  isCurrent(space: Space, page: number, lo: number, hi: number): boolean {
    const table = this.childAt(space, 2, page);
    if (table === undefined || table.level !== 1) return false;
    const index = page % ENTRIES;
    return table.format.isSame(lo, hi, table.words[2 * index], table.words[2 * index + 1]);
  }
}
