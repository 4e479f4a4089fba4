/**
 * The mappings that the DMA API checker knows of (struct dma_debug_entry and its hash of kernel/dma/debug.c, Linux 6.12), by
 * the device's address and by the CPU's cache line.
 */
import { PAGE_SIZE } from '../base/index.ts';
import type { DmaDirection } from './direction.ts';

export const DEBUG_LINE_BYTES = 64;

/** By which call a mapping came to be. */
export type DmaDebugType = 'page' | 'list' | 'buffer' | 'resource' | 'link';

/** One DMA segment, or one page mapping. Having one means that nobody has unmapped it yet. */
export class DmaDebugEntry {
  readonly device: string;
  readonly type: DmaDebugType;
  readonly address: number;
  readonly nrBytes: number;
  readonly direction: DmaDirection;
  readonly mappedAt: string;
  /** Elements the list was mapped with; 0 for what is no list. */
  readonly nents: number;
  /** Memory behind it, as pairs (paddr, bytes) in the order of DMA addresses. */
  readonly pieces: readonly (readonly [paddr: number, nrBytes: number])[];
  /** The memory is shared all the time (alloc), or no memory at all (resource): nobody owns it. */
  readonly shared: boolean;
  /** Cache lines that the CPU has taken back by a sync. */
  readonly cpuLines: Set<number> = new Set();
  unmappedAt: string | null = null;
  /** False for a link that no sync has made visible to the device. */
  isVisible: boolean = true;

  constructor(init: {
    readonly device: string;
    readonly type: DmaDebugType;
    readonly address: number;
    readonly nrBytes: number;
    readonly direction: DmaDirection;
    readonly mappedAt: string;
    readonly nents?: number;
    readonly pieces: readonly (readonly [paddr: number, nrBytes: number])[];
  }) {
    this.device = init.device;
    this.type = init.type;
    this.address = init.address;
    this.nrBytes = init.nrBytes;
    this.direction = init.direction;
    this.mappedAt = init.mappedAt;
    this.nents = init.nents ?? 0;
    this.pieces = init.pieces;
    this.shared = init.type === 'buffer' || init.type === 'resource';
  }

  /** How it was mapped, for a report. */
  get as(): string {
    return `${this.type}, ${this.nrBytes} bytes, ${this.direction}`;
  }

  /** Cache lines of a part, by number. */
  *lines(offset: number = 0, nrBytes: number = this.nrBytes): Generator<number> {
    let start = 0;
    for (const [paddr, bytes] of this.pieces) {
      const from = Math.max(offset, start);
      const end = Math.min(offset + nrBytes, start + bytes);
      if (from < end) {
        const last = Math.floor((paddr + end - start - 1) / DEBUG_LINE_BYTES);
        for (let line = Math.floor((paddr + from - start) / DEBUG_LINE_BYTES); line <= last; line++) yield line;
      }
      start += bytes;
    }
  }

  /** True when a byte of [paddr, paddr + nrBytes) is behind it. */
  overlaps(paddr: number, nrBytes: number): boolean {
    return this.pieces.some(([start, bytes]) => paddr < start + bytes && start < paddr + nrBytes);
  }
}

/** Entries by a number: page of the device's addresses, or cache line. */
class Index {
  readonly #entries = new Map<number, DmaDebugEntry[]>();

  add(key: number, entry: DmaDebugEntry): void {
    const there = this.#entries.get(key);
    if (there === undefined) this.#entries.set(key, [entry]);
    else there.push(entry);
  }

  remove(key: number, entry: DmaDebugEntry): void {
    const there = this.#entries.get(key);
    const at = there?.indexOf(entry) ?? -1;
    if (there === undefined || at < 0) return;
    there.splice(at, 1);
    if (there.length === 0) this.#entries.delete(key);
  }

  get(key: number): readonly DmaDebugEntry[] {
    return this.#entries.get(key) ?? NONE;
  }
}

const NONE: readonly DmaDebugEntry[] = [];

/** Every live mapping, of all devices: a cache line is shared between them. */
export class DmaDebugEntries {
  readonly #all = new Set<DmaDebugEntry>();
  readonly #byPage = new Index();
  readonly #byLine = new Index();

  get nr(): number {
    return this.#all.size;
  }

  add(entry: DmaDebugEntry): void {
    this.#all.add(entry);
    for (const page of pagesOf(entry)) this.#byPage.add(page, entry);
    if (!entry.shared) for (const line of entry.lines()) this.#byLine.add(line, entry);
  }

  remove(entry: DmaDebugEntry): void {
    this.#all.delete(entry);
    for (const page of pagesOf(entry)) this.#byPage.remove(page, entry);
    if (!entry.shared) for (const line of entry.lines()) this.#byLine.remove(line, entry);
  }

  /** The mapping that begins at an address; undefined when none does. */
  startingAt(device: string, address: number): DmaDebugEntry | undefined {
    const there = this.#byPage.get(Math.floor(address / PAGE_SIZE));
    return there.find((entry) => entry.device === device && entry.address === address);
  }

  /** The mapping that holds an address. */
  holding(device: string, address: number): DmaDebugEntry | undefined {
    const there = this.#byPage.get(Math.floor(address / PAGE_SIZE));
    return there.find(
      (entry) => entry.device === device && entry.address <= address && address < entry.address + entry.nrBytes,
    );
  }

  /** Mappings over a cache line. */
  onLine(line: number): readonly DmaDebugEntry[] {
    return this.#byLine.get(line);
  }

  of(device: string): DmaDebugEntry[] {
    return [...this.#all].filter((entry) => entry.device === device);
  }
}

function* pagesOf(entry: DmaDebugEntry): Generator<number> {
  const last = Math.floor((entry.address + entry.nrBytes - 1) / PAGE_SIZE);
  for (let page = Math.floor(entry.address / PAGE_SIZE); page <= last; page++) yield page;
}
