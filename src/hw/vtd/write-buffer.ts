/**
 * The chipset write buffer of units with CAP.RWBF = 1 (VT-d rev. 4.1 section 6.8): stores to tables stay invisible to the
 * walker until software flushes the buffer (GCMD.WBF) or asks for any invalidation, which implies the flush.
 *
 * Modelled with memory's two views: on PhysMem({ coherent: false }) a CPU store reaches the device's view only by a flush,
 * and this one pushes everything. The real buffer may drain at any time; this one drains as late as allowed, which is
 * when a forgotten flush shows. Consequence: on such a unit clflush and write-buffer flush are not told apart.
 */
import type { PhysMem } from '../../mem/index.ts';

export function drainWriteBuffer(mem: PhysMem): void {
  if (!mem.coherent) mem.deviceWords.set(mem.words);
}
