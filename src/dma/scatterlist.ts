/**
 * A scatterlist: physical buffers in, DMA segments out (struct scatterlist). Arrays instead of objects: a list is mapped
 * and unmapped as often as pages are.
 */

/** Memory of another device of the bus, as it appears there (struct pci_p2pdma). */
export interface P2pProvider {
  readonly name: string;
  /** Bus address minus physical address. */
  readonly busOffset: number;
}

export class Scatterlist {
  /** Number of elements in use. */
  nents: number = 0;
  /** Physical byte address of each element; need not be page aligned. */
  readonly paddr: Float64Array;
  /** Bytes of each element, > 0. */
  readonly nrBytes: Float64Array;
  /** After mapping: DMA address and bytes of the first `mapSg()` segments, which may be fewer than `nents`; then zeroes. */
  readonly dmaAddress: Float64Array;
  readonly dmaBytes: Float64Array;
  /** Segments whose DMA address is a bus address, which no IOMMU translates (SG_DMA_BUS_ADDRESS). */
  readonly isBus: Uint8Array;
  /** Every element was mapped on its own, as devices that are bounced need it (SG_DMA_SWIOTLB). */
  isBounced: boolean = false;
  #providers: (P2pProvider | null)[] | null = null;

  constructor(capacity: number) {
    this.paddr = new Float64Array(capacity);
    this.nrBytes = new Float64Array(capacity);
    this.dmaAddress = new Float64Array(capacity);
    this.dmaBytes = new Float64Array(capacity);
    this.isBus = new Uint8Array(capacity);
  }

  /** A list of the given elements. */
  static of(elements: readonly (readonly [paddr: number, nrBytes: number])[]): Scatterlist {
    const list = new Scatterlist(elements.length);
    for (const [paddr, nrBytes] of elements) list.add(paddr, nrBytes);
    return list;
  }

  /** Appends an element. @throws RangeError when the list is full or the element empty */
  add(paddr: number, nrBytes: number): void {
    if (this.nents === this.paddr.length) throw new RangeError(`scatterlist is full (${this.nents} elements)`);
    if (!(nrBytes > 0)) throw new RangeError(`scatterlist element of ${nrBytes} bytes`);
    this.paddr[this.nents] = paddr;
    this.nrBytes[this.nents] = nrBytes;
    if (this.#providers !== null) this.#providers[this.nents] = null;
    this.nents += 1;
  }

  /** Appends an element in another device's memory. @throws as `add` */
  addP2p(paddr: number, nrBytes: number, provider: P2pProvider): void {
    this.add(paddr, nrBytes);
    this.#providers ??= Array.from({ length: this.nents }, () => null);
    this.#providers[this.nents - 1] = provider;
  }

  /** Whose memory an element lies in; null for system memory. */
  providerOf(index: number): P2pProvider | null {
    return this.#providers === null ? null : (this.#providers[index] ?? null);
  }

  /** Writes one DMA segment; zero bytes end the segments. */
  setSegment(index: number, dmaAddress: number, dmaBytes: number, isBus: boolean): void {
    this.dmaAddress[index] = dmaAddress;
    this.dmaBytes[index] = dmaBytes;
    this.isBus[index] = isBus ? 1 : 0;
  }

  /** Takes the segments away, as after a failed mapping (__invalidate_sg). */
  clearSegments(): void {
    this.dmaAddress.fill(0, 0, this.nents);
    this.dmaBytes.fill(0, 0, this.nents);
    this.isBus.fill(0, 0, this.nents);
    this.isBounced = false;
  }
}
