/**
 * The events of include/trace/events/iommu.h, as calls: one method per tracepoint, named after it. The core calls it where the
 * kernel has its tracepoints and in the same order relative to the driver's commands, so that a recording can be compared.
 *
 * `map` comes once per run of physically contiguous memory (per __iommu_map), so several times per `mapSg`, and from 5.12 on
 * before the invalidation that the mapping needs. Nothing in it says whether that invalidation happened. `unmap` comes once
 * per unmap, also for the one that undoes a failed map, then with the bytes that had been mapped.
 */
import type { Device, IommuDomain } from './ops.ts';

export interface IommuTracer {
  /** iommu:map. The real tracepoint does not name the domain; it is here for observers inside the process. */
  map(iova: number, paddr: number, nrBytes: number, domain: IommuDomain): void;
  /** iommu:unmap. `unmapped` may exceed `nrBytes` when a large leaf was hit. */
  unmap(iova: number, nrBytes: number, unmapped: number, domain: IommuDomain): void;
  /** iommu:attach_device_to_domain, after the driver succeeded. */
  attach(device: Device, domain: IommuDomain): void;
  /** iommu:detach_device_from_domain; kernels up to 6.1 only. */
  detach?(device: Device, domain: IommuDomain): void;
  /** iommu:add_device_to_group. */
  addDevice?(groupId: number, device: Device): void;
  /** iommu:remove_device_from_group. */
  removeDevice?(groupId: number, device: Device): void;
  /** iommu:io_page_fault, after the handler ran. */
  ioPageFault?(device: Device, iova: number, flags: number): void;
}
