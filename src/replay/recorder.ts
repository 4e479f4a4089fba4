/**
 * What a run sends to the hardware: commands counted by kind, doorbells, and the sequence of page-selective invalidations
 * for a comparison. Listens at the hardware's end of the queue, so it counts what was executed, not what was meant.
 */
import { fromWords } from '../base/index.ts';
import type { VtdListener } from '../hw/index.ts';
import { vtd } from '../spec/index.ts';
import { CALL_WINDOW } from './plan.ts';

/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  DESC_CONTEXT,
  DESC_GRANULARITY_SHIFT,
  DESC_IOTLB,
  DESC_WAIT,
  GRANULARITY_DOMAIN,
  GRANULARITY_PAGE,
  IOTLB_DESC_AM_MASK_W2,
  IOTLB_DESC_IH_W2,
  SS_ADDR_MASK_HI,
} = vtd;

/** Commands by kind. `total` leaves nothing out: waits included. */
export interface CommandCounts {
  page: number;
  domain: number;
  global: number;
  context: number;
  wait: number;
  total: number;
}

/** Page-selective invalidations as numbers that can be compared: page number * 128 + AM * 2 + IH. */
export const PAGE_KEY_SHIFT = 128;
const KEY_SHIFT = PAGE_KEY_SHIFT;

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

/** One page-selective invalidation as a comparable number. */
export function pageKey(w2: number, w3: number): number {
  const page = fromWords(w2, w3 & SS_ADDR_MASK_HI) / 4096;
  return Math.floor(page) * KEY_SHIFT + (w2 & IOTLB_DESC_AM_MASK_W2) * 2 + ((w2 & IOTLB_DESC_IH_W2) >>> 6);
}

/** Adds one descriptor to counts. @returns true when it is a page-selective invalidation */
export function countDescriptor(counts: CommandCounts, w0: number): boolean {
  counts.total += 1;
  const type = w0 & 0xf;
  const granularity = (w0 >>> DESC_GRANULARITY_SHIFT) & 3;
  if (type === DESC_IOTLB) {
    if (granularity === GRANULARITY_PAGE) {
      counts.page += 1;
      return true;
    }
    if (granularity === GRANULARITY_DOMAIN) counts.domain += 1;
    else counts.global += 1;
  } else if (type === DESC_CONTEXT) {
    counts.context += 1;
  } else if (type === DESC_WAIT) {
    counts.wait += 1;
  }
  return false;
}

/** Fresh counts, all zero. */
export function noCommands(): CommandCounts {
  return { page: 0, domain: 0, global: 0, context: 0, wait: 0, total: 0 };
}

/** Page-selective invalidations in the order of a run, each with the window in which the recorded machine made it. */
export class PageLog {
  readonly key: Doubles = new Doubles();
  /** Number of the event that caused it, and of the first event before which it was certainly done. */
  readonly event: Doubles = new Doubles();
  readonly latest: Doubles = new Doubles();

  get length(): number {
    return this.key.length;
  }
}

export class CommandRecorder implements VtdListener {
  readonly counts: CommandCounts = noCommands();
  doorbells = 0;
  /** Null when nobody will compare. */
  readonly pages: PageLog | null;
  /** Window of the running call, packed as in its record. */
  window = 0;
  /** False while the player does what the trace did not show. */
  counting = true;
  /** Recorded minus actual IOVA of the running call, in pages: a renamed range is compared under its recorded address. */
  renamedBy = 0;

  constructor(keepPages: boolean) {
    this.pages = keepPages ? new PageLog() : null;
  }

  descriptor(w0: number, _w1: number, w2: number, w3: number): void {
    if (!this.counting) return;
    if (countDescriptor(this.counts, w0) && this.pages !== null) {
      this.pages.key.push(pageKey(w2, w3) + this.renamedBy * KEY_SHIFT);
      const delay = this.window % CALL_WINDOW;
      const event = (this.window - delay) / CALL_WINDOW;
      this.pages.event.push(event);
      this.pages.latest.push(event + delay);
    }
  }

  doorbell(_tail: number): void {
    if (this.counting) this.doorbells += 1;
  }
}
