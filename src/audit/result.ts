/** What an audit says. */

/** The contracts that an audit judges (DESIGN.md section 6). */
export type AuditContract = 'C-MAP-VISIBLE' | 'C-UNMAP-GONE' | 'C-TABLE-LIVE' | 'C-LAZY-BOUND' | 'C-ATTACH';

/**
 * What a line has to do with a finding.
 *
 * - change: changed the table entry that caches may still hold: a map, an unmap, an attachment.
 * - command: an invalidation of the call: not wide enough, under another domain, not waited for, or too late.
 * - end: shows that the call was over.
 * - reuse: maps the address again.
 * - rival: this call may be the wrong one instead.
 */
export type EvidenceRole = 'change' | 'command' | 'end' | 'reuse' | 'rival';

export interface AuditEvidence {
  readonly role: EvidenceRole;
  /** As the line of a finding; a command's is one of the file of commands where that is another file. */
  readonly line: number;
}

/** One broken contract. */
export interface AuditFinding {
  readonly contract: AuditContract;
  /** Line of the call's event in the trace; of a trace.dat, the record. */
  readonly line: number;
  /** First address that is wrong, in hex; null of an attachment. */
  readonly iova: string | null;
  /** Domain id as commands name it; null when the trace tells none. */
  readonly domain: number | null;
  readonly detail: string;
  /** The lines that it rests on, in the order in which they happened. */
  readonly evidence: readonly AuditEvidence[];
}

/** - held: every call that had to be flushed was. violated: some was not. inconclusive: the trace cannot tell. */
export type AuditVerdict = 'held' | 'violated' | 'inconclusive';

export interface AuditResult {
  readonly verdict: AuditVerdict;
  /** How many calls there are. Without dma:* events maps that no command parts count as one call. */
  readonly calls: { readonly map: number; readonly unmap: number };
  /** Calls that had to be flushed and were: every page, in the right domain, in time. */
  readonly covered: number;
  /** Unmaps left to a flush queue, and how many of them waited for their flush still when the trace ended. */
  readonly queued: number;
  /** The first findings, at most `MAX_FINDINGS`. */
  readonly findings: readonly AuditFinding[];
  readonly nrFindings: number;
  /**
   * Pages that the page-selective commands of covered calls invalidated beyond those that had to be, per page that had to be: 0
   * is exact, 1 twice as many as needed.
   */
  readonly overInvalidation: number;
  /** Commands by reach; `useless` are page-selective ones that no call of their context needed. */
  readonly commands: {
    readonly total: number;
    readonly page: number;
    readonly domain: number;
    readonly useless: number;
  };
  readonly cachingMode: boolean | null;
  /** Why there is no verdict, and what to record. */
  readonly inconclusive: readonly string[];
}

/** More findings than anybody reads; the count goes on. */
export const MAX_FINDINGS = 1000;
