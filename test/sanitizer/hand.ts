/**
 * Machines without a driver and without an IOMMU: tests write table entries, commands and registers by hand, so that each rule
 * of the sanitizer is tried by the fewest stores that break it and by their twin that does not. The only "hardware" is what
 * completes a wait. Entries and commands are written out from the specifications: VT-d rev. 4.1 sections 6.5, 9 and 11.4, AMD
 * 48882 sections 2.2 to 2.4 and 3.4.
 *
 * Both kinds have the same shape. One unit (or several), a device table, and for each `Space` three levels of tables in which
 * page 0..511 is entry 0..511 of `leaves`.
 */
import type { Device, IommuDomain, IommuOps } from '../../src/iommu/index.ts';
import { IotlbGather } from '../../src/iommu/index.ts';
import type { Platform } from '../../src/mem/index.ts';
import { PageAllocator, PhysMem } from '../../src/mem/index.ts';
import type { Finding } from '../../src/sanitizer/index.ts';
import { Sanitizer } from '../../src/sanitizer/index.ts';

export const PAGE = 4096;

export interface HandOptions {
  /** CAP.CM, NpCache. */
  readonly np?: boolean;
  /** ECAP.C. Default true. VT-d only, as all that follow. */
  readonly coherent?: boolean;
  /** CAP.RWBF: a write buffer that must be flushed. */
  readonly rwbf?: boolean;
  /** CAP.ESRTPS: setting the root pointer empties the caches. */
  readonly esrtps?: boolean;
  /** False: registers are written by the test. */
  readonly starts?: boolean;
  readonly nrUnits?: number;
}

/** A domain and its tables. */
export interface Space {
  readonly domain: IommuDomain;
  readonly did: number;
  readonly root: number;
  readonly middle: number;
  readonly leaves: number;
}

export abstract class Hand {
  readonly mem: PhysMem;
  readonly pages: PageAllocator;
  readonly sanitizer: Sanitizer = new Sanitizer();
  readonly platform: Platform;
  /** Entries that `point` writes let devices have TLBs of their own (TT = 01, DTE.I). */
  hasAts = false;
  /** Waits are not completed while true: the unit hangs. */
  hangs = false;
  nowNs = 0;
  protected readonly registers = new Map<number, number>();
  readonly #ops: IommuOps;
  #body: () => number = () => 0;

