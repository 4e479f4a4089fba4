/** Who flushes what, and when: the policies that all drivers share (DESIGN.md, "Flush policies"). */
export type { MapFlush, UnmapFlush } from './intel/preset.ts';
export { MAP_FLUSHES, UNMAP_FLUSHES } from './intel/preset.ts';
