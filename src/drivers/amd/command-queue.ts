/**
 * The command buffer as the driver sees it (AMD 48882, 2.4; registers 3.4.2 and 3.4.12): __iommu_queue_command_sync and
 * iommu_completion_wait of drivers/iommu/amd/iommu.c, 6.12.
 *
 * Queueing writes a command and moves the tail; hardware starts on it whenever it likes. `wait` queues a COMPLETION_WAIT that
 * stores a number into a cell and returns when the cell says that this number, or a later one, was stored. The wait is what
 * makes C-MAP-VISIBLE and C-UNMAP-GONE true.
 *
 * Not kept from Linux: the lock, and so the question who takes the next number (9e249c484128).
 */
import { ETIMEDOUT, hi32, paddrOf, TWO_32 as BASE_TWO_32 } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';
import type { AmdPreset } from './preset.ts';
/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  CMD_BASE_REG,
  CMD_COMPLETION_WAIT,
  CMD_HEAD_REG,
  CMD_OP_SHIFT_W1,
  CMD_TAIL_REG,
  RING_ENTRY_BYTES,
  RING_LEN_SHIFT_HI,
  RING_POINTER_MASK,
  WAIT_STORE_W0,
} = amdvi;
const TWO_32: number = BASE_TWO_32;

/** CMD_BUFFER_SIZE: 512 commands. */
const BUFFER_BYTES = 8192;
const BUFFER_LEN_LG2 = 9;
/** A buffer with no more than this left counts as full. One command less would make a full one look empty. */
const RESERVE_BYTES = 0x20;
/** LOOP_TIMEOUT turns of a microsecond each. */
const TIMEOUT_NS = 100e6;
/** Turns that count as a timeout whatever the clock says: it may stand still. */
const MAX_TURNS = 1_000_000;

export class CommandQueue {
  readonly #platform: Platform;
  readonly #base: number;
  readonly #buffer: number;
  /** Word index of the first command of each page of the buffer; places in the arena do not move. */
  readonly #ring: readonly [number, number];
  /** Where waits store (cmd_sem). */
  readonly #cell: number;
  readonly #counts: boolean;
  #tail = 0;
  /** As last read: the register is read only when the buffer looks full. */
  #head = 0;
  #sequence = 0;
  #needSync = false;

  /** Allocates buffer and cell. Nothing is executed before `start`. @throws RangeError when no pages are left */
  constructor(platform: Platform, base: number, waitData: AmdPreset['waitData']) {
    const bufferPfn = platform.pages.allocRun(BUFFER_BYTES / 4096);
    const cellPfn = platform.pages.alloc();
    if (bufferPfn < 0 || cellPfn < 0) throw new RangeError('no memory for the command buffer');
    this.#platform = platform;
    this.#base = base;
    this.#buffer = paddrOf(bufferPfn);
    this.#ring = [platform.mem.indexOf(this.#buffer), platform.mem.indexOf(this.#buffer + 4096)];
    this.#cell = paddrOf(cellPfn);
    this.#counts = waitData === 'sequence';
    // As after a wait: one with nothing before it has nothing to wait for.
    if (!this.#counts) platform.mem.store64(this.#cell, 1, 0);
  }

  /** Gives hardware the buffer, empty. The caller has command processing off and switches it on afterwards. */
  start(): void {
    const lengthHi = BUFFER_LEN_LG2 << RING_LEN_SHIFT_HI;
    this.#platform.writeq(this.#base + CMD_BASE_REG, this.#buffer | 0, hi32(this.#buffer) | lengthHi);
    this.#platform.writel(this.#base + CMD_HEAD_REG, 0);
    this.#platform.writel(this.#base + CMD_TAIL_REG, 0);
    this.#head = 0;
    this.#tail = 0;
  }

  /** Queues one command. @returns 0, or ETIMEDOUT when the buffer stayed full: the command was not queued */
  queue(w0: number, w1: number, w2: number, w3: number): number {
    const errno = this.#put(w0, w1, w2, w3);
    if (errno === 0) this.#needSync = true;
    return errno;
  }

  #put(w0: number, w1: number, w2: number, w3: number): number {
    const tail = this.#tail;
    const next = (tail + RING_ENTRY_BYTES) % BUFFER_BYTES;
    if (((this.#head - next) & (BUFFER_BYTES - 1)) <= RESERVE_BYTES) {
      const errno = this.#waitForRoom(next);
      if (errno !== 0) return errno;
    }
    const { mem } = this.#platform;
    const { words } = mem;
    const at = (tail < 4096 ? this.#ring[0] : this.#ring[1]) + ((tail & 4095) >> 2);
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
    mem.stored(at, 4);
    this.#tail = next;
    this.#platform.writel(this.#base + CMD_TAIL_REG, next);
    return 0;
  }

  #waitForRoom(next: number): number {
    const deadline = this.#platform.nowNs() + TIMEOUT_NS;
    for (let turn = 0; turn < MAX_TURNS && this.#platform.nowNs() < deadline; turn++) {
      if (turn > 0) this.#platform.relax();
      this.#head = this.#platform.readl(this.#base + CMD_HEAD_REG) & RING_POINTER_MASK;
      if (((this.#head - next) & (BUFFER_BYTES - 1)) > RESERVE_BYTES) return 0;
    }
    return ETIMEDOUT;
  }

  /**
   * Returns when everything queued so far has been executed. With nothing new since the last wait it does not queue another
   * one, but still waits for the last number: that nothing is left to wait for only means that somebody's wait is queued, not
   * that it is over (CVE-2026-68329, where a timed-out flush counted as done). @returns 0 or ETIMEDOUT
   */
  wait(): number {
    if (this.#needSync) {
      if (!this.#counts) this.#platform.mem.store64(this.#cell, 0, 0);
      const data = this.#counts ? this.takeNumber() : 1;
      const w1 = hi32(this.#cell) | (CMD_COMPLETION_WAIT << CMD_OP_SHIFT_W1);
      const errno = this.#put(this.#cell | WAIT_STORE_W0, w1, data | 0, hi32(data));
      if (errno !== 0) return errno;
      this.#needSync = false;
    }
    return this.#isDone() ? 0 : this.#poll();
  }

  /** The number that the next wait stores. Linux takes it under the lock of the queue (9e249c484128). */
  protected takeNumber(): number {
    this.#sequence += 1;
    return this.#sequence;
  }

  /** Numbers are stored in order, so a later one says the same. */
  #isDone(): boolean {
    const lo = this.#platform.loadShared32(this.#cell);
    const hi = this.#platform.loadShared32(this.#cell + 4);
    return (hi >>> 0) * TWO_32 + (lo >>> 0) >= this.#sequence && (this.#counts || lo !== 0);
  }

  #poll(): number {
    const deadline = this.#platform.nowNs() + TIMEOUT_NS;
    for (let turn = 0; turn < MAX_TURNS && this.#platform.nowNs() < deadline; turn++) {
      this.#platform.relax();
      if (this.#isDone()) return 0;
    }
    return ETIMEDOUT;
  }
}
