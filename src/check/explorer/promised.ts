/** What the table of promises says about a page of a device, and which contract is broken when the unit says otherwise. */
import { PAGE_SIZE } from '../../base/index.ts';
import type { Explorable } from '../../hw/index.ts';
import type { ContractId } from '../judge.ts';
import type { Promises } from '../promises.ts';
import type { Space } from '../space.ts';

export interface Expected {
  /** First byte of the page it leads to, -1 for nowhere. */
  readonly paddr: number;
  /** 1 read, 2 write. */
  readonly prot: number;
  readonly contract: ContractId;
}

const RIGHTS = 3;
const ACCESSES = [1, 2] as const;

/** A wrong answer of a unit at the end of a call. */
export interface Probe {
  readonly sid: number;
  readonly iova: number;
  /** 1 read, 2 write. */
  readonly access: number;
  /** The page's physical address, or -1: blocked. */
  readonly expected: number;
  readonly got: number;
}

/** Asks a unit for a page of a device, which changes its caches. @returns null when it answers as promised */
export function askFor(unit: Explorable, sid: number, iova: number, expected: Expected): Probe | null {
  for (const access of ACCESSES) {
    const wanted = (expected.prot & access) === access ? expected.paddr : -1;
    const outcome = unit.speculate(sid, iova, access);
    const got = outcome < 0 ? -1 : outcome - (outcome % PAGE_SIZE);
    if (got !== wanted) return { sid, iova, access, expected: wanted, got };
  }
  return null;
}

export class Promised {
  readonly #promises: Promises;
  /** Device to space at the end of the last call, and whether the call changed it. */
  readonly #spaceOf = new Map<number, Space | null>();
  readonly #moved = new Set<number>();
  /** Pages that waited for a flush at some time. */
  readonly #queued = new Map<Space, Set<number>>();

  constructor(promises: Promises) {
    this.#promises = promises;
    for (const [sid, space] of promises.devices) this.#spaceOf.set(sid, space);
  }

  /** A call has ended. @param pages that matter */
  callEnds(pages: readonly number[]): void {
    this.#moved.clear();
    for (const [sid, space] of this.#promises.devices) {
      if (this.#spaceOf.get(sid) !== space) this.#moved.add(sid);
      this.#spaceOf.set(sid, space);
    }
    for (const [space, table] of this.#promises.pages) {
      for (const iova of pages) {
        if (table.get(iova / PAGE_SIZE)?.state !== 'queued') continue;
        const queued = this.#queued.get(space) ?? new Set();
        this.#queued.set(space, queued.add(iova));
      }
    }
  }

  /** Null while nothing is promised: between a lazy unmap and its flush. */
  of(sid: number, iova: number): Expected | null {
    const space = this.#promises.devices.get(sid) ?? null;
    const moved = this.#moved.has(sid);
    if (space === null) return { paddr: -1, prot: 0, contract: 'C-ATTACH' };
    const page = this.#promises.pages.get(space)?.get(iova / PAGE_SIZE);
    if (page === undefined) return { paddr: -1, prot: 0, contract: moved ? 'C-ATTACH' : 'C-ROLLBACK' };
    const wasQueued = this.#queued.get(space)?.has(iova) === true;
    if (page.state === 'queued') return null;
    const contract = moved ? 'C-ATTACH' : wasQueued ? 'C-LAZY-BOUND' : null;
    if (page.state === 'gone') return { paddr: -1, prot: 0, contract: contract ?? 'C-UNMAP-GONE' };
    return { paddr: page.pfn * PAGE_SIZE, prot: page.prot & RIGHTS, contract: contract ?? 'C-MAP-VISIBLE' };
  }
}
