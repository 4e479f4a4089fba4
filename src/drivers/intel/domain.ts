/** A VT-d domain: second-stage tables, and an id on every unit that serves one of its devices (struct dmar_domain). */
import type { DomainType, FaultHandler, IommuDomain, IommuOps } from '../../iommu/index.ts';
import type { PageTable } from '../../pt/index.ts';
import type { VtdUnitDriver } from './unit.ts';

/** One unit a domain is attached to (struct iommu_domain_info). */
export interface UnitAttachment {
  readonly unit: VtdUnitDriver;
  /** The domain's id on that unit: what its IOTLB entries are tagged with. */
  readonly did: number;
  /** Devices behind that unit that use the domain; at 0 the id goes back. */
  nrDevices: number;
}

/**
 * Having one means tables exist. It does not mean that a device uses them: `attachments` says that, and a flush of a domain
 * without attachments is nothing at all.
 */
export class IntelDomain implements IommuDomain {
  readonly type: DomainType;
  readonly ops: IommuOps;
  readonly pgsizeBitmap: number;
  readonly apertureLast: number;
  faultHandler: FaultHandler | null = null;
  /** Null for identity and blocked domains, which need no tables. */
  readonly table: PageTable | null;
  readonly attachments: UnitAttachment[] = [];

  constructor(type: DomainType, ops: IommuOps, pgsizeBitmap: number, apertureLast: number, table: PageTable | null) {
    this.type = type;
    this.ops = ops;
    this.pgsizeBitmap = pgsizeBitmap;
    this.apertureLast = apertureLast;
    this.table = table;
  }

  attachmentOn(unit: VtdUnitDriver): UnitAttachment | undefined {
    return this.attachments.find((attachment) => attachment.unit === unit);
  }
}
