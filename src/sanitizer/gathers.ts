/** Unmaps that wait for the sync of their gather. */
import type { IommuDomain, IotlbGather } from '../iommu/index.ts';
import type { Promised } from './promises.ts';
import { PromiseList } from './promises.ts';

/**
 * By gather. The one that came last is kept apart from the others: mostly there is no other, and a map costs more than the rest
 * of an unmap's book-keeping.
 */
export class Gathers {
  #last: IotlbGather | null = null;
  #ofLast = new PromiseList();
  readonly #others = new Map<IotlbGather, PromiseList>();

  /** The promises of a gather, to be added to. */
  #listOf(gather: IotlbGather): PromiseList {
    if (gather === this.#last) return this.#ofLast;
    const known = this.#others.get(gather);
    if (known !== undefined) return known;
    if (this.#last !== null) {
      this.#others.set(this.#last, this.#ofLast);
      this.#ofLast = new PromiseList();
    }
    this.#last = gather;
    return this.#ofLast;
  }

  add(gather: IotlbGather, domain: IommuDomain, page: number, pages: number): void {
    this.#listOf(gather).add(domain, page, pages).gather = gather;
  }

  addCopy(gather: IotlbGather, promise: Promised): void {
    this.#listOf(gather).addCopy(promise);
  }

  /** Puts what waited for a gather in front of a list, as synced. */
  take(gather: IotlbGather, into: PromiseList): void {
    if (gather === this.#last) {
      this.#move(this.#ofLast, into);
      this.#last = null;
      return;
    }
    if (this.#others.size === 0) return;
    const list = this.#others.get(gather);
    if (list === undefined) return;
    this.#others.delete(gather);
    this.#move(list, into);
  }

  #move(list: PromiseList, into: PromiseList): void {
    for (let i = 0; i < list.nr; i++) list.at(i).isSynced = true;
    if (into.nr > 0) {
      list.addAll(into);
      into.clear();
    }
    into.addAll(list);
    list.clear();
  }
}
