/**
 * Reading the event log (AMD 48882, 2.5; registers 3.4.3 and 3.4.13): iommu_poll_events and iommu_print_event of
 * drivers/iommu/amd/iommu.c.
 *
 * Hardware may move the tail before the event is in memory (erratum 732). Software therefore zeroes what it has read, and
 * takes a zero where an event should be as "not written yet".
 */
import { hi32, paddrOf, TWO_32 } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';

/** EVT_BUFFER_SIZE: 512 events. */
const LOG_BYTES = 8192;
/** Bits of head and tail within this log: whatever the registers say, reading stays inside and ends. */
const POINTER_MASK: number = LOG_BYTES - amdvi.RING_ENTRY_BYTES;
const LOG_LEN_LG2 = 9;
/** Turns to wait for an event that the tail announces. */
const MAX_TURNS = 1000;

/** One event, taken apart. */
export interface AmdEvent {
  /** EVENT_* of the specification. */
  readonly code: number;
  readonly sid: number;
  readonly did: number;
  /** EVENT_FLAG_* */
  readonly flags: number;
  /** Of the access, or of the command or entry that was wrong. */
  readonly address: number;
}

export class EventLog {
  readonly #platform: Platform;
  readonly #base: number;
  readonly #log: number;

  /** Allocates the log. @throws RangeError when no pages are left */
  constructor(platform: Platform, base: number) {
    const pfn = platform.pages.allocRun(LOG_BYTES / 4096);
    if (pfn < 0) throw new RangeError('no memory for the event log');
    this.#platform = platform;
    this.#base = base;
    this.#log = paddrOf(pfn);
  }

  /** Gives hardware the log, empty; the caller then switches logging on. */
  start(): void {
    const lengthHi = LOG_LEN_LG2 << amdvi.RING_LEN_SHIFT_HI;
    this.#platform.writeq(this.#base + amdvi.EVT_BASE_REG, this.#log | 0, hi32(this.#log) | lengthHi);
    this.#platform.writel(this.#base + amdvi.EVT_HEAD_REG, 0);
    this.#platform.writel(this.#base + amdvi.EVT_TAIL_REG, 0);
  }

  /** Hands over all events in the log, oldest first, and empties it. One that never appears in memory is passed over. */
  drain(handler: (event: AmdEvent) => void): void {
    const platform = this.#platform;
    let head = platform.readl(this.#base + amdvi.EVT_HEAD_REG) & POINTER_MASK;
    const tail = platform.readl(this.#base + amdvi.EVT_TAIL_REG) & POINTER_MASK;
    while (head !== tail) {
      const event = this.#take(this.#log + head);
      if (event !== null) handler(event);
      head = (head + amdvi.RING_ENTRY_BYTES) % LOG_BYTES;
    }
    platform.writel(this.#base + amdvi.EVT_HEAD_REG, head);
  }

  #take(at: number): AmdEvent | null {
    const { mem } = this.#platform;
    const load = (word: number): number => this.#platform.loadShared32(at + word * 4);
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      const w1 = load(1);
      const code = w1 >>> amdvi.EVENT_CODE_SHIFT_W1;
      if (code !== 0) {
        const event = {
          code,
          sid: load(0) & amdvi.EVENT_DEVICE_MASK_W0,
          did: w1 & amdvi.EVENT_DOMAIN_MASK_W1,
          flags: (w1 >>> amdvi.EVENT_FLAGS_SHIFT_W1) & 0xfff,
          // All 64 bits: a device may ask for more than any table maps.
          address: (load(3) >>> 0) * TWO_32 + (load(2) >>> 0),
        };
        mem.store64(at, 0, 0);
        mem.store64(at + 8, 0, 0);
        return event;
      }
      this.#platform.relax();
    }
    return null;
  }
}
