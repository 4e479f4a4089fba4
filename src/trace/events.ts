/**
 * The single event vocabulary: one typed record per tracepoint, named as the kernel names it (`iommu:map`, ...).
 * Readers decode straight into a reused `TraceEvent`; nobody keeps it across a callback.
 */

/** What an event is. Numbers, not strings: the readers and the replay switch on them millions of times a second. */
export const EventKind = {
  /** iommu:map. iova, nrBytes, paddr. */
  map: 1,
  /** iommu:unmap. iova, nrBytes = requested size, extra = unmapped size. */
  unmap: 2,
  /** iommu:attach_device_to_domain. device. */
  attach: 3,
  /** iommu:detach_device_from_domain (6.1 and before). device. */
  detach: 4,
  /** iommu:add_device_to_group. device, extra = group id. */
  addDevice: 5,
  /** iommu:remove_device_from_group. device, extra = group id. */
  removeDevice: 6,
  /** iommu:io_page_fault. device, iova, extra = flags. */
  fault: 7,
  /** dma:dma_map_page, dma_map_phys, dma_map_resource. device, iova, nrBytes, paddr. */
  dmaMap: 8,
  /** dma:dma_unmap_page, dma_unmap_phys, dma_unmap_resource. device, iova, nrBytes. */
  dmaUnmap: 9,
  /** dma:dma_alloc, dma_alloc_pages. device, iova, nrBytes. */
  dmaAlloc: 10,
  /** dma:dma_free, dma_free_pages. device, iova, nrBytes. */
  dmaFree: 11,
  /** dma:dma_map_sg, dma_alloc_sgt. device, list = the DMA segments, extra = nents. */
  dmaMapSg: 12,
  /** dma:dma_unmap_sg, dma_free_sgt. device; prints no dma address, list = physical addresses with size 0. */
  dmaUnmapSg: 13,
  /** dma:dma_map_sg_err. device. */
  dmaMapSgError: 14,
  /** dma:dma_sync_*. device. */
  dmaSync: 15,
  /** A trace_marker line. text. */
  mark: 16,
  /** intel_iommu:qi_submit. words = the descriptor as 8 int32, text = type name, extra = 0 for dmar0 and so on, -1 unknown. An answer, never read by a prediction. */
  qiSubmit: 17,
  /** intel_iommu:cache_tag_*. text = the event's name, extra = the domain id. Likewise. */
  cacheTag: 18,
  /** A record of lost events (`CPU:n [LOST m EVENTS]`). extra = how many; -1 when the trace does not say. */
  lost: 19,
  /** A well-formed line of an event this version has no use for. text = its name. */
  other: 20,
} as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** Contexts an event was recorded in, from the flags column: what may interrupt what. */
export const IrqContext = { task: 0, softirq: 1, hardirq: 2, nmi: 3 } as const;

/** One event. Fields that a kind does not use keep stale contents. */
export class TraceEvent {
  kind: EventKind = EventKind.other;
  /** Line number in a text trace, record number in a binary one, from 1. */
  line: number = 0;
  /** Time in nanoseconds on the trace's own clock; integer, exact below 2^53. A lost record in a text has that of the line before. */
  timeNs: number = 0;
  pid: number = 0;
  cpu: number = 0;
  /** One of IrqContext. */
  irqContext: number = 0;
  iova: number = 0;
  nrBytes: number = 0;
  paddr: number = 0;
  extra: number = 0;
  /** Device as an index into the reader's `Names` table, -1 when the event names none. */
  device: number = -1;
  /** Pairs (address, bytes) of an sg event; the first `listLength` pairs count. */
  list: Float64Array = new Float64Array(512);
  listLength: number = 0;
  /** True when the kernel cut this list. Its " [TRUNCATED]" alone may mean the list of physical addresses, which is not kept. */
  listTruncated: boolean = false;
  /** Descriptor words of qiSubmit; words of a command. */
  words: Int32Array = new Int32Array(8);
  /** Short free text: a mark's text, an event's name. */
  text: string = '';

  /** Makes `list` twice as long. */
  growList(): void {
    const longer = new Float64Array(this.list.length * 2);
    longer.set(this.list);
    this.list = longer;
  }
}

/** Strings by small number, so that an event record holds no string: device names here. */
export class Names {
  readonly #byName = new Map<string, number>();
  readonly #names: string[] = [];

  /** The number of a name, given on first sight. */
  intern(name: string): number {
    const found = this.#byName.get(name);
    if (found !== undefined) return found;
    const id = this.#names.length;
    this.#byName.set(name, id);
    this.#names.push(name);
    return id;
  }

  /** The name of a number. @throws RangeError for a number never given */
  nameOf(id: number): string {
    const name = this.#names[id];
    if (name === undefined) throw new RangeError(`no name with number ${id}`);
    return name;
  }

  get count(): number {
    return this.#names.length;
  }
}

/** What a reader tells its user. `event` is reused by the reader: copy what must survive the call. */
export interface TraceSink {
  /**
   * Kinds that `event` is called with; all when left out. Asked once, when the reader is made. Events of other kinds are counted
   * in `byKind` by their name. The text reader does not look at the rest of their lines, so that it skips none of them as
   * malformed and counts a mapping that failed as a mapping.
   */
  readonly wants?: readonly EventKind[];
  event(event: TraceEvent): void;
  /**
   * A command that a probe on the AMD driver saw (amd-payload.ts): an event of kind `other`, its words in the first four of
   * `event.words`. Called before `event`, wanted or not. Without this callback such events are not looked at.
   */
  amdCommand?(event: TraceEvent): void;
  /** A line or record that is malformed; counted by the reader too. `what` says what was expected. */
  skipped(line: number, what: string, excerpt: string): void;
}

/** More kinds than there are. */
export const NR_KINDS = 32;

/** By EventKind: 1 when `sink` wants it. */
export function wantedKinds(sink: TraceSink): Uint8Array {
  const wanted = new Uint8Array(NR_KINDS).fill(sink.wants === undefined ? 1 : 0);
  for (const kind of sink.wants ?? []) wanted[kind] = 1;
  return wanted;
}
