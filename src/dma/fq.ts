/**
 * The flush queue of lazy unmapping: drivers/iommu/dma-iommu.c (iova.c until v5.16), struct iova_fq.
 *
 * An unmapped range is queued instead of invalidated; its IOVA stays allocated. A flush (the ring of a CPU is full, or the
 * timer fired) drops the whole domain from the IOTLB, and only then may the queued IOVAs be handed out again (C-LAZY-BOUND).
 * Until then the device can still reach the old pages: that is the stale window.
 *
 * Counters, as in Linux: a flush takes a number when it starts and publishes it when it ended; an entry queued before a
 * flush started is covered by it. So an entry added while a flush runs is never freed too early.
 */
import type { Clock } from '../base/index.ts';

/** Slots of a ring (IOVA_DEFAULT_FQ_SIZE); one stays empty, so 255 entries fit. */
export const FQ_SIZE = 256;
/** Time from the first queued entry to the flush, in milliseconds (IOVA_DEFAULT_FQ_TIMEOUT). */
export const FQ_TIMEOUT_MS = 10;

/** The same for one ring of all CPUs (IOVA_SINGLE_FQ_SIZE, IOVA_SINGLE_FQ_TIMEOUT; Linux 6.7). */
export const FQ_SINGLE_SIZE = 32768;
export const FQ_SINGLE_TIMEOUT_MS = 1000;

export interface FlushQueueOptions {
  /**
   * One ring for all CPUs, larger and flushed more rarely (IOMMU_DMA_OPTS_SINGLE_QUEUE, Linux 6.7): for hardware that shadows
   * tables at each flush (s390), where a flush costs more than the space. Default false: a ring per CPU.
   */
  readonly single?: boolean;
  /** Slots per ring, at least 2. Default FQ_SIZE, or FQ_SINGLE_SIZE. */
  readonly size?: number;
  /** Default FQ_TIMEOUT_MS, or FQ_SINGLE_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  /**
   * Length of a kernel tick (1000 / HZ ms). Timers fire on ticks and never early: the timer wheel rounds up and adds one, so
   * at HZ = 250 the 10 ms become 12 to 16. Default 0: fires exactly on time.
   */
  readonly tickMs?: number;
}

/** What a flush queue does to its domain. */
export interface FlushQueueOwner {
  /** Drops the whole domain from every cache, completed at return. */
  flushAll(): void;
  /** An IOVA range may be handed out again. */
  release(iova: number, nrBytes: number): void;
  /** Table pages that no cached walk can reach any more. */
  freeTables(tables: readonly number[]): void;
  /** The stale window of a range ended: from `queuedNs` to `flushedNs` a device could still reach it. */
  windowClosed(queuedNs: number, flushedNs: number, iova: number, nrBytes: number): void;
}

const NO_TABLES: readonly number[] = [];

class Ring {
  readonly iova: Float64Array;
  readonly nrBytes: Float64Array;
  readonly queuedNs: Float64Array;
  readonly counter: Float64Array;
  readonly tables: (readonly number[])[];
  head = 0;
  tail = 0;
  /** First entry whose window is still open. */
  open = 0;

  constructor(size: number) {
    this.iova = new Float64Array(size);
    this.nrBytes = new Float64Array(size);
    this.queuedNs = new Float64Array(size);
    this.counter = new Float64Array(size);
    this.tables = Array.from({ length: size }, () => NO_TABLES);
  }
}

export class FlushQueue {
  readonly #owner: FlushQueueOwner;
  readonly #clock: Clock;
  /** One per CPU that ever queued something. */
  readonly #rings: (Ring | undefined)[] = [];
  readonly #single: boolean;
  readonly #size: number;
  readonly #timeoutNs: number;
  readonly #tickNs: number;
  #flushStart = 0;
  #flushFinish = 0;
  #deadlineNs = Infinity;
  #nrOpen = 0;

