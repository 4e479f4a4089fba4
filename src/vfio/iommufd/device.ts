/**
 * Devices bound to an iommufd, and how they get a hardware page table: Linux 6.12 drivers/iommu/iommufd/device.c.
 *
 * A group has one page table at a time; its first device attaches it, the others join. Each device reserves the IOVAs that it
 * cannot have translated, in the IOAS, before it is attached.
 */
import { EINVAL, ENOENT, ENOMEM } from '../../base/index.ts';
import type { Device, IommuGroup } from '../../iommu/index.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import type { FdObject, ObjectTable } from './objects.ts';

/** A group within one iommufd (struct iommufd_group). */
export interface BoundGroup {
  readonly group: IommuGroup;
  hwpt: Hwpt | null;
  /** Those of its devices that are attached. */
  readonly attached: IommufdDevice[];
  nrBound: number;
}

/** Attaches to (or moves to) a page table. @returns a page table that lost a user, null, or a negative errno */
type Attach = (hwpt: Hwpt) => Hwpt | null | number;

export class IommufdDevice implements FdObject {
  readonly type = 'device';
  id = 0;
  /** The driver that bound it, until `unbind`, and an attachment. */
  nrUsers = 1;
  readonly device: Device;
  readonly bound: BoundGroup;
  readonly #objects: ObjectTable;
  readonly #release: () => void;

  /** Called by `Iommufd.bind`, which owns the group's DMA by then. */
  constructor(device: Device, bound: BoundGroup, objects: ObjectTable, release: () => void) {
    this.device = device;
    this.bound = bound;
    this.#objects = objects;
    this.#release = release;
  }

  get isAttached(): boolean {
    return this.bound.attached.includes(this);
  }

  /**
   * Connects the device to a page table or, by way of one that is found or made, to an IOAS. It may do DMA then.
   * @returns the page table's id; EINVAL when it is attached already, its group has another one, or the id is of neither kind;
   * EADDRINUSE when areas are in its reserved ranges; errnos of the driver and of filling
   */
  attach(id: number): number {
    if (this.isAttached) return EINVAL;
    const result = this.#change(id, (hwpt) => this.#join(hwpt), true);
    if (result >= 0) this.nrUsers += 1;
    return result;
  }

  /** Moves the device's whole group to another page table or IOAS; on failure nothing moved. @returns as `attach`, EINVAL when not attached */
  replace(id: number): number {
    return this.#change(id, (hwpt) => this.#move(hwpt), false);
  }

  /** Ends `attach`: its DMA is blocked with the last device of its group. */
  detach(): void {
    const { bound } = this;
    const { hwpt } = bound;
    if (hwpt === null || !this.isAttached) throw new RangeError('detach: the device is not attached');
    this.#leave(hwpt);
    this.#put(hwpt);
    this.nrUsers -= 1;
  }

  /** Gives the device back; it must be detached. */
  unbind(): void {
    if (this.isAttached) throw new RangeError('unbind: the device is attached');
    this.nrUsers = 0;
    this.#objects.remove(this.id);
  }

  destroy(): void {
    this.#release();
  }

  #put(hwpt: Hwpt): void {
    hwpt.nrUsers -= 1;
    if (hwpt.auto && hwpt.nrUsers === 0) this.#objects.remove(hwpt.id);
  }

  #change(id: number, attach: Attach, immediate: boolean): number {
    const object = this.#objects.get(id);
    if (object === undefined) return ENOENT;
    if (object instanceof Hwpt) {
      const lost = attach(object);
      if (typeof lost === 'number') return lost;
      if (lost !== null) this.#put(lost);
      return id;
    }
    return object instanceof Ioas ? this.#autoDomain(object, attach, immediate) : EINVAL;
  }

  /** A page table of the IOAS that takes the device, or a new one (iommufd_device_auto_get_domain). */
  #autoDomain(ioas: Ioas, attach: Attach, immediate: boolean): number {
    for (const hwpt of ioas.hwpts) {
      if (!hwpt.auto) continue;
      const lost = attach(hwpt);
      // EINVAL: the domain is not for this device, another one may be.
      if (lost === EINVAL) continue;
      if (typeof lost === 'number') return lost;
      if (lost !== null) this.#put(lost);
      return hwpt.id;
    }
    const domain = this.bound.group.ops.domainAlloc('paging');
    if (domain === null) return ENOMEM;
    const hwpt = this.#objects.add(new Hwpt(ioas, domain, true));
    // Attached before it is filled, as for drivers that cannot build a domain without a device: what the device looks up
    // meanwhile may be cached as not present, and each map has to repair that.
    let lost = immediate ? attach(hwpt) : null;
    if (typeof lost !== 'number') {
      const errno = hwpt.fill();
      if (errno !== 0) {
        if (immediate) {
          this.#leave(hwpt);
          hwpt.nrUsers -= 1;
        }
        lost = errno;
      } else if (!immediate) {
        lost = attach(hwpt);
      }
    }
    if (typeof lost === 'number') {
      this.#objects.remove(hwpt.id);
      return lost;
    }
    if (lost !== null) this.#put(lost);
    return hwpt.id;
  }

  /** Undoes `#join`, but for the use of the page table. */
  #leave(hwpt: Hwpt): void {
    const { bound } = this;
    bound.attached.splice(bound.attached.indexOf(this), 1);
    if (bound.attached.length === 0) {
      bound.group.detach(hwpt.domain);
      bound.hwpt = null;
    }
    hwpt.ioas.table.unreserve(this);
  }

  /** iommufd_hw_pagetable_attach. */
  #join(hwpt: Hwpt): null | number {
    const { bound } = this;
    if (bound.hwpt !== null && bound.hwpt !== hwpt) return EINVAL;
    const { table } = hwpt.ioas;
    let errno = table.reserveRegions(bound.group.ops.getResvRegions(this.device), this);
    if (errno !== 0) return errno;
    if (bound.attached.length === 0) {
      errno = bound.group.attach(hwpt.domain);
      if (errno !== 0) {
        table.unreserve(this);
        return errno;
      }
      bound.hwpt = hwpt;
    }
    hwpt.nrUsers += 1;
    bound.attached.push(this);
    return null;
  }

  /** iommufd_device_do_replace. @returns the old page table, whose last use the caller puts; null when it is the same one */
  #move(hwpt: Hwpt): Hwpt | null | number {
    const { bound } = this;
    const before = bound.hwpt;
    if (before === null || !this.isAttached) return EINVAL;
    if (before === hwpt) return null;
    const sameIoas = before.ioas === hwpt.ioas;
    const { table } = hwpt.ioas;
    let errno = 0;
    if (!sameIoas) {
      for (const one of bound.attached) {
        errno = table.reserveRegions(bound.group.ops.getResvRegions(one.device), one);
        if (errno !== 0) break;
      }
    }
    if (errno === 0) errno = bound.group.replace(hwpt.domain);
    if (errno !== 0) {
      // Those of the old IOAS stay: a range belongs to a table and an owner.
      if (!sameIoas) for (const one of bound.attached) table.unreserve(one);
      return errno;
    }
    if (!sameIoas) for (const one of bound.attached) before.ioas.table.unreserve(one);
    bound.hwpt = hwpt;
    hwpt.nrUsers += bound.attached.length;
    before.nrUsers -= bound.attached.length - 1;
    return before;
  }
}
