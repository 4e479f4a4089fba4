/**
 * Random programs for an AMD-Vi unit: device table entries, tables of every level and page size, commands, the unit and its
 * command buffer switched off and on, and DMA.
 *
 * What they leave out, since QEMU 7.2 does not survive it or is known not to do it: entries that lead up or sideways (its
 * walk would not end), addresses of 0xFEExxxxx, and domain ids with bit 8 (it takes that bit for a reserved one).
 */
import type { Rng } from '../base/index.ts';
import { hi32 } from '../base/index.ts';
import { amdvi } from '../spec/index.ts';
import { BIG_PAGES, DATA_PAGES, INDEXES, tableAt } from './arena.ts';
import type { Step, WatchedRegister } from './program.ts';

const RING_BYTES = 4096;

/** What is compared after each DMA. QEMU logs no event, so there is little to see. */
export const AMDVI_REGISTERS: readonly WatchedRegister[] = [
  { name: 'CONTROL', offset: amdvi.CONTROL_REG, mask: -1 },
  { name: 'STATUS', offset: amdvi.STATUS_REG, mask: amdvi.STATUS_COM_WAIT_INT | amdvi.STATUS_CMD_BUF_RUN },
  // QEMU 7.2 shows the size of the ring instead of 0 after its last entry, until the next command.
  { name: 'CMD_HEAD', offset: amdvi.CMD_HEAD_REG, mask: RING_BYTES - 1 },
];

/** Two pages each: 256 devices. */
const DEVICE_TABLES = [0, 2];
const COMMANDS = tableAt(6);
const STATUS = tableAt(7);
const NR_SLOTS: number = RING_BYTES / amdvi.RING_ENTRY_BYTES;
/** Ring of 2^8 entries, in bits 59:56 of its base register. */
const RING_256_HI = 8 << 24;
/** Table pages by the level they are meant for. */
const TABLES: Readonly<Record<number, readonly number[]>> = {
  6: [8],
  5: [9],
  4: [10, 11],
  3: [12, 13, 14],
  2: [15, 16, 17, 18],
  1: [19, 20, 21, 22, 23, 24, 25],
};
const DOMAINS = [1, 2, 3, 5];
const IR = 1 << 29;
const IW = 1 << 30;

export class AmdviProgram {
  readonly #rng: Rng;
  readonly #sids: readonly number[];
  readonly #steps: Step[] = [];
  #control = 0;
  #tail = 0;
  #value = 1;
  #lastDevice = 0;
  #lastPage = 0;

  /** @param sids requester ids of the devices */
  constructor(rng: Rng, sids: readonly number[]) {
    this.#rng = rng;
    this.#sids = sids;
  }

  /** Brings the unit up, then does random things. @returns the next steps; an endless supply */
  next(): readonly Step[] {
    this.#steps.length = 0;
    if (this.#value === 1) this.#start();
    else this.#random();
    return this.#steps;
  }

  #start(): void {
    for (let level = 6; level > 0; level--) {
      for (const table of TABLES[level]) for (const index of INDEXES) this.#entry(level, table, index);
    }
    for (let i = 0; i < 8; i++) this.#device();
    this.#setDeviceTable();
    this.#writeq(amdvi.CMD_BASE_REG, COMMANDS, RING_256_HI);
    this.#switch(amdvi.CONTROL_IOMMU_EN | amdvi.CONTROL_CMD_BUF_EN, true);
    this.#value = 2;
  }

  #random(): void {
    // Off for a short while only: most of what there is to see shows while the unit is on.
    if ((this.#control & amdvi.CONTROL_IOMMU_EN) === 0 && this.#rng.chance(0.05)) {
      this.#switch(amdvi.CONTROL_IOMMU_EN, true);
      return;
    }
    const kind = this.#rng.below(1000);
    if (kind < 370) this.#dmaWrite();
    else if (kind < 430) this.#dmaCopy();
    else if (kind < 690) this.#anyEntry();
    else if (kind < 700) this.#leavesAppear();
    else if (kind < 760) this.#device();
    else if (kind < 970) this.#commands();
    else if (kind < 980) this.#setDeviceTable();
    else if (kind < 990) this.#switch(amdvi.CONTROL_IOMMU_EN, (this.#control & amdvi.CONTROL_IOMMU_EN) === 0);
    else if (kind < 993) this.#writel(amdvi.STATUS_REG, amdvi.STATUS_COM_WAIT_INT);
    else this.#switch(amdvi.CONTROL_CMD_BUF_EN, (this.#control & amdvi.CONTROL_CMD_BUF_EN) === 0);
  }

