/**
 * Invalidation commands as a replay counts and compares them, whatever the architecture: kinds, and page-selective ones as
 * numbers. What the words of a command mean is in vtd-commands.ts and amd-commands.ts.
 */

/** Commands by kind. `total` leaves nothing out: waits and what has no column of its own included. */
export interface CommandCounts {
  /** VT-d page-selective IOTLB invalidations; AMD-Vi INVALIDATE_IOMMU_PAGES, those of all pages of a domain included. */
  page: number;
  /** VT-d domain-selective IOTLB invalidations. AMD-Vi has no such command. */
  domain: number;
  /** VT-d global IOTLB invalidations; AMD-Vi INVALIDATE_IOMMU_ALL. */
  global: number;
  /** VT-d context invalidations; AMD-Vi INVALIDATE_DEVTAB_ENTRY. */
  context: number;
  wait: number;
  total: number;
}

/** What a command does, as far as a replay tells commands apart. The columns of `CommandCounts`. */
export const CommandKind = { page: 0, domain: 1, global: 2, context: 3, wait: 4, other: 5 } as const;
export type CommandKind = (typeof CommandKind)[keyof typeof CommandKind];

/** Local copies: V8 reloads exported bindings at every use, and these are used for each command. */
const { page: PAGE, domain: DOMAIN, global: GLOBAL, context: CONTEXT, wait: WAIT } = CommandKind;

/** Adds one command to counts. @returns true when it is a page-selective invalidation */
export function countCommand(counts: CommandCounts, kind: CommandKind): boolean {
  counts.total += 1;
  if (kind === PAGE) {
    counts.page += 1;
    return true;
  }
  if (kind === WAIT) counts.wait += 1;
  else if (kind === DOMAIN) counts.domain += 1;
  else if (kind === GLOBAL) counts.global += 1;
  else if (kind === CONTEXT) counts.context += 1;
  return false;
}

/** Fresh counts, all zero. */
export function noCommands(): CommandCounts {
  return { page: 0, domain: 0, global: 0, context: 0, wait: 0, total: 0 };
}

/** A page-selective invalidation as people read it: VT-d's, AMD-Vi's, and one of a log without addresses. */
export type PageCommand =
  | { readonly iova: string; readonly am: number; readonly ih: boolean }
  | { readonly iova: string; readonly pages: number | 'all'; readonly pde: boolean }
  | { readonly domain: number };

/** The commands of one architecture. Words are the command's four, as in memory. */
export interface CommandSet {
  readonly model: 'vtd' | 'amdvi';
  /** How much a key grows by per page of its address. */
  readonly keysPerPage: number;
  kindOf(w0: number, w1: number): CommandKind;
  /** A page-selective invalidation without its domain as a number that can be compared: address, extent, hints. */
  pageKey(w2: number, w3: number): number;
  /** Domain id of a page-selective invalidation. */
  pageDomain(w0: number, w1: number): number;
  describe(key: number): PageCommand;
  /** Number of the first page that a key selects; where it selects all, 0. */
  firstPage(key: number): number;
  /** Pages that a key selects, 0 for all of the domain. */
  nrPages(key: number): number;
}

/** A growing list of doubles. */
export class Doubles {
  #data: Float64Array = new Float64Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.#data.length) {
      const larger = new Float64Array(this.#data.length * 2);
      larger.set(this.#data);
      this.#data = larger;
    }
    this.#data[this.length++] = value;
  }

  at(index: number): number {
    return this.#data[index];
  }

  /** The first `count` values, without a copy. */
  view(count: number = this.length): Float64Array {
    return this.#data.subarray(0, count);
  }
}

/** Page-selective invalidations in the order of a run, each with the window in which the recorded machine made it. */
export class PageLog {
  readonly key: Doubles;
  readonly domain: Doubles;
  /** Number of the event that caused it, and of the first event before which it was certainly done. */
  readonly event: Doubles;
  readonly latest: Doubles;

  constructor(
    key: Doubles = new Doubles(),
    domain: Doubles = new Doubles(),
    event: Doubles = new Doubles(),
    latest: Doubles = new Doubles(),
  ) {
    this.key = key;
    this.domain = domain;
    this.event = event;
    this.latest = latest;
  }

  get length(): number {
    return this.key.length;
  }
}
