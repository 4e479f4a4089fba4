/**
 * A hardware page table: one domain that holds all areas of an IOAS. struct iommufd_hwpt_paging of Linux 6.12
 * drivers/iommu/iommufd/hw_pagetable.c, without nesting and fault queues.
 */
import type { IommuDomain } from '../../iommu/index.ts';
import type { Ioas } from './ioas.ts';
import type { FdObject } from './objects.ts';

export class Hwpt implements FdObject {
  readonly type = 'hwpt';
  id = 0;
  /** Devices attached. */
  nrUsers = 0;
  readonly ioas: Ioas;
  readonly domain: IommuDomain;
  /** Made by attaching a device to an IOAS: goes with the last device, and other devices may share it. */
  readonly auto: boolean;

  constructor(ioas: Ioas, domain: IommuDomain, auto: boolean) {
    this.ioas = ioas;
    this.domain = domain;
    this.auto = auto;
    ioas.nrUsers += 1;
  }

  /** Fills the domain. @returns 0 or a negative errno; the caller then drops it */
  fill(): number {
    const errno = this.ioas.table.addDomain(this.domain);
    if (errno === 0) this.ioas.hwpts.push(this);
    return errno;
  }

  destroy(): void {
    const index = this.ioas.hwpts.indexOf(this);
    if (index >= 0) {
      this.ioas.hwpts.splice(index, 1);
      this.ioas.table.removeDomain(this.domain);
    }
    this.domain.ops.domainFree(this.domain);
    this.ioas.nrUsers -= 1;
  }
}
