/**
 * The command buffer. AMD-Vi 48882 rev. 3.x sections 2.4 (ring, 2.4.1 to 2.4.8 the commands), 2.5.6 to 2.5.8 (errors) and the
 * registers 0x08, 0x2000, 0x2008 (3.4).
 *
 * Errors. An illegal command, or one that cannot be read or done because memory does not answer, is logged; CmdBufRun goes to
 * 0 and the head stays at the command, since it only moves past validated ones. Software restarts by setting CmdBufEn from 0
 * to 1. A device TLB that does not answer in time is logged too, and stops nothing.
 */
import { amdvi } from '../../spec/index.ts';
import type { PhysMem } from '../../mem/index.ts';
import { RING_PAGE_SHIFT, ringEntryAddress, ringEntryIndex, ringPageIndex } from '../queue/ring.ts';
import type { FullAmdviConfig } from './config.ts';
import { ringLength, type EventLog } from './event-log.ts';
import type { AmdviInvalidator } from './invalidate.ts';
import * as layout from './layout.ts';
import type { ListenerHolder, Status } from './status.ts';

// Local copies: a constant read through the namespace is a property load each time (see set-cache.ts).
const {
  ADDR_MASK_HI,
  CMD_BASE_REG,
  CMD_COMPLETE_PPR_REQUEST,
  CMD_COMPLETION_WAIT,
  CMD_DEVICE_MASK_W0,
  CMD_DOMAIN_MASK_W1,
  CMD_HEAD_REG,
  CMD_INVALIDATE_DEVTAB_ENTRY,
  CMD_INVALIDATE_INTERRUPT_TABLE,
  CMD_INVALIDATE_IOMMU_ALL,
  CMD_INVALIDATE_IOMMU_PAGES,
  CMD_INVALIDATE_IOTLB_PAGES,
  CMD_OP_SHIFT_W1,
  CMD_PREFETCH_IOMMU_PAGES,
  CMD_TAIL_REG,
  EVENT_COMMAND_HARDWARE_ERROR,
  EVENT_ILLEGAL_COMMAND_ERROR,
  EVENT_IOTLB_INV_TIMEOUT,
  EVENT_TYPE_SHIFT,
  HARDWARE_MASTER_ABORT,
  RING_ENTRY_BYTES,
  STATUS_CMD_BUF_RUN,
  STATUS_COM_WAIT_INT,
  WAIT_INT_W0,
  WAIT_STORE_W0,
} = amdvi;

const BASE = CMD_BASE_REG >> 2;
const HEAD = layout.UPPER + ((CMD_HEAD_REG - layout.UPPER_OFFSET) >> 2);
const TAIL = layout.UPPER + ((CMD_TAIL_REG - layout.UPPER_OFFSET) >> 2);
const STATUS = layout.UPPER + ((amdvi.STATUS_REG - layout.UPPER_OFFSET) >> 2);
const INJECTED_SID: number = layout.INJECTED_SID;
const ENTRY_SHIFT = 31 - Math.clz32(RING_ENTRY_BYTES);
/** Commands per 4 KiB page of the ring, as a shift and a mask. */
const PAGE_SHIFT: number = RING_PAGE_SHIFT;
const PAGE_MASK = 255;
/** What of word 1 is not the operation. */
const OPERAND_W1 = 0xfffffff;
/** Outcomes of a command. Aborted ones have been logged. */
const DONE = 0;
const ILLEGAL = 1;
const ABORTED = 2;

export class CommandBuffer {
  readonly #words: Int32Array;
  readonly #mem: PhysMem;
  readonly #invalidator: AmdviInvalidator;
  readonly #log: EventLog;
  readonly #status: Status;
  readonly #holder: ListenerHolder;
  readonly #config: FullAmdviConfig;

  constructor(
    words: Int32Array,
    mem: PhysMem,
    invalidator: AmdviInvalidator,
    log: EventLog,
    status: Status,
    holder: ListenerHolder,
    config: FullAmdviConfig,
  ) {
    this.#words = words;
    this.#mem = mem;
    this.#invalidator = invalidator;
    this.#log = log;
    this.#status = status;
    this.#holder = holder;
    this.#config = config;
  }

