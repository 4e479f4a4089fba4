/**
 * The DMA API checker's side of IOVAs first, pages later (`DmaIovaState`): who linked what, and whether a sync came before the
 * device. Beyond Linux, whose checker does not know these calls.
 */
import { DmaDebugEntry } from './debug-entry.ts';
import type { DmaDebugKind } from './debug-record.ts';
import type { DmaDebug } from './debug.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaIovaState } from './iova-state.ts';

/** `DmaIovaState` with a call site behind each call. Having one means that its range was taken at `takenAt`. */
export class CheckedIovaState {
  readonly state: DmaIovaState;
  readonly takenAt: string;
  readonly #debug: DmaDebug;
  readonly #device: string;
  readonly #ended: (range: CheckedIovaState) => void;
  /** Links in the order in which they were made. */
  readonly #links: DmaDebugEntry[] = [];
  #endedAt: string | null = null;

  /** Made by `CheckedDmaDevice.iovaTryAlloc`. @param ended called once, when the range goes back */
  constructor(
    debug: DmaDebug,
    device: string,
    state: DmaIovaState,
    takenAt: string,
    ended: (range: CheckedIovaState) => void,
  ) {
    this.#debug = debug;
    this.#device = device;
    this.state = state;
    this.takenAt = takenAt;
    this.#ended = ended;
  }

  link(
    paddr: number,
    offset: number,
    nrBytes: number,
    direction: DmaDirection,
    site: string,
    attrs: number = 0,
  ): number {
    if (this.#isGone(site, `links ${nrBytes} bytes`)) return this.state.link(paddr, offset, nrBytes, direction, attrs);
    const errno = this.state.link(paddr, offset, nrBytes, direction, attrs);
    if (errno !== 0) return errno;
    const entry = new DmaDebugEntry({
      device: this.#device,
      type: 'link',
      address: this.state.dmaAddress + offset,
      nrBytes,
      direction,
      mappedAt: site,
      pieces: [[paddr, nrBytes]],
    });
    entry.isVisible = false;
    this.#links.push(entry);
    this.#debug.enter(entry, attrs);
    return 0;
  }

  sync(offset: number, nrBytes: number, site: string): number {
    if (!this.#isGone(site, `syncs ${nrBytes} bytes`)) {
      const met = this.#linksIn(offset, nrBytes);
      if (met.length === 0) this.#notLinked(offset, site, `syncs ${nrBytes} bytes`);
      for (const link of met) if (this.#isInside(link, offset, nrBytes)) link.isVisible = true;
    }
    return this.state.sync(offset, nrBytes);
  }

  unlink(offset: number, nrBytes: number, direction: DmaDirection, site: string, attrs: number = 0): number {
    if (!this.#isGone(site, `unlinks ${nrBytes} bytes`)) this.#leave(offset, nrBytes, direction, site);
    return this.state.unlink(offset, nrBytes, direction, attrs);
  }

  free(site: string): number {
    if (!this.#isGone(site, 'frees a range')) this.#end(site, 'frees a range with a link in it');
    return this.state.free();
  }

  destroy(linkedBytes: number, direction: DmaDirection, site: string, attrs: number = 0): number {
    if (!this.#isGone(site, 'destroys a range')) {
      if (linkedBytes > 0) this.#leave(0, linkedBytes, direction, site);
      this.#end(site, `destroys a range as if ${linkedBytes} bytes were linked`);
    }
    return this.state.destroy(linkedBytes, direction, attrs);
  }

  /** The device goes while the range is taken. */
  leak(site: string): void {
    const { dmaAddress: address, nrBytes } = this.state;
    const mappedAs = `range, ${nrBytes} bytes`;
    const finding = { kind: 'leak', device: this.#device, address, at: site, did: 'removes the device' } as const;
    this.#debug.report({ ...finding, mappedAt: this.takenAt, mappedAs });
  }

  #linksIn(offset: number, nrBytes: number): DmaDebugEntry[] {
    const start = this.state.dmaAddress + offset;
    return this.#links.filter((link) => link.address < start + nrBytes && start < link.address + link.nrBytes);
  }

  #isInside(link: DmaDebugEntry, offset: number, nrBytes: number): boolean {
    const start = this.state.dmaAddress + offset;
    return link.address >= start && link.address + link.nrBytes <= start + nrBytes;
  }

  /** Links of a part go; one that is cut counts as gone, since a leaf may have gone as a whole. */
  #leave(offset: number, nrBytes: number, direction: DmaDirection, site: string): void {
    const met = this.#linksIn(offset, nrBytes);
    if (met.length === 0) this.#notLinked(offset, site, `unlinks ${nrBytes} bytes`);
    for (const link of met) {
      if (!this.#isInside(link, offset, nrBytes)) this.#found(link, 'wrong-size', site, 'unlinks a part of it');
      if (link.direction !== direction) this.#found(link, 'wrong-direction', site, `unlinks ${direction}`);
      this.#forget(link, site);
    }
  }

  #forget(link: DmaDebugEntry, site: string): void {
    this.#links.splice(this.#links.indexOf(link), 1);
    this.#debug.leave(link, site);
  }

  #end(site: string, did: string): void {
    for (const link of this.#links.slice()) {
      this.#found(link, 'leak', site, did);
      this.#forget(link, site);
    }
    this.#endedAt = site;
    this.#ended(this);
  }

  #found(link: DmaDebugEntry, kind: DmaDebugKind, at: string, did: string): void {
    const { address, mappedAt, as: mappedAs } = link;
    this.#debug.report({ kind, device: this.#device, address, at, did, mappedAt, mappedAs });
  }

  #notLinked(offset: number, at: string, did: string): void {
    const address = this.state.dmaAddress + offset;
    const gone = this.#debug.lastAt(this.#device, address);
    this.#debug.report({
      kind: 'not-mapped',
      device: this.#device,
      address,
      at,
      did: `${did}, where nothing is linked`,
      mappedAt: gone?.mappedAt ?? null,
      mappedAs: gone?.as ?? '',
      unmappedAt: gone?.unmappedAt ?? null,
    });
  }

  /** True, and reported, when the range went back before. */
  #isGone(at: string, did: string): boolean {
    if (this.#endedAt === null) return false;
    const { dmaAddress: address, nrBytes } = this.state;
    const finding = {
      kind: 'not-mapped',
      device: this.#device,
      address,
      at,
      did: `${did}, whose range is gone`,
    } as const;
    const mappedAs = `range, ${nrBytes} bytes`;
    this.#debug.report({ ...finding, mappedAt: this.takenAt, mappedAs, unmappedAt: this.#endedAt });
    return true;
  }
}
