/**
 * Memory of the process that VFIO and iommufd map: runs of every length, two that large leaves fit, holes. Counts pins, and
 * looks at the devices when the last pin of a frame goes: none may reach it then.
 */
import type { Rng } from '../../src/base/index.ts';
import { EFAULT } from '../../src/base/index.ts';
import type { Process, ProcessMemory } from '../../src/vfio/index.ts';
import { LockAccount } from '../../src/vfio/index.ts';
import { PAGE } from './space.ts';

export const V = 0x7f00_0000_0000;
/** Pages of mixed runs, then pages of which every 512 are contiguous and aligned. */
export const NR_MIXED = 1024;
export const NR_VPAGES = 2048;
const FIRST_FRAME = 0x20_0000;

export class SoakMemory implements ProcessMemory {
  readonly exited = false;
  readonly frames: Int32Array = new Int32Array(NR_VPAGES).fill(-1);
  readonly pins: Map<number, number> = new Map();
  /** Called with a frame whose last pin is gone. */
  onFree: (frame: number) => void = () => {};

  constructor(rng: Rng) {
    for (let page = 0; page < NR_MIXED;) {
      const nr = 1 + rng.below(rng.chance(0.2) ? 80 : 6);
      const first = FIRST_FRAME + rng.below(4000);
      const isHole = rng.chance(0.03);
      for (let at = 0; at < nr && page < NR_MIXED; at++, page++) this.frames[page] = isHole ? -1 : first + at;
    }
    for (let page = NR_MIXED; page < NR_VPAGES; page++) this.frames[page] = FIRST_FRAME + 0x1_0000 + page;
  }

  get process(): Process {
    return { memory: this, account: new LockAccount(), userAccount: new LockAccount() };
  }

  hasHole(vpage: number, nr: number): boolean {
    for (let at = vpage; at < vpage + nr; at++) if (this.frames[at] < 0) return true;
    return false;
  }

  pin(vaddr: number, nrPages: number, _write: boolean, pfns: Float64Array): number {
    const first = (vaddr - V) / PAGE;
    let nr = 0;
    for (; nr < nrPages && first + nr < NR_VPAGES; nr++) {
      const frame = this.frames[first + nr];
      if (frame < 0) break;
      this.pins.set(frame, (this.pins.get(frame) ?? 0) + 1);
      pfns[nr] = frame;
    }
    return nr > 0 ? nr : EFAULT;
  }

  unpin(first: number, nrPages: number): void {
    for (let frame = first; frame < first + nrPages; frame++) {
      const left = (this.pins.get(frame) ?? 0) - 1;
      if (left < 0) throw new Error(`frame 0x${frame.toString(16)} is unpinned once too often`);
      if (left > 0) {
        this.pins.set(frame, left);
      } else {
        this.pins.delete(frame);
        this.onFree(frame);
      }
    }
  }

  copyUser(): number {
    throw new Error('nobody copies here');
  }
  copyFrame(): void {
    throw new Error('nobody copies here');
  }
}
