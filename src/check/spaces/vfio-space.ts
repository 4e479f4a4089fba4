/** VFIO type1, version 2: a container of its own. Its domain comes with the first device and goes with the last. */
import { hexRange } from '../../base/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import { IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE } from '../../iommu/index.ts';
import { Type1Iommu, VFIO_DMA_MAP_READ, VFIO_DMA_MAP_WRITE } from '../../vfio/index.ts';
import type { Chunks, Space } from '../space.ts';
import { READ_WRITE, chunkBytes } from '../space.ts';
import type { SpaceHost } from '../space-host.ts';
import { ChosenProcess } from './process-memory.ts';

export class VfioSpace implements Space {
  readonly caller = 'vfio';
  readonly name: string;
  readonly #host: SpaceHost;
  readonly #type1: Type1Iommu;
  readonly #process = new ChosenProcess();

  constructor(host: SpaceHost, name: string) {
    this.#host = host;
    this.name = name;
    this.#type1 = new Type1Iommu(host.machine.core, { pages: host.machine.pages });
  }

  get domain(): IommuDomain | null {
    return this.#type1.domains[0]?.domain ?? null;
  }

  attach(device: Device): number {
    const group = this.#host.group(device);
    return this.#host.call(`vfio attach ${device.name}`, () => {
      const errno = this.#type1.attachGroup(group);
      if (errno === 0) this.#host.attached(this, device);
      return errno;
    });
  }

  /** With the last device the mappings go. */
  detach(device: Device): void {
    const group = this.#host.group(device);
    this.#host.call(`vfio detach ${device.name}`, () => {
      this.#type1.detachGroup(group);
      this.#host.attached(null, device);
      if (!this.#type1.hasDomains) this.#host.promises.cleared(this);
    });
  }

  map(iova: number, chunks: Chunks, prot: number = READ_WRITE): number {
    const size = chunkBytes(chunks);
    const { memory } = this.#process;
    const vaddr = memory.place(iova, chunks);
    const flags =
      ((prot & IOMMU_READ) === 0 ? 0 : VFIO_DMA_MAP_READ) | ((prot & IOMMU_WRITE) === 0 ? 0 : VFIO_DMA_MAP_WRITE);
    return this.#host.call(`VFIO_IOMMU_MAP_DMA ${hexRange(iova, size)}`, () => {
      const errno = this.#type1.mapDma({ iova, vaddr, size, flags }, this.#process);
      if (errno === 0) this.#host.mapped(this, iova, chunks, prot | IOMMU_CACHE);
      else memory.restore(vaddr);
      return errno;
    });
  }

  unmap(iova: number, nrBytes: number): number {
    return this.#host.call(`VFIO_IOMMU_UNMAP_DMA ${hexRange(iova, nrBytes)}`, () => {
      const result = this.#type1.unmapDma({ iova, size: nrBytes });
      if (result < 0) return result;
      this.#host.unmapped(this, iova, nrBytes);
      return 0;
    });
  }

  tick(): void {}
}
