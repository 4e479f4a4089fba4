/** A group as VFIO hands it to user space (/dev/vfio/N): Linux 6.12 drivers/vfio/group.c. */
import { EBUSY, EINVAL } from '../base/index.ts';
import type { IommuGroup } from '../iommu/index.ts';
import type { VfioContainer } from './container.ts';

export class VfioGroup {
  readonly iommuGroup: IommuGroup;
  /** `emulated`: its devices have no IOMMU of their own (mdev) and only pin. */
  readonly kind: 'iommu' | 'emulated';
  #container: VfioContainer | null = null;
  #nrOpenDevices = 0;

  constructor(iommuGroup: IommuGroup, kind: 'iommu' | 'emulated' = 'iommu') {
    this.iommuGroup = iommuGroup;
    this.kind = kind;
  }

  get container(): VfioContainer | null {
    return this.#container;
  }

  /** Puts the group into a container, with the container's mappings if it has any. @returns 0, EINVAL when it is in one, errnos of `addGroup` */
  setContainer(container: VfioContainer): number {
    if (this.#container !== null) return EINVAL;
    const errno = container.addGroup(this);
    if (errno === 0) this.#container = container;
    return errno;
  }

  /** Takes it out. @returns 0, EINVAL when it is in none, EBUSY while a device is open */
  unsetContainer(): number {
    if (this.#container === null) return EINVAL;
    if (this.#nrOpenDevices > 0) return EBUSY;
    this.#container.removeGroup(this);
    this.#container = null;
    return 0;
  }

  /** A device of the group is opened: only where an IOMMU stands before it. @returns 0 or EINVAL */
  openDevice(): number {
    if (this.#container === null || this.#container.iommu === null) return EINVAL;
    this.#nrOpenDevices += 1;
    return 0;
  }

  closeDevice(): void {
    if (this.#nrOpenDevices === 0) throw new RangeError('closeDevice: none is open');
    this.#nrOpenDevices -= 1;
  }
}
