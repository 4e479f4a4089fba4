/** An IO address space object: an IO page table that user space maps into. Linux 6.12 drivers/iommu/iommufd/ioas.c. */
import { IoPageTable } from './io-pagetable.ts';
import type { Hwpt } from './hwpt.ts';
import type { FdObject } from './objects.ts';

export class Ioas implements FdObject {
  readonly type = 'ioas';
  id = 0;
  /** Hardware page tables and in-kernel users. */
  nrUsers = 0;
  readonly table: IoPageTable = new IoPageTable();
  /** In the order in which they were made. */
  readonly hwpts: Hwpt[] = [];
  readonly #onDestroy: (ioas: Ioas) => void;

  constructor(onDestroy: (ioas: Ioas) => void) {
    this.#onDestroy = onDestroy;
  }

  /** Areas that are left go with it. */
  destroy(): void {
    this.table.unmapAll();
    this.#onDestroy(this);
  }
}
