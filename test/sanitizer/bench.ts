/**
 * A bench for the sanitizer's rules: memory, a VT-d unit that does nothing but say what it can and complete what is asked, and a
 * driver made of single stores and descriptors. No model of hardware and no driver of the project takes part.
 */
import { Sanitizer } from '../../src/sanitizer/index.ts';
import type { Finding } from '../../src/sanitizer/index.ts';
import type {
  Device,
  DomainType,
  IommuDomain,
  IommuOps,
  IotlbGather,
  Mapped,
  ResvRegion,
} from '../../src/iommu/index.ts';
import { IotlbGather as Gather } from '../../src/iommu/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import type { Platform } from '../../src/mem/index.ts';
import { vtd } from '../../src/spec/index.ts';

export const BASE = 0xfed90000;
const QUEUE = 0x100000;
const CELL = 0x101000;
const ROOT = 0x102000;
const CONTEXTS = 0x103000;
export const SID = 0x10;
export const DEVICE: Device = { name: '0000:00:02.0', sid: SID };
const IVA = 0xf0;

export interface BenchOptions {
  readonly cachingMode?: boolean;
  readonly coherent?: boolean;
  readonly rwbf?: boolean;
}

/** A unit as its registers show it. Everything asked for is done at once; waits store when `answers` is set. */
class FakeUnit implements Platform {
  readonly mem: PhysMem = new PhysMem();
  readonly pages: PageAllocator = new PageAllocator(this.mem);
  readonly registers = new Map<number, number>();
  answers = true;
  fsts = 0;
  time = 0;
  #head = 0;

  constructor(options: BenchOptions) {
    const bit = (set: boolean | undefined, at: number): number => (set === true ? 1 << at : 0);
    // SAGAW: three levels and four.
    this.registers.set(
      vtd.CAP_REG,
      (6 << vtd.CAP_SAGAW_SHIFT) | bit(options.cachingMode, vtd.CAP_CM_BIT) | bit(options.rwbf, vtd.CAP_RWBF_BIT),
    );
    this.registers.set(
      vtd.ECAP_REG,
      bit(options.coherent !== false, vtd.ECAP_C_BIT) | ((IVA >> 4) << vtd.ECAP_IRO_SHIFT),
    );
  }

  readl(paddr: number): number {
    const offset = paddr - BASE;
    if (offset === vtd.FSTS_REG) return this.fsts;
    if (offset === vtd.CCMD_REG + 4 || offset === IVA + 12 || offset === vtd.GSTS_REG) return 0;
    return this.registers.get(offset) ?? 0;
  }

  writel(paddr: number, value: number): void {
    this.registers.set(paddr - BASE, value);
    if (paddr === BASE + vtd.IQT_REG) this.#run(value >>> 4);
  }

  writeq(paddr: number, lo: number): void {
    this.writel(paddr, lo);
  }

  #run(tail: number): void {
    for (; this.#head !== tail; this.#head = (this.#head + 1) % 256) {
      const at = QUEUE + this.#head * 16;
      const w0 = this.mem.load32(at);
      if (this.answers && (w0 & 15) === vtd.DESC_WAIT && (w0 & vtd.WAIT_SW) !== 0) {
        this.mem.deviceStore32(this.mem.load32(at + 8), this.mem.load32(at + 4));
      }
    }
  }

  loadShared32(paddr: number): number {
    return this.mem.load32(paddr);
  }
  clflush(paddr: number, nrBytes: number): void {
    this.mem.flush(paddr, nrBytes);
  }
  relax(): void {}
  nowNs(): number {
    return this.time;
  }
}

/** A driver whose callbacks do what the test says. */
class FakeOps implements IommuOps {
  readonly name: string = 'by hand';
  act: () => void = () => {};
  domain: IommuDomain = {
    type: 'paging',
    ops: this,
    pgsizeBitmap: 4096,
    apertureLast: 2 ** 48 - 1,
    faultHandler: null,
  };
  domainAlloc(_type: DomainType): IommuDomain {
    return this.domain;
  }
  domainFree(): void {}
  probeDevice(): number {
    return 0;
  }
  releaseDevice(): void {}
  attachDev(): number {
    this.act();
    return 0;
  }
  detachDev(): void {
    this.act();
  }
  getResvRegions(): readonly ResvRegion[] {
    return [];
  }
  mapPages(
    _d: IommuDomain,
    _i: number,
    _p: number,
    pgsize: number,
    pgcount: number,
    _prot: number,
    mapped: Mapped,
  ): number {
    this.act();
    mapped.bytes = pgsize * pgcount;
    return 0;
  }
  unmapPages(_d: IommuDomain, _i: number, pgsize: number, pgcount: number): number {
    this.act();
    return pgsize * pgcount;
  }
  iotlbSyncMap(): number {
    return 0;
  }
  iotlbSync(): void {}
  flushIotlbAll(): void {
    this.act();
  }
  flushNpCache(): void {}
  iovaToPhys(): number {
    return -1;
  }
}

export class Bench {
  readonly unit: FakeUnit;
  readonly sanitizer: Sanitizer = new Sanitizer();
  readonly platform: Platform;
  readonly ops: FakeOps = new FakeOps();
  #tail = 0;

