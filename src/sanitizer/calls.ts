/**
 * Which call promised what, and when that is due: at the return of the outermost call, or for an unmap at the sync of its gather.
 */
import type { Device, IommuDomain, IotlbGather } from '../iommu/index.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../iommu/index.ts';
import type { Platform } from '../mem/index.ts';
import { Gathers } from './gathers.ts';
import type { Judge } from './judge.ts';
import { PromiseList, Promised } from './promises.ts';
import type { Tables } from './tables.ts';
import type { OpsWatcher } from './watched-ops.ts';

const PAGE = 4096;
const READ: number = IOMMU_READ;
const WRITE: number = IOMMU_WRITE;

export class Calls implements OpsWatcher {
  /** Calls judged. */
  nr = 0;
  readonly #platform: Platform;
  readonly #tables: Tables;
  readonly #judge: Judge;
  /** The outermost call under way: its name and the step at which it began. */
  #isOpen = false;
  #name = '';
  #step = 0;
  readonly #promised = new PromiseList();
  readonly #moved: { readonly domain: IommuDomain | null; readonly device: Device }[] = [];
  readonly #flushed: IommuDomain[] = [];
  /** What was mapped outside of any call: due at the end of the next one. */
  readonly #loose = new PromiseList();
  readonly #gathers = new Gathers();
  #inDriver = 0;

  constructor(platform: Platform, tables: Tables, judge: Judge) {
    this.#platform = platform;
    this.#tables = tables;
    this.#judge = judge;
  }

  /** The name of the call under way, null outside of calls. */
  get current(): string | null {
    return this.#isOpen ? this.#name : null;
  }

  /** Runs a call and judges it, unless it is part of another one. */
  run<T>(name: string, body: () => T): T {
    if (this.#isOpen) return body();
    this.#open(name);
    try {
      return body();
    } finally {
      this.end();
    }
  }

  #open(name: string): void {
    const tables = this.#tables;
    tables.nowNs = this.#platform.nowNs();
    this.#name = name;
    this.#step = tables.step;
    this.#isOpen = true;
  }

