/** What the entry of a device must say after the device was attached or detached, whatever caches hold. */
import { hex } from '../base/index.ts';
import type { IommuDomain } from '../iommu/index.ts';
import { describeEntry } from './explain.ts';
import type { Finding } from './finding.ts';
import type { DeviceEntry, Unit } from './unit.ts';

/** Knows which domain a root table was seen to belong to, while the page is not freed. */
export class Attached {
  readonly #owners = new Map<number, IommuDomain>();

  freed(pfn: number): void {
    this.#owners.delete(pfn);
  }

  /** What is wrong with an entry, in words. @param domain null when the device was detached. @returns null when nothing is */
  wrong(domain: IommuDomain | null, current: DeviceEntry): string | null {
    const says = `the device's entry says ${describeEntry(current)}`;
    if (domain === null || domain.type === 'blocked') return current.kind === 'blocked' ? null : says;
    // A unit that cannot pass through serves such a domain by tables that lead everywhere.
    if (domain.type === 'identity') return current.kind === 'blocked' ? says : null;
    if (current.kind !== 'table') return says;
    const owner = this.#owners.get(current.rootPfn);
    if (owner !== undefined && owner !== domain) return `${says}, which are those of another domain`;
    this.#owners.set(current.rootPfn, domain);
    return null;
  }
}

/** @param unit null when no unit that is on knows the device */
export function attachFinding(call: string, unit: Unit | null, sid: number, domainId: number, stale: string): Finding {
  return {
    contract: 'C-ATTACH',
    call,
    unit: unit?.index ?? 0,
    sid,
    domainId,
    iova: 0,
    nrBytes: 0,
    level: 0,
    kind: 'wrong-entry',
    stale,
    store: null,
    missing: `no invalidation helps: the entry of device ${hex(sid)} itself is wrong`,
    nearest: [],
  };
}
