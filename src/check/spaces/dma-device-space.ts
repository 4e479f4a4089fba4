/** The DMA API as drivers of devices call it: it chooses the addresses, maps buffers of any alignment, allocates memory. */
import { EINVAL, PAGE_SIZE, hexRange } from '../../base/index.ts';
import type { DmaBuffer, DmaDirection } from '../../dma/index.ts';
import { BuddyPages, DmaDevice, DmaSpace, Scatterlist, protOf } from '../../dma/index.ts';
import type { Device, IommuDomain } from '../../iommu/index.ts';
import type { Chunks, Space } from '../space.ts';
import { chunkBytes } from '../space.ts';
import type { SpaceHost } from '../space-host.ts';
import { allocDomain } from '../space-host.ts';

/** Where `alloc` takes pages from: 16 MiB at 8 GiB. */
const PAGES_PFN = 0x20_0000;
const NR_PAGES = 4096;

export class DmaDeviceSpace implements Space {
  readonly caller = 'dma-iommu';
  readonly name: string;
  readonly domain: IommuDomain;
  readonly dma: DmaDevice;
  readonly #host: SpaceHost;
  readonly #lists = new Map<number, Scatterlist>();

  constructor(host: SpaceHost, name: string) {
    this.#host = host;
    this.name = name;
    const { core, clock, mem, pages } = host.machine;
    this.domain = allocDomain(host);
    const space = new DmaSpace(core, this.domain, clock, {
      flushAfterMap: host.flushAfterMap,
      freeTables: (tables) => tables.forEach((pfn) => pages.free(pfn)),
    });
    // As CookieSpace.
    if (host.setup.unmapFlush === 'lazy') space.cookie.startQueue();
    this.dma = new DmaDevice(space, { pages: new BuddyPages(mem, PAGES_PFN, NR_PAGES) });
  }

  attach(device: Device): number {
    const { domain } = this;
    this.dma.space.reserveFor(device);
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

  /** dma_map_page. @returns the DMA address or an errno */
  mapPage(paddr: number, nrBytes: number, direction: DmaDirection = 'bidirectional'): number {
    return this.#call('dma_map_page', paddr, nrBytes, () => {
      const address = this.dma.mapPage(paddr, nrBytes, direction);
      const offset = paddr % PAGE_SIZE;
      if (address >= 0) this.#mapped(address - offset, [[paddr - offset, whole(offset + nrBytes)]], direction);
      return address;
    });
  }

  unmapPage(address: number, nrBytes: number, direction: DmaDirection = 'bidirectional'): number {
    const offset = address % PAGE_SIZE;
    return this.#end('dma_unmap_page', address - offset, whole(offset + nrBytes), () =>
      this.dma.unmapPage(address, nrBytes, direction),
    );
  }

  /** dma_map_sg of whole pages. @returns the DMA address of the first segment or an errno */
  mapSg(chunks: Chunks, direction: DmaDirection = 'bidirectional'): number {
    const list = Scatterlist.of(chunks);
    return this.#call('dma_map_sg', chunks[0][0], chunkBytes(chunks), () => {
      const result = this.dma.mapSg(list, direction);
      if (result < 0) return result;
      const [address] = list.dmaAddress;
      this.#lists.set(address, list);
      this.#mapped(address, chunks, direction);
      return address;
    });
  }

  unmapSg(address: number, direction: DmaDirection = 'bidirectional'): number {
    const list = this.#lists.get(address);
    if (list === undefined) return EINVAL;
    this.#lists.delete(address);
    const nrBytes = list.nrBytes.reduce((sum, bytes) => sum + bytes, 0);
    return this.#end('dma_unmap_sg', address, nrBytes, () => this.dma.unmapSg(list, list.nents, direction));
  }

  /** dma_alloc_coherent. @returns null when pages or addresses are out */
  alloc(nrBytes: number): DmaBuffer | null {
    return this.#call('dma_alloc', 0, nrBytes, () => {
      const buffer = this.dma.alloc(nrBytes);
      if (buffer === null) return null;
      const chunks = buffer.pfns.map((pfn): [number, number] => [pfn * PAGE_SIZE, PAGE_SIZE]);
      this.#mapped(buffer.dmaAddress, chunks, 'bidirectional');
      return buffer;
    });
  }

  free(buffer: DmaBuffer): number {
    return this.#end('dma_free', buffer.dmaAddress, whole(buffer.nrBytes), () => this.dma.free(buffer));
  }

  /** Never: addresses are the API's. */
  map(): number {
    return EINVAL;
  }

  unmap(): number {
    return EINVAL;
  }

  tick(): void {
    const { cookie } = this.dma.space;
    if (cookie.deadlineNs > this.#host.machine.clock.nowNs()) return;
    this.#host.call('flush queue timer', () => {
      cookie.timeout();
      this.#settled();
    });
  }

  #call<T>(what: string, start: number, nrBytes: number, body: () => T): T {
    return this.#host.call(`${what} ${hexRange(start, nrBytes)}`, body);
  }

  #mapped(iova: number, chunks: Chunks, direction: DmaDirection): void {
    this.#host.mapped(this, iova, chunks, protOf(direction, true));
  }

  #end(what: string, iova: number, nrBytes: number, body: () => number): number {
    return this.#call(what, iova, nrBytes, () => {
      this.#host.unmapped(this, iova, nrBytes, true);
      const errno = body();
      this.#settled();
      return errno;
    });
  }

  /** A strict API holds no range, and a queue says nothing of single ones: when it holds none, all are flushed. */
  #settled(): void {
    if (this.dma.cookie.nrOpenWindows === 0) this.#host.promises.allFlushed(this);
  }
}

/** Bytes of the pages that a buffer at the start of one touches. */
function whole(nrBytes: number): number {
  return Math.ceil(nrBytes / PAGE_SIZE) * PAGE_SIZE;
}
