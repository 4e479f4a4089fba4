/** What TLBs of devices (ATS) may hold: translations that the unit held itself until an invalidation took them. */
import type { Space } from './space.ts';
import type { StaleValues } from './stale-values.ts';
import { TLB } from './stale-values.ts';

/**
 * Enters into the TLBs of devices what an invalidation takes from the unit.
 *
 * @param at value of the unit that it comes from
 * @param home first page of the entry
 * @param step until when the unit gave it
 */
export function leftToDevice(
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
