/**
 * Who watches a run as it is played: each call, command, violation and stale window, with the time of the trace's clock in ns.
 * Domains are numbers of the plan, -1 for a command that no domain caused. Addresses are those of the played machine: a range
 * that got another IOVA (`RunResult.renamed`) is seen under that one. Times never decrease, but for what a damaged trace says.
 */
import type { CommandKind } from './commands.ts';

export interface RunObserver {
  /** A map call begins. Its commands and violations follow before the next call. */
  map(domain: number, iova: number, nrBytes: number, timeNs: number): void;
  /** An unmap call begins. @param isQueued its flush is left to the flush queue: `windowClosed` will say when it came */
  unmap(domain: number, iova: number, nrBytes: number, timeNs: number, isQueued: boolean): void;
  /**
   * The hardware executed a command.
   * @param iova first byte of what a page-selective invalidation selects, 0 for other kinds @param nrPages 0 for all of a domain
   */
  command(kind: CommandKind, domain: number, iova: number, nrPages: number, timeNs: number): void;
  /**
   * A device hit what should have been flushed, right after the call that began last: a cached "not present", or else a page that
   * was unmapped or replaced. @param iova first byte of the call @param nrPages how many of its pages
   */
  violation(isNotPresent: boolean, domain: number, iova: number, nrPages: number, timeNs: number): void;
  /** A queued unmap's range cannot be reached any more. */
  windowClosed(domain: number, iova: number, nrBytes: number, queuedNs: number, flushedNs: number): void;
}
