/**
 * Prediction against what the recorded machine's hardware executed.
 *
 * Order: the trace tells when a call began to flush, not when it was done. Calls that ran at the same time on different CPUs
 * may have reached the queue in either order, and a virtual CPU can lose milliseconds between the two. So a prediction is a
 * partial order: command A stands before B iff A's context showed another event before B's call began. Among the sequences
 * this allows, the one closest to the observed is compared; `concurrent` says how many commands were moved for it.
 * Everything else, which commands, how many, in which order within and between calls that did not overlap, is predicted.
 */
import type { CommandCounts, PageCommand } from './commands.ts';
import { Doubles, PageLog } from './commands.ts';
import type { Observed } from './observed.ts';

/**
 * What of page-selective commands is compared: address, extent and hints; their domain ids alone, when the log has no addresses
 * but the trace tells all domains; or only how many there are.
 */
export type ComparedBy = 'address' | 'domain' | 'count';

export interface Comparison {
  readonly by: ComparedBy;
  /** The mark up to which both sides are compared; null when they share none and all is compared. */
  readonly upTo: string | null;
  readonly observed: Omit<CommandCounts, 'total'>;
  readonly predicted: Omit<CommandCounts, 'total'>;
  /** Invalidation commands (no waits) in the log behind the last common mark. */
  readonly afterTrace: number;
  /** Length of the longest common subsequence of the page-selective commands. */
  readonly matching: number;
  readonly identical: boolean;
  /**
   * Of the first `matching` page-selective commands when the streams are identical: how many have the observed domain id too.
   * Not part of `identical`: without dma:* events the trace does not tell the domain of a call. -1 when not identical.
   */
  readonly sameDomain: number;
  /** Predicted commands moved among calls that ran at the same time. */
  readonly concurrent: number;
  readonly firstDifference: {
    readonly index: number;
    readonly observed: PageCommand | null;
    readonly predicted: PageCommand | null;
    /** Line of the observed command in its log. */
    readonly logLine: number | null;
  } | null;
}

/** How far counts of domain-selective invalidations may differ: they hang on timers. */
const DOMAIN_TOLERANCE = 0.15;

/** Whether a comparison found the prediction right: the same pages in order, and as many domain flushes give or take timers. */
export function agrees({ identical, observed, predicted }: Comparison): boolean {
  const most = Math.max(observed.domain, predicted.domain);
  return identical && Math.abs(observed.domain - predicted.domain) <= Math.max(2, DOMAIN_TOLERANCE * most);
}

/** One side of a comparison: counters now, and at each mark. */
export interface PredictedSide {
  readonly pages: PageLog;
  readonly counts: CommandCounts;
  /** Whether the trace tells the domain of every call. */
  readonly domainsTold: boolean;
  readonly marks: readonly { readonly name: string; readonly commands: CommandCounts; readonly nrPages: number }[];
}

function describe(observed: Observed, by: ComparedBy, key: number | undefined): PageCommand | null {
  if (key === undefined || by === 'count') return null;
  return by === 'domain' ? { domain: key } : observed.commands.describe(key);
}

/** The log with its keys replaced by what is compared instead. */
function keyedBy(by: ComparedBy, log: PageLog): PageLog {
  if (by === 'address') return log;
  return new PageLog(by === 'domain' ? log.domain : zeros(log.length), log.domain, log.event, log.latest);
}

function zeros(count: number): Doubles {
  const all = new Doubles();
  for (let i = 0; i < count; i++) all.push(0);
  return all;
}

function withoutTotal({ total: _total, ...rest }: CommandCounts): Omit<CommandCounts, 'total'> {
  return rest;
}

/** The last mark of the trace that the log has too. Trace marks may carry a prefix: `LAB 101-boot-done` is `101-boot-done`. */
function lastCommonMark(
  predicted: PredictedSide,
  observed: Observed,
): { name: string; predicted: PredictedSide['marks'][number]; observed: Observed['marks'][number] } | null {
  const byName = new Map(observed.marks.map((mark) => [mark.name, mark]));
  for (let i = predicted.marks.length - 1; i >= 0; i--) {
    const mark = predicted.marks[i];
    if (mark === undefined) continue;
    const name = mark.name.trim();
    const match = byName.get(name) ?? byName.get(name.slice(name.lastIndexOf(' ') + 1));
    if (match !== undefined) return { name: match.name, predicted: mark, observed: match };
  }
  return null;
}

/** Compares a finished run with a log. */
export function compareRun(predicted: PredictedSide, observed: Observed): Comparison {
  const common = lastCommonMark(predicted, observed);
  const predictedCounts = common?.predicted.commands ?? predicted.counts;
  const observedCounts = common?.observed.commands ?? observed.counts;
  const nrPredicted = common?.predicted.nrPages ?? predicted.pages.length;
  const by = observed.hasAddresses ? 'address' : predicted.domainsTold ? 'domain' : 'count';
  const nrObserved = common?.observed.nrPages ?? observed.keys.length;
  const wanted = { address: observed.keys, domain: observed.domains, count: zeros(nrObserved) }[by].view(nrObserved);
  const { keys, order, concurrent } = linearize(keyedBy(by, predicted.pages), nrPredicted, wanted);
  let index = 0;
  while (index < keys.length && index < wanted.length && keys[index] === wanted[index]) index++;
  const identical = index === keys.length && index === wanted.length;
  let sameDomain = -1;
  if (identical) {
    sameDomain = 0;
    for (let i = 0; i < index; i++) if (predicted.pages.domain.at(order[i]) === observed.domains.at(i)) sameDomain++;
  }
  const commands = (counts: CommandCounts): number => counts.total - counts.wait;
  return {
    by,
    upTo: common?.name ?? null,
    observed: withoutTotal(observedCounts),
    predicted: withoutTotal(predictedCounts),
    afterTrace: commands(observed.counts) - commands(observedCounts),
    matching: identical ? index : lcsLength(keys, wanted),
    identical,
    sameDomain,
    // Commands that all look alike have no order to be moved in.
    concurrent: by === 'count' ? 0 : concurrent,
    firstDifference: identical
      ? null
      : {
          index,
          observed: describe(observed, by, wanted[index]),
          predicted: describe(observed, by, keys[index]),
          logLine: index < wanted.length ? observed.lines.at(index) : null,
        },
  };
}

