/** The ring in memory through which software asks for invalidations: VT-d rev. 4.1 11.4.11 to 11.4.13, AMD 48882 2.4 and 3.4. */
import type { AmdviUnit } from '../hw/index.ts';
import { VtdUnit } from '../hw/index.ts';
import type { PhysMem } from '../mem/index.ts';
import { amdvi, vtd } from '../spec/index.ts';
import { amdCommandView, vtdDescriptor } from './commands.ts';
import type { QueuedView, QueueView } from './view.ts';

/** As many of the last entries are shown. */
const SHOWN = 16;
const ENTRY_BYTES = 16;
const ENTRIES_PER_PAGE = 256;

interface Ring {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  readonly head: number;
  readonly tail: number;
}

export function queueView(unit: VtdUnit | AmdviUnit, mem: PhysMem): QueueView | null {
  const ring = unit instanceof VtdUnit ? vtdRing(unit) : amdRing(unit);
  if (ring === null) return null;
  const { base, size, head, tail } = ring;
  const decode = unit instanceof VtdUnit ? vtdDescriptor : amdCommandView;
  const nrWaiting = (tail - head + size) % size;
  const entries: QueuedView[] = [];
  for (let back = Math.min(Math.max(SHOWN, nrWaiting), size - 1); back >= 1; back--) {
    const index = (tail - back + size) % size;
    const at = base + index * ENTRY_BYTES;
    const words = [0, 4, 8, 12].map((offset) => mem.load32(at + offset));
    // Never written.
    if (words.every((word) => word === 0)) continue;
    entries.push({ ...decode(words), index, state: back <= nrWaiting ? 'waiting' : 'done' });
  }
  return { ...ring, entries };
}

function vtdRing(unit: VtdUnit): Ring | null {
  if ((unit.read32(vtd.GSTS_REG) & vtd.GCMD_QIE) === 0) return null;
  const lo = unit.read32(vtd.IQA_REG);
  return {
    name: 'invalidation queue',
    base: (unit.read32(vtd.IQA_REG + 4) & 0xfffff) * 4294967296 + ((lo & -4096) >>> 0),
    size: ENTRIES_PER_PAGE << (lo & vtd.IQA_QS_MASK),
    head: unit.read32(vtd.IQH_REG) >>> vtd.IQ_INDEX_SHIFT,
    tail: unit.read32(vtd.IQT_REG) >>> vtd.IQ_INDEX_SHIFT,
  };
}

function amdRing(unit: AmdviUnit): Ring | null {
  if ((unit.read32(amdvi.CONTROL_REG) & amdvi.CONTROL_CMD_BUF_EN) === 0) return null;
  const hi = unit.read32(amdvi.CMD_BASE_REG + 4);
  const lo = unit.read32(amdvi.CMD_BASE_REG);
  return {
    name: 'command buffer',
    base: (hi & amdvi.ADDR_MASK_HI) * 4294967296 + ((lo & -4096) >>> 0),
    size: 1 << ((hi >>> amdvi.RING_LEN_SHIFT_HI) & amdvi.RING_LEN_MASK),
    head: (unit.read32(amdvi.CMD_HEAD_REG) & amdvi.RING_POINTER_MASK) / amdvi.RING_ENTRY_BYTES,
    tail: (unit.read32(amdvi.CMD_TAIL_REG) & amdvi.RING_POINTER_MASK) / amdvi.RING_ENTRY_BYTES,
  };
}
