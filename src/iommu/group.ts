/**
 * Groups: the devices that hardware cannot tell apart or that can reach each other behind the IOMMU's back. They share one
 * domain at any time. struct iommu_group of Linux 6.12 drivers/iommu/iommu.c, without sysfs, PASIDs and deferred attach.
 *
 * Who uses a group is either the DMA API, on the default domain, or one owner (VFIO) who claimed it and attaches what he
 * likes. `domain` is what the devices are attached to now; null means their DMA is blocked.
 */
import { EBUSY, EINVAL, ENOMEM } from '../base/index.ts';
import type { Iommu } from './iommu.ts';
import type { Device, DomainType, IommuDomain, IommuOps } from './ops.ts';
import { collectResvRegions, mapDirectRegions } from './resv.ts';

export class IommuGroup {
  readonly id: number;
  readonly ops: IommuOps;
  readonly #core: Iommu;
  readonly #devices: Device[] = [];
  #defaultDomain: IommuDomain | null = null;
  #domain: IommuDomain | null = null;
  #owner: object | null = null;
  #nrClaims = 0;

  /** @param id as the add_device_to_group event shows it */
  constructor(core: Iommu, ops: IommuOps, id: number) {
    this.#core = core;
    this.ops = ops;
    this.id = id;
  }

  get devices(): readonly Device[] {
    return this.#devices;
  }

  /** The domain of the DMA API; null before `setupDefaultDomain`. */
  get defaultDomain(): IommuDomain | null {
    return this.#defaultDomain;
  }

  get domain(): IommuDomain | null {
    return this.#domain;
  }

  /** Whether somebody claimed the group, so that the DMA API must keep off. */
  get isClaimed(): boolean {
    return this.#owner !== null;
  }

