/** What TLBs of devices (ATS) may hold: translations that the unit held itself until an invalidation took them. */
import { LEAF, TABLE, entryPfn, spanPages } from './entry-format.ts';
import type { Space } from './space.ts';
import type { StaleValues } from './stale-values.ts';
import { TLB, orderOf } from './stale-values.ts';
import type { TableTree } from './table-tree.ts';

/**
 * Enters into the TLBs of devices what an invalidation takes from the unit.
 *
 * @param at value of the unit that it comes from
 * @param home first page of the entry
 * @param step until when the unit gave it
 */
function leftToDevice(
  values: StaleValues,
  space: Space,
  at: number,
  order: number,
  level: number,
  home: number,
  from: number,
  to: number,
  lo: number,
  hi: number,
  rights: number,
  step: number,
): void {
  for (const tlb of space.deviceTlbs) {
    let held = values.firstAt(tlb.id, TLB, order, home);
    while (
      held >= 0 &&
      !(
        values.lo[held] === lo &&
        values.hi[held] === hi &&
        values.rights[held] === rights &&
        values.level[held] === level &&
        values.page[held] === from &&
        values.pages[held] === to - from
      )
    ) {
      held = values.nextAt(held);
    }
    if (held < 0) {
      held = values.insert(tlb.id, TLB, order, home);
      values.level[held] = level;
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

/**
 * An invalidation takes a value from the unit. Devices could ask for the translations in it until then, whatever was sent to
 * them before, so that only now they can lose them. While the unit holds the value, theirs make no difference.
 */
export function leftToDevices(
  tree: TableTree,
  values: StaleValues,
  space: Space,
  at: number,
  from: number,
  to: number,
  step: number,
): void {
  const lo = values.lo[at];
  const hi = values.hi[at];
  const level = values.level[at];
  const kind = space.unit.format.kind(lo, hi, level);
  if (values.cls[at] === TLB) {
    if (kind !== LEAF) return;
    const { order, home, rights } = values;
    leftToDevice(values, space, at, order[at], level, home[at], from, to, lo, hi, rights[at], step);
    return;
  }
  const child = kind === TABLE ? tree.node(entryPfn(lo, hi)) : undefined;
  if (child === undefined) return;
  tree.eachLeaf(child, (page, leafLevel, leafLo, leafHi, rights) => {
    const first = Math.max(page, from);
    const end = Math.min(page + spanPages(leafLevel), to);
    if (first >= end || tree.isCurrent(space, page, leafLo, leafHi)) return;
    leftToDevice(values, space, at, orderOf(leafLevel), leafLevel, page, first, end, leafLo, leafHi, rights, step);
  });
}
