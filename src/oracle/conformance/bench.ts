/** What a case is put through: memory, one IOMMU and three devices, ours or QEMU's. */
import { ManualClock } from '../../base/index.ts';
import { PhysMem } from '../../mem/index.ts';
import { QEMU_MEMORY_BYTES } from '../../qemu/index.ts';
import { amdvi, vtd } from '../../spec/index.ts';
import type { OracleUnit } from '../local-rig.ts';
import type { OracleArch } from '../program.ts';
import { QemuRig } from '../qemu-rig.ts';
import type { Judge } from './case.ts';

/** Memory that cases have tables in; zeroed between cases. */
export const ARENA: number = 2 ** 24;
const ARENA_BYTES: number = 2 ** 21;
/** Words that a DMA of a QEMU device goes to, past the IOMMU, to be looked at. */
const SCRATCH = ARENA + ARENA_BYTES;
const READ = 1;
const WRITE = 2;

/** Reads and writes of a bench are exact: what a device reads comes from somewhere, what it writes goes somewhere. */
export interface Bench {
  readonly judge: Judge;
  readonly arch: OracleArch;
  /** Requester ids of the devices. */
  readonly sids: readonly number[];
  /** Memory as software writes it. */
  readonly mem: PhysMem;
  /** Makes a page of memory that reads as zero. */
  page(paddr: number): void;
  store(paddr: number, lo: number, hi: number): void;
  load(paddr: number): number;
  writel(offset: number, value: number): void;
  writeq(offset: number, lo: number, hi: number): void;
  readl(offset: number): number;
  reset(): void;
  /** Whether one word gets from a device to a physical address, or back. `at` is a multiple of 4 and holds nothing that matters. */
  dma(device: number, access: 'read' | 'write', iova: number, at: number): boolean;
  /** Like `dma` for several bytes, of which each part lies in one page. */
  block(device: number, access: 'read' | 'write', iova: number, parts: readonly BlockPart[]): boolean[];
}

export interface BlockPart {
  readonly nrBytes: number;
  readonly at: number;
}

export type MakeUnit = (mem: PhysMem, clock: ManualClock) => OracleUnit;

/** Our model. */
export class LocalBench implements Bench {
  readonly judge: Judge = 'model';
  readonly arch: OracleArch;
  readonly sids: readonly number[] = [0x20, 0x28, 0x100];
  readonly #make: MakeUnit;
  #mem = new PhysMem();
  #unit: OracleUnit;

  constructor(arch: OracleArch, makeUnit: MakeUnit) {
    this.arch = arch;
    this.#make = makeUnit;
    this.#unit = makeUnit(this.#mem, new ManualClock());
  }

  get mem(): PhysMem {
    return this.#mem;
  }

  page(paddr: number): void {
    this.#mem.ensure(Math.floor(paddr / 4096));
  }

  store(paddr: number, lo: number, hi: number): void {
    this.#mem.store64(paddr, lo | 0, hi | 0);
  }

  load(paddr: number): number {
    return this.#mem.load32(paddr) >>> 0;
  }

  writel(offset: number, value: number): void {
    this.#unit.write32(offset, value);
  }

  writeq(offset: number, lo: number, hi: number): void {
    this.#unit.write64(offset, lo, hi);
  }

  readl(offset: number): number {
    return this.#unit.read32(offset) >>> 0;
  }

  /** Memory goes too: what stood in it before is nothing that a case may build on. */
  reset(): void {
    this.#mem = new PhysMem();
    this.#unit = this.#make(this.#mem, new ManualClock());
  }

  dma(device: number, access: 'read' | 'write', iova: number, at: number): boolean {
    return this.#unit.translate(this.sids[device], iova, access === 'read' ? READ : WRITE) === at;
  }

  block(device: number, access: 'read' | 'write', iova: number, parts: readonly BlockPart[]): boolean[] {
    let offset = 0;
    return parts.map(({ nrBytes, at }) => {
      const arrives = this.dma(device, access, iova + offset, at);
      offset += nrBytes;
      return arrives;
    });
  }
}

/** QEMU's unit. One process serves many cases; a reset through the chipset's reset register lies between them. */
export class QemuBench implements Bench {
  readonly judge: Judge = 'qemu';
  readonly arch: OracleArch;
  readonly #rig: QemuRig;
  #mem: PhysMem;
  #nonce = 0;

  /** @throws QemuError */
  constructor(arch: OracleArch, binary: string, lifetimeS: number) {
    this.arch = arch;
    this.#rig = new QemuRig({ arch, binary, lifetimeS }, []);
    this.#mem = this.#mirror();
  }

  get sids(): readonly number[] {
    return this.#rig.board.devices.map(({ sid }) => sid);
  }

