/** A first run of a scenario with nothing decided: which devices and pages it is about. */
import { PAGE_SIZE } from '../../base/index.ts';
import type { IommuOps } from '../../iommu/index.ts';
import type { Machine } from '../../machine/index.ts';
import type { Platform } from '../../mem/index.ts';
import type { Breach, Judge } from '../judge.ts';
import type { Promises } from '../promises.ts';

/** Leaf tables cover this much, on both architectures. */
const TABLE_PAGES = 512;

export class Scout implements Judge {
  readonly findings: readonly Breach[] = [];
  /** Requester ids that some call attached. */
  readonly sids: Set<number> = new Set();
  readonly #ranges: [firstPage: number, nrPages: number][] = [];
  #promises: Promises | null = null;

  platform(inner: Platform): Platform {
    return inner;
  }

  /** Listens to what the core asks the driver for: ranges whose call failed are in no table of promises. */
  watch(ops: IommuOps): void {
    const note = (iova: number, nrBytes: number): void => {
      this.#ranges.push([Math.floor(iova / PAGE_SIZE), Math.ceil(nrBytes / PAGE_SIZE)]);
    };
    const mapPages = ops.mapPages.bind(ops);
    const unmapPages = ops.unmapPages.bind(ops);
    const mapSgDirect = ops.mapSgDirect?.bind(ops);
    ops.mapPages = (...args): number => {
      note(args[1], args[3] * args[4]);
      return mapPages(...args);
    };
    ops.unmapPages = (...args): number => {
      note(args[1], args[2] * args[3]);
      return unmapPages(...args);
    };
    if (mapSgDirect === undefined) return;
    const direct: NonNullable<IommuOps['mapSgDirect']> = (domain, iova, chunks, nr, prot) => {
      let nrBytes = 0;
      for (let i = 0; i < nr; i++) nrBytes += chunks[2 * i + 1];
      note(iova, nrBytes);
      return mapSgDirect(domain, iova, chunks, nr, prot);
    };
    Object.assign(ops, { mapSgDirect: direct });
  }

  started(_machine: Machine, promises: Promises): void {
    this.#promises = promises;
  }

  call<T>(_name: string, body: () => T): T {
    const result = body();
    for (const [sid, space] of this.#promises?.devices ?? []) if (space !== null) this.sids.add(sid);
    return result;
  }

  /**
   * Pages to look at, as byte addresses, at most `most`: of each range the first page, of each the last, then what lies around
   * changes of table and of alignment, then what is left of short ones.
   */
  pages(most: number): { pages: number[]; nrLeft: number } {
    const found = new Set<number>();
    const add = (of: (first: number, last: number) => readonly number[]): void => {
      for (const [first, nr] of this.#ranges) {
        const last = first + nr - 1;
        for (const page of of(first, last)) if (page >= first && page <= last) found.add(page);
      }
    };
    add((first) => [first]);
    add((_first, last) => [last]);
    add((first) => {
      const border = Math.ceil((first + 1) / TABLE_PAGES) * TABLE_PAGES;
      return [border - 1, border];
    });
    add((first, last) => {
      // The widest aligned block in a range: where a mask that is one too narrow ends.
      const middle = first + 2 ** Math.floor(Math.log2(last - first + 1));
      return [first + 1, last - 1, middle - 1, middle];
    });
    add((first, last) => (last - first < most ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : []));
    const pages = [...found].slice(0, most).map((page) => page * PAGE_SIZE);
    return { pages, nrLeft: this.#nrPages() - pages.length };
  }

  #nrPages(): number {
    const ranges = [...this.#ranges].sort((a, b) => a[0] - b[0]);
    let nr = 0;
    let end = 0;
    for (const [first, count] of ranges) {
      nr += Math.max(0, first + count - Math.max(end, first));
      end = Math.max(end, first + count);
    }
    return nr;
  }
}
