/**
 * The event log: a ring in memory that hardware fills and software empties. AMD-Vi 48882 rev. 3.x section 2.5 (2.5.1 for the
 * sequence followed here) and the registers 0x10, 0x2010, 0x2018 (3.4).
 *
 * Overflow: an event that finds the ring full is lost, EventOverflow is set and EventLogRun cleared. Nothing is logged while
 * that bit stands. To go on, software clears it by writing a one, then takes EventLogEn from 0 to 1 (3.4; that it takes the 0
 * was seen on hardware: Linux 5ce97f4ec5e0). Either alone restarts nothing.
 *
 * An event that is not logged still blocks its request: logging never decides translations. One whose place in the ring is no
 * memory is lost on its way there: the tail has moved on, software finds nothing.
 */
import { amdvi } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { ringEntryAddress, ringEntryIndex } from '../queue/ring.ts';
import { UPPER, UPPER_OFFSET } from './layout.ts';
import type { Status } from './status.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  EVENT_CODE_SHIFT_W1,
  EVENT_DEVICE_MASK_W0,
  EVENT_DOMAIN_MASK_W1,
  EVENT_FLAG_RW,
  EVENT_FLAGS_SHIFT_W1,
  EVT_BASE_REG,
  EVT_HEAD_REG,
  EVT_TAIL_REG,
  RING_ENTRY_BYTES,
  RING_LEN_MASK,
  RING_LEN_MIN,
  RING_LEN_SHIFT_HI,
  STATUS_EVENT_LOG_INT,
  STATUS_EVENT_LOG_RUN,
  STATUS_EVENT_OVERFLOW,
} = amdvi;

const BASE = EVT_BASE_REG >> 2;
const HEAD = UPPER + ((EVT_HEAD_REG - UPPER_OFFSET) >> 2);
const TAIL = UPPER + ((EVT_TAIL_REG - UPPER_OFFSET) >> 2);

/** One event as software would decode it. */
export interface AmdviFaultRecord {
  /** Place in the ring. */
  readonly index: number;
  readonly sid: number;
  readonly domain: number;
  /** Event code. */
  readonly reason: number;
  /** EVENT_FLAG_* bits and the type of hardware errors and invalid requests. */
  readonly flags: number;
  /** What was asked for, or of a hardware or command error the place in memory. */
  readonly address: number;
  readonly isRead: boolean;
}

/** Entries of a ring by its base register's high word; 0 for a reserved length. */
export function ringLength(baseHi: number): number {
  const lg2 = (baseHi >>> RING_LEN_SHIFT_HI) & RING_LEN_MASK;
  return lg2 < RING_LEN_MIN ? 0 : 1 << lg2;
}

export class EventLog {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #status: Status;
  readonly #logs: boolean;

  constructor(words: Int32Array, mem: PhysMem, status: Status, logs: boolean) {
    this.#words = words;
    this.#mem = mem;
    this.#status = status;
    this.#logs = logs;
  }

  /** IommuEn and EventLogEn have come to be set together. */
  start(): void {
    if (ringLength(this.#words[BASE + 1]) === 0 || this.#status.has(STATUS_EVENT_OVERFLOW)) return;
    this.#status.change(STATUS_EVENT_LOG_RUN, 0);
  }

  stop(): void {
    this.#status.change(0, STATUS_EVENT_LOG_RUN);
  }

  /** Faults of requests are not logged: the walk under way is the unit's own idea. */
  muted = false;

  /** Logs an event. @param lo @param hi words of the address */
  record(code: number, flags: number, sid: number, domain: number, lo: number, hi: number): void {
    if (this.muted || !this.#logs || !this.#status.has(STATUS_EVENT_LOG_RUN)) return;
    const words = this.#words;
    const tail = words[TAIL];
    const next = (tail + RING_ENTRY_BYTES) & (ringLength(words[BASE + 1]) * RING_ENTRY_BYTES - 1);
    // Head and tail alike mean empty, so one entry always stays free.
    if (next === words[HEAD]) {
      this.#status.change(STATUS_EVENT_OVERFLOW, STATUS_EVENT_LOG_RUN);
      return;
    }
    const address = this.#addressOf(tail / RING_ENTRY_BYTES);
    const mem = this.#mem;
    if (ringEntryIndex(mem, address) >= 0) {
      mem.deviceStore32(address, sid);
      mem.deviceStore32(address + 4, (code << EVENT_CODE_SHIFT_W1) | (flags << EVENT_FLAGS_SHIFT_W1) | domain);
      mem.deviceStore32(address + 8, lo);
      mem.deviceStore32(address + 12, hi);
    }
    words[TAIL] = next;
    this.#status.change(STATUS_EVENT_LOG_INT, 0);
  }

  /** Events between head and tail, oldest first. */
  pending(): AmdviFaultRecord[] {
    const found: AmdviFaultRecord[] = [];
    const nr = ringLength(this.#words[BASE + 1]);
    if (nr === 0) return found;
    const tail = this.#words[TAIL] / RING_ENTRY_BYTES;
    for (let index = this.#words[HEAD] / RING_ENTRY_BYTES; index !== tail; index = (index + 1) & (nr - 1)) {
      const at = ringEntryIndex(this.#mem, this.#addressOf(index));
      if (at < 0) break;
      const { words } = this.#mem;
      const flags = (words[at + 1] >>> EVENT_FLAGS_SHIFT_W1) & 0xfff;
      found.push({
        index,
        sid: words[at] & EVENT_DEVICE_MASK_W0,
        domain: words[at + 1] & EVENT_DOMAIN_MASK_W1,
        reason: words[at + 1] >>> EVENT_CODE_SHIFT_W1,
        flags,
        address: (words[at + 3] >>> 0) * 4294967296 + (words[at + 2] >>> 0),
        isRead: (flags & EVENT_FLAG_RW) === 0,
      });
    }
    return found;
  }

  #addressOf(index: number): number {
    return ringEntryAddress(this.#words[BASE] & -4096, this.#words[BASE + 1] & ADDR_MASK_HI, index);
  }
}
