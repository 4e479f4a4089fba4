/**
 * A scatterlist: physical buffers in, DMA segments out (struct scatterlist). Arrays instead of objects: a list is mapped
 * and unmapped as often as pages are.
 */
export class Scatterlist {
  /** Number of elements in use. */
  nents: number = 0;
  /** Physical byte address of each element; need not be page aligned. */
  readonly paddr: Float64Array;
  /** Bytes of each element, > 0. */
  readonly nrBytes: Float64Array;
  /** After mapping: DMA address and bytes of the first `mapSg()` segments, which may be fewer than `nents`. */
  readonly dmaAddress: Float64Array;
  readonly dmaBytes: Float64Array;

  constructor(capacity: number) {
    this.paddr = new Float64Array(capacity);
    this.nrBytes = new Float64Array(capacity);
    this.dmaAddress = new Float64Array(capacity);
    this.dmaBytes = new Float64Array(capacity);
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
    this.nents += 1;
  }
}
