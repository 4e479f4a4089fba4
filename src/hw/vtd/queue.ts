/**
 * Queued invalidation. VT-d rev. 4.1 sections 6.5.2 (descriptors, 6.5.2.1 to 6.5.2.9), 6.5.2.10 (errors), 11.4.11 to 11.4.18
 * (IQH, IQT, IQA, ICS, IQERCD).
 *
 * The queue and the wait status are read and written coherently whatever ECAP.C says (11.4.3, C: only tables are meant), so
 * this file uses memory's CPU view.
 *
 * Errors. IQE: the head stays at the bad descriptor; nothing moves until software has cleared FSTS.IQE and writes IQT again.
 * ITE: a device TLB did not answer; the wait already fetched is dropped (its status is never written) and the head stands
 * behind it. ICE: a foreign completion arrived; nothing is lost. After ITE and ICE the queue goes on when they are cleared.
 */
import { vtd } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import type { FullVtdConfig } from './config.ts';
import type { EventMessages, ListenerHolder } from './events.ts';
import type { FaultLog } from './fault.ts';
import type { Invalidator } from './invalidate.ts';
import * as layout from './layout.ts';
import { RING_PAGE_SHIFT, ringPageIndex } from '../queue/ring.ts';
import { drainWriteBuffer } from './write-buffer.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  DESC_CONTEXT,
  DESC_DEVICE_IOTLB,
  DESC_DID_SHIFT,
  DESC_INTERRUPT_ENTRY,
  DESC_IOTLB,
  DESC_WAIT,
  FSTS_ICE,
  FSTS_IQE,
  FSTS_ITE,
  FSTS_REG,
  ICS_IWC,
  ICS_REG,
  IQA_QS_MASK,
  IQA_REG,
  IQEI_FETCH_FAILED,
  IQEI_INVALID_TAIL,
  IQEI_INVALID_TYPE,
  IQEI_RESERVED_FIELD,
  IQERCD_ICESID_SHIFT_HI,
  IQERCD_ITESID_SHIFT_HI,
  IQERCD_REG,
  IQH_REG,
  IQT_REG,
  IQ_INDEX_SHIFT,
  WAIT_IF,
  WAIT_SW,
} = vtd;
const INJECTED: number = layout.INJECTED;
const INJECTED_SID: number = layout.INJECTED_SID;
const QUEUE_HI: number = layout.QUEUE_HI;
const QUEUE_LO: number = layout.QUEUE_LO;
const QUEUE_NR: number = layout.QUEUE_NR;

/** Descriptors per 4 KiB page of the ring, as a shift and a mask. */
const PAGE_SHIFT: number = RING_PAGE_SHIFT;
const PAGE_MASK = 255;
const FSTS = FSTS_REG >> 2;
const IQH = IQH_REG >> 2;
const IQT = IQT_REG >> 2;
const IQA = IQA_REG >> 2;
const ICS = ICS_REG >> 2;
const IQERCD = IQERCD_REG >> 2;
/** Neither executed nor wrong: the head passes over it. */
const DROPPED = -1;
const STOPPED = FSTS_IQE | FSTS_ICE | FSTS_ITE;

export class InvalidationQueue {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #invalidator: Invalidator;
  readonly #faults: FaultLog;
  readonly #events: EventMessages;
  readonly #holder: ListenerHolder;
  readonly #config: FullVtdConfig;

  constructor(
    words: Int32Array,
    mem: PhysMem,
    invalidator: Invalidator,
    faults: FaultLog,
    events: EventMessages,
    holder: ListenerHolder,
    config: FullVtdConfig,
  ) {
    this.#words = words;
    this.#mem = mem;
    this.#invalidator = invalidator;
    this.#faults = faults;
    this.#events = events;
    this.#holder = holder;
    this.#config = config;
  }

  /** GCMD.QIE was set: latches the queue's place and starts at its first descriptor. */
  enable(): void {
    const words = this.#words;
    words[QUEUE_LO] = words[IQA] & -4096;
    words[QUEUE_HI] = words[IQA + 1];
    words[QUEUE_NR] = 256 << (words[IQA] & IQA_QS_MASK);
    words[IQH] = 0;
  }

  /** GCMD.QIE was cleared; requests that software submitted are completed first (11.4.4). */
  disable(): void {
    this.run();
    this.#words[QUEUE_NR] = 0;
    this.#words[IQH] = 0;
  }

  /** True when descriptors wait and nothing forbids executing them. */
  hasWork(): boolean {
    const words = this.#words;
    return words[QUEUE_NR] !== 0 && (words[FSTS] & STOPPED) === 0 && words[IQH] !== words[IQT];
  }

