/**
 * What is mapped in which domain, by the domains that calls were flushed under: what unmaps left to a flush queue, and where
 * two calls contradict each other, since an address is mapped and unmapped in turn.
 *
 * Without dma:* events a call names no device, so its domain is that of its commands. If one command has a wrong domain, the
 * calls of that address do not fit together any more. Which command it was shows by trying: the change of one call's domain
 * that makes all fit. Where several would do, all are named.
 */
import { PageSet } from '../replay/index.ts';

const PAGE = 4096;
/** More pages than this (1 TiB) in one call are not tracked: a set of them would not be small. */
const MAX_PAGES: number = 2 ** 28;
/** Unmaps of a domain's flush queue looked at; a CPU's ring has 256. */
const MAX_WAITING = 4096;
/** Pages around a contradiction in which mappings that it concerns are looked for. */
const MAX_LOOK = 4096;
/** Calls of one address remembered. */
const MAX_HISTORY = 32;
/** A domain that no call of the address has. */
const SOME_OTHER = -2;

/** A mapping that is not unmapped yet. */
interface LiveCall {
  readonly nrPages: number;
  readonly line: number;
  readonly hasTables: boolean;
}

/** An unmap in a flush queue. */
export interface Waiting {
  readonly line: number;
  readonly start: number;
  readonly nrPages: number;
  readonly timeNs: number;
}

interface Space {
  readonly live: PageSet;
  /** Unmapped without a flush yet. */
  pending: PageSet;
  /** The same by call, the first ones. */
  readonly waiting: Waiting[];
  /** Pages that a call of this trace named, so that it is known whether they are mapped. */
  readonly known: PageSet;
  /** True when the trace shows the domain from its first attachment on. */
  isWhole: boolean;
  /** Group of its devices, -1 unknown. */
  group: number;
  /** Mappings by their first page. */
  readonly calls: Map<number, LiveCall>;
}

interface Step {
  readonly isMap: boolean;
  readonly domain: number;
  readonly line: number;
  readonly nrPages: number;
}

/** A call that may carry the wrong domain. */
export interface Suspect {
  readonly isMap: boolean;
  readonly line: number;
  readonly start: number;
  readonly domain: number;
}

/** An unmap without a command in one of several domains. */
export interface Unattributed {
  readonly line: number;
  readonly start: number;
  readonly nrPages: number;
  readonly record: number;
  readonly domains: readonly number[];
  /** True when another unmap may have been of the domain instead. */
  isVague: boolean;
}

export class Ledger {
  readonly #spaces = new Map<number, Space>();
  readonly #histories = new Map<number, Step[]>();
  /** Pages of unmaps whose domain was not known. What they left mapped where stays open for other extents too. */
  readonly #doubtful = new PageSet();
  readonly #unattributed = new Map<number, Unattributed[]>();