  get mem(): PhysMem {
    return this.#mem;
  }

  /** Memory of which every store goes to QEMU. */
  #mirror(): PhysMem {
    const mem = new PhysMem();
    const { qtest } = this.#rig.board;
    mem.observer = {
      stored: (index, nrWords) => qtest.writeWords(mem.paddrOfIndex(index), mem.words.subarray(index, index + nrWords)),
    };
    return mem;
  }

  page(): void {}

  store(paddr: number, lo: number, hi: number): void {
    this.#mem.store64(paddr, lo | 0, hi | 0);
  }

  load(paddr: number): number {
    return this.#rig.board.qtest.readl(paddr) >>> 0;
  }

  writel(offset: number, value: number): void {
    this.#rig.step({ op: 'writel', offset, value });
  }

  writeq(offset: number, lo: number, hi: number): void {
    this.#rig.step({ op: 'writeq', offset, lo, hi });
  }

  readl(offset: number): number {
    return this.#rig.readRegister(offset) >>> 0;
  }

  reset(): void {
    this.#rig.board.reset();
    this.#rig.board.qtest.fill(ARENA, ARENA_BYTES, 0);
    this.#mem = this.#mirror();
  }

  dma(device: number, access: 'read' | 'write', iova: number, at: number): boolean {
    const { devices, qtest } = this.#rig.board;
    this.#nonce = (this.#nonce % 0xfffe) + 1;
    if (access === 'write') {
      qtest.writel(at, 0);
      devices[device].writeWord(iova, this.#nonce);
      return qtest.readl(at) === this.#nonce;
    }
    qtest.writel(at, this.#nonce);
    devices[device].read(iova, 4);
    return this.#takeOut(device, 4).readUInt32LE(0) === this.#nonce;
  }

  block(device: number, access: 'read' | 'write', iova: number, parts: readonly BlockPart[]): boolean[] {
    const { devices, qtest } = this.#rig.board;
    this.#nonce = (this.#nonce % 250) + 1;
    const pattern = (index: number): number => ((index * 7 + this.#nonce) % 255) + 1;
    const nrBytes = parts.reduce((sum, part) => sum + part.nrBytes, 0);
    let start = 0;
    const starts = parts.map((part) => (start += part.nrBytes) - part.nrBytes);
    const bytes = Buffer.from(Array.from({ length: nrBytes }, (_, index) => pattern(index)));
    const isThere = (found: Buffer, index: number): boolean =>
      found.equals(bytes.subarray(starts[index], starts[index] + parts[index].nrBytes));
    if (access === 'write') {
      qtest.writeBytes(SCRATCH, bytes);
      this.#aside(() => devices[device].read(SCRATCH, nrBytes));
      for (const part of parts) qtest.fill(part.at, part.nrBytes, 0);
      devices[device].write(iova, nrBytes);
      return parts.map((part, index) => isThere(qtest.readBytes(part.at, part.nrBytes), index));
    }
    parts.forEach((part, index) =>
      qtest.writeBytes(part.at, bytes.subarray(starts[index], starts[index] + part.nrBytes)),
    );
    devices[device].read(iova, nrBytes);
    const found = this.#takeOut(device, nrBytes);
    return parts.map((part, index) => isThere(found.subarray(starts[index], starts[index] + part.nrBytes), index));
  }

  /** What a device has read: it writes it to memory past the IOMMU. */
  #takeOut(device: number, nrBytes: number): Buffer {
    const { devices, qtest } = this.#rig.board;
    this.#aside(() => devices[device].write(SCRATCH, nrBytes));
    return qtest.readBytes(SCRATCH, nrBytes);
  }

  /** Does something while translation is off. QEMU's caches may be empty afterwards. */
  #aside(work: () => void): void {
    if (this.arch === 'intel') {
      const sticky = this.readl(vtd.GSTS_REG) & (vtd.GCMD_TE | vtd.GCMD_QIE | vtd.GCMD_IRE | vtd.GCMD_CFI);
      if ((sticky & vtd.GCMD_TE) === 0) return work();
      this.writel(vtd.GCMD_REG, sticky & ~vtd.GCMD_TE);
      work();
      return this.writel(vtd.GCMD_REG, sticky);
    }
    const control = this.readl(amdvi.CONTROL_REG);
    this.writel(amdvi.CONTROL_REG, control & ~amdvi.CONTROL_IOMMU_EN);
    work();
    this.writel(amdvi.CONTROL_REG, control);
  }

  close(): void {
    this.#rig.close();
  }
}

/** Whether QEMU has memory there. */
export function isQemuMemory(paddr: number): boolean {
  return paddr < QEMU_MEMORY_BYTES;
}
