/**
 * The status register and the interrupts that it causes. AMD-Vi 48882 rev. 3.x sections 2.8 (the unit's own interrupts) and
 * 3.4 (control and status register). A message goes out when a status bit and its enable bit come to be set together; while
 * both stay set nothing more is sent, so software that leaves a bit standing hears no more of it.
 *
 * Both conditions of a unit share one MSI, which the PCI function holds: the model tells which status bit caused a message, not
 * where it went.
 */
import { amdvi } from '../../spec/index.ts';
import { UPPER, UPPER_OFFSET } from './layout.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  CONTROL_COM_WAIT_INT_EN,
  CONTROL_EVENT_INT_EN,
  CONTROL_REG,
  STATUS_COM_WAIT_INT,
  STATUS_EVENT_LOG_INT,
  STATUS_EVENT_OVERFLOW,
  STATUS_REG,
} = amdvi;

/** EventLogInt, EventOverflow, ComWaitInt. */
export type AmdviInterruptKind = 'event' | 'overflow' | 'completion';

/** What somebody outside can hear of a unit. Called while the unit works: a listener must not write its registers. */
export interface AmdviListener {
  /** A command has been executed, waits included. Illegal ones are not reported: they never execute. */
  command(w0: number, w1: number, w2: number, w3: number): void;
  /** Software moved the tail. @param tail command index */
  doorbell(tail: number): void;
  /** A message went out. */
  interrupt?(kind: AmdviInterruptKind): void;
}

/** Whoever holds the listener; parts ask it each time, since it may be exchanged. */
export interface ListenerHolder {
  readonly listener: AmdviListener | null;
}

const CONTROL = CONTROL_REG >> 2;
const STATUS = UPPER + ((STATUS_REG - UPPER_OFFSET) >> 2);

export class Status {
  readonly #words: Int32Array;
  readonly #holder: ListenerHolder;

  constructor(words: Int32Array, holder: ListenerHolder) {
    this.#words = words;
    this.#holder = holder;
  }

  /** Whether any of these bits is set. */
  has(bits: number): boolean {
    return (this.#words[STATUS] & bits) !== 0;
  }

  /** Sets and clears status bits. */
  change(set: number, clear: number): void {
    const before = this.#pending();
    this.#words[STATUS] = (this.#words[STATUS] & ~clear) | set;
    this.#send(this.#pending() & ~before);
  }

  /** Software wrote the control register's low word: an enable bit may find its status bit already set. */
  controlWritten(value: number): void {
    const before = this.#pending();
    this.#words[CONTROL] = value;
    this.#send(this.#pending() & ~before);
  }

  /** Status bits whose interrupt is enabled. */
  #pending(): number {
    const control = this.#words[CONTROL];
    let enabled = 0;
    if ((control & CONTROL_EVENT_INT_EN) !== 0) enabled |= STATUS_EVENT_OVERFLOW | STATUS_EVENT_LOG_INT;
    if ((control & CONTROL_COM_WAIT_INT_EN) !== 0) enabled |= STATUS_COM_WAIT_INT;
    return this.#words[STATUS] & enabled;
  }

  #send(bits: number): void {
    if (bits === 0) return;
    if ((bits & STATUS_EVENT_LOG_INT) !== 0) this.#holder.listener?.interrupt?.('event');
    if ((bits & STATUS_EVENT_OVERFLOW) !== 0) this.#holder.listener?.interrupt?.('overflow');
    if ((bits & STATUS_COM_WAIT_INT) !== 0) this.#holder.listener?.interrupt?.('completion');
  }
}