  /** IommuEn and CmdBufEn have come to be set together. */
  start(): void {
    if (ringLength(this.#words[BASE + 1]) !== 0) this.#status.change(STATUS_CMD_BUF_RUN, 0);
  }

  /** One of them was cleared: nothing more is fetched. */
  stop(): void {
    this.#status.change(0, STATUS_CMD_BUF_RUN);
  }

  /** True when commands wait and nothing forbids executing them. */
  hasWork(): boolean {
    const words = this.#words;
    return (words[STATUS] & STATUS_CMD_BUF_RUN) !== 0 && words[HEAD] !== words[TAIL];
  }

  /** Executes commands until the tail or an error. */
  run(): void {
    const words = this.#words;
    if (!this.hasWork()) return;
    const last = ringLength(words[BASE + 1]) - 1;
    const tail = words[TAIL] >>> ENTRY_SHIFT;
    let head = words[HEAD] >>> ENTRY_SHIFT;
    let page = -1;
    let base = 0;
    while (head !== tail) {
      if (head >>> PAGE_SHIFT !== page) {
        page = head >>> PAGE_SHIFT;
        base = ringPageIndex(this.#mem, words[BASE], words[BASE + 1] & ADDR_MASK_HI, page);
        if (base < 0) return this.#stop(head);
      }
      const memory = this.#mem.words;
      const at = base + ((head & PAGE_MASK) << 2);
      const w0 = memory[at];
      const w1 = memory[at + 1];
      const w2 = memory[at + 2];
      const w3 = memory[at + 3];
      // Nearly all commands are of two operations.
      const operation = w1 >>> CMD_OP_SHIFT_W1;
      let outcome: number;
      if (operation === CMD_INVALIDATE_IOMMU_PAGES) outcome = this.#pages(w0, w1, w2, w3);
      else if (operation === CMD_COMPLETION_WAIT) outcome = this.#wait(w0, w1, w2, w3);
      else outcome = this.#rare(head, w0, w1, w2, w3);
      if (outcome === DONE) {
        const { listener } = this.#holder;
        if (listener !== null) listener.command(w0, w1, w2, w3);
      } else if (outcome === ABORTED) {
        this.#status.change(0, STATUS_CMD_BUF_RUN);
        return;
      } else if (this.#isStoppedBy(head)) {
        return;
      }
      head = (head + 1) & last;
      words[HEAD] = head << ENTRY_SHIFT;
    }
  }

  /** Executes the command at the head and no more: hardware may take its time between any two. */
  runOne(): void {
    const words = this.#words;
    if (!this.hasWork()) return;
    const tail = words[TAIL];
    words[TAIL] = (((words[HEAD] >>> ENTRY_SHIFT) + 1) & (ringLength(words[BASE + 1]) - 1)) << ENTRY_SHIFT;
    this.run();
    words[TAIL] = tail;
  }

  #addressOf(index: number): number {
    return ringEntryAddress(this.#words[BASE] & -4096, this.#words[BASE + 1] & ADDR_MASK_HI, index);
  }

  /** A command could not be fetched. */
  #stop(index: number): void {
    this.#hardwareError(this.#addressOf(index));
    this.#status.change(0, STATUS_CMD_BUF_RUN);
  }

  /** An illegal command was met: logs it. @returns whether that ends the run */
  #isStoppedBy(index: number): boolean {
    this.#record(EVENT_ILLEGAL_COMMAND_ERROR, 0, 0, this.#addressOf(index));
    if (!this.#config.stopsAtIllegal) return false;
    this.#status.change(0, STATUS_CMD_BUF_RUN);
    return true;
  }

  /** Executes a command of another operation. @returns DONE or ILLEGAL */
  #rare(index: number, w0: number, w1: number, w2: number, w3: number): number {
    const operation = w1 >>> CMD_OP_SHIFT_W1;
    if (!this.#isLegal(operation, w0, w1, w2, w3)) return ILLEGAL;
    if (operation === CMD_INVALIDATE_DEVTAB_ENTRY) this.#invalidator.device(w0 & CMD_DEVICE_MASK_W0);
    else if (operation === CMD_INVALIDATE_IOMMU_ALL) this.#invalidator.all();
    else if (operation === CMD_INVALIDATE_IOTLB_PAGES) this.#deviceTlb(w0 & CMD_DEVICE_MASK_W0, index);
    // The others ask for nothing here: no interrupt entries are cached, nothing is fetched ahead (so Inval has nothing to drop
    // before), and no page request waits for an answer.
    return DONE;
  }

  /** Operations that this unit has, with their reserved bits zero. Guest fields (PASID, GN) are reserved without guest tables. */
  #isLegal(operation: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const operand = w1 & OPERAND_W1;
    switch (operation) {
      case CMD_INVALIDATE_DEVTAB_ENTRY:
      case CMD_INVALIDATE_INTERRUPT_TABLE:
        return ((w0 & 0xffff0000) | operand | w2 | w3) === 0;
      case CMD_INVALIDATE_IOTLB_PAGES:
        // Maxpend and QueueID are for the device; PASID is a guest field.
        return this.#config.iotlbSup && ((w0 & 0xff0000) | (operand & 0xfff0000) | (w2 & 0xffe)) === 0;
      case CMD_PREFETCH_IOMMU_PAGES:
        return this.#config.prefetch && ((w0 & 0xff0000) | operand | (w2 & 0xfee)) === 0;
      case CMD_COMPLETE_PPR_REQUEST:
        return this.#config.ppr && ((w0 & 0xffff0000) | operand | w2 | (w3 & 0xffff0000)) === 0;
      case CMD_INVALIDATE_IOMMU_ALL:
        return this.#config.ia && (w0 | operand | w2 | w3) === 0;
      default:
        return false;
    }
  }

  /** 2.4.3. Reserved: 31:0 (PASID), 59:48, 75:66 (GN among them). */
  #pages(w0: number, w1: number, w2: number, w3: number): number {
    if ((w0 | (w1 & 0xfff0000) | (w2 & 0xffc)) !== 0) return ILLEGAL;
    this.#invalidator.pages(w1 & CMD_DOMAIN_MASK_W1, w2, w3);
    return DONE;
  }