  constructor(coherent: boolean) {
    this.mem = new PhysMem({ coherent });
    this.pages = new PageAllocator(this.mem);
    this.platform = this.sanitizer.platform({
      mem: this.mem,
      pages: this.pages,
      readl: (paddr) => this.registers.get(paddr) ?? 0,
      writel: (paddr, value) => this.#write(paddr, value),
      writeq: (paddr, lo, hi) => {
        this.registers.set(paddr + 4, hi);
        this.#write(paddr, lo);
      },
      loadShared32: (paddr) => this.mem.load32(paddr),
      clflush: (paddr, nrBytes) => this.mem.flush(paddr, nrBytes),
      relax: () => undefined,
      nowNs: () => this.nowNs,
    });
    const body = (): number => this.#body();
    this.#ops = this.sanitizer.watch({
      name: 'hand',
      domainAlloc: () => null,
      domainFree: () => undefined,
      probeDevice: () => 0,
      releaseDevice: () => undefined,
      attachDev: body,
      detachDev: body,
      getResvRegions: () => [],
      mapPages: (_domain, _iova, _paddr, pgsize, pgcount, _prot, mapped) => {
        mapped.bytes = pgsize * pgcount;
        return this.#body();
      },
      unmapPages: (_domain, _iova, pgsize, pgcount) => {
        this.#body();
        return pgsize * pgcount;
      },
      iotlbSyncMap: body,
      iotlbSync: body,
      flushIotlbAll: body,
      flushNpCache: () => undefined,
      iovaToPhys: () => -1,
    });
  }

  /** Hardware hears of a register. */
  protected abstract act(paddr: number, value: number): void;

  #write(paddr: number, value: number): void {
    this.registers.set(paddr, value);
    this.act(paddr, value);
  }

  #with<T>(body: () => number | void, call: () => T): T {
    this.#body = () => body() ?? 0;
    return call();
  }

  // What an architecture is.

  /** An entry that leads to a page, with rights read 1 and write 2. */
  abstract leaf(table: number, index: number, pfn: number, rights?: number): void;
  /** An entry that leads to a table of the level below. */
  abstract link(table: number, index: number, pfn: number, level: number): void;
  clear(table: number, index: number): void {
    this.store(table, index, 0, 0);
  }

  /** A leaf of 2 MiB, in a table of level 2. */
  abstract big(table: number, index: number, pfn: number): void;
  /** Makes a device use a space, or nothing. Stores only. */
  abstract point(sid: number, space: Space | null, unit?: number): void;

  // Commands, queued; nothing happens before `ring`.

  abstract invPages(did: number, page: number, lg2?: number, leavesOnly?: boolean, unit?: number): void;
  abstract invDomain(did: number, unit?: number): void;
  abstract invAll(unit?: number): void;
  abstract invDevice(sid: number, did: number, unit?: number): void;
  /** A device is told to drop 2^lg2 pages from its own TLB; of those around `page`, aligned. 52: everything. */
  invDeviceTlb(sid: number, page: number, lg2 = 0, unit = 0): void {
    // PCIe 10.3.1: n ones from bit 12 up are 2^(n + 1) pages; every bit but the highest is everything.
    if (lg2 === 52) this.queueDeviceTlb(sid, 0xfffff001 | 0, 0x7fffffff, unit);
    else if (lg2 === 0) this.queueDeviceTlb(sid, page * PAGE, 0, unit);
    else this.queueDeviceTlb(sid, (page - (page % 2 ** lg2) + 2 ** (lg2 - 1) - 1) * PAGE + 1, 0, unit);
  }

  /** @param lo of the address, with the bit S @param hi of it */
  protected abstract queueDeviceTlb(sid: number, lo: number, hi: number, unit: number): void;
  abstract wait(unit?: number): void;
  abstract ring(unit?: number): void;
  /** Software looks whether the last wait is over. */
  abstract look(unit?: number): void;

  /** The wait behind everything, seen. */
  sync(unit = 0): void {
    this.wait(unit);
    this.ring(unit);
    this.look(unit);
  }

  // Stores.

  store(table: number, index: number, lo: number, hi: number): void {
    this.mem.store64(table * PAGE + index * 8, lo, hi);
    this.flushLine(table, index);
  }

  flushLine(table: number, index: number): void {
    if (!this.mem.coherent) this.platform.clflush(table * PAGE + index * 8, 8);
  }

  table(): number {
    return this.pages.alloc();
  }

  /** A domain with three levels of tables and nothing mapped. */
  space(did: number): Space {
    const [root, middle, leaves] = [this.table(), this.table(), this.table()];
    this.link(middle, 0, leaves, 2);
    this.link(root, 0, middle, 3);
    return { domain: this.#domain(), did, root, middle, leaves };
  }

  #domain(): IommuDomain {
    return { type: 'paging', ops: this.#ops, pgsizeBitmap: PAGE, apertureLast: 2 ** 39 - 1, faultHandler: null };
  }

  // Calls. Each is bracketed, as one of a caller's.

  map(space: Space, page: number, pfn: number, body: () => number | void, nr = 1, rights = 3): void {
    const mapped = { bytes: 0 };
    this.sanitizer.call('map', () =>
      this.#with(body, () => this.#ops.mapPages(space.domain, page * PAGE, pfn * PAGE, PAGE, nr, rights, mapped)),
    );
  }

  unmap(space: Space, page: number, body: () => void, nr = 1): void {
    this.sanitizer.call('unmap', () =>
      this.#with(body, () => this.#ops.unmapPages(space.domain, page * PAGE, PAGE, nr, new IotlbGather())),
    );
  }

  /** An unmap whose flush is left to a queue. */
  unmapLater(space: Space, page: number, body: () => void): void {
    const gather = new IotlbGather();
    gather.queued = true;
    this.sanitizer.call('dma_unmap', () =>
      this.#with(body, () => this.#ops.unmapPages(space.domain, page * PAGE, PAGE, 1, gather)),
    );
  }

  flushAll(space: Space, body: () => void): void {
    this.sanitizer.call('flush', () => this.#with(body, () => this.#ops.flushIotlbAll(space.domain)));
  }

  attach(space: Space, sid: number, body: () => number | void): void {
    this.sanitizer.call('attach', () => this.#with(body, () => this.#ops.attachDev(space.domain, deviceOf(sid))));
  }

  detach(space: Space, sid: number, body: () => void): void {
    this.sanitizer.call('detach', () => this.#with(body, () => this.#ops.detachDev(space.domain, deviceOf(sid))));
  }

  /** A device in a space, correctly, and not a word about it. */
  attached(did: number, sid = 8): Space {
    const space = this.space(did);
    this.attach(space, sid, () => {
      this.point(sid, space);
      this.invDevice(sid, 0);
      this.sync();
      this.invDomain(did);
      this.sync();
    });
    return space;
  }

  /** A page mapped, correctly. */
  mapped(space: Space, page: number, pfn: number): void {
    this.map(space, page, pfn, () => {
      this.leaf(space.leaves, page, pfn);
      this.invPages(space.did, page);
      this.sync();
    });
  }

  get findings(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  /** What was found, in short: contract and kind. */
  get verdict(): string[] {
    return this.findings.map(({ contract, kind }) => `${contract} ${kind}`);
  }
}

export const deviceOf = (sid: number): Device => ({ name: `device ${sid}`, sid });
