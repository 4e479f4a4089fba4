/** What the sanitizer reports: a promise that some legal behaviour of the caches breaks. */

/** The promises of DESIGN.md section 6. */
export type ContractId = 'C-MAP-VISIBLE' | 'C-UNMAP-GONE' | 'C-TABLE-LIVE' | 'C-LAZY-BOUND' | 'C-ROLLBACK' | 'C-ATTACH';

/**
 * Where the wrong answer may come from: a cached translation, a cached "not present", a cached pointer to a table, a cached
 * context or device table entry, a device's own TLB, memory that still shows an old value (a store that was not flushed), or the
 * tables themselves.
 */
export type FindingKind = 'translation' | 'not-present' | 'table' | 'context' | 'device-tlb' | 'memory' | 'wrong-entry';

/** A broken promise. */
export interface Finding {
  readonly contract: ContractId;
  /** The call at whose end the promise was due, as its caller named it. */
  readonly call: string;
  /** Index of the unit, in the order in which units were announced. */
  readonly unit: number;
  /** Requester id of a device that shows it, -1 for any. */
  readonly sid: number;
  readonly domainId: number;
  readonly iova: number;
  readonly nrBytes: number;
  /** Table level of the stale entry, 1 for 4 KiB leaves; 0 for a context or device table entry. */
  readonly level: number;
  readonly kind: FindingKind;
  /** The stale value, in words. */
  readonly stale: string;
  /** The store that made it stale. `step` counts what the sanitizer has seen. Words are hexadecimal, 64 bits. */
  readonly store: {
    readonly step: number;
    readonly paddr: number;
    readonly before: string;
    readonly after: string;
  } | null;
  /** The invalidation that would have covered it. */
  readonly missing: string;
  /** The last invalidations that did not, each with the reason. */
  readonly nearest: readonly string[];
}