  begin(name: string): boolean {
    if (this.#inDriver > 0 || this.#isOpen) return false;
    this.#open(name);
    if (this.#loose.nr > 0) {
      this.#promised.addAll(this.#loose);
      this.#loose.clear();
    }
    return true;
  }

  end(): void {
    try {
      this.#judgeAll();
    } finally {
      this.#promised.clear();
      // Setting the length of an array leaves optimised code.
      if (this.#moved.length > 0) this.#moved.length = 0;
      if (this.#flushed.length > 0) this.#flushed.length = 0;
      this.#isOpen = false;
    }
  }

  enter(queued: boolean): void {
    this.#inDriver += 1;
    const tables = this.#tables;
    if (!this.#isOpen) tables.nowNs = this.#platform.nowNs();
    tables.lazy = queued;
  }

  leave(): void {
    this.#inDriver -= 1;
    this.#tables.lazy = false;
  }

  mapFailed(domain: IommuDomain): void {
    if (!this.#isOpen) return;
    // Whatever the call has mapped in the domain is to be gone at its end, unless it maps it once more.
    const promised = this.#promised;
    const { nr } = promised;
    for (let i = 0; i < nr; i++) {
      const promise = promised.at(i);
      if (promise.kind === 'mapped' && promise.domain === domain) {
        promised.add(domain, promise.page, promise.pages).isSynced = true;
      }
    }
  }

  mapped(domain: IommuDomain, iova: number, paddr: number, nrBytes: number, prot: number): void {
    const rights = ((prot & READ) !== 0 ? 1 : 0) | ((prot & WRITE) !== 0 ? 2 : 0);
    const list = this.#isOpen ? this.#promised : this.#loose;
    const page = iova / PAGE;
    const pfn = paddr / PAGE;
    if (list.nr > 0) {
      const last = list.at(list.nr - 1);
      const goesOn =
        last.kind === 'mapped' &&
        last.domain === domain &&
        last.page + last.pages === page &&
        last.pfn + last.pages === pfn &&
        last.rights === rights;
      if (goesOn) {
        last.pages += nrBytes / PAGE;
        return;
      }
    }
    list.addMapped(domain, page, nrBytes / PAGE, pfn, rights);
  }

  unmapped(domain: IommuDomain, iova: number, nrBytes: number, gather: IotlbGather): void {
    if (this.#isOpen) this.#promised.add(domain, iova / PAGE, nrBytes / PAGE).gather = gather;
    else this.#gathers.add(gather, domain, iova / PAGE, nrBytes / PAGE);
  }

  synced(gather: IotlbGather): void {
    if (!this.#isOpen) return;
    const promised = this.#promised;
    for (let i = 0; i < promised.nr; i++) {
      const promise = promised.at(i);
      if (promise.gather === gather) promise.isSynced = true;
    }
    this.#gathers.take(gather, promised);
  }

  flushed(domain: IommuDomain): void {
    if (this.#isOpen) this.#flushed.push(domain);
  }

  moved(domain: IommuDomain | null, device: Device): void {
    this.#judge.moved(domain, device);
    if (this.#isOpen) this.#moved.push({ domain, device });
  }

  // What is due.

  #judgeAll(): void {
    this.nr += 1;
    const judge = this.#judge;
    const promised = this.#promised;
    this.#tables.nowNs = this.#platform.nowNs();
    for (let i = 0; i < this.#moved.length; i++) {
      const { domain, device } = this.#moved[i];
      judge.device(this.#name, domain, device);
    }
    // One kind of promise: nothing can have been taken back within the call.
    let isPlain = true;
    for (let i = 1; i < promised.nr; i++) if (promised.at(i).kind !== promised.at(0).kind) isPlain = false;
    if (isPlain) for (let i = 0; i < promised.nr; i++) this.#judgeOrDefer(promised.at(i));
    else this.#judgeLast();
    for (let i = 0; i < this.#flushed.length; i++) judge.flushed(this.#name, this.#step, this.#flushed[i]);
    judge.window(this.#name);
  }

  /** An unmap whose gather still holds something, or that is called fast, is due at the sync that ends it. */
  #judgeOrDefer(promise: Promised): void {
    const { gather } = promise;
    if (gather !== null && !promise.isSynced) {
      const waits = !gather.isEmpty || gather.freelist.length > 0 || this.#name.includes('fast');
      if (waits) {
        this.#gathers.addCopy(gather, promise);
        return;
      }
    }
    this.#judge.pages(this.#name, promise, promise.kind === 'mapped' ? 'C-MAP-VISIBLE' : 'C-UNMAP-GONE');
  }

  /** Promises that replace each other: only the last one of each page is due. */
  #judgeLast(): void {
    const last = new Map<IommuDomain, Map<number, { promise: Promised; wasMapped: boolean }>>();
    for (let p = 0; p < this.#promised.nr; p++) {
      const promise = this.#promised.at(p);
      let pages = last.get(promise.domain);
      if (pages === undefined) last.set(promise.domain, (pages = new Map()));
      for (let i = 0; i < promise.pages; i++) {
        const page = promise.page + i;
        const before = pages.get(page);
        const wasMapped = (before?.wasMapped ?? false) || before?.promise.kind === 'mapped';
        pages.set(page, { promise, wasMapped });
      }
    }
    for (const [domain, pages] of last) {
      const one = new Promised(domain, 0, 1);
      for (const [page, { promise, wasMapped }] of pages) {
        one.copy(promise, page, 1);
        if (promise.kind === 'mapped') this.#judge.pages(this.#name, one, 'C-MAP-VISIBLE');
        else this.#judge.pages(this.#name, one, wasMapped ? 'C-ROLLBACK' : 'C-UNMAP-GONE');
      }
    }
  }
}