  #store(paddr: number, lo: number, hi: number): void {
    this.#steps.push({ op: 'store', paddr, lo: lo | 0, hi: hi | 0 });
  }

  #writel(offset: number, value: number): void {
    this.#steps.push({ op: 'writel', offset, value: value | 0 });
  }

  #writeq(offset: number, lo: number, hi: number): void {
    this.#steps.push({ op: 'writeq', offset, lo: lo | 0, hi: hi | 0 });
  }

  // Tables.

  #rights(): number {
    const kind = this.#rng.below(20);
    if (kind === 0) return 0;
    if (kind < 3) return IR;
    return kind < 5 ? IW : IR | IW;
  }

  #anyEntry(): void {
    const level = this.#rng.pick([1, 1, 1, 1, 2, 2, 3, 4, 5, 6]);
    this.#entry(level, this.#rng.pick(TABLES[level]), this.#rng.pick(INDEXES));
  }

  #entry(level: number, table: number, index: number): void {
    const rng = this.#rng;
    const at = tableAt(table) + index * 8;
    if (rng.chance(0.08)) {
      this.#store(at, 0, 0);
      return;
    }
    let hi = this.#rights();
    let lo = rng.chance(0.97) ? 1 : 0;
    const next = (n: number): number => n << amdvi.PTE_NEXT_LEVEL_SHIFT_LO;
    if (level === 1) {
      // A size above the level's own is coded in the address: ones from bit 12 up, then a zero.
      if (rng.chance(0.2)) lo |= rng.pick(BIG_PAGES) | ((1 << rng.pick([12, 13, 14, 16, 19])) - 4096) | next(7);
      else lo |= rng.pick(DATA_PAGES);
    } else if (level === 2 && rng.chance(0.3)) {
      // 2 MiB, or 4 MiB by the same code.
      if (rng.chance(0.3)) lo |= (rng.pick(BIG_PAGES) & -(2 ** 22)) | 0x1ff000 | next(7);
      else lo |= rng.pick(BIG_PAGES);
    } else if (level !== 3 || !rng.chance(0.1)) {
      // Mostly the next level; now and then some are left out. At level 3 also a page of 1 GiB from address 0.
      const below = rng.chance(0.85) ? level - 1 : rng.below(level - 1) + 1;
      lo |= tableAt(rng.pick(TABLES[below])) | next(below);
    }
    if (rng.chance(0.01)) lo |= 1 << rng.pick([1, 2, 3, 4, 5, 6, 7, 8]);
    if (rng.chance(0.01)) hi |= 1 << rng.pick([20, 24, 27, 28]);
    this.#store(at, lo, hi);
  }

  /** A page that no table has when a DMA asks for it, and that all have, unflushed, when it asks again. */
  #leavesAppear(): void {
    const rng = this.#rng;
    this.#value += 1;
    const device = this.#someDevice();
    const iova = this.#iova();
    const entries = TABLES[1].map((table) => tableAt(table) + ((iova / 4096) & 511) * 8);
    for (const at of entries) this.#store(at, 0, 0);
    this.#queue([0, amdvi.CMD_INVALIDATE_IOMMU_ALL << amdvi.CMD_OP_SHIFT_W1, 0, 0]);
    this.#write(device, iova);
    for (const at of entries) this.#store(at, rng.pick(DATA_PAGES) | 1, IR | IW);
    this.#value += 1;
    this.#write(device, iova);
  }

  #device(): void {
    const rng = this.#rng;
    const sid = rng.pick(this.#sids) & 0xff;
    const table = rng.pick([DEVICE_TABLES[0], DEVICE_TABLES[0], DEVICE_TABLES[1]]);
    const at = tableAt(table) + sid * amdvi.DTE_BYTES;
    const mode = rng.pick([0, 1, 2, 3, 3, 4, 4, 5, 6, 6]);
    const isValid = rng.chance(0.93);
    let w0 = (isValid ? amdvi.DTE_V_W0 : 0) | (rng.chance(0.95) ? amdvi.DTE_TV_W0 : 0);
    w0 |= mode << amdvi.DTE_MODE_SHIFT_W0;
    if (mode > 0) w0 |= tableAt(rng.pick(TABLES[mode]));
    if (rng.chance(isValid ? 0.01 : 0.15)) w0 |= 1 << rng.pick([2, 4, 6]);
    this.#store(at + 8, rng.pick(DOMAINS), 0);
    this.#store(at, w0, rng.chance(0.85) ? IR | IW : this.#rights());
  }

  // DMA.

  /** A page, of 48 bits: all that a key of QEMU's IOTLB has room for. Often the last one again, which a cache may hold. */
  #page(): number {
    const rng = this.#rng;
    if (rng.chance(0.4)) return this.#lastPage;
    let page = 0;
    for (let level = 4; level > 0; level--) page = page * 512 + (level > 2 && rng.chance(0.6) ? 0 : rng.pick(INDEXES));
    this.#lastPage = page;
    return page;
  }

  /** Each access has words of its own, so that it shows where it went. */
  #iova(): number {
    return this.#page() * 4096 + ((this.#value * 4) & 0xffc);
  }

  #someDevice(): number {
    if (this.#rng.chance(0.5)) this.#lastDevice = this.#rng.below(this.#sids.length);
    return this.#lastDevice;
  }

  #dmaWrite(): void {
    this.#value += 1;
    this.#write(this.#someDevice(), this.#iova());
  }

  #write(device: number, iova: number): void {
    this.#steps.push({ op: 'dma-write', device, iova, value: (this.#value & 0x7fff) | 0x8000 });
  }

  #dmaCopy(): void {
    this.#value += 1;
    const from = this.#iova();
    const to = this.#iova();
    this.#steps.push({ op: 'dma-copy', device: this.#someDevice(), from, to, nrBytes: 4 });
  }

  // Commands.

  #commands(): void {
    const words: number[] = [];
    for (let nr = this.#rng.below(3) + 1; nr > 0; nr--) words.push(...this.#command());
    if (this.#rng.chance(0.8)) words.push(...this.#wait());
    this.#queue(words);
  }

  #queue(words: readonly number[]): void {
    if ((this.#control & amdvi.CONTROL_CMD_BUF_EN) === 0) return;
    for (let i = 0; i < words.length; i += 4) {
      const at = COMMANDS + this.#tail * amdvi.RING_ENTRY_BYTES;
      this.#store(at, words[i], words[i + 1]);
      this.#store(at + 8, words[i + 2], words[i + 3]);
      this.#tail = (this.#tail + 1) % NR_SLOTS;
    }
    this.#writel(amdvi.CMD_TAIL_REG, this.#tail * amdvi.RING_ENTRY_BYTES);
  }

  #command(): number[] {
    const rng = this.#rng;
    const operation = (code: number): number => code << amdvi.CMD_OP_SHIFT_W1;
    const kind = rng.below(20);
    if (kind < 3) return [rng.pick(this.#sids) & 0xff, operation(amdvi.CMD_INVALIDATE_DEVTAB_ENTRY), 0, 0];
    if (kind < 5) return [0, operation(amdvi.CMD_INVALIDATE_IOMMU_ALL), 0, 0];
    if (kind < 6) return [rng.pick(this.#sids) & 0xff, operation(amdvi.CMD_INVALIDATE_INTERRUPT_TABLE), 0, 0];
    // No such operation.
    if (kind < 7) return [0, operation(rng.pick([0, 10, 15])), 0, 0];
    const page = this.#page() * 4096;
    // S, PDE.
    const flags = rng.pick([0, 1, 2, 3]);
    return [0, operation(amdvi.CMD_INVALIDATE_IOMMU_PAGES) | rng.pick(DOMAINS), page | flags, hi32(page)];
  }

  #wait(): number[] {
    const rng = this.#rng;
    const store = amdvi.WAIT_STORE_W0;
    const flags = rng.pick([store, store, store | amdvi.WAIT_INT_W0, 0]);
    return [(STATUS + rng.below(4) * 8) | flags, amdvi.CMD_COMPLETION_WAIT << amdvi.CMD_OP_SHIFT_W1, rng.below(100), 7];
  }

  // Switches.

  #switch(bits: number, on: boolean): void {
    this.#control = on ? this.#control | bits : this.#control & ~bits;
    this.#writeq(amdvi.CONTROL_REG, this.#control, 0);
  }

  #setDeviceTable(): void {
    const table = this.#rng.pick([DEVICE_TABLES[0], DEVICE_TABLES[0], DEVICE_TABLES[0], DEVICE_TABLES[1]]);
    this.#writeq(amdvi.DEV_TABLE_REG, tableAt(table) | 1, 0);
  }
}
