/** An AMD domain: a host page table and one id on all units (struct protection_domain). */
import type { Device, DomainType, FaultHandler, IommuDomain, IommuOps } from '../../iommu/index.ts';
import type { PageTable } from '../../pt/index.ts';
import type { AmdUnitDriver } from './unit.ts';

/** One device in the care of the driver (struct iommu_dev_data). */
export interface AmdDevice {
  readonly device: Device;
  readonly unit: AmdUnitDriver;
  /** The ids its requests may carry: its own, and the one that firmware says a bridge puts in its place. */
  readonly sids: readonly number[];
  domain: AmdDomain | null;
}

/**
 * Having one means an id is taken and, for paging, a table exists. It does not mean that a device uses it: `devices` says
 * that, and a flush of a domain without devices is nothing at all.
 */
export class AmdDomain implements IommuDomain {
  readonly type: DomainType;
  readonly ops: IommuOps;
  readonly pgsizeBitmap: number;
  readonly apertureLast: number;
  faultHandler: FaultHandler | null = null;
  /** What IOTLB entries are tagged with; 0 for a blocked domain, which needs none. */
  readonly did: number;
  /** Null for identity and blocked domains. */
  readonly table: PageTable | null;
  readonly devices: AmdDevice[] = [];
  /** Units that serve one of the devices, each once. */
  units: readonly AmdUnitDriver[] = [];
  /** Tables that gave way to large leaves during the map under way. */
  readonly replaced: number[] = [];

  constructor(
    type: DomainType,
    ops: IommuOps,
    pgsizeBitmap: number,
    apertureLast: number,
    did: number,
    table: PageTable | null,
  ) {
    this.type = type;
    this.ops = ops;
    this.pgsizeBitmap = pgsizeBitmap;
    this.apertureLast = apertureLast;
    this.did = did;
    this.table = table;
  }

  add(member: AmdDevice): void {
    this.devices.push(member);
    this.units = [...new Set(this.devices.map(({ unit }) => unit))];
  }

  remove(member: AmdDevice): void {
    this.devices.splice(this.devices.indexOf(member), 1);
    this.units = [...new Set(this.devices.map(({ unit }) => unit))];
  }
}