  /** Executes descriptors until the tail or an error. */
  run(): void {
    const words = this.#words;
    if (!this.hasWork()) return;
    if (this.#config.rwbf) drainWriteBuffer(this.#mem);
    const nr = words[QUEUE_NR];
    const tail = words[IQT] >>> IQ_INDEX_SHIFT;
    if (tail >= nr) return this.#stop(IQEI_INVALID_TAIL);
    let head = words[IQH] >>> IQ_INDEX_SHIFT;
    let page = -1;
    let base = 0;
    while (head !== tail) {
      if (words[INJECTED] === FSTS_ICE) return this.#injectedError();
      if (head >>> PAGE_SHIFT !== page) {
        page = head >>> PAGE_SHIFT;
        base = ringPageIndex(this.#mem, words[QUEUE_LO], words[QUEUE_HI] & 0xfffff, page);
        if (base < 0) return this.#stop(IQEI_FETCH_FAILED);
      }
      const memory = this.#mem.words;
      const at = base + ((head & PAGE_MASK) << 2);
      const w0 = memory[at];
      const w1 = memory[at + 1];
      const w2 = memory[at + 2];
      const w3 = memory[at + 3];
      // The type has seven bits: 3:0 and 11:9. Nearly all descriptors are of two types.
      const type = w0 & 0xe0f;
      let error: number;
      if (type === DESC_IOTLB) error = this.#iotlb(w0, w1, w2, w3);
      else if (type === DESC_WAIT) error = this.#wait(w0, w1, w2, w3);
      else error = this.#rare(w0, w1, w2, w3);
      if (error === 0) {
        const { listener } = this.#holder;
        if (listener !== null) listener.descriptor(w0, w1, w2, w3);
      } else if (error > 0) {
        return this.#stop(error);
      }
      head = head + 1 === nr ? 0 : head + 1;
      words[IQH] = head << IQ_INDEX_SHIFT;
      if ((words[FSTS] & STOPPED) !== 0) return;
    }
  }

  /** Executes the descriptor at the head and no more: hardware may take its time between any two. */
  runOne(): void {
    const words = this.#words;
    const nr = words[QUEUE_NR];
    const tail = words[IQT];
    // What is wrong with the tail shows in a run to it.
    if (!this.hasWork() || tail >>> IQ_INDEX_SHIFT >= nr) return this.run();
    words[IQT] = (((words[IQH] >>> IQ_INDEX_SHIFT) + 1) % nr) << IQ_INDEX_SHIFT;
    this.run();
    words[IQT] = tail;
  }

  #stop(error: number): void {
    if (this.#config.reportsQueueError) this.#words[IQERCD] = error;
    this.#faults.setStatus(FSTS_IQE);
  }

  #injectedError(): void {
    const words = this.#words;
    const bit = words[INJECTED];
    if (this.#config.reportsQueueError) {
      const shift = bit === FSTS_ITE ? IQERCD_ITESID_SHIFT_HI : IQERCD_ICESID_SHIFT_HI;
      words[IQERCD + 1] = words[INJECTED_SID] << shift;
    }
    words[INJECTED] = 0;
    words[INJECTED_SID] = 0;
    this.#faults.setStatus(bit);
  }

  /** Executes a descriptor of another type. @returns like those below 0, DROPPED, or the IQEI code of what is wrong with it */
  #rare(w0: number, w1: number, w2: number, w3: number): number {
    const type = (w0 & 15) | ((w0 & 0xe00) >>> 5);
    if (type === DESC_CONTEXT) return this.#context(w0, w1, w2, w3);
    if (type === DESC_DEVICE_IOTLB) return this.#deviceIotlb(w0, w1, w2);
    if (type === DESC_INTERRUPT_ENTRY) return this.#interruptEntry(w0, w1, w2, w3);
    return IQEI_INVALID_TYPE;
  }

  /** 6.5.2.1. Reserved: 8:6, 15:12, 63:50, the upper half. */
  #context(w0: number, w1: number, w2: number, w3: number): number {
    if (((w0 & 0xf1c0) | (w1 & 0xfffc0000) | w2 | w3) !== 0) return IQEI_RESERVED_FIELD;
    const done = this.#invalidator.context((w0 >>> 4) & 3, w0 >>> DESC_DID_SHIFT, w1 & 0xffff, (w1 >>> 16) & 3);
    return done === 0 ? IQEI_RESERVED_FIELD : 0;
  }

  /** 6.5.2.3. Reserved: 8, 15:12, 63:32, 75:71. DR and DW ask to drain requests; here none is ever in flight. */
  #iotlb(w0: number, w1: number, w2: number, w3: number): number {
    if (((w0 & 0xf100) | w1 | (w2 & 0xf80)) !== 0) return IQEI_RESERVED_FIELD;
    const done = this.#invalidator.iotlb((w0 >>> 4) & 3, w0 >>> DESC_DID_SHIFT, w2, w3);
    return done === 0 ? IQEI_RESERVED_FIELD : 0;
  }

  /** 6.5.2.5. Goes out to a device TLB, of which this unit has none to tell. Reserved: 8:4, 31:21, 51:48, 75:65. */
  #deviceIotlb(w0: number, w1: number, w2: number): number {
    return ((w0 & 0xffe001f0) | (w1 & 0xf0000) | (w2 & 0xffe)) === 0 ? 0 : IQEI_RESERVED_FIELD;
  }

  /** 6.5.2.7. No interrupt entries are cached here. Reserved: 8:5, 26:12, 63:48, the upper half. */
  #interruptEntry(w0: number, w1: number, w2: number, w3: number): number {
    return ((w0 & 0x7fff1e0) | (w1 & 0xffff0000) | w2 | w3) === 0 ? 0 : IQEI_RESERVED_FIELD;
  }

  /** 6.5.2.8. Everything before it has completed, so a fence (FN) asks for nothing more. Reserved: 8:7, 31:12, 65:64. */
  #wait(w0: number, w1: number, w2: number, w3: number): number {
    if (((w0 & 0xfffff180) | (w2 & 3)) !== 0) return IQEI_RESERVED_FIELD;
    const words = this.#words;
    if (words[INJECTED] === FSTS_ITE) {
      this.#injectedError();
      return DROPPED;
    }
    if ((w0 & WAIT_SW) !== 0) this.#mem.deviceStore32((w3 & 0xfffff) * 4294967296 + (w2 >>> 0), w1);
    if ((w0 & WAIT_IF) !== 0) this.#completed();
    return 0;
  }

  #completed(): void {
    const words = this.#words;
    // A second completion before software has seen the first is no new event.
    if ((words[ICS] & ICS_IWC) !== 0) return;
    words[ICS] |= ICS_IWC;
    this.#events.raise('invalidation');
  }
}
