/**
 * Primary fault logging. VT-d rev. 4.1 sections 7.2 (logging, 7.2.1 for the sequence followed here), 7.3 (events), 11.4.9
 * (FSTS) and 11.4.14 (FRCD). PPF and FRI are not stored but derived from the records: they can then never disagree.
 *
 * A fault that is not logged (overflow, compression, FPD) still blocks its request: logging never decides translations.
 */
import { vtd } from '../../spec/index.ts';
import type { EventMessages } from './events.ts';
import { FAULT_NEXT, RECORDS } from './layout.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  FRCD_AT_SHIFT_W3,
  FRCD_F_W3,
  FRCD_REASON_MASK_W3,
  FRCD_SID_MASK_W2,
  FRCD_T1_W3,
  FSTS_FRI_SHIFT,
  FSTS_ICE,
  FSTS_IQE,
  FSTS_ITE,
  FSTS_PFO,
  FSTS_PPF,
  FSTS_REG,
} = vtd;

const FSTS = FSTS_REG >> 2;
const W1C = FSTS_PFO | FSTS_IQE | FSTS_ICE | FSTS_ITE;

/** One pending fault as software would decode it. */
export interface FaultRecord {
  readonly index: number;
  readonly sid: number;
  readonly reason: number;
  /** First byte of the page that was asked for. */
  readonly address: number;
  readonly isRead: boolean;
  /** 0 untranslated, 1 translation request, 2 translated request. */
  readonly addressType: number;
}

export class FaultLog {
  readonly #words: Int32Array;
  readonly #nr: number;
  readonly #events: EventMessages;

  readonly #recordClearWithdraws: boolean;

  constructor(words: Int32Array, nrRecords: number, events: EventMessages, recordClearWithdraws: boolean) {
    this.#words = words;
    this.#nr = nrRecords;
    this.#events = events;
    this.#recordClearWithdraws = recordClearWithdraws;
  }

  /** Faults are not logged: the walk under way is the unit's own idea. */
  muted = false;

  /** Logs a fault (7.2.1). @param lo low 32 bits of the IOVA. @param hi bits 63:32. @param access bit 0 read, bit 1 write, 3:2 AT */
  record(sid: number, lo: number, hi: number, access: number, reason: number): void {
    const words = this.#words;
    if (this.muted) return;
    // 1. While PFO is set nothing is logged: software has not yet noticed that it lost faults.
    if ((words[FSTS] & FSTS_PFO) !== 0) return;
    // 2. Compression: one pending record per requester is enough to find the culprit.
    for (let index = 0; index < this.#nr; index++) {
      const at = RECORDS + index * 4;
      if (words[at + 3] < 0 && (words[at + 2] & FRCD_SID_MASK_W2) === sid) return;
    }
    this.#log(sid, lo, hi, access, reason);
  }

  /** Steps 3 to 5. Apart, since of the faults of a device that nobody serves hardly one gets here. */
  #log(sid: number, lo: number, hi: number, access: number, reason: number): void {
    const words = this.#words;
    const wasQuiet = !this.#anyStatus();
    const at = RECORDS + words[FAULT_NEXT] * 4;
    if (words[at + 3] < 0) {
      // 3. The record in turn is still pending (F is the sign bit): overflow.
      words[FSTS] |= FSTS_PFO;
    } else {
      // 4. The address is logged to the page; an access that also writes counts as a write.
      words[at] = lo & -4096;
      words[at + 1] = hi;
      words[at + 2] = sid;
      const type = (access & 2) === 0 ? FRCD_T1_W3 : 0;
      words[at + 3] = FRCD_F_W3 | type | (((access >>> 2) & 3) << FRCD_AT_SHIFT_W3) | reason;
      words[FAULT_NEXT] = (words[FAULT_NEXT] + 1) % this.#nr;
    }
    // 5. No new event while an older cause waits for service (7.3).
    if (wasQuiet) this.#events.raise('fault');
  }

  /** Sets IQE, ICE or ITE and raises the event they share with faults. */
  setStatus(bit: number): void {
    const wasQuiet = !this.#anyStatus();
    this.#words[FSTS] |= bit;
    if (wasQuiet) this.#events.raise('fault');
  }

  /** FSTS as software reads it. */
  readStatus(): number {
    const first = this.#firstPending();
    const stored = this.#words[FSTS];
    return first < 0 ? stored : stored | FSTS_PPF | (first << FSTS_FRI_SHIFT);
  }

  /** Software wrote FSTS: sticky bits are cleared by ones. */
  statusWritten(value: number): void {
    this.#words[FSTS] &= ~(value & W1C);
    if (!this.#anyStatus()) this.#events.withdraw('fault');
  }

  /** Software wrote a word of a record: only F can change, and only to 0. */
  recordWritten(wordIndex: number, value: number): void {
    if ((wordIndex & 3) !== 3 || value >= 0) return;
    this.#words[RECORDS + wordIndex] &= ~FRCD_F_W3;
    if (this.#recordClearWithdraws && !this.#anyStatus()) this.#events.withdraw('fault');
  }

  /** Pending faults, oldest first. */
  pending(): FaultRecord[] {
    const found: FaultRecord[] = [];
    for (let step = 0; step < this.#nr; step++) {
      const index = (this.#words[FAULT_NEXT] + step) % this.#nr;
      const at = RECORDS + index * 4;
      const word3 = this.#words[at + 3];
      if (word3 >= 0) continue;
      found.push({
        index,
        sid: this.#words[at + 2] & FRCD_SID_MASK_W2,
        reason: word3 & FRCD_REASON_MASK_W3,
        address: (this.#words[at + 1] >>> 0) * 4294967296 + (this.#words[at] >>> 0),
        isRead: (word3 & FRCD_T1_W3) !== 0,
        addressType: (word3 >>> FRCD_AT_SHIFT_W3) & 3,
      });
    }
    return found;
  }

  #anyStatus(): boolean {
    return this.#words[FSTS] !== 0 || this.#firstPending() >= 0;
  }

  /** The oldest pending record: records are filled in a ring, so the first one set at or after the next slot. */
  #firstPending(): number {
    for (let step = 0; step < this.#nr; step++) {
      const index = (this.#words[FAULT_NEXT] + step) % this.#nr;
      if (this.#words[RECORDS + index * 4 + 3] < 0) return index;
    }
    return -1;
  }
}