  #space(domain: number): Space {
    let space = this.#spaces.get(domain);
    if (space === undefined) {
      space = {
        live: new PageSet(),
        pending: new PageSet(),
        waiting: [],
        known: new PageSet(),
        isWhole: false,
        group: -1,
        calls: new Map(),
      };
      this.#spaces.set(domain, space);
    }
    return space;
  }

  /** The domain got a device. Ids are used again: for another group of devices it is another domain. @param group -1 unknown */
  attach(domain: number, group: number): void {
    if (group >= 0 && this.#spaces.get(domain)?.group === group) return;
    this.#spaces.delete(domain);
    const space = this.#space(domain);
    space.isWhole = true;
    space.group = group;
  }

  /** Whether the trace shows the domain from its first attachment on. */
  isWhole(domain: number): boolean {
    return this.#spaces.get(domain)?.isWhole === true;
  }

  /** Domain flush. */
  flushDomain(domain: number): void {
    const space = this.#spaces.get(domain);
    if (space === undefined) return;
    space.pending = new PageSet();
    space.waiting.length = 0;
  }

  flushAll(): void {
    for (const domain of this.#spaces.keys()) this.flushDomain(domain);
  }

  /** Unmaps that a domain left to its queue and did not flush since. The list is used again. */
  waiting(domain: number): readonly Waiting[] {
    return this.#spaces.get(domain)?.waiting ?? [];
  }

  get domains(): Iterable<number> {
    return this.#spaces.keys();
  }

  flushPages(domain: number, start: number, nrPages: number): void {
    if (nrPages > MAX_PAGES) {
      if (start === 0) this.flushDomain(domain);
      return;
    }
    this.#spaces.get(domain)?.pending.remove(start * PAGE, (start + nrPages) * PAGE);
  }

  /** Whether some page of a call was unmapped in the domain and not flushed since. */
  isPending(domain: number, start: number, nrPages: number): boolean {
    const space = this.#spaces.get(domain);
    return (
      space !== undefined && nrPages <= MAX_PAGES && space.pending.intersects(start * PAGE, (start + nrPages) * PAGE)
    );
  }

  /** Line of the last unmap that waits for its flush and has pages of a call; -1 when it is not remembered. */
  pendingLine(domain: number, start: number, nrPages: number): number {
    const meets = (unmap: Waiting): boolean => unmap.start < start + nrPages && start < unmap.start + unmap.nrPages;
    return this.waiting(domain).findLast(meets)?.line ?? -1;
  }

  /** An unmap left its flush to a queue. */
  leave(domain: number, unmap: Waiting): void {
    const space = this.#space(domain);
    const { nrPages } = unmap;
    if (nrPages <= MAX_PAGES) space.pending.add(unmap.start * PAGE, (unmap.start + nrPages) * PAGE);
    if (space.waiting.length < MAX_WAITING) space.waiting.push(unmap);
  }

  /** The mapping that begins at a page, if its domain has one of just this extent. */
  mapping(domain: number, start: number, nrPages: number): LiveCall | null {
    const call = this.#spaces.get(domain)?.calls.get(start);
    return call?.nrPages === nrPages ? call : null;
  }

  /** Domains that have just this mapping. */
  holders(start: number, nrPages: number): number[] {
    const found: number[] = [];
    for (const [domain, space] of this.#spaces) {
      if (space.calls.get(start)?.nrPages === nrPages) found.push(domain);
    }
    return found;
  }

  /**
   * A map call. @param isCertain the domain is that of the call's device, not only of its commands
   * @returns the calls of which one has the wrong domain, none when all fits
   */
  map(domain: number, start: number, nrPages: number, line: number, hasTables: boolean, isCertain: boolean): Suspect[] {
    if (nrPages > MAX_PAGES) return [];
    const space = this.#space(domain);
    const from = start * PAGE;
    const to = from + nrPages * PAGE;
    const isTwice = space.live.intersects(from, to) && this.#isSure(space, start, nrPages);
    const across = isTwice && !isCertain ? this.#across(domain, space, start, nrPages) : [];
    const suspects = this.#step(
      start,
      { isMap: true, domain, line, nrPages },
      isCertain,
      isTwice && across.length === 0,
    );
    if (across.length > 0) suspects.push(...across, { isMap: true, line, start, domain });
    space.live.add(from, to);
    space.known.add(from, to);
    space.pending.remove(from, to);
    space.calls.set(start, { nrPages, line, hasTables });
    return suspects;
  }

  /** Whether some page of an extent is mapped, and no unmap of unknown domain was there. */
  #isSure(space: Space, start: number, nrPages: number): boolean {
    for (let page = start; page < start + Math.min(nrPages, MAX_LOOK); page++) {
      const from = page * PAGE;
      if (space.live.intersects(from, from + PAGE) && !this.#doubtful.intersects(from, from + PAGE)) return true;
    }
    return false;
  }

  /** Mappings of other extents that a new one would lie across: they, or it, have the wrong domain. They are taken away. */
  #across(domain: number, space: Space, start: number, nrPages: number): Suspect[] {
    const suspects: Suspect[] = [];
    const first = Math.max(0, start - MAX_LOOK);
    for (let page = first; page < start + Math.min(nrPages, MAX_LOOK); page++) {
      const call = space.calls.get(page);
      if (call === undefined || page === start || page + call.nrPages <= start) continue;
      suspects.push({ isMap: true, line: call.line, start: page, domain });
      this.#remove(space, page, call.nrPages);
    }
    return suspects;
  }

  /** An unmap whose domain is known, by its device or its commands. */
  unmap(domain: number, start: number, nrPages: number, line: number, isCertain: boolean): Suspect[] {
    if (nrPages > MAX_PAGES) return [];
    const space = this.#space(domain);
    const from = start * PAGE;
    const to = from + nrPages * PAGE;
    const isMapped = space.live.contains(from, to);
    const call = space.calls.get(start);
    const elsewhere = this.holders(start, nrPages).filter((other) => other !== domain);
    // Whole mappings are unmapped; one of another size fits only if no other domain has the one that was meant.
    const misfits = isMapped
      ? call !== undefined && call.nrPages > nrPages
      : space.isWhole || space.known.intersects(from, to);
    const isWrong = misfits && elsewhere.length > 0 && !this.#doubtful.intersects(from, to);
    const suspects = this.#step(start, { isMap: false, domain, line, nrPages }, isCertain, isWrong);
    if (!isWrong || suspects.length === 0) this.#remove(space, start, nrPages);
    return suspects;
  }

  #remove(space: Space, start: number, nrPages: number): void {
    const end = start + nrPages;
    space.live.remove(start * PAGE, end * PAGE);
    space.known.add(start * PAGE, end * PAGE);
    for (let page = start; page < end;) {
      const call = space.calls.get(page);
      if (call === undefined) break;
      space.calls.delete(page);
      page += call.nrPages;
    }
  }

  /** An unmap without a command, which several domains could have made. */
  unmapSomewhere(unmap: Unattributed): void {
    const { start, nrPages } = unmap;
    const others = this.#unattributed.get(start) ?? [];
    others.push(unmap);
    this.#unattributed.set(start, others);
    this.#doubtful.add(start * PAGE, (start + nrPages) * PAGE);
    this.#histories.delete(start);
  }

  /** The unmap that must have been of a domain, since it maps the address again; null when there was none. */
  settle(domain: number, start: number): Unattributed | null {
    const waiting = this.#unattributed.get(start);
    const space = this.#spaces.get(domain);
    if (waiting === undefined || space?.calls.get(start) === undefined) return null;
    const { line } = space.calls.get(start) ?? { line: -1 };
    const fitting = waiting.filter((unmap) => unmap.line > line && unmap.domains.includes(domain));
    const [unmap] = fitting;
    if (unmap === undefined) return null;
    waiting.splice(waiting.indexOf(unmap), 1);
    this.#remove(space, start, unmap.nrPages);
    // Which of several it was stays open, so nothing is said of any.
    for (const other of fitting) other.isVague ||= fitting.length > 1;
    if (waiting.length === 0) this.#unattributed.delete(start);
    return unmap.isVague ? null : unmap;
  }

  /** Remembers a call; when it contradicts, finds the calls whose change of domain would make all fit. */
  #step(start: number, step: Step, isCertain: boolean, isWrong: boolean): Suspect[] {
    if (isCertain) return [];
    let steps = this.#histories.get(start);
    if (steps === undefined) {
      steps = [];
      this.#histories.set(start, steps);
    }
    steps.push(step);
    if (steps.length > MAX_HISTORY) {
      // Of the older half the mappings that are left are remembered.
      const old = steps.splice(0, MAX_HISTORY / 2);
      steps.unshift(...(liveOf(old)?.values() ?? []));
    }
    if (!isWrong) {
      // Nothing mapped there any more: what was can contradict nothing.
      if (!step.isMap && steps.length > 2 && liveOf(steps)?.size === 0) this.#histories.delete(start);
      return [];
    }
    const repairs = repairsOf(steps);
    const named = (at: number): Suspect => {
      const { isMap, line, domain } = steps[at];
      return { isMap, line, domain, start };
    };
    if (repairs.length === 0) {
      this.#histories.delete(start);
      return [named(steps.length - 1)];
    }
    const suspects = [...new Set(repairs.map(({ at }) => at))].map(named);
    this.#apply(start, steps, repairs[repairs.length - 1]);
    return suspects;
  }

  /** Makes the spaces what they are if a repair is right, so that one wrong command is found once. */
  #apply(start: number, steps: Step[], repair: Repair): void {
    const domains = new Set(steps.map(({ domain }) => domain));
    steps[repair.at] = { ...steps[repair.at], domain: repair.domain };
    const live = liveOf(steps);
    for (const domain of domains) {
      const space = this.#space(domain);
      const call = live?.get(domain);
      const old = space.calls.get(start);
      if (call === undefined && old !== undefined) this.#remove(space, start, old.nrPages);
      if (call === undefined) continue;
      space.live.add(start * PAGE, (start + call.nrPages) * PAGE);
      space.calls.set(start, { nrPages: call.nrPages, line: call.line, hasTables: old?.hasTables ?? false });
    }
  }
}