  /** 2.4.1. Everything before it has completed, so flushing the queue (F) asks for nothing more. Reserved: 59:52. */
  #wait(w0: number, w1: number, w2: number, w3: number): number {
    if ((w1 & 0xff00000) !== 0) return ILLEGAL;
    if ((w0 & WAIT_STORE_W0) !== 0) {
      const address = (w1 & ADDR_MASK_HI) * 4294967296 + ((w0 & -8) >>> 0);
      if (ringEntryIndex(this.#mem, address) < 0) {
        this.#hardwareError(address);
        return ABORTED;
      }
      this.#mem.deviceStore32(address, w2);
      this.#mem.deviceStore32(address + 4, w3);
    }
    if ((w0 & WAIT_INT_W0) !== 0) this.#status.change(STATUS_COM_WAIT_INT, 0);
    return DONE;
  }

  /** 2.4.4. Goes out to a device's TLB, of which there is none here to tell; a test may want it to stay silent. */
  #deviceTlb(sid: number, index: number): void {
    if (this.#words[INJECTED_SID] !== sid + 1) return;
    this.#words[INJECTED_SID] = 0;
    this.#record(EVENT_IOTLB_INV_TIMEOUT, 0, sid, this.#addressOf(index));
  }

  /** Memory did not answer where a command was to be read, or its data to be stored. */
  #hardwareError(address: number): void {
    this.#record(EVENT_COMMAND_HARDWARE_ERROR, HARDWARE_MASTER_ABORT << EVENT_TYPE_SHIFT, 0, address);
  }

  #record(code: number, flags: number, sid: number, address: number): void {
    this.#log.record(code, flags, sid, 0, address | 0, Math.floor(address / 4294967296));
  }
}
