/**
 * The DMA API's way of mapping and unmapping, at addresses that the scenario chooses: strict or through the flush queue, with
 * or without the flush of April 2019 behind a map. DmaDeviceSpace is the API as drivers of devices use it.
 */
import { hexRange } from '../../base/index.ts';
import { DmaCookie } from '../../dma/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import type { Chunks, Space } from '../space.ts';
import { READ_WRITE, chunkBytes, chunkPairs } from '../space.ts';
import type { SpaceHost } from '../space-host.ts';
import { allocDomain } from '../space-host.ts';

export class CookieSpace implements Space {
  readonly caller = 'dma-iommu';
  readonly name: string;
  readonly domain: IommuDomain;
  readonly cookie: DmaCookie;
  readonly #host: SpaceHost;

  constructor(host: SpaceHost, name: string) {
    this.#host = host;
    this.name = name;
    const { core, clock, pages } = host.machine;
    this.domain = allocDomain(host);
    this.cookie = new DmaCookie(core, this.domain, clock, {
      flushAfterMap: host.flushAfterMap,
      freeTables: (tables) => tables.forEach((pfn) => pages.free(pfn)),
      released: (iova, nrBytes) => host.flushed(this, iova, nrBytes),
    });
    // Also on hardware that forces strict: a lazy scenario is about lazy unmapping.
    if (host.setup.unmapFlush === 'lazy') this.cookie.startQueue();
  }

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
    const nrBytes = chunkBytes(chunks);
    this.#host.mustBeFree(this, iova, nrBytes);
    return this.#host.call(`dma_map_sg ${hexRange(iova, nrBytes)}`, () => {
      const errno = this.cookie.mapAt(iova, chunkPairs(chunks), chunks.length, prot);
      if (errno === 0) this.#host.mapped(this, iova, chunks, prot);
      return errno;
    });
  }

  unmap(iova: number, nrBytes: number): number {
    this.#host.call(`dma_unmap_sg ${hexRange(iova, nrBytes)}`, () => {
      // First: the queue may flush while it takes the range in.
      this.#host.unmapped(this, iova, nrBytes, true);
      if (this.cookie.unmapAt(iova, nrBytes, 0)) this.#host.flushed(this, iova, nrBytes);
    });
    return 0;
  }

  tick(): void {
    if (this.cookie.deadlineNs <= this.#host.machine.clock.nowNs()) {
      this.#host.call('flush queue timer', () => this.cookie.timeout());
    }
  }
}
