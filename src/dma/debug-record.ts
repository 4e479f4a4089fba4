/** What the DMA API checker reports: one record per finding, with everything its line says. */
import { hex } from '../base/index.ts';

export type DmaDebugKind =
  /** An unmap, free or sync of an address at which nothing is mapped. */
  | 'not-mapped'
  /** Another size than mapped, or a sync beyond the mapping. */
  | 'wrong-size'
  | 'wrong-direction'
  /** Mapped by one call and unmapped by another's counterpart: a page as a list, a buffer of `alloc` as a page. */
  | 'wrong-function'
  /** A list, with another number of elements than it was mapped with. */
  | 'wrong-nents'
  /** Two mappings that a device writes share a cache line. */
  | 'double-map'
  /** The device goes, its mapping stays. */
  | 'leak'
  /** The CPU touches a buffer while it is the device's. */
  | 'cpu-access'
  /** The device touches what is not mapped for it (any more), or writes what it may only read. */
  | 'device-access'
  /** An element longer than the device's segments may be, or a segment across its boundary. */
  | 'segment';

export interface DmaDebugRecord {
  readonly kind: DmaDebugKind;
  readonly device: string;
  /** DMA address; physical for `double-map` and `cpu-access`. */
  readonly address: number;
  /** Call site that did the wrong thing. For a leak: that removed the device. */
  readonly at: string;
  /** Call site of the mapping that it meets; null when nothing was ever mapped there. */
  readonly mappedAt: string | null;
  /** Call site that unmapped it before, where that is the point. */
  readonly unmappedAt: string | null;
  readonly text: string;
}

/** Parts of a record's line. */
export interface DmaDebugFinding {
  readonly kind: DmaDebugKind;
  readonly device: string;
  readonly address: number;
  readonly at: string;
  /** What was done, after "AT: ". */
  readonly did: string;
  readonly mappedAt?: string | null;
  /** How it was mapped. */
  readonly mappedAs?: string;
  readonly unmappedAt?: string | null;
}

/** `wrong-size: 0000:00:04.0 0xfffff000: rx_clean unmaps 2048 bytes; mapped at rx_refill as page, 4096 bytes, fromDevice` */
export function debugRecord(finding: DmaDebugFinding): DmaDebugRecord {
  const { kind, device, address, at, did, mappedAt = null, mappedAs = '', unmappedAt = null } = finding;
  let text = `${kind}: ${device} ${hex(address)}: ${at} ${did}`;
  if (mappedAt !== null) text += `; mapped at ${mappedAt}${mappedAs === '' ? '' : ` as ${mappedAs}`}`;
  if (unmappedAt !== null) text += `; unmapped at ${unmappedAt}`;
  return { kind, device, address, at, mappedAt, unmappedAt, text };
}
