/** Bugs 20, 28 and 33: queues of commands and their waits. */
import { ETIMEDOUT, ManualClock, errnoName } from '../../base/index.ts';
import { CommandQueue, InvalidationQueue } from '../../drivers/index.ts';
import type { Platform } from '../../mem/index.ts';
import { PageAllocator, PhysMem } from '../../mem/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import type { Mutant } from './mutant.ts';
import { tested } from './mutant.ts';

const BASE = 0xfed9_0000;
/** Turns of waiting loops after which a CPU counts as lost: more than all time-outs of a test together. */
const LOCKUP_TURNS = 3_000_000;
/** Time that a turn takes. */
const TURN_NS = 1000;

/** Hardware that a test plays by hand. `written`: software wrote a register, `relaxed`: it waits. */
class PaperPlatform implements Platform {
  readonly mem: PhysMem = new PhysMem();
  readonly pages: PageAllocator = new PageAllocator(this.mem);
  readonly clock: ManualClock = new ManualClock();
  readonly registers = new Map<number, number>();
  written: (offset: number, value: number) => void = () => {};
  #turns = 0;

  readl(paddr: number): number {
    this.#turn();
    return this.registers.get(paddr - BASE) ?? 0;
  }

  writel(paddr: number, value: number): void {
    this.registers.set(paddr - BASE, value);
    this.written(paddr - BASE, value);
  }

  writeq(paddr: number, lo: number, hi: number): void {
    this.registers.set(paddr - BASE, lo);
    this.registers.set(paddr - BASE + 4, hi);
    this.written(paddr - BASE, lo);
  }

  loadShared32(paddr: number): number {
    this.#turn();
    return this.mem.load32(paddr);
  }

  clflush(): void {}

  relax(): void {
    this.clock.advanceBy(TURN_NS);
  }

  nowNs(): number {
    return this.clock.nowNs();
  }

  #turn(): void {
    this.#turns += 1;
    if (this.#turns > LOCKUP_TURNS) throw new RangeError('the CPU hangs');
  }
}

/** A command buffer whose waits are carried out as soon as the tail moves, as long as `answers`. */
class PaperAmd extends PaperPlatform {
  answers = true;
  #next = 0;

  constructor() {
    super();
    this.written = (offset, tail): void => {
      if (offset !== amdvi.CMD_TAIL_REG || !this.answers) return;
      const buffer = (this.registers.get(amdvi.CMD_BASE_REG) ?? 0) & -4096;
      for (; this.#next !== tail; this.#next = (this.#next + amdvi.RING_ENTRY_BYTES) % 8192) {
        const at = buffer + this.#next;
        const w1 = this.mem.load32(at + 4);
        if (w1 >>> amdvi.CMD_OP_SHIFT_W1 !== amdvi.CMD_COMPLETION_WAIT) continue;
        this.mem.store64(this.mem.load32(at) & -8, this.mem.load32(at + 8), this.mem.load32(at + 12));
      }
      this.registers.set(amdvi.CMD_HEAD_REG, tail);
    };
  }
}

/** A queue that does not wait when nothing new is in it, although what is in it may not be done. */
class ReturnsEarly extends CommandQueue {
  #isDirty = false;

  override queue(w0: number, w1: number, w2: number, w3: number): number {
    this.#isDirty = true;
    return super.queue(w0, w1, w2, w3);
  }

  override wait(): number {
    if (!this.#isDirty) return 0;
    this.#isDirty = false;
    return super.wait();
  }
}

/** Two CPUs on one queue: `preempt` runs what the other one does, where the lock is not held. */
class LockedNumber extends CommandQueue {
  preempt: (() => void) | null = null;

  override wait(): number {
    this.otherCpu();
    return super.wait();
  }

  protected otherCpu(): void {
    const { preempt } = this;
    this.preempt = null;
    preempt?.();
  }
}

/** The number is taken before the lock: another CPU comes between it and its command. */
class UnlockedNumber extends LockedNumber {
  override wait(): number {
    return CommandQueue.prototype.wait.call(this);
  }

  protected override takeNumber(): number {
    const number = super.takeNumber();
    this.otherCpu();
    return number;
  }
}

/** A device that is gone is asked for ever. */
class RepeatsForEver extends InvalidationQueue {
  protected override readonly maxRepeats: number = Infinity;
}

const NR_SLOTS = 256;

/**
 * The states of slots that Linux keeps beside its ring (struct q_inval), which the driver here has no need for: a submission
 * takes its descriptors' slots and one for its wait, and they are free again, oldest first, when its wait is done.
 */
class SlotStates extends InvalidationQueue {
  readonly #inUse = new Uint8Array(NR_SLOTS);
  #nrFree = NR_SLOTS;
  #head = 0;
  #oldest = 0;
  #nrAdded = 0;

  override add(w0: number, w1: number, w2: number, w3: number): void {
    this.#nrAdded += 1;
    super.add(w0, w1, w2, w3);
  }