/** How many commands may wait for their turn while later ones overtake them. Bounds the work on hopeless comparisons. */
const MAX_WAITING = 256;

/**
 * The predicted commands in an order that their windows allow, as close to `wanted` as a greedy choice gets. Whatever
 * `wanted` holds, the result is a permutation that the trace does not rule out.
 */
export function linearize(
  pages: PageLog,
  count: number,
  wanted: Float64Array,
): { readonly keys: Float64Array; readonly order: Int32Array; readonly concurrent: number } {
  const keys = new Float64Array(count);
  const order = new Int32Array(count);
  let concurrent = 0;
  /** Indexes of commands that begun but were not placed yet, in order. */
  const waiting: number[] = [];
  let next = 0;
  let placed = 0;
  let at = 0;
  while (placed < count) {
    // All commands that can stand next: those that begun before the first deadline among the waiting.
    let deadline = Infinity;
    for (const index of waiting) deadline = Math.min(deadline, pages.latest.at(index));
    while (next < count && waiting.length < MAX_WAITING && (waiting.length === 0 || pages.event.at(next) < deadline)) {
      deadline = Math.min(deadline, pages.latest.at(next));
      waiting.push(next++);
    }
    let choice = at < wanted.length ? earliestDue(pages, waiting, wanted[at]) : 0;
    if (choice < 0) {
      // Either an observed command that was not predicted, or a predicted one that was not observed: whichever side finds
      // the other's command sooner goes on.
      const first = waiting[0] ?? 0;
      const ahead = distance(wanted, at, pages.key.at(first));
      const behind = distance(pages.key.view(count), next, wanted[at]);
      if (ahead < behind || behind === Infinity) {
        at += 1;
        continue;
      }
      choice = 0;
    } else {
      at += 1;
    }
    const [index] = waiting.splice(choice, 1);
    if (index === undefined) break;
    if (choice > 0) concurrent += 1;
    order[placed] = index;
    keys[placed++] = pages.key.at(index);
  }
  return { keys, order, concurrent };
}

/**
 * Position among the waiting of the command with a key; of several that are alike the one due first, since the others can
 * wait. The commands of one call keep their order: only the first that waits of each event can be next.
 */
function earliestDue(pages: PageLog, waiting: readonly number[], key: number | undefined): number {
  let found = -1;
  let due = Infinity;
  for (const [position, index] of waiting.entries()) {
    if (pages.key.at(index) !== key || pages.latest.at(index) >= due) continue;
    if (hasEarlier(pages, waiting, position)) continue;
    due = pages.latest.at(index);
    found = position;
  }
  return found;
}

/** Whether a command of the same event waits in front of one. */
function hasEarlier(pages: PageLog, waiting: readonly number[], position: number): boolean {
  const event = pages.event.at(waiting[position] ?? -1);
  for (let i = 0; i < position; i++) if (pages.event.at(waiting[i] ?? -1) === event) return true;
  return false;
}

/** How far behind `from` a key is found, up to MAX_WAITING; Infinity beyond. */
function distance(keys: Float64Array, from: number, key: number | undefined): number {
  const end = Math.min(keys.length, from + MAX_WAITING);
  for (let i = from; i < end; i++) if (keys[i] === key) return i - from;
  return Infinity;
}

/**
 * Length of the longest common subsequence, exact: equal ends are cut off, the rest is done 32 positions at a time
 * (Hyyro 2004, the bit-parallel recurrence V' = (V + (V & M)) | (V & ~M), zeroes of V count the matches).
 */
export function lcsLength(a: Float64Array, b: Float64Array): number {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA--;
    endB--;
  }
  const same = start + (a.length - endA);
  const n = endA - start;
  if (n === 0 || endB === start) return same;
  const positions = new Map<number, number[]>();
  for (let i = start; i < endA; i++) {
    const list = positions.get(a[i]);
    if (list === undefined) positions.set(a[i], [i - start]);
    else list.push(i - start);
  }
  const nrWords = Math.ceil(n / 32);
  const v = new Uint32Array(nrWords).fill(0xffffffff);
  const mask = new Uint32Array(nrWords);
  for (let j = start; j < endB; j++) {
    const list = positions.get(b[j]);
    if (list === undefined) continue;
    for (const position of list) mask[position >>> 5] |= 1 << (position & 31);
    let carry = 0;
    for (let w = 0; w < nrWords; w++) {
      const vw = v[w];
      const m = mask[w];
      const matched = (vw & m) >>> 0;
      const sum = vw + matched + carry;
      carry = sum > 0xffffffff ? 1 : 0;
      v[w] = (sum >>> 0) | (vw & ~m);
    }
    for (const position of list) mask[position >>> 5] = 0;
  }
  let zeroes = 0;
  for (let i = 0; i < n; i++) if ((v[i >>> 5] & (1 << (i & 31))) === 0) zeroes++;
  return same + zeroes;
}
