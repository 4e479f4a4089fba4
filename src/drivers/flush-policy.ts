/** Who flushes what, and when: the policies that all drivers share. DESIGN.md, "Flush policies and presets". */

/** Who flushes cached not-present entries after a map. */
export type MapFlush = 'none' | 'caller' | 'map' | 'sync-map';
/** Whether an unmap waits for its invalidation or leaves it to a flush queue. */
export type UnmapFlush = 'strict' | 'lazy';

export const MAP_FLUSHES: readonly MapFlush[] = ['none', 'caller', 'map', 'sync-map'];
export const UNMAP_FLUSHES: readonly UnmapFlush[] = ['strict', 'lazy'];
