/**
 * What a container knows of its mappings: struct vfio_dma and the tree of them (Linux 6.12 drivers/vfio/vfio_iommu_type1.c).
 * Not where they lead: that is read back from the page table when they end, or a second table of all frames would be needed.
 *
 * Differs from the kernel at the very top of the address space: there `start + size` is 0 in 64 bits and vfio_find_dma() finds
 * nothing; sums here are exact.
 */
import type { Process } from './process.ts';

/** A page that an emulated device (mdev) holds besides the mapping (struct vfio_pfn). */
export interface ExternalPin {
  readonly pfn: number;
  nrUsers: number;
}

export class VfioDma {
  readonly iova: number;
  readonly vaddr: number;
  /** IOMMU_READ, IOMMU_WRITE. */
  readonly prot: number;
  readonly process: Process;
  /** Bytes mapped so far: grows from 0 while the mapping is being made. */
  nrBytes = 0;
  /** Whether domains hold it, so that its pages are pinned for them. */
  iommuMapped = false;
  /** By IOVA of the page. */
  readonly externalPins: Map<number, ExternalPin> = new Map<number, ExternalPin>();
  /** Dirty pages while the container tracks them, else null. */
  bitmap: Uint8Array | null = null;

  constructor(iova: number, vaddr: number, prot: number, process: Process) {
    this.iova = iova;
    this.vaddr = vaddr;
    this.prot = prot;
    this.process = process;
  }

  get end(): number {
    return this.iova + this.nrBytes;
  }
}

/** The mappings of a container, by IOVA; they never overlap. */
export class DmaList {
  readonly #list: VfioDma[] = [];

  get length(): number {
    return this.#list.length;
  }

  [Symbol.iterator](): Iterator<VfioDma> {
    return this.#list[Symbol.iterator]();
  }

  /** The lowest one. */
  first(): VfioDma | undefined {
    return this.#list[0];
  }

  /** Index of the first mapping that ends after an address. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#list[middle].end <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** A mapping that [start, start + nrBytes) meets (vfio_find_dma). */
  find(start: number, nrBytes: number): VfioDma | null {
    const found = this.#list[this.#firstEndingAfter(start)];
    return found !== undefined && found.iova < start + nrBytes ? found : null;
  }

  /** Mappings that meet a range, in order, as they are now. */
  within(start: number, nrBytes: number): VfioDma[] {
    const first = this.#firstEndingAfter(start);
    let last = first;
    while (last < this.#list.length && this.#list[last].iova < start + nrBytes) last += 1;
    return this.#list.slice(first, last);
  }

  insert(dma: VfioDma): void {
    this.#list.splice(this.#firstEndingAfter(dma.iova), 0, dma);
  }

  remove(dma: VfioDma): void {
    // A mapping that never grew has no byte to be found by.
    const at = this.#firstEndingAfter(dma.iova);
    const index = this.#list[at] === dma ? at : this.#list.lastIndexOf(dma);
    if (index < 0) throw new RangeError('remove: the mapping is not in the list');
    this.#list.splice(index, 1);
  }
}
