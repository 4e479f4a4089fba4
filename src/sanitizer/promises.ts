/** What the calls of a driver promise, from the moment of the call on until it is judged. */
import type { IommuDomain, IotlbGather } from '../iommu/index.ts';

/** One range that a driver's callback mapped or unmapped. */
export class Promised {
  kind: 'mapped' | 'gone';
  domain: IommuDomain;
  page: number;
  pages: number;
  /** Of a map: first frame, and rights: read 1, write 2. */
  pfn: number;
  rights: number;
  /** Of an unmap: what its flush is left to. */
  gather: IotlbGather | null;
  /** The gather has been synced since: nothing is left to wait for. */
  isSynced: boolean;

  constructor(domain: IommuDomain, page: number, pages: number) {
    this.kind = 'gone';
    this.domain = domain;
    this.page = page;
    this.pages = pages;
    this.pfn = 0;
    this.rights = 0;
    this.gather = null;
    this.isSynced = false;
  }

  /** Becomes a copy of part of another one. */
  copy(from: Promised, page: number, pages: number): void {
    this.kind = from.kind;
    this.domain = from.domain;
    this.page = page;
    this.pages = pages;
    this.pfn = from.pfn + (page - from.page);
    this.rights = from.rights;
    this.gather = from.gather;
    this.isSynced = from.isSynced;
  }
}

/** Promises in the order in which they were made. Emptied it keeps its objects: one per call would be a third of its cost. */
export class PromiseList {
  readonly #all: Promised[] = [];
  nr = 0;

  at(index: number): Promised {
    return this.#all[index];
  }

  clear(): void {
    this.nr = 0;
  }

  /** A promise that is gone when its fields say nothing else. */
  add(domain: IommuDomain, page: number, pages: number): Promised {
    const index = this.nr++;
    if (index === this.#all.length) this.#all.push(new Promised(domain, page, pages));
    const promise = this.#all[index];
    promise.kind = 'gone';
    promise.domain = domain;
    promise.page = page;
    promise.pages = pages;
    promise.pfn = 0;
    promise.rights = 0;
    promise.gather = null;
    promise.isSynced = false;
    return promise;
  }

  addMapped(domain: IommuDomain, page: number, pages: number, pfn: number, rights: number): void {
    const promise = this.add(domain, page, pages);
    promise.kind = 'mapped';
    promise.pfn = pfn;
    promise.rights = rights;
    promise.isSynced = true;
  }

  addCopy(from: Promised): void {
    this.add(from.domain, from.page, from.pages).copy(from, from.page, from.pages);
  }

  addAll(list: PromiseList): void {
    for (let i = 0; i < list.nr; i++) this.addCopy(list.at(i));
  }
}
