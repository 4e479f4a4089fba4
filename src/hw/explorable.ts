/**
 * What a model checker needs of a unit besides its registers: hardware decisions that no software asks for. The
 * specifications leave their moments open: walks may be speculative and their results cached (VT-d rev. 4.1 section 6.2, AMD-Vi
 * 48882 section 2.1), entries leave caches at any time, queued work is done at any later one (6.5.2, 2.4).
 *
 * With `completionDelayNs` above 0 work waits until its time; after `settle` it waits until `executeNext`.
 */

/** Contexts are device table entries on AMD-Vi; `structure` are the entries that lead to tables. */
export type CacheName = 'context' | 'iotlb' | 'structure';

export interface Explorable {
  /**
   * `translate` as an idea of the unit: fills caches like a request and leaves no fault record.
   * @returns what the request would get
   */
  speculate(sid: number, iova: number, access: number): number;
  /** Entries that a cache holds. */
  nrCached(cache: CacheName): number;
  /** Lets an entry leave its cache. @param nth in the order of the entries as listed @returns false when there is none */
  evict(cache: CacheName, nth: number): boolean;
  /** Work that software has asked for and that has not been done: a bit for each queue or register. */
  waitingWork(): number;
  /** Does the next piece of waiting work: one command of a queue, or what a register asks for. @param slot bit of `waitingWork` */
  executeNext(slot: number): void;
  /**
   * Brings the state into the one form of all states that behave alike from here on: cached entries in the order of their keys,
   * waiting work without a time. The order in which full sets would evict is lost.
   */
  settle(): void;
  /** The whole mutable state, see the units. */
  snapshot(into?: Int32Array): Int32Array;
  restore(from: Int32Array): void;
}