  override submit(): number {
    const nr = this.#nrAdded;
    this.#nrAdded = 0;
    // Linux spins here until others give slots back; alone on the machine, nobody will.
    if (this.#nrFree < nr + 2) return ETIMEDOUT;
    const first = this.#head;
    for (let i = 0; i <= nr; i++) this.#inUse[(first + i) % NR_SLOTS] = 1;
    this.#head = (first + nr + 1) % NR_SLOTS;
    this.#nrFree -= nr + 1;
    const errno = super.submit();
    for (let i = 0; i < this.slotsToFree(nr); i++) this.#inUse[(first + i) % NR_SLOTS] = 0;
    while (this.#nrFree < NR_SLOTS && this.#inUse[this.#oldest] === 0) {
      this.#oldest = (this.#oldest + 1) % NR_SLOTS;
      this.#nrFree += 1;
    }
    return errno;
  }

  protected slotsToFree(nr: number): number {
    return nr + 1;
  }
}

/** Frees the slots of the descriptors, and that of the wait among them: of none, when there were none. */
class KeepsWaitSlot extends SlotStates {
  protected override slotsToFree(nr: number): number {
    return nr === 0 ? 0 : nr + 1;
  }
}

export const QUEUE_MUTANTS: readonly Mutant[] = [
  tested(
    { id: '20a', title: 'the number of a completion wait is taken outside of the lock', source: '9e249c484128' },
    'waits of two CPUs end, whoever comes between',
    UnlockedNumber,
    LockedNumber,
    (Queue) => {
      const queue = new Queue(new PaperAmd(), BASE, 'sequence');
      queue.start();
      queue.queue(0, amdvi.CMD_INVALIDATE_IOMMU_ALL << amdvi.CMD_OP_SHIFT_W1, 0, 0);
      queue.preempt = (): void => {
        queue.queue(0, amdvi.CMD_INVALIDATE_IOMMU_ALL << amdvi.CMD_OP_SHIFT_W1, 0, 0);
        queue.wait();
      };
      const errno = queue.wait() || queue.wait();
      return errno === 0 ? '' : `a wait ended with ${errnoName(errno)}`;
    },
  ),
  tested(
    {
      id: '20b',
      title: 'a wait with nothing new returns, though the one before has not ended',
      source: 'CVE-2026-68329',
    },
    'after a wait that timed out the next one does not report success',
    ReturnsEarly,
    CommandQueue,
    (Queue) => {
      const platform = new PaperAmd();
      const queue = new Queue(platform, BASE, 'sequence');
      queue.start();
      platform.answers = false;
      queue.queue(0, amdvi.CMD_INVALIDATE_IOMMU_ALL << amdvi.CMD_OP_SHIFT_W1, 0, 0);
      const first = queue.wait();
      if (first !== ETIMEDOUT) return `the first wait returned ${first}`;
      return queue.wait() === ETIMEDOUT ? '' : 'it does';
    },
  ),
  tested(
    {
      id: '28b',
      title: 'a submission is repeated for ever for a device that was pulled out',
      source: 'change log: hard lockup on surprise removal',
    },
    'a submission to a device that never answers ends',
    RepeatsForEver,
    InvalidationQueue,
    (Queue) => {
      const platform = new PaperPlatform();
      // An invalidation time-out each time: the hardware drops the wait and says so.
      platform.written = (offset): void => {
        if (offset === vtd.IQT_REG) platform.registers.set(vtd.FSTS_REG, vtd.FSTS_ITE);
      };
      const queue = new Queue(platform, BASE);
      queue.add(vtd.DESC_DEVICE_IOTLB, 0x10, 0, 0);
      const errno = queue.submit();
      return errno === ETIMEDOUT ? '' : `it returned ${errno}`;
    },
  ),
  tested(
    {
      id: '33',
      title: 'a submission of nothing leaves its slot taken, and nothing behind it is ever free again',
      source: 'comment in dmar.c, "qi_submit_sync called with 0 count"',
    },
    'an invalidation is still possible after 300 others and a submission of nothing',
    KeepsWaitSlot,
    SlotStates,
    (Queue) => {
      const platform = new PaperPlatform();
      platform.written = (offset, value): void => {
        const ring = platform.registers.get(vtd.IQA_REG);
        if (offset !== vtd.IQT_REG || ring === undefined) return;
        // The descriptor before the tail is the wait: done.
        const at = (ring & -4096) + ((value - vtd.QI_DESC_BYTES) & 4095);
        platform.mem.store32(platform.mem.load32(at + 8), platform.mem.load32(at + 4));
      };
      const queue = new Queue(platform, BASE);
      queue.submit();
      for (let nr = 0; nr < 300; nr++) {
        queue.add(vtd.DESC_IOTLB | (vtd.GRANULARITY_GLOBAL << vtd.DESC_GRANULARITY_SHIFT), 0, 0, 0);
        const errno = queue.submit();
        if (errno !== 0) return `number ${nr} ended with ${errnoName(errno)}`;
      }
      return '';
    },
  ),
];