  /** @throws RangeError for a size below 2 */
  constructor(owner: FlushQueueOwner, clock: Clock, options: FlushQueueOptions = {}) {
    this.#single = options.single ?? false;
    this.#size = options.size ?? (this.#single ? FQ_SINGLE_SIZE : FQ_SIZE);
    if (this.#size < 2) throw new RangeError(`a flush queue needs 2 slots or more, got ${this.#size}`);
    this.#owner = owner;
    this.#clock = clock;
    this.#timeoutNs = (options.timeoutMs ?? (this.#single ? FQ_SINGLE_TIMEOUT_MS : FQ_TIMEOUT_MS)) * 1e6;
    this.#tickNs = (options.tickMs ?? 0) * 1e6;
  }

  /** When the timer will fire, Infinity when it is not armed. The owner of the clock calls `timeout` then. */
  get deadlineNs(): number {
    return this.#deadlineNs;
  }

  /** Entries whose stale window is open. */
  get nrOpen(): number {
    return this.#nrOpen;
  }

  /** Queues an unmapped range (queue_iova). @param cpu whose ring takes it @param tables pages to free after the flush, copied */
  queue(cpu: number, iova: number, nrBytes: number, tables: readonly number[]): void {
    const index = this.#single ? 0 : cpu;
    let ring = this.#rings[index];
    if (ring === undefined) {
      ring = new Ring(this.#size);
      this.#rings[index] = ring;
    }
    this.#free(ring);
    if ((ring.tail + 1) % this.#size === ring.head) {
      this.#flush();
      this.#free(ring);
    }
    const slot = ring.tail;
    ring.iova[slot] = iova;
    ring.nrBytes[slot] = nrBytes;
    ring.queuedNs[slot] = this.#clock.nowNs();
    ring.counter[slot] = this.#flushStart;
    ring.tables[slot] = tables.length === 0 ? NO_TABLES : tables.slice();
    ring.tail = (slot + 1) % this.#size;
    this.#nrOpen += 1;
    if (this.#deadlineNs === Infinity) this.#deadlineNs = this.#armed(this.#clock.nowNs());
  }

  /** mod_timer(jiffies + msecs_to_jiffies(timeout)) as kernel/time/timer.c places it in its wheel (calc_index, v4.8). */
  #armed(nowNs: number): number {
    if (this.#tickNs === 0) return nowNs + this.#timeoutNs;
    const ticks = Math.floor(nowNs / this.#tickNs) + Math.ceil(this.#timeoutNs / this.#tickNs) + 1;
    return ticks * this.#tickNs;
  }

  /** The timer: flushes, and frees on every CPU (fq_flush_timeout). Does nothing before the deadline. */
  timeout(): void {
    if (this.#clock.nowNs() < this.#deadlineNs) return;
    this.drain();
  }

  /** Flushes and frees everything now, as at the end of a domain (iommu_dma_free_fq). */
  drain(): void {
    this.#deadlineNs = Infinity;
    this.#flush();
    for (const ring of this.#rings) if (ring !== undefined) this.#free(ring);
  }

  #flush(): void {
    this.#flushStart += 1;
    this.#owner.flushAll();
    this.#flushFinish += 1;
    const now = this.#clock.nowNs();
    for (const ring of this.#rings) {
      // Sparse: CPUs that queued nothing have no ring.
      if (ring === undefined) continue;
      // What was queued while the flush ran is not covered by it.
      while (ring.open !== ring.tail && ring.counter[ring.open] < this.#flushFinish) {
        const { open } = ring;
        this.#owner.windowClosed(ring.queuedNs[open], now, ring.iova[open], ring.nrBytes[open]);
        ring.open = (open + 1) % this.#size;
        this.#nrOpen -= 1;
      }
    }
  }

  /** Gives back what a finished flush covered (fq_ring_free). */
  #free(ring: Ring): void {
    while (ring.head !== ring.tail && ring.counter[ring.head] < this.#flushFinish) {
      const slot = ring.head;
      const tables = ring.tables[slot];
      if (tables.length > 0) {
        this.#owner.freeTables(tables);
        ring.tables[slot] = NO_TABLES;
      }
      this.#owner.release(ring.iova[slot], ring.nrBytes[slot]);
      ring.head = (slot + 1) % this.#size;
    }
  }
}
