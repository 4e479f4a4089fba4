/**
 * Queued invalidation as the driver sees it (specification 6.5.2): qi_submit_sync of drivers/iommu/intel/dmar.c.
 *
 * One submission is up to `MAX_BATCH` descriptors and one wait descriptor behind them, which stores QI_DONE into the
 * submission's status cell; the call returns when the cell says so. The wait is what makes C-MAP-VISIBLE and C-UNMAP-GONE
 * true: a tail write alone only starts the work.
 *
 * Not kept from Linux: several submitters in flight (the ring of slot states and the lock). Here calls are synchronous, so
 * the ring is empty between two submissions and a full ring cannot happen.
 */
import { EAGAIN, EINVAL, ETIMEDOUT, hi32, paddrOf } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { vtd } from '../../spec/index.ts';
/** Local copies: V8 reloads the bindings of a module namespace at every use, and these are used for each command. */
const {
  DESC_WAIT,
  FSTS_ICE,
  FSTS_IQE,
  FSTS_ITE,
  FSTS_REG,
  IQA_REG,
  IQH_REG,
  IQT_REG,
  IQ_INDEX_SHIFT,
  QI_DESC_BYTES,
  WAIT_SW,
} = vtd;
const NR_DESCRIPTORS = 256;
const RING_MASK: number = NR_DESCRIPTORS - 1;
const DESC_WORDS: number = QI_DESC_BYTES / 4;
const QI_IN_USE = 1;
const QI_DONE = 2;
/** DMAR_OPERATION_TIMEOUT: a unit that answers nothing for this long is dead. */
const TIMEOUT_NS = 10e9;
/**
 * Turns of the waiting loop that count as a timeout whatever the clock says: it may stand still, or move so little per turn
 * that 10 s are hours of computing.
 */
const MAX_TURNS = 250_000;
const QUEUE_ERRORS: number = FSTS_IQE | FSTS_ICE | FSTS_ITE;

export class InvalidationQueue {
  /** Most descriptors of one submission (QI_MAX_BATCHED_DESC_COUNT of v6.12). */
  static readonly MAX_BATCH: number = 16;

  /** Times that a submission is repeated because a device did not answer: one that never will must not hang the CPU (bug 28). */
  protected readonly maxRepeats: number = 100;
  readonly #platform: Platform;
  readonly #base: number;
  readonly #queue: number;
  /** Word index of the ring's first descriptor; places in the arena do not move. */
  readonly #ring: number;
  readonly #status: number;
  /** The same as a word index, and as the words of an address: what each submission needs of it. */
  readonly #statusAt: number;
  readonly #statusLo: number;
  readonly #statusHi: number;
  readonly #tailRegister: number;
  #head = 0;
  /** Descriptors of the submission being built, from `#head` on. */
  #nrPending = 0;

