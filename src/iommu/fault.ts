/** Faults a driver reports upwards: report_iommu_fault() of Linux 6.12 drivers/iommu/iommu.c. Intel's driver never calls it. */
import type { Device, IommuDomain } from './ops.ts';
import type { IommuTracer } from './tracer.ts';

/** The access that faulted (IOMMU_FAULT_READ, IOMMU_FAULT_WRITE). */
export const FAULT_READ = 0;
export const FAULT_WRITE = 1;

/** Nobody handled the fault (-ENOSYS): the driver then prints it. Not 0, which would mean "handled, retry". */
export const FAULT_UNHANDLED: number = -38;

/**
 * Hands a fault to the domain's handler, then traces it, handled or not.
 * @returns what the handler returned, FAULT_UNHANDLED when there is none
 */
export function reportIommuFault(
  domain: IommuDomain,
  device: Device,
  iova: number,
  flags: number,
  tracer: IommuTracer | null = null,
): number {
  const { faultHandler } = domain;
  const result = faultHandler === null ? FAULT_UNHANDLED : faultHandler(domain, device, iova, flags);
  tracer?.ioPageFault?.(device, iova, flags);
  return result;
}
