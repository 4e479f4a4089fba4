/**
 * A tag under which something caches: one domain id on one unit, or the TLB of one device (ATS). Having one means that some entry
 * named it once.
 */
import type { StaleValues } from './stale-values.ts';
import type { Unit } from './unit.ts';

/** A root table that a space used and no entry leads to any more; caches may hold anything that it gave. */
export interface OldRoot {
  readonly pfn: number;
  readonly levels: number;
  readonly step: number;
}

export class Space {
  readonly id: number;
  readonly unit: Unit;
  readonly domainId: number;
  /** How many context or device table entries, current and stale, lead to a root. */
  readonly roots: Map<number, number> = new Map();
  oldRoots: OldRoot[] = [];
  /** Newest and oldest of its stale values. */
  newest = -1;
  oldest = -1;
  nrLive = 0;
  /** No value that a queued unmap left is older than this, in ns. It may be too early: invalidations do not move it. */
  lazySinceNs: number = Infinity;
  /** How many of them have each order. */
  readonly nrOfOrder: Int32Array = new Int32Array(64);
  /** The device whose own TLB this is, -1 for a domain of the unit. */
  readonly sid: number;
  /** TLBs of devices that the unit answers from this domain. */
  readonly deviceTlbs: Space[] = [];

  /** @param domainId -1 for the TLB of a device */
  constructor(id: number, unit: Unit, domainId: number, sid: number) {
    this.id = id;
    this.unit = unit;
    this.domainId = domainId;
    this.sid = sid;
  }

  /** Puts a value at the new end of the list. */
  enter(values: StaleValues, at: number): void {
    values.older[at] = this.newest;
    values.newer[at] = -1;
    if (this.newest >= 0) values.newer[this.newest] = at;
    else this.oldest = at;
    this.newest = at;
    this.nrLive += 1;
    this.nrOfOrder[values.order[at]] += 1;
  }

  /** One of the values of queued unmaps that are older than a time, -1 for none. Finds out anew how old the others are. */
  overdue(values: StaleValues, boundNs: number): number {
    let found = -1;
    this.lazySinceNs = Infinity;
    for (let at = this.oldest; at >= 0; at = values.newer[at]) {
      if (values.lazy[at] === 0) continue;
      if (values.timeNs[at] < boundNs) found = at;
      else if (values.timeNs[at] < this.lazySinceNs) this.lazySinceNs = values.timeNs[at];
    }
    return found;
  }

  leave(values: StaleValues, at: number): void {
    const newer = values.newer[at];
    const older = values.older[at];
    if (newer >= 0) values.older[newer] = older;
    else this.newest = older;
    if (older >= 0) values.newer[older] = newer;
    else this.oldest = newer;
    this.nrLive -= 1;
    this.nrOfOrder[values.order[at]] -= 1;
  }
}