  /** Allocates the ring and switches queued invalidation on. @throws RangeError when no pages are left */
  constructor(platform: Platform, base: number) {
    const queuePfn = platform.pages.alloc();
    const statusPfn = platform.pages.alloc();
    if (queuePfn < 0 || statusPfn < 0) throw new RangeError('no memory for the invalidation queue');
    this.#platform = platform;
    this.#base = base;
    this.#queue = paddrOf(queuePfn);
    this.#ring = platform.mem.indexOf(this.#queue);
    this.#status = paddrOf(statusPfn);
    this.#statusAt = platform.mem.indexOf(this.#status);
    this.#statusLo = this.#status | 0;
    this.#statusHi = hi32(this.#status);
    this.#tailRegister = base + IQT_REG;
    platform.writel(base + IQT_REG, 0);
    platform.writeq(base + IQA_REG, this.#queue | 0, hi32(this.#queue));
  }

  /** Adds a descriptor to the submission being built, in its place of the ring. At most MAX_BATCH before the next `submit`. */
  add(w0: number, w1: number, w2: number, w3: number): void {
    this.#store((this.#head + this.#nrPending) & RING_MASK, w0, w1, w2, w3);
    this.#nrPending += 1;
  }

  /** True when the next `add` needs a `submit` first. */
  get isFull(): boolean {
    return this.#nrPending === InvalidationQueue.MAX_BATCH;
  }

  /**
   * Queues what was added and waits until the hardware reports it done. Nothing added: returns at once (bug 33: Linux
   * leaked a slot here).
   * @returns 0, EINVAL (the hardware refused a descriptor), ETIMEDOUT (no answer)
   */
  submit(): number {
    if (this.#nrPending === 0) return 0;
    let result = this.#submitOnce();
    for (let repeats = 0; result === EAGAIN && repeats < this.maxRepeats; repeats++) {
      this.#addAgain();
      result = this.#submitOnce();
    }
    this.#nrPending = 0;
    return result === EAGAIN ? ETIMEDOUT : result;
  }

  /** Puts the descriptors of a submission that was dropped behind it once more. */
  #addAgain(): void {
    const nr = this.#nrPending;
    const before = this.#head - nr - 1 + NR_DESCRIPTORS;
    this.#nrPending = 0;
    for (let i = 0; i < nr; i++) {
      const { words } = this.#platform.mem;
      const at = this.#ring + ((before + i) & RING_MASK) * DESC_WORDS;
      this.add(words[at], words[at + 1], words[at + 2], words[at + 3]);
    }
  }

  #submitOnce(): number {
    const platform = this.#platform;
    const { mem } = platform;
    const first = this.#head;
    const waitSlot = (first + this.#nrPending) & RING_MASK;
    const cell = this.#status + waitSlot * 4;
    const cellAt = this.#statusAt + waitSlot;
    mem.words[cellAt] = QI_IN_USE;
    if (mem.observer !== null) mem.stored(cellAt, 1);
    if (!mem.coherent) platform.clflush(cell, 4);
    this.#store(waitSlot, DESC_WAIT | WAIT_SW, QI_DONE, this.#statusLo + waitSlot * 4, this.#statusHi);
    const head = (waitSlot + 1) & RING_MASK;
    this.#head = head;
    platform.writel(this.#tailRegister, head << IQ_INDEX_SHIFT);
    return platform.loadShared32(cell) === QI_DONE ? 0 : this.#wait(first, waitSlot, cell);
  }

  /** Writes one descriptor, through the ring's place in the arena: half the time of four stores by address. */
  #store(slot: number, w0: number, w1: number, w2: number, w3: number): void {
    const { mem } = this.#platform;
    const at = this.#ring + slot * DESC_WORDS;
    const { words } = mem;
    words[at] = w0;
    words[at + 1] = w1;
    words[at + 2] = w2;
    words[at + 3] = w3;
    if (mem.observer !== null) mem.stored(at, DESC_WORDS);
    if (!mem.coherent) this.#platform.clflush(this.#queue + slot * QI_DESC_BYTES, QI_DESC_BYTES);
  }

  #wait(first: number, waitSlot: number, cell: number): number {
    const deadline = this.#platform.nowNs() + TIMEOUT_NS;
    for (let turn = 0; turn < MAX_TURNS && this.#platform.nowNs() < deadline; turn++) {
      const state = this.#platform.loadShared32(cell);
      if (state === QI_DONE) return 0;
      const fault = this.#checkFault(first, waitSlot, cell);
      if (fault !== 0) return fault;
      this.#platform.relax();
    }
    return ETIMEDOUT;
  }

  /** qi_check_fault: what stopped the queue, and how to get it going again. */
  #checkFault(first: number, waitSlot: number, cell: number): number {
    const fsts = this.#base + FSTS_REG;
    const errors = this.#platform.readl(fsts) & QUEUE_ERRORS;
    if (errors === 0) return 0;
    if ((errors & FSTS_IQE) !== 0) {
      // The head stands at the refused descriptor. The queue goes on only when something valid is there: the wait
      // descriptor, so that the submission ends instead of hanging.
      const head = this.#platform.readl(this.#base + IQH_REG) >>> IQ_INDEX_SHIFT;
      const nrOwn = (waitSlot - first + NR_DESCRIPTORS) % NR_DESCRIPTORS;
      if ((head - first + NR_DESCRIPTORS) % NR_DESCRIPTORS < nrOwn) {
        for (let slot = head; slot !== waitSlot; slot = (slot + 1) % NR_DESCRIPTORS) {
          this.#store(slot, DESC_WAIT | WAIT_SW, QI_DONE, cell | 0, hi32(cell));
        }
        this.#platform.writel(fsts, FSTS_IQE);
        this.#platform.writel(this.#base + IQT_REG, this.#head << IQ_INDEX_SHIFT);
        return EINVAL;
      }
      return EINVAL;
    }
    if ((errors & FSTS_ITE) !== 0) {
      // A device did not answer: everything between head and tail is dropped by the hardware, so it must be sent again.
      this.#platform.writel(fsts, FSTS_ITE);
      return EAGAIN;
    }
    this.#platform.writel(fsts, FSTS_ICE);
    return 0;
  }
}