interface Repair {
  readonly at: number;
  readonly domain: number;
}

/** What is mapped after some calls of one address, null when they contradict. What was mapped before them is not known. */
function liveOf(steps: readonly Step[]): Map<number, Step> | null {
  const live = new Map<number, Step>();
  const seen = new Set<number>();
  for (const step of steps) {
    const call = live.get(step.domain);
    if (step.isMap ? call !== undefined : call === undefined && seen.has(step.domain)) return null;
    if (!step.isMap && call !== undefined && call.nrPages > step.nrPages) return null;
    seen.add(step.domain);
    if (step.isMap) live.set(step.domain, step);
    else live.delete(step.domain);
  }
  return live;
}

/** Changes of one call's domain after which nothing contradicts. */
function repairsOf(steps: readonly Step[]): Repair[] {
  const domains = [...new Set(steps.map(({ domain }) => domain))];
  const repairs: Repair[] = [];
  for (const [at, step] of steps.entries()) {
    for (const domain of step.isMap ? [...domains, SOME_OTHER] : domains) {
      if (domain === step.domain) continue;
      const changed = [...steps];
      changed[at] = { ...step, domain };
      if (fits(changed)) repairs.push({ at, domain });
    }
  }
  return repairs;
}

/** Whether calls fit together, and every unmap has its mapping. */
function fits(steps: readonly Step[]): boolean {
  if (liveOf(steps) === null) return false;
  const mapped = new Set<number>();
  for (const { isMap, domain } of steps) {
    if (isMap) mapped.add(domain);
    else if (!mapped.has(domain)) return false;
  }
  return true;
}