  /**
   * Puts a device under the driver's care and into this group; it joins the domain the others use.
   * @returns 0, EBUSY when it is in already, or the driver's errno, the device then being in no group
   */
  addDevice(device: Device): number {
    if (this.#devices.includes(device)) return EBUSY;
    let errno = this.ops.probeDevice(device);
    if (errno !== 0) return errno;
    if (this.#domain !== null) {
      // Its direct regions first: its firmware may be doing DMA now.
      errno = mapDirectRegions(this.#core, this.#domain, collectResvRegions(this.ops, [device]));
      if (errno === 0) errno = this.#attachOne(this.#domain, device);
      if (errno !== 0) {
        this.ops.releaseDevice(device);
        return errno;
      }
    }
    this.#devices.push(device);
    this.#core.tracer?.addDevice?.(this.id, device);
    return 0;
  }

  /** Takes a device out: off its domain, then out of the driver's care. @returns 0, or EINVAL when it is not in the group */
  removeDevice(device: Device): number {
    const index = this.#devices.indexOf(device);
    if (index < 0) return EINVAL;
    if (this.#domain !== null) this.#detachOne(this.#domain, device);
    this.#devices.splice(index, 1);
    this.ops.releaseDevice(device);
    this.#core.tracer?.removeDevice?.(this.id, device);
    return 0;
  }

  /**
   * Gives the group a default domain of a type, with the devices' direct regions mapped, and attaches everyone.
   * @returns 0; EBUSY when there is one already; ENOMEM when the driver has no domain; the errno of a map or attach
   */
  setupDefaultDomain(type: DomainType): number {
    if (this.#defaultDomain !== null || this.#owner !== null) return EBUSY;
    const domain = this.ops.domainAlloc(type);
    if (domain === null) return ENOMEM;
    let errno = mapDirectRegions(this.#core, domain, collectResvRegions(this.ops, this.#devices));
    if (errno === 0) errno = this.#switchTo(domain);
    if (errno !== 0) {
      this.ops.domainFree(domain);
      return errno;
    }
    this.#defaultDomain = domain;
    return 0;
  }

  /**
   * Attaches the whole group to a domain of its user's. C-ATTACH for every device at return. On failure all devices are where
   * they were. @returns 0; EINVAL for a domain of another driver; EBUSY when another domain than the default one is attached
   */
  attach(domain: IommuDomain): number {
    if (domain.ops !== this.ops) return EINVAL;
    if (this.#domain !== null && this.#domain !== this.#defaultDomain) return EBUSY;
    return this.#switchTo(domain);
  }

  /**
   * From one domain of its user's to another one without a gap (iommu_group_replace_domain): each device goes straight over, and
   * its DMA is in one of the two at any time, as far as the hardware allows. On failure all are where they were; a device that
   * cannot go back is blocked. @returns 0; EINVAL for a domain of another driver, or when no user's domain is attached; the
   * driver's errno
   */
  replace(domain: IommuDomain): number {
    if (domain.ops !== this.ops || this.#domain === null || this.#domain === this.#defaultDomain) return EINVAL;
    return this.#switchTo(domain);
  }

  /** Ends `attach`: back to the default domain, or to blocked DMA while somebody owns the group. @returns 0 or an errno */
  detach(domain: IommuDomain): number {
    if (this.#domain !== domain || domain === this.#defaultDomain) return EINVAL;
    return this.#switchTo(this.#owner === null ? this.#defaultDomain : null);
  }

  /**
   * Claims the group's DMA for a user. The DMA API loses it; until `attach` all DMA is blocked. One owner may claim many times.
   * @returns 0; EBUSY for another owner; EINVAL when a device has direct regions, which a user's domain would not map
   */
  claimDma(owner: object): number {
    if (this.#owner !== null && this.#owner !== owner) return EBUSY;
    if (this.#owner === null) {
      if (this.#domain !== null && this.#domain !== this.#defaultDomain) return EBUSY;
      const regions = collectResvRegions(this.ops, this.#devices);
      if (regions.some((region) => region.type === 'direct')) return EINVAL;
      const errno = this.#switchTo(null);
      if (errno !== 0) return errno;
      this.#owner = owner;
    }
    this.#nrClaims += 1;
    return 0;
  }

  /** Ends a claim; the last one gives the group back to the default domain. @throws Error when `owner` holds none */
  releaseDma(owner: object): number {
    if (this.#owner !== owner) throw new Error(`group ${this.id}: released by somebody who does not own it`);
    this.#nrClaims -= 1;
    if (this.#nrClaims > 0) return 0;
    this.#owner = null;
    return this.#switchTo(this.#defaultDomain);
  }

  /** Frees the default domain; all devices must be out. */
  destroy(): void {
    if (this.#devices.length > 0) throw new Error(`group ${this.id} still has ${this.#devices.length} devices`);
    if (this.#defaultDomain !== null) this.ops.domainFree(this.#defaultDomain);
    this.#defaultDomain = null;
    this.#domain = null;
  }

  /** All devices to `next`, or all stay: those that moved already go back, in reverse. */
  #switchTo(next: IommuDomain | null): number {
    const before = this.#domain;
    if (next === before) return 0;
    for (let index = 0; index < this.#devices.length; index++) {
      const device = this.#devices[index];
      if (device === undefined) continue;
      const errno = this.#move(before, next, device);
      if (errno === 0) continue;
      for (const moved of this.#devices.slice(0, index).reverse()) {
        // Going back can fail too. Then only blocking is safe: staying on `next` would give a domain away that the caller was refused.
        if (this.#move(next, before, moved) !== 0 && next !== null) this.#detachOne(next, moved);
      }
      return errno;
    }
    this.#domain = next;
    return 0;
  }

  #move(from: IommuDomain | null, to: IommuDomain | null, device: Device): number {
    if (to !== null) return this.#attachOne(to, device);
    if (from !== null) this.#detachOne(from, device);
    return 0;
  }

  #attachOne(domain: IommuDomain, device: Device): number {
    const errno = this.ops.attachDev(domain, device);
    if (errno === 0) this.#core.tracer?.attach(device, domain);
    return errno;
  }

  #detachOne(domain: IommuDomain, device: Device): void {
    this.ops.detachDev(domain, device);
    this.#core.tracer?.detach?.(device, domain);
  }
}
