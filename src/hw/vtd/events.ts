/**
 * Interrupt messages of a unit: the fault event (VT-d rev. 4.1 sections 7.3 and 11.4.10 to 11.4.13) and the invalidation
 * completion event (6.5.2.10, 11.4.16 to 11.4.20). Both have a control register with IM (masked) and IP (pending),
 * followed by data and address registers, so one class serves both.
 *
 * IP is set when an event occurs while masked and is the only trace of it; unmasking sends the message.
 */
import { vtd } from '../../spec/index.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const { EVENT_IM, EVENT_IP, FECTL_REG, IECTL_REG } = vtd;

export type InterruptKind = 'fault' | 'invalidation';

/** What somebody outside can hear of a unit. Called while the unit works: a listener must not write its registers. */
export interface VtdListener {
  /** A queued descriptor has been executed, waits included. Bad descriptors are not reported: they never execute. */
  descriptor(w0: number, w1: number, w2: number, w3: number): void;
  /** Software moved the tail. @param tail descriptor index */
  doorbell(tail: number): void;
  /** A register-based invalidation has been executed: CCMD as 'context', IOTLB (with IVA) as 'iotlb'. */
  registerInvalidation?(kind: 'context' | 'iotlb', lo: number, hi: number, ivaLo: number, ivaHi: number): void;
  /** A message went out: a memory write of `data` to `address`. */
  interrupt?(kind: InterruptKind, address: number, data: number): void;
}

/** Whoever holds the listener; parts ask it each time, since it may be exchanged. */
export interface ListenerHolder {
  readonly listener: VtdListener | null;
}

const CONTROL: Record<InterruptKind, number> = { fault: FECTL_REG >> 2, invalidation: IECTL_REG >> 2 };

export class EventMessages {
  readonly #words: Int32Array;
  readonly #holder: ListenerHolder;

  constructor(words: Int32Array, holder: ListenerHolder) {
    this.#words = words;
    this.#holder = holder;
    // Reset value: masked (11.4.10, 11.4.17).
    this.#words[CONTROL.fault] = EVENT_IM;
    this.#words[CONTROL.invalidation] = EVENT_IM;
  }

  /** An interrupt condition has arisen. */
  raise(kind: InterruptKind): void {
    const control = CONTROL[kind];
    this.#words[control] |= EVENT_IP;
    if ((this.#words[control] & EVENT_IM) === 0) this.#send(kind);
  }

  /** Software serviced the cause by other means: a message not yet sent never will be. */
  withdraw(kind: InterruptKind): void {
    this.#words[CONTROL[kind]] &= ~EVENT_IP;
  }

  /** Software wrote the control register: only IM is writable. */
  controlWritten(kind: InterruptKind, value: number): void {
    const control = CONTROL[kind];
    const pending = this.#words[control] & EVENT_IP;
    this.#words[control] = pending | (value & EVENT_IM);
    if (pending !== 0 && (value & EVENT_IM) === 0) this.#send(kind);
  }

  #send(kind: InterruptKind): void {
    const control = CONTROL[kind];
    this.#words[control] &= ~EVENT_IP;
    const data = this.#words[control + 1];
    const address = (this.#words[control + 3] >>> 0) * 4294967296 + (this.#words[control + 2] >>> 0);
    this.#holder.listener?.interrupt?.(kind, address, data >>> 0);
  }
}
