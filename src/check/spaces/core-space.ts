/** A domain of a kernel driver's own: iommu_domain_alloc(), iommu_map(), iommu_unmap(). */
import { EINVAL, hexRange } from '../../base/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import { IotlbGather } from '../../iommu/index.ts';
import type { Chunks, Space } from '../space.ts';
import { READ_WRITE, chunkBytes, chunkPairs } from '../space.ts';
import type { SpaceHost } from '../space-host.ts';
import { allocDomain } from '../space-host.ts';

export class CoreSpace implements Space {
  readonly caller = 'core';
  readonly name: string;
  readonly domain: IommuDomain;
  readonly #host: SpaceHost;
  /** Of `unmapFast`, until `sync`. */
  readonly #gather: IotlbGather = new IotlbGather();
  readonly #gathered: [iova: number, nrBytes: number][] = [];

  constructor(host: SpaceHost, name: string) {
    this.#host = host;
    this.name = name;
    this.domain = allocDomain(host);
  }

  /** Attaches a device, replacing the domain it was on. */
  attach(device: Device): number {
    const { domain } = this;
    return this.#host.call(`attach ${device.name} to ${this.name}`, () => {
      const errno = domain.ops.attachDev(domain, device);
      if (errno === 0) this.#host.attached(this, device);
      return errno;
    });
  }

  detach(device: Device): void {
    const { domain } = this;
    this.#host.call(`detach ${device.name}`, () => {
      domain.ops.detachDev(domain, device);
      this.#host.attached(null, device);
    });
  }

  map(iova: number, chunks: Chunks, prot: number = READ_WRITE): number {
    const { core } = this.#host.machine;
    const { domain } = this;
    return this.#host.call(`iommu_map ${hexRange(iova, chunkBytes(chunks))}`, () => {
      const result =
        chunks.length === 1
          ? core.map(domain, iova, chunks[0][0], chunks[0][1], prot)
          : core.mapSg(domain, iova, chunkPairs(chunks), chunks.length, prot);
      if (result < 0) return result;
      this.#host.mapped(this, iova, chunks, prot);
      return 0;
    });
  }

  unmap(iova: number, nrBytes: number): number {
    return this.unmapBytes(iova, nrBytes) === 0 ? EINVAL : 0;
  }

  /** `unmap` of what may be part of a larger leaf. @returns bytes that went, from `iova` on */
  unmapBytes(iova: number, nrBytes: number): number {
    return this.#host.call(`iommu_unmap ${hexRange(iova, nrBytes)}`, () => {
      const unmapped = this.#host.machine.core.unmap(this.domain, iova, nrBytes);
      this.#host.unmapped(this, iova, unmapped);
      return unmapped;
    });
  }

  /** iommu_unmap_fast: pages may be reached until `sync`. @returns bytes unmapped */
  unmapFast(iova: number, nrBytes: number): number {
    return this.#host.call(`iommu_unmap_fast ${hexRange(iova, nrBytes)}`, () => {
      const unmapped = this.#host.machine.core.unmapFast(this.domain, iova, nrBytes, this.#gather);
      this.#host.unmapped(this, iova, unmapped, true);
      this.#gathered.push([iova, unmapped]);
      return unmapped;
    });
  }

  /** iommu_iotlb_sync of all that `unmapFast` gathered. */
  sync(): void {
    this.#host.call('iommu_iotlb_sync', () => {
      this.#host.machine.core.iotlbSync(this.domain, this.#gather);
      for (const [iova, nrBytes] of this.#gathered.splice(0)) this.#host.flushed(this, iova, nrBytes);
    });
  }

  /** Gives the domain back; no device may be in it. */
  free(): void {
    this.#host.call(`free ${this.name}`, () => {
      this.domain.ops.domainFree(this.domain);
      this.#host.promises.cleared(this);
    });
  }

  tick(): void {}
}
