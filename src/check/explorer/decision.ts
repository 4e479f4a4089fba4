/**
 * What hardware may do on its own between two steps of a driver: everything that the specifications leave open. A schedule is
 * a list of these, each with the step after which it happens.
 *
 * Walks are speculative (VT-d rev. 4.1 section 6.2, AMD-Vi 48882 section 2.1); entries leave caches at any time; queued work is done at any time
 * later; a line that a CPU wrote may reach memory before it is flushed.
 */
import { hex } from '../../base/index.ts';
import type { CacheName, Explorable } from '../../hw/index.ts';
import type { PhysMem } from '../../mem/index.ts';

export type Decision =
  /** A walk for a page, which fills all caches. With `kept` false the IOTLB does not take the result. */
  | { readonly do: 'walk'; readonly sid: number; readonly iova: number; readonly kept: boolean }
  /** An entry leaves its cache. */
  | { readonly do: 'evict'; readonly cache: CacheName; readonly nth: number }
  /** The next command of a queue, or what a register asks for, is done. */
  | { readonly do: 'execute'; readonly slot: number }
  /** The 64 bytes at an address reach memory. */
  | { readonly do: 'write-back'; readonly paddr: number };

export const CACHES: readonly CacheName[] = ['context', 'iotlb', 'structure'];
/** Walks ask to read: entries that deny that are kept all the same. */
const READ = 1;

/** Makes one decision come true. @returns false when it does not fit the state: no such entry, no work waiting */
export function decide(unit: Explorable, mem: PhysMem, flush: PhysMem['flush'], decision: Decision): boolean {
  switch (decision.do) {
    case 'walk': {
      const before = decision.kept ? 0 : unit.nrCached('iotlb');
      unit.speculate(decision.sid, decision.iova, READ);
      // What was inserted last stands first in its set, and there is one set (see `smallCaches`).
      if (!decision.kept && unit.nrCached('iotlb') > before) unit.evict('iotlb', 0);
      break;
    }
    case 'evict':
      if (!unit.evict(decision.cache, decision.nth)) return false;
      break;
    case 'execute':
      if ((unit.waitingWork() & (1 << decision.slot)) === 0) return false;
      unit.executeNext(decision.slot);
      break;
    case 'write-back':
      if (mem.coherent) return false;
      flush.call(mem, decision.paddr, 1);
  }
  unit.settle();
  return true;
}

/** One line for people. */
export function describeDecision(decision: Decision): string {
  if (decision.do === 'walk') {
    const rest = decision.kept ? '' : ' (the IOTLB keeps nothing of it)';
    return `walk for ${deviceName(decision.sid)} page ${hex(decision.iova)}${rest}`;
  }
  if (decision.do === 'evict') return `an entry leaves the ${decision.cache} cache`;
  if (decision.do === 'execute') return 'the unit does the next piece of waiting work';
  return `the line at ${hex(decision.paddr)} reaches memory`;
}

/** A requester id as lspci prints it. */
export function deviceName(sid: number): string {
  const part = (value: number): string => value.toString(16).padStart(2, '0');
  return `${part(sid >>> 8)}:${part((sid >>> 3) & 31)}.${sid & 7}`;
}
