/**
 * A VFIO container: groups that share one set of mappings. Linux 6.12 drivers/vfio/container.c.
 *
 * Only a group gives its owner the right to an IOMMU: without one a container can do nothing, and it is back to that when its
 * last group leaves.
 */
import { EINVAL, ENODEV } from '../base/index.ts';
import type { Iommu } from '../iommu/index.ts';
import type { VfioGroup } from './group.ts';
import type { Type1Options } from './type1.ts';
import { Type1Iommu } from './type1.ts';

/** Arguments of VFIO_SET_IOMMU (include/uapi/linux/vfio.h). */
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_TYPE1V2_IOMMU = 3;

export class VfioContainer {
  readonly #core: Iommu;
  readonly #options: Omit<Type1Options, 'v2'>;
  /** The newest first. */
  readonly #groups: VfioGroup[] = [];
  #iommu: Type1Iommu | null = null;

  constructor(core: Iommu, options: Omit<Type1Options, 'v2'> = {}) {
    this.#core = core;
    this.#options = options;
  }

  /** Null before `setIommu` and after the last group left. */
  get iommu(): Type1Iommu | null {
    return this.#iommu;
  }

  /**
   * Chooses the IOMMU interface, once, and attaches all groups.
   * @returns 0; EINVAL without groups or for the second time; ENODEV for a type that nobody offers; errnos of an attach
   */
  setIommu(type: number): number {
    if (this.#groups.length === 0 || this.#iommu !== null) return EINVAL;
    if (type !== VFIO_TYPE1_IOMMU && type !== VFIO_TYPE1V2_IOMMU) return ENODEV;
    const iommu = new Type1Iommu(this.#core, { ...this.#options, v2: type === VFIO_TYPE1V2_IOMMU });
    for (let index = 0; index < this.#groups.length; index++) {
      const { iommuGroup, kind } = this.#groups[index];
      const errno = iommu.attachGroup(iommuGroup, kind);
      if (errno === 0) continue;
      for (let undo = index - 1; undo >= 0; undo--) iommu.detachGroup(this.#groups[undo].iommuGroup);
      iommu.release();
      return errno;
    }
    this.#iommu = iommu;
    return 0;
  }

  /** Called by `VfioGroup.setContainer`. Claims the group's DMA: the DMA API loses it. @returns 0, EBUSY or errnos of an attach */
  addGroup(group: VfioGroup): number {
    const { iommuGroup, kind } = group;
    if (kind === 'iommu') {
      const errno = iommuGroup.claimDma(group);
      if (errno !== 0) return errno;
    }
    const errno = this.#iommu?.attachGroup(iommuGroup, kind) ?? 0;
    if (errno !== 0) {
      if (kind === 'iommu') iommuGroup.releaseDma(group);
      return errno;
    }
    this.#groups.unshift(group);
    return 0;
  }

  /** Called by `VfioGroup.unsetContainer`. */
  removeGroup(group: VfioGroup): void {
    const index = this.#groups.indexOf(group);
    if (index < 0) return;
    this.#iommu?.detachGroup(group.iommuGroup);
    if (group.kind === 'iommu') group.iommuGroup.releaseDma(group);
    this.#groups.splice(index, 1);
    if (this.#groups.length === 0) {
      this.#iommu?.release();
      this.#iommu = null;
    }
  }
}
