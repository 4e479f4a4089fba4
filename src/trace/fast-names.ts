/**
 * The event behind a header found by comparing the whole name, eight bytes at a time. For the names of one trace that lie
 * between other text this takes 3 ns; finding the colon first would take one per character.
 */
import { EventKind } from './events.ts';
import { INDEX_MASK as IMPORTED_MASK, text4, text8 } from './words.ts';

const INDEX_MASK = IMPORTED_MASK;

const DMA = text4('dma:');
const IOMMU = text4('iomm');
const IOMMU_2 = text4('mmu:');
const INTEL = text8('intel_io');
/** Bytes of a system's name with its colon; no two of those read here are as long. */
const DMA_LENGTH = 4;
export const IOMMU_LENGTH = 6;
const INTEL_LENGTH = 12;

/** Texts behind a name that are read here. */
export const TextShape = { map: 0, range: 1, device: 2, mapSg: 3, unmapSg: 4, descriptor: 5, cacheTag: 6 } as const;
export type TextShape = (typeof TextShape)[keyof typeof TextShape];

interface FastName {
  readonly name: string;
  readonly kind: EventKind;
  readonly shape: TextShape;
}

function all(kind: EventKind, shape: TextShape, names: string): FastName[] {
  return names.split(' ').map((name) => ({ name, kind, shape }));
}

/** Names of 8 to 28 characters, the frequent ones first. Others are found by the exact path. */
const NAMES: readonly FastName[] = [
  ...all(EventKind.dmaMap, TextShape.map, 'dma_map_page dma_map_phys dma_map_resource'),
  ...all(EventKind.dmaUnmap, TextShape.range, 'dma_unmap_page dma_unmap_phys dma_unmap_resource'),
  ...all(EventKind.dmaAlloc, TextShape.range, 'dma_alloc dma_alloc_pages'),
  ...all(EventKind.dmaFree, TextShape.range, 'dma_free dma_free_pages'),
  ...all(EventKind.dmaMapSg, TextShape.mapSg, 'dma_map_sg'),
  ...all(EventKind.dmaUnmapSg, TextShape.unmapSg, 'dma_unmap_sg'),
  ...all(EventKind.dmaSync, TextShape.device, 'dma_sync_single_for_cpu dma_sync_single_for_device'),
  ...all(EventKind.dmaSync, TextShape.device, 'dma_sync_sg_for_cpu dma_sync_sg_for_device'),
  ...all(EventKind.qiSubmit, TextShape.descriptor, 'qi_submit'),
  ...all(EventKind.cacheTag, TextShape.cacheTag, 'cache_tag_flush_range cache_tag_flush_range_np cache_tag_flush_all'),
  ...all(EventKind.cacheTag, TextShape.cacheTag, 'cache_tag_assign cache_tag_unassign'),
];

/** Candidates by a hash of the fifth to eighth character, which tell `_map` from `_unm` and so on: first and end in ORDER. */
const SLOTS = 64;
const FIRST = new Uint8Array(SLOTS);
const END = new Uint8Array(SLOTS);

function slotOf(word: number): number {
  return Math.imul(word, 0x9e3779b1) >>> 26;
}

const ORDER: readonly FastName[] = (() => {
  const slot = ({ name }: FastName): number => slotOf(text4(name, 4));
  const order = NAMES.toSorted((a, b) => slot(a) - slot(b));
  for (const [i, name] of order.entries()) {
    if (END[slot(name)] === 0) FIRST[slot(name)] = i;
    END[slot(name)] = i + 1;
  }
  return order;
})();

/** Length of `name: `. Its first 8 bytes, the next, the last 16 and the last 8 are compared, which are all. */
const LENGTHS = Uint8Array.from(ORDER, ({ name }) => name.length + 2);
const HEADS = Float64Array.from(ORDER, ({ name }) => text8(name));
const SECONDS = Float64Array.from(ORDER, ({ name }) => (name.length > 14 ? text8(`${name}: `, 8) : 0));
const NEXT_TO_LAST = Float64Array.from(ORDER, ({ name }) =>
  name.length > 14 ? text8(`${name}: `, name.length - 14) : 0,
);
const TAILS = Float64Array.from(ORDER, ({ name }) => text8(`${name}: `, name.length - 6));
/** Bytes of `dma:` or `intel_iommu:`, which perf prints before the name. */
const SYSTEM_LENGTHS = Uint8Array.from(ORDER, ({ name }) => (name.startsWith('dma_') ? DMA_LENGTH : INTEL_LENGTH));
const KINDS: readonly EventKind[] = ORDER.map(({ kind }) => kind);
const SHAPES = Uint8Array.from(ORDER, ({ shape }) => shape);

/** The number of the event whose name stands at `at`, -1 when it is none of those. Looks at 30 bytes. */
export function fastName(d: DataView, at: number): number {
  const start = at & INDEX_MASK;
  const slot = slotOf(d.getInt32(start + 4, true));
  const end = END[slot];
  for (let i = FIRST[slot]; i < end; i++) {
    const length = LENGTHS[i];
    if (d.getFloat64(start + length - 8, true) !== TAILS[i] || d.getFloat64(start, true) !== HEADS[i]) continue;
    if (length <= 16) return i;
    if (d.getFloat64(start + 8, true) === SECONDS[i] && d.getFloat64(start + length - 16, true) === NEXT_TO_LAST[i])
      return i;
  }
  return -1;
}

/** Bytes of the name, its colon and a blank. */
export function fastNameLength(number: number): number {
  return LENGTHS[number];
}

export function fastKind(number: number): EventKind {
  return KINDS[number];
}

export function fastShape(number: number): number {
  return SHAPES[number];
}

export function fastText(number: number): string {
  return ORDER[number].name;
}

/** Length of the `system:` that stands at `at`, 0 for none of those read here. */
export function fastSystemLength(d: DataView, at: number): number {
  const start = at & INDEX_MASK;
  const head = d.getInt32(start, true);
  if (head === DMA) return DMA_LENGTH;
  if (head === IOMMU) return d.getInt32(start + 2, true) === IOMMU_2 ? IOMMU_LENGTH : 0;
  return d.getFloat64(start, true) === INTEL && d.getInt32(start + 8, true) === IOMMU_2 ? INTEL_LENGTH : 0;
}

/** Length of the `system:` that an event belongs to. */
export function systemLength(number: number): number {
  return SYSTEM_LENGTHS[number];
}