  /** A unit that is on, with empty tables and empty caches. */
  constructor(options: BenchOptions = {}) {
    this.unit = new FakeUnit(options);
    this.platform = this.sanitizer.platform(this.unit);
    this.sanitizer.watchVtd(BASE);
    this.sanitizer.watch(this.ops);
    this.platform.writeq(BASE + vtd.IQA_REG, QUEUE, 0);
    this.platform.writeq(BASE + vtd.RTADDR_REG, ROOT, 0);
    this.platform.writel(BASE + vtd.GCMD_REG, vtd.GCMD_QIE | vtd.GCMD_SRTP);
    this.send([0x11, 0, 0, 0], [0x12, 0, 0, 0]);
    this.platform.writel(BASE + vtd.GCMD_REG, vtd.GCMD_QIE | vtd.GCMD_TE);
    this.store(ROOT, CONTEXTS | 1);
  }

  get findings(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  /** Contract, kind and level of what was found. */
  get found(): string[] {
    return this.findings.map(({ contract, kind, level }) => `${contract} ${kind} ${level}`);
  }

  /** A store of an entry, pushed to memory. */
  store(paddr: number, lo: number, hi: number = 0): void {
    this.platform.mem.store64(paddr, lo, hi);
    this.platform.clflush(paddr, 8);
  }

  /** A store that stays in the CPU's cache. */
  storeOnly(paddr: number, lo: number): void {
    this.platform.mem.store64(paddr, lo, 0);
  }

  /** Writes descriptors behind the tail. */
  put(...descriptors: readonly (readonly number[])[]): void {
    for (const [w0, w1, w2, w3] of descriptors) {
      this.platform.mem.store64(QUEUE + this.#tail * 16, w0, w1);
      this.platform.mem.store64(QUEUE + this.#tail * 16 + 8, w2, w3);
      this.#tail = (this.#tail + 1) % 256;
    }
  }

  doorbell(): void {
    this.platform.writel(BASE + vtd.IQT_REG, this.#tail << 4);
  }

  /** Sends descriptors and a wait, and looks at the wait's cell. */
  send(...descriptors: readonly (readonly number[])[]): void {
    this.platform.mem.store64(CELL, 1, 0);
    this.put(...descriptors, [vtd.DESC_WAIT | vtd.WAIT_SW, 2, CELL, 0]);
    this.doorbell();
    this.look();
  }

  /** Sends without looking. */
  sendOnly(...descriptors: readonly (readonly number[])[]): void {
    this.platform.mem.store64(CELL, 1, 0);
    this.put(...descriptors, [vtd.DESC_WAIT | vtd.WAIT_SW, 2, CELL, 0]);
    this.doorbell();
  }

  look(): void {
    this.platform.loadShared32(CELL);
  }

  /** A context entry: domain id, root table. Not present while it changes; `torn` leaves the present bit set. Does not flush. */
  context(did: number, root: number, torn: boolean = false): void {
    const entry = CONTEXTS + SID * 16;
    if (!torn) this.store(entry, 0);
    this.store(entry + 8, 2 | (did << 8));
    this.store(entry, root === 0 ? 0 : root | 1);
  }

  /** Attaches the device, everything flushed. */
  attach(did: number, root: number): void {
    this.call('attach', () =>
      this.moveTo(() => {
        this.context(did, root);
        this.send([0x31, SID, 0, 0], [(did << 16) | 0x31, SID, 0, 0], [(did << 16) | 0x22, 0, 0, 0]);
      }),
    );
  }

  /** Runs an attach callback that does what is said. */
  moveTo(act: () => void): void {
    this.ops.act = act;
    (this.ops as IommuOps).attachDev(this.ops.domain, DEVICE);
    this.ops.act = () => {};
  }

  /** Runs a detach callback that does what is said. */
  detach(act: () => void): void {
    this.ops.act = act;
    (this.ops as IommuOps).detachDev(this.ops.domain, DEVICE);
    this.ops.act = () => {};
  }

  call<T>(name: string, body: () => T): T {
    return this.sanitizer.call(name, body);
  }

  /** A map call of pages whose callback does what is said. */
  map(iova: number, paddr: number, nr: number, act: () => void, prot: number = 3): void {
    this.call('map', () => {
      this.ops.act = act;
      this.ops.mapPages(this.ops.domain, iova, paddr, 4096, nr, prot, { bytes: 0 });
    });
  }

  unmap(iova: number, nr: number, act: () => void, queued: boolean = false): void {
    const gather: IotlbGather = new Gather();
    gather.queued = queued;
    this.call('unmap', () => {
      this.ops.act = act;
      (this.ops as IommuOps).unmapPages(this.ops.domain, iova, 4096, nr, gather);
    });
  }
}

/** Page-selective invalidation. @param am pages as a power of two */
export function psi(did: number, iova: number, am: number = 0, ih: boolean = false): readonly number[] {
  return [0x32 | (did << 16), 0, iova | (ih ? 0x40 : 0) | am, 0];
}
