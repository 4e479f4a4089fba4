/** Memory of a process whose frames a scenario chooses. It never runs out; pins are the business of src/vfio's own tests. */
import { EFAULT, PAGE_SIZE } from '../../base/index.ts';
import type { Process, ProcessMemory } from '../../vfio/index.ts';
import { LockAccount } from '../../vfio/index.ts';
import type { Chunks } from '../space.ts';

/** Where the process sees the page of IOVA 0; the others follow, so that large leaves stay possible. */
const BASE = 0x7f00_0000_0000;

class ChosenMemory implements ProcessMemory {
  readonly exited = false;
  readonly #frames = new Map<number, number>();
  #before: (number | undefined)[] = [];

  /** Puts the frames of `chunks` behind the pages of a range. @returns its address in the process */
  place(iova: number, chunks: Chunks): number {
    const before: (number | undefined)[] = [];
    let page = (BASE + iova) / PAGE_SIZE;
    for (const [paddr, nrBytes] of chunks) {
      for (let at = 0; at < nrBytes; at += PAGE_SIZE) {
        before.push(this.#frames.get(page));
        this.#frames.set(page++, (paddr + at) / PAGE_SIZE);
      }
    }
    this.#before = before;
    return BASE + iova;
  }

  /** Undoes the last `place`: its map was refused, and what was mapped there before may be pinned again. */
  restore(vaddr: number): void {
    let page = vaddr / PAGE_SIZE;
    for (const pfn of this.#before) {
      if (pfn === undefined) this.#frames.delete(page);
      else this.#frames.set(page, pfn);
      page += 1;
    }
  }

  pin(vaddr: number, nrPages: number, _write: boolean, pfns: Float64Array): number {
    let nr = 0;
    for (; nr < nrPages; nr++) {
      const pfn = this.#frames.get(vaddr / PAGE_SIZE + nr);
      if (pfn === undefined) break;
      pfns[nr] = pfn;
    }
    return nr === 0 ? EFAULT : nr;
  }

  unpin(): void {}

  copyUser(): number {
    return EFAULT;
  }

  copyFrame(): void {}
}

export class ChosenProcess implements Process {
  readonly memory: ChosenMemory = new ChosenMemory();
  readonly account: LockAccount = new LockAccount();
}
